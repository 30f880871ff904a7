"""Schemathesis asks the REST API all that its description allows, much that it does not, and chains of requests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rest_made import TESTER, rest_server

from adaptive_llm_gateway.server._access import SCOPES

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 6
SEED = 20261123


def found_at(url: str, token: str, folder: Path, *more: str) -> str:
    """What it says; that it finds nothing is checked."""
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(CONFIGURATION), "run", f"{url}/api/v1/openapi.json"),
            *("--header", f"Authorization: Bearer {token}", "--checks", "all", "--mode", "all"),
            *("--max-examples", str(EXAMPLES), "--seed", str(SEED)),
            *("--continue-on-failure", "--no-color", "--warnings", "off", *more),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=580,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    with rest_server(tmp_path) as server:
        client = server.client()
        for number in range(3):
            assert client.post("/memories", json={"title": f"number {number}", "body": "A kestrel."}).is_success
        said = found_at(server.url, TESTER, tmp_path, "--phases", "examples,coverage,fuzzing,stateful")
    others = len(server.api.routes) - 1  # what it reads the description from it does not ask besides
    assert f"Tested: {others}" in said


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing_in_a_real_hub_that_it_has_a_token_for(server: Any, tmp_path: Path) -> None:
    server.configure("gateway: {discover: false}\nproviders: {trial: {kind: built_in}}\n")
    url = server.web().url
    # It asks three thousand times in a few seconds, which the bound of a client is there to stop. And its check
    # `ignored_auth` wants 401 for each of many wrong tokens, where the hub slows their address down with 429: the test
    # above has that check, and those of authentication have the bound.
    token = server.json("clients", "add", "schemathesis", "--scope", ",".join(SCOPES), "--rate", "unlimited")["token"]
    said = found_at(url, token, tmp_path, "--phases", "examples,coverage", "--exclude-checks", "ignored_auth")
    assert "No issues found" in said
