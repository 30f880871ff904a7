"""What is said when nobody may get a request."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from adaptive_llm_gateway.core import AlgError, NotFound, TooLarge, Trust, Unavailable
from adaptive_llm_gateway.gateway import (
    ConsentNeeded,
    ModelInfo,
    NotPermitted,
    OverBudget,
    Price,
    PriceTable,
    ProviderFailure,
    ProviderState,
    RouteRequest,
    default_policy,
    plan,
    refusal,
)
from adaptive_llm_gateway.gateway._port import LONGEST_MESSAGE

SMALL = ModelInfo("llama3:8b", chat=True, context=1_000)
LOCAL = ProviderState("ollama", "local", (SMALL,))
HOSTED = ProviderState("cloud", "hosted", (ModelInfo("gpt-x", chat=True, context=1_000),))
PUBLIC = RouteRequest(Trust.PUBLIC)


def refused(
    request: RouteRequest,
    *providers: ProviderState,
    looked_for: tuple[str, ...] = (),
    silent: dict[str, str] | None = None,
) -> AlgError:
    prices = PriceTable("1", (Price("cloud", "gpt-x", {"input": 10**9, "output": 10**9}),))
    made = plan(request, policy=default_policy(), providers=providers, prices=prices)
    assert not made.steps
    return refusal(request, made, looked_for=looked_for, silent=silent or {})


def test_without_a_provider_it_says_what_was_looked_for_and_how_to_add_one() -> None:
    error = refused(PUBLIC, looked_for=("Ollama at 127.0.0.1:11434", "OPENAI_API_KEY"))
    assert isinstance(error, Unavailable)
    assert "looked for Ollama at 127.0.0.1:11434, OPENAI_API_KEY" in error.message
    assert error.hint is not None
    assert "config.yaml" in error.hint
    assert "no model is known of empty" in refused(PUBLIC, ProviderState("empty", "local")).message


def test_an_unknown_model_has_its_nearest_names() -> None:
    error = refused(replace(PUBLIC, model="lama3:8b"), LOCAL, HOSTED)
    assert isinstance(error, NotFound)
    assert error.details["nearest"][0] == "llama3:8b"
    far = refused(replace(PUBLIC, model="zzz"), LOCAL, HOSTED)
    assert far.hint == "There are: cloud/gpt-x, ollama/llama3:8b."


def test_a_provider_that_does_not_answer_is_not_said_to_lack_the_model() -> None:
    down, silent = ProviderState("work", "local"), {"work": "'work' cannot be reached"}
    error = refused(replace(PUBLIC, model="work/big/model"), LOCAL, down, silent=silent)
    assert isinstance(error, Unavailable)
    assert error.message == "whether 'work' has the model 'big/model' is not known: 'work' cannot be reached"
    other = refused(replace(PUBLIC, model="lama3:8b"), LOCAL, down, silent=silent)
    assert isinstance(other, NotFound)
    assert other.message == "no provider has a model 'lama3:8b'; not known of work ('work' cannot be reached)"
    assert other.details["nearest"][0] == "llama3:8b"


def test_what_needs_consent_names_the_provider_and_the_level() -> None:
    error = refused(RouteRequest(Trust.INTERNAL), HOSTED)
    assert isinstance(error, ConsentNeeded)
    assert error.details["providers"] == ["cloud"]
    assert error.hint is not None
    assert "alg consent grant cloud --trust internal" in error.hint


def test_what_the_policy_forbids_everywhere_is_not_permitted() -> None:
    error = refused(RouteRequest(Trust.SECRET), HOSTED)
    assert type(error) is NotPermitted
    assert "hosted" in error.message
    assert error.details["candidates"][0]["reasons"][0]["code"] == "policy"


def test_a_prompt_beyond_the_context_says_by_how_much_and_offers_the_budgeted_form() -> None:
    error = refused(replace(PUBLIC, input_tokens=1_200), LOCAL)
    assert isinstance(error, TooLarge)
    assert "201 more than its context of 1000" in error.message
    assert error.hint is not None
    assert "budget" in error.hint


def test_what_may_pass_says_when_to_try_again() -> None:
    soon, late = replace(LOCAL, limited_for=4.0), replace(HOSTED, circuit="open", opens_in=30.0)
    error = refused(PUBLIC, late, soon)
    assert isinstance(error, Unavailable)
    assert error.details["retry_in"] == 4.0


def test_a_sick_local_provider_does_not_hide_that_the_hosted_one_is_forbidden() -> None:
    error = refused(RouteRequest(Trust.SECRET), replace(LOCAL, circuit="open", opens_in=30.0), HOSTED)
    assert isinstance(error, Unavailable)
    assert [each["provider"] for each in error.details["candidates"]] == ["cloud", "ollama"]


def test_a_budget_that_is_too_small_says_so() -> None:
    assert isinstance(refused(replace(PUBLIC, budget=1), HOSTED), OverBudget)


def test_mixed_reasons_tell_those_of_the_one_that_is_nearest() -> None:
    error = refused(
        RouteRequest(Trust.SECRET),
        replace(LOCAL, key_missing="no key", limited_for=2.0),
        replace(HOSTED, enabled=False),
    )
    assert isinstance(error, Unavailable)
    assert "ollama/llama3:8b: no key" in error.message


@pytest.mark.parametrize("request_", [PUBLIC, replace(PUBLIC, model="zzz"), RouteRequest(Trust.SECRET)])
def test_a_refusal_can_be_pickled(request_: RouteRequest) -> None:
    error = refused(request_, replace(HOSTED, enabled=False))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - its own
    assert (type(again), again.as_dict()) == (type(error), error.as_dict())


def test_a_providers_failure_can_be_pickled_and_its_text_is_bounded() -> None:
    failure = ProviderFailure("x" * 10_000, kind="rate_limited", retry_after=3.0, status=429)
    again = pickle.loads(pickle.dumps(failure))  # noqa: S301 - its own
    assert len(failure.message) == LONGEST_MESSAGE
    assert (again.kind, again.retry_after, again.status, again.message) == ("rate_limited", 3.0, 429, failure.message)
