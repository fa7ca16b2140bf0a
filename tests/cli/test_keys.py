"""`hodios keys` and `hodios projects` as they are typed, and a server in whose store they work."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_server import Said

from hodios.accounts.office import Office, opened
from hodios.api.account_fields import KEY_FIELDS, PERIOD_NAMES, PROJECT_FIELDS
from hodios.cli.account_options import _options
from hodios.errors import AuthenticationError
from hodios.providers.echo import MODEL_ID

Cli = Callable[..., tuple[int, str, str]]
TEXT = re.compile(r"sk-hodios-[0-9a-f]{56}")


@pytest.fixture
def cli(hodios_home: Path, command: Callable[..., Said]) -> Cli:
    """`cli("keys", "list")`: (exit code, stdout, stderr)."""

    def run(*words: str) -> tuple[int, str, str]:
        said = command(*words)
        return said.code, said.out.strip(), said.err

    return run


def told(cli: Cli, *words: str) -> Any:
    code, out, err = cli(*words, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_key_is_shown_once_with_a_line_to_paste(cli: Cli) -> None:
    code, out, _ = cli("keys", "create", "--name", "ann", "--models", MODEL_ID)
    assert code == 0
    (text,) = set(TEXT.findall(out))
    assert f"-H 'Authorization: Bearer {text}'" in out
    assert f'"model": "{MODEL_ID}"' in out
    (key,) = told(cli, "keys", "list")
    assert text.startswith(key["prefix"])
    for words in (("list",), ("show", key["id"]), ("edit", key["id"], "--owner", "x"), ("list", "--json")):
        _, out, _ = cli("keys", *words)
        assert "ann" in out
        assert text not in out


def test_without_a_model_the_line_lists_those_there_are(cli: Cli) -> None:
    _, out, _ = cli("keys", "create")
    assert "curl http://127.0.0.1:8000/v1/models -H 'Authorization: Bearer sk-hodios-" in out


def test_every_field_can_be_set_and_unset(cli: Cli) -> None:
    project = told(cli, "projects", "create", "--name", "team", "--budget-total", "100")["id"]
    words = [
        *("--name", "n", "--owner", "o", "--project", project, "--models", "a", "--models", "b", "--providers", "p"),
        *("--requests-per-minute", "1", "--tokens-per-minute", "2", "--parallel-requests", "3", "--priority", "-4"),
        *("--queue", "--default-max-tokens", "5", "--expires-at", "2099-01-01T00:00:00Z", "--disabled"),
        *("--metadata", "a=b=c", "--metadata", "d=", "--content-filter", "details", "--store-content"),
        *("--on-store-error", "open", "--tools", "get_*", "--force"),
        *("--guard-prompt", "block", "--guard-answer", "off", "--guard-when-down", "closed"),
        *("--guard-flag-at", "hate=0.4", "--guard-block-at", "hate=0.9", "--guard-block-at", "profanity=never"),
        *(word for number, period in enumerate(PERIOD_NAMES) for word in (f"--budget-{period}", f"0.{number + 1}")),
    ]
    key = told(cli, "keys", "create", *words)
    assert key["budget"] == {"total": "0.1", "daily": "0.2", "weekly": "0.3", "monthly": "0.4"}
    assert key["metadata"] == {"a": "b=c", "d": ""}
    assert (key["models"], key["providers"], key["project"]) == (["a", "b"], ["p"], project)
    assert key["guard_block_at"] == {"hate": 0.9, "profanity": "never"}
    assert [key[name] for name in ("queue", "disabled", "store_content", "priority")] == [True, True, True, -4]
    unset = [word for name in KEY_FIELDS for word in ("--unset", name)]
    plain, after = told(cli, "keys", "create"), told(cli, "keys", "edit", key["id"], *unset)
    assert {name for name in KEY_FIELDS if key[name] == plain[name]} == set()
    assert {name: after[name] for name in KEY_FIELDS} == {name: plain[name] for name in KEY_FIELDS}


def test_aliases_of_models_elsewhere_are_kept_as_ids(cli: Cli, hodios_home: Path) -> None:
    (hodios_home / "hodios.toml").write_text(
        """[remote.farm]
