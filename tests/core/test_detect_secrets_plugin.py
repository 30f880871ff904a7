"""The scanner as a plugin of detect-secrets, asked by its own command line."""

from __future__ import annotations

import json
import random
import string
import subprocess
import sys
from pathlib import Path

import adaptive_llm_gateway.core

PLUGIN = Path(adaptive_llm_gateway.core.__file__).parent / "_detect_secrets_plugin.py"
TYPE = "Credential (Adaptive LLM Gateway)"


def scan(folder: Path, *options: str) -> dict[str, list[dict[str, object]]]:
    done = subprocess.run(
        [sys.executable, "-m", "detect_secrets", "scan", "--all-files", "--no-verify", *options],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(done.stdout)["results"]


def test_detect_secrets_finds_with_the_plugin_what_it_misses_without(tmp_path: Path) -> None:
    token = "dop_v1_" + "".join(random.Random(8).choices("0123456789abcdef", k=64))  # noqa: S311
    (tmp_path / "notes.md").write_text(f"# Droplets\n\nThe pipeline logs in with {token} for now.\n", encoding="utf-8")
    (tmp_path / "prose.md").write_text("The token of a droplet is renewed each month.\n", encoding="utf-8")
    assert scan(tmp_path) == {}
    (found,) = scan(tmp_path, "-p", str(PLUGIN))["notes.md"]
    assert (found["type"], found["line_number"]) == (TYPE, 3)


def test_a_baseline_of_the_plugin_knows_its_findings_again(tmp_path: Path) -> None:
    draw = random.Random(9)  # noqa: S311
    token = "sk-ant-api03-" + "".join(draw.choices(string.ascii_letters + string.digits, k=93)) + "AA"
    (tmp_path / "notes.md").write_text(f"Use {token} here.\n", encoding="utf-8")
    baseline = tmp_path / "baseline.json"
    baseline.write_text(
        json.dumps(
            {
                "version": "1.5.0",
                "plugins_used": [{"name": "AdaptiveLlmGatewayDetector", "path": PLUGIN.as_uri()}],
                "filters_used": [],
                "results": {},
            }
        ),
        encoding="utf-8",
    )
    scan_again = [sys.executable, "-m", "detect_secrets", "scan", "--all-files", "--baseline", str(baseline)]
    for _ in range(2):
        subprocess.run(scan_again, cwd=tmp_path, check=True, capture_output=True)
        results = json.loads(baseline.read_text(encoding="utf-8"))["results"]
        assert [found["type"] for found in results["notes.md"]] == [TYPE]
        assert token not in baseline.read_text(encoding="utf-8")


def test_the_command_line_prints_where_the_plugin_is() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "adaptive_llm_gateway.server", "secrets", "plugin"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert Path(printed.stdout.removesuffix("\n")).samefile(PLUGIN)
