"""The endpoint reranker against a real loopback server that answers well, badly, late or not at all."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory import Reranker, RerankerConfig, RerankerUnavailable, create_reranker
from adaptive_llm_gateway.memory._rerank_http import HttpReranker

KEY = "key-0123456789-abcdef"
Answer = tuple[int, dict[str, str], bytes]


class Endpoint:
    """A server whose answers the test chooses; without a choice a text's score is its length, less three."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: list[Answer | Callable[[BaseHTTPRequestHandler], None]] = []
        self.good: Callable[[dict[str, Any]], Answer] = jina
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = endpoint.answers.pop(0) if endpoint.answers else endpoint.good(body)
                if callable(answer):
                    answer(self)
                    return
                status, headers, data = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up in the middle is part of the tests."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


def score_of(text: str) -> float:
    return len(text) - 3.0


def ok(body: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def jina(body: dict[str, Any]) -> Answer:
    """Best first, with the documents, as the services answer."""
    items: list[dict[str, Any]] = [
        {"index": n, "relevance_score": score_of(text), "document": {"text": text}}
        for n, text in enumerate(body["documents"])
    ]
    items.sort(key=lambda item: -item["relevance_score"])
    return ok({"model": body["model"], "results": items, "usage": {"total_tokens": 7}})


def text_embeddings_inference(body: dict[str, Any]) -> Answer:
    """Knows `texts` only, and answers a bare list."""
    if "texts" not in body:
        return 422, {}, b"Failed to deserialize the JSON body into the target type: missing field `texts`"
    return ok([{"index": n, "score": score_of(text)} for n, text in enumerate(body["texts"])][::-1])


def item(score: object, index: object = 0) -> dict[str, object]:
    return {"index": index, "relevance_score": score}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.stop()


@pytest.fixture
def reranker(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReranker]:
    monkeypatch.setenv("RERANK_KEY", KEY)
    client = HttpReranker(endpoint.url, "m", api_key_env="RERANK_KEY", timeout=10)
    yield client
    client.close()


def refusal(call: Callable[[], object]) -> RerankerUnavailable:
    with pytest.raises(RerankerUnavailable) as caught:
        call()
    error = caught.value
    assert KEY not in f"{error!r} {error.hint} {error.details!r} {error.__cause__!r}"
    assert error.__suppress_context__ or error.__context__ is None
    return error


# --- As promised --------------------------------------------------------------------------------------


def test_scores_are_in_the_order_of_the_texts(reranker: HttpReranker) -> None:
    as_protocol: Reranker = reranker
    scores = as_protocol.score("q", ["abc", "a", "abcdef"])
    assert scores.dtype == np.float32
    assert scores.tolist() == [0.0, -2.0, 3.0]
    assert as_protocol.score("q", []).shape == (0,)


def test_the_request_is_the_documented_one(endpoint: Endpoint, reranker: HttpReranker) -> None:
    reranker.score("what", ["abc", "d"])
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/rerank"
    assert body == {"model": "m", "query": "what", "documents": ["abc", "d"]}
    assert headers["authorization"] == f"Bearer {KEY}"


def test_a_server_that_calls_the_documents_texts_is_asked_so_from_then_on(
    endpoint: Endpoint, reranker: HttpReranker
) -> None:
    endpoint.good = text_embeddings_inference
    reranker.load()
    assert reranker.score("q", ["abc", "a"]).tolist() == [0.0, -2.0]
    assert [sorted(body) for _, _, body in endpoint.requests] == [
        ["documents", "model", "query"],
        ["query", "texts"],
        ["query", "texts"],
    ]


def test_a_server_that_misunderstands_both_forms_is_told_by_its_first_answer(
    endpoint: Endpoint, reranker: HttpReranker
) -> None:
    said = json.dumps({"error": {"message": "no such model"}}).encode()
    endpoint.answers = [(400, {}, said), (422, {}, b"")]
    error = refusal(reranker.load)
    assert (error.details["status"], "no such model" in error.message) == (400, True)
    assert len(endpoint.requests) == 2


def test_loading_asks_once_and_naming_never(endpoint: Endpoint, reranker: HttpReranker) -> None:
    assert reranker.id == f"http:{endpoint.url}:m"
    assert endpoint.requests == []
    reranker.load()
    reranker.load()
    assert len(endpoint.requests) == 1


def test_hostile_texts_are_sent_as_an_endpoint_takes_them(endpoint: Endpoint, reranker: HttpReranker) -> None:
    reranker.score("\ud800", ["", "a\0b", "\ud800", "x" * 100_000])
    body = endpoint.requests[0][2]
    assert body["query"] == "?"
    assert body["documents"][:3] == [".", "a\0b", "?"]
    assert len(body["documents"][3]) == 8000


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://[::1]:8080", True),
        ("http://localhost/v1", True),
        ("http://192.168.1.5/v1", False),
        ("https://localhost.example.org/v1", False),
        ("https://api.example.org/v1", False),
    ],
)
def test_it_is_known_whether_texts_leave_the_machine(url: str, local: bool) -> None:
    assert HttpReranker(url, "m").local is local


