"""What a request cost, in integer micro-cents, from a versioned table. No floats: money that is rounded twice differs.

A micro-cent is a millionth of a cent. Prices are micro-cents per million tokens, so a published price of $0.0375 per
million is 3,750,000 exactly. A cost is rounded up once, at its end: what was paid for is never nothing.

What runs on this machine costs nothing, but that is not said here: a server on this machine may have a model served
elsewhere, and whose price that is, no table of providers knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

from adaptive_llm_gateway.core import ConfigError, InvalidInput
from adaptive_llm_gateway.gateway._canonical import Json, digest
from adaptive_llm_gateway.gateway._values import Usage

if TYPE_CHECKING:
    from yaml import Node as _Node

    from adaptive_llm_gateway.gateway._price_data import ShippedPrices

MICRO_CENTS_PER_DOLLAR: Final = 100_000_000
_MILLION: Final = 1_000_000
_LARGEST_FILE = 4_000_000  # bytes
_AMOUNT = re.compile(r"\d{1,6}(\.\d{1,8})?")

TokenKind = Literal["input", "cached_input", "written_input", "output"]
"""Read; read from the provider's cache; read and taken into it; answered. What a model reads is of one of these."""
TOKEN_KINDS: tuple[TokenKind, ...] = get_args(TokenKind)
_OF_CACHE: Final[tuple[TokenKind, ...]] = ("cached_input", "written_input")
Known = Literal["known", "no_price", "no_usage"]


@dataclass(frozen=True, slots=True)
class PriceTier:
    """What all tokens of a request cost, per million, where it reads more than `above` tokens."""

    above: int
    per_million: Mapping[TokenKind, int]


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-cents per million tokens of each kind; a kind that a model does not have is missing.

    Attributes:
        provider: the provider's name; in the shipped table its kind, such as `openai`.
        tiers: prices of longer requests, the lowest `above` first.
        caches_unasked: its cache takes in what it likes: where nobody tells how much, it may have been everything.
    """

    provider: str
    model: str
    per_million: Mapping[TokenKind, int]
    tiers: tuple[PriceTier, ...] = ()
    caches_unasked: bool = False

    def of(self, read: int) -> Mapping[TokenKind, int]:
        """The prices of a request that reads so many tokens, cached ones among them."""
        return next((tier.per_million for tier in reversed(self.tiers) if read > tier.above), self.per_million)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a request cost.

    Attributes:
        micro_cents: None when it is not known; never 0 for that.
        known: `no_price`: the table has no price for the model or a kind of token; `no_usage`: the provider did not say
            how many tokens it were.
        table: the version of the table that was used.
        why: one sentence for the receipt.
    """

    micro_cents: int | None
    known: Known
    table: str
    why: str


