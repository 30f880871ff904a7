"""Routing: from a request, the policy, consents, the providers' states and a budget to an ordered plan.

`plan` is the one place where it is decided who may get a request: preview, simulation and execution call it alike. It
is pure (no clock, no chance, no network), so the same input has the same plan, and every model of every provider is in
it, taken or rejected, with its reasons. What is not among its `steps` must not be called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import attrgetter
from typing import Final, Literal

from adaptive_llm_gateway.core import InvalidInput, Trust
from adaptive_llm_gateway.gateway._breaker import Circuit
from adaptive_llm_gateway.gateway._consents import NO_CONSENTS, Consents
from adaptive_llm_gateway.gateway._experience import Experience, behind, experience_for, fared, slower
from adaptive_llm_gateway.gateway._policy import Policy, Ruling
from adaptive_llm_gateway.gateway._prices import NO_PRICES, PriceTable, TokenKind
from adaptive_llm_gateway.gateway._values import PROVIDER_CLASSES, ModelInfo, ProviderClass, Purpose

Task = Literal["chat", "complete", "embed"]
Mode = Literal["normal", "local", "offline"]
"""`local` and `offline` use local providers alone; `offline` lets the whole program connect to nothing else."""

AUTO: Final = "auto"
"""The model of a request that leaves the choice to the plan."""
ASSUMED_OUTPUT: Final = 1_024
"""Tokens of an answer whose length nobody bounded, for its cost. Where there is a budget, it is the bound."""

_MOST_OTHERS: Final = 4096  # models that were not meant, of which it is remembered how that is said

ReasonCode = Literal[
    "other_model",
    "no_models",
    "disabled",
    "policy",
    "consent_needed",
    "ledger_broken",
    "mode",
    "no_key",
    "cannot",
    "too_long",
    "circuit_open",
    "rate_limited",
    "price_unknown",
    "over_budget",
    "no_fallback",
]


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """What routing has to know of a request. Its text is not among it.

    Attributes:
        trust: the level of what would be sent.
        redacted: the level that is left when all that detection found is taken out; None where that changes nothing.
        model: the name of a route, `auto`, `provider/model`, or a model's name; the first of these that there is.
        input_tokens: of all that would be sent.
        max_tokens: of the answer; None leaves it to the provider.
        fallback: False keeps the first of the plan alone.
        budget: micro-cents that it may cost; None sets no bound.
    """

    trust: Trust
    purpose: Purpose = "chat"
    task: Task = "chat"
    redacted: Trust | None = None
    model: str = AUTO
    input_tokens: int = 0
    max_tokens: int | None = None
    stream: bool = False
    tools: bool = False
    json: bool = False
    project: str | None = None
    fallback: bool = True
    budget: int | None = None

    def __post_init__(self) -> None:
        if self.redacted is not None and self.redacted.rank > self.trust.rank:
            raise InvalidInput(f"redacting cannot raise {self.trust.value!r} to {self.redacted.value!r}")
        if self.input_tokens < 0 or (self.max_tokens is not None and self.max_tokens < 1):
            raise InvalidInput(
                f"{self.input_tokens} tokens sent and {self.max_tokens} wanted is no size of a request",
                hint="`max_tokens` is 1 or more.",
            )
        if self.budget is not None and self.budget < 0:
            raise InvalidInput(f"a budget of {self.budget} micro-cents is below 0")


@dataclass(frozen=True, slots=True)
class ProviderState:
    """A provider as it stands when the plan is made.

    Attributes:
        provider_class: as proved. A model that is served elsewhere counts as hosted whatever this says.
        models: those that it offers.
        lists_all: it offers no others. Where it may, a hosted one is tried with any model that is asked of it as
            `provider/model`; a local one is not, since nobody knows where such a model would run.
        order: the user's own; lower goes first.
        key_missing: what it needs and has not, in words ("OPENAI_API_KEY is not set"); None when nothing is missing.
        opens_in: seconds until an open circuit may be tried.
        limited_for: seconds until a rate limit (its own, or ours for it) lets the next request through.
        running: requests that it has now.
        concurrency: how many it may have; None sets no bound. A full one is waited for, not rejected.
    """

    name: str
    provider_class: ProviderClass
    models: tuple[ModelInfo, ...] = ()
    lists_all: bool = True
    enabled: bool = True
    order: int = 0
    key_missing: str | None = None
    circuit: Circuit = "closed"
    opens_in: float = 0.0
    limited_for: float = 0.0
    running: int = 0
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A name for models in the order in which they are to be tried: each a model's name or `provider/model`."""

    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a candidate was rejected; `passes_in` seconds it may be otherwise, None where time alone changes nothing."""

    code: ReasonCode
    text: str
    passes_in: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """A candidate that may get the request, if those before it fail.

    Attributes:
        redact: what detection found has to be taken out before it is sent there.
        consent: the id of the ledger's entry that it rests on.
        trust: the level of what is sent.
        cost: micro-cents at most, of this attempt alone; None where its price is unknown. Without `max_tokens` it
            counts `ASSUMED_OUTPUT` tokens, and an answer may be longer.
        max_tokens: to ask for; None leaves it to the provider.
        wait_for_slot: it has as many requests as it may have.
        fared: how it fared lately, and what that changed; empty where too little is known. It is in the reason, too.
    """

    provider: str
    model: str
    provider_class: ProviderClass
    trust: Trust
    redact: bool
    consent: str | None
    cost: int | None
    max_tokens: int | None
    wait_for_slot: bool
    reason: str
    fared: str = ""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A candidate that must not get the request, with every reason there is."""

    provider: str
    model: str
    provider_class: ProviderClass
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Who may get a request, in order, and who may not.

    Attributes:
        policy: the digest of the policy that it was made by.
        prices: the version of the price table.
    """

    steps: tuple[Step, ...]
    rejected: tuple[Rejected, ...]
    trust: Trust
    purpose: Purpose
    mode: Mode
    policy: str
    prices: str


@dataclass(slots=True)
class _Judged:
    """What is said of all models that a provider has, or of all that it serves elsewhere."""

    state: ProviderState
    provider_class: ProviderClass
    remote: bool
    ruling: Ruling
    consent: str | None = None
    reasons: list[Reason] = field(default_factory=list[Reason])
    said: list[str] = field(default_factory=list[str])

    def reject(self, code: ReasonCode, text: str, passes_in: float | None = None) -> None:
        self.reasons.append(Reason(code, text, passes_in))


class _Candidate:
    """A model of a provider while it is judged.

    Attributes:
        place: in the route, from 0.
        whole: what is said of its provider.
        unknown: how many of the capabilities that are needed it is not known to have.
        fared: what is told of its experience.
        behind: it fared clearly worse than its equals.
    """

    __slots__ = (
        "behind", "cost", "fared", "max_tokens", "model", "place", "provider_class", "reasons", "said", "state",
        "unknown", "whole",
    )  # fmt: skip

    def __init__(self, state: ProviderState, model: ModelInfo, provider_class: ProviderClass, place: int) -> None:
        self.state = state
        self.model = model
        self.provider_class: ProviderClass = provider_class
        self.place = place
        self.whole: _Judged
        self.reasons: list[Reason]
        self.said: list[str]
        self.unknown = 0
        self.cost: int | None = None
        self.max_tokens: int | None = None
        self.fared = ""
        self.behind = False

    def reject(self, code: ReasonCode, text: str) -> None:
        self.reasons.append(Reason(code, text))


def plan(
    request: RouteRequest,
    *,
    policy: Policy,
    providers: tuple[ProviderState, ...],
    consents: Consents = NO_CONSENTS,
    prices: PriceTable = NO_PRICES,
    routes: tuple[Route, ...] = (),
    mode: Mode = "normal",
    experience: tuple[Experience, ...] = (),
) -> Plan:
    """The providers and models that may get a request, in the order in which to try them, and why not the others.

    Local ones go before hosted ones unless a route says otherwise; among equals those in good health, of known
    capabilities, that are free, in the user's order, that did not fare clearly worse (`experience`, which admits and
    rejects nobody), cheap. The order of `providers`, `consents` and `experience` changes nothing.

    Raises:
        InvalidInput: two providers have one name.
    """
    names = [state.name for state in providers]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise InvalidInput(f"more than one provider is named {', '.join(map(repr, twice))}")
    candidates = _candidates(request, sorted(providers, key=lambda state: state.name), routes)
    needs = _needs(request)
    judged: dict[tuple[str, bool], _Judged] = {}
    redacted = request.trust if request.redacted is None else request.redacted
    rulings = {each: policy.judge(request.trust, redacted, each, request.purpose) for each in PROVIDER_CLASSES}
    for each in candidates:
        if isinstance(each, Rejected):  # another model is meant: nothing else is of interest
            continue
        key = (each.state.name, each.model.remote)
        whole = judged.get(key)
        if whole is None:
            whole = _Judged(each.state, each.provider_class, each.model.remote, rulings[each.provider_class])
            _judge_trust(whole, request, consents, mode)
            _judge_state(whole)
            judged[key] = whole
        each.whole, each.reasons, each.said = whole, whole.reasons.copy(), whole.said.copy()
        _judge_capabilities(each, needs)
        _judge_size_and_cost(each, request, prices)
    taken = [each for each in candidates if isinstance(each, _Candidate) and not each.reasons]
    taken = _ordered(taken, experience_for(request.purpose, experience))
    if not request.fallback:
        for each in taken[1:]:
            each.reject("no_fallback", "the request is for the first of the plan alone")
        taken = taken[:1]
    return Plan(
        steps=tuple(_step(each, place) for place, each in enumerate(taken, 1)),
        rejected=tuple(
            each
            if isinstance(each, Rejected)
            else Rejected(each.state.name, each.model.name, each.provider_class, tuple(each.reasons))
            for each in candidates
            if each.reasons
        ),
        trust=request.trust,
        purpose=request.purpose,
        mode=mode,
        policy=policy.digest,
        prices=prices.version,
    )


# --- Candidates ---------------------------------------------------------------------------------------------------


def _candidates(
    request: RouteRequest, providers: list[ProviderState], routes: tuple[Route, ...]
) -> list[_Candidate | Rejected]:
    route = next((route for route in routes if route.name == request.model), None)
    wanted = route.models if route else (request.model,)
    offers = [(state, model) for state in providers for model in _listed(state)]
    offers += [(state, ModelInfo(name)) for state in providers for name in dict.fromkeys(_unlisted(state, wanted))]
    places: dict[tuple[str, str], int] = {}
    for place, name in enumerate(wanted):
        for state, model in _named(name, offers):
            places.setdefault((state.name, model.name), place)
    found: list[_Candidate | Rejected] = []
    for state, model in offers:
        place, provider_class = places.get((state.name, model.name)), _class_of(state, model)
        if place is None:
            found.append(_other(state.name, model.name, provider_class, request.model))
        else:
            found.append(_Candidate(state, model, provider_class, place))
    offering = {state.name for state, _ in offers}
    for state in providers:
        if state.name not in offering:
            reason = Reason("no_models", "it is not known to offer any model")
            found.append(Rejected(state.name, "", state.provider_class, (reason,)))
    return found


@lru_cache(_MOST_OTHERS)
def _other(provider: str, model: str, provider_class: ProviderClass, asked: str) -> Rejected:
    """A router lists hundreds of models, and one of them is meant."""
    return Rejected(provider, model, provider_class, (Reason("other_model", f"the request asks for {asked!r}"),))


def _named(name: str, offers: list[tuple[ProviderState, ModelInfo]]) -> list[tuple[ProviderState, ModelInfo]]:
    """Those that a name means: `provider/model` before a model that is called so, at whatever provider."""
    if name in ("", AUTO):
        return [offer for offer in offers if not offer[1].by_name]
    kinds: list[list[tuple[ProviderState, ModelInfo]]] = [[], [], []]
    for state, model in offers:
        full = f"{state.name}/{model.name}"
        if name == full:
            kinds[0].append((state, model))
        elif name == model.name:
            kinds[1].append((state, model))
        elif f"{name}:latest" in (full, model.name):  # Ollama's own shorthand
            kinds[2].append((state, model))
    return kinds[0] or kinds[1] or kinds[2]


def _listed(state: ProviderState) -> list[ModelInfo]:
    """Each name once. A peer may list one twice: then it is served elsewhere if one of them is."""
    found: dict[str, ModelInfo] = {}
    for model in state.models:
        same = found.get(model.name)
        # Of what else differs, one is taken by a rule that does not depend on the order of the list.
        found[model.name] = model if same is None else _more_careful(same, model)
    return [found[name] for name in sorted(found)]


def _more_careful(one: ModelInfo, other: ModelInfo) -> ModelInfo:
    remote = one.remote or other.remote
    return min(replace(one, remote=remote), replace(other, remote=remote), key=repr)


def _unlisted(state: ProviderState, wanted: tuple[str, ...]) -> list[str]:
    """Models that are asked of a hosted provider by name and that it may have, though it does not list them."""
    if state.lists_all or state.provider_class == "local":
        return []
    listed = {model.name for model in state.models}
    asked = [name.removeprefix(f"{state.name}/") for name in wanted if name.startswith(f"{state.name}/")]
    return [name for name in asked if name and name not in listed]


def _class_of(state: ProviderState, model: ModelInfo) -> ProviderClass:
    return "hosted" if model.remote else state.provider_class


# --- Judging ------------------------------------------------------------------------------------------------------


def _judge_trust(each: _Judged, request: RouteRequest, consents: Consents, mode: Mode) -> None:
    ruling = each.ruling
    if mode != "normal" and each.provider_class != "local":
        where = "the model is served elsewhere" if each.remote else "the provider is not on this machine"
        each.reject("mode", f"the mode is {mode!r}, and {where}")
    match ruling.verdict:
        case "deny":
            each.reject("policy", f"the policy forbids it: {ruling.reason}")
        case "ask":
            _judge_consent(each, ruling, request, consents)
        case "allow":
            pass
    each.said += [each.provider_class, ruling.reason]


def _judge_consent(each: _Judged, ruling: Ruling, request: RouteRequest, consents: Consents) -> None:
    if consents.broken:
        each.reject("ledger_broken", f"it needs consent, and the consent ledger is broken: {ruling.reason}")
        return
    name = each.state.name
    fitting = [
        consent
        for consent in consents.entries
        if consent.covers(provider=name, level=ruling.trust, purpose=request.purpose, project=request.project)
    ]
    if not fitting:
        each.reject("consent_needed", f"nobody consented to send {name} {ruling.trust.value} text: {ruling.reason}")
        return
    # The narrowest, so that a receipt names the entry that says most exactly this.
    narrowest = min(
        fitting,
        key=lambda consent: (consent.level.rank, consent.purpose is None, consent.project is None, consent.id),
    )
    each.consent = narrowest.id
    each.said.append(f"consent {narrowest.id}")


def _judge_state(each: _Judged) -> None:
    state = each.state
    if not state.enabled:
        each.reject("disabled", "the provider is switched off")
    if state.key_missing is not None:
        each.reject("no_key", state.key_missing)
    match state.circuit:
        case "open":
            each.reject(
                "circuit_open", f"it kept failing, and is left alone for {state.opens_in:.1f} s", state.opens_in
            )
        case "half_open":
            each.said.append("it failed before, this would try it again")
        case "closed":
            pass
    if state.limited_for > 0:
        each.reject("rate_limited", f"its rate limit holds for {state.limited_for:.1f} s", state.limited_for)


def _needs(request: RouteRequest) -> list[tuple[str, Callable[[ModelInfo], bool | None]]]:
    """The capabilities that a request needs, each with what tells whether a model has it."""
    names = ["embed" if request.task == "embed" else "chat"]
    names += [name for name in ("stream", "tools", "json") if getattr(request, name)]
    return [(name, attrgetter(name)) for name in names]


def _judge_capabilities(each: _Candidate, needs: list[tuple[str, Callable[[ModelInfo], bool | None]]]) -> None:
    unknown: list[str] = []
    for what, told in needs:
        can = told(each.model)
        if can is None:
            unknown.append(what)
        elif not can:
            each.reject("cannot", f"the model has no {what!r}")
    if unknown:
        each.unknown = len(unknown)
        each.said.append(f"not known whether it has {', '.join(unknown)}")


def _judge_size_and_cost(each: _Candidate, request: RouteRequest, prices: PriceTable) -> None:
    context = each.model.context
    answers = request.task != "embed"
    least = (request.max_tokens or 1) if answers else 0
    if context is not None and request.input_tokens + least > context:
        over = request.input_tokens + least - context
        each.reject(
            "too_long",
            f"{request.input_tokens} tokens and {least} for the answer are {over} more than its context of {context}",
        )
    output = least
    if answers and request.max_tokens is None:
        room = ASSUMED_OUTPUT if context is None else max(context - request.input_tokens, 1)
        output = min(ASSUMED_OUTPUT, room)
    tokens: dict[TokenKind, int | None] = {"input": request.input_tokens, "output": output}
    each.cost = prices.cost(each.state.name, each.model.name, tokens).micro_cents
    if each.cost is None and each.provider_class == "local":
        each.cost = 0
    each.max_tokens = request.max_tokens
    if request.budget is not None:
        if answers and each.cost != 0:
            each.max_tokens = output  # what the cost was counted for is all that may be asked for
        if each.cost is None:
            each.reject("price_unknown", "there is a budget, and its price is not known")
        elif each.cost > request.budget:
            each.reject(
                "over_budget", f"it may cost {each.cost} micro-cents, and {request.budget} are left in the budget"
            )
    each.said.append("price unknown" if each.cost is None else f"at most {each.cost} micro-cents")


# --- Ordering -----------------------------------------------------------------------------------------------------


def _full(state: ProviderState) -> bool:
    return state.concurrency is not None and state.running >= state.concurrency


def _equal(each: _Candidate) -> tuple[int | str | bool, ...]:
    """What comes before experience: it orders only those of whom this is the same."""
    state = each.state
    return (
        each.place,
        each.provider_class != "local",
        state.circuit != "closed",
        each.unknown,
        _full(state),
        state.order,
    )


def _as_good(each: _Candidate) -> tuple[int | str | bool, ...]:
    return (*_equal(each), each.behind, each.cost is None, each.cost or 0)


def _rank(each: _Candidate) -> tuple[int | str | bool, ...]:
    return (*_as_good(each), each.state.name, each.model.name)


def _ordered(taken: list[_Candidate], known: dict[tuple[str, str], Experience]) -> list[_Candidate]:
    if not any(fared(experience) for experience in known.values()):
        return sorted(taken, key=_rank)
    groups: dict[tuple[int | str | bool, ...], list[_Candidate]] = {}
    for each in taken:
        groups.setdefault(_equal(each), []).append(each)
    for equals in groups.values():
        theirs = [known.get((each.state.name, each.model.name)) for each in equals]
        for each, experience, why in zip(equals, theirs, behind(theirs), strict=True):
            each.fared = "; ".join(filter(None, (fared(experience), why)))
            each.behind = bool(why)
    ordered = sorted(taken, key=_rank)
    same: dict[tuple[int | str | bool, ...], list[int]] = {}
    for place, each in enumerate(ordered):
        same.setdefault((*_as_good(each), each.model.name), []).append(place)
    for places in same.values():  # they change places among themselves: no other model moves for it
        if len(places) == 1:
            continue
        members = [ordered[place] for place in places]
        reasons = slower([known.get((each.state.name, each.model.name)) for each in members])
        for each, why in zip(members, reasons, strict=True):
            each.fared += f"; {why}" if why else ""
        slow = {id(each) for each, why in zip(members, reasons, strict=True) if why}
        for place, each in zip(places, sorted(members, key=lambda each: id(each) in slow), strict=True):
            ordered[place] = each
    return ordered


def _step(each: _Candidate, place: int) -> Step:
    ruling = each.whole.ruling
    return Step(
        provider=each.state.name,
        model=each.model.name,
        provider_class=each.provider_class,
        trust=ruling.trust,
        redact=ruling.redact,
        consent=each.whole.consent,
        cost=each.cost,
        max_tokens=each.max_tokens,
        wait_for_slot=_full(each.state),
        reason=f"number {place}: {'; '.join(filter(None, [*each.said, each.fared]))}",
        fared=each.fared,
    )
