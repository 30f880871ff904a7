"""How well search finds what it should: `python benchmarks/retrieval/run.py DATA`.

DATA is a folder with any of `locomo-dev.json` (and `locomo-dev-corrections.json`), `longmemeval-s-dev.jsonl.gz` and
`beam-100k-dev.json.gz`, in the forms in which LoCoMo, LongMemEval and BEAM are published; sets that are missing are
left out. Our search has one configuration for all of them. What is compared, and how a set becomes memories, is in
`docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _servers
import _ways
from _cache import CachedModel
from _datasets import DATASETS, Dataset
from _measure import machine, say
from _report import as_text, write_docs
from _summary import counts, details, made, summary
from _units import Haystack

_DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_QUICK_HAYSTACKS, _QUICK_QUESTIONS = 2, 5


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 1 when a server failed."""
    options = _options(arguments)
    chosen = [DATASETS[name] for name in options.sets or DATASETS if (options.data / DATASETS[name].file).exists()]
    if not chosen:
        files = ", ".join(sorted({dataset.file for dataset in DATASETS.values()}))
        say(f"error: {str(options.data)!r} has none of the files: {files}")
        return 2
    with tempfile.TemporaryDirectory(prefix="alg-retrieval-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        report: dict[str, Any] = {"sets": {}, "servers": {}}
        if options.resume:
            kept = json.loads(options.json.read_text("utf-8"))
            report = {part: kept[part] for part in report}
        report = {
            "command": _command(options),
            "quick": options.quick,
            "machine": machine(folder),
            **report,
        }
        loaded = {dataset.name: _load(dataset, options) for dataset in chosen}
        model = None if options.lexical else CachedModel(_embedder(), options.cache)
        for dataset in chosen:
            if dataset.name not in report["sets"]:
                report["sets"][dataset.name] = _measure_set(dataset, loaded[dataset.name], model, folder, options)
                _write(options, report)
        if model:
            say(f"{model.computed:,} texts were embedded, the others came from the cache")
            model.close()
        for server in options.servers or ():
            measured = report["servers"].setdefault(server, _servers.nothing())
            left = [name for name in loaded if name in _servers.SETS and name not in measured["sets"]]
            wanted = {name: loaded[name] for name in left}
            for _ in _servers.measure_all(
                server, wanted, measured, folder / "servers", options.cache, sample=options.sample, quick=options.quick
            ):
                _write(options, report)
    _write(options, report)
    print(as_text(report), end="")
    if options.write_docs:
        write_docs(_DOCS, report)
    return int(any(part["failed"] for part in report["servers"].values()))


def _measure_set(
    dataset: Dataset,
    haystacks: Sequence[Haystack],
    model: CachedModel | None,
    folder: Path,
    options: argparse.Namespace,
) -> dict[str, Any]:
    start = time.monotonic()
    about = made(model.id if model else None)
    outcomes: dict[str, list[_ways.Outcome]] = {}
    for place, haystack in enumerate(haystacks):
        for way, rows in _ways.ask_all(haystack, model, folder, ablate=options.ablation).items():
            outcomes.setdefault(way, []).extend(rows)
        say(f"{dataset.name}: {place + 1} of {len(haystacks)}, {time.monotonic() - start:.0f} s")
    if options.details:
        with options.details.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in details(dataset.name, outcomes))
    return {
        **about,
        "title": dataset.title,
        "shown": list(dataset.shown),
        **counts(haystacks),
        "ways": {way: summary(rows) for way, rows in outcomes.items()},
    }


def _load(dataset: Dataset, options: argparse.Namespace) -> list[Haystack]:
    haystacks = list(dataset.load(options.data))
    if dataset.name == "longmemeval" and options.first:
        haystacks = haystacks[: options.first]
    if options.quick:
        haystacks = [
            Haystack(haystack.units, haystack.questions[:_QUICK_QUESTIONS]) for haystack in haystacks[:_QUICK_HAYSTACKS]
        ]
    return [haystack for haystack in haystacks if haystack.questions]


def _embedder() -> Any:
    from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder  # noqa: PLC0415 - brings onnxruntime

    embedder = OnnxEmbedder(threads=1)  # the cache computes several texts at once
    embedder.load()
    return embedder


def _write(options: argparse.Namespace, report: dict[str, Any]) -> None:
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how well search finds what it should, beside others.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the data sets' files")
    parser.add_argument("--sets", nargs="+", choices=list(DATASETS), metavar="SET", help=f"of: {', '.join(DATASETS)}")
    parser.add_argument("--lexical", action="store_true", help="only what needs no vectors")
    parser.add_argument("--ablation", action="store_true", help="also our search with each of its signals off")
    parser.add_argument(
        "--servers",
        nargs="+",
        choices=list(_servers.SERVERS),
        metavar="SERVER",
        help=f"install and drive through MCP, of: {', '.join(_servers.SERVERS)}",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=6,
        metavar="N",
        help="haystacks of LongMemEval and of BEAM that servers are measured on, of those held out; default 6",
    )
    parser.add_argument("--first", type=int, metavar="N", help="of LongMemEval only the first N questions of the file")
    parser.add_argument("--quick", action="store_true", help="two haystacks, five questions: to try out, not to quote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--details", type=Path, metavar="FILE", help="add a line of JSON a question, with all ranks")
    parser.add_argument("--resume", action="store_true", help="keep what the file of --json has, measure the rest")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep vectors and installed servers there")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.resume and not (options.json and options.json.exists()):
        parser.error("--resume takes --json with a file that is there")
    if options.write_docs and (options.quick or options.sets or options.lexical):
        parser.error("--write-docs takes a whole run, without --quick, --sets and --lexical")
    return options


def _command(options: argparse.Namespace) -> str:
    """The command that makes this report again; paths are left out, because they are of this machine."""
    words = ["python benchmarks/retrieval/run.py DATA"]
    words += ["--sets", *options.sets] if options.sets else []
    words += [f"--{flag}" for flag in ("lexical", "ablation") if getattr(options, flag)]
    words += ["--first", str(options.first)] if options.first else []
    words += ["--servers", *options.servers, "--sample", str(options.sample)] if options.servers else []
    words += ["--quick"] if options.quick else []
    return " ".join([*words, *(["--write-docs"] if options.write_docs else [])])


if __name__ == "__main__":
    sys.exit(main())
