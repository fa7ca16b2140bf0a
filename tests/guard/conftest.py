"""What the tests of the guards share: files beside them, and the `scripted_upstream` of the providers."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parent.parent / "providers"))
