"""Lets the tests of the engine import `gguf_factory` and `reference`, which lie beside them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
