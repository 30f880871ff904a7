"""A key in the hub's environment, and a provider that quotes it: no command, no tool and no file may show it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import quote

import pytest

KEY = "zq+Canary/7Hf2=Tn5&Xw8#Lm3"
MODELS = ("well", "http-400", "http-401", "http-429", "http-500", "broken", "erring", "finish")
SHOWN_WHOLE = ("well", "http-400", "http-401", "finish")
FORMS = {
    "itself": KEY,
    "its beginning": KEY[:12],
    "its end": KEY[-12:],
    "percent-encoded": quote(KEY, safe=""),
    "base64": base64.b64encode(KEY.encode()).decode().rstrip("="),
    "hexadecimal": KEY.encode().hex(),
}


class Handler(BaseHTTPRequestHandler):
    """A provider that gives its key away wherever it can."""

    protocol_version = "HTTP/1.1"
    asked: list[str]

    def do_GET(self) -> None:
        self.give({"object": "list", "data": [{"id": model, "object": "model"} for model in MODELS]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        self.asked.append(str(self.headers["authorization"]))
        key = self.asked[-1].removeprefix("Bearer ")
        error = {"error": {"message": f"Incorrect API key: {' '.join(FORMS.values())}", "code": key, "param": key}}
        model = body["model"]
        finish = key if model == "finish" else "stop"
        if model.startswith("http-"):
            self.give(error, int(model[5:]))
        elif model == "broken":
            self.give({"choices": key})
        elif body.get("stream"):
            choices = [{"index": 0, "delta": {"content": "Hello"}, "finish_reason": finish}]
            events = [error] if model == "erring" else [{"id": "c", "object": "chat.completion.chunk", "created": 1,
                      "model": "m", "choices": choices}]  # fmt: skip
            data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
            self.give(data.encode(), kind="text/event-stream")
        elif model == "erring":
            self.give(error)
        elif self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": at, "embedding": [at, 0.5]} for at in range(len(body["input"]))]
            self.give({"object": "list", "model": "m", "data": data})
        else:
            message = {"role": "assistant", "content": "Hello"}
            choice = {"index": 0, "message": message, "finish_reason": finish}
            self.give({"id": "c", "object": "chat.completion", "created": 1, "model": key, "choices": [choice]})

    def give(self, document: Any, status: int = 200, kind: str = "application/json") -> None:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def provider(serve: Callable[..., Any]) -> tuple[str, list[str]]:
    """Its address, and the credentials that it was sent."""
    asked: list[str] = []
    server = serve(type("Bound", (Handler,), {"asked": asked}))
    return f"http://127.0.0.1:{server.server_port}/v1", asked


def test_no_command_tool_or_file_of_a_hub_shows_a_key(
    server: Any, provider: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, asked = provider
    monkeypatch.setenv("ALG_CANARY_KEY", KEY)
    for name in ("OPENAI_LOG", "ANTHROPIC_LOG"):
        monkeypatch.setenv(name, "debug")
    # A provider for each model: one that fails must not open the circuit of the others.
    can = "chat: true, embed: true, stream: true"
    kind = f"kind: openai_compatible, url: '{url}', key_env: ALG_CANARY_KEY"
    providers = "".join(f"  work-{model}: {{{kind}, models: [{{name: {model}, {can}}}]}}\n" for model in MODELS)
    server.home.mkdir(exist_ok=True)
    (server.home / "config.yaml").write_text(
        f"hub: {{log_level: debug}}\ngateway: {{discover: false, deadline_seconds: 20}}\nproviders:\n{providers}",
        encoding="utf-8",
    )
    said: dict[str, str] = {}

    def alg(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = server.alg(*arguments, check=False, stdin=subprocess.DEVNULL)
        said[" ".join(arguments)] = done.stdout + done.stderr
        return done

    for model in MODELS:
        alg("complete", "--model", f"work-{model}/{model}", "What is a lease?")
        if model in SHOWN_WHOLE:
            alg("complete", "--model", f"work-{model}/{model}", "What is a lease?", "--json")
    alg("complete", "--model", "work-well/well", f"Is {KEY[:3]}... a good key?")
    alg("embed", "--model", "work-well/well", "a text")
    for arguments in (("health", "--probe"), ("health", "--json"), ("models",), ("preview", "x")):
        alg("gateway", *arguments)
    listed = alg("receipts", "list", "--json", "--limit", "100").stdout
    assert '"receipts"' in listed, listed
    receipts = json.loads(listed)["receipts"]
    assert len(receipts) >= len(MODELS) + len(SHOWN_WHOLE) + 2
    for receipt in receipts[:4]:
        alg("receipts", "show", receipt["id"])
        alg("runs", "replay", receipt["id"])
    for arguments in (("receipts", "verify"), ("doctor",), ("doctor", "--json"), ("hub", "status"), ("mode",)):
        alg(*arguments)
    client = server.client("canary-client")
    for model in SHOWN_WHOLE:
        messages = [{"role": "user", "content": "What is a lease?"}]
        call = client.start_call("gateway_chat", messages=messages, model=f"work-{model}/{model}")
        said[f"gateway_chat {model}"] = json.dumps(client.answer(call))
    said["gateway_health"] = json.dumps(client.answer(client.start_call("gateway_health")))
    server.close()

    assert set(asked) == {f"Bearer {KEY}"}
    assert len(asked) > len(MODELS) + 2 * len(SHOWN_WHOLE)
    for part in ("refuses us", "HTTP 500", "Hello"):
        assert any(part in text for text in said.values())
    left = {
        str(path.relative_to(server.home)): path.read_bytes()
        for path in server.files_below(server.home)
        if path.is_file()
    }
    assert any(name.startswith("gateway/runs/") for name in left)
    if (server.repo / ".git").exists():
        objects = ["git", "-C", server.repo, "cat-file", "--batch-all-objects", "--batch"]
        left["objects"] = subprocess.run(objects, capture_output=True, check=True, timeout=60).stdout
    left |= {name: text.encode() for name, text in said.items()}
    told = [f"{where}: {name}" for where, text in left.items() for name, form in FORMS.items() if form.encode() in text]
    assert not told, told
