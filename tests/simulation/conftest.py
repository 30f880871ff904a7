"""Makes what the simulation is made of importable: tests are imported by path, without their folder on `sys.path`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
