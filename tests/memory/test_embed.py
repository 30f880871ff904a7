"""The embedder protocol's chooser and the double for tests."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.memory._embed import (
    Embedder,
    EmbedderConfig,
    EmbedderUnavailable,
    HashEmbedder,
    QueryCache,
    create_embedder,
)
from adaptive_llm_gateway.memory._embed_http import HttpEmbedder
from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder


def test_choosing_an_embedder_imports_none_of_the_heavy_libraries() -> None:
    program = (
        "import sys\n"
        "from adaptive_llm_gateway.memory._embed import EmbedderConfig, create_embedder\n"
        "create_embedder(EmbedderConfig())\n"
        "create_embedder(EmbedderConfig(kind='http', url='http://127.0.0.1:1/v1', model='m'))\n"
        "heavy = {'numpy', 'onnxruntime', 'tokenizers', 'httpx2', 'torch', 'sentence_transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_the_default_is_the_model_inside_the_package() -> None:
    assert isinstance(create_embedder(EmbedderConfig()), OnnxEmbedder)


def test_the_default_can_be_named() -> None:
    config = EmbedderConfig(model="all-MiniLM-L6-v2", dimensions=384)
    assert isinstance(create_embedder(config), OnnxEmbedder)


def test_none_is_no_embedder() -> None:
    assert create_embedder(EmbedderConfig(kind="none")) is None


def test_http_is_chosen_by_its_kind() -> None:
    config = EmbedderConfig(kind="http", url="http://127.0.0.1:1/v1", model="m", dimensions=8)
    chosen = create_embedder(config)
    assert isinstance(chosen, HttpEmbedder)
    assert chosen.dimensions == 8


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (EmbedderConfig(model="another-model"), "another-model"),
        (EmbedderConfig(dimensions=512), "512"),
        (EmbedderConfig(kind="http", model="m"), "embedder.url"),
        (EmbedderConfig(kind="http", url="http://127.0.0.1/v1"), "embedder.model"),
    ],
)
def test_values_that_do_not_go_together_are_named(config: EmbedderConfig, word: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create_embedder(config)
    assert word in caught.value.message
    assert caught.value.hint


def test_the_double_is_deterministic_normalised_and_brings_shared_words_together() -> None:
    double: Embedder = HashEmbedder(32)
    double.load()
    vectors = double.embed(["the cat sat", "The cat sat!", "quarterly tax report", "", "\ud800"])
    assert vectors.shape == (5, 32)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(
        vectors, HashEmbedder(32).embed(["the cat sat", "The cat sat!", "quarterly tax report", "", "\ud800"])
    )
    assert vectors[0] @ vectors[1] > 0.99 > vectors[0] @ vectors[2]
    np.testing.assert_array_equal(double.embed_query("the cat sat"), vectors[0])
    assert double.embed([]).shape == (0, 32)
    assert double.local
    double.close()


def test_doubles_of_another_seed_or_size_have_another_id() -> None:
    ids = {HashEmbedder().id, HashEmbedder(32).id, HashEmbedder(seed=1).id}
    assert len(ids) == 3
    assert HashEmbedder().id == HashEmbedder().id


def test_the_query_cache_forgets_the_query_used_longest_ago() -> None:
    cache = QueryCache(2)
    first = cache.put("a", np.ones(2, dtype=np.float32))
    cache.put("b", np.ones(2, dtype=np.float32))
    assert cache.get("a") is first
    cache.put("c", np.ones(2, dtype=np.float32))
    assert cache.get("b") is None
    assert cache.get("a") is first
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 2
    cache.clear()
    assert cache.get("a") is None


def test_an_unavailable_embedder_says_why_and_survives_pickling() -> None:
    error = EmbedderUnavailable("gone", hint="look", reason="missing", path="x")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (again.code, again.details, again.hint) == (
        "embedder_unavailable",
        {"reason": "missing", "path": "x"},
        "look",
    )
