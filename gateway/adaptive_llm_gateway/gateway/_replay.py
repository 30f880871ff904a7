"""What a plan was made from, kept with its receipt, and the same request planned once more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.gateway._canonical import digest
from adaptive_llm_gateway.gateway._consents import Consent, Consents
from adaptive_llm_gateway.gateway._experience import Experience
from adaptive_llm_gateway.gateway._plain import plain
from adaptive_llm_gateway.gateway._policy import Policy, Rule
from adaptive_llm_gateway.gateway._prices import Price, PriceTable
from adaptive_llm_gateway.gateway._routing import Mode, Plan, ProviderState, Route, RouteRequest, plan
from adaptive_llm_gateway.gateway._run import route_of

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from adaptive_llm_gateway.gateway._receipts import FiledReceipt

_MOST_MODELS: Final = 50
"""Models of a provider that are kept of a request that means none of them."""


@dataclass(frozen=True, slots=True)
class PlanInputs:
    """All that a plan is made from."""

    request: RouteRequest
    mode: Mode
    policy: Policy
    consents: Consents
    providers: tuple[ProviderState, ...]
    prices: PriceTable
    routes: tuple[Route, ...]
    experience: tuple[Experience, ...] = ()

    def plan(self) -> Plan:
        """The plan that is made from them."""
        return plan(
            self.request,
            policy=self.policy,
            providers=self.providers,
            consents=self.consents,
            prices=self.prices,
            routes=self.routes,
            mode=self.mode,
            experience=self.experience,
        )


@dataclass(frozen=True, slots=True)
class Replay:
    """A request planned again.

    Attributes:
        then: the plan of what the receipt's run folder holds.
        now: the plan as policy, consents, providers and mode are now.
        reproduces: `then` is the route that the receipt tells, and its inputs are those that the receipt names.
        differences: what is otherwise now, a sentence each; none where the request would go the same way.
    """

    receipt: str
    then: Plan
    now: Plan
    reproduces: bool
    differences: tuple[str, ...]


def inputs_of(inputs: PlanInputs, made: Plan) -> Mapping[str, object]:
    """What has to be kept to make a plan again: only the models that the request means, how those fared for its
    purpose, and the consents of their providers that are for its purpose and its project."""
    meant = {(step.provider, step.model) for step in made.steps}
    meant |= {
        (each.provider, each.model)
        for each in made.rejected
        if not all(reason.code == "other_model" for reason in each.reasons)
    }
    states = tuple(
        replace(
            state,
            # One at least: a provider without any would be told of, as one that offers nothing.
            models=tuple(model for model in state.models if (state.name, model.name) in meant) or state.models[:1]
            if meant
            else state.models[:_MOST_MODELS],
        )
        for state in inputs.providers
    )
    request = inputs.request
    return {
        "request": request,
        "mode": inputs.mode,
        "policy": {"digest": inputs.policy.digest, "purposes": inputs.policy.purposes, "rules": inputs.policy.rules},
        "consents": replace(inputs.consents, entries=_meant_consents(inputs, {provider for provider, _ in meant})),
        "providers": states,
        "prices": {"version": inputs.prices.version, "prices": _prices_of(inputs.prices, meant)},
        "routes": [route for route in inputs.routes if route.name == request.model],
        "experience": [
            each
            for each in inputs.experience
            if each.purpose == request.purpose and (each.provider, each.model) in meant
        ],
    }


def _prices_of(table: PriceTable, models: Collection[tuple[str, str]]) -> tuple[Price, ...]:
    found = [(provider, model, table.price(provider, model)) for provider, model in sorted(models)]
    return tuple(
        replace(price, provider=provider, model=model) for provider, model, price in found if price is not None
    )


def _meant_consents(inputs: PlanInputs, providers: set[str]) -> tuple[Consent, ...]:
    request = inputs.request
    return tuple(
        consent
        for consent in inputs.consents.entries
        if consent.provider in providers
        and consent.purpose in (None, request.purpose)
        and consent.project in (None, request.project)
    )


def kept_inputs(filed: FiledReceipt) -> PlanInputs:
    """What the plan of a receipt was made from.

    Raises:
        InvalidInput: no plan was made, or what was kept cannot be read.
    """
    if filed.inputs is None:
        raise InvalidInput(
            f"no plan was made for the request of receipt {filed.receipt.id!r}, so there is nothing to replay",
            hint=f"It says why: alg receipts show {filed.receipt.id}",
        )
    try:
        kept = cast("dict[str, Any]", filed.inputs)
        policy, prices = kept["policy"], kept["prices"]
        return PlanInputs(
            _read(RouteRequest, kept["request"]),
            _read(Mode, kept["mode"]),
            Policy(_read(tuple[Rule, ...], policy["rules"]), _read(tuple[str, ...], policy["purposes"])),
            Consents(_read(tuple[Consent, ...], kept["consents"]["entries"]), bool(kept["consents"]["broken"])),
            _read(tuple[ProviderState, ...], kept["providers"]),
            PriceTable(str(prices["version"]), _read(tuple[Price, ...], prices["prices"])),
            _read(tuple[Route, ...], kept["routes"]),
            # Receipts of before it was learnt from have none.
            _read(tuple[Experience, ...], kept.get("experience", ())),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InvalidInput(
            f"what receipt {filed.receipt.id!r} has kept for a replay cannot be read: {type(error).__name__}",
            hint="It was changed, or written by another version: alg receipts verify",
        ) from error


def compared(filed: FiledReceipt, then: PlanInputs, now: PlanInputs) -> Replay:
    """The request as it was planned and as it would be."""
    planned_then, planned_now = then.plan(), now.plan()
    told = plain(route_of(planned_then)) == plain(filed.receipt.route)
    same_inputs = filed.receipt.inputs == digest(filed.inputs)
    return Replay(
        filed.receipt.id, planned_then, planned_now, told and same_inputs, _differences(planned_then, planned_now)
    )


def _differences(then: Plan, now: Plan) -> tuple[str, ...]:
    found: list[str] = []
    if then.mode != now.mode:
        found.append(f"the mode was {then.mode!r} and is {now.mode!r}")
    if then.policy != now.policy:
        found.append("the policy is another one")
    if then.prices != now.prices:
        found.append(f"the price table was {then.prices!r} and is {now.prices!r}")
    before = [f"{step.provider}/{step.model}" for step in then.steps]
    after = [f"{step.provider}/{step.model}" for step in now.steps]
    found += [f"{name} would be called no more: {_why_not(now, name)}" for name in before if name not in after]
    found += [f"{name} would be called as well" for name in after if name not in before]
    if sorted(before) == sorted(after) and before != after:
        found.append(f"the order was {', '.join(before)} and would be {', '.join(after)}")
    for one in then.steps:
        for other in now.steps:
            if (one.provider, one.model) == (other.provider, other.model):
                found += _changes(one.provider, one.model, one.redact, other.redact, one.cost, other.cost)
    return tuple(found)


def _changes(
    provider: str, model: str, redact_then: bool, redact_now: bool, cost_then: int | None, cost_now: int | None
) -> list[str]:
    found: list[str] = []
    if redact_then != redact_now:
        found.append(f"{provider}/{model} would get the text {'redacted' if redact_now else 'as it is'}")
    if cost_then != cost_now:
        found.append(f"{provider}/{model} cost at most {_money(cost_then)}, and would cost {_money(cost_now)}")
    return found


def _why_not(now: Plan, name: str) -> str:
    for each in now.rejected:
        if f"{each.provider}/{each.model}" == name:
            return "; ".join(reason.text for reason in each.reasons)
    return "nobody offers it"


def _money(micro_cents: int | None) -> str:
    return "an unknown sum" if micro_cents is None else f"{micro_cents} micro-cents"


def _read(kind: Any, value: object) -> Any:
    return _adapter(kind).validate_python(value)


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter  # noqa: PLC0415 - only a replay pays for it

    return TypeAdapter(kind)
