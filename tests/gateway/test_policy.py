"""The policy: a table that a person reads, and no hole in it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import ConfigError, Trust
from adaptive_llm_gateway.gateway import (
    DEFAULT_POLICY,
    LARGEST_POLICY,
    PROVIDER_CLASSES,
    VERDICTS,
    Policy,
    ProviderClass,
    Rule,
    Verdict,
    default_policy,
    parse_policy,
    parse_policy_tests,
    run_policy_tests,
)

WHOLE = """\
rules:
  public: {local: allow, hosted: allow}
  internal: {local: allow, hosted: ask}
  confidential: {local: allow, hosted: deny}
  secret: {local: allow, hosted: deny}
"""


@pytest.mark.parametrize("purpose", ["chat", "complete", "embed", "anything else"])
def test_the_default_policy_is_that_of_the_design(purpose: str) -> None:
    policy = default_policy()
    hosted = [policy.rule(trust, "hosted", purpose).verdict for trust in Trust]
    assert hosted == ["allow", "ask", "deny", "deny"]
    assert {policy.rule(trust, "local", purpose).verdict for trust in Trust} == {"allow"}


def test_the_default_policy_passes_the_tests_in_its_own_text() -> None:
    outcomes = run_policy_tests(default_policy())
    assert len(outcomes) == 4
    assert all(outcome.checked and not outcome.failures for outcome in outcomes)


def test_a_rule_of_its_own_goes_before_any() -> None:
    text = WHOLE.replace(
        "{local: allow, hosted: ask}", "{local: allow, hosted: {any: ask, embed: deny, notes: redact}}"
    )
    policy = parse_policy(f"purposes: [notes]\n{text}")
    said = {purpose: policy.rule(Trust.INTERNAL, "hosted", purpose).verdict for purpose in ("chat", "embed", "notes")}
    assert said == {"chat": "ask", "embed": "deny", "notes": "redact"}
    assert policy.rule(Trust.INTERNAL, "hosted", "a name that it does not have").verdict == "ask"


def test_a_policy_without_rules_denies() -> None:
    assert {Policy(()).rule(trust, each, "chat").verdict for trust in Trust for each in PROVIDER_CLASSES} == {"deny"}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "empty"),
        ("- a", 1, "should be the policy"),
        ("version: 2\n" + WHOLE, 1, "version"),
        ("version: 1", 1, "no rules"),
        ("\nrulez: {}", 2, "did you mean 'rules'"),
        (WHOLE.replace("  secret: {local: allow, hosted: deny}\n", ""), 2, "gap: no rules for trust level 'secret'"),
        (WHOLE.replace("{local: allow, hosted: ask}", "{local: allow}"), 3, "gap"),
        (WHOLE.replace("hosted: ask", "hosted: {chat: ask, complete: ask, embed: ask}"), 3, "purposes of other names"),
        (WHOLE.replace("hosted: ask", "hosted: {embed: deny}"), 3, "chat, complete"),
        (WHOLE.replace("hosted: ask", "hosted: {any: ask, embedd: deny}"), 3, "did you mean 'embed'"),
        (WHOLE.replace("hosted: ask", "hosted:"), 3, "should have a verdict"),
        (WHOLE.replace("hosted: ask", "hosted: [ask]"), 3, "the purposes"),
        (WHOLE.replace("hosted: ask", "hosted: ask, hosted: deny"), 3, "a second time"),
        (WHOLE + "  public: {local: deny, hosted: deny}\n", 6, "line 2 has it already"),
        (WHOLE.replace("hosted: ask", "hosted: sometimes"), 3, "'sometimes'"),
        (WHOLE.replace("secret: {local: allow, hosted: deny", "secret: {local: allow, hosted: allow"), 5, "line 4"),
        (
            WHOLE.replace("hosted: ask", "hosted: {any: ask, embed: allow}").replace(
                "public: {local: allow, hosted: allow", "public: {local: allow, hosted: {any: allow, embed: ask}"
            ),
            3,
            "contradicts itself for purpose 'embed'",
        ),
        (WHOLE.replace("public: {local: allow", "public: {local: deny"), 3, "contradicts"),
        ("purposes: [chat]\n" + WHOLE, 1, "built in"),
        ("purposes: [any]\n" + WHOLE, 1, "no name for a purpose"),
        ("purposes: [Ä]\n" + WHOLE, 1, "no name for a purpose"),
        (WHOLE + "tests: {}\n", 6, "list of tests"),
        (WHOLE + "tests:\n  - {trust: public}\n", 7, "provider, expect"),
        (WHOLE + "tests:\n  - {trust: publik, provider: local, expect: deny}\n", 7, "did you mean 'public'"),
        (WHOLE + "tests:\n  - {trust: [], provider: local, expect: deny}\n", 7, "list of nothing"),
        (WHOLE.replace("{local: allow, hosted: ask}", "&a {local: allow, hosted: ask}"), 3, "anchor"),
        (WHOLE.replace("hosted: ask", "hosted: !!str ask"), 3, "tag"),
        ("rules: {", 1, "not valid YAML"),
        ("rules: \x00", 1, "not valid YAML"),
        ("[" * 20_000, 1, "deep"),
        ("#" * (LARGEST_POLICY + 1), 1, "more than"),
    ],
)
def test_a_gap_a_contradiction_or_a_slip_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError, match=r"^mine\.yaml line") as caught:
        parse_policy(text, source="mine.yaml")
    assert caught.value.details["line"] == line
    assert words in caught.value.message


def test_tests_beside_the_policy_say_what_they_expected_and_which_line_says_otherwise() -> None:
    policy = parse_policy(WHOLE)
    tests = parse_policy_tests(
        "tests:\n"
        "  - {name: mine, trust: [internal, secret], provider: hosted, purpose: [chat, embed], expect: deny}\n"
        "  - {trust: public, provider: hosted, expect: allow}\n",
        policy,
    )
    failed, passed = run_policy_tests(policy, tests)
    assert failed.checked == 4
    assert failed.failures == tuple(
        f"internal, hosted, {purpose}: expected deny, the policy says ask (line 3)" for purpose in ("chat", "embed")
    )
    assert (passed.test.name, passed.failures) == ("line 3", ())


def test_a_test_without_a_purpose_holds_for_every_purpose() -> None:
    text = WHOLE.replace("hosted: ask", "hosted: {any: ask, embed: deny}")
    text += "tests:\n  - {trust: internal, provider: hosted, expect: ask}\n"
    (outcome,) = run_policy_tests(parse_policy(text))
    assert len(outcome.failures) == 1
    assert "embed" in outcome.failures[0]


def test_the_digest_is_of_what_the_rules_say() -> None:
    policy = parse_policy(WHOLE)
    assert policy.digest == default_policy().digest == parse_policy("# a comment\n" + DEFAULT_POLICY).digest
    assert policy.digest != parse_policy(WHOLE.replace("hosted: ask", "hosted: deny")).digest


def test_redacting_is_followed_by_the_rule_of_the_level_that_is_left() -> None:
    policy = parse_policy(
        WHOLE.replace("confidential: {local: allow, hosted: deny", "confidential: {local: allow, hosted: redact")
    )
    same = policy.judge(Trust.CONFIDENTIAL, Trust.CONFIDENTIAL, "hosted", "chat")
    assert (same.verdict, same.redact, same.trust) == ("allow", True, Trust.CONFIDENTIAL)
    lower = policy.judge(Trust.CONFIDENTIAL, Trust.INTERNAL, "hosted", "chat")
    assert (lower.verdict, lower.redact, lower.trust, lower.line) == ("ask", True, Trust.INTERNAL, 3)
    lowest = policy.judge(Trust.CONFIDENTIAL, Trust.PUBLIC, "hosted", "chat")
    assert (lowest.verdict, lowest.redact) == ("allow", True)


def test_redacting_does_not_lift_a_denial_and_cannot_raise_a_level() -> None:
    policy = default_policy()
    assert policy.judge(Trust.SECRET, Trust.PUBLIC, "hosted", "chat").verdict == "deny"
    with pytest.raises(ValueError, match="cannot raise"):
        policy.judge(Trust.PUBLIC, Trust.SECRET, "hosted", "chat")


CELLS: list[tuple[Trust, ProviderClass]] = list(itertools.product(Trust, PROVIDER_CLASSES))
TABLES = st.fixed_dictionaries({cell: st.sampled_from(VERDICTS) for cell in CELLS})
STRICTNESS: dict[Verdict, int] = {"allow": 0, "redact": 1, "ask": 1, "deny": 2}


@given(TABLES)
def test_a_table_is_taken_exactly_when_it_does_not_contradict_itself(
    table: dict[tuple[Trust, ProviderClass], Verdict],
) -> None:
    text = "rules:\n" + "".join(
        f"  {trust.value}: {{local: {table[trust, 'local']}, hosted: {table[trust, 'hosted']}}}\n" for trust in Trust
    )
    how = {cell: STRICTNESS[verdict] for cell, verdict in table.items()}
    sound = all(
        how[lower, each] <= how[higher, each]
        for lower, higher in itertools.pairwise(Trust)
        for each in PROVIDER_CLASSES
    ) and all(how[trust, "local"] <= how[trust, "hosted"] for trust in Trust)
    if not sound:
        with pytest.raises(ConfigError, match="contradicts"):
            parse_policy(text)
        return
    assert {
        (rule.trust, rule.provider): rule.verdict for rule in parse_policy(text).rules if rule.purpose is None
    } == table


@given(st.text(alphabet="rules:\n {}[]-pubicantershod&*!#'\"allowdeny,ask0", max_size=200))
def test_no_text_fails_in_any_way_but_as_a_refusal_with_a_line(text: str) -> None:
    refused: ConfigError | None = None
    try:
        parse_policy(text)
    except ConfigError as error:
        refused = error
    assert refused is None or refused.details["line"] >= 1


@given(st.permutations([Rule(trust, each, None, "ask", 1) for trust, each in CELLS]))
def test_the_order_of_rules_changes_nothing(rules: list[Rule]) -> None:
    assert Policy(tuple(rules)).digest == Policy(tuple(Rule(trust, each, None, "ask") for trust, each in CELLS)).digest
