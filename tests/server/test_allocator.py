"""What was freed goes back to the system, measured in a process of its own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

HOLES = """
import os
from pathlib import Path
from adaptive_llm_gateway.server._allocator import give_back

def resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20  # MB

pieces = [bytes(60_000) for _ in range(4_000)]
kept = pieces[::100]
del pieces
before = resident()
print(give_back(), before - resident(), len(kept))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such function")
def test_what_lies_free_between_pieces_in_use_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, encoding="utf-8", timeout=60, check=True)
    found, less, _ = done.stdout.split()
    assert found == "True"
    assert int(less) > 100
