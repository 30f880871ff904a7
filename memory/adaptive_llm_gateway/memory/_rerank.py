"""Rerankers judge how well texts answer a query. Importing this module costs nothing: libraries come with `load`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from adaptive_llm_gateway.core import Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class RerankerUnavailable(Unavailable):
    """No judgement just now; hits stay in the order of the search.

    `details["reason"]` says why. A model: `library` (sentence-transformers or torch do not load), `missing`,
    `no_reranker` (it gives no single score), `timeout`, `failed`, `closed`. An endpoint: `unreachable`, `timeout`,
    `offline` (the mode), `refused` (status 401 or 403), `status`, `answer` (not what the API promises), `key_missing`,
    `closed`.
    """

    code = "reranker_unavailable"


class Reranker(Protocol):
    """Judges how well texts answer a query. Safe to use from several threads at once.

    It cuts a text that is longer than its model's window. Any `str` is accepted, also an empty one.
    """

    @property
    def id(self) -> str:
        """Names the model; two rerankers with the same id score alike. Reading it loads nothing."""
        ...

    @property
    def local(self) -> bool:
        """Whether texts stay on this machine; what may not leave it is kept from a reranker that is not local."""
        ...

    def load(self) -> None:
        """Get ready; `score` does so by itself, this is for doing it early in the background.

        Raises:
            RerankerUnavailable: see there; a later call tries again.
            ConfigError: the configuration or the installation does not fit, and trying again will not help.
        """
        ...

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """How well each text answers the query: shape (len(texts),), finite, higher is better, on the model's scale.

        The same query and text have the same score whatever the other texts are. Raises as `load` does.
        """
        ...

    def close(self) -> None:
        """Give the model or the connections back; harmless when repeated. The reranker is not used afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class RerankerConfig:
    """Which reranker, and how.

    Attributes:
        kind: `none` leaves hits in the order of the search; `transformers` any sentence-transformers `CrossEncoder` (an
            extra); `http` an endpoint with the common form of reranking.
        model: name for `transformers` (or a folder) and `http`.
        url: base URL for `http`, as in `http://127.0.0.1:8080/v1`; `/rerank` is appended.
        api_key_env: environment variable with the endpoint's key; read for each request, never stored.
        threads: threads one computation may use (`transformers`).
        timeout: seconds that a judgement may take.
    """

    kind: Literal["none", "transformers", "http"] = "none"
    model: str | None = None
    url: str | None = None
    api_key_env: str | None = None
    threads: int = 2
    timeout: float = 2.0


def create_reranker(config: RerankerConfig) -> Reranker | None:
    """The reranker that `config` names, not loaded yet; `None` for kind `none`.

    Raises:
        ConfigError: the values do not go together, or a needed extra is not installed.
    """
    # Each kind brings libraries that the others do not need.
    match config.kind:
        case "none":
            return None
        case "http":
            from adaptive_llm_gateway.memory._rerank_http import HttpReranker  # noqa: PLC0415

            return HttpReranker.from_config(config)
        case "transformers":
            from adaptive_llm_gateway.memory._rerank_transformers import TransformersReranker  # noqa: PLC0415

            return TransformersReranker.from_config(config)


class WordReranker:
    """A reranker without a model, for tests: the share of the query's words that a text has, from 0 to 1.

    Args:
        local: what `local` says; where it is false, a store keeps memories above `internal` from it.

    Attributes:
        seen: the texts that it was given, in order.
    """

    def __init__(self, *, local: bool = True) -> None:
        self._local = local
        self.seen: list[str] = []

    @property
    def id(self) -> str:
        """`words`."""
        return "words"

    @property
    def local(self) -> bool:
        """As it was made."""
        return self._local

    def load(self) -> None:
        """Nothing to do."""

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores of shape (len(texts),)."""
        import numpy as np  # noqa: PLC0415 - keeps this module light

        self.seen += texts
        asked = _words(query)
        shares = [len(asked & _words(text)) / max(1, len(asked)) for text in texts]
        return np.array(shares, dtype=np.float32)

    def close(self) -> None:
        """Nothing to do."""


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))
