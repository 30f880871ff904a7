"""Keys that are planted and then looked for: in all that a run of everything leaves behind, says and throws."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from conftest import Asked, Handler, Peer, Peers

# No scanner knows their shape, and they look different percent-encoded.
IN_ENVIRONMENT = "zq+Canary/7Hf2=Tn5&Xw8#Lm3"
IN_KEYCHAIN = "wk/Sparrow+3Bd9=Rv6&Yc4#Pj1"
RUN = Path(__file__).with_name("canary_run.py")
STATUSES = (400, 401, 402, 403, 404, 408, 413, 422, 429, 500, 503, 529)
MODELS = [
    "well",
    *(f"http-{status}" for status in STATUSES),
    "redirect",
    "hang",
    "cut",
    "malformed",
    "erring",
    "finish",
    "shapeless",
    "named",
]


def forms(key: str) -> dict[str, bytes]:
    """How a key may be written down."""
    found = {
        "itself": key,
        "its beginning": key[:12],
        "its end": key[-12:],
        "percent-encoded": quote(key, safe=""),
        "percent-encoded in part": quote(key),
        "as JSON": json.dumps(key)[1:-1],
        "base64": base64.b64encode(key.encode()).decode().rstrip("="),
        "base64 for URLs": base64.urlsafe_b64encode(key.encode()).decode().rstrip("="),
        "hexadecimal": key.encode().hex(),
    }
    return {name: form.encode() for name, form in found.items()}


def quoting(asked: Asked) -> tuple[str, str]:
    """The key of a request, and a text that gives it away in many ways."""
    key = asked.headers.get("authorization", "").removeprefix("Bearer ") or asked.headers.get("x-api-key", "")
    said = " ".join(form.decode() for form in forms(key).values())
    return key, f"Incorrect API key provided: {said}"


def play(peers: Peers) -> Any:
    """A provider that quotes the key wherever it can."""

    def playing(handler: Handler, asked: Asked) -> None:
        if asked.method == "GET":
            peers.well(handler, asked)
            return
        if not asked.body:  # whoever asked left while it did
            return
        key, words = quoting(asked)
        error = {"error": {"message": words, "type": words, "code": key, "param": key}, "message": words}
        model = str(asked.json["model"])
        streams = bool(asked.json.get("stream"))
        if model.startswith("http-"):
            handler.give(error, int(model[5:]), www_authenticate=f"Bearer {key}", x_request_id=key, retry_after=key)
        elif model == "redirect":
            handler.give(error, 307, location=f"http://127.0.0.1:9/?key={quote(key)}")
        elif model == "hang":
            handler.hang()
        elif model == "cut":
            handler.send_response(200, "OK")
            handler.send_header("content-length", "99999")
            handler.end_headers()
            handler.wfile.write(f'{{"id": "{key}'.encode())
            handler.close_connection = True
        elif model == "malformed":
            handler.begin_stream()
            handler.event(f'{{"choices": "{key}')
        elif model == "erring":
            handler.begin_stream()
            handler.event(peers.chunk("Hello"))
            handler.event(error)
        elif model == "finish" and streams:
            handler.begin_stream()
            handler.event(peers.chunk("Hello", finish=key))
        elif model == "finish":
            handler.give(peers.completion(finish=key))
        elif model == "shapeless":
            handler.give({"choices": key, "content": {key: key}, "data": [key]})
        elif model == "named" and not streams:
            handler.give(peers.completion(model=key, system_fingerprint=key))
        else:
            peers.well(handler, asked)

    return playing


Left = dict[str, bytes]


def left_behind(peer: Peer, home: Path) -> Left:
    """All that a run leaves: each file of its home by its path, what it wrote, and the files' names."""
    given = {
        "ring": IN_KEYCHAIN,
        "models": MODELS,
        "keys": {"env": IN_ENVIRONMENT, "ring": IN_KEYCHAIN, "claude": IN_ENVIRONMENT},
        "providers": {
            "env": ("openai_compatible", peer.base, "ALG_CANARY_KEY"),
            "ring": ("openai_compatible", peer.base, "ALG_NOT_SET_KEY"),
            "claude": ("anthropic", peer.url, "ALG_CANARY_KEY"),
        },
    }
    loud = {"OPENAI_LOG": "debug", "ANTHROPIC_LOG": "debug", "ANY_LLM_LOG_LEVEL": "DEBUG"}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore", RUN, home],
        input=json.dumps(given).encode(),
        env={**os.environ, **loud, "ALG_CANARY_KEY": IN_ENVIRONMENT},
        capture_output=True,
        timeout=300,
        check=False,
    )
    said = done.stderr.decode("utf-8", "replace")
    assert b"shown: " in done.stdout, said[-4_000:]
    assert done.returncode == 1
    assert "ProviderFailure" in said.rstrip().splitlines()[-1]
    found = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
    return {**found, "stdout": done.stdout, "stderr": done.stderr, "names": "\n".join(found).encode()}


def test_keys_go_to_their_provider_in_its_header_and_are_nowhere_else(peers: Peers, tmp_path: Path) -> None:
    peer = peers.start(play(peers))
    left = left_behind(peer, tmp_path / "canary")
    assert_all_was_done(left, peer)
    told = [
        f"{where}: {name}: {around(text, form)}"
        for key in (IN_ENVIRONMENT, IN_KEYCHAIN)
        for name, form in forms(key).items()
        for where, text in left.items()
        if form in text
    ]
    assert not told, "\n".join(told[:40])
    assert_only_in_the_header(peer)


def assert_all_was_done(left: Left, peer: Peer) -> None:
    """Whether the run is one that could have given the keys away."""
    assert {asked.json["model"] for asked in peer.asked if asked.body} >= set(MODELS)
    receipts = b"".join(text for name, text in left.items() if name.startswith("gateway/receipts/"))
    for outcome in (b"answered", b"failed", b"incomplete", b"refused", b"cancelled", b"simulated"):
        assert b'"outcome":"' + outcome in receipts
    assert sum(name.startswith("gateway/runs/") for name in left) > 100
    assert sum(name.endswith(".pickle") for name in left) > 100
    assert b"it failed" in left["log"]
    assert len(left["stderr"]) > 100_000


def assert_only_in_the_header(peer: Peer) -> None:
    headers = [dict(asked.headers) for asked in peer.asked]
    sent = {(each.pop("authorization", None), each.pop("x-api-key", None)) for each in headers}
    assert sent == {(f"Bearer {IN_ENVIRONMENT}", None), (f"Bearer {IN_KEYCHAIN}", None), (None, IN_ENVIRONMENT)}
    bodies = [asked.body for asked in peer.asked if b"My key is" not in asked.body]
    rest = str([(asked.path, header) for asked, header in zip(peer.asked, headers, strict=True)]) + str(bodies)
    assert not [form for key in (IN_ENVIRONMENT, IN_KEYCHAIN) for form in forms(key).values() if form.decode() in rest]


def around(text: bytes, form: bytes) -> str:
    at = text.index(form)
    return repr(text[max(0, at - 150) : at + len(form) + 20].decode("utf-8", "replace"))
