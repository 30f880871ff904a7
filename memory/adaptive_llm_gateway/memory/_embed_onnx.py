"""The default embedder: all-MiniLM-L6-v2 inside the package, run by onnxruntime; no torch, no download.

How the model was made is in `scripts/export_model.py` and, with digests, in the folder's `model-info.json`.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._embed import EmbedderConfig, EmbedderUnavailable, QueryCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_FILES = ("model.onnx", "tokenizer.json")
_LONGEST_YIELD_SECONDS = 0.25
_MAX_CHARACTERS = 16_384  # far beyond 256 tokens of any prose; keeps the tokenizer from reading 50 MB for nothing
_INPUTS = {"input_ids", "attention_mask"}


@dataclass(frozen=True, slots=True)
class _Info:
    name: str
    precision: str
    dimensions: int
    max_tokens: int
    files: dict[str, tuple[int, str]]

    @property
    def id(self) -> str:
        made_of = f"{self.max_tokens} {sorted(self.files.items())!r}"
        return f"onnx:{self.name}:{self.precision}:{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"


class OnnxEmbedder:
    """A sentence embedding model in a folder: `model.onnx`, `tokenizer.json` and `model-info.json`.

    Texts are computed one by one, at most 256 tokens each. Dynamic quantisation scales a whole batch together, so
    within a batch a text's vector would depend on its neighbours (down to cosine .94 against the text alone, measured
    on chat turns), while batches were no faster: alone, the same text always has the same vector, nothing is padded,
    and memory stays small.

    A text is computed by one thread, several texts by several: that makes a quarter more of the same processor time
    than several threads on each text, which wait for each other at every layer (measured). While a query is computed,
    `embed` begins no further text, so a query waits for the texts at hand and never for a batch.

    Args:
        folder: the model; its files are checked against the sizes and digests in `model-info.json`.
        threads: texts that are computed at once.
    """

    def __init__(self, folder: Path | None = None, *, threads: int = 2) -> None:
        self._folder = folder or Path(__file__).resolve().parent / "models" / DEFAULT_MODEL
        self._threads = threads
        self._lock = threading.Lock()
        self._info: _Info | None = None
        self._session: Any = None  # onnxruntime ships no types
        self._tokenizer: Any = None
        self._closed = False
        self._queries = QueryCache()
        self._pool: ThreadPoolExecutor | None = None
        self._asking = 0  # queries that are being computed
        self._asked = threading.Condition()

    @classmethod
    def from_config(cls, config: EmbedderConfig) -> Self:
        """The model inside the package, as configured; see `create_embedder`."""
        if config.model not in (None, DEFAULT_MODEL):
            raise ConfigError(
                f"embedder.model is {config.model!r}, but the embedder inside the package is {DEFAULT_MODEL!r}",
                hint="Leave embedder.model empty, or set embedder.kind to 'transformers' or 'http'.",
            )
        if config.dimensions not in (None, 384):
            raise ConfigError(
                f"embedder.dimensions is {config.dimensions!r}, but {DEFAULT_MODEL!r} gives 384",
                hint="Leave embedder.dimensions empty.",
            )
        return cls(threads=config.threads)

    @property
    def id(self) -> str:
        """`onnx:<model>:<precision>:<digest of the files>`; reads only `model-info.json`."""
        return self._described().id

    @property
    def dimensions(self) -> int:
        """Length of a vector; reads only `model-info.json`."""
        return self._described().dimensions

    @property
    def local(self) -> bool:
        """True: texts stay in this process."""
        return True

    def load(self) -> None:
        """Check the files, load tokenizer and model, embed one word. About 0.2 s.

        Raises:
            EmbedderUnavailable: `details["reason"]` is one of those listed there, `details["path"]` names the file.
        """
        if self._session is not None:
            return
        with self._lock:
            if self._session is not None:
                return
            if self._closed:
                raise EmbedderUnavailable("the embedder is closed", reason="closed")
            info = self._described()
            for name, (size, digest) in info.files.items():
                _check(self._folder / name, size, digest)
            tokenizer = self._load_tokenizer(info)
            session = self._load_session()
            vector = _compute(session, tokenizer, "ready")
            if vector.shape != (info.dimensions,):
                raise _unusable(
                    self._folder / "model.onnx",
                    "wrong_dimension",
                    f"gives vectors of shape {vector.shape!r} where {info.dimensions!r} numbers are promised",
                )
            self._tokenizer, self._session = tokenizer, session

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimensions); see `Embedder.embed`."""
        import numpy as np  # noqa: PLC0415

        session, tokenizer = self._ready()
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        rows = iter(range(len(texts)))  # shared: `next` on it is atomic

        def work() -> None:
            for row in rows:
                with self._asked:
                    self._asked.wait_for(lambda: not self._asking, _LONGEST_YIELD_SECONDS)
                vectors[row] = _compute(session, tokenizer, texts[row])

        others = self._help(work, min(self._threads, len(texts)) - 1)
        try:
            work()
        finally:
            for other in others:
                other.exception()  # none goes on with an array that nobody waits for
        for other in others:
            other.result()
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query, from a cache of the last 256; see `Embedder.embed_query`."""
        return self.embed_query_telling(text, lambda: None)

    def embed_query_telling(self, text: str, begun: Callable[[], None]) -> NDArray[np.float32]:
        """See `TellsBegun`."""
        session, tokenizer = self._ready()
        text = text[:_MAX_CHARACTERS]
        known = self._queries.get(text)
        if known is not None:
            return known
        with self._asked:
            self._asking += 1
        try:
            return self._queries.put(text, _compute(session, tokenizer, text, begun))
        finally:
            with self._asked:
                self._asking -= 1
                self._asked.notify_all()

    def close(self) -> None:
        """Let the model go; calls that are under way end well."""
        with self._lock:
            self._closed = True
            self._session = self._tokenizer = None
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=False)
        self._queries.clear()

    def _help(self, work: Callable[[], None], count: int) -> list[Future[None]]:
        """Have so many threads beside the calling one do the work too; none when the embedder is closed meanwhile."""
        with self._lock:
            if count < 1 or self._closed:
                return []
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._threads - 1, thread_name_prefix="memory-embed")
            return [self._pool.submit(work) for _ in range(count)]

    def _ready(self) -> tuple[Any, Any]:
        self.load()
        session, tokenizer = self._session, self._tokenizer
        if session is None or tokenizer is None:
            raise EmbedderUnavailable("the embedder is closed", reason="closed")
        return session, tokenizer

    def _described(self) -> _Info:
        if self._info is None:
            self._info = _read_info(self._folder / "model-info.json")
        return self._info

    def _load_tokenizer(self, info: _Info) -> Any:
        path = self._folder / "tokenizer.json"
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415 - loaded with the model
        except ImportError as error:
            raise _missing_library("tokenizers", error) from error
        try:
            tokenizer: Any = Tokenizer.from_file(str(path))
            tokenizer.no_padding()
            tokenizer.enable_truncation(info.max_tokens)
        except Exception as error:
            raise _unusable(path, "damaged", f"is not a tokenizer: {error}") from error
        return tokenizer

    def _load_session(self) -> Any:
        path = self._folder / "model.onnx"
        try:
            import onnxruntime  # noqa: PLC0415  # pyright: ignore[reportMissingTypeStubs]
        except ImportError as error:
            raise _missing_library("onnxruntime", error) from error
        runtime: Any = onnxruntime
        options: Any = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = runtime.ExecutionMode.ORT_SEQUENTIAL
        options.enable_cpu_mem_arena = False  # the arena keeps its greatest size for ever
        options.log_severity_level = 3
        try:
            session: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise _unusable(path, "damaged", f"is not a model that onnxruntime loads: {error}") from error
        inputs = {entry.name for entry in session.get_inputs()}
        if inputs != _INPUTS or len(session.get_outputs()) != 1:
            raise _unusable(path, "damaged", f"takes {sorted(inputs)!r} where {sorted(_INPUTS)!r} is expected")
        return session


def _compute(session: Any, tokenizer: Any, text: str, begun: Callable[[], None] | None = None) -> NDArray[np.float32]:
    """One text's vector, shape (dimensions,)."""
    import numpy as np  # noqa: PLC0415

    # Lone surrogates are no text to the tokenizer. One text at a time, so that it starts no threads of its own, which
    # it would complain about at the next fork.
    encoded = tokenizer.encode(text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8"))
    ids = np.array([encoded.ids], dtype=np.int64)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    if begun is not None:
        begun()
    try:
        rows = session.run(None, inputs)[0]
    except Exception as error:
        raise EmbedderUnavailable(f"the embedding model failed: {error}", reason="failed") from error
    return rows[0]


def _read_info(path: Path) -> _Info:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _Info(
            name=str(raw["model"]),
            precision=str(raw["precision"]),
            dimensions=int(raw["dimensions"]),
            max_tokens=int(raw["max_tokens"]),
            files={name: (int(raw["files"][name]["size"]), str(raw["files"][name]["sha256"])) for name in _FILES},
        )
    except FileNotFoundError as error:
        raise _unusable(path, "missing", "is missing") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unusable(path, "damaged", f"cannot be read: {error!r}") from error


def _check(path: Path, size: int, digest: str) -> None:
    found = hashlib.sha256()
    try:
        actual = path.stat().st_size
        if actual < size:
            raise _unusable(path, "truncated", f"has {actual!r} of {size!r} bytes")
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                found.update(block)
    except FileNotFoundError as error:
        raise _unusable(path, "missing", "is missing") from error
    except OSError as error:
        raise _unusable(path, "damaged", f"cannot be read: {error.strerror}") from error
    if found.hexdigest() != digest:
        raise _unusable(path, "damaged", "is not the file that was shipped (sha256 differs)")


def _unusable(path: Path, reason: str, what: str) -> EmbedderUnavailable:
    return EmbedderUnavailable(
        f"the embedding model's file {path.name!r} {what}",
        hint="Reinstall adaptive-llm-gateway. Until then search is lexical.",
        reason=reason,
        path=str(path),
    )


def _missing_library(name: str, error: ImportError) -> EmbedderUnavailable:
    return EmbedderUnavailable(
        f"{name!r}, which runs the embedding model, does not load: {error}",
        hint=f"Run `pip install --force-reinstall {name}`, or set embedder.kind to 'http' or 'none'.",
        reason="library",
    )
