"""The model inside the package: what it computes, and what happens when its files are not what they should be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from adaptive_llm_gateway.memory import _embed_onnx
from adaptive_llm_gateway.memory._embed import Embedder, EmbedderUnavailable
from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder

MODEL = Path(_embed_onnx.__file__).parent / "models" / "all-MiniLM-L6-v2"
INFO = json.loads((MODEL / "model-info.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def embedder() -> Iterator[OnnxEmbedder]:
    shared = OnnxEmbedder()
    yield shared
    shared.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder of the test's own; the large file is a hard link or a copy, so replace it, never write into it."""
    copy = tmp_path / "model"
    copy.mkdir()
    for name in ("tokenizer.json", "model-info.json"):
        shutil.copy(MODEL / name, copy / name)
    try:
        os.link(MODEL / "model.onnx", copy / "model.onnx")
    except OSError:
        shutil.copy(MODEL / "model.onnx", copy / "model.onnx")
    return copy


def replace(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def declare(folder: Path, **changes: object) -> None:
    """Rewrite `model-info.json` so that it describes the files that are there."""
    info = json.loads((folder / "model-info.json").read_text(encoding="utf-8"))
    for name in info["files"]:
        data = (folder / name).read_bytes()
        info["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "model-info.json").write_text(json.dumps(info | changes), encoding="utf-8")


def reason(call: Callable[[], object]) -> EmbedderUnavailable:
    with pytest.raises(EmbedderUnavailable) as caught:
        call()
    assert caught.value.code == "embedder_unavailable"
    return caught.value


# --- What it computes ---------------------------------------------------------------------------------


def test_meaning_brings_texts_together(embedder: OnnxEmbedder) -> None:
    as_protocol: Embedder = embedder
    cat, feline, tax = as_protocol.embed(
        ["The cat sits on the mat.", "A feline is resting on a rug.", "Tax report, Q3"]
    )
    assert cat @ feline > 0.5
    assert cat @ tax < 0.2


def test_vectors_are_normalised_float32_of_the_promised_length(embedder: OnnxEmbedder) -> None:
    vectors = embedder.embed(["one", "two words", "a\nb"])
    assert vectors.shape == (3, embedder.dimensions) == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-4)


def test_a_text_has_the_same_vector_alone_among_others_and_as_a_query(embedder: OnnxEmbedder) -> None:
    text = "We keep the index derived, so that it can be rebuilt."
    alone = embedder.embed([text])[0]
    np.testing.assert_array_equal(embedder.embed(["x " * 400, text, "", "42"])[1], alone)
    np.testing.assert_array_equal(embedder.embed_query(text), alone)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   \n",
        "a\0b",
        "\ud800 lone surrogate \udfff",
        "🤷" * 50,
        "会議は金曜日です",
        "x" * 3_000_000,
        "\u202e rtl",
        "�" * 300,
    ],
    ids=["empty", "blank", "nul", "surrogate", "emoji", "cjk", "one long word", "bidi", "replacement"],
)
def test_any_text_is_accepted(embedder: OnnxEmbedder, text: str) -> None:
    vector = embedder.embed_query(text)
    assert np.isfinite(vector).all()
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-4


def test_a_long_text_is_cut_at_the_window(embedder: OnnxEmbedder) -> None:
    start = "word " * 254
    np.testing.assert_array_equal(embedder.embed([start])[0], embedder.embed([start + "zebra " * 5000])[0])
    assert not np.array_equal(embedder.embed(["word " * 200])[0], embedder.embed(["word " * 200 + "zebra"])[0])


def test_no_texts_give_no_vectors(embedder: OnnxEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 384)


def test_a_repeated_query_comes_from_the_cache_and_cannot_be_changed(embedder: OnnxEmbedder) -> None:
    vector = embedder.embed_query("where is the index kept?")
    assert embedder.embed_query("where is the index kept?") is vector
    assert not vector.flags.writeable


def test_many_threads_get_the_vectors_that_one_gets(embedder: OnnxEmbedder) -> None:
    texts = [f"memory number {n} about {('git', 'search', 'budget')[n % 3]}" for n in range(24)]
    wanted = embedder.embed(texts)
    found: dict[int, object] = {}

    def work(start: int) -> None:
        mine = texts[start::6]
        found[start] = (embedder.embed(mine), [embedder.embed_query(text) for text in mine])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for start in range(6):
        vectors, queries = found[start]  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType]
        np.testing.assert_array_equal(vectors, wanted[start::6])  # pyright: ignore[reportUnknownArgumentType]
        np.testing.assert_array_equal(np.stack(queries), wanted[start::6])  # pyright: ignore[reportUnknownArgumentType]


