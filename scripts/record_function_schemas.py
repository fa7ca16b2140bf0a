"""Records what transformers makes of some functions, for `tests/test_functions.py`.

Needs an environment of its own:

    python -m venv .cache/transformers && .cache/transformers/bin/pip install transformers==5.23.0 jinja2
    .cache/transformers/bin/python scripts/record_function_schemas.py
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import sys
from pathlib import Path

DATA = Path(__file__).parent.parent / "tests" / "data"
SAMPLES = DATA / "function_samples.py"
RECORD = DATA / "function_schemas.json"


def main() -> int:
    from transformers.utils import get_json_schema

    spec = importlib.util.spec_from_file_location("function_samples", SAMPLES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    functions = [each for each in vars(module).values() if inspect.isfunction(each)]
    lines = [json.dumps(get_json_schema(each), ensure_ascii=False) for each in functions]
    RECORD.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
