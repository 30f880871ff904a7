"""What tokens cost, in integer micro-cents (a millionth of a cent, 1e-8 of a dollar), from a table with a version."""

from __future__ import annotations

from dataclasses import dataclass, field

from adaptive_llm_gateway.core import InvalidInput

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Of a model at a provider; `input` and `output` are micro-cents for a million tokens (3 dollars: 300,000,000)."""

    provider: str
    model: str
    input: int
    output: int

    def __post_init__(self) -> None:
        if self.input < 0 or self.output < 0:
            raise InvalidInput(f"the price of {self.provider}/{self.model} is below 0")

    def cost(self, input_tokens: int, output_tokens: int) -> int:
        """Micro-cents, rounded up: what is counted is never less than what is billed."""
        return -(-(max(input_tokens, 0) * self.input + max(output_tokens, 0) * self.output) // _MILLION)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices as they stood when the table had this version."""

    version: str
    prices: tuple[Price, ...] = ()
    _by_name: dict[tuple[str, str], Price] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_name: dict[tuple[str, str], Price] = {}
        for price in self.prices:
            if by_name.setdefault((price.provider, price.model), price) is not price:
                raise InvalidInput(f"the price table {self.version!r} has {price.provider}/{price.model} twice")
        object.__setattr__(self, "_by_name", by_name)

    def of(self, provider: str, model: str) -> Price | None:
        """The price of a model; None where the table has none."""
        return self._by_name.get((provider, model))


NO_PRICES = PriceTable("none")
