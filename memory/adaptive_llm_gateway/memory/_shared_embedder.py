"""One loaded model for several stores, each of which closes its own handle to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from adaptive_llm_gateway.memory._embed import Embedder, TellsBegun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class SharedEmbedder:
    """Hands out handles to one embedder; the last handle that is closed closes it."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._users = 0
        self._loading = threading.Lock()
        self._door = threading.Lock()

    def handle(self) -> Embedder:
        """An embedder of one store."""
        with self._door:
            self._users += 1
        if isinstance(self._embedder, TellsBegun):
            return _TellingHandle(self._embedder, self._embedder, self._load, self._let_go)
        return _Handle(self._embedder, self._load, self._let_go)

    def _load(self) -> None:
        with self._loading:  # who comes second finds it loaded
            self._embedder.load()

    def _let_go(self) -> None:
        with self._door:
            self._users -= 1
            last = self._users == 0
        if last:
            self._embedder.close()


class _Handle:
    def __init__(self, embedder: Embedder, load: Callable[[], None], let_go: Callable[[], None]) -> None:
        self._embedder, self._load, self._let_go = embedder, load, let_go
        self._closed = False

    @property
    def id(self) -> str:
        return self._embedder.id

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def local(self) -> bool:
        return self._embedder.local

    def load(self) -> None:
        self._load()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._embedder.embed(texts)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        return self._embedder.embed_query(text)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._let_go()


class _TellingHandle(_Handle):
    def __init__(
        self, embedder: Embedder, telling: TellsBegun, load: Callable[[], None], let_go: Callable[[], None]
    ) -> None:
        super().__init__(embedder, load, let_go)
        self._telling = telling

    def embed_query_telling(self, text: str, begun: Callable[[], None]) -> NDArray[np.float32]:
        return self._telling.embed_query_telling(text, begun)
