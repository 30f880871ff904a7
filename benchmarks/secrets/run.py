"""What the secret scanner finds, flags without cause and takes: `python benchmarks/secrets/run.py`.

`sentences`, `files`, `languages` and `mutations` have credentials planted in texts of our own, made from seeds; none is
real. `alarms` has text without any. detect-secrets sees the same texts, as files. `personal` has personal data in the
place of credentials. The JSON file lists, group by group, what is missed in which context, and every line that was
flagged without cause.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _measures
import _personal
from _contexts import mutations, sentences
from _files import files
from _languages import assignments
from _measure import Row
from _measures import Amount
from _parts import Parts
from _scanners import PEER, Peer
from _tables import made

PARTS = Parts(
    "benchmarks/secrets/run.py",
    "secrets",
    {
        "sentences": "Credentials in Markdown",
        "files": "Credentials in configuration files",
        "languages": "Credentials in source code",
        "mutations": "Credentials that were changed",
        "alarms": "False alarms",
        "speed": "How fast it scans",
        "personal": "Personal data",
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    parser = PARTS.parser("Measure what core's secret scanner finds, beside detect-secrets.")
    options = PARTS.options(parser, arguments)
    amount = _measures.QUICK if options.quick else Amount()
    groups: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory(prefix="alg-secrets-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        report = PARTS.report(options, folder, groups=groups)
        peer = Peer(folder / "peer")

        def kept(part: str, measured: tuple[list[Row], list[dict[str, Any]]]) -> list[Row]:
            rows, groups[part] = measured
            return rows

        measures: dict[str, Callable[[], list[Row]]] = {
            "sentences": lambda: kept("sentences", _measures.found(sentences, "in Markdown", 98, amount, peer)),
            "files": lambda: kept("files", _measures.found(files, "in configuration files", 90, amount, peer)),
            "languages": lambda: kept("languages", _measures.found(assignments, "in source code", 88, amount, peer)),
            "mutations": lambda: kept("mutations", _measures.mutations(mutations, amount, peer)),
            "alarms": lambda: kept("alarms", _measures.alarms(amount, peer)),
            "speed": lambda: _measures.speed(lambda: [*files(1), *files(2)], amount, peer),
            "personal": lambda: kept("personal", _personal.measured(amount)),
        }
        PARTS.measure(report, options, measures)
    PARTS.show(report, options, made(report, [PEER]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
