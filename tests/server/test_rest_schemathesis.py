"""Schemathesis asks the REST API all that its description allows, much that it does not, and chains of requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from rest_made import TESTER, rest_server

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 6
SEED = 20261123


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with rest_server(tmp_path) as server:
        client = server.client()
        for number in range(3):
            assert client.post("/memories", json={"title": f"number {number}", "body": "A kestrel."}).is_success
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("schemathesis")),
                *("--config-file", str(CONFIGURATION), "run", f"{server.url}/api/v1/openapi.json"),
                *("--header", f"Authorization: Bearer {TESTER}", "--checks", "all", "--mode", "all"),
                *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES)),
                *("--seed", str(SEED), "--continue-on-failure", "--no-color", "--warnings", "off"),
            ],
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=580,
            check=False,
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    others = len(server.api.routes) - 1  # what it reads the description from it does not ask besides
    assert f"Tested: {others}" in done.stdout
