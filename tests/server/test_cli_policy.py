"""What `alg policy` makes of a home's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from adaptive_llm_gateway.core import ConfigError, Trust
from adaptive_llm_gateway.server import _cli_policy


def test_a_policy_is_shown_and_its_tests_are_tried(tmp_path: Path) -> None:
    rules = "version: 1\nrules:\n" + "".join(
        f"  {level}: {{local: allow, hosted: deny}}\n" for level in ("public", "internal", "confidential", "secret")
    )
    root = str(tmp_path)
    shown, tested = _cli_policy.show(root), _cli_policy.test(root, None)
    (tmp_path / "policy.yaml").write_text(
        rules + "tests:\n  - {trust: public, provider: hosted, expect: deny}\n", encoding="utf-8"
    )
    (tmp_path / "policy-tests.yaml").write_text(
        "tests:\n  - {name: wrong, trust: public, provider: local, expect: deny}\n", encoding="utf-8"
    )
    own, own_tested = _cli_policy.show(root), _cli_policy.test(root, None)
    assert shown["source"] == "the default policy"
    assert (tested["failed"], tested["passed"] > 0, tested["tests_source"]) == (0, True, None)
    assert {(rule["trust"], rule["provider"]) for rule in shown["rules"]} == {
        (level, where) for level in Trust for where in ("local", "hosted")
    }
    assert own["source"].endswith("policy.yaml")
    assert own["text"].startswith("version: 1\nrules:")
    assert (own_tested["passed"], own_tested["failed"]) == (1, 1)
    wrong = own_tested["outcomes"][1]
    assert (wrong["name"], wrong["passed"], wrong["line"]) == ("wrong", False, 2)
    assert wrong["source"] == own_tested["tests_source"]
    assert "expected deny" in wrong["failures"][0]
    (tmp_path / "policy.yaml").write_text(rules + "  fifth: {local: allow}\n", encoding="utf-8")
    for look in (lambda: _cli_policy.show(root), lambda: _cli_policy.test(root, None)):
        with pytest.raises(ConfigError) as caught:
            look()
        assert (caught.value.as_dict()["code"], caught.value.details["line"]) == ("config", 7)