# --- Configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["url", "model"])
def test_what_is_not_set_is_named(missing: str) -> None:
    given: dict[str, Any] = {"url": "http://127.0.0.1:1/v1", "model": "m", missing: None}
    with pytest.raises(ConfigError) as caught:
        create_reranker(RerankerConfig(kind="http", **given))
    assert caught.value.details["key"] == f"reranker.{missing}"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"url": "ftp://example.org"}, "reranker.url"),
        ({"url": "https://user:hunter2-plain@h/v1"}, "reranker.url"),
        ({"url": "https://h/v1?api_key=hunter2-plain"}, "reranker.url"),
        ({"url": "https://h/v1", "api_key_env": "hunter2-plain"}, "reranker.api_key_env"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name_and_no_credential_is_shown(given: dict[str, str], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_reranker(RerankerConfig(kind="http", model="m", **given))  # pyright: ignore[reportArgumentType]
    assert caught.value.details["key"] == key
    assert "hunter2" not in repr(caught.value.as_dict())


def test_a_missing_key_is_named_and_nothing_is_sent(
    endpoint: Endpoint, reranker: HttpReranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RERANK_KEY")
    error = refusal(lambda: reranker.score("q", ["a"]))
    assert error.details["reason"] == "key_missing"
    assert "RERANK_KEY" in error.message
    assert endpoint.requests == []


# --- Busy, failing, gone ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "refused"), (403, "refused"), (404, "status"), (429, "status"), (503, "status"), (307, "status")],
)
def test_a_refusal_is_told_apart_and_not_tried_again(
    endpoint: Endpoint, reranker: HttpReranker, status: int, reason: str
) -> None:
    endpoint.answers = [(status, {"Location": "/v1/elsewhere"}, json.dumps({"error": f"you sent {KEY}"}).encode())]
    error = refusal(lambda: reranker.score("q", ["a"]))
    assert (error.details["reason"], error.details["status"]) == (reason, status)
    assert error.hint
    assert len(endpoint.requests) == 1


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        client = HttpReranker(url, "m", timeout=5)
        error = refusal(client.load)
    assert error.details == {"reason": "unreachable", "url": url}
    client.close()


def test_a_silent_endpoint_times_out(endpoint: Endpoint) -> None:
    over = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        over.wait(30)

    endpoint.answers = [wait]
    client = HttpReranker(endpoint.url, "m", timeout=0.3)
    assert refusal(lambda: client.score("q", ["a"])).details["reason"] == "timeout"
    over.set()
    client.close()


def test_after_closing_nothing_is_asked(endpoint: Endpoint, reranker: HttpReranker) -> None:
    reranker.close()
    reranker.close()
    assert refusal(lambda: reranker.score("q", ["a"])).details["reason"] == "closed"
    assert endpoint.requests == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[" * 100_000,
        b"5",
        b"{}",
        b'{"results": {}}',
        b'{"results": [5, 6]}',
        json.dumps({"results": [item(1.0)]}).encode(),
        json.dumps({"results": [item(1.0), item(2.0), item(3.0)]}).encode(),
        json.dumps({"results": [item(1.0), item(2.0)]}).encode(),
        json.dumps({"results": [item(1.0), item(2.0, 2)]}).encode(),
        json.dumps({"results": [item(1.0), item(2.0, True)]}).encode(),
        json.dumps({"results": [item(1.0), {"relevance_score": 2.0}]}).encode(),
        json.dumps({"results": [item(1.0), item("2.0", 1)]}).encode(),
        json.dumps({"results": [item(1.0), item(None, 1)]}).encode(),
        json.dumps({"results": [item(1.0), item(True, 1)]}).encode(),
        json.dumps({"results": [item(1.0), {"index": 1}]}).encode(),
        b'{"results": [{"index": 0, "relevance_score": NaN}, {"index": 1, "relevance_score": 1}]}',
        b'{"results": [{"index": 0, "relevance_score": 1e999}, {"index": 1, "relevance_score": 1}]}',
        b'{"results": [{"index": 0, "relevance_score": 1e300}, {"index": 1, "relevance_score": 1}]}',
        b'{"results": [{"index": 0, "relevance_score": 1' + b"0" * 4000 + b'}, {"index": 1, "relevance_score": 1}]}',
    ],
)
def test_an_answer_that_breaks_the_promise_is_refused(endpoint: Endpoint, reranker: HttpReranker, body: bytes) -> None:
    endpoint.answers = [(200, {}, body)]
    error = refusal(lambda: reranker.score("q", ["a", "b"]))
    assert error.details["reason"] == "answer"
    assert len(endpoint.requests) == 1


def test_an_endless_answer_is_cut_off(endpoint: Endpoint, reranker: HttpReranker) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        try:
            while True:
                handler.wfile.write(block)
        except OSError:
            handler.close_connection = True

    endpoint.answers = [endless]
    assert refusal(lambda: reranker.score("q", ["a"])).details["reason"] == "answer"


def test_an_answer_that_sends_long_documents_back_is_read(reranker: HttpReranker) -> None:
    texts = ["\N{OTTER}" * 8_000] * 20
    assert reranker.score("q", texts).tolist() == [7_997.0] * 20


def test_no_log_record_carries_key_or_text(
    endpoint: Endpoint, reranker: HttpReranker, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answers = [(200, {}, b"{}")]
    for name in ("httpx2", "httpcore2"):  # the gateway may have made them quiet in this process
        caplog.set_level(logging.DEBUG, logger=name)
    with caplog.at_level(logging.DEBUG):
        refusal(lambda: reranker.score("the query itself", ["the text itself"]))
        reranker.score("the query itself", ["the text itself"])
    assert caplog.records
    said = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    for secret in (KEY, "the query itself", "the text itself"):
        assert secret not in said
