"""Providers behind the port: those of the OpenAI dialect by our own client, Anthropic by `any-llm-sdk`.

The SDK loads with the first call that needs it, and nothing of it comes out. Its types and checks cost 2 ms a call and
0.2 ms a piece, and its loading two seconds, so the dialect that nearly every provider speaks does without (decision
0019).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway._dialect import (
    ErrorEvent,
    Limit,
    Said,
    answer_of,
    body_of,
    embedding_body_of,
    event_of,
    events,
    most_text,
    vectors_of,
)
from adaptive_llm_gateway.gateway._health import Server, has_sign, models_of, ollama_info, version_of
from adaptive_llm_gateway.gateway._keys import KeySource, without
from adaptive_llm_gateway.gateway._locality import Address
from adaptive_llm_gateway.gateway._port import FailureKind, Health, ProviderFailure
from adaptive_llm_gateway.gateway._transport import (
    CALL_HEADER,
    MOST_ANSWER,
    MOST_ERROR,
    Call,
    GuardedClient,
    guarded_client,
    quiet,
)
from adaptive_llm_gateway.gateway._values import Embedded, Finish, ModelAnswer, ModelInfo, ModelRequest, Piece, Usage

_NO_KEY = "none"  # what the SDKs are given for a key: the transport has the real one
_SHOWN = 64  # models of Ollama that are asked for what they can do
_GRACE = 5.0  # seconds for the rest of a stream after its finish
_ANTHROPIC_MOST = 8192  # tokens of an answer, where the request has no limit: its API wants one
_FINISH: dict[str, Finish] = {
    "stop": "stop",
    "eos": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "max_tokens": "length",
    "model_length": "length",
    "tool_calls": "tool",
    "function_call": "tool",
    "tool_use": "tool",
    "content_filter": "filter",
    "refusal": "filter",
}
_TOO_LONG = re.compile(
    r"context[ _-]?(length|size|window)|maximum context|n_ctx|too many tokens|(prompt|input) is too long", re.IGNORECASE
)
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """How a provider is reached.

    Args:
        name: as the user calls it.
        address: its base, where the API's paths begin (`.../v1`).
        dialect: of its API.
        server: what answers there, where that is known: whose list of models is read.
        key: where its key lies; without it none is sent.
        limit: the field that bounds the answer. Local servers differ in which they heed, so they are sent both.
        stream_usage: ask for the usage in streams; not every server takes that.
        loopback_only: refuse any connection that does not end on this machine.

    Raises:
        ConfigError: a key would travel unencrypted to another machine.
    """

    name: str
    address: Address
    dialect: Literal["openai", "anthropic"] = "openai"
    server: Server = "openai"
    key: KeySource | None = None
    limit: Limit = "both"
    stream_usage: bool = True
    loopback_only: bool = False

    def __post_init__(self) -> None:
        if self.key is not None and self.address.scheme != "https" and not self.loopback_only:
            raise ConfigError(
                f"the provider {self.name!r} at {self.address.url!r} would be sent its key unencrypted",
                hint="Give it an https address, or leave the key out.",
                provider=self.name,
            )


class HttpProvider:
    """A provider at an address, of either dialect. One event loop uses it; many calls may run side by side.

    Args:
        most_bytes: of an answer; more ends it with a failure.
    """

    def __init__(self, spec: ProviderSpec, *, most_bytes: int = MOST_ANSWER) -> None:
        self.name = spec.name
        self._spec = spec
        self._most_bytes = most_bytes
        self._marks = itertools.count(1)
        self._guarded: GuardedClient | None = None
        self._sdk: Any = None
        self._lock = asyncio.Lock()

    async def chat(self, request: ModelRequest, *, timeout: float) -> ModelAnswer:
        """The whole answer."""
        if self._spec.dialect == "anthropic":
            sdk = await self._loaded()

            async def ask(call: Call, mark: str) -> ModelAnswer:
                call.when_sent = request.sent
                answer = await sdk.acompletion(**_asked(request, mark, timeout))
                return self._whole(answer_of(answer.model_dump()), request, call)

        else:

            async def ask(call: Call, mark: str) -> ModelAnswer:
                call.when_sent = request.sent
                content = body_of(request, limit=self._spec.limit)
                document = await self._document(self._url("/chat/completions"), call, mark, timeout, body=content)
                return self._whole(answer_of(document), request, call)

        return await self._run(ask, timeout)

    async def stream(self, request: ModelRequest, *, timeout: float) -> AsyncIterator[Piece]:
        """The answer in pieces."""
        if self._spec.dialect == "anthropic":
            await self._loaded()
        else:
            await self._client()
        call, mark = await self._begin()
        call.when_sent = request.sent
        most = most_text(request)
        given = 0
        finish: Finish | None = None
        usage: Usage | None = None
        failure: ProviderFailure | None = None
        parts = self._parts(request, call, mark, timeout)
        try:
            async with contextlib.aclosing(parts):
                while True:
                    try:
                        async with asyncio.timeout(timeout if finish is None else min(timeout, _GRACE)):
                            part = await anext(parts)
                    except StopAsyncIteration:
                        break
                    usage = part.usage or usage
                    if part.text and finish is None:
                        given += len(part.text)
                        yield Piece(part.text)
                    if part.reason is not None and finish is None:
                        finish = _FINISH.get(part.reason)
                        if finish is None:
                            failure = self._incomplete(call, part.reason)
                            break
                    if given > most:  # it was told when to end
                        finish = "length"
                        break
        except ProviderFailure as error:
            failure = error.with_traceback(None)  # whose frames have the answer
        except Exception as error:  # noqa: BLE001 - whatever an SDK raises becomes a failure of ours
            if finish is None:  # else it was whole, and only the rest of the connection was not
                failure = self._failed(error, call, timeout, given=given > 0)
        finally:
            await self._end(call, mark)
        if failure is None and finish is None:
            failure = self._incomplete(call)
        if failure is not None:
            raise failure
        yield Piece(finish=finish, usage=usage)

    async def _parts(self, request: ModelRequest, call: Call, mark: str, timeout: float) -> AsyncGenerator[Said]:
        """What the events of a stream say."""
        if self._spec.dialect == "anthropic":
            sdk = await self._loaded()
            chunks = aiter(await sdk.acompletion(**_asked(request, mark, timeout, stream=True)))
            try:
                async for chunk in chunks:
                    yield event_of(chunk.model_dump())
            finally:
                with contextlib.suppress(Exception):  # what is left of a stream may break as it likes
                    await chunks.aclose()
            return
        guarded = await self._client()
        content = body_of(request, limit=self._spec.limit, stream=True, usage=self._spec.stream_usage)
        url = self._url("/chat/completions")
        async with guarded.client.stream("POST", url, content=content, headers=_headers(mark, body=True)) as response:
            if response.status_code != 200:
                raise self._failed(ValueError(), call, timeout)
            if response.headers.get("content-type", "").startswith("application/json"):  # it does not stream
                part = answer_of(json.loads(await response.aread()))
                if part is None or part.text is None:
                    raise ValueError("no answer, or none in text")
                yield part
                return
            async with contextlib.aclosing(events(response.aiter_raw())) as found:
                async for data in found:
                    yield event_of(json.loads(data))

    async def embed(self, texts: Sequence[str], model: str, *, timeout: float) -> Embedded:
        """The vectors of texts; their shape is checked."""
        if self._spec.dialect == "anthropic":
            raise ProviderFailure(f"{self.name!r} has no embeddings: its API offers none", kind="bad_request")
        if not texts:
            return Embedded([])

        async def ask(call: Call, mark: str) -> Embedded:
            content = embedding_body_of(texts, model)
            document = await self._document(self._url("/embeddings"), call, mark, timeout, body=content)
            found = vectors_of(document, len(texts))
            if found is None:
                raise ProviderFailure(
                    f"{self.name!r} answered no embeddings for {len(texts)!r} texts, or none of one length each",
                    kind="broken",
                    hint="Take a model that gives one vector a text (a pooled one).",
                )
            return found

        return await self._run(ask, timeout)

    async def models(self, *, timeout: float) -> list[ModelInfo]:
        """The models of its list."""
        spec = self._spec
        if spec.server == "ollama":
            return await self._ollama_models(timeout)
        url = f"{spec.address.root}/api/v1/models" if spec.server == "lmstudio" else self._url("/models")
        document = await self._json(url, timeout)
        if not has_sign("lmstudio" if spec.server == "lmstudio" else "openai", document):
            raise ProviderFailure(
                f"{self.name!r} at {url!r} answered something that is no list of models", kind="broken"
            )
        return models_of(spec.server, document)

    async def health(self, *, timeout: float) -> Health:
        """Whether its list of models can be had."""
        try:
            found = await self.models(timeout=timeout)
            version = await self._version(timeout)
        except ProviderFailure as failure:
            answered = failure.kind in ("broken", "redirect", "bad_request")  # as the provider never would
            return Health("other" if answered else "down", said=failure.message)
        return Health("up", server=self._spec.server, version=version, models=len(found), said="answers")

    async def close(self) -> None:
        """Close the connections."""
        async with self._lock:
            guarded, self._guarded, self._sdk = self._guarded, None, None
        if guarded is not None:
            await guarded.client.aclose()

    def _url(self, path: str) -> str:
        base = self._spec.address.url
        return f"{base}/v1{path}" if self._spec.dialect == "anthropic" else f"{base}{path}"

    # --- the client ---------------------------------------------------------------------------------------------

    async def _client(self) -> GuardedClient:
        async with self._lock:
            if self._guarded is None:
                self._guarded = await asyncio.to_thread(self._connected)
            return self._guarded

    def _connected(self) -> GuardedClient:
        if self._spec.dialect == "anthropic":
            import httpx as family  # noqa: PLC0415 - its SDK takes no httpx2 yet
        else:
            import httpx2 as family  # noqa: PLC0415 - loaded with the first call
        return guarded_client(
            family, self._spec.address, loopback_only=self._spec.loopback_only, most_bytes=self._most_bytes
        )

    async def _loaded(self) -> Any:
        guarded = await self._client()
        async with self._lock:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(self._make, guarded.client)
            return self._sdk

    def _make(self, client: Any) -> Any:
        """The SDK's provider: without a key, without retries, and with our client."""
        from any_llm import AnyLLM  # noqa: PLC0415 - takes two seconds

        made = cast("Any", AnyLLM)
        common = {"http_client": client, "max_retries": 0, "unified_exceptions": True}
        try:
            if self._spec.dialect == "anthropic":
                return made.create("anthropic", api_key=_NO_KEY, api_base=self._spec.address.url, **common)
            return made.create_openai_compatible(
                self.name, api_base=self._spec.address.url, api_key=_NO_KEY, organization="", project="", **common
            )
        finally:
            quiet()  # once more: an SDK that loads with OPENAI_LOG or ANTHROPIC_LOG set raises its voice

    async def _begin(self) -> tuple[Call, str]:
        guarded = await self._client()
        key = await self._spec.key.resolve(self.name) if self._spec.key is not None else None
        call = Call(key=key, auth="x-api-key" if self._spec.dialect == "anthropic" else "bearer")
        mark = str(next(self._marks))
        guarded.calls[mark] = call
        return call, mark

    async def _end(self, call: Call, mark: str) -> None:
        if self._guarded is not None:
            self._guarded.calls.pop(mark, None)
        await call.release()

    async def _run(self, ask: Callable[[Call, str], Awaitable[_Answer]], timeout: float) -> _Answer:
        call, mark = await self._begin()
        try:
            async with asyncio.timeout(timeout):
                return await ask(call, mark)
        except ProviderFailure as error:
            failure = error.with_traceback(None)  # whose frames have the answer
        except Exception as error:  # noqa: BLE001 - whatever an SDK or a server does becomes a failure of ours
            failure = self._failed(error, call, timeout)
        finally:
            await self._end(call, mark)
        raise failure  # outside the handler: an SDK's error, which has the request, is not chained

    async def _document(self, url: str, call: Call, mark: str, timeout: float, *, body: bytes | None = None) -> object:
        """The JSON that an address answers, without any SDK."""
        guarded = await self._client()
        headers = _headers(mark, body=body is not None, anthropic=self._spec.dialect == "anthropic")
        response = await (
            guarded.client.get(url, headers=headers)
            if body is None
            else guarded.client.post(url, headers=headers, content=body)
        )
        if response.status_code != 200:
            raise self._failed(ValueError(), call, timeout)
        return json.loads(response.content)

    async def _json(self, url: str, timeout: float, *, body: object = None) -> object:
        """A call for the JSON of an address."""
        content = json.dumps(body).encode() if body is not None else None
        return await self._run(lambda call, mark: self._document(url, call, mark, timeout, body=content), timeout)

    async def _ollama_models(self, timeout: float) -> list[ModelInfo]:
        root = self._spec.address.root
        document = await self._json(f"{root}/api/tags", timeout)
        if not has_sign("ollama", document):
            raise ProviderFailure(
                f"{self.name!r} at {root!r} is not Ollama: its list of models has another form", kind="broken"
            )
        listed = models_of("ollama", document)
        entries = {str(entry["name"]): entry for entry in cast("Any", document)["models"]}
        found: list[ModelInfo] = []
        for model in listed[:_SHOWN]:
            try:
                shown = await self._json(f"{root}/api/show", timeout, body={"model": model.name})
            except ProviderFailure:
                shown = None  # what it can do stays unknown
            found.append(ollama_info(model.name, entries[model.name], shown))
        return found + listed[_SHOWN:]

    async def _version(self, timeout: float) -> str | None:
        path = {"ollama": "/api/version", "llamacpp": "/props", "vllm": "/version"}.get(self._spec.server)
        if path is None:
            return None
        try:
            return version_of(await self._json(f"{self._spec.address.root}{path}", timeout))
        except ProviderFailure:
            return None

    # --- what is asked, and what comes back ---------------------------------------------------------------------

    def _whole(self, answer: Said | None, request: ModelRequest, call: Call) -> ModelAnswer:
        if answer is None:
            raise ProviderFailure(f"{self.name!r} answered without a choice", kind="broken")
        finish = _FINISH.get(answer.reason) if answer.reason is not None else None
        if finish is None:
            raise self._incomplete(call, answer.reason)
        text = answer.text
        if text is None:
            raise ProviderFailure(f"{self.name!r} answered something that is no text", kind="broken")
        most = most_text(request)
        if len(text) > most:
            text, finish = text[: int(most)], "length"
        model = without(call.key, answer.model) if answer.model is not None else None
        return ModelAnswer(text, finish, answer.usage or Usage(None, None), model[:200] if model else request.model)

    # --- failures -----------------------------------------------------------------------------------------------

    def _incomplete(self, call: Call, reason: object = None) -> ProviderFailure:
        """It ended, and not for a reason that we know."""
        said = f"with {without(call.key, reason)[:40]!r}" if isinstance(reason, str) else "without saying why"
        return ProviderFailure(f"the answer of {self.name!r} is not whole: it ended {said}", kind="incomplete")

    def _failed(self, error: Exception, call: Call, timeout: float, *, given: bool = False) -> ProviderFailure:
        """Our failure for whatever was raised, by what the transport saw rather than by an SDK's words."""
        for raised in _chain(error):
            if isinstance(raised, ErrorEvent):
                call.said = without(call.key, raised.said[:MOST_ERROR])
        kind, what, hint = _kind_of(error, call, timeout, given=given)
        words = "" if kind in ("auth", "redirect") else _words(call)  # who refuses a key likes to quote it
        failure = ProviderFailure(
            without(call.key, f"{self.name!r} at {self._spec.address.url!r} {what}{words}"),
            kind=kind,
            retry_after=call.retry_after,
            status=call.status if call.status != 200 else None,
            hint=hint,
            sent=call.sent,
        )
        return failure.with_traceback(None)


