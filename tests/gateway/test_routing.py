"""Routing: who may get a request, in which order, and why not the others."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import InvalidInput, Trust
from adaptive_llm_gateway.gateway import (
    ASSUMED_OUTPUT,
    ENOUGH_CALLS,
    PROVIDER_CLASSES,
    VERDICTS,
    Consent,
    Consents,
    Experience,
    Mode,
    ModelInfo,
    Plan,
    Policy,
    Price,
    PriceTable,
    ProviderState,
    ReasonCode,
    Route,
    RouteRequest,
    Rule,
    default_policy,
    parse_policy,
    plan,
)


def price(provider: str, model: str, sent: int, received: int) -> Price:
    return Price(provider, model, {"input": sent, "output": received})


def grant(id: str, provider: str, level: Trust, purpose: str | None = None, project: str | None = None) -> Consent:
    return Consent(id, provider, level, purpose, project, None, datetime(2026, 11, 1, tzinfo=UTC), "a person", "0" * 64)


CHAT = ModelInfo("small", chat=True, embed=False, stream=True, tools=True, json=True, context=8_000)
LOCAL = ProviderState("ollama", "local", (CHAT,))
HOSTED = ProviderState("cloud", "hosted", (CHAT,))
PRICES = PriceTable("2026-11", (price("cloud", "small", 300_000_000, 1_500_000_000),))
GRANT = grant("c1", "cloud", Trust.INTERNAL)
PUBLIC = RouteRequest(Trust.PUBLIC)
INTERNAL = RouteRequest(Trust.INTERNAL)


def planned(
    request: RouteRequest,
    *providers: ProviderState,
    consents: Consents | None = None,
    mode: Mode = "normal",
    routes: tuple[Route, ...] = (),
    policy: Policy | None = None,
    experience: tuple[Experience, ...] = (),
) -> Plan:
    return plan(
        request,
        policy=policy or default_policy(),
        providers=providers,
        consents=consents or Consents(),
        prices=PRICES,
        routes=routes,
        mode=mode,
        experience=experience,
    )


def order(made: Plan) -> list[str]:
    return [f"{step.provider}/{step.model}" for step in made.steps]


def codes(made: Plan, provider: str, model: str = "small") -> list[ReasonCode]:
    return [
        reason.code
        for each in made.rejected
        if (each.provider, each.model) == (provider, model)
        for reason in each.reasons
    ]


# --- Trust --------------------------------------------------------------------------------------------------------


def test_public_text_goes_to_a_local_provider_first_and_then_to_a_hosted_one() -> None:
    made = planned(PUBLIC, HOSTED, LOCAL)
    assert order(made) == ["ollama/small", "cloud/small"]
    assert made.policy == default_policy().digest
    assert made.prices == "2026-11"


def test_internal_text_goes_to_a_hosted_provider_by_an_entry_of_the_ledger_alone() -> None:
    without = planned(INTERNAL, LOCAL, HOSTED)
    assert order(without) == ["ollama/small"]
    assert codes(without, "cloud") == ["consent_needed"]
    with_consent = planned(INTERNAL, LOCAL, HOSTED, consents=Consents((GRANT,)))
    assert [step.consent for step in with_consent.steps] == [None, "c1"]


@pytest.mark.parametrize(
    "other",
    [
        replace(GRANT, provider="another"),
        replace(GRANT, level=Trust.PUBLIC),
        replace(GRANT, purpose="embed"),
        replace(GRANT, project="another"),
    ],
)
def test_a_consent_to_something_else_does_not_count(other: Consent) -> None:
    made = planned(replace(INTERNAL, project="mine"), HOSTED, consents=Consents((other,)))
    assert codes(made, "cloud") == ["consent_needed"]


def test_a_consent_for_one_purpose_counts_for_that_purpose_alone() -> None:
    consents = Consents((replace(GRANT, purpose="embed"),))
    embedding = replace(INTERNAL, purpose="embed", task="embed")
    hosted = replace(HOSTED, models=(replace(CHAT, embed=True),))
    assert order(planned(embedding, hosted, consents=consents)) == ["cloud/small"]
    assert codes(planned(replace(INTERNAL, purpose="chat"), hosted, consents=consents), "cloud") == ["consent_needed"]
    assert codes(planned(embedding, hosted, consents=Consents((replace(GRANT, purpose="chat"),))), "cloud") == [
        "consent_needed"
    ]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_of_a_local_providers_models_each_is_judged_by_where_it_is_served(names: tuple[str, str]) -> None:
    here, there = (replace(CHAT, name=name) for name in names)
    both = replace(LOCAL, models=(here, replace(there, remote=True)))
    made = planned(INTERNAL, both)
    assert order(made) == [f"ollama/{here.name}"]
    assert codes(made, "ollama", there.name) == ["consent_needed"]
    offline = planned(PUBLIC, both, mode="offline")
    assert order(offline) == [f"ollama/{here.name}"]
    assert codes(offline, "ollama", there.name) == ["mode"]


def test_of_equals_the_cheaper_goes_first() -> None:
    dear, cheap = replace(HOSTED, name="a"), replace(HOSTED, name="b")
    table = PriceTable("1", (price("a", "small", 200_000_000, 0), price("b", "small", 100_000_000, 0)))
    request = replace(PUBLIC, input_tokens=1_000)
    made = plan(request, policy=default_policy(), providers=(dear, cheap), prices=table)
    assert order(made) == ["b/small", "a/small"]


def test_of_many_consents_the_narrowest_is_named() -> None:
    wide = grant("a", "cloud", Trust.SECRET)
    narrow = grant("z", "cloud", Trust.INTERNAL, purpose="chat", project="mine")
    made = planned(replace(INTERNAL, project="mine"), HOSTED, consents=Consents((wide, GRANT, narrow)))
    assert made.steps[0].consent == "z"


def test_a_broken_ledger_blocks_what_needs_consent_and_nothing_else() -> None:
    broken = Consents((GRANT,), broken=True)
    assert codes(planned(INTERNAL, HOSTED, LOCAL, consents=broken), "cloud") == ["ledger_broken"]
    assert order(planned(INTERNAL, HOSTED, LOCAL, consents=broken)) == ["ollama/small"]
    assert order(planned(PUBLIC, HOSTED, consents=broken)) == ["cloud/small"]


def test_a_model_that_is_served_elsewhere_is_hosted_whatever_its_provider_is() -> None:
    state = replace(LOCAL, models=(replace(CHAT, remote=True),))
    made = planned(RouteRequest(Trust.SECRET), state)
    assert codes(made, "ollama") == ["policy"]
    assert made.rejected[0].provider_class == "hosted"


def test_a_model_that_is_listed_twice_is_served_elsewhere_if_one_of_them_is() -> None:
    for models in itertools.permutations((CHAT, replace(CHAT, remote=True))):
        made = planned(RouteRequest(Trust.SECRET), replace(LOCAL, models=models))
        assert not made.steps
        assert len(made.rejected) == 1


def test_no_consent_reaches_over_a_denial() -> None:
    everything = Consents((grant("c", "cloud", Trust.SECRET),))
    assert codes(planned(RouteRequest(Trust.CONFIDENTIAL), HOSTED, consents=everything), "cloud") == ["policy"]


@pytest.mark.parametrize("mode", ["local", "offline"])
def test_local_and_offline_mode_use_local_providers_alone(mode: Mode) -> None:
    served_elsewhere = ProviderState("front", "local", (replace(CHAT, remote=True),))
    made = planned(PUBLIC, HOSTED, LOCAL, served_elsewhere, mode=mode)
    assert order(made) == ["ollama/small"]
    assert codes(made, "cloud") == codes(made, "front") == ["mode"]


def test_what_has_to_be_redacted_says_so_and_rests_on_the_consent_for_what_is_left() -> None:
    policy = parse_policy(
        "rules:\n  public: {local: allow, hosted: allow}\n  internal: {local: allow, hosted: ask}\n"
        "  confidential: {local: allow, hosted: redact}\n  secret: {local: allow, hosted: deny}\n"
    )
    request = RouteRequest(Trust.CONFIDENTIAL, redacted=Trust.INTERNAL)
    assert codes(planned(request, HOSTED, policy=policy), "cloud") == ["consent_needed"]
    (step,) = planned(request, HOSTED, policy=policy, consents=Consents((GRANT,))).steps
    assert (step.redact, step.trust, step.consent) == (True, Trust.INTERNAL, "c1")


# --- Models -------------------------------------------------------------------------------------------------------

LARGE = replace(CHAT, name="large")
SLASHED = replace(CHAT, name="cloud/small")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("auto", ["ollama/large", "ollama/small", "cloud/small", "cloud/large", "router/cloud/small"]),
        ("small", ["ollama/small", "cloud/small"]),
        ("cloud/large", ["cloud/large"]),
        ("cloud/small", ["cloud/small"]),
        ("router/cloud/small", ["router/cloud/small"]),
        ("best", ["cloud/large", "ollama/small", "cloud/small"]),
        ("Small", []),
    ],
)
def test_a_model_is_asked_for_by_route_provider_and_name_or_name(asked: str, expected: list[str]) -> None:
    made = planned(
        replace(PUBLIC, model=asked),
        replace(LOCAL, models=(CHAT, LARGE)),
        replace(HOSTED, models=(LARGE, CHAT)),
        ProviderState("router", "hosted", (SLASHED,)),
        routes=(Route("best", ("cloud/large", "small")),),
    )
    assert order(made) == expected


def test_a_name_without_a_tag_is_that_of_the_latest() -> None:
    state = replace(LOCAL, models=(replace(CHAT, name="llama3:latest"), replace(CHAT, name="llama3:8b")))
    for asked in ("llama3", "ollama/llama3"):
        assert order(planned(replace(PUBLIC, model=asked), state)) == ["ollama/llama3:latest"]


def test_a_hosted_provider_is_tried_with_a_model_that_it_does_not_list_and_a_local_one_is_not() -> None:
    hosted = replace(HOSTED, lists_all=False)
    assert order(planned(replace(PUBLIC, model="cloud/new"), hosted)) == ["cloud/new"]
    local = replace(LOCAL, lists_all=False)
    assert order(planned(replace(PUBLIC, model="ollama/new"), local)) == []


@pytest.mark.parametrize(
    ("request_", "model", "taken"),
    [
        (RouteRequest(Trust.PUBLIC, task="embed"), CHAT, False),
        (RouteRequest(Trust.PUBLIC, task="embed"), replace(CHAT, embed=True), True),
        (RouteRequest(Trust.PUBLIC), replace(CHAT, chat=False), False),
        (RouteRequest(Trust.PUBLIC, stream=True), replace(CHAT, stream=False), False),
        (RouteRequest(Trust.PUBLIC, tools=True), replace(CHAT, tools=False), False),
        (RouteRequest(Trust.PUBLIC, json=True), replace(CHAT, json=False), False),
        (RouteRequest(Trust.PUBLIC), replace(CHAT, stream=False, tools=False, json=False), True),
        (RouteRequest(Trust.PUBLIC, json=True), replace(CHAT, json=None), True),
    ],
)
def test_a_model_has_what_the_request_needs(request_: RouteRequest, model: ModelInfo, taken: bool) -> None:
    made = planned(request_, replace(LOCAL, models=(model,)))
    assert bool(made.steps) is taken
    assert codes(made, "ollama") == ([] if taken else ["cannot"])


def test_a_model_that_is_known_to_have_it_goes_before_one_of_which_nobody_knows() -> None:
    models = (replace(CHAT, name="a", json=None), replace(CHAT, name="b"))
    assert order(planned(replace(PUBLIC, json=True), replace(LOCAL, models=models))) == ["ollama/b", "ollama/a"]


@pytest.mark.parametrize(
    ("sent", "answer", "over"), [(7_999, None, 0), (8_000, None, 1), (7_000, 1_000, 0), (7_000, 1_001, 1)]
)
def test_what_is_beyond_the_context_length_is_told_by_how_much(sent: int, answer: int | None, over: int) -> None:
    made = planned(replace(PUBLIC, input_tokens=sent, max_tokens=answer), LOCAL)
    assert codes(made, "ollama") == (["too_long"] if over else [])
    if over:
        assert f"are {over} more than" in made.rejected[0].reasons[0].text


# --- States and cost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "passes_in"),
    [
        (replace(LOCAL, enabled=False), "disabled", None),
        (replace(LOCAL, key_missing="OPENAI_API_KEY is not set"), "no_key", None),
        (replace(LOCAL, circuit="open", opens_in=12.0), "circuit_open", 12.0),
        (replace(LOCAL, limited_for=3.0), "rate_limited", 3.0),
        (replace(LOCAL, models=()), "no_models", None),
    ],
)
def test_a_provider_that_cannot_be_used_now_says_why_and_for_how_long(
    state: ProviderState, code: ReasonCode, passes_in: float | None
) -> None:
    (rejected,) = planned(PUBLIC, state).rejected
    assert [(reason.code, reason.passes_in) for reason in rejected.reasons] == [(code, passes_in)]


def test_every_reason_is_given_and_not_the_first_alone() -> None:
    state = replace(HOSTED, circuit="open", opens_in=1.0, key_missing="no key")
    made = planned(RouteRequest(Trust.SECRET, tools=True), replace(state, models=(replace(CHAT, tools=False),)))
    assert codes(made, "cloud") == ["policy", "no_key", "circuit_open", "cannot"]


def test_among_equals_the_healthy_the_free_and_the_users_order_come_first() -> None:
    sick = replace(LOCAL, name="a", circuit="half_open")
    full = replace(LOCAL, name="b", running=1, concurrency=1)
    second, first = replace(LOCAL, name="c", order=1), replace(LOCAL, name="d")
    made = planned(PUBLIC, sick, full, second, first, HOSTED)
    assert [step.provider for step in made.steps] == ["d", "c", "b", "a", "cloud"]
    assert [step.provider for step in made.steps if step.wait_for_slot] == ["b"]


def test_a_request_for_one_alone_gets_no_other() -> None:
    made = planned(replace(PUBLIC, fallback=False), LOCAL, HOSTED)
    assert order(made) == ["ollama/small"]
    assert codes(made, "cloud") == ["no_fallback"]


def test_cost_is_in_integer_micro_cents_and_rounded_up() -> None:
    # 3 dollars a million tokens sent and 15 a million received: 1,000 and 100 tokens are 0.0045 dollars.
    (step,) = planned(replace(PUBLIC, input_tokens=1_000, max_tokens=100), HOSTED).steps
    assert step.cost == 450_000


@pytest.mark.parametrize(("budget", "reasons"), [(450_000, []), (449_999, ["over_budget"]), (0, ["over_budget"])])
def test_what_may_cost_more_than_the_budget_is_rejected(budget: int, reasons: list[ReasonCode]) -> None:
    request = replace(PUBLIC, input_tokens=1_000, max_tokens=100, budget=budget)
    assert codes(planned(request, HOSTED), "cloud") == reasons
    assert order(planned(request, LOCAL)) == ["ollama/small"]


def test_a_budget_bounds_the_answer_to_what_its_cost_was_counted_for() -> None:
    (step,) = planned(replace(PUBLIC, input_tokens=10, budget=10**9), HOSTED).steps
    assert step.max_tokens == ASSUMED_OUTPUT
    assert step.cost == PRICES.cost("cloud", "small", {"input": 10, "output": ASSUMED_OUTPUT}).micro_cents
    (step,) = planned(replace(PUBLIC, input_tokens=10), HOSTED).steps
    assert step.max_tokens is None


def test_a_hosted_model_without_a_price_is_rejected_where_there_is_a_budget() -> None:
    unpriced = replace(HOSTED, name="other")
    assert codes(planned(replace(PUBLIC, budget=10**9), unpriced), "other") == ["price_unknown"]
    assert planned(PUBLIC, unpriced).steps[0].cost is None


def test_wrong_requests_tables_and_providers_are_refused() -> None:
    for wrong in ({"input_tokens": -1}, {"max_tokens": 0}, {"budget": -1}, {"redacted": Trust.SECRET}):
        with pytest.raises(InvalidInput):
            RouteRequest(Trust.PUBLIC, **wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidInput, match="twice"):
        PriceTable("1", (price("p", "m", 1, 1), price("p", "m", 2, 2)))
    with pytest.raises(InvalidInput, match="below 0"):
        PriceTable("1", (price("p", "m", -1, 1),))
    with pytest.raises(InvalidInput, match="'cloud'"):
        planned(PUBLIC, HOSTED, HOSTED)


# --- Experience ---------------------------------------------------------------------------------------------------

A, B, C = (replace(LOCAL, name=name) for name in "abc")


def knows(provider: str, answered: int, calls: int, ms: int = 0, model: str = "small") -> Experience:
    return Experience(provider, model, "chat", calls, answered, ms * answered)


def test_a_provider_that_answered_clearly_less_goes_after_its_equals_and_the_plan_says_so() -> None:
    made = planned(PUBLIC, A, B, experience=(knows("a", 12, 20), knows("b", 19, 20, ms=300)))
    assert order(made) == ["b/small", "a/small"]
    first, second = made.steps
    assert first.fared == "lately 19 of 20 calls were answered, in 300 ms on average"
    assert second.fared.startswith("lately 12 of 20 calls were answered")
    assert "clearly less than of an equal, so it goes after it" in second.fared
    assert all(step.fared in step.reason for step in made.steps)


@pytest.mark.parametrize(
    ("experience", "expected"),
    [
        ((knows("a", 0, ENOUGH_CALLS - 1),), ["a", "b", "c"]),  # too few to say anything
        ((knows("a", 0, ENOUGH_CALLS),), ["b", "c", "a"]),  # nothing is known against the others
        ((knows("a", 16, 20),), ["a", "b", "c"]),  # 20 points are not more than 20 points
        ((knows("a", 15, 20),), ["b", "c", "a"]),
        ((knows("a", 15, 20), knows("b", 18, 20), knows("c", 18, 20)), ["a", "b", "c"]),
        ((knows("a", 15, 20), knows("b", 20, 20), knows("c", 18, 20)), ["b", "c", "a"]),
        ((knows("a", 0, 30), knows("b", 0, 20), knows("c", 0, 40)), ["a", "b", "c"]),  # none is better
        ((knows("a", 10, 20), knows("b", 0, 20)), ["c", "a", "b"]),
        ((knows("a", 5, 10), knows("a", 0, 10)), ["b", "c", "a"]),  # told in two parts
        ((replace(knows("a", 0, 20), purpose="embed"),), ["a", "b", "c"]),
        ((knows("a", 0, 20, model="large"),), ["a", "b", "c"]),
    ],
)
def test_what_is_learnt_counts_from_twenty_calls_and_twenty_points(
    experience: tuple[Experience, ...], expected: list[str]
) -> None:
    for each in itertools.permutations(experience):
        assert [step.provider for step in planned(PUBLIC, A, B, C, experience=each).steps] == expected


def test_the_faster_of_two_providers_of_a_model_goes_first_and_other_models_keep_their_places() -> None:
    made = planned(PUBLIC, A, B, experience=(knows("a", 20, 20, ms=901), knows("b", 20, 20, ms=600)))
    assert order(made) == ["b/small", "a/small"]
    assert "clearly slower than the 600 ms of an equal, so it goes after it" in made.steps[1].fared
    for ms, other in ((900, 600), (110, 11), (600, 601)):  # not by half, too little to notice, faster
        same = planned(PUBLIC, A, B, experience=(knows("a", 20, 20, ms=ms), knows("b", 20, 20, ms=other)))
        assert order(same) == ["a/small", "b/small"]
    few = (knows("a", ENOUGH_CALLS - 1, 20, ms=9_000), knows("b", 20, 20, ms=1))
    assert order(planned(PUBLIC, A, B, experience=few)) == ["a/small", "b/small"]
    both = replace(A, models=(CHAT, LARGE))
    slow = (knows("a", 20, 20, ms=9_000), knows("a", 20, 20, ms=1, model="large"), knows("b", 20, 20, ms=500))
    assert order(planned(PUBLIC, both, B, experience=slow)) == ["a/large", "b/small", "a/small"]
    large = (knows("a", 20, 20, ms=1), knows("a", 20, 20, ms=9_000, model="large"), knows("b", 20, 20, ms=1))
    assert order(planned(PUBLIC, both, B, experience=large)) == ["a/large", "a/small", "b/small"]


def test_a_cheaper_model_that_fails_goes_after_a_dearer_one_and_a_slower_one_does_not() -> None:
    dear, cheap = replace(HOSTED, name="a"), replace(HOSTED, name="b")
    table = PriceTable("1", (price("a", "small", 200_000_000, 0), price("b", "small", 100_000_000, 0)))
    request = replace(PUBLIC, input_tokens=1_000)

    def with_(*experience: Experience) -> list[str]:
        made = plan(request, policy=default_policy(), providers=(dear, cheap), prices=table, experience=experience)
        return [step.provider for step in made.steps]

    assert with_() == ["b", "a"]
    assert with_(knows("b", 20, 20, ms=5_000), knows("a", 20, 20, ms=1)) == ["b", "a"]
    assert with_(knows("b", 5, 20)) == ["a", "b"]


def test_experience_overrules_nothing_that_somebody_chose() -> None:
    against = tuple(knows(name, 0, 50) for name in ("a", "ollama"))
    assert order(planned(PUBLIC, A, HOSTED, experience=against)) == ["a/small", "cloud/small"]
    assert order(planned(PUBLIC, A, B, HOSTED, experience=against)) == ["b/small", "a/small", "cloud/small"]
    later = replace(C, order=1)
    assert [step.provider for step in planned(PUBLIC, A, B, later, experience=against).steps] == ["b", "a", "c"]
    sick = replace(C, circuit="half_open")
    assert [step.provider for step in planned(PUBLIC, A, B, sick, experience=against).steps] == ["b", "a", "c"]
    ordered = (replace(A, order=0), replace(B, order=1))
    assert order(planned(PUBLIC, *ordered, experience=against)) == ["a/small", "b/small"]
    route = (Route("mine", ("a/small", "b/small")),)
    assert order(planned(replace(PUBLIC, model="mine"), A, B, routes=route, experience=against))[0] == "a/small"
    assert order(planned(replace(PUBLIC, model="a/small"), A, B, experience=against)) == ["a/small"]
    for_cloud = (*against, knows("cloud", 50, 50, ms=1))
    assert order(planned(INTERNAL, A, HOSTED, experience=for_cloud)) == ["a/small"]
    assert order(planned(PUBLIC, A, HOSTED, mode="local", experience=for_cloud)) == ["a/small"]


def test_more_answers_than_calls_are_no_experience() -> None:
    for numbers in ((1, 2, 0), (-1, -1, 0), (1, 1, -1)):
        with pytest.raises(InvalidInput, match="nothing to learn"):
            Experience("a", "m", "chat", *numbers)


# --- For all requests, policies and states ------------------------------------------------------------------------

# Weighted so that most plans have steps: an empty plan breaks no rule and proves none.
MAYBE = st.sampled_from([True, None])
NAMES = st.sampled_from(["m", "n", "p/m"])
MODELS = st.builds(
    ModelInfo,
    name=NAMES,
    chat=MAYBE,
    embed=MAYBE,
    stream=MAYBE,
    tools=MAYBE,
    json=MAYBE,
    context=st.sampled_from([None, None, 20_000, 3_000]),
    remote=st.booleans(),
)
TROUBLES: list[dict[str, Any]] = [
    *[{}] * 6,
    {"enabled": False},
    {"key_missing": "no key"},
    {"circuit": "open", "opens_in": 3.0},
    {"limited_for": 5.0},
    {"models": ()},
]
STATES = st.lists(
    st.builds(
        lambda trouble, **rest: ProviderState(**{**rest, **trouble}),  # pyright: ignore
        trouble=st.sampled_from(TROUBLES),
        name=st.sampled_from("pqrs"),
        provider_class=st.sampled_from(PROVIDER_CLASSES),
        models=st.lists(MODELS, min_size=1, max_size=3).map(tuple),
        lists_all=st.booleans(),
        order=st.integers(0, 1),
        circuit=st.sampled_from(["closed", "half_open"]),
        running=st.integers(0, 1),
        concurrency=st.none() | st.just(1),
    ),
    min_size=2,
    max_size=4,
    unique_by=lambda state: state.name,  # pyright: ignore
).map(tuple)
PURPOSE = st.sampled_from(["chat", "embed", "own"])
GRANTS = st.lists(
    st.builds(
        grant,
        id=st.sampled_from("1234"),
        provider=st.sampled_from("pqrs"),
        level=st.sampled_from(Trust),
        purpose=st.none() | PURPOSE,
        project=st.none() | st.just("x"),
    ),
    max_size=4,
).map(tuple)
CONSENTS = st.builds(Consents, entries=GRANTS, broken=st.sampled_from([False, False, True]))
CELLS = list(itertools.product(Trust, PROVIDER_CLASSES, [None, "embed"]))
POLICIES = st.lists(st.none() | st.sampled_from(VERDICTS), min_size=len(CELLS), max_size=len(CELLS)).map(
    lambda verdicts: Policy(
        tuple(Rule(*cell, verdict) for cell, verdict in zip(CELLS, verdicts, strict=True) if verdict)
    )
)


def drawn(trust: Trust, redacted: Trust | None, **rest: Any) -> RouteRequest:
    return RouteRequest(trust, redacted=redacted if redacted is None or redacted.rank <= trust.rank else trust, **rest)


SLOW_INPUTS = settings(suppress_health_check=[HealthCheck.too_slow])  # of a machine with other work
REQUESTS = st.builds(
    drawn,
    trust=st.sampled_from(Trust),
    redacted=st.none() | st.sampled_from(Trust),
    purpose=PURPOSE,
    task=st.sampled_from(["chat", "complete", "embed"]),
    model=st.sampled_from(["auto", "auto", "auto", "auto", "auto", "m", "p/m", "q/zzz", "best", "none such"]),
    input_tokens=st.integers(0, 6_000),
    max_tokens=st.none() | st.integers(1, 2_000),
    stream=st.booleans(),
    json=st.booleans(),
    project=st.none() | st.just("x"),
    fallback=st.booleans(),
    budget=st.sampled_from([None, None, None, None, None, 50]),
)
MODES = st.sampled_from(["normal", "normal", "normal", "local", "offline"])
PRICED = (price("p", "m", 100, 200), price("q", "n", 10**8, 10**8))
TABLE = PriceTable("1", PRICED)
ROUTES = (Route("best", ("q/n", "m", "r/zzz")),)


def learnt(share: int, calls: int, **rest: Any) -> Experience:
    return Experience(calls=calls, answered=calls * share // 4, **rest)


EXPERIENCE = st.lists(
    st.builds(
        learnt,
        share=st.integers(0, 4),
        calls=st.sampled_from([1, ENOUGH_CALLS, 40]),
        provider=st.sampled_from("pqrst"),
        model=NAMES,
        purpose=PURPOSE,
        milliseconds=st.integers(0, 10**6),
    ),
    max_size=8,
).map(tuple)


def is_local(states: tuple[ProviderState, ...], provider: str, model: str) -> bool:
    """Said once more in other words than the planner's: the provider is local and it lists the model as its own."""
    state = next(state for state in states if state.name == provider)
    listed = [each for each in state.models if each.name == model]
    return state.provider_class == "local" and bool(listed) and not any(each.remote for each in listed)


