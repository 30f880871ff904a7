"""Searches whose first hits a reranker judges: order, pages, signals, what it sees, and how they do without."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory import (
    Answer,
    Author,
    Hit,
    MemoryStore,
    Record,
    Reranker,
    RerankerConfig,
    RerankerUnavailable,
    SearchRequest,
    create_reranker,
)
from adaptive_llm_gateway.memory import _reranking as reranking_module
from adaptive_llm_gateway.memory._reranking import reordered
from adaptive_llm_gateway.memory.testing import WordReranker

NOW = datetime(2026, 11, 1, tzinfo=UTC)
A_HIT = Hit(
    Record("01", "note", "Otter 0", "", "notes/o.md", "v", 0, 0, NOW, NOW, Author("t")), 0.5, ("lexical",), "", (1, 1)
)


class Numbers(WordReranker):
    """Prefers the higher number in a memory's title, and fails when told to."""

    def __init__(self, *, local: bool = True) -> None:
        super().__init__(local=local)
        self.error: Exception | None = None
        self.asked = 0
        self.queries: list[str] = []
        self.closed = False

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += 1
        self.queries.append(query)
        self.seen += texts
        if self.error is not None:
            raise self.error
        return np.array([float(text.split("\n")[0].split()[-1]) for text in texts], dtype=np.float32)

    def close(self) -> None:
        self.closed = True


