"""The prices that come with the gateway: the data of `genai-prices`, as it lies on this disk.

Only the library's data and its matching of names are used. What fetches newer data is never started, and data that
somebody else in this process had it fetch is not looked at.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, lru_cache
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.gateway._prices import MICRO_CENTS_PER_DOLLAR, Price, PriceTier, TokenKind

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

PRICED_KINDS: Final = frozenset({"openai", "anthropic", "groq", "mistral", "openrouter"})
"""Kinds of providers with shipped prices; the library calls them so, too."""

_MOST_KEPT = 4096  # names of models; a client may ask for any
_KINDS: dict[str, TokenKind] = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "written_input",
    "output_mtok": "output",
}
# Prices of what is neither sent nor asked for: pictures, sound, documents, searches, and caches kept for long. A price
# of anything else makes the cost unknown.
_OTHERS = ("image", "audio", "video", "document", "searches", "mchars", "cache_write_", "hours")


class ShippedPrices:
    """The library's prices of one day, by the kind of a provider.

    Args:
        day: in UTC; prices change with it.
    """

    def __init__(self, day: date) -> None:
        self.day = day
        self.version = f"genai-prices {_version()} of {day.isoformat()}"
        self._at = datetime.combine(day, time(), UTC)
        self._price = lru_cache(_MOST_KEPT)(self._found)

    @property
    def hash(self) -> str:
        """The SHA-256 of the library's data."""
        return _data_hash()

    def on(self, day: date) -> ShippedPrices:
        """The prices of another day."""
        return ShippedPrices(day)

    def prepare(self) -> None:
        """Read the data now."""
        _data()

    def price(self, kind: str, model: str) -> Price | None:
        """The price of a model by any name that the library knows it by, or None where it is not known for sure."""
        return self._price(kind, model) if kind in PRICED_KINDS else None

    def _found(self, kind: str, model: str) -> Price | None:
        provider, by_id = _data()[kind]
        found = by_id.get(model) or provider.find_model(model)
        if found is None or depends_on_the_hour(found):
            return None
        prices = found.get_prices(self._at)
        if not _amounts(prices) and kind == "openrouter" and model.endswith(":free"):
            return Price(kind, model, {"input": 0, "output": 0})
        return _price(kind, model, prices, caches_unasked="claude" not in found.id)


def _price(kind: str, model: str, prices: ModelPrice, *, caches_unasked: bool) -> Price | None:
    amounts = _amounts(prices)
    if any(key not in _KINDS and not any(part in key for part in _OTHERS) for key in amounts):
        return None
    starts = sorted({start for levels in amounts.values() for start in levels})
    tiers: list[PriceTier] = []
    for start in starts:
        per_million: dict[TokenKind, int] = {}
        for key, token_kind in _KINDS.items():
            if key in amounts:
                micro_cents = _level(amounts[key], start) * MICRO_CENTS_PER_DOLLAR
                if micro_cents != int(micro_cents):
                    return None
                per_million[token_kind] = int(micro_cents)
        tiers.append(PriceTier(start, per_million))
    if not tiers or "input" not in tiers[0].per_million:
        return None
    # Whoever fills a cache unasked may charge for that, and need not say for which tokens: at most it is all of them.
    return Price(kind, model, tiers[0].per_million, tuple(tiers[1:]), caches_unasked)


def _amounts(prices: ModelPrice) -> dict[str, dict[int, Decimal]]:
    """Dollars by the library's name of what is paid for, and by the number of tokens read above which they hold; -1 for
    what holds from the first."""
    found: dict[str, dict[int, Decimal]] = {}
    for key, value in vars(prices).items():
        if isinstance(value, Decimal):
            found[key] = {-1: value}
        elif value is not None:
            found[key] = {-1: value.base, **{tier.start: tier.price for tier in value.tiers}}
    return found


def _level(levels: dict[int, Decimal], start: int) -> Decimal:
    return levels[max(each for each in levels if each <= start)]


def depends_on_the_hour(model: ModelInfo) -> bool:
    """Whether it has another price by night: when a request is charged is not known before it ends."""
    from genai_prices.types import TimeOfDateConstraint  # noqa: PLC0415 - only those who ask for a price pay for it

    return isinstance(model.prices, list) and any(
        isinstance(each.constraint, TimeOfDateConstraint) for each in model.prices
    )


@cache
def _data() -> dict[str, tuple[Provider, dict[str, ModelInfo]]]:
    from genai_prices.data import providers  # noqa: PLC0415 - 0.2 s and 10 MB, for those who ask for a price

    found: dict[str, tuple[Provider, dict[str, ModelInfo]]] = {}
    for provider in providers:
        if provider.id in PRICED_KINDS:
            # A router lists hundreds by their ids, and to try one name after another takes 0.3 ms. The others' ids are
            # not always what they match.
            by_id = {model.id: model for model in provider.models} if provider.id == "openrouter" else {}
            found[provider.id] = (provider, by_id)
    return found


@cache
def _version() -> str:
    return distribution("genai-prices").version


@cache
def _data_hash() -> str:
    data = distribution("genai-prices").locate_file("genai_prices/data.py")
    return hashlib.sha256(Path(str(data)).read_bytes()).hexdigest()