@SLOW_INPUTS
@given(REQUESTS, POLICIES, STATES, CONSENTS, MODES)
def test_no_plan_has_a_provider_that_the_policy_forbids(
    request_: RouteRequest, policy: Policy, states: tuple[ProviderState, ...], consents: Consents, mode: Mode
) -> None:
    made = plan(request_, policy=policy, providers=states, consents=consents, prices=TABLE, routes=ROUTES, mode=mode)
    for step in made.steps:
        local = is_local(states, step.provider, step.model)
        assert step.provider_class == ("local" if local else "hosted")
        assert local or mode == "normal"
        verdict = policy.rule(request_.trust, step.provider_class, request_.purpose).verdict
        assert verdict != "deny"
        assert step.redact == (verdict == "redact")
        sent = (request_.redacted or request_.trust) if step.redact else request_.trust
        assert step.trust == sent
        left = policy.rule(sent, step.provider_class, request_.purpose).verdict
        assert left != "deny"
        if "ask" in (verdict, left):
            assert not consents.broken
            assert any(
                consent.id == step.consent
                and consent.covers(
                    provider=step.provider, level=sent, purpose=request_.purpose, project=request_.project
                )
                for consent in consents.entries
            )
        else:
            assert step.consent is None
        if request_.budget is not None:
            assert step.cost is not None
            assert step.cost <= request_.budget
    assert request_.fallback or len(made.steps) <= 1


