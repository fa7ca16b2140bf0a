"""Lets the tests of the providers import `scripted_engine`, which lies beside them."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
