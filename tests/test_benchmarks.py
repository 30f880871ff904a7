"""The benchmarks run; how fast is their own business, never a test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = Path(__file__).parent.parent / "benchmarks" / "run.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(RUN), *arguments], capture_output=True, text=True, check=False, timeout=170
    )


def test_help_names_every_scenario() -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for name in ("shim", "cold", "write", "clients", "search", "memory"):
        assert name in done.stdout


@pytest.mark.timeout(175)
def test_a_quick_run_of_one_scenario_writes_its_numbers_as_json(tmp_path: Path) -> None:
    done = run("--quick", "--only", "shim", "--json", str(tmp_path / "numbers.json"))
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    assert report["quick"] is True
    assert report["command"] == "python benchmarks/run.py --only shim --quick"
    part = report["scenarios"]["shim"]
    assert part["failed"] is None
    assert {row["of"] for row in part["rows"]} == {"ours", "floor"}
    for row in part["rows"]:
        assert row["min"] <= row["median"] <= row["max"]
    assert str(Path.home()) not in json.dumps(report)
    assert os.fspath(tmp_path) not in json.dumps(report)


def test_the_documentation_is_written_from_whole_runs_only() -> None:
    done = run("--quick", "--write-docs")
    assert done.returncode == 2
    assert "whole run" in done.stderr


@pytest.mark.timeout(175)
def test_the_scale_benchmark_builds_a_home_and_searches_it(tmp_path: Path) -> None:
    command = ["--quick", "--chunks", "300", "--searches", "6", "--recall", "--cache", str(tmp_path / "homes")]
    done = subprocess.run(
        [sys.executable, str(RUN.with_name("scale.py")), *command, "--json", str(tmp_path / "numbers.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    names = [row["what"] for row in report["rows"]]
    assert "300 chunks: hybrid search" in names
    assert "300 chunks: lexical search" in names
    assert any(name.startswith("recall@10 of sign bits and int8") for name in names)
    assert os.fspath(tmp_path) not in json.dumps(report)


@pytest.mark.timeout(175)
def test_the_benchmark_of_handoffs_races_and_says_what_came_of_it(tmp_path: Path) -> None:
    command = ["--quick", "--only", "race", "--json", str(tmp_path / "numbers.json")]
    done = subprocess.run(
        [sys.executable, str(RUN.with_name("handoffs") / "run.py"), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    assert report["violations"] == []
    assert report["parts"]["race"]["rows"][0]["median"] == 100
    assert os.fspath(tmp_path) not in json.dumps(report)


@pytest.mark.timeout(175)
def test_the_benchmark_of_sync_measures_each_part_beside_git_alone(tmp_path: Path) -> None:
    command = ["--quick", "--json", str(tmp_path / "numbers.json"), "--cache", str(tmp_path / "homes")]
    done = subprocess.run(
        [sys.executable, str(RUN.with_name("sync") / "run.py"), *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads((tmp_path / "numbers.json").read_text("utf-8"))
    assert report["parts"].keys() == {"quick", "incoming", "edits", "writes", "clone"}
    for part in report["parts"].values():
        assert {row["of"] for row in part["rows"]} == {"ours", "floor"}
        assert any(row["target"] is not None or row["against"] is not None for row in part["rows"])
    assert os.fspath(tmp_path) not in json.dumps(report)