@SLOW_INPUTS
@given(REQUESTS, STATES, CONSENTS, MODES)
def test_confidential_and_secret_text_stays_here_under_the_default_policy(
    request_: RouteRequest, states: tuple[ProviderState, ...], consents: Consents, mode: Mode
) -> None:
    made = plan(
        request_, policy=default_policy(), providers=states, consents=consents, prices=TABLE, routes=ROUTES, mode=mode
    )
    if request_.trust.rank >= Trust.CONFIDENTIAL.rank:
        assert all(is_local(states, step.provider, step.model) for step in made.steps)


@SLOW_INPUTS
@given(REQUESTS, POLICIES, STATES, CONSENTS, MODES, EXPERIENCE)
def test_the_same_input_has_the_same_plan_in_whatever_order_it_comes(
    request_: RouteRequest,
    policy: Policy,
    states: tuple[ProviderState, ...],
    consents: Consents,
    mode: Mode,
    experience: tuple[Experience, ...],
) -> None:
    first, again = (
        plan(
            request_,
            policy=policy,
            providers=states,
            consents=consents,
            prices=TABLE,
            mode=mode,
            experience=experience,
        )
        for _ in range(2)
    )
    assert first == again
    mixed = plan(
        request_,
        policy=policy,
        providers=tuple(replace(state, models=state.models[::-1]) for state in reversed(states)),
        consents=replace(consents, entries=consents.entries[::-1]),
        prices=PriceTable("1", PRICED[::-1]),
        mode=mode,
        experience=experience[::-1],
    )
    assert mixed == first


