"""The tokenizers inside the package: their ranks, read and checked, and tiktoken's encodings made from them.

tiktoken would download its ranks. Here they lie beside the code (`scripts/build_token_ranks.py` made the files), so
nothing is ever fetched and no environment variable is read or set.
"""

from __future__ import annotations

import hashlib
import lzma
from binascii import b2a_base64
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol, cast

from adaptive_llm_gateway.core import StorageError

EncodingName = Literal["o200k_base", "cl100k_base"]

FOLDER = Path(__file__).with_name("ranks")


@dataclass(frozen=True, slots=True)
class EncodingSpec:
    """What makes an encoding besides its ranks, as in tiktoken's `tiktoken_ext/openai_public.py`.

    Attributes:
        sha256: of the rank file (one line a token: base64, space, rank), as tiktoken pins it.
        pattern: the regular expression that splits a text into pieces; tokens never go across two.
        special: the tokens that stand for no text.
        end_is_one: whether white space at the very end of a text is one piece, newlines or not.
    """

    sha256: str
    pattern: str
    special: tuple[tuple[str, int], ...]
    end_is_one: bool


SPECS: dict[EncodingName, EncodingSpec] = {
    "o200k_base": EncodingSpec(
        sha256="446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        pattern="|".join(
            [
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
                r"""\p{N}{1,3}""",
                r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
                r"""\s*[\r\n]+""",
                r"""\s+(?!\S)""",
                r"""\s+""",
            ]
        ),
        special=(("<|endoftext|>", 199999), ("<|endofprompt|>", 200018)),
        end_is_one=False,
    ),
    "cl100k_base": EncodingSpec(
        sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        pattern=(
            r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
            r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
        ),
        special=(
            ("<|endoftext|>", 100257),
            ("<|fim_prefix|>", 100258),
            ("<|fim_middle|>", 100259),
            ("<|fim_suffix|>", 100260),
            ("<|endofprompt|>", 100276),
        ),
        end_is_one=True,
    ),
}


class Core(Protocol):
    """The part of tiktoken's encoding that counts; both calls let other threads run meanwhile."""

    def encode_ordinary(self, text: str) -> list[int]:
        """The tokens of a text, special ones taken as text."""
        ...

    def encode_single_piece(self, piece: bytes) -> list[int]:
        """The tokens of what the pattern would take as one piece."""
        ...


_held: dict[EncodingName, Core] = {}
_loading: dict[EncodingName, Lock] = {name: Lock() for name in SPECS}


def core(name: EncodingName) -> Core:
    """An encoding, made on the first call and then held by the process; threads that ask meanwhile wait for it.

    The first call takes half a second of processor time: never make it on an event loop.

    Raises:
        StorageError: the file of the ranks is missing, damaged or not what it should be.
    """
    found = _held.get(name)
    if found is None:
        with _loading[name]:
            found = _held.get(name)
            if found is None:
                spec = SPECS[name]
                ranks = read_ranks(FOLDER / f"{name}.xz", spec.sha256)
                found = _held[name] = make(spec.pattern, ranks, dict(spec.special))
    return found


def make(pattern: str, ranks: dict[bytes, int], special: dict[str, int]) -> Core:
    """A tiktoken encoding, of which only the part that counts is kept: the rest holds another 23 MB of ranks."""
    import tiktoken  # noqa: PLC0415 - costs time and memory that only counting is to pay

    made = tiktoken.Encoding("ranks", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
    return cast(Core, made._core_bpe)  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]


def read_ranks(path: Path, sha256: str) -> dict[bytes, int]:
    """Each token's rank from a file of the package.

    Args:
        path: xz over the number of tokens (four bytes, big-endian), each one's length (a byte), and the tokens.
        sha256: of the rank file that it stands for.

    Raises:
        StorageError: the file is missing, cannot be read, or stands for another rank file.
    """
    try:
        plain = lzma.decompress(path.read_bytes())
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror or error}") from error
    except (lzma.LZMAError, EOFError) as error:
        raise _unusable(path, f"is damaged: {error}") from error
    at = 4 + int.from_bytes(plain[:4], "big")
    ranks: dict[bytes, int] = {}
    digest = hashlib.sha256()
    for rank, length in enumerate(plain[4:at]):
        token = plain[at : at + length]
        at += length
        ranks[token] = rank
        digest.update(b"%b %d\n" % (b2a_base64(token, newline=False), rank))
    if digest.hexdigest() != sha256 or at != len(plain):
        raise _unusable(path, "is damaged: what is in it does not have the digest it should have")
    return ranks


def _unusable(path: Path, why: str) -> StorageError:
    return StorageError(
        f"The tokenizer's file {str(path)!r} {why}.",
        hint="It is part of adaptive-llm-gateway: install that again.",
        path=str(path),
    )
