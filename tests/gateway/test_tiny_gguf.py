"""The tiny model's file: the same from the same seed, and one that an engine can take."""

from __future__ import annotations

import hashlib
import importlib.util
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tiny_gguf.py"
DIGEST = "b635d576ffa111ece1f1346ffaa2b229f8524f860bf5243a075abcf6bab21ae0"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("tiny_gguf", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tiny_gguf"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_seed_has_one_file_on_every_machine(tmp_path: Path) -> None:
    def written(name: str, *more: str) -> bytes:
        path = tmp_path / name
        subprocess.run([sys.executable, SCRIPT, path, *more], check=True, timeout=60, capture_output=True)
        return path.read_bytes()

    first = written("a.gguf")
    assert hashlib.sha256(first).hexdigest() == DIGEST
    assert 400_000 < len(first) < 600_000
    assert written("b.gguf", "--seed", "8") != first
    assert written("c.gguf", "--pooled") != first


def test_no_token_is_there_twice(script: Any) -> None:
    texts = [token.text for token in script.vocabulary()]
    assert len(set(texts)) == len(texts)
    assert (texts[script.UNKNOWN], texts[script.BEGIN], texts[script.END]) == ("<unk>", "<s>", "</s>")


def test_the_weights_are_where_the_header_ends(script: Any) -> None:
    data = script.model(7)
    magic, version, tensors, _ = struct.unpack_from("<4sIQQ", data)
    weights = list(script.tensors(script.vocabulary(), 7))
    assert (magic, version, tensors) == (b"GGUF", 3, len(weights))
    size = sum(len(weight.values) * 4 for weight in weights)  # each is a multiple of the alignment
    first = struct.pack("<4f", *weights[0].values[:4])
    assert data[len(data) - size :].startswith(first)