@SLOW_INPUTS
@given(REQUESTS, POLICIES, STATES, CONSENTS, MODES, EXPERIENCE)
def test_whatever_was_learnt_the_same_may_be_called_and_only_equals_change_places(
    request_: RouteRequest,
    policy: Policy,
    states: tuple[ProviderState, ...],
    consents: Consents,
    mode: Mode,
    experience: tuple[Experience, ...],
) -> None:
    request_ = replace(request_, fallback=True)
    without, learnt = (
        plan(
            request_,
            policy=policy,
            providers=states,
            consents=consents,
            prices=TABLE,
            routes=ROUTES,
            mode=mode,
            experience=known,
        )
        for known in ((), experience)
    )
    assert learnt.rejected == without.rejected
    before, after = ({(step.provider, step.model): step for step in made.steps} for made in (without, learnt))
    assert {name: replace(step, reason="", fared="") for name, step in before.items()} == {
        name: replace(step, reason="", fared="") for name, step in after.items()
    }
    by_name = {state.name: state for state in states}

    def chosen(made: Plan) -> list[Any]:
        """What a person or the moment decided, in words of the test's own."""
        wanted = list(ROUTES[0].models) if request_.model == "best" else []
        found: list[Any] = []
        for step in made.steps:
            names = (f"{step.provider}/{step.model}", step.model)
            place = next((at for at, name in enumerate(wanted) if name in names), 0)
            state = by_name[step.provider]
            found.append((place, step.provider_class, state.circuit, step.wait_for_slot, state.order))
        return found

    assert chosen(learnt) == chosen(without)
    if sum(known.calls for known in experience) < ENOUGH_CALLS:
        assert learnt == without


