"""The fields of keys and projects as options: `--requests-per-minute 60`, `--budget-daily 5`, `--unset budget.daily`.

Made from the tables that the HTTP API reads, so that both accept and refuse the same.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, NamedTuple

import typer

from hodios.api.account_fields import BUDGET, LABELS, PERIOD_NAMES, Field
from hodios.api.guard_fields import BARS
from hodios.errors import SetupError

_UNSET = "unset"


class _Option(NamedTuple):
    name: str
    """With underscores."""
    kind: Any
    declared: dict[str, Any]
    flags: tuple[str, ...] = ()


def with_fields(
    fields: Mapping[str, Field], *, is_change: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a command an option for each field, and to those that change something `--unset`. The command gets what
    was set as `values`, in the form of a request's body."""
    options = [*_options(fields), *([_unset(fields)] if is_change else [])]

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**given: Any) -> None:
            set_here = {option.name: given.pop(option.name) for option in options}
            _check_texts(set_here)
            function(values=_values(fields, set_here), **given)

        own = inspect.signature(function, eval_str=True).parameters.values()
        kept = [parameter for parameter in own if parameter.name != "values"]
        # Where typer looks for the options.
        command.__signature__ = inspect.Signature([*kept, *map(_parameter, options)])  # type: ignore[attr-defined]
        return command

    return decorate


def _options(fields: Mapping[str, Field]) -> Iterator[_Option]:
    for field in fields.values():
        kind = field.kind.schema.get("type")
        if field.kind is BUDGET:
            for period in PERIOD_NAMES:
                meaning = "What may be spent at most, ever." if period == "total" else f"The {period} budget."
                yield _Option(f"{field.name}_{period}", str | None, {"help": meaning, "metavar": "DOLLARS"})
        elif field.kind is LABELS:
            yield _Option(field.name, list[str] | None, {"help": "A label; repeat it.", "metavar": "NAME=VALUE"})
        elif field.kind is BARS:
            told = {"help": f"{field.meaning} Repeat it.", "metavar": "CATEGORY=SCORE"}
            yield _Option(field.name, list[str] | None, told)
        elif kind == "array":
            told = {"help": f"{field.meaning} Repeat it.", "metavar": field.name.removesuffix("s").upper()}
            yield _Option(field.name, list[str] | None, told)
        elif kind == "boolean":
            flag = field.name.replace("_", "-")
            yield _Option(field.name, bool | None, {"help": field.meaning}, (f"--{flag}/--no-{flag}",))
        elif kind == "integer":
            yield _Option(field.name, int | None, {"help": field.meaning})
        else:
            yield _Option(field.name, str | None, {"help": field.meaning})


def _unset(fields: Mapping[str, Field]) -> _Option:
    names = ", ".join(_unset_names(fields))
    return _Option(
        _UNSET, list[str] | None, {"help": f"Back to the default; repeat it. One of {names}.", "metavar": "FIELD"}
    )


def _unset_names(fields: Mapping[str, Field]) -> list[str]:
    return [*fields, *(f"budget.{period}" for period in PERIOD_NAMES)]


def _parameter(option: _Option) -> inspect.Parameter:
    declared = typer.Option(*option.flags, show_default=False, **option.declared)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[option.kind, declared],
    )


def _values(fields: Mapping[str, Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request that says the same. Raises SetupError."""
    values: dict[str, Any] = {
        name: _labels(name, given[name]) if field.kind in (LABELS, BARS) else given[name]
        for name, field in fields.items()
        if given.get(name) is not None
    }
    budget = {period: given[f"budget_{period}"] for period in PERIOD_NAMES if given[f"budget_{period}"] is not None}
    for name in given.get(_UNSET) or ():
        whole, _, period = name.partition(".")
        if name in values or period in budget or (name == "budget" and budget):
            raise SetupError(f"--unset {name}: it is set as well. Leave one of them out.")
        if period and whole == "budget":
            budget[period] = None
        else:
            values[name] = None
    return {**values, "budget": budget} if budget else values


def _check_texts(given: Mapping[str, Any]) -> None:
    """What a shell hands over may be no UTF-8, and could not even be shown."""
    for name, value in given.items():
        try:
            "".join(value if isinstance(value, list) else [str(value)]).encode()
        except UnicodeEncodeError:
            raise SetupError(f"--{name.replace('_', '-')}: is not UTF-8.") from None


def _labels(field: str, texts: list[str]) -> dict[str, str]:
    labels = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator:
            raise SetupError(f"--{field.replace('_', '-')} {text!r} is not accepted: NAME=VALUE.")
        labels[name] = value
    return labels
