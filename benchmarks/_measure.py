"""What is measured and how it is summed up: samples in, minimum / median / p95 / maximum out."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

Role = Literal["ours", "floor", "peer"]
_RISING = ("/s", "MB/s", "% found")  # units of which more is better


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the result.

    Attributes:
        what: what was measured.
        unit: of all numbers: `ms`, `MB`, `/s`, `%`; of `/s`, `MB/s` and `% found` more is better.
        of: whose number it is: ours, a floor that nothing can beat, or another product's.
        n: samples.
        target: what we set ourselves for the median; None where nothing was set.
        against: the floor's `what` that this one is divided by.
        ratio: this median divided by that of `against` in the same run (where more is better the reverse, so lower is
            better).
        note: what a reader must know.
    """

    what: str
    unit: str
    of: Role
    n: int
    min: float
    median: float
    p95: float
    max: float
    target: float | None = None
    against: str | None = None
    ratio: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the target."""
        if self.target is None:
            return None
        return self.median >= self.target if self.unit in _RISING else self.median <= self.target


def row(
    what: str,
    unit: str,
    samples: Sequence[float],
    *,
    of: Role = "ours",
    target: float | None = None,
    against: Row | None = None,
    note: str = "",
) -> Row:
    """Sum up samples."""
    ordered = sorted(samples)
    median = statistics.median(ordered)
    ratio = None
    if against is not None and median and against.median:
        ratio = against.median / median if unit in _RISING else median / against.median
    return Row(
        what=what,
        unit=unit,
        of=of,
        n=len(ordered),
        min=round(ordered[0], 3),
        median=round(median, 3),
        p95=round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 3),
        max=round(ordered[-1], 3),
        target=target,
        against=against.what if against else None,
        ratio=None if ratio is None else round(ratio, 2),
        note=note,
    )


@contextlib.contextmanager
def milliseconds(into: list[float]) -> Generator[None]:
    """Append how long the block took."""
    start = time.perf_counter()
    yield
    into.append((time.perf_counter() - start) * 1_000)


@dataclass(frozen=True, slots=True)
class ProcessMemory:
    """A process's memory in MB: resident, and (on Linux) its proportional share of what is shared."""

    rss: float
    pss: float | None


def memory_of(pid: int) -> ProcessMemory:
    """The memory of one process now."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        out = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
        return ProcessMemory(int(out) / 1024, None)
    sizes = {name: int(kilobytes) / 1024 for name, kilobytes in re.findall(r"^(\w+):\s+(\d+) kB", rollup, re.MULTILINE)}
    return ProcessMemory(sizes["Rss"], sizes["Pss"])


def tree_memory_of(pid: int) -> ProcessMemory:
    """The memory of a process and all below it (Linux; elsewhere of the process alone)."""
    pids, parts = [pid], list[ProcessMemory]()
    while pids:
        current = pids.pop()
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            parts.append(memory_of(current))
            for task in Path(f"/proc/{current}/task").glob("*/children"):
                pids += [int(child) for child in task.read_text(encoding="ascii").split()]
    return ProcessMemory(sum(part.rss for part in parts), sum(part.pss or 0 for part in parts) or None)


def machine(folder: Path) -> dict[str, Any]:
    """What the numbers depend on; no path of this machine is in it."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file_system": _file_system(folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "git": subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[2],
        "packages": {
            name: metadata.version(name)
            for name in ("adaptive-llm-gateway", "mcp", "apsw", "onnxruntime", "pygit2", "numpy")
        },
        "commit": commit(),
    }


def _cpu() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _file_system(folder: Path) -> str:
    """The type of the file system that the homes lie on: on `tmpfs` an fsync costs nothing."""
    best, kind = "", "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
            _, mount, found, *_ = line.split()
            if folder.resolve().is_relative_to(mount) and len(mount) >= len(best):
                best, kind = mount, found
    return kind


def commit() -> str | None:
    """The commit of this checkout, with `+` when product code differs from it."""
    root = Path(__file__).parent.parent

    def git(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)

    head = git("rev-parse", "--short=12", "HEAD")
    if head.returncode:
        return None
    changed = git("diff", "--quiet", "HEAD", "--", "core", "memory", "compression", "server").returncode
    return head.stdout.strip() + ("+" if changed else "")


def load_average() -> list[float]:
    """Of the last 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows for the JSON file."""
    return [{**asdict(item), "met": item.met} for item in rows]
