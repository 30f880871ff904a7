"""What a provider tells of tokens, as a real hub shows it: those of its cache, and those of embeddings."""

from __future__ import annotations

import json
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

PRICES = 'version: "mine"\nprices: {p0: {m: {input: 1.00, cached_input: 0.10, output: 5.00}}}\n'


class Handler(BaseHTTPRequestHandler):
    """Ollama, as it says of a model that runs elsewhere: what that costs is counted."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        entry = {"name": "m", "model": "m", "digest": "0", "remote_host": "https://elsewhere.example"}
        self.give({"models": [{**entry, "capabilities": ["completion", "embedding"]}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        if self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": at, "embedding": [0.5, 1.0]} for at in range(len(body["input"]))]
            usage = {"prompt_tokens": 7, "total_tokens": 7}
            self.give({"object": "list", "model": "m", "data": data, "usage": usage})
        elif self.path.endswith("/completions"):
            choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 3000, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 2500}}
            head = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}
            self.give({**head, "choices": [choice], "usage": usage})
        else:
            self.give({"error": "no such path"}, 404)

    def give(self, document: Any, status: int = 200) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


def test_tokens_of_a_cache_and_of_embeddings_have_their_price_and_are_shown(
    server: Any, serve: Callable[..., Any]
) -> None:
    url = f"http://127.0.0.1:{serve(Handler).server_port}/v1"
    config = f"gateway: {{discover: false}}\nproviders: {{p0: {{kind: ollama, url: '{url}'}}}}\n"
    server.configure(config)
    (server.home / "prices.yaml").write_text(PRICES, encoding="utf-8")
    asked = ("--model", "p0/m", "--trust", "public")

    answer = server.json("complete", "hello", *asked, "--no-stream")
    # 500 at 100 micro-cents, 2,500 at 10, 5 at 500
    assert answer["cost"]["micro_cents"] == 77_500
    assert answer["tokens"] == {"input": 3000, "output": 5, "cached": 2500, "written": None}
    said = server.alg("complete", "hello", *asked, "--no-stream").stderr
    assert "tokens 3,000 in (2,500 cached), 5 out; $0.000775" in said
    shown = server.alg("receipts", "show", answer["receipt"]).stdout
    assert "input 3,000 (2,500 cached), output 5" in shown
    assert "cache had was not told" not in shown
    (line,) = [each for each in server.json("receipts", "list")["receipts"] if each["id"] == answer["receipt"]]
    assert (line["tokens"]["cached"], line["micro_cents"]) == (2500, 77_500)

    client = server.client()
    told = client.call("gateway_complete", prompt="hello", model="p0/m", trust="public")
    assert "tokens 3,000 in (2,500 cached), 5 out" in told
    assert "$0.000775" in told
    vectors = client.call("gateway_embed", texts=["one", "two"], model="p0/m", trust="public")
    assert "tokens 7 in" in vectors
    assert "$0.000007" in vectors
    embedded = server.json("embed", "one", *asked)
    assert (embedded["cost"]["micro_cents"], embedded["tokens"]["input"]) == (700, 7)
    client.close()
