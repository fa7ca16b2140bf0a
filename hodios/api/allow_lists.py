"""What keys may be allowed: models and providers by any name that is known, made into what keys are compared with.

Whoever allows what nobody has heard of is told so, since such a key would be refused everything; unless he says that it
is to be taken as it is, because it comes later.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct

from hodios.api.checks import BOOLEAN
from hodios.errors import InvalidRequest
from hodios.providers.catalog import Catalog
from hodios.store.records import KeyRecord

FORCE = "force"
_NUM_CLOSEST = 3


class Known(Struct, frozen=True):
    """Names in lower case → what they stand for."""

    models: Mapping[str, str]
    providers: Mapping[str, str]


def known(
    models: Iterable[tuple[str, Sequence[str]]], providers: Iterable[str], catalog: Catalog | None = None
) -> Known:
    """`models`: their ids, each with its aliases; those that come first have a name that several claim."""
    listed = [*models]
    names = [*providers]
    if catalog is not None:
        listed += [(row.id, row.names) for row in catalog.models.values()]
        listed += [(offer.model, ()) for offer in catalog.offers]
        names += catalog.providers
    found: dict[str, str] = {}
    for id, _ in listed:
        found.setdefault(id.casefold(), id)
    for id, aliases in listed:
        for alias in aliases:
            found.setdefault(alias.casefold(), id)
    return Known(found, {name.casefold(): name for name in names})


def force_in(values: dict[str, Any]) -> bool:
    """Takes it out of a request's values. Raises InvalidRequest."""
    force = values.pop(FORCE, None)
    return False if force is None else BOOLEAN.parse(FORCE, force)


def resolved(parsed: Mapping[str, Any], names: Known, record: KeyRecord, *, is_forced: bool) -> dict[str, Any]:
    """What `account_fields.parse` has returned, with models and providers as keys have them. What `record` allows
    already is not asked about. Raises InvalidRequest, which names what comes closest."""
    lists = {"models": (names.models, record.models), "providers": (names.providers, record.providers)}
    found = dict(parsed)
    for place, (by_name, kept) in lists.items():
        if found.get(place, UNSET) is not UNSET:
            taken = [_one(place, at, name, by_name, kept or (), is_forced) for at, name in enumerate(found[place])]
            found[place] = tuple(dict.fromkeys(taken))
    return found


def _one(place: str, at: int, name: str, by_name: Mapping[str, str], kept: Sequence[str], is_forced: bool) -> str:
    wanted = name.casefold()
    if name in kept or wanted in by_name:
        return name if name in kept else by_name[wanted]
    if is_forced:
        return name
    matches = difflib.get_close_matches(wanted[:256], by_name, n=2 * _NUM_CLOSEST, cutoff=0.4)
    closest = list(dict.fromkeys(by_name[match] for match in matches))[:_NUM_CLOSEST]
    hint = f"the closest: {', '.join(closest)}" if closest else "nothing is called about so"
    raise InvalidRequest(
        f"{place}[{at}]: {name!r} is not known here; {hint}. With {FORCE} it is taken as it is, as of one to come",
        param=f"{place}[{at}]",
        metadata={"closest": closest},
    )