@SLOW_INPUTS
@given(REQUESTS, POLICIES, STATES, CONSENTS, MODES)
def test_every_candidate_is_taken_or_rejected_once_with_a_reason(
    request_: RouteRequest, policy: Policy, states: tuple[ProviderState, ...], consents: Consents, mode: Mode
) -> None:
    made = plan(request_, policy=policy, providers=states, consents=consents, prices=TABLE, routes=ROUTES, mode=mode)
    named = [(each.provider, each.model) for each in (*made.steps, *made.rejected)]
    assert len(set(named)) == len(named)
    offered = {(state.name, model.name) for state in states for model in state.models}
    assert offered <= set(named)
    assert {state.name for state in states} == {provider for provider, _ in named}
    assert all(step.reason for step in made.steps)
    assert all(each.reasons and all(reason.text for reason in each.reasons) for each in made.rejected)


@SLOW_INPUTS
@given(REQUESTS, STATES, CONSENTS, MODES)
def test_raising_the_level_never_opens_a_provider_under_the_default_policy(
    request_: RouteRequest, states: tuple[ProviderState, ...], consents: Consents, mode: Mode
) -> None:
    request_ = replace(request_, redacted=None, fallback=True)
    reached = [
        set(order(plan(replace(request_, trust=trust), policy=default_policy(), providers=states, consents=consents,
                       prices=TABLE, routes=ROUTES, mode=mode)))
        for trust in Trust
    ]  # fmt: skip
    assert all(higher <= lower for lower, higher in itertools.pairwise(reached))
