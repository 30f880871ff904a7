"""What sync costs, beside git alone on the same repository: `python benchmarks/sync/run.py`.

Stores on homes of 10,000 memories and a bare remote on the same disk. `quick` is a sync with nothing or one commit to
carry; `incoming` and `edits` have 1,000 memories changed on the remote, and on both sides; `writes` times writes while
syncs run, block by block between blocks without any; `clone` is the first pull of an empty home.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent))  # what the benchmarks share

import _syncs
from _measure import Row
from _parts import Parts, cache_of
from _places import QUICK, Amount, Maker
from _tables import made

PARTS = Parts(
    "benchmarks/sync/run.py",
    "sync",
    {
        "quick": "Little or nothing to carry",
        "incoming": "Many memories come in",
        "edits": "Many memories were edited on both sides",
        "writes": "Writes while a sync runs",
        "clone": "A first pull",
    },
)


def main(arguments: list[str] | None = None) -> int:
    """Measure what was asked for."""
    parser = PARTS.parser("Measure pulls and pushes, and writes meanwhile, beside git alone.")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep prepared homes there for the next run")
    options = PARTS.options(parser, arguments)
    amount = QUICK if options.quick else Amount()
    with tempfile.TemporaryDirectory(prefix="alg-sync-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        _own_git(folder / "gitconfig")
        cache = cache_of(options, folder)
        report = PARTS.report(options, folder, memories=amount.memories)
        maker = Maker(folder, cache, amount)
        maker.prepare()
        measures: dict[str, Callable[[], list[Row]]] = {
            "quick": lambda: _syncs.quick(maker),
            "incoming": lambda: _syncs.incoming(maker),
            "edits": lambda: _syncs.edits(maker),
            "writes": lambda: _syncs.writes(maker),
            "clone": lambda: _syncs.clone(maker),
        }
        PARTS.measure(report, options, measures)
    also = f", with {amount.memories:,} memories in the home"
    PARTS.show(report, options, made(report, [f"git {report['machine']['git']}"], also=also))
    return 0


def _own_git(config: Path) -> None:
    """Let no setting of whoever runs this change what git does here, nor where it works."""
    config.write_text(
        "[user]\n\tname = Bench\n\temail = bench@example.org\n[init]\n\tdefaultBranch = main\n[gc]\n\tauto = 0\n",
        "utf-8",
    )
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": str(config), "GIT_CONFIG_NOSYSTEM": "1"}


if __name__ == "__main__":
    sys.exit(main())
