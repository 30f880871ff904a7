"""How models fare is learnt from: real hubs, real commands, and servers on the loopback that fail as told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.gateway import Attempt, Receipt, ReceiptLevel, ReceiptRequest
from adaptive_llm_gateway.server._gateway_experience import (
    HALF_LIFE,
    WINDOW,
    Recent,
    age_of,
    recent_from,
    recent_of,
)

if TYPE_CHECKING:
    from conftest import Begin

ENOUGH = 20
"""Said once more in a number, so that the docs stay true."""


# --- Numbers that fade ----------------------------------------------------------------------------------------------


def test_the_latest_fifty_calls_count_and_older_ones_half_as_much() -> None:
    known = Recent()
    for _ in range(1_000):
        known = known.plus(Recent(1, 1, 100))
    assert known.calls == known.answered <= WINDOW
    assert known.milliseconds == 100 * known.answered
    for _ in range(50):
        known = known.plus(Recent(1, 0, 0))
    assert known.answered < known.calls // 2  # a thousand good ones do not hide fifty that failed


def test_without_a_call_half_of_it_is_forgotten_each_week() -> None:
    failed = Recent(50, 10, 1_000)
    assert failed.after(HALF_LIFE - timedelta(seconds=1)) == failed
    assert failed.after(HALF_LIFE) == Recent(25, 5, 500)
    assert failed.after(2 * HALF_LIFE).calls < ENOUGH  # it is tried again like any other
    assert failed.after(timedelta(days=100_000)) == Recent()


@given(
    st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 10**9)),
    st.tuples(st.integers(0, 200), st.integers(0, 200), st.integers(0, 10**9)),
)
def test_fading_keeps_more_calls_than_answers(old: tuple[int, int, int], new: tuple[int, int, int]) -> None:
    one, other = (Recent(max(a, b), min(a, b), ms if min(a, b) else 0) for a, b, ms in (old, new))
    both = one.plus(other)
    assert 0 <= both.answered <= both.calls <= max(WINDOW, other.calls)
    assert both.milliseconds >= 0
    assert both.answered >= other.answered
    assert both.calls >= other.calls


def test_only_what_lies_with_the_provider_counts_against_a_model() -> None:
    outcomes = ("ok", "server", "timeout", "cancelled", "bad_request", "too_long", "auth", "rate_limited")
    receipt = Receipt(
        "01M80P374CE5CG0AZWXATF3YZ5",
        datetime(2026, 11, 22, tzinfo=UTC),
        "failed",
        "it did",
        ReceiptRequest("chat", "summaries", None, None, "auto"),
        ReceiptLevel(Trust.INTERNAL),
        attempts=tuple(Attempt("one", "m", outcome, 0, 5_000) for outcome in outcomes),
    )
    assert recent_of(receipt) == {("one", "m", "summaries"): Recent(3, 1, 5)}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, Recent()),
        ({"calls": 40, "answered": 4, "latency_ms": 5}, Recent()),  # from before anything was learnt
        ({"recent_calls": 30, "recent_answered": 3, "recent_ms": 7}, Recent(30, 3, 21)),
        ({"recent_calls": 30, "recent_answered": 0, "recent_ms": None}, Recent(30, 0, 0)),
        ({"recent_calls": 10**12, "recent_answered": 10**12, "recent_ms": 10**12}, "clamped"),
        ({"recent_calls": 10**12 + 1, "recent_answered": 0}, None),
        ({"recent_calls": 10**5_000, "recent_answered": 0}, None),
        ({"recent_calls": 3, "recent_answered": 30}, None),
        ({"recent_calls": -1, "recent_answered": -1}, None),
        ({"recent_calls": True, "recent_answered": True}, None),
        ({"recent_calls": "30", "recent_answered": 3}, None),
        ({"recent_calls": 30.0, "recent_answered": 3}, None),
        ({"recent_calls": float("nan"), "recent_answered": 3}, None),
        ({"recent_calls": [30], "recent_answered": {}}, None),
    ],
)
def test_numbers_of_a_memory_are_held_to_what_can_be(fields: dict[str, Any], expected: Any) -> None:
    found = recent_from(fields, timedelta())
    if expected == "clamped":
        assert found is not None
        assert found.calls <= WINDOW
        assert found.milliseconds <= found.answered * 24 * 3_600_000
    else:
        assert found == expected


def test_a_time_to_come_or_none_is_no_age() -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert age_of("2026-11-15T00:00:00Z", now) == timedelta(days=7)
    for updated in ("2027-01-01T00:00:00Z", "soon", "", None, "2026-11-15T00:00:00"):
        assert age_of(updated, now) == timedelta()


# --- From end to end ------------------------------------------------------------------------------------------------


def test_after_enough_failed_calls_a_provider_goes_second_also_after_a_restart(server: Any, peer: Begin) -> None:
    flaky, steady = peer("fine", flaky=True), peer("fine")

    def configure(learn: bool) -> None:
        models = "models: [{name: m, chat: true, stream: true}]"
        server.configure(
            f"gateway: {{discover: false, learn: {str(learn).lower()}}}\nproviders:\n"
            f"  a-flaky: {{kind: openai_compatible, url: '{flaky.url}', {models}}}\n"
            f"  b-steady: {{kind: openai_compatible, url: '{steady.url}', {models}}}\n"
        )

    def preview() -> list[dict[str, Any]]:
        return server.json("gateway", "preview", "hello")["steps"]

    configure(learn=True)
    client = server.client()
    for done in range(1, 11):  # two calls each: one that fails, and its second attempt
        assert [step["provider"] for step in preview()] == ["a-flaky", "b-steady"], done
        client.call("gateway_complete", prompt="hello")
    assert (len(flaky.asked), len(steady.asked)) == (20, 0)

    def says_why(steps: list[dict[str, Any]]) -> None:
        assert [step["provider"] for step in steps] == ["b-steady", "a-flaky"]
        assert "lately 10 of 20 calls were answered" in steps[1]["reason"]
        assert "so it goes after it" in steps[1]["reason"]

    says_why(preview())
    text = server.alg("gateway", "preview", "hello").stdout
    assert text.index("b-steady/m") < text.index("a-flaky/m")
    assert "lately 10 of 20 calls were answered" in text
    told = client.call("gateway_route_preview", prompt="hello")
    assert "lately 10 of 20 calls were answered" in told
    client.close()

    server.alg("hub", "stop")
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    says_why(preview())  # the first that the new hub is asked

    answer = server.json("complete", "hello")
    assert (answer["provider"], len(flaky.asked), len(steady.asked)) == ("b-steady", 20, 1)
    run = server.json("runs", "replay", answer["receipt"])
    assert run["reproduces"] is True
    assert run["differences"] == []

    server.alg("hub", "stop")
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    before = server.json("memory", "status")["by_type"]["route"]
    server.alg("hub", "stop")
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    configure(learn=False)
    assert [step["provider"] for step in preview()] == ["a-flaky", "b-steady"]
    server.json("complete", "hello", "--purpose", "another")
    server.alg("hub", "stop")
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    assert server.json("memory", "status")["by_type"]["route"] == before
