"""`alg policy`: the policy as its file has it, and its tests. Reads files alone: it is tried before it holds."""

from __future__ import annotations

from pathlib import Path

from adaptive_llm_gateway.core import Home, NotFound
from adaptive_llm_gateway.gateway import (
    DEFAULT_POLICY,
    Policy,
    TestOutcome,
    default_policy,
    parse_policy,
    parse_policy_tests,
    run_policy_tests,
)
from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless
from adaptive_llm_gateway.server._gateway_files import DEFAULT_POLICY_NAME, POLICY_FILE, POLICY_TESTS_FILE, text_of


def policy_path(root: str) -> Path:
    """Where the home's policy lies, or would."""
    return Home(root).root / POLICY_FILE


def _load(path: Path, *, default: bool) -> tuple[Policy, str, str]:
    """The policy, its text, and what it is called.

    Args:
        default: take the default policy where there is no file.

    Raises:
        ConfigError: it is none, with its line.
        NotFound: there is no file.
    """
    text = text_of(path)
    if text is not None:
        return parse_policy(text, source=str(path)), text, str(path)
    if not default:
        raise NotFound(f"there is no file {str(path)!r}", path=str(path))
    return default_policy(), DEFAULT_POLICY, DEFAULT_POLICY_NAME


def show(root: str) -> Json:
    """The home's policy.

    Raises:
        ConfigError: it is none, with its line.
    """
    policy, text, source = _load(policy_path(root), default=True)
    return {
        "source": source,
        "digest": policy.digest,
        "text": text,
        "purposes": list(policy.purposes),
        "rules": [
            {
                "trust": rule.trust.value,
                "provider": rule.provider,
                "purpose": rule.purpose,
                "verdict": rule.verdict,
                "line": rule.line,
            }
            for rule in policy.rules
        ],
        "tests": len(policy.tests),
    }


def test(root: str, file: Path | None) -> Json:
    """Try the tests in a policy and those of `policy-tests.yaml` beside it.

    Args:
        file: another policy than the home's.

    Raises:
        ConfigError: policy or tests are none, with the line.
        NotFound: there is no such file.
    """
    path = file if file is not None else policy_path(root)
    policy, _, source = _load(path, default=file is None)
    beside = path.with_name(POLICY_TESTS_FILE)
    outcomes = [_outcome(each, source) for each in run_policy_tests(policy)]
    text = text_of(beside)
    if text is not None:
        more = parse_policy_tests(text, policy, source=str(beside))
        outcomes += [_outcome(each, str(beside)) for each in run_policy_tests(policy, more)]
    passed = sum(outcome["passed"] for outcome in outcomes)
    return {
        "passed": passed,
        "failed": len(outcomes) - passed,
        "source": source,
        "tests_source": None if text is None else str(beside),
        "outcomes": outcomes,
    }


def _outcome(outcome: TestOutcome, source: str) -> Json:
    return {
        "name": outcome.test.name,
        "line": outcome.test.line,
        "source": source,
        "passed": not outcome.failures,
        "checked": outcome.checked,
        "failures": list(outcome.failures),
    }


def test_text(report: Json, paint: Paint) -> str:
    """A line for each test, and below a failed one what the policy says instead."""
    lines: list[str] = []
    for outcome in report["outcomes"]:
        mark = paint("passed", "green") if outcome["passed"] else paint("FAILED", "red")
        place = "" if outcome["passed"] else f"  {outcome['source']} line {outcome['line']}"
        lines.append(f"{mark}  {harmless(outcome['name'])}{paint(harmless(place), 'dim')}")
        lines += [f"        {harmless(failure)}" for failure in outcome["failures"]]
    return "\n".join(lines)
