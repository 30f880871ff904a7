"""What somebody may use besides a request's own budget: asked before each call of a provider, told after it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from adaptive_llm_gateway.gateway._prices import Cost
from adaptive_llm_gateway.gateway._refusals import OverBudget
from adaptive_llm_gateway.gateway._routing import ASSUMED_OUTPUT, Step

if TYPE_CHECKING:
    from adaptive_llm_gateway.gateway._values import Usage


class Held(Protocol):
    """What was taken out for one call of a provider."""

    @property
    def tokens(self) -> int:
        """Those that were held."""
        ...

    @property
    def micro_cents(self) -> int:
        """The money that was held."""
        ...

    def settle(self, tokens: int, micro_cents: int) -> None:
        """It took that much, be it more than was held; the rest goes back."""
        ...

    def keep(self) -> None:
        """What it took is not known, so all that was held counts."""
        ...


class Purse(Protocol):
    """Tokens and money that several requests share, also those that run side by side."""

    @property
    def bounds_tokens(self) -> bool:
        """Whether tokens are bounded, so that no answer may be without end."""
        ...

    async def take(self, tokens: int, micro_cents: int | None) -> Held:
        """Hold what a call may take; None: nobody knows what it may cost.

        Raises:
            OverBudget: that much is not left.
            StorageError: it cannot be noted, and what is not noted is not sent.
        """
        ...

    def short(self, tokens: int, micro_cents: int | None) -> str | None:
        """Why `take` would refuse now; None where it would not."""
        ...


def most_tokens(step: Step, input_tokens: int, *, embeds: bool) -> int:
    """Tokens that a step takes at most, as far as that can be known before it."""
    return input_tokens + (0 if embeds else step.max_tokens or ASSUMED_OUTPUT)


def bounded(step: Step, purse: Purse, *, embeds: bool) -> Step:
    """A step whose answer has an end, where that is needed to know what it takes at most."""
    if embeds or step.max_tokens is not None or not purse.bounds_tokens:
        return step
    return replace(step, max_tokens=ASSUMED_OUTPUT)


def settle(held: Held, usage: Usage, cost: Cost, *, embeds: bool) -> None:
    """Put right what was held, by what the provider says it was; what it does not say is as it was held."""
    read, written = usage.input_tokens, 0 if embeds else usage.output_tokens
    tokens = held.tokens if read is None or written is None else read + written
    held.settle(tokens, held.micro_cents if cost.micro_cents is None else cost.micro_cents)


def all_short(purse: Purse, steps: tuple[Step, ...], input_tokens: int, *, embeds: bool) -> OverBudget | None:
    """What a request would be refused with whose steps are all more than is left."""
    why = [purse.short(most_tokens(step, input_tokens, embeds=embeds), step.cost) for step in steps]
    first = why[0] if why else None
    return over_budget(first) if first is not None and all(why) else None


def over_budget(why: str) -> OverBudget:
    """The refusal."""
    return OverBudget(why, hint="Bound the answer with `max_tokens`, shorten the request, or wait for the next day.")
