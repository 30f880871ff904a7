"""Any sentence-transformers `CrossEncoder` by name or folder; needs `adaptive-llm-gateway[transformers]`."""

from __future__ import annotations

import importlib
import importlib.util
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._rerank import RerankerConfig, RerankerUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BATCH = 8  # between two batches it is seen whether anybody still waits
_HEADLESS = ("Model", "ForMaskedLM", "ForPreTraining")  # their scores would come from weights drawn by lot


class TransformersReranker:
    """A sentence-transformers cross-encoder on the processor.

    Code that comes with a model is never run. One batch of eight is computed at a time.

    Args:
        model: a name on the Hugging Face hub, which the library may download, or a folder.
        threads: threads of the computation; torch sets them for the whole process.
        timeout: seconds after which nobody waits any more: no further batch is begun then.

    Raises:
        ConfigError: the extra is not installed.
    """

    def __init__(self, model: str, *, threads: int = 2, timeout: float = 2.0) -> None:
        if importlib.util.find_spec("sentence_transformers") is None:
            raise ConfigError(
                "reranker.kind is 'transformers', but sentence-transformers is not installed",
                hint="Run `pip install 'adaptive-llm-gateway[transformers]'`, or set reranker.kind to 'none'.",
                key="reranker.kind",
            )
        self._name = model
        self._threads = threads
        self._timeout = timeout
        self._loading = threading.Lock()
        self._computing = threading.Lock()
        self._model: Any = None  # untyped: the extra need not be installed
        self._closed = False

    @classmethod
    def from_config(cls, config: RerankerConfig) -> Self:
        """The model as configured; see `create_reranker`."""
        if not config.model:
            raise ConfigError(
                "reranker.kind is 'transformers', but reranker.model is not set",
                hint="Set reranker.model to a model's name, for example 'cross-encoder/ms-marco-MiniLM-L6-v2'.",
                key="reranker.model",
            )
        return cls(config.model, threads=config.threads, timeout=config.timeout)

    @property
    def id(self) -> str:
        """`transformers:<model>`."""
        return f"transformers:{self._name}"

    @property
    def local(self) -> bool:
        """True: texts stay in this process."""
        return True

    def load(self) -> None:
        """Import torch and load the model: 5 s and more, and longer where it is downloaded first.

        Raises:
            RerankerUnavailable: reason `library`, `missing`, `no_reranker` or `closed`.
        """
        with self._loading:
            if self._closed:
                raise RerankerUnavailable("the reranker is closed", reason="closed")
            if self._model is not None:
                return
            try:
                library: Any = importlib.import_module("sentence_transformers")
                torch: Any = importlib.import_module("torch")
            except ImportError as error:
                raise RerankerUnavailable(
                    f"sentence-transformers is installed but does not load: {error}",
                    hint="Run `pip install --force-reinstall 'adaptive-llm-gateway[transformers]'`.",
                    reason="library",
                ) from error
            torch.set_num_threads(self._threads)
            try:
                model: Any = library.CrossEncoder(self._name, device="cpu", trust_remote_code=False)
                scores = model.predict([("ready", "ready")], show_progress_bar=False)
            except Exception as error:
                raise RerankerUnavailable(
                    f"the model {self._name!r} does not load: {error}",
                    hint="Check reranker.model, and that the model is on this machine or can be downloaded.",
                    reason="missing",
                    model=self._name,
                ) from error
            made = list[str](getattr(getattr(model, "config", None), "architectures", None) or [])
            if scores.shape != (1,) or (made and all(name.endswith(_HEADLESS) for name in made)):
                raise RerankerUnavailable(
                    f"the model {self._name!r} ({', '.join(made) or 'of unknown kind'}) is no reranker: it was not "
                    "trained to give one score for a query and a text",
                    hint="Set reranker.model to a cross-encoder, for example 'cross-encoder/ms-marco-MiniLM-L6-v2'.",
                    reason="no_reranker",
                    model=self._name,
                )
            self._model = model

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """Scores of shape (len(texts),); see `Reranker.score`."""
        import numpy as np  # noqa: PLC0415 - keeps this module light

        self.load()
        deadline = time.monotonic() + self._timeout
        scores = np.empty(len(texts), dtype=np.float32)
        for start in range(0, len(texts), _BATCH):
            scores[start : start + _BATCH] = self._predict(query, texts[start : start + _BATCH], deadline)
        if not np.isfinite(scores).all():
            raise RerankerUnavailable("the reranking model gave a score that is not finite", reason="failed")
        return scores

    def close(self) -> None:
        """Let the model go."""
        with self._loading, self._computing:
            self._closed = True
            self._model = None

    def _predict(self, query: str, texts: Sequence[str], deadline: float) -> Any:
        pairs = [(_clean(query), _clean(text)) for text in texts]
        with self._computing:
            if self._model is None:
                raise RerankerUnavailable("the reranker is closed", reason="closed")
            if time.monotonic() > deadline:
                raise RerankerUnavailable(
                    f"the reranking model took longer than {self._timeout:g} s",
                    hint="Set reranker.timeout higher or reranker.top lower, or take a smaller model.",
                    reason="timeout",
                )
            try:
                return self._model.predict(pairs, batch_size=_BATCH, show_progress_bar=False)
            except Exception as error:
                raise RerankerUnavailable(f"the reranking model failed: {error}", reason="failed") from error


def _clean(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