def _asked(request: ModelRequest, mark: str, timeout: float, *, stream: bool = False) -> dict[str, Any]:
    """The arguments of the SDK's call, to Anthropic."""
    asked: dict[str, Any] = {
        "model": request.model,
        "messages": [{"role": message.role, "content": message.text} for message in request.messages],
        "temperature": request.temperature,
        "stop": list(request.stop) or None,
        "response_format": {"type": "json_object"} if request.json else None,
        "max_tokens": request.max_tokens or _ANTHROPIC_MOST,
        "stream": stream or None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return {**given, "extra_headers": {CALL_HEADER: mark}, "timeout": timeout}


def _headers(mark: str, *, body: bool, anthropic: bool = False) -> dict[str, str]:
    """The headers of a request without an SDK; the transport lets nothing else through."""
    headers = {CALL_HEADER: mark, "accept": "application/json"}
    if body:
        headers["content-type"] = "application/json"
    if anthropic:
        headers["anthropic-version"] = "2023-06-01"
    return headers


def _kind_of(error: Exception, call: Call, timeout: float, *, given: bool) -> tuple[FailureKind, str, str | None]:
    """The kind, what happened, and what to do."""
    names = {kind.__name__ for raised in _chain(error) for kind in type(raised).__mro__}
    status = call.status
    if call.stopped is not None:
        kind: FailureKind = "refused" if call.stopped_by in ("peer", "address") else "broken"
        return kind, f"was left: {call.stopped}", None
    if status is not None and status != 200:
        return _kind_of_status(status, call)
    if names & {"TimeoutError", "TimeoutException", "APITimeoutError"}:
        return "timeout", f"did not answer within {timeout:g} s", None
    if "ConnectError" in names:
        return "refused", "cannot be reached", "Check that it runs, and its address."
    if given:
        return "incomplete", "broke off its answer", None
    if not call.sent:
        return "bad_request", f"cannot be asked that ({type(error).__name__})", None
    # An APIError itself, and none of its kinds, is how the SDK tells an error within a stream.
    if any(isinstance(raised, ErrorEvent) or type(raised).__name__ == "APIError" for raised in _chain(error)):
        return "server", "sent an error instead of an answer", None
    return "broken", f"answered what its API does not promise ({type(error).__name__})", None


def _kind_of_status(status: int, call: Call) -> tuple[FailureKind, str, str | None]:
    what = f"answered HTTP {status}"
    if 300 <= status < 400:
        return "redirect", f"{what}, a redirect, which is not followed", "Set the address that answers by itself."
    if status in (401, 402, 403):
        return "auth", f"refuses us (HTTP {status})", "Check the provider's key and what it may do."
    if status == 413 or (status in (400, 422) and _TOO_LONG.search(call.said)):
        return "too_long", what, None
    if status in (408, 504):
        return "timeout", what, None
    if status == 429:
        return "rate_limited", what, None
    if status in (503, 529):
        return "overloaded", what, None
    return ("server", what, None) if status >= 500 else ("bad_request", what, None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those behind it."""
    pending, seen = [error], set[int]()
    while pending:
        raised = pending.pop()
        if id(raised) in seen:
            continue
        seen.add(id(raised))
        yield raised
        behind = (getattr(raised, "original_exception", None), raised.__cause__, raised.__context__)
        pending += [other for other in behind if isinstance(other, BaseException)]


def _words(call: Call) -> str:
    """What the provider gave as its reason: one short, quoted line; empty where there is none."""
    try:
        document = json.loads(call.said)
    except (ValueError, RecursionError):
        return ""
    for path in (("error", "message"), ("error",), ("message",), ("detail",)):
        found: Any = document
        for key in path:
            found = cast("dict[str, Any]", found).get(key) if isinstance(found, dict) else None
        if isinstance(found, str) and found.strip():
            return f" and said {' '.join(found.split())[:200]!r}"
    return ""
