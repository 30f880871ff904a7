"""Vectors kept on disk between runs, by model and text: a set whose texts take half an hour is then read in seconds."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
_BATCH = 256
_WORKERS = 2
_FILE = "vectors.db"


class Model(Protocol):
    """What is needed of an embedder."""

    @property
    def id(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    def embed(self, texts: Sequence[str]) -> Floats: ...


class CachedModel:
    """An embedder whose vectors are kept as float32, little endian, in a table `vectors(digest, vector)`.

    Args:
        model: computes what is not there; the digest is the SHA-256 of its id, a zero byte and the text.
        folder: holds `vectors.db`; None: kept for this run only.
    """

    def __init__(self, model: Model, folder: Path | None) -> None:
        self._model = model
        self.id = model.id
        self.dimensions = model.dimensions
        self.computed = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(":memory:" if folder is None else folder / _FILE, timeout=60)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS vectors(digest BLOB PRIMARY KEY, vector BLOB)")

    def embed(self, texts: Sequence[str]) -> Floats:
        """Vectors of shape (len(texts), dimensions)."""
        digests = [self._digest(text) for text in texts]
        vectors = np.empty((len(texts), self.dimensions), np.float32)
        missing: dict[bytes, list[int]] = {}
        for place, digest in enumerate(digests):
            row = self._database.execute("SELECT vector FROM vectors WHERE digest = ?", (digest,)).fetchone()
            if row is None:
                missing.setdefault(digest, []).append(place)
            else:
                vectors[place] = np.frombuffer(row[0], "<f4")
        wanted = list(missing.items())
        with ThreadPoolExecutor(_WORKERS) as workers:
            for start in range(0, len(wanted), _BATCH):
                part = wanted[start : start + _BATCH]
                made = workers.map(self._compute, [texts[places[0]] for _, places in part])
                rows: list[tuple[bytes, bytes]] = []
                for (digest, places), vector in zip(part, made, strict=True):
                    vectors[places] = vector
                    rows.append((digest, vector.astype("<f4").tobytes()))
                with self._database:
                    self._database.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
                self.computed += len(rows)
        return vectors

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _compute(self, text: str) -> Floats:
        return self._model.embed([text])[0]

    def _digest(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.id}\0{text}".encode("utf-8", "surrogatepass")).digest()
