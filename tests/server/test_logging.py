"""The logs' files: turned over when full, and nothing lost in between."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptive_llm_gateway.server._logging import TurnedOver

MOST = 1_000


@pytest.fixture
def log(tmp_path: Path) -> Iterator[TurnedOver]:
    handler = TurnedOver(tmp_path / "a.log", maxBytes=MOST, backupCount=2, encoding="utf-8")
    yield handler
    handler.close()


def say(handler: TurnedOver, text: str) -> None:
    handler.handle(logging.LogRecord("a", logging.INFO, __file__, 1, text, None, None))


def files(folder: Path) -> dict[str, list[str]]:
    return {path.name: path.read_text("utf-8").splitlines() for path in sorted(folder.glob("a.log*"))}


def test_a_file_that_is_full_is_turned_over_and_two_older_ones_are_kept(tmp_path: Path, log: TurnedOver) -> None:
    lines = [f"line {number:03} ü" + "." * 40 for number in range(100)]
    for line in lines:
        say(log, line)

    found = files(tmp_path)
    assert list(found) == ["a.log", "a.log.1", "a.log.2"]
    assert [*found["a.log.2"], *found["a.log.1"], *found["a.log"]] == lines[-sum(map(len, found.values())) :]
    assert all((tmp_path / name).stat().st_size < MOST for name in found)
    assert (tmp_path / "a.log.1").stat().st_size > MOST - 100


def test_what_another_run_has_written_counts(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("old\n" * 240, "utf-8")
    handler = TurnedOver(tmp_path / "a.log", maxBytes=MOST, backupCount=2, encoding="utf-8")
    say(handler, "x" * 60)
    handler.close()
    say(handler, "after the end")
    handler.close()

    assert files(tmp_path) == {"a.log": ["x" * 60, "after the end"], "a.log.1": ["old"] * 240}


def test_a_line_longer_than_a_file_is_written_whole(tmp_path: Path, log: TurnedOver) -> None:
    say(log, "x" * 3 * MOST)
    say(log, "next")

    assert files(tmp_path) == {"a.log": ["next"], "a.log.1": ["x" * 3 * MOST]}


def test_a_line_that_cannot_be_written_fails_nobody(
    tmp_path: Path, log: TurnedOver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)
    say(log, "\ud800")
    say(log, "next")

    assert "UnicodeEncodeError" in capsys.readouterr().err
    assert files(tmp_path) == {"a.log": ["next"]}
