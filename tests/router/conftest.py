"""Seats, tracks and requests for the router's tests, and the fake providers and virtual time of the tests of faults."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "faults"))
sys.path.append(str(Path(__file__).parent.parent / "providers"))
