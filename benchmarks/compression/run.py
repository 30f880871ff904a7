"""How much evidence is in a package of so many tokens: `python benchmarks/compression/run.py DATA`.

DATA is a folder with `locomo-dev.json` (and `locomo-dev-corrections.json`) or `longmemeval-s-dev.jsonl.gz`. Everything
is counted on the texts as they are: references, days and marks included. What our packages are compared with is in
`_packing.py` and `docs/benchmarks.md`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share
sys.path.append(str(Path(__file__).resolve().parent.parent / "retrieval"))

import _headroom
import _pages
import _sets
from _answers import has_all
from _cache import CachedModel
from _client import Failed
from _figures import Evidence, Line, summary
from _headroom import TextCrusher
from _measure import load_average, machine, say
from _packing import CRUSHED, OF_SESSIONS, Prepared, Way, ways

from adaptive_llm_gateway.compression import TokenCounter

BUDGETS = (500, 1_000, 2_000, 4_000)
SETS = {"locomo": _sets.locomo, "longmemeval": _sets.longmemeval_sessions}
_DOCS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"
_SAID_EVERY = 30.0  # seconds


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for; 1 when a peer failed."""
    options = _options(arguments)
    counter, failed = _counter(), ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alg-", ignore_cleanup_errors=True)))
        crusher: TextCrusher | None = None
        if options.peers:
            try:
                crusher = stack.enter_context(_headroom.installed((options.cache or folder) / "peers"))
            except Failed as error:
                failed = str(error)
                say(f"{CRUSHED} is left out: {failed}")
        compared = ways(crusher)
        report: dict[str, Any] = {
            "command": _command(options),
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "machine": machine(folder),
            "load_average": {"before": load_average()},
            "counter": counter.name,
            "first": options.first,
            "every": options.every,
            "peers": {CRUSHED: {"package": crusher.package if crusher else None, "failed": failed}},
            "sets": {},
        }
        kept = _kept(options, _identity(report, compared))
        model = CachedModel(_embedder(), options.cache)
        for chosen in options.sets:
            lines = _measure_set(chosen, options, folder, compared, counter, model, kept)
            if lines:
                report["sets"][chosen] = summary(lines, list(lines[0]["ways"]), BUDGETS)
            report["load_average"]["after"] = load_average()
            if options.json:
                options.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
        say(f"{model.computed:,} texts were embedded, the others came from the cache")
        model.close()
    print(_pages.as_text(report), end="")
    if options.write_docs:
        _pages.write_docs(_DOCS, report)
    return int(bool(failed))


def _measure_set(
    chosen: str,
    options: argparse.Namespace,
    folder: Path,
    compared: dict[str, Way],
    counter: TokenCounter,
    model: CachedModel,
    kept: dict[tuple[str, int], Line],
) -> list[Line]:
    """A line for each question, those that were kept among them; a new one is written at once."""
    found = {place: line for (name, place), line in kept.items() if name == chosen and place % options.every == 0}
    chosen_ways = {name: way for name, way in compared.items() if not (chosen == "locomo" and name in OF_SESSIONS)}
    start = said = time.monotonic()

    def wanted(place: int) -> bool:
        return place % options.every == 0 and place not in found

    for fresh, asked in enumerate(SETS[chosen](options.data, model, folder, options.first, wanted), 1):
        prepared = Prepared(asked, counter, model)
        evidence = Evidence(prepared)
        line: Line = {
            "set": chosen,
            "place": asked.place,
            "part": asked.question.part,
            "group": asked.question.group,
            "possible": has_all(asked.answer, prepared.everything),
            "ways": {
                name: {str(budget): evidence.measured(way, budget) for budget in BUDGETS}
                for name, way in chosen_ways.items()
            },
        }
        found[asked.place] = line
        if options.details:
            with options.details.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        if time.monotonic() - said > _SAID_EVERY:
            said = time.monotonic()
            say(f"{chosen}: {len(found):,} questions, {(said - start) / fresh:.2f} s each")
    return [found[place] for place in sorted(found)]


def _kept(options: argparse.Namespace, identity: dict[str, Any]) -> dict[tuple[str, int], Line]:
    """The lines of an earlier run of the same code, which go on where they end.

    Raises:
        SystemExit: they are of other code.
    """
    if not options.details:
        return {}
    if not options.resume:
        options.details.write_text(json.dumps(identity) + "\n", "utf-8")
        return {}
    first, *lines = options.details.read_text("utf-8").splitlines()
    if json.loads(first) != identity:
        raise SystemExit(
            f"error: {options.details.name} is of another run: {first}; this one is {json.dumps(identity)}"
        )
    whole = [line for line in lines if line.endswith("}}}}")]  # the last one may be cut
    options.details.write_text("\n".join([first, *whole]) + "\n", "utf-8")
    found: list[Line] = [json.loads(line) for line in whole]
    return {(line["set"], line["place"]): line for line in found}


def _identity(report: dict[str, Any], compared: dict[str, Way]) -> dict[str, Any]:
    """What lines must share to be summed up together."""
    return {
        "commit": report["machine"]["commit"],
        "counter": report["counter"],
        "first": report["first"],
        "budgets": list(BUDGETS),
        "ways": list(compared),
        "peers": report["peers"],
    }


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how much evidence is in a package.")
    parser.add_argument("data", type=Path, metavar="DATA", help="folder with the data sets' files")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS), help="default: both")
    parser.add_argument("--peers", action="store_true", help="install and measure other programs, too")
    parser.add_argument("--first", type=int, metavar="N", help="only the first N haystacks of each set")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th question")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep vectors and installed programs there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--details", type=Path, metavar="FILE", help="a line of JSON a question, written at once")
    parser.add_argument("--resume", action="store_true", help="go on where the file of --details ends")
    parser.add_argument("--write-docs", action="store_true", help="write the tables of docs/benchmarks.md")
    options = parser.parse_args(arguments)
    if options.resume and not (options.details and options.details.exists()):
        parser.error("--resume takes --details with a file that is there")
    if options.write_docs and (options.every > 1 or options.first or len(options.sets) < len(SETS)):
        parser.error("--write-docs takes a whole run, without --every, --first and --sets")
    return options


def _command(options: argparse.Namespace) -> str:
    """The command that makes this report again; paths are left out, because they are of this machine."""
    words = ["python benchmarks/compression/run.py DATA"]
    words += ["--sets", *options.sets] if len(options.sets) < len(SETS) else []
    words += ["--peers"] if options.peers else []
    words += ["--first", str(options.first)] if options.first else []
    words += ["--every", str(options.every)] if options.every > 1 else []
    words += ["--write-docs"] if options.write_docs else []
    return " ".join(words)


def _counter() -> TokenCounter:
    from adaptive_llm_gateway.compression._tokens import counter_for  # noqa: PLC0415 - brings tiktoken

    counter = counter_for()
    counter.count("")  # warm
    return counter


def _embedder() -> Any:
    from adaptive_llm_gateway.memory._embed_onnx import OnnxEmbedder  # noqa: PLC0415 - brings onnxruntime

    embedder = OnnxEmbedder(threads=1)
    embedder.load()
    return embedder


if __name__ == "__main__":
    sys.exit(main())
