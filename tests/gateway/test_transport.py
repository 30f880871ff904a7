"""What leaves for a provider, and what may come back. No SDK is needed for this: the client is the same."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway import HttpProvider, KeySource, ProviderFailure, ProviderSpec, address_of
from adaptive_llm_gateway.gateway._transport import MOST_ERROR, seconds_of

if TYPE_CHECKING:
    from conftest import Peers

Result = TypeVar("Result")
CANARY = "sk-canary-0123456789abcdef-CANARY"


def using(spec: ProviderSpec, work: Callable[[HttpProvider], Awaitable[Result]], **settings: Any) -> Result:
    async def run() -> Result:
        provider = HttpProvider(spec, **settings)
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def spec_of(base: str, **settings: Any) -> ProviderSpec:
    settings.setdefault("loopback_only", True)
    return ProviderSpec("there", address_of(base), **settings)


def failure_of(spec: ProviderSpec, **settings: Any) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        using(spec, lambda provider: provider.models(timeout=5), **settings)
    return caught.value


def test_no_proxy_of_the_environment_hears_of_a_request(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, proxy = peers.start(), peers.start()
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert [model.name for model in using(spec_of(peer.base), lambda p: p.models(timeout=5))] == ["m"]
    assert not proxy.asked


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_its_target_hears_nothing(peers: Peers, status: int) -> None:
    other = peers.start()
    peer = peers.start(lambda h, asked: h.give({}, status, location=f"{other.base}/models"))
    failure = failure_of(spec_of(peer.base))
    assert (failure.kind, failure.status) == ("redirect", status)
    assert not other.asked


def test_only_known_headers_leave(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = peers.start()
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "leaked")
    using(spec_of(peer.base), lambda p: p.models(timeout=5))
    assert set(peer.asked[0].headers) <= {"host", "accept", "accept-encoding", "connection", "user-agent"}
    assert peer.asked[0].headers["user-agent"] == "adaptive-llm-gateway"


def test_the_key_goes_to_the_wire_alone(
    peers: Peers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(handler: Any, asked: Any) -> None:
        handler.give({"error": {"message": f"bad key {asked.headers['authorization']}"}}, 400)

    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("THERE_KEY", CANARY)
    peer = peers.start(refuse)
    spec = spec_of(peer.base, key=KeySource("THERE_KEY"))
    failure = failure_of(spec)
    assert peer.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    told = [repr(spec), str(failure), repr(failure), json.dumps(failure.as_dict()), caplog.text]
    told += traceback.format_exception(failure)
    assert "bad key" in failure.message
    assert not [text for text in told if CANARY[:12] in text]
    assert failure.__context__ is None


def test_a_key_is_looked_up_for_each_call(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = peers.start()

    async def twice(provider: HttpProvider) -> None:
        monkeypatch.setenv("THERE_KEY", "first-key")
        await provider.models(timeout=5)
        monkeypatch.setenv("THERE_KEY", "second-key")
        await provider.models(timeout=5)

    using(spec_of(peer.base, key=KeySource("THERE_KEY")), twice)
    assert [asked.headers["authorization"] for asked in peer.asked] == ["Bearer first-key", "Bearer second-key"]


@pytest.mark.parametrize("value", ["", "two words", "schlüssel", "a\x07b"])
def test_without_a_usable_key_nothing_is_sent(peers: Peers, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    peer = peers.start()
    monkeypatch.setenv("THERE_KEY", value)
    failure = failure_of(spec_of(peer.base, key=KeySource("THERE_KEY")))
    assert failure.kind == "auth"
    assert "THERE_KEY" in failure.message
    assert not peer.asked


def test_a_key_never_travels_unencrypted_to_another_machine() -> None:
    with pytest.raises(ConfigError, match="unencrypted"):
        spec_of("http://models.example/v1", key=KeySource("THERE_KEY"), loopback_only=False)


def test_a_key_in_the_place_of_its_variables_name_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        KeySource(CANARY)
    assert CANARY not in str(caught.value) + str(caught.value.hint)


def test_a_peer_that_is_not_of_the_loopback_gets_nothing(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    # The address was proved to be local, and then the name resolves to another machine: only the connection tells.
    from adaptive_llm_gateway.gateway import _transport

    def nowhere(text: str) -> bool:
        return False

    peer = peers.start()
    monkeypatch.setattr(_transport, "is_loopback", nowhere)  # patched: a test has no second machine
    failure = failure_of(spec_of(peer.base))
    assert failure.kind == "refused"
    assert "127.0.0.1" in failure.message
    assert failure.details["sent"] is False
    assert not peer.asked


def test_an_answer_has_a_most_of_bytes(peers: Peers) -> None:
    def flood(handler: Any, asked: Any) -> None:
        handler.begin_stream()
        while True:
            handler.wfile.write(b" " * 65_536)

    peer = peers.start(flood)
    failure = failure_of(spec_of(peer.base), most_bytes=1_000_000)
    assert failure.kind == "broken"
    assert "1000000 bytes" in failure.message
    assert peer.left.wait(10)


def test_an_errors_body_is_read_in_part(peers: Peers) -> None:
    peer = peers.start(lambda h, asked: h.give(b"x" * (4 * MOST_ERROR), 500))
    failure = failure_of(spec_of(peer.base))
    assert (failure.kind, failure.status) == ("server", 500)


def test_a_compressed_answer_is_refused(peers: Peers) -> None:
    peer = peers.start(lambda h, asked: h.give(b"x", content_encoding="gzip"))
    failure = failure_of(spec_of(peer.base))
    assert failure.kind == "broken"
    assert peer.asked[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "bad_request"),
        (401, "auth"),
        (403, "auth"),
        (404, "bad_request"),
        (408, "timeout"),
        (413, "too_long"),
        (422, "bad_request"),
        (429, "rate_limited"),
        (500, "server"),
        (502, "server"),
        (503, "overloaded"),
        (504, "timeout"),
        (529, "overloaded"),
    ],
)
def test_a_status_has_its_kind(peers: Peers, status: int, kind: str) -> None:
    peer = peers.start(lambda h, asked: h.give({"error": {"message": "no"}}, status))
    failure = failure_of(spec_of(peer.base))
    assert (failure.kind, failure.status) == (kind, status)
    assert len(peer.asked) == 1  # nobody asks again by itself


def test_a_failure_survives_pickling_whole(peers: Peers) -> None:
    peer = peers.start(lambda h, asked: h.give({}, 429, retry_after="7"))
    failure = failure_of(spec_of(peer.base))
    copy = pickle.loads(pickle.dumps(failure))  # noqa: S301
    assert (copy.kind, copy.retry_after, copy.status, copy.message) == ("rate_limited", 7.0, 429, failure.message)


@pytest.mark.parametrize(
    ("hint", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("61", 61.0),
        ("86401", 86401.0),
        ("soon", None),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("", None),
        (None, None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    ],
)
def test_a_hint_of_when_to_retry_is_read_as_it_was_said(hint: str | None, seconds: float | None) -> None:
    assert seconds_of(hint) == seconds


def test_a_hint_may_be_a_date_or_milliseconds() -> None:
    far = seconds_of("Thu, 01 Jan 2099 00:00:00 GMT")
    assert far is not None
    assert far > 86_400
    assert seconds_of("9", milliseconds="1500") == 1.5


def test_nobody_there_is_refused(peers: Peers) -> None:
    peer = peers.start()
    peers.stop()
    peers.__init__()
    assert failure_of(spec_of(peer.base)).kind == "refused"


def test_a_peer_that_hangs_is_left_in_time(peers: Peers) -> None:
    peer = peers.start(lambda h, asked: h.hang())
    with pytest.raises(ProviderFailure) as caught:
        using(spec_of(peer.base), lambda p: p.models(timeout=0.2))
    assert caught.value.kind == "timeout"


def test_a_provider_is_reached_over_a_unix_socket(peers: Peers, tmp_path: Path) -> None:
    place = tmp_path / "s"
    peer = peers.on_socket(place)
    spec = spec_of(f"unix://{place}:/v1")
    assert [model.name for model in using(spec, lambda p: p.models(timeout=5))] == ["m"]
    assert peer.asked[0].path == "/v1/models"


def test_a_cancelled_call_raises_what_the_task_expects(peers: Peers) -> None:
    peer = peers.start(lambda h, asked: h.hang())

    async def cancel(provider: HttpProvider) -> None:
        task = asyncio.create_task(provider.models(timeout=30))
        while not peer.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    using(spec_of(peer.base), cancel)


def test_importing_the_component_imports_no_sdk_and_no_client() -> None:
    code = (
        "import sys, adaptive_llm_gateway.gateway as part\n"
        "[getattr(part, name) for name in part.__all__]\n"
        "part.HttpProvider(part.ProviderSpec('x', part.address_of('http://127.0.0.1:1/v1')))\n"
        "heavy = {'any_llm', 'openai', 'anthropic', 'httpx', 'httpx2', 'keyring', 'pydantic', 'numpy'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_spec_is_a_value() -> None:
    spec = spec_of("http://127.0.0.1:1/v1")
    assert replace(spec, name="here").name == "here"
    assert spec.address.root == "http://127.0.0.1:1"
