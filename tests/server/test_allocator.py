"""What was freed goes back to the system, measured in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

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


ARENAS = """
import ctypes, sys, threading
from adaptive_llm_gateway.server._allocator import few_arenas

asked, set = sys.argv[2] == "few", False
if asked:
    set = few_arenas()
together = threading.Barrier(7)

def work() -> None:
    held = bytes(60_000)
    together.wait(30)
    together.wait(30)
    del held

for _ in range(6):
    threading.Thread(target=work).start()
together.wait(30)
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
library.malloc_info(0, file)
library.fclose(file)
together.wait(30)
print(set)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no arenas")
def test_threads_share_two_arenas_unless_somebody_has_chosen_how_many(tmp_path: Path) -> None:
    def arenas(asked: str, **chosen: str) -> tuple[str, int]:
        file = tmp_path / asked
        environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
        done = subprocess.run(
            [sys.executable, "-c", ARENAS, str(file), asked],
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=True,
            env=environment | chosen,
        )
        return done.stdout.strip(), file.read_text("utf-8").count("<heap nr=")

    assert arenas("few") == ("True", 2)
    assert arenas("as it is")[1] > 2
    assert arenas("few", MALLOC_ARENA_MAX="4") == ("False", 4)