base_url = "http://127.0.0.1:1/v1"
[[remote.farm.models]]
id = "maker/Model-7B"
aliases = ["seven"]
context_length = 4096
"""
    )
    key = told(cli, "keys", "create", "--models", "SEVEN", "--providers", "Farm", "--providers", "local")
    assert (key["models"], key["providers"]) == (["maker/Model-7B"], ["farm", "local"])
    code, _, err = cli("keys", "edit", key["id"], "--models", "maker/Model-7")
    assert code == 2
    assert "models[0]: 'maker/Model-7' is not known here; the closest: maker/Model-7B" in err
    assert told(cli, "keys", "edit", key["id"], "--models", "later", "--force")["models"] == ["later"]
    assert told(cli, "keys", "edit", key["id"], "--models", "later", "--models", "seven")["models"][0] == "later"


def test_an_edit_changes_what_is_named_alone(cli: Cli) -> None:
    id = told(cli, "keys", "create", "--name", "n", "--budget-daily", "1", "--budget-total", "9")["id"]
    key = told(cli, "keys", "edit", id, "--budget-weekly", "2.5", "--unset", "budget.daily", "--no-queue")
    assert key["budget"] == {"total": "9", "daily": None, "weekly": "2.5", "monthly": None}
    assert (key["name"], key["version"]) == ("n", 2)
    _, out, _ = cli("keys", "list")
    assert "$2.5 a week" in out
    assert "$9 ever" in out


def test_projects_live_as_long_as_they_have_keys(cli: Cli) -> None:
    project = told(cli, "projects", "create", "--name", "team", "--requests-per-minute", "7")["id"]
    other, key = told(cli, "keys", "create")["id"], told(cli, "keys", "create", "--project", project)["id"]
    assert [each["id"] for each in told(cli, "keys", "list", "--project", project)] == [key]
    assert told(cli, "projects", "disable", project)["disabled"]
    assert not told(cli, "projects", "enable", project)["disabled"]
    assert told(cli, "projects", "edit", project, "--name", "crew")["name"] == "crew"
    code, _, err = cli("projects", "delete", project)
    assert (code, "still has keys" in err) == (2, True)
    for words in (("keys", "delete", key), ("projects", "delete", project)):
        assert cli(*words)[:2] == (0, f"{words[2]} is deleted.")
    assert [each["id"] for each in told(cli, "keys", "list")] == [other]
    assert told(cli, "projects", "list") == []
    assert "There are no projects" in cli("projects", "list")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("keys", "create", "--budget-daily", "much"), 'budget.daily: "much" is not such an amount'),
        (("keys", "create", "--expires-at", "soon"), 'expires_at: "soon" is not a time'),
        (("keys", "create", "--project", "p"), "project: 'p' is not known"),
        (("keys", "create", "--metadata", "x"), "NAME=VALUE"),
        (("keys", "edit", "k", "--unset", "naem"), "did you mean name?"),
        (("keys", "edit", "k", "--unset", "budget.dayly"), "did you mean budget.daily?"),
        (("keys", "edit", "k", "--unset", "name", "--name", "x"), "--unset name: it is set as well"),
        (("keys", "create", "--on-store-error", "\udcff"), "--on-store-error: is not UTF-8"),
        (("keys", "show", "\udcff"), "there is no key with the id"),
        (("keys", "show", "k"), "there is no key with the id 'k'"),
        (("keys", "rotate", "k"), "there is no key with the id 'k'"),
        (("projects", "enable", "p"), "there is no project with the id 'p'"),
    ],
)
def test_what_is_wrong_is_one_sentence(cli: Cli, words: tuple[str, ...], said: str) -> None:
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert "Traceback" not in err


def test_a_store_that_is_away_is_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HODIOS_STORE_URL", "postgresql://ann:hunter2@127.0.0.1:1/hodios")
    code, _, err = cli("keys", "list")
    assert (code, "postgresql://ann@127.0.0.1:1/hodios cannot be used" in err) == (2, True)
    assert "hunter2" not in err


def test_a_server_at_work_notices(cli: Cli, hodios_home: Path) -> None:
    async def status(office: Office, text: str) -> int:
        # Until a change is noticed, as it is after a while without being asked.
        await office.accounts._keyring.poll()
        return 401 if await _refuses(office, text) else 200

    async def served() -> list[int]:
        async with opened(hodios_home, f"sqlite:///{hodios_home}/hodios.db") as office:
            first = await asyncio.to_thread(told, cli, "keys", "create")
            found = [await status(office, first["key"])]
            await asyncio.to_thread(told, cli, "keys", "disable", first["id"])
            found.append(await status(office, first["key"]))
            await asyncio.to_thread(told, cli, "keys", "enable", first["id"])
            found.append(await status(office, first["key"]))
            second = await asyncio.to_thread(told, cli, "keys", "rotate", first["id"], "--grace-s", "60")
            found += [await status(office, key["key"]) for key in (first, second)]
            await asyncio.to_thread(cli, "keys", "delete", first["id"])
            return [*found, await status(office, second["key"])]

    assert asyncio.run(served()) == [200, 401, 200, 200, 200, 401]


async def _refuses(office: Office, text: str) -> bool:
    try:
        await office.accounts.admit(text)
    except AuthenticationError:
        return True
    return False


def test_every_field_has_an_option() -> None:
    for fields in (KEY_FIELDS, PROJECT_FIELDS):
        names = {option.name for option in _options(fields)}
        assert names == (set(fields) - {"budget"}) | {f"budget_{period}" for period in PERIOD_NAMES}
