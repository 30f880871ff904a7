"""The error tree: what callers match on stays, and an error survives the way between processes."""

from __future__ import annotations

import ast
import importlib
import json
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from adaptive_llm_gateway.core import POINTS, AlgError, SecretRefused, Trust, VersionConflict, reach


def modules() -> list[ModuleType]:
    """Every module of ours, so that every error class is known."""
    names = ("core", "memory", "compression", "handoff", "gateway", "server")
    packages = [importlib.import_module(f"adaptive_llm_gateway.{name}") for name in names]
    return [
        importlib.import_module(f"{package.__name__}.{found.name}")
        for package in packages
        for found in pkgutil.iter_modules(package.__path__)
        if found.name != "__main__"
    ]


def family(kind: type[AlgError]) -> Iterator[type[AlgError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def test_every_error_survives_pickling_with_all_that_it_says() -> None:
    modules()
    kinds = set(family(AlgError))
    assert len(kinds) > 20
    for kind in kinds:
        error = kind("it's 'broken' at ü", hint="mend it", path="a/b.md", findings=[{"line": 1}])
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
            assert type(again) is kind
            assert str(again) == "it's 'broken' at ü"
            assert again.hint == "mend it"
            assert again.details == {"path": "a/b.md", "findings": [{"line": 1}]}
            assert again.as_dict() == error.as_dict()


def test_every_error_has_a_code_of_its_own_and_an_exit_code() -> None:
    modules()
    kinds = list(family(AlgError))
    codes = {kind: kind.code for kind in kinds}
    assert len(set(codes.values())) == len(codes), codes
    for kind in kinds:
        assert kind.code.isidentifier()
        assert kind.code == kind.code.lower()
        assert 1 <= kind.exit_code <= 125


def test_an_error_as_json_has_everything_and_nothing_else() -> None:
    error = VersionConflict("changed", hint="read again", current_version="a" * 40)
    assert json.loads(json.dumps(error.as_dict())) == {
        "code": "version_conflict",
        "message": "changed",
        "hint": "read again",
        "details": {"current_version": "a" * 40},
    }
    assert SecretRefused("x").as_dict()["hint"] is None


def test_an_error_is_its_message() -> None:
    error = AlgError("what happened", hint="what to do")
    assert str(error) == error.message == "what happened"
    assert error.args == ("what happened",)


@pytest.mark.parametrize(("highest", "level", "allowed"), [("public", "internal", False), ("secret", "public", True)])
def test_trust_allows_its_own_level_and_those_below(highest: str, level: str, allowed: bool) -> None:
    assert Trust(highest).allows(Trust(level)) is allowed
    assert all(level.allows(level) for level in Trust)
    assert [level.rank for level in (Trust.PUBLIC, Trust.INTERNAL, Trust.CONFIDENTIAL, Trust.SECRET)] == [0, 1, 2, 3]


def test_every_fault_point_in_the_code_is_listed() -> None:
    used: set[str] = set()
    for module in modules():
        assert module.__file__ is not None
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reach":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant)
                used.add(str(argument.value))
    assert used == set(POINTS)
    assert len(POINTS) == len(set(POINTS))


def test_a_fault_point_kills_the_process_the_asked_time_it_is_reached() -> None:
    code = (
        "from adaptive_llm_gateway.core import reach\n"
        "for step in range(5):\n"
        "    reach('write.indexed'); print(step, flush=True); reach('write.renamed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "ALG_FAULT": "write.renamed:3"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout.split() == ["0", "1", "2"]


def test_without_being_asked_a_fault_point_does_nothing() -> None:
    for point in POINTS:
        reach(point)
