"""For tests of programs that use memory: a real store in a temporary folder, embedder and reranker without a model.

Nothing here is patched or imitated: files, git and SQLite are the real ones. See `docs/testing.md`.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from adaptive_llm_gateway.memory._embed import EmbedderConfig, HashEmbedder
from adaptive_llm_gateway.memory._requests import StoreSettings
from adaptive_llm_gateway.memory._rerank import WordReranker
from adaptive_llm_gateway.memory._store import MemoryStore

__all__ = ["HashEmbedder", "WordReranker", "temporary_store"]

_READY_SECONDS = 60.0


@contextlib.contextmanager
def temporary_store(folder: Path | None = None, **settings: Any) -> Generator[MemoryStore]:
    """An open, empty `MemoryStore` that is closed at the end.

    Without more it works offline, looks at no edits by hand, searches by words, and answers a write when it is
    committed.

    Args:
        folder: where repo (`memory`) and index (`index.db`) go; it stays, and may be opened again. Without it they
            lie in a temporary folder that goes with the store.
        settings: fields of `StoreSettings` by name; `embedder=HashEmbedder()` makes search hybrid without a model,
            `reranker=WordReranker()` has hits reranked without one.

    Raises:
        TypeError: `settings` has a name that is no field of `StoreSettings`.
    """
    with contextlib.ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alg-", ignore_cleanup_errors=True)))
        plain = StoreSettings(
            repo=folder / "memory",
            index=folder / "index.db",
            host="testing",
            commit_wait=30.0,
            watch="off",
            push_after_write=False,
            embedder=EmbedderConfig(kind="none"),
        )
        store = MemoryStore(replace(plain, **settings))
        stack.callback(store.close)
        if not store.wait_ready(_READY_SECONDS):
            raise TimeoutError(f"the store was not ready after {_READY_SECONDS:.0f} s")
        yield store
