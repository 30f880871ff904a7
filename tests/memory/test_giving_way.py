"""Work in the background leaves most of the time to writes, and takes all of it when there are none."""

from __future__ import annotations

import time
from typing import Any

import pytest

from adaptive_llm_gateway.memory import _giving_way
from adaptive_llm_gateway.memory._giving_way import GivingWay


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """One number: the time."""
    now = [100.0]
    monkeypatch.setattr(_giving_way.time, "monotonic", lambda: now[0])
    return now


def test_while_writes_come_each_step_is_followed_by_a_pause_of_three_times_its_length(clock: list[float]) -> None:
    writes, slept = [0], list[float]()
    step = GivingWay(lambda: writes[0], sleep=slept.append)
    for _ in range(3):
        writes[0] += 1
        clock[0] += 0.004
        step()
    assert slept == pytest.approx([0.012] * 3)
    writes[0] += 1
    clock[0] += 1.0
    step()
    assert slept[-1] == 0.05  # however long it took


def test_without_writes_nothing_waits_and_after_the_last_one_not_for_long(clock: list[float]) -> None:
    writes, slept = [7], list[float]()
    step = GivingWay(lambda: writes[0], sleep=slept.append)
    for _ in range(10):
        clock[0] += 0.01
        step()
    assert not slept
    writes[0] += 1
    for _ in range(10):
        clock[0] += 0.01
        step()
    assert len(slept) == 5


def test_looking_at_all_files_before_a_sync_gives_way_after_each_folder(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bench.open()
    for title in ("One", "Two"):
        bench.write(store, title)
    folders = [path for path in store.repo.path.rglob("*") if path.is_dir() and ".git" not in path.parts]
    steps: list[float] = []
    assert store._reconciler.look(store._types, step=lambda: steps.append(time.monotonic())) == frozenset()
    assert len(steps) >= len([path for path in folders if path.name != ".alg"]) >= 3
