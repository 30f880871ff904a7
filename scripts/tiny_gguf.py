"""Write a tiny random language model as a GGUF file that llama.cpp loads: for tests against a real engine.

    python scripts/tiny_gguf.py tiny.gguf [--seed 7] [--pooled]

Two layers of the llama architecture, 64 wide, with a context of 512 tokens; about 500 kB. Its weights are drawn from
the seed, so that the same seed has the same file everywhere, and it answers letters and short words without meaning. It
likes to close a brace, so that an answer that has to be JSON ends. Pooled, it gives one vector a text and no answers.
Standard library only.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

WIDTH, HIDDEN, LAYERS, HEADS, CONTEXT = 64, 128, 2, 4, 512
ALIGNMENT = 32
UNKNOWN, BEGIN, END = 0, 1, 2  # ids of the tokens with a meaning
WORDS = ("the", "a", "of", "and", "to", "in", "is", "it", "lease", "token", "model", "local", "answer", "wide", "world")
CLOSING = "}"
LIKING = 3.0  # of `CLOSING`, in each answer; its first weight is for what every token has
MEAN_POOLING = 1
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

# Of the format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_F32 = 0
_NORMAL, _UNKNOWN, _CONTROL, _BYTE = 1, 2, 3, 6


@dataclass(frozen=True, slots=True)
class Token:
    """An entry of the vocabulary."""

    text: str
    kind: int
    score: float


@dataclass(frozen=True, slots=True)
class Tensor:
    """Weights; `shape` has the fastest dimension first, as the format wants it."""

    name: str
    shape: tuple[int, ...]
    values: array[float]


def vocabulary() -> list[Token]:
    """Three tokens with a meaning, all bytes, the printable characters and a few words; none twice."""
    tokens = [Token("<unk>", _UNKNOWN, 0.0), Token("<s>", _CONTROL, 0.0), Token("</s>", _CONTROL, 0.0)]
    tokens += [Token(f"<0x{value:02X}>", _BYTE, 0.0) for value in range(256)]
    pieces = ["\u2581", *(chr(value) for value in range(0x21, 0x7F))]  # the first stands for a space
    for word in WORDS:  # and what leads to each, since the tokenizer joins two at a time
        pieces += [f"\u2581{word[:length]}" for length in range(1, len(word) + 1)]
    tokens += [Token(piece, _NORMAL, float(len(piece))) for piece in dict.fromkeys(pieces)]
    return tokens


def tensors(tokens: Sequence[Token], seed: int) -> Iterator[Tensor]:
    """The weights, in a fixed order."""
    chance = random.Random(seed)  # noqa: S311 - weights, no secrets

    def drawn(name: str, *shape: int) -> Tensor:
        reach = (3.0 / shape[0]) ** 0.5
        count = 1
        for size in shape:
            count *= size
        return Tensor(name, shape, array("f", (chance.uniform(-reach, reach) for _ in range(count))))

    def ones(name: str) -> Tensor:
        return Tensor(name, (WIDTH,), array("f", [1.0] * WIDTH))

    embedding = drawn("token_embd.weight", WIDTH, len(tokens))
    for place in range(len(tokens)):
        embedding.values[place * WIDTH] = 1.0
    yield embedding
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        yield ones(f"{at}.attn_norm.weight")
        for part in ("q", "k", "v", "output"):
            yield drawn(f"{at}.attn_{part}.weight", WIDTH, WIDTH)
        yield ones(f"{at}.ffn_norm.weight")
        yield drawn(f"{at}.ffn_gate.weight", WIDTH, HIDDEN)
        yield drawn(f"{at}.ffn_up.weight", WIDTH, HIDDEN)
        yield drawn(f"{at}.ffn_down.weight", HIDDEN, WIDTH)
    yield ones("output_norm.weight")
    output = drawn("output.weight", WIDTH, len(tokens))
    for place, token in enumerate(tokens):
        if token.kind != _NORMAL and place != END:  # never the likeliest: half a character is no text
            output.values[place * WIDTH : (place + 1) * WIDTH] = array("f", [0.0] * WIDTH)
        output.values[place * WIDTH] = LIKING if token.text == CLOSING else 0.0
    yield output


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _entry(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value


def _entries(tokens: Sequence[Token], *, pooled: bool) -> list[bytes]:
    def number(key: str, value: int) -> bytes:
        return _entry(key, _U32, struct.pack("<I", value))

    def array_of(key: str, kind: int, values: Sequence[bytes]) -> bytes:
        return _entry(key, _ARRAY, struct.pack("<IQ", kind, len(values)) + b"".join(values))

    entries = [
        _entry("general.architecture", _STRING, _string("llama")),
        _entry("general.name", _STRING, _string("tiny random model")),
        number("general.alignment", ALIGNMENT),
        number("llama.vocab_size", len(tokens)),
        number("llama.context_length", CONTEXT),
        number("llama.embedding_length", WIDTH),
        number("llama.block_count", LAYERS),
        number("llama.feed_forward_length", HIDDEN),
        number("llama.rope.dimension_count", WIDTH // HEADS),
        number("llama.attention.head_count", HEADS),
        number("llama.attention.head_count_kv", HEADS),
        _entry("llama.attention.layer_norm_rms_epsilon", _F32, struct.pack("<f", 1e-5)),
        _entry("tokenizer.ggml.model", _STRING, _string("llama")),
        array_of("tokenizer.ggml.tokens", _STRING, [_string(token.text) for token in tokens]),
        array_of("tokenizer.ggml.scores", _F32, [struct.pack("<f", token.score) for token in tokens]),
        array_of("tokenizer.ggml.token_type", _I32, [struct.pack("<i", token.kind) for token in tokens]),
        number("tokenizer.ggml.unknown_token_id", UNKNOWN),
        number("tokenizer.ggml.bos_token_id", BEGIN),
        number("tokenizer.ggml.eos_token_id", END),
        _entry("tokenizer.ggml.add_bos_token", _BOOL, b"\x01"),
        _entry("tokenizer.chat_template", _STRING, _string(TEMPLATE)),
    ]
    return [*entries, number("llama.pooling_type", MEAN_POOLING)] if pooled else entries


def model(seed: int, *, pooled: bool = False) -> bytes:
    """The whole file."""
    tokens = vocabulary()
    weights = list(tensors(tokens, seed))
    entries = _entries(tokens, pooled=pooled)
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(weights), len(entries)) + b"".join(entries))
    offset = 0
    for tensor in weights:
        out += _string(tensor.name) + struct.pack("<I", len(tensor.shape))
        out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape) + struct.pack("<IQ", _TENSOR_F32, offset)
        offset += _padded(len(tensor.values) * 4)
    out += b"\0" * (_padded(len(out)) - len(out))
    for tensor in weights:
        values = array("f", tensor.values)
        if sys.byteorder == "big":
            values.byteswap()
        data = values.tobytes()
        out += data + b"\0" * (_padded(len(data)) - len(data))
    return bytes(out)


def _padded(size: int) -> int:
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def main() -> int:
    """Write the file, and say what it is."""
    parser = argparse.ArgumentParser(description="Write a tiny random language model as GGUF.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pooled", action="store_true", help="for embeddings: one vector a text")
    given = parser.parse_args()
    data = model(given.seed, pooled=given.pooled)
    given.path.write_bytes(data)
    print(f"{given.path}: {len(data)} bytes, {len(vocabulary())} tokens, seed {given.seed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
