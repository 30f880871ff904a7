"""Providers behind their port against real servers: what is asked, what comes back, and every way that it does not."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from adaptive_llm_gateway.gateway import (
    Embedded,
    HttpProvider,
    KeySource,
    Message,
    ModelAnswer,
    ModelRequest,
    Piece,
    ProviderFailure,
    ProviderPort,
    ProviderSpec,
    Usage,
    address_of,
)

if TYPE_CHECKING:
    from conftest import Peers

Result = TypeVar("Result")
CANARY = "sk-canary-0123456789abcdef-CANARY"
PROMPT = "PROMPT-canary: what is a lease?"
WAYS = ["whole", "stream"]


def asked_of(**settings: Any) -> ModelRequest:
    return ModelRequest((Message("system", "Be brief."), Message("user", PROMPT)), "m", **settings)


def using(base: str, work: Callable[[HttpProvider], Awaitable[Result]], *, most: int = 10**7, **spec: Any) -> Result:
    async def run() -> Result:
        spec.setdefault("loopback_only", True)
        provider = HttpProvider(ProviderSpec("there", address_of(base), **spec), most_bytes=most)
        try:
            return await work(provider)
        finally:
            await provider.close()

    return asyncio.run(run())


def ask(base: str, way: str, *, timeout: float = 10.0, request: ModelRequest | None = None, **settings: Any) -> Any:
    """The answer's text, whole or from pieces; `given` gets the pieces."""
    asked = request or asked_of()
    given: list[Piece] = settings.pop("given", [])

    async def work(provider: HttpProvider) -> str:
        if way == "whole":
            return (await provider.chat(asked, timeout=timeout)).text
        async for piece in provider.stream(asked, timeout=timeout):
            given.append(piece)
        assert given[-1].finish is not None
        return "".join(piece.text for piece in given)

    return using(base, work, **settings)


def fails(base: str, way: str, **settings: Any) -> ProviderFailure:
    with pytest.raises(ProviderFailure) as caught:
        ask(base, way, **settings)
    assert type(caught.value).__module__.startswith("adaptive_llm_gateway.")
    assert caught.value.__context__ is None
    return caught.value


# --- as it should be ------------------------------------------------------------------------------------------------


def test_an_answer_is_of_our_own_types(peers: Peers) -> None:
    answer = using(peers.start().base, lambda provider: provider.chat(asked_of(), timeout=10))
    assert answer == ModelAnswer(peers.text, "stop", Usage(3, 5), "m")


def test_a_stream_has_its_pieces_its_finish_and_its_usage(peers: Peers) -> None:
    given: list[Piece] = []
    assert ask(peers.start().base, "stream", given=given) == peers.text
    assert [piece.text for piece in given[:-1]] == peers.words
    assert given[-1] == Piece(finish="stop", usage=Usage(3, 5))


def test_embeddings_come_in_the_order_of_their_texts(peers: Peers) -> None:
    found = using(peers.start().base, lambda provider: provider.embed(["a", "b", "c"], "m", timeout=10))
    assert found == Embedded([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], Usage(1, None))


@pytest.mark.parametrize(
    ("limit", "fields"),
    [
        ("both", {"max_tokens": 7, "max_completion_tokens": 7}),
        ("max_tokens", {"max_tokens": 7}),
        ("max_completion_tokens", {"max_completion_tokens": 7}),
    ],
)
@pytest.mark.parametrize("way", WAYS)
def test_the_answers_limit_is_sent_under_the_names_that_the_server_heeds(
    peers: Peers, way: str, limit: Any, fields: dict[str, int]
) -> None:
    peer = peers.start()
    ask(peer.base, way, request=asked_of(max_tokens=7), limit=limit)
    sent = peer.asked[0].json
    assert {name: sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent} == fields


def test_nothing_is_sent_that_was_not_asked_for(peers: Peers) -> None:
    peer = peers.start()
    ask(peer.base, "whole")
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    assert {name: value for name, value in peer.asked[0].json.items() if value not in (None, False)} == {
        "model": "m",
        "messages": messages,
    }
    full = asked_of(temperature=0.5, stop=("END",), json=True)
    ask(peer.base, "whole", request=full)
    sent = peer.asked[1].json
    assert (sent["temperature"], sent["stop"], sent["response_format"]) == (0.5, ["END"], {"type": "json_object"})


