"""`alg tokens`: the numbers, what is said of them, and files that cannot be counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ALG = str(Path(sys.executable).with_name("alg"))


def tokens(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [ALG, "tokens", *arguments], input=stdin, capture_output=True, timeout=60, check=False, cwd=cwd
    )


def counted(*arguments: str, stdin: bytes = b"", cwd: Path | None = None) -> dict[str, Any]:
    return json.loads(tokens(*arguments, "--json", stdin=stdin, cwd=cwd).stdout)


def test_files_and_stdin_are_counted_exactly_with_their_total(tmp_path: Path, isolated: Path) -> None:
    (tmp_path / "a.md").write_text("hello world", encoding="utf-8")
    (tmp_path / "b.md").write_text("hello world " * 2000, encoding="utf-8")
    done = tokens("a.md", "b.md", "-", stdin=b"hello", cwd=tmp_path)
    assert done.stdout.decode() == "    2  a.md\n4,001  b.md\n    1  -\n4,004  total\n"
    assert done.stderr.decode() == "tokens of o200k_base, exact\n"
    assert done.returncode == 0
    assert not isolated.exists()  # no home is made for it
    assert counted("a.md", "-", stdin=b"hello", cwd=tmp_path) == {
        "counter": "o200k_base",
        "exact": True,
        "tokens": 3,
        "files": [
            {"path": "a.md", "tokens": 2, "bytes": 11, "utf8": True},
            {"path": "-", "tokens": 1, "bytes": 5, "utf8": True},
        ],
    }


def test_a_model_names_its_tokenizer_and_an_estimate_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("DER VERTRAG wird verlängert.", encoding="utf-8")
    exact = counted("a.md", "--model", "gpt-4", cwd=tmp_path)
    assert (exact["counter"], exact["exact"]) == ("cl100k_base", True)
    done = tokens("a.md", "--model", "claude-opus-5", cwd=tmp_path)
    assert done.stderr.decode().startswith("at most, an estimate: the tokenizer of 'claude-opus-5' is not here")
    estimate = counted("a.md", "--model", "claude-opus-5", cwd=tmp_path)
    assert (estimate["counter"], estimate["exact"]) == ("estimate:claude-opus-5", False)
    assert estimate["tokens"] > exact["tokens"]


def test_what_is_not_utf8_is_counted_and_said(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"a\xff\x00b")
    done = tokens("b", cwd=tmp_path)
    assert done.returncode == 0
    assert "b is not UTF-8" in done.stderr.decode()
    assert counted("b", cwd=tmp_path)["files"][0]["utf8"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["missing.md"], "not_found", 3),
        (["."], "invalid_input", 2),
        (["-", "-"], "invalid_input", 2),
        (["a.md", "--model", " "], "invalid_input", 2),
        (["large"], "too_large", 2),
        ([], "usage", 2),
    ],
)
def test_what_cannot_be_counted_is_told_apart(arguments: list[str], code: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a", encoding="utf-8")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(64 * 1024 * 1024 + 1)
    done = tokens(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == status
    assert json.loads(done.stdout)["error"]["code"] == code
