"""The conformance suite of MCP (`@modelcontextprotocol/conformance`) against a real hub by HTTP, in both eras."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Person

VERSIONS = ("2025-11-25", "2026-07-28")
SCOPES = ("memory:read", "memory:write", "handoff", "gateway", "admin")
SUCCEEDED = ("SUCCESS", "INFO")


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a scenario, and what came of it."""

    id: str
    status: str
    said: str


@pytest.fixture(scope="module")
def table() -> Any:
    """What the scenarios must come to."""
    import conformance_table

    return conformance_table


@pytest.fixture(scope="module")
def door(person: Person) -> Iterator[Any]:
    """The way into a hub for a program without an option for headers: a token that may do everything is added."""
    from authorizing import Authorizing

    with Authorizing() as added:
        # The suite sends an origin: that of the address which it was told.
        web = person.web(allowed_origins=[added.url])
        added.lead_to(web.port, person.token("conformance", *SCOPES))
        yield added


@pytest.fixture(scope="module", params=VERSIONS)
def results(request: Any, person: Person, door: Any) -> tuple[str, dict[str, list[Check]]]:
    """A version of the specification, and all that its suite found: scenario -> checks."""
    version: str = request.param
    folder = person.work / version
    command = ("conformance", "server", "--url", f"{door.url}/mcp", "--requirements", version, "-o", str(folder))
    done = subprocess.run(
        command,
        cwd=person.work,
        env=person.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=150,
        check=False,  # 1 whenever a check failed
    )
    assert "=== SUMMARY ===" in done.stdout, done.stdout + done.stderr
    return version, {name_of(file): checks_of(file) for file in sorted(folder.glob("*/checks.json"))}


def name_of(file: Path) -> str:
    """The scenario whose checks a file has: `server-<scenario>-<time>/checks.json`."""
    found = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT[\dZ-]+", file.parent.name)
    assert found is not None, file
    return found[1]


def checks_of(file: Path) -> list[Check]:
    checks: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    return [Check(each["id"], each["status"], each.get("errorMessage") or "") for each in checks]


def test_every_scenario_is_in_the_table(results: tuple[str, dict[str, list[Check]]], table: Any) -> None:
    version, found = results
    assert found.keys() == table.EXPECTED[version].keys()


def test_every_scenario_of_the_suite_is_run_for_some_version_or_left_out_for_a_reason(
    person: Person, table: Any
) -> None:
    listed = person.run("conformance", "list", "--server")
    scenarios = set(re.findall(r"^  - (\S+) \[", listed, re.MULTILINE))
    assert len(scenarios) > 60, listed
    assert scenarios == {name for of in table.EXPECTED.values() for name in of} | set(table.NOT_RUN)


def test_what_does_not_succeed_is_what_needs_a_fixture_of_the_suite(
    results: tuple[str, dict[str, list[Check]]], table: Any
) -> None:
    version, found = results
    failed = {
        name: {check.id: check.said for check in checks if check.status not in SUCCEEDED}
        for name, checks in found.items()
    }
    expected = table.EXPECTED[version]
    wrong = {
        name: {
            "fails": {id: said for id, said in failed[name].items() if id not in expected.get(name, ())},
            "succeeds": sorted(expected.get(name, {}).keys() - failed[name].keys()),
        }
        for name in found
        if failed[name].keys() != expected.get(name, {}).keys()
    }
    assert not wrong, json.dumps(wrong, indent=1)


def test_a_scenario_that_passes_has_looked_at_something(
    results: tuple[str, dict[str, list[Check]]], table: Any
) -> None:
    version, found = results
    for name, checks in found.items():
        if not table.EXPECTED[version][name] and name not in table.ANSWERED_AT_ONCE:
            assert any(check.status == "SUCCESS" for check in checks), name


def test_the_hub_was_asked_through_the_proxy(results: tuple[str, dict[str, list[Check]]], door: Any) -> None:
    _, found = results
    assert door.seen > len(found)
