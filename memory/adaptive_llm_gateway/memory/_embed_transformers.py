"""Any sentence-transformers model by name or folder; needs the extra `adaptive-llm-gateway[transformers]`."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._embed import EmbedderConfig, EmbedderUnavailable, QueryCache

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 8  # a query waits for at most one


class TransformersEmbedder:
    """A sentence-transformers model on the processor.

    Its prompts for queries and documents are applied where it has any. Code that comes with a model is never run.
    One batch of eight is computed at a time, and a query gets in between two of them.

    Args:
        model: a name on the Hugging Face hub, which the library may download, or a folder.
        threads: threads of the computation; torch sets them for the whole process.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, model: str, *, threads: int = 2) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise ConfigError(
                "embedder.kind is 'transformers', but sentence-transformers is not installed",
                hint="Run `pip install 'adaptive-llm-gateway[transformers]'`, or set embedder.kind to 'onnx'.",
                key="embedder.kind",
            )
        self._name = model
        self._threads = threads
        self._loading = threading.Lock()
        self._computing = threading.Lock()
        self._model: Any = None  # untyped: the extra need not be installed
        self._dimensions = 0
        self._revision = ""
        self._closed = False
        self._queries = QueryCache()

    @classmethod
    def from_config(cls, config: EmbedderConfig) -> Self:
        """The model as configured; see `create_embedder`."""
        if not config.model:
            raise ConfigError(
                "embedder.kind is 'transformers', but embedder.model is not set",
                hint="Set embedder.model to a model's name, for example 'sentence-transformers/all-mpnet-base-v2'.",
                key="embedder.model",
            )
        return cls(config.model, threads=config.threads)

    @property
    def id(self) -> str:
        """`transformers:<model>:<revision or digest of the folder>:<dimensions>`; loads the model."""
        self.load()
        return f"transformers:{self._name}:{self._revision}:{self._dimensions}"

    @property
    def dimensions(self) -> int:
        """Length of a vector; loads the model."""
        self.load()
        return self._dimensions

    @property
    def local(self) -> bool:
        """True: texts stay in this process."""
        return True

    def load(self) -> None:
        """Import torch and load the model: 5 s and more, and longer where it is downloaded first.

        Raises:
            EmbedderUnavailable: reason `library`, `missing` or `closed`.
        """
        with self._loading:
            if self._closed:
                raise EmbedderUnavailable("the embedder is closed", reason="closed")
            if self._model is not None:
                return
            try:
                library: Any = importlib.import_module("sentence_transformers")
                torch: Any = importlib.import_module("torch")
            except ImportError as error:
                raise EmbedderUnavailable(
                    f"sentence-transformers is installed but does not load: {error}",
                    hint="Run `pip install --force-reinstall 'adaptive-llm-gateway[transformers]'`.",
                    reason="library",
                ) from error
            torch.set_num_threads(self._threads)
            try:
                model: Any = library.SentenceTransformer(self._name, device="cpu", trust_remote_code=False)
                vector = model.encode(["ready"], show_progress_bar=False)
            except Exception as error:
                raise EmbedderUnavailable(
                    f"the model {self._name!r} does not load: {error}",
                    hint="Check embedder.model, and that the model is on this machine or can be downloaded.",
                    reason="missing",
                    model=self._name,
                ) from error
            self._dimensions = int(vector.shape[1])
            self._revision = _revision(self._name, model)
            self._model = model

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of shape (len(texts), dimensions); see `Embedder.embed`."""
        import numpy as np  # noqa: PLC0415

        self.load()
        vectors = np.empty((len(texts), self._dimensions), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            vectors[start : start + _BATCH] = self._encode("encode_document", texts[start : start + _BATCH])
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The vector of a query; see `Embedder.embed_query`."""
        self.load()
        known = self._queries.get(text)
        return self._queries.put(text, self._encode("encode_query", [text])[0]) if known is None else known

    def close(self) -> None:
        """Let the model go."""
        with self._loading, self._computing:
            self._closed = True
            self._model = None
        self._queries.clear()

    def _encode(self, method: str, texts: Sequence[str]) -> NDArray[np.float32]:
        import numpy as np  # noqa: PLC0415

        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        with self._computing:
            if self._model is None:
                raise EmbedderUnavailable("the embedder is closed", reason="closed")
            try:
                vectors = getattr(self._model, method)(
                    clean, batch_size=_BATCH, normalize_embeddings=True, show_progress_bar=False
                )
            except Exception as error:
                raise EmbedderUnavailable(f"the embedding model failed: {error}", reason="failed") from error
        return np.asarray(vectors, dtype=np.float32)


def _revision(name: str, model: Any) -> str:
    """What tells this model's weights from another's of the same name, 8 hex digits."""
    folder = Path(name)
    if folder.is_dir():
        digest = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix in (".safetensors", ".bin", ".json", ".txt", ".model"):
                digest.update(path.relative_to(folder).as_posix().encode("utf-8", "surrogateescape"))
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
        return digest.hexdigest()[:8]
    config: Any = getattr(getattr(model[0], "auto_model", None), "config", None)
    return str(getattr(config, "_commit_hash", None) or "unknown")[:8]
