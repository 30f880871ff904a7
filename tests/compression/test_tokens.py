"""Counting tokens: the numbers are tiktoken's, nothing is fetched, and no text is too odd or too long."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext import openai_public  # pyright: ignore[reportMissingTypeStubs]

from adaptive_llm_gateway.compression import _ranks as ranks_module
from adaptive_llm_gateway.compression import counter_for
from adaptive_llm_gateway.compression._ranks import FOLDER, SPECS, EncodingName, core, read_ranks
from adaptive_llm_gateway.compression._tokens import count_tokens
from adaptive_llm_gateway.core import StorageError

NAMES: list[EncodingName] = ["o200k_base", "cl100k_base"]

# Counted with tiktoken's own encodings, made from the rank files that it downloads.
FIXTURES = [
    ("", 0, 0),
    ("hello world", 2, 2),
    ("Hello, world! It's 2026-11-21T22:30:00Z.", 20, 21),
    ("def add(a: int, b: int) -> int:\n    return a + b\n", 19, 19),
    ("DER VERTRAG wird verlängert, sofern niemand kündigt.", 13, 18),
    ("会議は金曜日の午後三時からです。", 12, 16),
    ("Нужно обновить документацию перед выпуском.", 10, 16),
    ("error[E0433]: failed to resolve: use of undeclared crate `serde_json`", 18, 18),
    ("| a | b |\n|---|---|\n| 1 | 2 |\n\n\n", 18, 18),
    (
        "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 e\u0301 \u202ertl\u202c \u05e9\u05dc\u05d5\u05dd",
        18,
        29,
    ),
    ("   \n\n \t x  ", 4, 4),
    ("<|endoftext|>", 7, 7),
    ("1234567890 0x7fffffff", 10, 9),
    ("a\x00b", 3, 3),
]


def vanilla(name: EncodingName) -> tiktoken.Encoding:
    """tiktoken's own encoding with the ranks of the package, as tiktoken itself would build it."""

    def load(_: str, expected_hash: str) -> dict[bytes, int]:
        return read_ranks(FOLDER / f"{name}.xz", expected_hash)

    with pytest.MonkeyPatch.context() as patch:  # the one thing that would fetch
        patch.setattr(openai_public, "load_tiktoken_bpe", load)
        return tiktoken.Encoding(**getattr(openai_public, name)())


@pytest.fixture(scope="module")
def encodings() -> dict[EncodingName, tiktoken.Encoding]:
    return {name: vanilla(name) for name in NAMES}


@pytest.mark.parametrize(("text", "o200k", "cl100k"), FIXTURES)
def test_known_texts_have_the_known_counts(text: str, o200k: int, cl100k: int) -> None:
    assert (count_tokens(text, "o200k_base"), count_tokens(text, "cl100k_base")) == (o200k, cl100k)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoding_is_the_one_that_tiktoken_defines(name: EncodingName) -> None:
    asked: list[str] = []

    def load(_: str, expected_hash: str) -> dict[bytes, int]:
        asked.append(expected_hash)
        return {}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", load)
        theirs: dict[str, Any] = getattr(openai_public, name)()
    assert theirs["pat_str"] == SPECS[name].pattern
    assert theirs["special_tokens"] == dict(SPECS[name].special)
    assert asked == [SPECS[name].sha256]


# Everything that the patterns tell apart, and white space most of all.
ODD = st.text(
    st.sampled_from(" \n\r\t \n\xa0\u2003\u3000/a!Z1é\u0301\u0651的'.s\ud800\udc00😀\x00\x1c\x85|<>"), max_size=40
)


@settings(max_examples=400, deadline=None)
@given(text=st.one_of(st.text(max_size=60), ODD), long_run=st.integers(2, 6))
def test_a_count_is_tiktokens_wherever_runs_of_white_space_are_cut(
    encodings: dict[EncodingName, tiktoken.Encoding], text: str, long_run: int
) -> None:
    for name, encoding in encodings.items():
        wanted = len(encoding.encode_ordinary(text))
        assert count_tokens(text, name, long_run=long_run) == wanted
        assert count_tokens(text, name) == wanted


