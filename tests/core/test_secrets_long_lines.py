"""Long lines without an end, made of what the scanner looks for: its work grows with their length and not faster."""

from __future__ import annotations

import subprocess
import sys

import pytest

_SCAN = """
import sys
from adaptive_llm_gateway.core import SecretScanner
piece = sys.argv[1]
SecretScanner().scan(piece * (2_000_000 // len(piece)))
"""
PIECES = (
    "--password ",
    "PASSWORD '",
    "PASSWORD 'abcdefgh' ",
    "machine a login b password os.getenv('password', '",
    '"\u212asecret ',
    "_authToken=",
    "dbpass = x ",
    "password x ",
    '"auth": ',
    "community ",
)


@pytest.mark.parametrize("piece", PIECES)
def test_a_long_line_of_what_is_looked_for_is_read_once(piece: str) -> None:
    # Linear work is some seconds; reading all that is before each piece would be an hour or more, which ends here.
    command = [sys.executable, "-c", _SCAN, piece]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=240, check=False)
    assert done.returncode == 0, done.stderr
