"""Build the ranks of the tokenizers inside the package, from the rank files in the wheel of `llama-index-core`.

Run it where a wheel can be had; nothing of the wheel is installed or run, and it is not kept:

    pip download --no-deps llama-index-core==0.14.25
    python scripts/build_token_ranks.py llama_index_core-0.14.25-py3-none-any.whl

The wheel and both rank files are checked against the digests below; those of the rank files are the ones that tiktoken
pins. A built file is xz over: the number of tokens (four bytes, big-endian), the length of each token (one byte), then
the tokens themselves, all in the order of their ranks. It is read back and compared before it is written.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import lzma
import sys
import zipfile
from pathlib import Path

WHEEL_SHA256 = "caa7d9c5ac9b13dc33400cf8d5e92e689b6d1e4497eb9bfa50d6f52ca2eb22a1"
FOLDER = "llama_index/core/_static/tiktoken_cache"
# encoding -> (the file in the wheel, named as tiktoken's cache names it; the SHA-256 that tiktoken pins)
SOURCES = {
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
}
TARGET = Path(__file__).resolve().parent.parent / "compression/adaptive_llm_gateway/compression/ranks"
# Tokens have no alignment and few repeats: more context of the last byte, and none of the position, is smallest.
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 4, "lp": 0, "pb": 0}]


def tokens_of(source: bytes) -> list[bytes]:
    """The tokens of a rank file in the order of their ranks, which must be 0, 1, 2 and so on."""
    tokens: list[bytes] = []
    for rank, line in enumerate(source.splitlines()):
        token, number = line.split()
        if int(number) != rank:
            sys.exit(f"rank {number.decode()} stands where {rank} should")
        tokens.append(base64.b64decode(token))
    return tokens


def pack(tokens: list[bytes]) -> bytes:
    """The built file's bytes."""
    plain = len(tokens).to_bytes(4, "big") + bytes(map(len, tokens)) + b"".join(tokens)
    return lzma.compress(plain, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, filters=FILTERS)


def rank_file(packed: bytes) -> bytes:
    """The rank file that a built file stands for."""
    plain = lzma.decompress(packed)
    count = int.from_bytes(plain[:4], "big")
    at = 4 + count
    lines: list[bytes] = []
    for rank, length in enumerate(plain[4:at]):
        lines.append(base64.b64encode(plain[at : at + length]) + b" %d\n" % rank)
        at += length
    return b"".join(lines)


def main() -> None:
    """Read the wheel, check, pack, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=TARGET, help="folder to write to")
    arguments = parser.parse_args()
    wheel: Path = arguments.wheel
    out: Path = arguments.out
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != WHEEL_SHA256:
        sys.exit(f"{wheel} is not the wheel this script was written for (sha256 differs)")
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel) as archive:
        for name, (file, sha256) in SOURCES.items():
            source = archive.read(f"{FOLDER}/{file}")
            if hashlib.sha256(source).hexdigest() != sha256:
                sys.exit(f"{file} in the wheel is not {name} as tiktoken pins it")
            packed = pack(tokens_of(source))
            if rank_file(packed) != source:
                sys.exit(f"{name}: what was packed is not what was read")
            (out / f"{name}.xz").write_bytes(packed)
            print(f"{name}: {len(source):,} -> {len(packed):,} bytes")


if __name__ == "__main__":
    main()