def test_special_tokens_in_a_text_are_text(encodings: dict[EncodingName, tiktoken.Encoding]) -> None:
    for name, encoding in encodings.items():
        for special in encoding.special_tokens_set:
            assert count_tokens(special, name) == len(encoding.encode(special, disallowed_special=())) > 1


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (" " * 5_000_000, 39_063),
        ("x" + " " * 2_000_000 + "x", None),
        ("!" + "\n" * 600_000 + "\t \n" * 300_000 + "x", None),
        ("a" * 2_000_000, 250_000),
        ("\0" * 1_000_000, 500_000),
        ("\ud800" * 200_000, None),
    ],
    ids=["spaces", "spaces between words", "newlines and spaces", "one letter", "NUL", "lone surrogates"],
)
def test_millions_of_characters_without_a_word_are_counted(text: str, tokens: int | None) -> None:
    counted = count_tokens(text, "o200k_base")
    assert counted == tokens if tokens is not None else 1 < counted <= len(text.encode("utf-8", "surrogatepass"))


def test_a_lone_surrogate_counts_as_the_replacement_character() -> None:
    assert count_tokens("a\ud800b", "o200k_base") == count_tokens("a\ufffdb", "o200k_base")
    assert count_tokens("\ud83d\ude00", "o200k_base") == count_tokens("😀", "o200k_base")


# --- Where the ranks come from --------------------------------------------------------------------------------------


def test_counting_touches_no_network_and_no_environment() -> None:
    code = (
        "import os, socket\n"
        "def refuse(*_, **__):\n    raise AssertionError('a socket was opened')\n"
        "socket.socket = socket.create_connection = socket.getaddrinfo = refuse\n"
        "before = dict(os.environ)\n"
        "from adaptive_llm_gateway.compression import counter_for\n"
        "assert counter_for('gpt-4o').count('hello world') == 2\n"
        "assert counter_for('gpt-4').count('hello world') == 2\n"
        "assert dict(os.environ) == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_choosing_a_counter_loads_no_tokenizer() -> None:
    code = (
        "import sys\n"
        "from adaptive_llm_gateway.compression import counter_for\n"
        "counter_for(), counter_for('gpt-4'), counter_for('claude-opus-5')\n"
        "assert 'tiktoken' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def cut(data: bytes) -> bytes:
    return data[:-1000]


def flip(data: bytes) -> bytes:
    return data[:200_000] + bytes([data[200_000] ^ 1]) + data[200_001:]


def nothing(_: bytes) -> bytes:
    return b""


def another(_: bytes) -> bytes:
    return (FOLDER / "o200k_base.xz").read_bytes()


@pytest.mark.parametrize("damage", [cut, flip, nothing, another])
def test_a_damaged_file_of_ranks_is_named_and_not_used(damage: Any, tmp_path: Path) -> None:
    path = tmp_path / "cl100k_base.xz"
    path.write_bytes(damage((FOLDER / path.name).read_bytes()))
    with pytest.raises(StorageError, match="is damaged") as raised:
        read_ranks(path, SPECS["cl100k_base"].sha256)
    assert raised.value.details["path"] == str(path)
    assert raised.value.hint


def test_a_missing_file_of_ranks_is_an_error_each_time_and_none_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = counter_for()
    with monkeypatch.context() as patch:
        patch.setattr(ranks_module, "FOLDER", tmp_path)
        patch.setattr(ranks_module, "_held", {})
        for _ in range(2):
            with pytest.raises(StorageError, match="cannot be read"):
                counter.count("text")
        (tmp_path / "o200k_base.xz").write_bytes((FOLDER / "o200k_base.xz").read_bytes())
        assert counter.count("hello world") == 2


def test_threads_that_count_at_once_load_the_ranks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def counted(path: Path, sha256: str) -> dict[bytes, int]:
        read.append(path)
        return read_ranks(path, sha256)

    monkeypatch.setattr(ranks_module, "_held", {})
    monkeypatch.setattr(ranks_module, "read_ranks", counted)
    start = Barrier(8)

    def count(number: int) -> int:
        start.wait(timeout=60)
        return sum(count_tokens(f"the text of thread {number}, " * 50, "cl100k_base") for _ in range(5))

    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(count, range(8)))
    assert len(read) == 1
    assert len(set(together)) == 1
    assert core("cl100k_base") is core("cl100k_base")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_encoding_takes_less_than_a_hundred_megabytes() -> None:
    # Measured: 49 MB held and 72 MB while loading. The margin is for other allocators and interpreters.
    code = (
        "from pathlib import Path\n"
        "def peak():\n"
        "    status = Path('/proc/self/status').read_text(encoding='ascii')\n"
        "    return int(status.split('VmHWM:')[1].split()[0]) / 1024\n"
        "from adaptive_llm_gateway.compression import counter_for\n"
        "import adaptive_llm_gateway.compression._tokens, lzma, tiktoken\n"
        "before = peak()\n"
        "counter_for().count('x')\n"
        "print(peak() - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) < 100