class Waiting(Numbers):
    """Judges when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.let = threading.Event()

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        assert self.let.wait(30)
        return super().score(query, texts)


def loaded(bench: Any, store: MemoryStore, reranker: Reranker) -> MemoryStore:
    bench.poll(lambda: store.status().reranker == reranker.id, "the reranker")
    return store


def fill(bench: Any, store: MemoryStore, count: int, **given: Any) -> None:
    """Memories `Otter 0`, `Otter 1`, ...: each says `otter` once less than the one before it."""
    for n in range(count):
        bench.write(store, f"Otter {n}", body=f"Otter{' otter' * (count - n)} in river{' water' * n}.\n", **given)


def numbers(answer: Answer) -> list[int]:
    return [int(hit.record.title.split()[-1]) for hit in answer.hits]


def unjudged(bench: Any, count: int) -> list[int]:
    """The order that the search itself gives."""
    store = bench.open("plain")
    fill(bench, store, count)
    return numbers(store.search("otter", limit=count))


# --- What it does -------------------------------------------------------------------------------------


def test_without_a_setting_nothing_is_reranked(bench: Any) -> None:
    store = bench.open()
    fill(bench, store, 2)
    assert store.status().reranker == "off"
    assert create_reranker(RerankerConfig()) is None
    answer = store.search("otter")
    assert (answer.notices, [("reranked" in hit.signals) for hit in answer.hits]) == ((), [False, False])


def test_the_first_hits_come_in_the_order_of_the_reranker_and_the_rest_as_they_were(bench: Any) -> None:
    plain = unjudged(bench, 8)
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker, rerank_top=5), reranker)
    fill(bench, store, 8)
    answer = store.search("otter", limit=8)
    assert numbers(answer) == [*sorted(plain[:5], reverse=True), *plain[5:]]
    assert plain != sorted(plain, reverse=True)
    assert answer.notices == ()
    assert all(text.startswith("Otter ") and "in river" in text for text in reranker.seen)


def test_the_score_is_what_the_reranker_said_and_the_signals_of_the_search_stay_beside(bench: Any) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker, rerank_top=2), reranker)
    fill(bench, store, 4)
    hits = store.search("otter", limit=4).hits
    for hit in hits[:2]:
        assert hit.signals["reranked"] == hit.score == float(hit.record.title.split()[-1])
        assert hit.signals["words"] > 0
    for hit in hits[2:]:
        assert "reranked" not in hit.signals
        assert sum(hit.signals.values()) == pytest.approx(hit.score, abs=0.001)


def test_a_hit_beyond_the_page_can_come_first(bench: Any) -> None:
    plain = unjudged(bench, 6)
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 6)
    assert numbers(store.search("otter", limit=1)) == [5]
    assert plain[0] != 5


def test_pages_neither_repeat_nor_pass_over_and_go_on_in_the_order_of_the_reranker(bench: Any) -> None:
    plain = unjudged(bench, 12)
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker, rerank_top=7), reranker)
    fill(bench, store, 12)
    shown: list[int] = []
    cursor: str | None = None
    for _ in range(20):
        answer = store.ask(SearchRequest("otter", limit=2, cursor=cursor))
        shown += numbers(answer)
        cursor = answer.next_cursor
        if cursor is None:
            break
    assert shown == [*sorted(plain[:7], reverse=True), *plain[7:]]
    assert reranker.asked == 1  # what is known is not asked again


def test_pages_do_not_repeat_when_the_reranker_comes_and_goes_in_between(bench: Any) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker, rerank_top=9), reranker)
    fill(bench, store, 12)
    shown: list[int] = []
    cursor: str | None = None
    for page in range(20):
        reranker.error = RerankerUnavailable("on strike", reason="failed") if page % 2 else None
        bench.write(store, f"Otter {100 + page}", body="Otter otter otter.\n")  # another text to judge
        answer = store.ask(SearchRequest("otter", limit=2, cursor=cursor))
        shown += numbers(answer)
        cursor = answer.next_cursor
        if cursor is None:
            break
    assert len(set(shown)) == len(shown)
    assert set(range(12)) <= set(shown)


@pytest.mark.parametrize("query", ["", "type:note", "tag:sea -fish"])
def test_what_has_no_words_to_judge_by_is_not_reranked(bench: Any, query: str) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 3, tags=("sea",))
    answer = store.search(query)
    assert len(answer.hits) == 3
    assert (reranker.asked, answer.notices) == (0, ())


def test_memories_alike_are_not_reranked(bench: Any) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 3)
    first = store.search("otter").hits[0].record.id
    reranker.asked = 0
    assert len(store.ask(SearchRequest("", similar_to=first)).hits) == 2
    assert reranker.asked == 0


def test_it_sees_the_words_of_a_query_without_operators_and_not_without_end(bench: Any) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 2)
    store.search("the otter type:note")
    store.search("otter " * 10_000)
    assert reranker.queries[0] == "the otter"
    assert len(reranker.queries[1]) == 2_000


def test_a_search_of_the_past_is_reranked_too(bench: Any) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 3)
    assert store.flush()
    assert numbers(store.ask(SearchRequest("otter", as_of="HEAD"))) == [2, 1, 0]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(-10, 10)), max_size=12), st.data())
def test_those_that_are_not_judged_keep_their_places(scores: list[float | None], data: st.DataObject) -> None:
    hits = [replace(A_HIT, lines=(n, n)) for n in range(len(scores) + data.draw(st.integers(0, 3)))]
    judged = {n: score for n, score in enumerate(scores) if score is not None}
    found = reordered(hits, judged)
    assert sorted(hit.lines for hit in found) == [hit.lines for hit in hits]
    for place, hit in enumerate(found):
        if place not in judged:
            assert hit == hits[place]
    values = [hit.score for place, hit in enumerate(found) if place in judged]
    assert values == sorted(values, reverse=True)


def test_equal_scores_leave_the_order_of_the_search() -> None:
    hits = [replace(A_HIT, lines=(n, n)) for n in range(5)]
    assert [hit.lines[0] for hit in reordered(hits, dict.fromkeys(range(5), 1.0))] == [0, 1, 2, 3, 4]


# --- What it sees -------------------------------------------------------------------------------------


def test_a_reranker_elsewhere_sees_no_memory_above_internal_and_those_keep_their_places(bench: Any) -> None:
    plain = unjudged(bench, 6)
    reranker = Numbers(local=False)
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    levels = {1: Trust.CONFIDENTIAL, 3: Trust.SECRET, 4: Trust.PUBLIC}
    for n in range(6):
        body = f"Otter{' otter' * (6 - n)} in river{' water' * n}.\n"
        bench.write(store, f"Otter {n}", body=body, trust=levels.get(n, Trust.INTERNAL))
    answer = store.search("otter", limit=6)
    free = iter(sorted((n for n in plain if n not in (1, 3)), reverse=True))
    assert numbers(answer) == [n if n in (1, 3) else next(free) for n in plain]
    assert not [text for text in reranker.seen if text.startswith(("Otter 1\n", "Otter 3\n"))]
    assert len(reranker.seen) == 4
    assert [n for n, hit in zip(numbers(answer), answer.hits, strict=True) if "reranked" not in hit.signals] == [1, 3]


def test_a_reranker_here_sees_them(bench: Any) -> None:
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 3, trust=Trust.SECRET)
    assert numbers(store.search("otter")) == [2, 1, 0]


def test_a_reranker_that_may_see_nothing_is_not_asked(bench: Any) -> None:
    reranker = Numbers(local=False)
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 3, trust=Trust.CONFIDENTIAL)
    answer = store.search("otter")
    assert (len(answer.hits), reranker.asked, answer.notices) == (3, 0, ())


# --- Without it ---------------------------------------------------------------------------------------


def test_until_it_is_loaded_hits_are_as_they_were_and_the_answer_says_so(bench: Any) -> None:
    plain = unjudged(bench, 4)
    gate = threading.Event()

    class Slow(Numbers):
        def load(self) -> None:
            assert gate.wait(30)

    reranker = Slow()
    store = bench.open(reranker=reranker)
    fill(bench, store, 4)
    answer = store.search("otter")
    assert numbers(answer) == plain
    [notice] = answer.notices
    assert "loading" in notice
    gate.set()
    loaded(bench, store, reranker)
    assert (numbers(store.search("otter")), store.search("otter").notices) == ([3, 2, 1, 0], ())
    store.close()
    assert reranker.closed


@pytest.mark.parametrize(
    "error",
    [RerankerUnavailable("the model is on strike", reason="failed"), ValueError("unforeseen"), SystemExit(3)],
    ids=["told", "unforeseen", "worse"],
)
def test_one_that_fails_leaves_the_answer_as_it_was_with_a_notice(bench: Any, error: Any) -> None:
    plain = unjudged(bench, 4)
    reranker = Numbers()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 4)
    reranker.error = error
    answer = store.search("otter")
    assert numbers(answer) == plain
    assert all("reranked" not in hit.signals for hit in answer.hits)
    [notice] = answer.notices
    assert str(error) in notice
    assert store.status().reranker.startswith("unavailable")
    reranker.error = None
    assert (numbers(store.search("otter")), store.search("otter").notices) == ([3, 2, 1, 0], ())
    assert store.status().reranker == reranker.id


@pytest.mark.parametrize("scores", [[1.0], [[1.0, 2.0]], [1.0, float("nan")], [1.0, float("inf")]])
def test_scores_that_are_none_are_not_used(bench: Any, scores: Any) -> None:
    class Odd(WordReranker):
        def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
            return np.array(scores, dtype=np.float32)

    reranker = Odd()
    store = loaded(bench, bench.open(reranker=reranker), reranker)
    fill(bench, store, 2)
    answer = store.search("otter")
    assert len(answer.hits) == 2
    assert "finite score" in answer.notices[0]


def test_one_that_is_slow_is_not_waited_for_and_then_left_alone_for_a_while(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = unjudged(bench, 3)
    reranker = Waiting()
    store = loaded(bench, bench.open(reranker=reranker, rerank_timeout=0.05), reranker)
    fill(bench, store, 3)
    answer = store.search("otter")  # the reranker still waits when this returns
    assert (numbers(answer), "within 0.05 s" in answer.notices[0]) == (plain, True)
    again = store.search("otter")
    assert (numbers(again), "left alone" in again.notices[0]) == (plain, True)
    reranker.let.set()
    bench.poll(lambda: reranker.asked == 1, "the end of the first judgement")
    monkeypatch.setattr(reranking_module, "_BREAK_SECONDS", 0.0)
    store._reranking._quiet_until = 0.0  # pyright: ignore[reportPrivateUsage]
    bench.poll(lambda: numbers(store.search("otter")) == [2, 1, 0], "a judgement in time")


def test_more_that_hang_than_are_let_at_once_hold_up_neither_searches_nor_the_end(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reranking_module, "_BREAK_SECONDS", 0.0)
    reranker = Waiting()
    store = loaded(bench, bench.open(reranker=reranker, rerank_timeout=0.02), reranker)
    fill(bench, store, 3)
    for _ in range(8):
        answer = store.search("otter")
        assert (len(answer.hits), "within 0.02 s" in answer.notices[0]) == (3, True)
    store.close()
    assert reranker.closed
    reranker.let.set()
    bench.poll(lambda: reranker.asked == 4, "the end of those that hung")


def test_one_that_cannot_be_made_leaves_searches_as_they_were_and_is_named(bench: Any) -> None:
    store = bench.open(reranker=RerankerConfig(kind="http", url="http://127.0.0.1:1/v1"))
    fill(bench, store, 2)
    bench.poll(lambda: store.status().reranker.startswith("unavailable"), "the notice")
    answer = store.search("otter")
    assert (len(answer.hits), "reranker.model" in answer.notices[0]) == (2, True)


def test_an_endpoint_that_is_down_is_used_when_it_is_up(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reranking_module, "_RETRY_SECONDS", 0.05)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = bench.open(reranker=RerankerConfig(kind="http", url=f"http://127.0.0.1:{port}/v1", model="m"))
    fill(bench, store, 3)
    bench.poll(lambda: store.status().reranker.startswith("unavailable"), "the notice")
    assert "cannot be reached" in store.search("otter").notices[0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            scores = [text.split("\n")[0].split()[-1] for text in body["documents"]]
            items = [
                {"index": n, "relevance_score": float(score) if score.isdigit() else 0.0}
                for n, score in enumerate(scores)
            ]
            data = json.dumps({"results": items}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        bench.poll(lambda: store.status().reranker == f"http:http://127.0.0.1:{port}/v1:m", "the endpoint")
        bench.poll(lambda: numbers(store.search("otter")) == [2, 1, 0], "reranked hits")
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


# --- The double ---------------------------------------------------------------------------------------


def test_the_double_is_a_reranker_that_prefers_texts_with_more_of_the_querys_words() -> None:
    reranker: Reranker = WordReranker()
    scores = reranker.score("Otters hold hands", ["otters HOLD hands", "otters", "", "hold, hands"])
    assert scores.tolist() == pytest.approx([1.0, 1 / 3, 0.0, 2 / 3])
    assert reranker.score("", ["x"]).tolist() == [0.0]
    assert (reranker.local, WordReranker(local=False).local) == (True, False)
