"""What to say when a plan has no step: the one error that helps most, with every reason attached. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from adaptive_llm_gateway.core import AlgError, NotFound, TooLarge, Unavailable
from adaptive_llm_gateway.gateway._routing import AUTO, Plan, ReasonCode, Rejected, RouteRequest

_TRUST: frozenset[ReasonCode] = frozenset({"policy", "mode"})
_CONSENT: frozenset[ReasonCode] = frozenset({"consent_needed"})
_PASSING: frozenset[ReasonCode] = frozenset({"circuit_open", "rate_limited"})
_NOBODY: Mapping[str, str] = {}
_NAMED = 10
"""Candidates that `details` names, at most."""


class NotPermitted(AlgError):
    """The policy or the mode lets the request go to no provider that there is."""

    code = "not_permitted"
    exit_code = 10


class ConsentNeeded(NotPermitted):
    """A provider could take the request if a person consented; `details["providers"]` names them."""

    code = "consent_needed"


class OverBudget(AlgError):
    """What the request may cost is more than is left in its budget."""

    code = "over_budget"
    exit_code = 10


def refusal(
    request: RouteRequest, plan: Plan, *, looked_for: tuple[str, ...] = (), silent: Mapping[str, str] = _NOBODY
) -> AlgError:
    """Why nobody gets the request, and what to do.

    Args:
        plan: one without a step.
        looked_for: the providers that were looked for on this machine and among the keys, for when there is none.
        silent: those of which it is not known what they offer, and why: they may have the model.
    """
    candidates = [each for each in plan.rejected if not _has(each, "no_models")]
    if not candidates:
        return _no_provider(plan, looked_for)
    meant = [each for each in candidates if not _has(each, "other_model")]
    if not meant:
        if request.model in ("", AUTO):
            return _none_by_itself(candidates)
        return _unknown_model(request, candidates, silent)
    details = [
        {
            "provider": each.provider,
            "model": each.model,
            "reasons": [{"code": reason.code, "text": reason.text} for reason in each.reasons],
        }
        for each in meant[:_NAMED]
    ]
    # What stands between the request and the candidate that is nearest to taking it.
    if only := _only(meant, _PASSING):
        soonest = min(only, key=_passes_in)
        return Unavailable(
            f"no provider can take the request now: {_told(soonest)}",
            hint=f"Try again in {_passes_in(soonest):.0f} s.",
            retry_in=_passes_in(soonest),
            candidates=details,
        )
    if only := _only(meant, _CONSENT):
        names = sorted({each.provider for each in only})
        return ConsentNeeded(
            f"the request needs a person's consent: {_told(only[0])}",
            hint=f"A person can give it: alg consent grant {names[0]} --trust {plan.trust.value}. Or use a "
            "local provider.",
            providers=names,
            candidates=details,
        )
    if only := _only(meant, frozenset({"too_long"})):
        return TooLarge(
            f"the request is too long: {_told(only[0])}",
            hint="Shorten it, or have its context built for a budget: `context: {query, budget}` in gateway_chat, "
            "`alg chat --context`.",
            candidates=details,
        )
    if only := _only(meant, frozenset({"over_budget", "price_unknown"})):
        return OverBudget(
            f"the budget of {request.budget} micro-cents is not enough: {_told(only[0])}",
            hint="Raise the budget, bound the answer with `max_tokens`, or use a local model.",
            candidates=details,
        )
    if all(any(reason.code in _TRUST for reason in each.reasons) for each in meant):
        return NotPermitted(
            f"{plan.trust.value} text may go to none of the providers: {_told(meant[0])}",
            hint="Add a local provider, or ask a person to look at the policy.",
            candidates=details,
        )
    nearest = min(meant, key=lambda each: (_has(each, "policy") or _has(each, "mode"), len(each.reasons)))
    return Unavailable(
        f"no provider can take the request: {_told(nearest)}",
        hint="Why each was rejected: gateway_route_preview, `alg gateway preview`.",
        candidates=details,
    )


def _no_provider(plan: Plan, looked_for: tuple[str, ...]) -> AlgError:
    without = sorted({each.provider for each in plan.rejected})
    what = f"no model is known of {', '.join(without)}" if without else "no provider is configured"
    looked = f"; looked for {', '.join(looked_for)}" if looked_for else ""
    return Unavailable(
        f"{what}{looked}",
        hint="Start a local server such as Ollama, LM Studio or llama.cpp, or add a provider under `providers` in "
        "config.yaml.",
        looked_for=list(looked_for),
    )


def _none_by_itself(candidates: list[Rejected]) -> AlgError:
    names = sorted({each.provider for each in candidates})
    return NotFound(
        f"no model is chosen by itself of what {', '.join(names)} {'offers' if len(names) == 1 else 'offer'}: a hosted "
        "provider's list has models of all kinds and prices",
        hint=f"Name one, such as {candidates[0].provider}/{candidates[0].model}, or list those to choose from under "
        f"`providers.{candidates[0].provider}.models` in config.yaml, or make a route.",
        providers=names,
    )


def _unknown_model(request: RouteRequest, candidates: list[Rejected], silent: Mapping[str, str]) -> AlgError:
    asked, _, model = request.model.partition("/")
    if model and asked in silent:
        return Unavailable(
            f"whether {asked!r} has the model {model!r} is not known: {silent[asked]}",
            hint="How the providers are: gateway_health, `alg gateway health`.",
            silent=dict(silent),
        )
    full = sorted(f"{each.provider}/{each.model}" for each in candidates)
    short = sorted({each.model for each in candidates})
    near = difflib.get_close_matches(request.model, [*short, *full], n=3, cutoff=0.5)
    others = [f"{name} ({said})" for name, said in silent.items()]
    return NotFound(
        f"no provider has a model {request.model!r}"
        + (f"; not known of {', '.join(others[:_NAMED])}" if others else ""),
        hint=f"Nearest: {', '.join(near)}." if near else f"There are: {', '.join(full[:_NAMED])}.",
        nearest=near,
    )


def _has(each: Rejected, code: ReasonCode) -> bool:
    return any(reason.code == code for reason in each.reasons)


def _only(candidates: list[Rejected], codes: frozenset[ReasonCode]) -> list[Rejected]:
    return [each for each in candidates if all(reason.code in codes for reason in each.reasons)]


def _passes_in(each: Rejected) -> float:
    return max((reason.passes_in or 0.0 for reason in each.reasons), default=0.0)


def _told(each: Rejected) -> str:
    return f"{each.provider}/{each.model}: {'; '.join(reason.text for reason in each.reasons)}"
