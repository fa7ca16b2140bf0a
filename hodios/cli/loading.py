"""People's own Python files and modules, loaded by the names that they are given on the command line.

Whatever is wrong with them is told in a sentence, as a SetupError.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from hodios.errors import SetupError
from hodios.functions import foreign_code


def load_file(path: Path) -> ModuleType:
    """The module in a Python file, whatever its name ends in; what lies beside it can be imported from it."""
    if not path.is_file():
        raise SetupError(f"{path} is not a file.")
    # A name of its own, so that a file called json.py does not take the place of Python's.
    name = f"_loaded_{len(sys.modules)}_{path.stem}"
    loader = SourceFileLoader(name, str(path.resolve()))
    spec = importlib.util.spec_from_loader(name, loader, origin=str(path))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    _search(path.resolve().parent)
    # Dataclasses and pydantic look their modules up there.
    sys.modules[name] = module
    with foreign_code(f"{path} cannot be loaded"):
        loader.exec_module(module)
    return module


def load_object(name: str) -> Any:
    """What `module:name` or `path/to/file.py:name` names; the name may have dots."""
    source, _, attribute = name.rpartition(":")
    if not source or not attribute:
        raise SetupError(f"{name!r} is not understood; write module:Name, path/to/file.py:Name or a .json file.")
    found: Any = load_file(Path(source)) if source.endswith(".py") else _load_module(source)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise SetupError(f"{source} has no {attribute!r}.")
        found = getattr(found, part)
    return found


def _load_module(name: str) -> ModuleType:
    _search(Path.cwd())
    with foreign_code(f"The module {name} cannot be loaded"):
        return importlib.import_module(name)


def _search(folder: Path) -> None:
    """Last, so that nothing there takes the place of what is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
