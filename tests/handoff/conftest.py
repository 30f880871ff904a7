"""Makes what the tests of handoffs share importable."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def beside(name: str) -> None:
    """Tests are imported by path, without their folder on `sys.path`."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


beside("handoff_made")
