"""Runs alone: what a process holds before the first count, after it, and after packages, in MB, as a line of JSON.

python _memory_child.py BUDGET < questions.json
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from adaptive_llm_gateway.compression import Candidate, build_package, counter_for


def held(name: str) -> float:
    """`VmRSS` or `VmHWM` of this process in MB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return int(found[1]) / 1024 if found else 0.0


def candidate(about: dict[str, Any]) -> Candidate:
    """A candidate as `speed.py` writes it."""
    passages: list[list[int]] = about["passages"]
    about["passages"] = tuple((first, last) for first, last in passages)
    about["updated"] = datetime.fromisoformat(about["updated"])
    return Candidate(**about)


def main() -> None:
    asked = [(one["question"], [candidate(each) for each in one["candidates"]]) for one in json.load(sys.stdin)]
    budget = int(sys.argv[1])
    importlib.import_module("numpy")  # the hub has it, so it is not among what is added
    found = {"start": held("VmRSS")}
    counter = counter_for()
    counter.count("")
    found["counted"] = held("VmRSS")
    for number, (question, candidates) in enumerate(asked):
        build_package(question, candidates, budget, counter=counter)
        if number == 0:
            found["first"] = held("VmRSS")
    found["more"] = held("VmRSS")
    found["peak"] = held("VmHWM")
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
