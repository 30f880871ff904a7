"""How far other tokenizers' counts lie above those of o200k_base: the bounds in `compression/_token_models.py`.

    python benchmarks/compression/token_bounds.py --texts udhr.jsonl code.jsonl \
        --tokenizer qwen=tokenizer.json --tokenizer llama-2=tokenizer.model --tokenizer mistral=tekken.json \
        --counts claude=udhr.jsonl:udhr_counts.json:v3:7

A tokenizer is a `tokenizer.json` (Hugging Face), a SentencePiece `.model` (needs `sentencepiece`), or Mistral's
`tekken*.json`. Where a tokenizer is not to be had, `--counts` takes texts that its owner's service has counted: a JSON
of id -> tokens under a generation's name, and how many tokens a message costs by itself. Each text is cut to passages
of 1,500 characters; generated ones (numbers, hexadecimal, base64, log lines) come on top, the same in each run.

The bound is `each` for a token of o200k_base and something for each character of four kinds (`Kinds` there). `each` is
the largest ratio over passages that have next to none of them; the others the largest that is missing per character of
a kind, over passages that have it and none of those not yet found. All are rounded up, and no passage lies above.
"""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false
# ruff: noqa: E501, PLC0415 - log lines as they are written; libraries that only one kind of tokenizer needs

from __future__ import annotations

import argparse
import base64
import json
import math
import random
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from adaptive_llm_gateway.compression import counter_for
from adaptive_llm_gateway.compression._token_models import Kinds, kinds_of

PASSAGE = 1_500
FEW = 0.02  # a smaller share of a passage's characters says nothing about the cost of one

Count = Callable[[str], int]


def tokenizer(path: Path) -> Count:
    """What counts the tokens of a text, without marks of beginning and end."""
    if path.suffix == ".model" or ".model." in path.name:
        from sentencepiece import SentencePieceProcessor

        pieces = SentencePieceProcessor(model_file=str(path))
        return lambda text: len(pieces.encode(text))
    if path.name.startswith("tekken"):
        from tiktoken import Encoding

        data = json.loads(path.read_text(encoding="utf-8"))
        kept = data["config"]["default_vocab_size"] - data["config"]["default_num_special_tokens"]
        ranks = {base64.b64decode(token["token_bytes"]): token["rank"] for token in data["vocab"][:kept]}
        tekken = Encoding("tekken", pat_str=data["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})
        return lambda text: len(tekken.encode_ordinary(text))
    from tokenizers import Tokenizer

    loaded = Tokenizer.from_file(str(path))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


def records(path: Path) -> Iterator[tuple[str, str]]:
    """Id and text of each text in a file: JSON lines, or the file itself."""
    if path.suffix != ".jsonl":
        yield path.name, path.read_text(encoding="utf-8", errors="replace")
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield str(record.get("id") or record.get("f") or record.get("lang")), record["text"]


def generated() -> Iterator[str]:
    """What machines write: the same in each run."""
    chance = random.Random(20)
    for _ in range(20):
        yield "\n".join(
            ",".join(str(chance.randrange(10 ** chance.randrange(1, 9))) for _ in range(8)) for _ in range(30)
        )
        yield "\n".join(f"{chance.uniform(-1000, 1000):.4f}\t{chance.random():.6f}" for _ in range(80))
        yield chance.randbytes(700).hex()
        yield base64.b64encode(chance.randbytes(1100)).decode()
        yield "\n".join(
            f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}T{chance.randrange(24):02}:07:{chance.randrange(60):02}.{chance.randrange(1000):03}Z "
            f"{chance.choice(['INFO', 'WARN', 'ERROR'])} [worker-{chance.randrange(9)}] request {chance.randbytes(8).hex()} took {chance.randrange(9000)} ms"
            for _ in range(14)
        )
        yield json.dumps(
            [{"id": chance.randrange(10**6), "ok": True, "value": chance.random()} for _ in range(20)], indent=2
        )


def passages(paths: list[Path]) -> list[str]:
    """Every passage, the generated ones too."""
    found = [
        text[at : at + PASSAGE] for path in paths for _, text in records(path) for at in range(0, len(text), PASSAGE)
    ]
    return [text for text in found if len(text) >= PASSAGE // 3] + list(generated())


Row = tuple[int, int, int, Kinds]
KINDS = ("digit", "near", "east", "far")


def row(text: str, tokens: int, base: Count) -> Row:
    """What `fit` wants to know of a text: its tokens, those of o200k_base, its characters, and how many of each kind."""
    return tokens, base(text), len(text), kinds_of(text)


def fit(rows: list[Row]) -> dict[str, float]:
    """The bound's parts, rounded up."""

    def up(value: float) -> float:
        return math.ceil(max(value, 0.0) * 100 - 1e-9) / 100

    def has(one: Row, kind: str) -> bool:
        return getattr(one[3], kind) > FEW * one[2]

    found = {"each": up(max(one[0] / one[1] for one in rows if not any(has(one, kind) for kind in KINDS)))}
    for number, kind in enumerate(KINDS):
        later = KINDS[number + 1 :]
        missing = [
            (one[0] - found["each"] * one[1] - sum(found[known] * getattr(one[3], known) for known in KINDS[:number]))
            / getattr(one[3], kind)
            for one in rows
            if has(one, kind) and not any(has(one, other) for other in later)
        ]
        found[kind] = up(max(missing, default=0.0))
    return found


def main() -> None:
    """Measure each tokenizer and print its bound, and how far the bound lies above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=Path, nargs="+", default=[])
    parser.add_argument("--tokenizer", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--counts", action="append", default=[], metavar="NAME=TEXTS:COUNTS:GENERATION:FRAME")
    arguments = parser.parse_args()
    base = counter_for().count
    texts = passages(arguments.texts)
    measured: dict[str, list[Row]] = {}
    for given in arguments.tokenizer:
        name, _, path = given.partition("=")
        count = tokenizer(Path(path))
        measured.setdefault(name, []).extend(row(text, count(text), base) for text in texts)
    for given in arguments.counts:
        name, _, rest = given.partition("=")
        file, counts, generation, frame = rest.split(":")
        known = json.loads(Path(counts).read_text(encoding="utf-8"))[generation]["counts"]
        measured.setdefault(name, []).extend(
            row(text, known[key] - int(frame), base)
            for key, text in records(Path(file))
            if key in known and len(text) >= PASSAGE // 3
        )
    print(
        "| tokenizer | texts | each | digit | near | east | far | ratio without those: median, max | bound / count: median |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, rows in measured.items():
        found = fit(rows)
        plain = [one[0] / one[1] for one in rows if not any(getattr(one[3], kind) > FEW * one[2] for kind in KINDS)]
        above = [
            (found["each"] * one[1] + sum(found[kind] * getattr(one[3], kind) for kind in KINDS)) / one[0]
            for one in rows
        ]
        parts = " | ".join(f"{value:.2f}" for value in found.values())
        ratios = f"{statistics.median(plain):.2f}, {max(plain):.2f}"
        print(f"| {name} | {len(rows):,} | {parts} | {ratios} | {statistics.median(above):.2f} |", flush=True)


if __name__ == "__main__":
    main()