def test_no_further_text_is_begun_while_a_query_is_computed(
    embedder: OnnxEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder.load()
    monkeypatch.setattr(_embed_onnx, "_LONGEST_YIELD_SECONDS", 30.0)
    begun, go_on, order = threading.Event(), threading.Event(), list[str]()

    def compute(
        session: object, tokenizer: object, text: str, tell: object = None
    ) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        if text == "the question":
            begun.set()
            assert go_on.wait(30)
        order.append(text)
        return np.zeros(384, np.float32)

    monkeypatch.setattr(_embed_onnx, "_compute", compute)
    asking = threading.Thread(target=embedder.embed_query, args=("the question",))
    embedding = threading.Thread(target=embedder.embed, args=(["one", "two", "three"],))
    asking.start()
    assert begun.wait(30)
    embedding.start()
    embedding.join(0.2)
    assert order == []
    go_on.set()
    asking.join(30)
    embedding.join(30)

    assert order[0] == "the question"
    assert sorted(order[1:]) == ["one", "three", "two"]


def test_threads_that_load_at_once_load_one_model() -> None:
    fresh = OnnxEmbedder()
    gate = threading.Barrier(4)
    vectors: list[object] = []

    def work() -> None:
        gate.wait(30)
        vectors.append(fresh.embed(["hello"]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(vectors) == 4
    fresh.close()


def test_texts_stay_in_the_process(embedder: OnnxEmbedder) -> None:
    assert embedder.local


def test_a_child_process_started_after_embedding_hears_no_complaint() -> None:
    program = (
        "import os, sys\n"
        "from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder\n"
        "embedder = OnnxEmbedder()\n"
        "embedder.embed(['one', 'two', 'three'])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print('TOKENIZERS_PARALLELISM' in os.environ)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        capture_output=True, text=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("False", "")


# --- Identity -----------------------------------------------------------------------------------------


def test_the_id_names_the_model_and_follows_its_files(folder: Path) -> None:
    first = OnnxEmbedder(folder).id
    assert first == OnnxEmbedder().id
    assert first.startswith("onnx:all-MiniLM-L6-v2:int8:")
    replace(folder / "tokenizer.json", (folder / "tokenizer.json").read_bytes() + b"\n")
    declare(folder)
    assert OnnxEmbedder(folder).id != first


def test_the_shipped_files_are_what_their_description_says() -> None:
    for name, entry in INFO["files"].items():
        data = (MODEL / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
    assert INFO["export"]["cosine_to_original"]["mean"] >= 0.99
    assert "Apache License" in (MODEL / "LICENSE").read_text(encoding="utf-8")
    assert "all-MiniLM-L6-v2" in (MODEL / "NOTICE").read_text(encoding="utf-8")


# --- Files that are not what they should be -----------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "model-info.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    error = reason(lambda: OnnxEmbedder(folder).embed(["x"]))
    assert error.details["reason"] == "missing"
    assert error.details["path"] == str(folder / name)
    assert name in error.message


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
@pytest.mark.parametrize("kept", [0, 1000])
def test_a_truncated_file_is_named(folder: Path, name: str, kept: int) -> None:
    replace(folder / name, (folder / name).read_bytes()[:kept])
    error = reason(lambda: OnnxEmbedder(folder).load())
    assert error.details["reason"] == "truncated"
    assert name in error.message


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_changed_byte_is_noticed(folder: Path, name: str) -> None:
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    replace(folder / name, bytes(data))
    assert reason(lambda: OnnxEmbedder(folder).load()).details["reason"] == "damaged"


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_with_the_right_digest_that_is_no_model_is_named(folder: Path, name: str) -> None:
    replace(folder / name, b"not at all")
    declare(folder)
    error = reason(lambda: OnnxEmbedder(folder).load())
    assert error.details["reason"] == "damaged"
    assert name in error.message


def test_a_model_of_another_dimension_is_named(folder: Path) -> None:
    declare(folder, dimensions=512)
    error = reason(lambda: OnnxEmbedder(folder).load())
    assert error.details["reason"] == "wrong_dimension"
    assert "384" in error.message
    assert "512" in error.message


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", '{"model": "m"}', "[" * 100_000, '{"files": 3}', "\ufeff{}"],
    ids=["empty", "list", "null", "no keys", "few keys", "deep", "wrong type", "bom"],
)
def test_a_description_that_cannot_be_read_is_named(folder: Path, text: str) -> None:
    (folder / "model-info.json").write_text(text, encoding="utf-8")
    error = reason(lambda: OnnxEmbedder(folder).id)
    assert error.details["reason"] == "damaged"
    assert "model-info.json" in error.message


def test_a_repaired_model_loads_on_the_next_try(folder: Path) -> None:
    embedder = OnnxEmbedder(folder)
    data = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").unlink()
    reason(embedder.load)
    (folder / "tokenizer.json").write_bytes(data)
    assert embedder.embed(["x"]).shape == (1, 384)
    embedder.close()


def test_a_closed_embedder_says_so() -> None:
    embedder = OnnxEmbedder()
    embedder.close()
    embedder.close()
    assert reason(lambda: embedder.embed(["x"])).details["reason"] == "closed"
    assert reason(lambda: embedder.embed_query("x")).details["reason"] == "closed"
