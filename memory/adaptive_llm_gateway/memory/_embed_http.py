"""Vectors from an OpenAI-compatible endpoint (`POST {url}/embeddings`): Ollama, vLLM, LM Studio, OpenAI and the like.

Shape of request and answer: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self, cast

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._embed import EmbedderConfig, EmbedderUnavailable, QueryCache
from adaptive_llm_gateway.memory._endpoint import MAX_CHARACTERS, BadAnswerError, Endpoint, Refusal, parsed, sendable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MAX_TEXTS = 32  # in one request; few enough that an answer comes soon and a retry repeats little
_MAX_DIMENSIONS = 8192
_BYTES_PER_NUMBER = 32
_ATTEMPTS = 4
_LONGEST_PAUSE = 20.0
_QUERY_TIMEOUT = 5.0
_QUERY_BREAK = 30.0  # seconds without another try after a query ran into its timeout


class HttpEmbedder:
    """An OpenAI-compatible endpoint; see `Endpoint` for what becomes of the key.

    The answer is checked (size, count, order, length, finite numbers) before a number of it is used.

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
        self._endpoint = Endpoint(
            "embedder",
            url,
            path="/embeddings",
            noun="embedding",
            api_key_env=api_key_env,
            timeout=timeout,
            error=EmbedderUnavailable,
            meanwhile="Until it answers, search is lexical.",
        )
        self._model = model
        self._asked = dimensions
        self._dimensions = dimensions
        self._timeout = timeout
        self._first_pause = first_pause
        self._lock = threading.Lock()
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
        return f"http:{self._endpoint.base}:{self._model}:{self.dimensions}"

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
        return self._endpoint.local

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
        text = text[:MAX_CHARACTERS]
        known = self._queries.get(text)
        if known is not None:
            return known
        if time.monotonic() < self._quiet_until:
            raise self._endpoint.failure("timeout", "did not answer a query in time and is left alone for a while")
        try:
            vectors = self._request([text], attempts=1, timeout=min(self._timeout, _QUERY_TIMEOUT))
        except EmbedderUnavailable as error:
            if error.details["reason"] == "timeout":
                self._quiet_until = time.monotonic() + _QUERY_BREAK
            raise
        return self._queries.put(text, vectors[0])

    def close(self) -> None:
        """Close the connections; a pause between attempts ends at once."""
        self._endpoint.close()
        self._queries.clear()

    def _request(self, texts: Sequence[str], *, attempts: int, timeout: float) -> NDArray[np.float32]:
        body: dict[str, Any] = {"model": self._model, "input": [sendable(text) for text in texts]}
        if self._asked is not None:
            body["dimensions"] = self._asked
        limit = 65_536 + len(texts) * (self._dimensions or _MAX_DIMENSIONS) * _BYTES_PER_NUMBER
        for attempt in range(1, attempts + 1):
            answer = self._endpoint.post(body, limit=limit, timeout=timeout)
            if not isinstance(answer, Refusal):
                return self._vectors(answer, len(texts))
            if not answer.again or attempt == attempts:
                raise answer.error
            if self._endpoint.closed.wait(retry_pause(attempt, answer.retry_after, first=self._first_pause)):
                break
        raise self._endpoint.failure("closed", "is closed")

    def _vectors(self, answer: bytes, count: int) -> NDArray[np.float32]:
        import numpy as np  # noqa: PLC0415

        try:
            rows = np.array(_parse(answer, count))
        except BadAnswerError as error:
            raise self._endpoint.failure("answer", str(error)) from None
        except (ValueError, OverflowError):
            raise self._endpoint.failure("answer", "answered vectors of different lengths") from None
        if rows.ndim != 2 or rows.dtype.kind not in "fiu" or not 0 < rows.shape[1] <= _MAX_DIMENSIONS:
            raise self._endpoint.failure("answer", "answered something that is no vectors of numbers")
        with np.errstate(over="ignore"):
            norms = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
        if not np.isfinite(norms).all() or not (norms > 0).all():
            raise self._endpoint.failure("answer", "answered a vector that is zero or not finite")
        with self._lock:
            if self._dimensions is None:
                self._dimensions = rows.shape[1]
            wanted = self._dimensions
        if rows.shape[1] != wanted:
            raise self._endpoint.failure(
                "wrong_dimension",
                f"answered vectors of {rows.shape[1]!r} numbers, not {wanted!r}",
                hint="Set embedder.dimensions to what the model gives, or leave it empty, and restart the hub.",
            )
        self._quiet_until = 0.0
        return (rows / norms).astype(np.float32)


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


def _parse(answer: bytes, count: int) -> list[list[float]]:
    """The vectors in the order of the texts; that they are numbers of one length is not checked here."""
    body = parsed(answer)
    data = cast("dict[str, object]", body).get("data") if isinstance(body, dict) else None
    if not isinstance(data, list):
        raise BadAnswerError("answered without a list 'data'")
    items = cast("list[object]", data)
    if len(items) != count:
        raise BadAnswerError(f"answered {len(items)!r} vectors for {count!r} texts")
    ordered: dict[int, list[float]] = {}
    for position, item in enumerate(items):
        entry = cast("dict[str, object]", item) if isinstance(item, dict) else {}
        index, vector = entry.get("index", position), entry.get("embedding")
        if not isinstance(vector, list) or isinstance(index, bool) or not isinstance(index, int):
            raise BadAnswerError("answered an entry without 'index' or a list 'embedding'")
        ordered[index] = cast("list[float]", vector)
    if set(ordered) != set(range(count)):
        raise BadAnswerError("answered entries whose 'index' does not number the texts")
    return [ordered[position] for position in range(count)]
