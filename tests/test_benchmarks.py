"""The benchmarks run; how fast is their own business, never a test's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def run(*arguments: str, script: str = "run.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)


def numbers(tmp_path: Path, *arguments: str, script: str = "run.py") -> dict[str, Any]:
    """What a quick run writes, with nothing of this machine's paths in it."""
    done = run("--quick", *arguments, "--json", str(tmp_path / "numbers.json"), script=script)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "numbers.json").read_text("utf-8")
    assert str(Path.home()) not in text
    assert os.fspath(tmp_path) not in text
    return json.loads(text)


def test_help_names_every_scenario() -> None:
    done = run("--help")
    assert done.returncode == 0, done.stderr
    for name in ("shim", "cold", "write", "clients", "search", "memory"):
        assert name in done.stdout


@pytest.mark.timeout(175)
def test_a_quick_run_of_one_scenario_writes_its_numbers_as_json(tmp_path: Path) -> None:
    report = numbers(tmp_path, "--only", "shim")
    assert report["quick"] is True
    assert report["command"] == "python benchmarks/run.py --only shim --quick"
    part = report["scenarios"]["shim"]
    assert part["failed"] is None
    assert {row["of"] for row in part["rows"]} == {"ours", "floor"}
    for row in part["rows"]:
        assert row["min"] <= row["median"] <= row["max"]


def test_the_documentation_is_written_from_whole_runs_only() -> None:
    done = run("--quick", "--write-docs")
    assert done.returncode == 2
    assert "whole run" in done.stderr


@pytest.mark.timeout(175)
def test_the_scale_benchmark_builds_a_home_and_searches_it(tmp_path: Path) -> None:
    command = ("--chunks", "300", "--searches", "6", "--recall", "--cache", str(tmp_path / "homes"))
    report = numbers(tmp_path, *command, script="scale.py")
    names = [row["what"] for row in report["rows"]]
    assert "300 chunks: hybrid search" in names
    assert "300 chunks: lexical search" in names
    assert any(name.startswith("recall@10 of sign bits and int8") for name in names)


@pytest.mark.timeout(175)
def test_the_benchmark_of_handoffs_races_and_says_what_came_of_it(tmp_path: Path) -> None:
    report = numbers(tmp_path, "--only", "race", script="handoffs/run.py")
    assert report["violations"] == []
    assert report["parts"]["race"]["rows"][0]["median"] == 100


@pytest.mark.timeout(175)
def test_the_benchmark_of_sync_measures_each_part_beside_git_alone(tmp_path: Path) -> None:
    report = numbers(tmp_path, "--cache", str(tmp_path / "homes"), script="sync/run.py")
    assert report["parts"].keys() == {"quick", "incoming", "edits", "writes", "clone"}
    for part in report["parts"].values():
        assert {row["of"] for row in part["rows"]} == {"ours", "floor"}
        assert any(row["target"] is not None or row["against"] is not None for row in part["rows"])


@pytest.mark.timeout(175)
def test_the_benchmark_of_the_secret_scanner_says_what_is_missed_and_what_is_flagged_without_cause(
    tmp_path: Path,
) -> None:
    report = numbers(tmp_path, "--only", "sentences", "files", "alarms", script="secrets/run.py")
    for part in report["parts"].values():
        assert {row["of"] for row in part["rows"]} == {"ours", "peer"}
        assert any(row["target"] is not None for row in part["rows"])
    for part in ("sentences", "files"):
        for group in report["groups"][part]:
            missed = sum(group["missed"].values())
            assert group["found"] == pytest.approx(100 * (group["n"] - missed) / group["n"], abs=0.06)
    flagged = [row for row in report["parts"]["alarms"]["rows"] if row["of"] == "ours"]
    assert bool(report["groups"]["alarms"]) is any(row["median"] > 0 for row in flagged)


@pytest.mark.timeout(175)
@pytest.mark.parametrize("parts", [("tool", "mixed"), ("search", "idle")])
def test_the_benchmark_of_http_asks_in_every_way_and_finds_no_wrong_answer(
    tmp_path: Path, parts: tuple[str, str]
) -> None:
    report = numbers(tmp_path, "--only", *parts, "--cache", str(tmp_path / "homes"), script="http/run.py")
    assert report["parts"].keys() == set(parts)
    for part in report["parts"].values():
        assert any(row["target"] is not None for row in part["rows"])
        assert any(row["against"] is not None for row in part["rows"]) or part["rows"][0]["median"] == 0


def test_the_growth_of_the_hub_is_told_by_all_samples_after_the_first_minute_and_each_minute_beside_it() -> None:
    look = (
        f"import json, sys; sys.path[:0] = {[str(BENCHMARKS / 'http'), str(BENCHMARKS)]!r}; import _standing; "
        "samples = [(at, 500.0 if at < 60 else 100 + at / 60 + at % 30 / 10) for at in range(1, 602)]; "
        "print(json.dumps([_standing.slope(samples, 60.0), _standing.by_minute(samples)]))"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    slope, minutes = json.loads(done.stdout)
    assert slope == pytest.approx(1.0, abs=0.05)  # what comes and goes within a minute is no growth
    assert [number for number, _ in minutes] == list(range(1, 11))
    assert set(minutes[0][1]) == {500.0}
    assert [len(each) for _, each in minutes] == [59, *([60] * 8), 62]