class PriceTable:
    """Prices by provider and model.

    Args:
        version: what whoever made the table calls it, such as `2026-11-22`; None for one without prices of its own.
        prices: one for each provider and model.
        over: a table whose prices hold where this one has none.
        shipped: prices by the kind of a provider, which `for_providers` gives.

    Raises:
        InvalidInput: a model has two prices, or one below 0.
    """

    def __init__(
        self,
        version: str | None,
        prices: tuple[Price, ...] = (),
        *,
        over: PriceTable | None = None,
        shipped: ShippedPrices | None = None,
    ) -> None:
        self._versions: tuple[str, ...] = (version,) if version is not None else ()
        self._shipped = shipped
        self._kinds: Mapping[str, str] = {}
        self._prices: dict[tuple[str, str], Price] = {}
        if over is not None:
            self._versions += over._versions
            self._shipped = shipped or over._shipped
            self._kinds = over._kinds
            self._prices |= over._prices
        self._hash: str | None = None
        own: dict[tuple[str, str], Price] = {}
        for price in prices:
            if own.setdefault((price.provider, price.model), price) is not price:
                raise InvalidInput(f"the price table {version!r} has {price.provider}/{price.model} twice")
            if any(amount < 0 for part in (price, *price.tiers) for amount in part.per_million.values()):
                raise InvalidInput(f"the price of {price.provider}/{price.model} is below 0")
        self._prices |= own
        self.version = self._named()

    def _named(self) -> str:
        names = (*self._versions, *((self._shipped.version,) if self._shipped else ()))
        return " over ".join(names) or "none"

    @property
    def hash(self) -> str:
        """Changes with whatever may change a cost; reads the shipped data the first time."""
        if self._hash is None:
            content: list[Json] = []
            for _, price in sorted(self._prices.items(), key=lambda item: item[0]):
                tiers: list[Json] = [[tier.above, _sorted(tier.per_million)] for tier in price.tiers]
                content.append([price.provider, price.model, _sorted(price.per_million), tiers])
            self._hash = digest([self.version, content, self._shipped.hash if self._shipped else None])
        return self._hash

    def for_providers(self, kinds: Mapping[str, str]) -> PriceTable:
        """The same prices for providers by the names that the user gave them.

        Args:
            kinds: the kind of each provider by its name. Leave out who is reached at another address than its kind's:
                what that one charges is not known.
        """
        table = copy(self)
        table._kinds = dict(kinds)
        return table

    def on(self, day: date) -> PriceTable:
        """The prices of that day (UTC): the shipped ones change with it. The table itself if it is of that day."""
        if self._shipped is None or self._shipped.day == day:
            return self
        table = copy(self)
        table._shipped, table._hash = self._shipped.on(day), None
        table.version = table._named()
        return table

    def prepare(self) -> None:
        """Read the shipped data now, which takes 0.2 s, and not at the first question."""
        if self._shipped is not None:
            self._shipped.prepare()

    def price(self, provider: str, model: str) -> Price | None:
        """The price of a model, or None: by its exact name, and in the shipped table by any name that it has there."""
        own = self._prices.get((provider, model))
        if own is not None or self._shipped is None or (kind := self._kinds.get(provider)) is None:
            return own
        return self._shipped.price(kind, model)

    def cost(
        self, provider: str, model: str, tokens: Mapping[TokenKind, int | None], *, cached_is_input: bool = False
    ) -> Cost:
        """What these tokens cost; what is not known is said to be so, never taken for nothing.

        Args:
            tokens: of each kind; None where the provider did not say. `input` is without what was cached or taken in.
            cached_is_input: charge cached tokens, and those taken in, as others where the table has no price for them.

        Raises:
            ValueError: less than no tokens.
        """
        price = self.price(provider, model)
        if price is None:
            why = f"the price table {self.version!r} has no price for {model!r} of {provider!r}"
            return Cost(None, "no_price", self.version, why)
        reads = sum(tokens.get(kind) or 0 for kind in ("input", *_OF_CACHE))
        parts, each_of = 0, price.of(reads)
        notes = _notes(price, each_of, tokens)
        for kind in TOKEN_KINDS:
            count = tokens.get(kind, 0)
            if count is None:
                return Cost(None, "no_usage", self.version, f"{provider!r} did not say how many {kind} tokens it were")
            if count < 0:
                raise ValueError(f"{count!r} {kind} tokens")
            each = each_of.get(kind)
            if each is None and kind in _OF_CACHE and cached_is_input:
                each = each_of.get("input")
                notes += [f"it has no price for {kind} tokens, which count as others"] if count else []
            elif each is not None and kind == "input" and price.caches_unasked and "written_input" not in tokens:
                each = max(each, each_of.get("written_input", 0))
            if count and each is None:
                why = f"the price table {self.version!r} has no price for {kind} tokens of {model!r}"
                return Cost(None, "no_price", self.version, why)
            parts += count * (each or 0)
        why = ", and ".join([f"by the price table {self.version!r}", *notes])
        return Cost(-(-parts // _MILLION), "known", self.version, why)


NO_PRICES: Final = PriceTable(None)
"""The table of whoever has none: no price is known."""


def _notes(price: Price, each_of: Mapping[TokenKind, int], tokens: Mapping[TokenKind, int | None]) -> list[str]:
    """Why a cost is more than it may have been."""
    if "cached_input" in each_of and "cached_input" not in tokens:
        return ["at most: how many tokens its cache had was not told"]
    if price.caches_unasked and "written_input" in each_of and "written_input" not in tokens:
        return ["at most: how many tokens its cache took in was not told"]
    return []


def charged(usage: Usage, *, embeds: bool = False) -> dict[TokenKind, int | None]:
    """The tokens that are paid for, by their kind; what the provider said nothing of is not among them, but None for
    the input and the answer. Vectors have no tokens."""
    read, cached, written = usage.input_tokens, usage.cached_tokens, usage.written_tokens
    tokens: dict[TokenKind, int | None] = {
        "input": None if read is None else read - (cached or 0) - (written or 0),
        "output": 0 if embeds else usage.output_tokens,
    }
    if cached is not None:
        tokens["cached_input"] = cached
    if written is not None:
        tokens["written_input"] = written
    return tokens


def default_prices(day: date | None = None) -> PriceTable:
    """The prices that come with the gateway, of `day` (UTC; today if None). Asks nobody, reads nothing yet.

    They are of OpenAI, Anthropic, Groq, Mistral and OpenRouter; `for_providers` says which provider is which.
    """
    from adaptive_llm_gateway.gateway._price_data import ShippedPrices  # noqa: PLC0415 - it needs this module's values

    return PriceTable(None, shipped=ShippedPrices(day or datetime.now(UTC).date()))


def load_prices(path: Path, *, base: PriceTable = NO_PRICES) -> PriceTable:
    """The table of a `prices.yaml`: `version`, and under `prices` by provider and model dollars per million tokens.

    ```yaml
    version: "2026-11-22"
    prices:
      openai:
        some-model: { input: 2.50, cached_input: 1.25, output: 10.00 }
    ```

    Args:
        base: what holds for models that the file does not have.

    Raises:
        ConfigError: the file is not such a table; the message names path and line.
    """
    import yaml  # noqa: PLC0415 - only those with such a file pay for it

    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_FILE + 1)
        if len(data) > _LARGEST_FILE:
            raise ConfigError(f"{str(path)!r} is larger than {_LARGEST_FILE:,} bytes", path=str(path))
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not UTF-8: {error.reason}", path=str(path)) from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _invalid(path, mark.line if mark else 0, "is not valid YAML") from error
    reader = _Reader(path)
    top = reader.mapping(root, 0, "the file")
    if unknown := sorted(top.keys() - {"version", "prices"}):
        raise _invalid(path, top[unknown[0]].start_mark.line, f"has the unknown key {unknown[0]!r}")
    if "version" not in top or not (version := reader.scalar(top["version"])).strip():
        raise _invalid(path, 0, "has no version")
    prices: list[Price] = []
    for provider, models in reader.mapping(top.get("prices"), 0, "prices").items():
        for model, kinds in reader.mapping(models, 0, repr(provider)).items():
            amounts: dict[TokenKind, int] = {}
            for kind, amount in reader.mapping(kinds, 0, repr(model)).items():
                if kind not in TOKEN_KINDS:
                    known = ", ".join(TOKEN_KINDS)
                    raise _invalid(
                        path, amount.start_mark.line, f"has the unknown kind of tokens {kind!r} (of {known})"
                    )
                amounts[kind] = reader.amount(amount)
            prices.append(Price(provider, model, amounts))
    return PriceTable(version, tuple(prices), over=base)


def _sorted(amounts: Mapping[TokenKind, int]) -> dict[str, Json]:
    return {kind: amounts[kind] for kind in sorted(amounts)}


class _Reader:
    """Nodes to values: as written, not as YAML would type them, since a price must not become a float."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mapping(self, node: object, line: int, what: str) -> dict[str, _Node]:
        import yaml  # noqa: PLC0415 - see load_prices

        if not isinstance(node, yaml.MappingNode):
            at = getattr(node, "start_mark", None)
            raise _invalid(self._path, at.line if at else line, f"has no mapping for {what}")
        values: dict[str, _Node] = {}
        for key, value in node.value:
            name = self.scalar(key)
            if name in values:
                raise _invalid(self._path, key.start_mark.line, f"has {name!r} twice")
            values[name] = value
        return values

    def scalar(self, node: object) -> str:
        import yaml  # noqa: PLC0415 - see load_prices

        if not isinstance(node, yaml.ScalarNode):
            at = getattr(node, "start_mark", None)
            raise _invalid(self._path, at.line if at else 0, "has a list or a mapping where a text belongs")
        return str(node.value)

    def amount(self, node: _Node) -> int:
        text = self.scalar(node)
        if not _AMOUNT.fullmatch(text):
            raise _invalid(
                self._path, node.start_mark.line, f"has the price {text[:40]!r}, which is no amount such as 2.50"
            )
        return int(Decimal(text) * MICRO_CENTS_PER_DOLLAR)  # 8 places, so it is whole


def _invalid(path: Path, line: int, what: str) -> ConfigError:
    return ConfigError(
        f"{str(path)!r}, line {line + 1}: the price table {what}",
        hint="It has a `version`, and under `prices`, provider and model the dollars per million tokens.",
        path=str(path),
        line=line + 1,
    )
