"""Public names that are loaded when they are first used."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

PARTS = ["core", "memory", "compression", "gateway"]


@pytest.mark.parametrize("part", PARTS)
def test_a_name_that_a_component_does_not_have_is_refused_with_both_names(part: str) -> None:
    module = import_module(f"adaptive_llm_gateway.{part}")
    with pytest.raises(AttributeError, match=f"module 'adaptive_llm_gateway.{part}' has no attribute 'nothing'"):
        _ = module.nothing


def test_a_component_loads_a_module_of_its_own_when_the_first_of_its_names_is_used_and_asks_once() -> None:
    code = """
import sys
import adaptive_llm_gateway.core as core
assert "adaptive_llm_gateway.core._ids" not in sys.modules
assert "new_ulid" not in vars(core)
made = core.new_ulid
assert "adaptive_llm_gateway.core._ids" in sys.modules
assert "adaptive_llm_gateway.core._settings" not in sys.modules
assert vars(core)["new_ulid"] is made
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
