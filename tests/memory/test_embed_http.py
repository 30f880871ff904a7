"""The endpoint embedder against a real loopback server that answers well, badly, late or not at all."""

from __future__ import annotations

import gzip
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
from adaptive_llm_gateway.memory._embed import Embedder, EmbedderUnavailable
from adaptive_llm_gateway.memory._embed_http import HttpEmbedder, retry_pause

KEY = "key-0123456789-abcdef"
Answer = tuple[int, dict[str, str], bytes]


class Endpoint:
    """A server whose answers the test chooses; without a choice it answers as the API promises."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers: list[Answer | Callable[[BaseHTTPRequestHandler], None]] = []
        self.dimensions = 4
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                answer = endpoint.answers.pop(0) if endpoint.answers else good(body["input"], endpoint.dimensions)
                if callable(answer):
                    answer(self)
                    return
                status, headers, data = answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
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


def vector_of(text: str, dimensions: int) -> list[float]:
    return [float(len(text) + 1), *([1.0] * (dimensions - 1))]


def good(texts: list[str], dimensions: int) -> Answer:
    data = [{"object": "embedding", "index": i, "embedding": vector_of(t, dimensions)} for i, t in enumerate(texts)]
    return ok({"object": "list", "data": data[::-1], "model": "m", "usage": {}})


def ok(body: object) -> Answer:
    return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()


def entry(vector: object, index: object = 0) -> dict[str, object]:
    return {"index": index, "embedding": vector}


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    yield server
    server.stop()


@pytest.fixture
def embedder(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpEmbedder]:
    monkeypatch.setenv("EMBEDDING_KEY", KEY)
    client = HttpEmbedder(endpoint.url, "m", api_key_env="EMBEDDING_KEY", timeout=10, first_pause=0)
    yield client
    client.close()


def refusal(call: Callable[[], object]) -> EmbedderUnavailable:
    with pytest.raises(EmbedderUnavailable) as caught:
        call()
    error = caught.value
    assert KEY not in f"{error!r} {error.hint} {error.details!r} {error.__cause__!r}"
    assert error.__suppress_context__ or error.__context__ is None
    return error


# --- As promised --------------------------------------------------------------------------------------


def test_vectors_are_normalised_and_in_the_order_of_the_texts(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    as_protocol: Embedder = embedder
    vectors = as_protocol.embed(["abc", "a", "abcdef"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (3, 4)
    for vector, text in zip(vectors, ["abc", "a", "abcdef"], strict=True):
        wanted = np.array(vector_of(text, 4))
        np.testing.assert_allclose(vector, wanted / np.linalg.norm(wanted), rtol=1e-6)


def test_the_request_is_the_documented_one(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    embedder.embed(["abc"])
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/embeddings"
    assert body == {"model": "m", "input": ["abc"]}
    assert headers["authorization"] == f"Bearer {KEY}"


def test_a_configured_length_is_asked_for(endpoint: Endpoint) -> None:
    endpoint.dimensions = 8
    with_length = HttpEmbedder(endpoint.url + "/", "m", dimensions=8)
    assert with_length.embed(["a"]).shape == (1, 8)
    path, headers, body = endpoint.requests[0]
    assert path == "/v1/embeddings"
    assert body["dimensions"] == 8
    assert "authorization" not in headers
    with_length.close()


def test_the_length_is_found_out_once(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    embedder.load()
    embedder.load()
    assert embedder.dimensions == 4
    assert embedder.id == f"http:{endpoint.url}:m:4"
    assert len(endpoint.requests) == 1


def test_many_texts_go_in_several_requests(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    texts = ["x" * n for n in range(1, 71)]
    vectors = embedder.embed(texts)
    assert [len(body["input"]) for _, _, body in endpoint.requests] == [32, 32, 6]
    assert all(np.diff(vectors[:, 0]) > 0)


def test_no_texts_give_no_vectors(embedder: HttpEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 4)


def test_hostile_texts_are_sent_as_an_endpoint_takes_them(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    embedder.embed(["", " \n", "a\0b", "\ud800", "x" * 100_000])
    sent = endpoint.requests[0][2]["input"]
    assert sent[:4] == [".", ".", "a\0b", "?"]
    assert len(sent[4]) == 8000


def test_a_repeated_query_is_not_asked_again(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    vector = embedder.embed_query("where")
    assert embedder.embed_query("where") is vector
    assert vector.shape == (4,)
    assert len(endpoint.requests) == 1


def test_the_key_is_read_anew_for_each_request(
    endpoint: Endpoint, embedder: HttpEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder.embed(["a"])
    monkeypatch.setenv("EMBEDDING_KEY", "another\n")
    embedder.embed(["a"])
    assert endpoint.requests[1][1]["authorization"] == "Bearer another"


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1/v1", True),
        ("http://127.9.9.9/v1", True),
        ("http://[::1]:8080/v1", True),
        ("http://localhost/v1", True),
        ("http://LOCALHOST/v1", True),
        ("http://192.168.1.5/v1", False),
        ("https://localhost.example.org/v1", False),
        ("https://api.example.org/v1", False),
    ],
)
def test_it_is_known_whether_texts_leave_the_machine(url: str, local: bool) -> None:
    assert HttpEmbedder(url, "m").local is local


# --- Configuration ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.org/v1",
        "ftp://example.org",
        "file:///etc/passwd",
        "http://",
        "http://[::1/v1",
        "http://h:99999999/v1",
        "http://h/v1 x",
        "http://h/\nv1",
    ],
)
def test_what_is_no_url_is_refused_by_name(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpEmbedder(url, "m")
    assert caught.value.details["key"] == "embedder.url"


@pytest.mark.parametrize(
    "url", ["https://user:hunter2@h/v1", "https://h/v1?api_key=hunter2", "https://h/v1#hunter2", "https://hunter2@h/"]
)
def test_a_url_with_a_credential_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        HttpEmbedder(url, "m")
    assert "hunter2" not in repr(caught.value.as_dict())


def test_a_key_put_where_its_variables_name_belongs_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError) as caught:
        HttpEmbedder("https://h/v1", "m", api_key_env=KEY)
    assert KEY not in repr(caught.value.as_dict())


@pytest.mark.parametrize("value", [None, "", "  ", "zwei wörter", "two words", "a\tb"])
def test_a_missing_or_impossible_key_is_named_and_nothing_is_sent(
    endpoint: Endpoint, embedder: HttpEmbedder, monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is None:
        monkeypatch.delenv("EMBEDDING_KEY")
    else:
        monkeypatch.setenv("EMBEDDING_KEY", value)
    error = refusal(lambda: embedder.embed(["a"]))
    assert error.details["reason"] == "key_missing"
    assert "EMBEDDING_KEY" in error.message
    assert not value or not value.strip() or value not in error.message
    assert endpoint.requests == []


# --- Busy, failing, gone ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_endpoint_is_tried_again(endpoint: Endpoint, embedder: HttpEmbedder, status: int) -> None:
    endpoint.answers = [(status, {"Retry-After": "0"}, b"busy"), (status, {}, b"")]
    assert embedder.embed(["a"]).shape == (1, 4)
    assert len(endpoint.requests) == 3


def test_an_endpoint_that_stays_busy_is_given_up(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    endpoint.answers = [(503, {}, b"")] * 9
    error = refusal(lambda: embedder.embed(["a"]))
    assert (error.details["reason"], error.details["status"]) == ("status", 503)
    assert len(endpoint.requests) == 4


def test_a_query_is_tried_once(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    endpoint.answers = [(503, {}, b"")]
    refusal(lambda: embedder.embed_query("a"))
    assert len(endpoint.requests) == 1
    assert embedder.embed_query("a").shape == (4,)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_tried_again_nor_shown(endpoint: Endpoint, embedder: HttpEmbedder, status: int) -> None:
    endpoint.answers = [(status, {}, json.dumps({"error": {"message": f"bad key {KEY}"}}).encode())]
    error = refusal(lambda: embedder.embed(["a"]))
    assert error.details["reason"] == "refused"
    assert error.hint is not None
    assert "EMBEDDING_KEY" in error.hint
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"error": {"message": "model 'm' not found"}}, "model 'm' not found"),
        ({"error": "no such model"}, "no such model"),
        ({"error": {"message": f"you sent {KEY} " + "x" * 500}}, "you sent ***"),
        ({"error": {"message": "two\nlines\x1b[31m"}}, "two\\nlines\\x1b"),
        ({"error": {"message": 5}}, "HTTP 404"),
        ([], "HTTP 404"),
    ],
)
def test_what_the_endpoint_says_is_passed_on_in_one_short_line(
    endpoint: Endpoint, embedder: HttpEmbedder, body: object, shown: str
) -> None:
    endpoint.answers = [(404, {}, json.dumps(body).encode())]
    error = refusal(lambda: embedder.embed(["a"]))
    assert shown in error.message
    assert error.message.isprintable()
    assert len(error.message) < 400


def test_a_redirect_is_not_followed(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    other = Endpoint()
    endpoint.answers = [(307, {"Location": other.url + "/embeddings"}, b"")]
    error = refusal(lambda: embedder.embed(["a"]))
    assert error.details["status"] == 307
    assert other.requests == []
    other.stop()


def test_an_endpoint_that_is_not_there_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        client = HttpEmbedder(url, "m", first_pause=0, timeout=5)
        error = refusal(client.load)
    assert error.details == {"reason": "unreachable", "url": url}
    client.close()


def test_a_connection_that_breaks_is_tried_again(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    def break_off(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{")
        handler.close_connection = True

    endpoint.answers = [break_off]
    assert embedder.embed(["a"]).shape == (1, 4)
    assert len(endpoint.requests) == 2


def test_a_silent_endpoint_times_out_and_queries_then_leave_it_alone(endpoint: Endpoint) -> None:
    over = threading.Event()
    endpoint.answers = [lambda handler: void(over.wait(30))]
    client = HttpEmbedder(endpoint.url, "m", timeout=1)
    assert refusal(lambda: client.embed_query("a")).details["reason"] == "timeout"
    assert refusal(lambda: client.embed_query("b")).details["reason"] == "timeout"
    assert len(endpoint.requests) == 1
    client.embed(["c"])
    assert client.embed_query("b").shape == (4,)
    over.set()
    client.close()


def test_a_body_that_trickles_is_given_up(endpoint: Endpoint) -> None:
    over = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while not over.wait(0.02):
            handler.wfile.write(b" ")

    endpoint.answers = [trickle]
    client = HttpEmbedder(endpoint.url, "m", timeout=0.3)
    assert refusal(lambda: client.embed_query("a")).details["reason"] == "timeout"
    over.set()
    client.close()


def test_closing_ends_a_pause_between_attempts(endpoint: Endpoint) -> None:
    endpoint.answers = [(503, {"Retry-After": "20"}, b"")] * 4
    client = HttpEmbedder(endpoint.url, "m")
    errors: list[EmbedderUnavailable] = []

    def work() -> None:
        try:
            client.embed(["a"])
        except EmbedderUnavailable as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    while not endpoint.requests and thread.is_alive():
        thread.join(0.01)
    client.close()
    thread.join(15)
    assert [error.details["reason"] for error in errors] == ["closed"]
    assert refusal(lambda: client.embed(["a"])).details["reason"] == "closed"


@pytest.mark.parametrize(
    ("attempt", "header", "pause"),
    [
        (1, None, 0.5),
        (3, None, 2.0),
        (9, None, 20.0),
        (1, "7", 7.0),
        (1, "86400", 20.0),
        (1, "-5", 0.0),
        (1, "nan", 20.0),
        (1, "inf", 20.0),
        (1, "soon", 0.5),
        (1, "Thu, 01 Jan 1970 00:00:13 GMT", 3.0),
        (1, "Thu, 01 Jan 1970 00:00:13 -0000", 3.0),
        (1, "Thu, 01 Jan 1970 00:00:03 GMT", 0.0),
        (1, "Fri, 31 Dec 9999 23:59:59 GMT", 20.0),
        (1, "99999999999999999999 GMT", 0.5),
    ],
)
def test_the_pause_heeds_the_endpoint_within_bounds(attempt: int, header: str | None, pause: float) -> None:
    assert retry_pause(attempt, header, first=0.5, now=10.0) == pause


# --- Answers that are not what the API promises -------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff\xfe",
        b"[" * 60_000,
        b"[]",
        b"null",
        b"{}",
        b'{"data": {}}',
        b'{"data": []}',
        json.dumps({"data": [entry([1.0, 2.0]), entry([1.0, 2.0], 1)]}).encode(),
        json.dumps({"data": [None]}).encode(),
        json.dumps({"data": [entry([1.0], 1)]}).encode(),
        json.dumps({"data": [entry([1.0], -1)]}).encode(),
        json.dumps({"data": [entry([1.0], "0")]}).encode(),
        json.dumps({"data": [entry([1.0], False)]}).encode(),
        json.dumps({"data": [entry([])]}).encode(),
        json.dumps({"data": [entry("AAAA")]}).encode(),
        json.dumps({"data": [entry([1.0, "2"])]}).encode(),
        json.dumps({"data": [entry([1.0, None])]}).encode(),
        json.dumps({"data": [entry([[1.0], [2.0]])]}).encode(),
        json.dumps({"data": [entry([0.0, 0.0])]}).encode(),
        json.dumps({"data": [entry([1.0, float("nan")])]}).encode(),
        json.dumps({"data": [entry([1.0, float("inf")])]}).encode(),
        json.dumps({"data": [entry([10**400, 1])]}).encode(),
        b'{"data": [{"index": 0, "embedding": [1e400, 1]}]}',
        b'{"data": [{"index": 0, "embedding": [1e308, 1e308, 1e308, 1e308]}]}',
        b'{"data": [{"index": 0, "embedding": [' + b"9" * 5000 + b"]}]}",
        json.dumps({"data": [entry([1.0] * 8193)]}).encode(),
    ],
)
def test_an_answer_that_breaks_the_promise_is_refused(endpoint: Endpoint, embedder: HttpEmbedder, body: bytes) -> None:
    endpoint.answers = [(200, {}, body)]
    error = refusal(lambda: embedder.embed(["a"]))
    assert error.details["reason"] == "answer"
    assert len(endpoint.requests) == 1


def test_vectors_of_different_lengths_are_refused(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    endpoint.answers = [ok({"data": [entry([1.0, 2.0]), entry([1.0], 1)]})]
    assert refusal(lambda: embedder.embed(["a", "b"])).details["reason"] == "answer"


def test_the_same_index_twice_is_refused(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    endpoint.answers = [ok({"data": [entry([1.0, 2.0]), entry([3.0, 4.0])]})]
    assert refusal(lambda: embedder.embed(["a", "b"])).details["reason"] == "answer"


def test_an_endpoint_that_changes_its_length_is_refused(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    embedder.load()
    endpoint.dimensions = 6
    error = refusal(lambda: embedder.embed(["a"]))
    assert error.details["reason"] == "wrong_dimension"
    assert "6" in error.message


def test_an_endless_answer_is_cut_off(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        block = b"10000\r\n" + b" " * 65_536 + b"\r\n"
        try:
            while True:
                handler.wfile.write(block)
        except OSError:
            handler.close_connection = True

    endpoint.answers = [endless]
    assert refusal(lambda: embedder.embed(["a"])).details["reason"] == "answer"


def test_a_compressed_answer_is_refused_unread(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    endpoint.answers = [(200, {"Content-Encoding": "gzip"}, gzip.compress(b" " * 10_000_000))]
    assert refusal(lambda: embedder.embed(["a"])).details["reason"] == "answer"


@pytest.mark.parametrize("head", [b"not http at all\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000 + b"\r\n"])
def test_what_is_no_http_is_named(endpoint: Endpoint, embedder: HttpEmbedder, head: bytes) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.wfile.write(head)

    endpoint.answers = [answer] * 4
    assert refusal(lambda: embedder.embed(["a"])).details["reason"] == "unreachable"


def test_no_log_record_carries_key_or_text(
    endpoint: Endpoint, embedder: HttpEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint.answers = [(503, {}, b""), (200, {}, b"{}")]
    for name in ("httpx2", "httpcore2"):  # the gateway may have made them quiet in this process
        caplog.set_level(logging.DEBUG, logger=name)
    with caplog.at_level(logging.DEBUG):
        refusal(lambda: embedder.embed(["the text itself"]))
        embedder.embed(["the text itself"])
    assert caplog.records
    said = "\n".join(f"{record.getMessage()} {record.args!r}" for record in caplog.records)
    assert KEY not in said
    assert "the text itself" not in said


def test_a_proxy_from_the_environment_does_not_see_plain_http(
    endpoint: Endpoint, embedder: HttpEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Endpoint()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.setenv("NO_PROXY", "")
    embedder.embed(["a"])
    assert len(endpoint.requests) == 1
    assert proxy.requests == []
    proxy.stop()


def test_threads_share_one_embedder(endpoint: Endpoint, embedder: HttpEmbedder) -> None:
    shapes: list[tuple[int, ...]] = []
    threads = [threading.Thread(target=lambda: shapes.append(embedder.embed(["a", "b"]).shape)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert shapes == [(2, 4)] * 8


def void(_: object) -> None:
    """For a lambda whose value is not wanted."""