def test_only_known_headers_leave_whatever_the_environment_says(peers: Peers, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_API_KEY", "OPENAI_COMPATIBLE_API_KEY"):
        monkeypatch.setenv(name, "leaked")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-leak: leaked")
    peer, other = peers.start(), peers.start()
    monkeypatch.setenv("OPENAI_BASE_URL", other.base)
    ask(peer.base, "whole")
    assert set(peer.asked[0].headers) <= {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "user-agent",
    }
    assert "leaked" not in str(peer.asked[0])
    assert not other.asked


def test_a_server_that_ignores_the_limit_is_cut(peers: Peers) -> None:
    def ramble(handler: Any, asked: Any) -> None:
        if not asked.json.get("stream"):
            handler.give(peers.completion("word " * 10_000))
            return
        handler.begin_stream()
        while True:
            handler.event(peers.chunk("word " * 100))

    peer = peers.start(ramble)
    given: list[Piece] = []
    assert len(ask(peer.base, "stream", request=asked_of(max_tokens=4), given=given)) < 2_000
    assert given[-1].finish == "length"
    assert peer.left.wait(10)
    answer = using(peer.base, lambda provider: provider.chat(asked_of(max_tokens=4), timeout=10))
    assert answer.finish == "length"
    assert len(answer.text) < 2_000


# --- as it should not be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("hint", "seconds"),
    [("0", 0.0), ("1", 1.0), ("59", 59.0), ("61", 61.0), ("86401", 86401.0), ("garbage", None), (None, None)],
)
def test_a_rate_limit_says_when_and_nobody_asks_again_by_itself(
    peers: Peers, way: str, hint: str | None, seconds: float | None
) -> None:
    headers = {} if hint is None else {"retry_after": hint}
    peer = peers.start(lambda h, asked: h.give({"error": {"message": "slow down"}}, 429, **headers))
    failure = fails(peer.base, way)
    assert (failure.kind, failure.status, failure.retry_after) == ("rate_limited", 429, seconds)
    assert len(peer.asked) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_rate_limit_may_name_a_date(peers: Peers, way: str) -> None:
    date = "Thu, 01 Jan 2099 00:00:00 GMT"
    failure = fails(peers.start(lambda h, asked: h.give({}, 429, retry_after=date)).base, way)
    assert failure.retry_after is not None
    assert failure.retry_after > 86_400


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (500, "policy and auth and timeout", "server"),
        (503, "", "overloaded"),
        (529, "", "overloaded"),
        (401, "no", "auth"),
        (404, "no such model", "bad_request"),
        (400, "This model's maximum context length is 8 tokens", "too_long"),
        (400, "temperature is out of range", "bad_request"),
    ],
)
def test_a_status_has_its_kind_whatever_its_words_resemble(
    peers: Peers, way: str, status: int, said: str, kind: str
) -> None:
    peer = peers.start(lambda h, asked: h.give({"error": {"message": said}}, status))
    failure = fails(peer.base, way)
    assert (failure.kind, failure.status) == (kind, status)
    assert len(peer.asked) == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_redirect_is_a_failure_and_its_target_gets_no_prompt(peers: Peers, way: str) -> None:
    other = peers.start()
    peer = peers.start(lambda h, asked: h.give({}, 307, location=f"{other.base}/chat/completions"))
    assert fails(peer.base, way).kind == "redirect"
    assert not other.asked


