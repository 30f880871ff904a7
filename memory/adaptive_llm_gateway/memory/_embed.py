"""Embedders turn text into vectors. Importing this module costs nothing: a model's libraries come with `load`."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from adaptive_llm_gateway.core import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class EmbedderUnavailable(Unavailable):
    """No vectors just now; search goes on lexically.

    `details["reason"]` says why. The model in the package: `missing`, `truncated`, `damaged`, `wrong_dimension`,
    `library` (onnxruntime or tokenizers do not load), `failed`, `closed`. An endpoint: `unreachable`, `timeout`,
    `offline` (the mode), `refused` (status 401 or 403), `status`, `answer` (not what the API promises), `key_missing`,
    `wrong_dimension`, `closed`.
    """

    code = "embedder_unavailable"


class Embedder(Protocol):
    """Turns text into vectors. Safe to use from several threads at once.

    An embedder cuts a text that is longer than its model's window; whoever wants all of a long text found chunks it
    first. Any `str` is accepted, also an empty one.
    """

    @property
    def id(self) -> str:
        """Names the vector space; two embedders with the same id give comparable vectors.

        Known once `load` has returned (before that, reading it may load). It changes whenever the vectors do.
        """
        ...

    @property
    def dimensions(self) -> int:
        """Length of a vector; known once `load` has returned (before that, reading it may load)."""
        ...

    @property
    def local(self) -> bool:
        """Whether texts stay on this machine; what may not leave it is kept from an embedder that is not local."""
        ...

    def load(self) -> None:
        """Get ready; the other methods do so by themselves, this is for doing it early in the background.

        Raises:
            EmbedderUnavailable: see there; a later call tries again.
            ConfigError: the configuration or the installation does not fit, and trying again will not help.
        """
        ...

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """L2-normalised vectors, shape (len(texts), dimensions). Raises as `load` does."""
        ...

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The L2-normalised vector of a query, shape (dimensions,); read-only. Raises as `load` does."""
        ...

    def close(self) -> None:
        """Give the model or the connections back; harmless when repeated. The embedder is not used afterwards."""
        ...


@runtime_checkable
class TellsBegun(Protocol):
    """An embedder that says when a query's computation goes on without the interpreter's lock.

    Whoever waits for that works at the same time. Without it the two hand the lock to each other every 5 ms, which is
    as long as the whole computation takes.
    """

    def embed_query_telling(self, text: str, begun: Callable[[], None]) -> NDArray[np.float32]:
        """`Embedder.embed_query`; calls `begun` just before it lets go of the lock, or not at all."""
        ...


@dataclass(frozen=True, slots=True)
class EmbedderConfig:
    """Which embedder, and how.

    Attributes:
        kind: `onnx` is the model inside the package; `transformers` any sentence-transformers model (an extra);
            `http` an OpenAI-compatible endpoint; `none` leaves search lexical.
        model: name for `transformers` (or a folder) and `http`.
        url: base URL for `http`, as in `http://127.0.0.1:11434/v1`; `/embeddings` is appended.
        api_key_env: environment variable with the endpoint's key; read for each request, never stored.
        dimensions: vector length to ask the endpoint for; without it, the endpoint's own is found out.
        threads: threads one computation may use (`onnx`, `transformers`).
        timeout: seconds to wait for an endpoint to connect, and for each part of its answer.
    """

    kind: Literal["onnx", "transformers", "http", "none"] = "onnx"
    model: str | None = None
    url: str | None = None
    api_key_env: str | None = None
    dimensions: int | None = None
    threads: int = 2
    timeout: float = 30.0


def create_embedder(config: EmbedderConfig) -> Embedder | None:
    """The embedder that `config` names, not loaded yet; `None` for kind `none`.

    Raises:
        ConfigError: the values do not go together, or a needed extra is not installed.
    """
    # Each kind brings libraries that the others do not need.
    match config.kind:
        case "none":
            return None
        case "onnx":
            from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder  # noqa: PLC0415

            return OnnxEmbedder.from_config(config)
        case "http":
            from adaptive_llm_gateway.memory._embed_http import HttpEmbedder  # noqa: PLC0415

            return HttpEmbedder.from_config(config)
        case "transformers":
            from adaptive_llm_gateway.memory._embed_transformers import TransformersEmbedder  # noqa: PLC0415

            return TransformersEmbedder.from_config(config)


class QueryCache:
    """The vectors of the queries used last: paging, polling and retries ask the same again. Safe between threads."""

    def __init__(self, size: int = 256) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._vectors: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def get(self, text: str) -> NDArray[np.float32] | None:
        """The vector of exactly this text, if it is kept."""
        with self._lock:
            vector = self._vectors.get(text)
            if vector is not None:
                self._vectors.move_to_end(text)
            return vector

    def put(self, text: str, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Keep the vector, read-only from now on, and return it."""
        vector.flags.writeable = False
        with self._lock:
            self._vectors[text] = vector
            self._vectors.move_to_end(text)
            if len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return vector

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._vectors.clear()


class HashEmbedder:
    """An embedder without a model, for tests: deterministic, instant, and alike for texts that share words.

    Each word adds a sign at a few hashed places; a text without words gets the first unit vector.

    Args:
        dimensions: length of a vector.
        seed: another seed is another vector space, with another id.
    """

    def __init__(self, dimensions: int = 64, *, seed: int = 0) -> None:
        self._dimensions = dimensions
        self._seed = seed

    @property
    def id(self) -> str:
        """`hash:<dimensions>:<seed>`."""
        return f"hash:{self._dimensions}:{self._seed}"

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._dimensions

    @property
    def local(self) -> bool:
        """True."""
        return True

    def load(self) -> None:
        """Nothing to do."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimensions)."""
        import numpy as np  # noqa: PLC0415 - keeps this module light

        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                key = f"{self._seed}:{word}".encode("utf-8", "surrogatepass")
                digest = hashlib.sha256(key).digest()
                for at in range(0, 16, 4):
                    place = int.from_bytes(digest[at : at + 3], "big") % self._dimensions
                    vectors[row, place] += 1.0 if digest[at + 3] & 1 else -1.0
            if not vectors[row].any():
                vectors[row, 0] = 1.0
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """A vector of shape (dimensions,)."""
        return self.embed([text])[0]

    def close(self) -> None:
        """Nothing to do."""
