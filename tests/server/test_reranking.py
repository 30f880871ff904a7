"""Reranking as it is configured: through the settings, a real hub, the command line and the doctor."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


class Endpoint:
    """Prefers what says `best`; refuses everybody while `open` is false."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.open = True
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                endpoint.keys.append(self.headers["Authorization"])
                items = [
                    {"index": n, "relevance_score": 0.25 + 0.5 * ("best" in text)}
                    for n, text in enumerate(body["documents"])
                ]
                data = json.dumps({"results": items}).encode()
                self.send_response(200 if endpoint.open else 403)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    found = Endpoint()
    yield found
    found.stop()


def configure(server: Any, text: str) -> None:
    server.alg("init", "--yes")
    server.alg("hub", "stop")
    Path(server.home, "config.yaml").write_text(text, encoding="utf-8")


def checks(server: Any) -> dict[str, Any]:
    report = json.loads(server.alg("doctor", "--json", check=False).stdout)
    return {check["name"]: check for check in report["checks"]}


def settled(server: Any) -> None:
    """Wait until the hub has tried the reranker."""
    for _ in range(600):
        if server.json("memory", "status")["reranker"] != "loading":
            return
    raise AssertionError("the reranker is still loading")


def test_a_reranker_of_the_settings_orders_hits_and_everybody_is_told(
    server: Any, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RERANK_KEY", "key-0123456789-abcdef")
    configure(
        server,
        f"embedder: {{kind: none}}\n"
        f"reranker: {{kind: http, url: '{endpoint.url}', model: m, api_key_env: RERANK_KEY, timeout: 30, top: 5}}\n",
    )
    assert checks(server)["reranker"]["state"] == "ok"
    assert "not loaded" in checks(server)["reranker"]["message"]
    server.json("memory", "write", "River, river, river.", "--title", "River")
    last = server.json("memory", "write", "The best of them.", "--title", "Some water at a river")["id"]
    settled(server)

    found = server.json("memory", "search", "river")
    assert found["hits"][0]["id"] == last
    assert [hit["score"] for hit in found["hits"]] == [0.75, 0.25]
    assert found["notices"] == []
    assert found["hits"][0]["signals"]["reranked"] == 0.75
    assert found["hits"][0]["signals"]["words"] > 0
    table = server.alg("memory", "search", "river", "--explain").stdout.splitlines()[-3:]
    assert table[0].split()[:3] == ["hit", "score", "reranked"]
    assert checks(server)["reranker"] == {
        "name": "reranker", "state": "ok", "message": f"http:{endpoint.url}:m", "hint": None
    }  # fmt: skip
    assert set(endpoint.keys) == {"Bearer key-0123456789-abcdef"}

    endpoint.open = False
    found = server.json("memory", "search", "river best")
    assert len(found["hits"]) == 2
    assert "reranked" not in found["hits"][0]["signals"]
    assert "HTTP 403" in found["notices"][0]
    assert "key-0123456789" not in found["notices"][0]
    told = checks(server)["reranker"]
    assert (told["state"], "HTTP 403" in told["message"]) == ("warn", True)


def test_the_doctor_is_silent_about_a_reranker_that_nobody_wants(server: Any) -> None:
    server.alg("init", "--yes")
    assert "reranker" not in checks(server)
    server.alg("hub", "stop")
    assert "reranker" not in checks(server)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{kind: http, model: m}", "reranker.url"),
        ("{kind: http, url: 'http://127.0.0.1:1/v1'}", "reranker.model"),
        ("{kind: http, url: 'http://127.0.0.1:1', model: m, api_key_env: NOT_SET}", "NOT_SET"),
        ("{kind: transformers}", "reranker"),
    ],
)
def test_the_doctor_says_what_a_reranker_lacks(server: Any, settings: str, said: str) -> None:
    configure(server, f"reranker: {settings}\n")
    told = checks(server)["reranker"]
    assert (told["state"], said in told["message"]) == ("warn", True)
    assert told["hint"]


def test_a_reranker_of_an_unknown_kind_is_refused_with_those_there_are(server: Any) -> None:
    configure(server, "reranker: {kind: magic}\n")
    told = checks(server)["config"]
    assert told["state"] == "fail"
    for word in ("reranker.kind", "'magic'", "'none'", "'transformers'", "'http'"):
        assert word in told["message"]