@pytest.mark.parametrize("way", WAYS)
def test_a_proxy_of_the_environment_gets_no_prompt(peers: Peers, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer, proxy = peers.start(), peers.start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    assert ask(peer.base, way) == peers.text
    assert not proxy.asked


@pytest.mark.parametrize("way", WAYS)
def test_nobody_there_is_refused(peers: Peers, way: str) -> None:
    peer = peers.start()
    peers.stop()
    peers.__init__()
    assert fails(peer.base, way).kind == "refused"


@pytest.mark.parametrize("way", WAYS)
def test_a_server_that_hangs_is_left_in_time(peers: Peers, way: str) -> None:
    assert ask(peers.start().base, way) == peers.text  # the SDK has loaded, which takes longer than the timeout below
    assert fails(peers.start(lambda h, asked: h.hang()).base, way, timeout=0.3).kind == "timeout"


def cut(handler: Any, peers: Peers, pieces: int) -> None:
    """Promises more than it sends."""
    handler.send_response(200)
    handler.send_header("content-type", "text/event-stream")
    handler.send_header("content-length", "99999")
    handler.end_headers()
    for word in peers.words[:pieces]:
        handler.event(peers.chunk(word))
    handler.close_connection = True


@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_a_stream_that_is_cut_is_not_whole(peers: Peers, pieces: int) -> None:
    given: list[Piece] = []
    failure = fails(peers.start(lambda h, asked: cut(h, peers, pieces)).base, "stream", given=given)
    assert failure.kind == ("incomplete" if pieces else "broken")
    assert [piece.text for piece in given] == peers.words[:pieces]


def test_a_whole_answer_that_is_cut_is_broken(peers: Peers) -> None:
    assert fails(peers.start(lambda h, asked: cut(h, peers, 0)).base, "whole").kind == "broken"


@pytest.mark.parametrize("ping", [False, True])
def test_a_stream_that_stalls_is_left_in_time_also_if_it_sends_comments(peers: Peers, ping: bool) -> None:
    def stall(handler: Any, asked: Any) -> None:
        handler.begin_stream()
        handler.event(peers.chunk("Hello"))
        while ping and not handler.peer.release.wait(0.05):
            handler.wfile.write(b": ping\n\n")
            handler.wfile.flush()
        handler.hang()

    given: list[Piece] = []
    failure = fails(peers.start(stall).base, "stream", timeout=0.5, given=given)
    assert failure.kind == "timeout"
    assert [piece.text for piece in given] == ["Hello"]


@pytest.mark.parametrize("line", ['{"choices": [{"delta": {"content": "lo', "[]", "7", '{"choices": 3}', "null"])
def test_a_malformed_line_is_never_passed_over(peers: Peers, line: str) -> None:
    def malformed(handler: Any, asked: Any) -> None:
        handler.begin_stream()
        handler.event(peers.chunk("Hel"))
        handler.event(line)
        handler.event(peers.chunk("!"))
        handler.event(peers.chunk(finish="stop"))
        handler.event("[DONE]")

    given: list[Piece] = []
    assert fails(peers.start(malformed).base, "stream", given=given).kind in ("incomplete", "broken")


@pytest.mark.parametrize("finish", [None, "abort", ""])
@pytest.mark.parametrize("way", WAYS)
def test_without_a_finish_that_we_know_an_answer_is_not_whole(peers: Peers, way: str, finish: str | None) -> None:
    def unfinished(handler: Any, asked: Any) -> None:
        if way == "whole":
            handler.give(peers.completion(finish=finish))
            return
        handler.begin_stream()
        handler.event(peers.chunk("Hello"))
        handler.event(peers.chunk(finish=finish))
        handler.event("[DONE]")

    assert fails(peers.start(unfinished).base, way).kind in ("incomplete", "broken")


@pytest.mark.parametrize("way", WAYS)
def test_an_oversized_answer_is_left(peers: Peers, way: str) -> None:
    def flood(handler: Any, asked: Any) -> None:
        handler.begin_stream()
        while True:
            handler.event(peers.chunk("x" * 65_536)) if way == "stream" else handler.wfile.write(b" " * 65_536)

    peer = peers.start(flood)
    failure = fails(peer.base, way, most=1_000_000)
    assert failure.kind == "broken"
    assert "1000000 bytes" in failure.message
    assert peer.left.wait(10)


def test_an_error_within_a_stream_is_one(peers: Peers) -> None:
    def erring(handler: Any, asked: Any) -> None:
        handler.begin_stream()
        handler.event(peers.chunk("Hello"))
        handler.event({"error": {"message": "out of memory", "code": 500}})

    failure = fails(peers.start(erring).base, "stream")
    assert failure.kind in ("incomplete", "server")
    assert "out of memory" in failure.message


@pytest.mark.parametrize("way", WAYS)
def test_an_error_with_the_status_of_an_answer_is_one(peers: Peers, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE_KEY", CANARY)
    peer = peers.start(lambda h, asked: h.give({"error": {"message": f"out of memory for {CANARY}"}}))
    failure = fails(peer.base, way, key=KeySource("THERE_KEY"))
    assert (failure.kind, failure.status) == ("server", None)
    assert "out of memory" in failure.message
    assert CANARY not in failure.message


def test_a_server_that_does_not_stream_answers_in_one_piece(peers: Peers) -> None:
    given: list[Piece] = []
    peer = peers.start(lambda h, asked: h.give(peers.completion()))
    assert ask(peer.base, "stream", given=given) == peers.text
    assert given == [Piece(peers.text), Piece(finish="stop", usage=Usage(3, 5))]


NO_TEXT = b'{"choices": [{"message": {"content": 3}, "finish_reason": "stop"}]}'


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', NO_TEXT]
)
def test_an_answer_of_another_form_is_a_failure(peers: Peers, way: str, body: bytes) -> None:
    failure = fails(peers.start(lambda h, asked: h.give(body)).base, way)
    assert failure.kind in ("broken", "incomplete")


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 0, "embedding": [[1.0], [2.0]]}, {"index": 1, "embedding": [[1.0], [2.0]]}],
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [2.0]}],
        [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}],
    ],
)
def test_embeddings_of_another_shape_are_refused(peers: Peers, data: list[Any]) -> None:
    document = {"object": "list", "model": "m", "data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    peer = peers.start(lambda h, asked: h.give(document))
    with pytest.raises(ProviderFailure) as caught:
        using(peer.base, lambda provider: provider.embed(["a", "b"], "m", timeout=10))
    assert caught.value.kind == "broken"


# --- what stays ours ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_neither_key_nor_prompt_is_in_a_failure(peers: Peers, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THERE_KEY", CANARY)
    peer = peers.start(lambda h, asked: h.give({"error": {"message": f"bad {asked.headers['authorization']}"}}, 500))
    failure = fails(peer.base, way, key=KeySource("THERE_KEY"))
    assert peer.asked[0].headers["authorization"] == f"Bearer {CANARY}"
    told = "".join(traceback.TracebackException.from_exception(failure, capture_locals=False).format())
    assert CANARY[:12] not in told + repr(failure) + str(failure.as_dict())
    assert "PROMPT-canary" not in told


def test_a_stream_that_is_left_closes_its_connection(peers: Peers) -> None:
    def endless(handler: Any, asked: Any) -> None:
        handler.begin_stream()
        while True:
            handler.event(peers.chunk("x" * 4096))

    peer = peers.start(endless)

    async def work(provider: HttpProvider) -> None:
        stream: Any = provider.stream(asked_of(), timeout=10)
        assert (await anext(stream)).text
        await stream.aclose()
        assert await asyncio.to_thread(peer.left.wait, 10)  # while the provider is still open

    using(peer.base, work)


def test_a_cancelled_call_closes_its_connection(peers: Peers) -> None:
    peer = peers.start(lambda h, asked: h.hang())

    async def work(provider: HttpProvider) -> None:
        task = asyncio.create_task(provider.chat(asked_of(), timeout=60))
        while not peer.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    using(peer.base, work)


def test_a_hundred_streams_side_by_side_lose_no_piece(peers: Peers) -> None:
    async def work(provider: HttpProvider) -> list[str]:
        async def one() -> str:
            return "".join([piece.text async for piece in provider.stream(asked_of(), timeout=60)])

        return await asyncio.gather(*(one() for _ in range(100)))

    assert using(peers.start().base, work) == [peers.text] * 100


def test_no_type_of_an_sdk_is_in_the_port() -> None:
    for name, method in inspect.getmembers(ProviderPort, inspect.isfunction):
        if not name.startswith("_") or name == "__init__":
            assert not [word for word in ("any_llm", "openai", "httpx") if word in str(inspect.signature(method))]


def test_no_value_that_crosses_the_port_is_an_sdks(peers: Peers, modules_of: Callable[[object], set[str]]) -> None:
    async def work(provider: HttpProvider) -> list[object]:
        pieces = [piece async for piece in provider.stream(asked_of(), timeout=10)]
        return [
            await provider.chat(asked_of(), timeout=10),
            *pieces,
            await provider.embed(["a"], "m", timeout=10),
            await provider.models(timeout=10),
            await provider.health(timeout=10),
        ]

    for value in using(peers.start().base, work):
        assert modules_of(value) <= {"builtins", "adaptive_llm_gateway"}


def test_the_dialect_of_nearly_all_needs_no_sdk(peers: Peers) -> None:
    run = (
        "import asyncio, sys\n"
        "import adaptive_llm_gateway.gateway as part\n"
        "request = part.ModelRequest((part.Message('user', 'x'),), 'm')\n"
        "async def main():\n"
        "    spec = part.ProviderSpec('x', part.address_of(sys.argv[1]), loopback_only=True)\n"
        "    provider = part.HttpProvider(spec)\n"
        "    await provider.chat(request, timeout=30)\n"
        "    assert [piece async for piece in provider.stream(request, timeout=30)]\n"
        "    await provider.embed(['a'], 'm', timeout=30)\n"
        "    await provider.close()\n"
        "asyncio.run(main())\n"
        "print(sorted({'any_llm', 'openai', 'anthropic', 'pydantic'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", run, peers.start().base]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=60, check=True)
    assert done.stdout == "[]\n"
