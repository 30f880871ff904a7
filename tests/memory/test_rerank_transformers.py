"""The extra for any cross-encoder: its absence is told, and with it a model is used, if it is one."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory import Reranker, RerankerConfig, RerankerUnavailable, create_reranker

needs_extra = pytest.mark.skipif(
    importlib.util.find_spec("sentence_transformers") is None, reason="the extra 'transformers' is not installed"
)


def test_without_the_extra_the_hint_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how the import system itself says that a module is not to be had.
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError) as caught:
        create_reranker(RerankerConfig(kind="transformers", model="any/model"))
    assert caught.value.hint is not None
    assert "pip install 'adaptive-llm-gateway[transformers]'" in caught.value.hint


def test_without_a_model_the_key_is_named() -> None:
    with pytest.raises(ConfigError) as caught:
        create_reranker(RerankerConfig(kind="transformers"))
    assert caught.value.details["key"] == "reranker.model"


def made(folder: Path, kind: str, *, labels: int = 1) -> str:
    """A tiny BERT with weights drawn by lot, saved as one that was trained to be `kind`."""
    library: Any = importlib.import_module("transformers")
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(7)
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "otter", "river", "ready", "water"]
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    config = library.BertConfig(
        vocab_size=len(words), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, num_labels=labels, initializer_range=0.5,
    )  # fmt: skip
    getattr(library, kind)(config).save_pretrained(folder)
    library.BertTokenizerFast(vocab_file=str(folder / "vocab.txt")).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"] == [kind]
    return str(folder)


def loaded(model: str, **given: Any) -> Reranker:
    reranker = create_reranker(RerankerConfig(kind="transformers", model=model, **given))
    assert reranker is not None
    reranker.load()
    return reranker


@needs_extra
def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RerankerUnavailable) as caught:
        loaded(str(tmp_path / "absent"))
    assert caught.value.details["reason"] == "missing"


@needs_extra
@pytest.mark.filterwarnings("ignore")  # torch's own, of which there are new ones with each release
@pytest.mark.parametrize(
    ("kind", "labels"), [("BertModel", 1), ("BertForMaskedLM", 1), ("BertForSequenceClassification", 3)]
)
def test_a_model_that_was_not_trained_to_rerank_is_refused(tmp_path: Path, kind: str, labels: int) -> None:
    with pytest.raises(RerankerUnavailable) as caught:
        loaded(made(tmp_path / "m", kind, labels=labels))
    assert caught.value.details["reason"] == "no_reranker"
    assert kind in caught.value.message


@needs_extra
@pytest.mark.filterwarnings("ignore")
def test_a_cross_encoder_from_a_folder_scores_texts_one_by_one_and_among_others_alike(tmp_path: Path) -> None:
    folder = made(tmp_path / "m", "BertForSequenceClassification")
    reranker = loaded(folder, timeout=60.0)
    assert (reranker.id, reranker.local) == (f"transformers:{folder}", True)
    texts = [f"otter{' river' * n} {'water ' * (n % 3)}" for n in range(19)] + ["", "\ud800", "a\0b", "otter " * 5_000]
    scores = reranker.score("otter river", texts)
    assert (scores.shape, scores.dtype) == ((23,), np.float32)
    assert len(set(scores[:8].round(5).tolist())) > 1
    assert reranker.score("", []).shape == (0,)
    for n in (0, 7, 20):
        np.testing.assert_allclose(reranker.score("otter river", [texts[n]]), scores[n : n + 1], atol=1e-4)
    reranker.close()
    with pytest.raises(RerankerUnavailable, match="closed"):
        reranker.score("x", ["y"])


@needs_extra
@pytest.mark.filterwarnings("ignore")
def test_when_nobody_waits_any_more_no_further_batch_is_begun(tmp_path: Path) -> None:
    reranker = loaded(made(tmp_path / "m", "BertForSequenceClassification"), timeout=0.0)
    with pytest.raises(RerankerUnavailable) as caught:
        reranker.score("otter", ["otter"] * 50)
    assert caught.value.details["reason"] == "timeout"
