"""The rules of the house, as far as a program can check them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hodios import errors
from hodios.api.routes import ROUTES
from hodios.settings import SETTINGS

REPOSITORY = Path(__file__).parent.parent
PACKAGE = REPOSITORY / "hodios"
MODULES = sorted(PACKAGE.rglob("*.py"))
CODE = sorted(path for folder in ("hodios", "benchmarks", "scripts") for path in (REPOSITORY / folder).rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
BANNED = {"utils", "util", "helpers", "helper", "manager", "common", "misc", "base_utils"}
CATCHES_ALL = {
    "hodios/accounts/background.py",
    "hodios/api/door.py",
    "hodios/engine/worker.py",
    "hodios/functions.py",
    "hodios/router/history_file.py",
}
HEAVY = {
    "aiohttp", "alembic", "asyncpg", "gguf", "jinja2", "llguidance", "numpy", "openvino", "redis", "sqlalchemy",
    "starlette", "tokenizers", "uvicorn",
}  # fmt: skip
ELSEWHERE = {
    "jsonschema", "mako", "pygments", "rich", "scipy", "sqlalchemy.dialects.postgresql", "sqlalchemy.orm", "typer",
}  # fmt: skip
"""Not too heavy for commands, and for nobody to whom they are of no use."""


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_files_and_functions_fit_on_a_screen(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= LONGEST_FILE
    lengths = {node.name: (node.end_lineno or 0) - node.lineno + 1 for node in functions(path)}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_named_and_introduced(path: Path) -> None:
    assert path.stem not in BANNED
    if path.name == "__init__.py":
        assert path == PACKAGE / "__init__.py" or not path.read_text(), "packages do nothing when imported"
    else:
        assert ast.get_docstring(tree_of(path)), "a module says what it owns and what it refuses"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_five_modules_catch_everything(path: Path) -> None:
    caught = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or {"Exception", "BaseException"} & set(re.findall(r"\w+", ast.unparse(node.type))))
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
    ]
    assert not caught or name_of(path) in CATCHES_ALL


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_the_environment_is_read_in_one_place(path: Path) -> None:
    if path == PACKAGE / "config.py":
        return
    forbidden = {"environ", "environb", "getenv", "getenvb", "putenv", "load_dotenv"}
    used = {node.attr for node in ast.walk(tree_of(path)) if isinstance(node, ast.Attribute)}
    imported = {
        alias.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ImportFrom) and node.module == "os"
        for alias in node.names
    }
    assert not forbidden & (used | imported)


def modules_loaded_by(statement: str) -> set[str]:
    program = f"import sys, json; {statement}; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True).stdout
    return set(json.loads(output))


def loaded_by(statement: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_loaded_by(statement)}


def test_importing_the_package_loads_nothing_else() -> None:
    assert loaded_by("import hodios") - loaded_by("pass") == {"hodios"}


@pytest.mark.parametrize("module", ["cli.main", "config", "errors", "types", "events", "engine.messages"])
def test_light_modules_load_nothing_heavy(module: str) -> None:
    assert not loaded_by(f"import hodios.{module}") & HEAVY


@pytest.mark.parametrize(
    ("module", "spared"),
    [
        ("api.__main__", HEAVY - {"jinja2", "sqlalchemy", "starlette", "uvicorn"} | ELSEWHERE),
        ("cli.parent", HEAVY | ELSEWHERE | {"click", "hodios.store.database", "prometheus_client", "uvloop"}),
    ],
)
def test_processes_that_stay_load_nothing_that_others_need(module: str, spared: set[str]) -> None:
    """Of a gateway without models of its own: whatever they load takes memory for as long as the server runs."""
    assert not modules_loaded_by(f"import hodios.{module}") & spared


def documentation(*names: str) -> str:
    return "\n".join((REPOSITORY / "docs" / name).read_text(encoding="utf-8") for name in names)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: object) -> None:
    text = documentation("configuration.md")
    assert f"`{setting.key}`" in text  # type: ignore[attr-defined]
    assert f"`{setting.variable}`" in text  # type: ignore[attr-defined]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_route_is_documented(route: object) -> None:
    assert f"`{route.method} {route.path}`" in documentation("api.md")  # type: ignore[attr-defined]


def test_every_error_code_is_documented() -> None:
    codes = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "status")}
    text = documentation("api.md")
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_the_architecture_lists_every_module() -> None:
    text = documentation("architecture.md")
    modules = [path.relative_to(PACKAGE).as_posix() for path in MODULES if path.name != "__init__.py"]
    assert [name for name in modules if f"`{name}`" not in text] == []
    listed = re.findall(r"^\| `([\w/]+\.py)` \|", text, flags=re.MULTILINE)
    assert sorted(listed) == sorted(modules), "a module that is gone is still listed"


def test_what_docs_point_at_exists() -> None:
    for path in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{name_of(path)} points at {target}"


def _tests_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_threat_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (?!threat|---)(.*) \|$", documentation("security.md"), flags=re.MULTILINE)
    assert len(rows) > 30
    for row in rows:
        threat, _, tests = (cell.strip() for cell in row.rsplit(" | ", 2))
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", tests)
        assert named, f"no test for: {threat}"
        assert tests == ", ".join(f"`{file}::{test}`" for file, test in named), threat
    for file, test in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", documentation("security.md")):
        assert test in _tests_in(REPOSITORY / file), f"docs/security.md names {file}::{test}"


def test_keys_are_compared_in_constant_time() -> None:
    """Secrets and digests are looked up, or compared by hmac.compare_digest, and never by `==`."""
    secret = re.compile(r"(^|_)(key_text|secret|digest|token|password)$")
    judges = ("auth", "session", "login", "keyring", "registry", "admin_key", "secret_file")
    paths = [path for path in MODULES if path.stem.startswith(judges)]
    assert len(paths) >= len(judges)
    for path in paths:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
                names = [ast.unparse(side).split(".")[-1] for side in (node.left, *node.comparators)]
                assert not any(secret.search(name) for name in names), f"{name_of(path)}: {ast.unparse(node)}"


def test_what_clients_send_is_fetched_nowhere() -> None:
    """No module that reads requests can open a connection by itself."""
    for path in sorted((PACKAGE / "api").glob("*.py")):
        imported = {
            name.partition(".")[0] if not name.startswith("urllib") else name
            for node in ast.walk(tree_of(path))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & {"aiohttp", "http", "requests", "urllib.request", "urllib3", "ftplib"}, name_of(path)


def test_make_targets_of_the_documents_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    for path in [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")]:
        named = set(re.findall(r"`make ([a-z-]+)`", path.read_text(encoding="utf-8")))
        assert named <= targets, f"{name_of(path)} names {named - targets}"


def test_no_module_level_state_that_changes() -> None:
    """`global` is how such state is written to."""
    offenders = [name_of(p) for p in MODULES for node in ast.walk(tree_of(p)) if isinstance(node, ast.Global)]
    assert offenders == []
