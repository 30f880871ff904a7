"""Ctrl-C that comes while a program is being started."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from adaptive_llm_gateway.core import DeferredInterrupt


@pytest.fixture(autouse=True)
def _raising() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_it_comes_when_somebody_is_there_to_act_on_it() -> None:
    reached: list[str] = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt() as interrupt:  # noqa: PT012 - the order is the point
        signal.raise_signal(signal.SIGINT)
        reached.append("not yet")
        interrupt.end()
        reached.append("never")
    assert reached == ["not yet"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_it_comes_at_the_end_of_the_block_at_the_latest() -> None:
    with pytest.raises(KeyboardInterrupt), DeferredInterrupt():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_without_one_nothing_happens() -> None:
    with DeferredInterrupt() as interrupt:
        interrupt.end()
        interrupt.end()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_within_it_gives_ctrl_c_back() -> None:
    with pytest.raises(ValueError, match="first"), DeferredInterrupt():
        raise ValueError("first")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_program_that_handles_ctrl_c_itself_goes_on_doing_so() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    with DeferredInterrupt():
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]


def test_threads_leave_it_alone() -> None:
    seen: list[object] = []

    def look() -> None:
        with DeferredInterrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
