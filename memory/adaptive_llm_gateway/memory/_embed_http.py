"""Vectors from an OpenAI-compatible endpoint (`POST {url}/embeddings`): Ollama, vLLM, LM Studio, OpenAI and the like.

Shape of request and answer: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import ipaddress
import json
import math
import os
import re
import threading
import time
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self, cast
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._embed import EmbedderConfig, EmbedderUnavailable, QueryCache

if TYPE_CHECKING:
    import httpx2
    import numpy as np
    from numpy.typing import NDArray

_MAX_TEXTS = 32  # in one request; few enough that an answer comes soon and a retry repeats little
_MAX_CHARACTERS = 8_000  # of one text: within 8,192 tokens in any script
_MAX_DIMENSIONS = 8192
_BYTES_PER_NUMBER = 32
_ATTEMPTS = 4
_LONGEST_PAUSE = 20.0
_QUERY_TIMEOUT = 5.0
_QUERY_BREAK = 30.0  # seconds without another try after a query ran into its timeout
_RETRIED = {408, 429, 500, 502, 503, 504}


class HttpEmbedder:
    """An OpenAI-compatible endpoint.

    The key is read from the environment for each request and goes to the configured URL alone: redirects are not
    followed, a proxy from the environment is used for https only, and no message carries it. The answer is checked
    (size, count, order, length, finite numbers) before a number of it is used.

    `embed` tries four times where the endpoint is busy or not reached, and heeds `Retry-After` up to 20 s.
    `embed_query` tries once, for at most 5 s, and after such a wait in vain refuses at once for 30 s: a search can do
    without.

    Args:
        url: base URL, without user, query or fragment.
        model: the model's name at the endpoint.
        api_key_env: environment variable with the key; without it, no key is sent.
        dimensions: vector length to ask for; without it, none is asked for and the first answer settles it.
        timeout: seconds to connect, to wait for each part of the answer, and for the answer's body altogether.
        first_pause: seconds before the second attempt; doubled for each further one.

    Raises:
        ConfigError: the URL is not one that can be used.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        dimensions: int | None = None,
        timeout: float = 30.0,
        first_pause: float = 0.5,
    ) -> None:
        self._base, self._local = _checked(url)
        if api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", api_key_env):
            raise ConfigError(
                "embedder.api_key_env is not the name of an environment variable",  # not shown: it may be the key
                hint="Put the key into an environment variable, and that variable's name here.",
                key="embedder.api_key_env",
            )
        self._model = model
        self._api_key_env = api_key_env
        self._asked = dimensions
        self._dimensions = dimensions
        self._timeout = timeout
        self._first_pause = first_pause
        self._client: httpx2.Client | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._loaded = False
        self._queries = QueryCache()
        self._quiet_until = 0.0

    @classmethod
    def from_config(cls, config: EmbedderConfig) -> Self:
        """The endpoint as configured; see `create_embedder`."""
        for name, value in (("url", config.url), ("model", config.model)):
            if not value:
                raise ConfigError(
                    f"embedder.kind is 'http', but embedder.{name} is not set",
                    hint=f"Set embedder.{name}; for example url 'http://127.0.0.1:11434/v1', model 'nomic-embed-text'.",
                    key=f"embedder.{name}",
                )
        return cls(
            config.url or "",
            config.model or "",
            api_key_env=config.api_key_env,
            dimensions=config.dimensions,
            timeout=config.timeout,
        )

    @property
    def id(self) -> str:
        """`http:<url>:<model>:<dimensions>`."""
        return f"http:{self._base}:{self._model}:{self.dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of a vector; asks the endpoint where it was neither configured nor seen yet."""
        if self._dimensions is None:
            self.load()
        assert self._dimensions is not None  # noqa: S101 - load settles it or raises
        return self._dimensions

    @property
    def local(self) -> bool:
        """Whether the URL's host is this machine's loopback."""
        return self._local

    def load(self) -> None:
        """Ask for one vector, to know that the endpoint answers and how long its vectors are."""
        if not self._loaded:
            self._request(["ready"], attempts=_ATTEMPTS, timeout=self._timeout)
            self._loaded = True

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimensions), in requests of 32 texts; see `Embedder.embed`."""
        import numpy as np  # noqa: PLC0415

        parts = [
            self._request(texts[start : start + _MAX_TEXTS], attempts=_ATTEMPTS, timeout=self._timeout)
            for start in range(0, len(texts), _MAX_TEXTS)
        ]
        return np.concatenate(parts) if parts else np.empty((0, self.dimensions), dtype=np.float32)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, tried once; see `Embedder.embed_query`."""
        text = text[:_MAX_CHARACTERS]
        known = self._queries.get(text)
        if known is not None:
            return known
        if time.monotonic() < self._quiet_until:
            raise self._error("timeout", "did not answer a query in time and is left alone for a while")
        try:
            vectors = self._request([text], attempts=1, timeout=min(self._timeout, _QUERY_TIMEOUT))
        except EmbedderUnavailable as error:
            if error.details["reason"] == "timeout":
                self._quiet_until = time.monotonic() + _QUERY_BREAK
            raise
        return self._queries.put(text, vectors[0])

    def close(self) -> None:
        """Close the connections; a pause between attempts ends at once."""
        self._closed.set()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        self._queries.clear()

    def _request(self, texts: Sequence[str], *, attempts: int, timeout: float) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self._model, "input": [_sendable(text) for text in texts]}
        if self._asked is not None:
            body["dimensions"] = self._asked
        content = json.dumps(body).encode()
        limit = 65_536 + len(texts) * (self._dimensions or _MAX_DIMENSIONS) * _BYTES_PER_NUMBER
        for attempt in range(1, attempts + 1):
            outcome, pause = self._attempt(content, limit, timeout, attempt)
            if not isinstance(outcome, EmbedderUnavailable):
                return self._vectors(outcome, len(texts))
            if pause is None or attempt == attempts:
                raise outcome
            if self._closed.wait(pause):
                break
        raise self._error("closed", "is closed")

    def _attempt(
        self, content: bytes, limit: int, timeout: float, attempt: int
    ) -> tuple[bytes | EmbedderUnavailable, float | None]:
        """The answer's body; or why there is none, with the seconds after which to try again, if at all."""
        import httpx2  # noqa: PLC0415 - loaded with the first request

        key = self._key()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        pause = retry_pause(attempt, None, first=self._first_pause)
        # The library's own errors are not chained: they carry the request, and that carries the key.
        try:
            with self._connected().stream(
                "POST", f"{self._base}/embeddings", content=content, headers=headers, timeout=timeout
            ) as response:
                answer = _read(response, limit if response.status_code == 200 else 65_536, timeout)
        except httpx2.TimeoutException:
            return self._error("timeout", f"did not answer within {timeout:g} s"), pause
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            text = _without(key, f"{type(error).__name__}: {error}")
            return self._error("unreachable", f"cannot be reached ({text})"), pause
        except _BadAnswerError as error:
            return self._error("answer", str(error)), None
        except RuntimeError:  # the client was closed under us
            return self._error("closed", "is closed"), None
        status = response.status_code
        if status == 200:
            return answer, None
        if status in (401, 403):
            return self._error(
                "refused",
                f"refuses us (HTTP {status})",
                hint=f"Check the key in the environment variable {self._api_key_env!r}."
                if self._api_key_env
                else "Name the environment variable that holds the key in embedder.api_key_env.",
                status=status,
            ), None
        if status in _RETRIED:
            pause = retry_pause(attempt, response.headers.get("retry-after"), first=self._first_pause)
            return self._error("status", f"answered HTTP {status}{_said(answer, key)}", status=status), pause
        if 300 <= status < 400:
            return self._error(
                "status",
                f"answered with a redirect (HTTP {status}), which is not followed",
                hint="Set embedder.url to the address that answers by itself.",
                status=status,
            ), None
        return self._error(
            "status",
            f"answered HTTP {status}{_said(answer, key)}",
            hint="Check embedder.url (it ends before '/embeddings') and embedder.model.",
            status=status,
        ), None

    def _vectors(self, answer: bytes, count: int) -> NDArray[np.float32]:
        import numpy as np  # noqa: PLC0415

        try:
            rows = np.array(_parse(answer, count))
        except _BadAnswerError as error:
            raise self._error("answer", str(error)) from None
        except (ValueError, OverflowError):
            raise self._error("answer", "answered vectors of different lengths") from None
        if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not 0 < rows.shape[1] <= _MAX_DIMENSIONS:
            raise self._error("answer", "answered something that is no vectors of numbers")
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise self._error("answer", "answered a vector that is zero or not finite")
        with self._lock:
            if self._dimensions is None:
                self._dimensions = rows.shape[1]
            wanted = self._dimensions
        if rows.shape[1] != wanted:
            raise self._error(
                "wrong_dimension",
                f"answered vectors of {rows.shape[1]!r} numbers, not {wanted!r}",
                hint="Set embedder.dimensions to what the model gives, or leave it empty, and restart the hub.",
            )
        self._quiet_until = 0.0
        return (rows / norms).astype(np.float32)

    def _connected(self) -> httpx2.Client:
        import httpx2  # noqa: PLC0415

        with self._lock:
            if self._closed.is_set():
                raise RuntimeError("closed")
            if self._client is None:
                # A proxy of an https request sees neither text nor key; of an http request it would see both.
                self._client = httpx2.Client(
                    follow_redirects=False, trust_env=self._base.startswith("https:"), timeout=self._timeout
                )
            return self._client

    def _key(self) -> str | None:
        if self._api_key_env is None:
            return None
        key = os.environ.get(self._api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            what = "carries what no key does" if key else "is not set"
            raise EmbedderUnavailable(
                f"the environment variable {self._api_key_env!r} with the embedding endpoint's key {what}",
                hint=f"Set {self._api_key_env} where the hub starts, and restart it.",
                reason="key_missing",
            )
        return key

    def _error(self, reason: str, what: str, *, hint: str | None = None, **details: Any) -> EmbedderUnavailable:
        return EmbedderUnavailable(
            f"the embedding endpoint {self._base!r} {what}",
            hint=hint or "Check that the endpoint runs. Until it answers, search is lexical.",
            reason=reason,
            url=self._base,
            **details,
        )


class _BadAnswerError(Exception):
    """The answer is not what the API promises; the text completes 'the endpoint ...'."""


def retry_pause(attempt: int, retry_after: str | None, *, first: float, now: float | None = None) -> float:
    """Seconds to wait after a failed attempt (1, 2, ...): what `Retry-After` asks for, else doubling; at most 20.

    Args:
        attempt: the attempt that failed, from 1.
        retry_after: the header's value, seconds or an HTTP date (RFC 9110, 10.2.3); anything else is ignored.
        first: the pause after the first attempt, without a header.
        now: Unix time, for a date; the clock's by default.
    """
    pause = first * 2 ** (attempt - 1)
    if retry_after is not None:
        try:
            pause = float(retry_after)
        except ValueError:
            try:
                date = parsedate_to_datetime(retry_after)
                date = date if date.tzinfo else date.replace(tzinfo=UTC)
                pause = date.timestamp() - (time.time() if now is None else now)
            except (ValueError, OverflowError):
                pass
    return min(max(pause, 0.0), _LONGEST_PAUSE) if math.isfinite(pause) else _LONGEST_PAUSE


def _checked(url: str) -> tuple[str, bool]:
    """The base URL without a trailing slash, and whether its host is the loopback."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(
            "embedder.url is not a URL", hint="Write it as 'https://host/v1'.", key="embedder.url"
        ) from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            "embedder.url carries a user, a query or a fragment",  # not shown: there may be a key in it
            hint="Leave them out, and name the environment variable that holds the key in embedder.api_key_env.",
            key="embedder.url",
        )
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise ConfigError(
            f"embedder.url is {url!r}, which is no http or https URL",
            hint="Write it as 'https://host/v1'.",
            key="embedder.url",
        )
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    return url.rstrip("/?#"), local


def _sendable(text: str) -> str:
    """The text as an endpoint takes it: cut, without lone surrogates, and never blank, which some refuse."""
    cut = text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return cut if cut.strip() else "."


def _read(response: httpx2.Response, limit: int, timeout: float) -> bytes:
    """The body, never more than `limit` bytes of it in memory nor longer than `timeout` seconds under way."""
    import httpx2  # noqa: PLC0415

    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise _BadAnswerError("answered compressed, which was not asked for")
    deadline = time.monotonic() + timeout
    read = bytearray()
    for block in response.iter_raw():
        read += block
        if len(read) > limit:
            raise _BadAnswerError(f"answered more than the {limit!r} bytes that fit the question")
        if time.monotonic() > deadline:
            raise httpx2.ReadTimeout("the body took too long")
    return bytes(read)


def _parse(answer: bytes, count: int) -> list[list[float]]:
    """The vectors in the order of the texts; that they are numbers of one length is not checked here."""
    try:
        parsed: object = json.loads(answer)
    except (ValueError, RecursionError):
        raise _BadAnswerError("answered something that is no JSON") from None
    data = cast("dict[str, object]", parsed).get("data") if isinstance(parsed, dict) else None
    if not isinstance(data, list):
        raise _BadAnswerError("answered without a list 'data'")
    items = cast("list[object]", data)
    if len(items) != count:
        raise _BadAnswerError(f"answered {len(items)!r} vectors for {count!r} texts")
    ordered: dict[int, list[float]] = {}
    for position, item in enumerate(items):
        entry = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        index, vector = entry.get("index", position), entry.get("embedding")
        if not isinstance(vector, list) or isinstance(index, bool) or not isinstance(index, int):
            raise _BadAnswerError("answered an entry without 'index' or a list 'embedding'")
        ordered[index] = cast("list[float]", vector)
    if set(ordered) != set(range(count)):
        raise _BadAnswerError("answered entries whose 'index' does not number the texts")
    return [ordered[position] for position in range(count)]


def _said(answer: bytes, key: str | None) -> str:
    """What an endpoint gave as its reason: one short, quoted line without the key; empty where there is none."""
    try:
        error = json.loads(answer)["error"]
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" and said {_without(key, text)[:200]!r}" if isinstance(text, str) else ""


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "***") if key else text
