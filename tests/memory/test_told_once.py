"""What fails over and over is logged when it begins, when it changes, each minute, and when it is over."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from adaptive_llm_gateway.core import DiskFull
from adaptive_llm_gateway.memory._told_once import AGAIN_SECONDS, ToldOnce

FULL, DENIED = DiskFull("no space left"), OSError("permission denied")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_failure_that_lasts_is_logged_once_and_each_minute_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    told = ToldOnce(logging.getLogger("test"), "it fails", "it works again", clock=clock)
    told.succeeded()
    for tenth in range(int(AGAIN_SECONDS * 10 * 2.5)):
        clock.now = tenth / 10
        told.failed(FULL)
    told.succeeded()
    told.succeeded()
    assert caplog.messages == [
        "it fails: no space left",
        "it fails: no space left (599 times since this was last logged)",
        "it fails: no space left (599 times since this was last logged)",
        "it works again",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_another_failure_is_logged_at_once_and_two_in_turn_no_more_often_than_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told = ToldOnce(logging.getLogger("test"), "it fails", "it works again", clock=Clock())
    for _ in range(100):
        told.failed(FULL)
        told.failed(DENIED)
    assert caplog.messages == ["it fails: no space left", "it fails: permission denied"]
    told.succeeded()
    told.failed(FULL)
    assert caplog.messages[2:] == ["it works again", "it fails: no space left"]


def test_a_failure_whose_words_are_others_each_time_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    told = ToldOnce(logging.getLogger("test"), "it fails", "it works again", clock=clock)
    for number in range(10_000):
        told.failed(OSError(f"cannot write tmp_{number}"))
    assert len(caplog.messages) < 10
    clock.now = AGAIN_SECONDS
    told.failed(OSError("cannot write tmp_x"))
    assert caplog.messages[-1].startswith("it fails: cannot write tmp_x (")


def test_a_disk_that_stays_full_leaves_a_line_for_each_thing_that_fails_and_one_for_its_end(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = bench.open()
    tried = {"journal": 0, "git index": 0}

    def full(what: str) -> Any:
        def refuse(*_: Any) -> bool:
            tried[what] += 1
            raise FULL

        return refuse

    def lines(beginning: str) -> list[str]:
        return [each for each in caplog.messages if each.startswith(beginning)]

    journal, git_index = "the journal of the index ", "the git index "
    with monkeypatch.context() as patch:  # a disk that is full of all but commits is not to be had on demand
        patch.setattr(store._index, "clear_pending", full("journal"))
        patch.setattr(store.repo, "refresh_index", full("git index"))
        bench.write(store, "A")
        bench.poll(lambda: min(tried.values()) > 5, "several attempts")
        assert lines(journal) == [f"{journal}could not be cleared: no space left"]
        assert lines(git_index) == [f"{git_index}could not be brought up to date: no space left"]
    bench.poll(lambda: len(lines(journal)) == 2 and len(lines(git_index)) == 2, "the end of it in the log")
    assert lines(journal)[1] == f"{journal}is cleared again"
    assert lines(git_index)[1] == f"{git_index}is brought up to date again"
    bench.tidy(store)


def test_commits_that_fail_are_logged_once_and_when_they_are_made_again(
    bench: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = bench.open()
    monkeypatch.setattr("adaptive_llm_gateway.memory._writer._RETRY_SECONDS", 0.02)  # five seconds otherwise
    attempts = 0
    commit = store.repo.commit

    def counted(*given: Any, **more: Any) -> Any:
        nonlocal attempts
        attempts += 1
        return commit(*given, **more)

    monkeypatch.setattr(store.repo, "commit", counted)
    lock = bench.lock_branch(store)
    bench.write(store, "Locked out")
    bench.poll(lambda: attempts > 3, "several attempts")
    assert len([each for each in caplog.messages if each.startswith("commit failed: ")]) == 1
    lock.unlink()
    bench.poll(lambda: "commits are made again" in caplog.messages, "the end of it in the log")
    bench.tidy(store)
