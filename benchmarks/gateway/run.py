"""What the gateway adds to a request: `python benchmarks/gateway/run.py`.

Every way asks one endpoint on the loopback, in a process of its own, in turns: by raw HTTP, by `any-llm-sdk` alone, by
our provider, by the gateway, and through the hub. The home has five providers with 40 models, 20 consents and 10,000
receipts, and every receipt is on the disk before its answer is given.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _calls
import _hub_parts
from _calls import Amount
from _endpoint import endpoint
from _home import fill
from _measure import Row, say
from _parts import Parts
from _tables import made, versions

PARTS = Parts(
    "benchmarks/gateway/run.py",
    "gateway",
    {
        "calls": "Whole answers",
        "streams": "One stream",
        "at_once": "100 streams at once",
        "start": "Start, first request and memory",
        "hub": "Through the hub",
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    options = PARTS.options(PARTS.parser("Measure what the gateway adds to a request."), arguments)
    amount = _calls.QUICK if options.quick else Amount()
    with tempfile.TemporaryDirectory(prefix="alg-", ignore_cleanup_errors=True) as temporary, endpoint() as root:
        folder = Path(temporary)
        libraries = {name: metadata.version(name) for name in ("any-llm-sdk", "openai", "httpx2")}
        report = PARTS.report(options, folder, receipts=amount.receipts, libraries=libraries)
        home = folder / "gateway"
        if {"calls", "streams", "at_once"} & set(options.only):
            say(f"filling a home with {amount.receipts:,} receipts")
            fill(home, amount.receipts)
        measures: dict[str, Callable[[], list[Row]]] = {
            "calls": lambda: asyncio.run(_calls.calls(root, home, amount)),
            "streams": lambda: asyncio.run(_calls.streams(root, home, amount)),
            "at_once": lambda: asyncio.run(_calls.at_once(home, amount)),
            "start": lambda: _hub_parts.start(root, folder / "start", amount),
            "hub": lambda: _hub_parts.hub(root, folder / "hub", amount),
        }
        PARTS.measure(report, options, measures)
    also = f", with {report['receipts']:,} receipts in the home"
    PARTS.show(report, options, made(report, [versions(report["libraries"])], also=also))
    return 0


if __name__ == "__main__":
    sys.exit(main())
