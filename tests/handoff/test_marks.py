"""Marks of redacted secrets in handoffs: a patch keeps its shape, and equal secrets have equal marks."""

from __future__ import annotations

import random
import string
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import MARK_KEY_BYTES, marks_in
from adaptive_llm_gateway.handoff import Handoffs, NewOffer, Party, unfence
from adaptive_llm_gateway.memory import MemoryStore
from adaptive_llm_gateway.memory.testing import temporary_store

TOKEN = "ghp_" + "x8Kd02LmQz71RtVb64" + "NcYw93HsPfJe5UaTgi"
ME = Party("claude-code", None, "desk", "desk-1", "a1")


def _key_lines() -> list[str]:
    rng = random.Random(3)  # noqa: S311 - a key that opens nothing
    letters = string.ascii_letters + string.digits + "+/"
    body = ["".join(rng.choices(letters, k=64)) for _ in range(12)]
    return ["-----BEGIN " + "PRIVATE KEY-----", *body, "-----END " + "PRIVATE KEY-----"]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with temporary_store(tmp_path / "store", mark_key=bytes(range(MARK_KEY_BYTES))) as made:
        yield made


def test_a_patch_with_secrets_keeps_its_shape_and_marks_them_as_the_rest_does(
    store: MemoryStore, tmp_path: Path
) -> None:
    key = _key_lines()
    body = [" import os", *(f"+{line}" for line in key), f"-token = '{TOKEN}'", f"+token = '{TOKEN}' # kept", " end"]
    patch = f"diff --git a/k.py b/k.py\n--- a/k.py\n+++ b/k.py\n@@ -1,3 +1,{len(key) + 3} @@\n" + "\n".join(body) + "\n"
    handoffs = Handoffs(store)
    done = handoffs.create(NewOffer("Rotate it", state=f"{TOKEN} is out", patch=patch, redact=True), ME)
    carried = handoffs.patch_of(done.handoff)
    assert carried is not None
    text = unfence(carried.text)
    assert text is not None
    assert not any(secret in text for secret in (TOKEN, *key[1:-1]))
    assert [line[:1] for line in text.splitlines()] == [line[:1] for line in patch.splitlines()]
    shown = subprocess.run(
        ["git", "apply", "--numstat"],
        input=text if text.endswith("\n") else text + "\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        check=True,
    ).stdout
    assert shown.split() == [str(len(key) + 1), "1", "k.py"]
    marks = [mark.mark for mark in marks_in(text)]
    assert marks[1] == marks[2] != marks[0]
    assert marks[1] in done.handoff.offer.state
