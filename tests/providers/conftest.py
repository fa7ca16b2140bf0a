"""Lets the tests of the providers import `scripted_engine`, which lies beside them, and the engine's `gguf_factory`."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "engine"))
