"""How much evidence is in a package of so many tokens: `python benchmarks/compression/run.py DATA`.

DATA is a folder with `locomo-dev.json` (and `locomo-dev-corrections.json`) or `longmemeval-s-dev.jsonl.gz`. Everything
is counted on the texts as they are: references, days and marks included. Beside our packages stand the best hits whole
until the budget is full, and the newest memories.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean, quantiles
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share
sys.path.append(str(Path(__file__).resolve().parent.parent / "retrieval"))

import _sets
from _cache import CachedModel
from _measure import machine, say

from adaptive_llm_gateway.compression import TokenCounter, build_package
from adaptive_llm_gateway.compression._units import units_of

BUDGETS = (500, 1_000, 2_000, 4_000)
SETS = {"locomo": _sets.locomo, "longmemeval": _sets.longmemeval_sessions}
OURS, HITS, NEWEST = "our package", "best hits whole", "newest first"
Way = Callable[[_sets.Asked, int], str]


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description="Measure how much evidence is in a package.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the data sets' files")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="default: both")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N haystacks of each set")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th question")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep vectors there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    options = parser.parse_args(arguments)
    counter = _counter()
    ways: dict[str, Way] = {
        OURS: lambda asked, budget: build_package(asked.question.text, asked.candidates, budget, counter=counter).text,
        HITS: lambda asked, budget: _hits(asked, budget, counter),
        NEWEST: lambda asked, budget: _newest(asked, budget, counter),
    }
    report: dict[str, Any] = {"counter": counter.name, "first": options.first, "every": options.every, "sets": {}}
    with tempfile.TemporaryDirectory(prefix="alg-compression-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        report["machine"] = machine(folder)
        model = CachedModel(_embedder(), options.cache)
        for chosen in options.sets:
            rows: dict[tuple[str, int, str], list[dict[str, float]]] = {}
            for asked in islice(SETS[chosen](options.data, model, folder, options.first), 0, None, options.every):
                for way, build in ways.items():
                    for budget in BUDGETS:
                        row = _measured(asked, budget, build, counter)
                        rows.setdefault((way, budget, asked.question.part), []).append(row)
            report["sets"][chosen] = _summary(rows)
            _print(chosen, report["sets"][chosen])
        say(f"{model.computed:,} texts were embedded, the others came from the cache")
        model.close()
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    return 0


def _measured(asked: _sets.Asked, budget: int, build: Way, counter: TokenCounter) -> dict[str, float]:
    start = time.perf_counter()
    text = build(asked, budget)
    ms = (time.perf_counter() - start) * 1e3
    used = counter.count(text)
    assert used <= budget, f"{used} of {budget} tokens"
    inside = _spaced(text)
    kept = [_spaced(piece) in inside for piece in asked.evidence]
    tokens = had = 0
    for piece in asked.evidence:
        for unit in units_of(piece):
            said = piece[unit.start : unit.end]
            count = counter.count(said)
            tokens += count
            had += count * (_spaced(said) in inside)
    row = {"whole": fmean(kept), "tokens": had / max(tokens, 1), "used": float(used), "ms": ms}
    answered = _sets.answered(asked.answer, text)
    return row if answered is None else {**row, "answered": float(answered)}


def _hits(asked: _sets.Asked, budget: int, counter: TokenCounter) -> str:
    """The best first, as a line with reference, day and author, and those left out that no longer fit."""
    texts = (
        f"[S{number}] {one.updated.date().isoformat()} {one.author}: {one.body}"
        for number, one in enumerate(asked.candidates, 1)
    )
    return _filled(texts, budget, counter)


def _newest(asked: _sets.Asked, budget: int, counter: TokenCounter) -> str:
    """As much of the newest as fits; the first that does not is cut."""
    text = "\n".join(unit.dated for unit in _sets.newest_first(asked.units))[: budget * 8]
    while (over := counter.count(text) - budget) > 0:
        text = text[: len(text) - max(1, over)]
    return text


def _filled(texts: Any, budget: int, counter: TokenCounter) -> str:
    kept: list[str] = []
    left = budget
    for text in texts:
        tokens = counter.count(text + "\n")
        if tokens <= left:
            kept.append(text)
            left -= tokens
        if left < 10:
            break
    return "\n".join(kept)


def _spaced(text: str) -> str:
    return " ".join(text.split())


def _summary(rows: dict[tuple[str, int, str], list[dict[str, float]]]) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for way in (OURS, HITS, NEWEST):
        for budget in BUDGETS:
            parts = {part: found for (one, size, part), found in rows.items() if (one, size) == (way, budget)}
            every = [row for found in parts.values() for row in found]
            if every:
                line: dict[str, Any] = {"way": way, "budget": budget, "questions": len(every)}
                for name in ("whole", "tokens", "answered", "used"):
                    line[name] = _mean(every, name)
                line["whole by part"] = {part: _mean(found, "whole") for part, found in parts.items()}
                times = sorted(row["ms"] for row in every)
                cuts = quantiles([*times, *times], n=20)
                line["ms"] = {"min": times[0], "p50": cuts[9], "p95": cuts[18], "max": times[-1]}
                lines.append(line)
    return lines


def _mean(rows: Sequence[dict[str, float]], name: str) -> float:
    return fmean([row[name] for row in rows if name in row] or [0.0])


def _print(name: str, lines: Sequence[dict[str, Any]]) -> None:
    print(f"{name}: evidence kept whole, by tokens; questions whose answer's words are all there")
    for line in lines:
        print(
            f"  {line['way']:<16} {line['budget']:>6,}  {line['whole']:7.1%} {line['tokens']:7.1%} "
            f"{line['answered']:7.1%}  {line['used']:8,.0f} tokens  {line['ms']['p50']:6.1f} ms",
            flush=True,
        )


def _counter() -> TokenCounter:
    from adaptive_llm_gateway.compression._tokens import counter_for  # noqa: PLC0415 - brings tiktoken

    return counter_for()


def _embedder() -> Any:
    from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder  # noqa: PLC0415 - brings onnxruntime

    embedder = OnnxEmbedder(threads=1)
    embedder.load()
    return embedder


if __name__ == "__main__":
    sys.exit(main())
