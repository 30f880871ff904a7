"""Prices and costs: whole numbers from end to end, and what is not known is said to be so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.core import ConfigError
from adaptive_llm_gateway.gateway import Usage
from adaptive_llm_gateway.gateway._prices import (
    MICRO_CENTS_PER_DOLLAR,
    Price,
    PriceTable,
    PriceTier,
    charged,
    load_prices,
)

FILE = """\
version: "2026-11-22"
prices:
  acme:
    big: { input: 2.50, cached_input: 1.25, output: 10.00 }
    tiny: { input: 0.0375, output: 0.15 }
    embed: { input: 0.02 }
"""


@pytest.fixture
def table(tmp_path: Path) -> PriceTable:
    path = tmp_path / "prices.yaml"
    path.write_text(FILE, encoding="utf-8")
    return load_prices(path)


def test_a_cost_is_exact_in_micro_cents(table: PriceTable) -> None:
    cost = table.cost("acme", "big", {"input": 1_000, "cached_input": 500, "output": 200})
    # $0.0025 + $0.000625 + $0.002
    assert cost.micro_cents == 512_500
    assert (cost.known, cost.table) == ("known", "2026-11-22")
    assert table.cost("acme", "big", {"input": 1_000_000}).micro_cents == 250 * 1_000_000


def test_a_cost_is_rounded_up_once_so_that_nothing_paid_for_is_nothing(table: PriceTable) -> None:
    assert table.cost("acme", "tiny", {"input": 1}).micro_cents == 4  # 3.75
    assert table.cost("acme", "tiny", {"input": 1, "output": 1}).micro_cents == 19  # 3.75 + 15, not 4 + 15 + 1
    assert table.cost("acme", "tiny", {"input": 0}).micro_cents == 0


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "known"),
    [
        ("acme", "unheard-of", {"input": 1}, "no_price"),
        ("other", "big", {"input": 1}, "no_price"),
        ("acme", "Big", {"input": 1}, "no_price"),
        ("acme", "embed", {"input": 1, "output": 1}, "no_price"),
        ("acme", "tiny", {"input": 1, "cached_input": 1}, "no_price"),
        ("acme", "big", {"input": 1, "output": None}, "no_usage"),
    ],
)
def test_an_unknown_cost_is_said_to_be_unknown_and_is_not_nothing(
    table: PriceTable, provider: str, model: str, tokens: dict[str, int | None], known: str
) -> None:
    cost = table.cost(provider, model, tokens)  # type: ignore[arg-type]
    assert cost.micro_cents is None
    assert cost.known == known
    assert cost.why


def test_tokens_of_a_cache_may_be_charged_as_others_and_then_it_is_said(table: PriceTable) -> None:
    for kind in ("cached_input", "written_input"):
        cost = table.cost("acme", "tiny", {kind: 2}, cached_is_input=True)
        assert cost.micro_cents == 8
        assert f"it has no price for {kind} tokens, which count as others" in cost.why
    assert (
        "count as others" not in table.cost("acme", "tiny", {"input": 2, "cached_input": 0}, cached_is_input=True).why
    )


CACHING = Price("p", "m", {"input": 4, "cached_input": 1, "written_input": 5, "output": 10})


def test_every_kind_of_token_has_its_price_and_the_sum_is_rounded_once() -> None:
    table = PriceTable("v", (CACHING,))
    tokens = charged(Usage(1_000_000, 100_000, 400_000, 100_000))
    assert tokens == {"input": 500_000, "cached_input": 400_000, "written_input": 100_000, "output": 100_000}
    assert table.cost("p", "m", tokens).micro_cents == 4  # 2 + 0.4 + 0.5 + 1 = 3.9
    assert table.cost("p", "m", tokens).why == "by the price table 'v'"


@pytest.mark.parametrize(
    ("usage", "embeds", "expected"),
    [
        (Usage(5, 2), False, {"input": 5, "output": 2}),
        (Usage(5, 2, 0), False, {"input": 5, "cached_input": 0, "output": 2}),
        (Usage(5, None), True, {"input": 5, "output": 0}),
        (Usage(), True, {"input": None, "output": 0}),
        (Usage(), False, {"input": None, "output": None}),
    ],
)
def test_what_is_charged_is_what_was_told(usage: Usage, embeds: bool, expected: dict[str, int | None]) -> None:
    assert charged(usage, embeds=embeds) == expected


def test_where_a_cache_takes_in_what_it_likes_a_cost_is_at_most_until_it_is_told() -> None:
    table = PriceTable("v", (replace(CACHING, caches_unasked=True),))
    read = 1_000_000
    unknown = table.cost("p", "m", {"input": read, "cached_input": 0, "output": 0})
    assert (unknown.micro_cents, "at most" in unknown.why) == (5, True)
    told = table.cost("p", "m", {"input": read, "cached_input": 0, "written_input": 0, "output": 0})
    assert (told.micro_cents, "at most" in told.why) == (4, False)
    asked = PriceTable("v", (CACHING,)).cost("p", "m", {"input": read, "cached_input": 0, "output": 0})
    assert (asked.micro_cents, "at most" in asked.why) == (4, False)


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**9))
def test_to_tell_of_a_cache_loses_no_fraction(read: int, cached: int, written: int, answered: int) -> None:
    usage = Usage(read + cached + written, answered, cached, written)
    prices = {"input": 4_001, "cached_input": 401, "written_input": 5_003, "output": 16_007}
    cost = PriceTable("v", (replace(CACHING, per_million=prices),)).cost("p", "m", charged(usage)).micro_cents
    assert isinstance(cost, int)
    exact = read * 4_001 + cached * 401 + written * 5_003 + answered * 16_007
    assert 0 <= cost * 1_000_000 - exact < 1_000_000


def test_the_hash_changes_with_any_price_and_not_with_their_order() -> None:
    one, two = Price("a", "m", {"input": 1, "output": 2}), Price("b", "m", {"output": 3})
    assert PriceTable("v", (one, two)).hash == PriceTable("v", (two, one)).hash
    assert PriceTable("v", (one, two)).hash != PriceTable("v", (one, Price("b", "m", {"output": 4}))).hash
    assert PriceTable("v", (one,)).hash != PriceTable("w", (one,)).hash


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_cost_is_never_less_than_its_parts_and_less_than_one_more(a: int, b: int, price_a: int, price_b: int) -> None:
    table = PriceTable("v", (Price("p", "m", {"input": price_a, "output": price_b}),))
    cost = table.cost("p", "m", {"input": a, "output": b}).micro_cents
    assert isinstance(cost, int)
    assert 0 <= cost * 1_000_000 - (a * price_a + b * price_b) < 1_000_000


def test_a_long_request_has_the_price_of_its_length_for_all_of_its_tokens() -> None:
    tiers = (PriceTier(100, {"input": 2_000_000, "output": 5_000_000}), PriceTier(200, {"input": 3_000_000}))
    long = PriceTable("v", (Price("p", "m", {"input": 1_000_000, "cached_input": 0, "output": 4_000_000}, tiers),))
    assert long.cost("p", "m", {"input": 100, "output": 1}).micro_cents == 104
    assert long.cost("p", "m", {"input": 101, "output": 1}).micro_cents == 207
    assert long.cost("p", "m", {"input": 60, "cached_input": 40}).micro_cents == 60
    assert long.cost("p", "m", {"input": 60, "cached_input": 41}).known == "no_price"
    assert long.cost("p", "m", {"input": 201, "cached_input": 0}).micro_cents == 603
    assert long.hash != PriceTable("v", (Price("p", "m", {"input": 1_000_000, "output": 4_000_000}, tiers[:1]),)).hash


def test_every_published_amount_is_held_exactly(table: PriceTable) -> None:
    price = table.price("acme", "tiny")
    assert price is not None
    assert price.per_million == {"input": 3_750_000, "output": 15_000_000}
    assert MICRO_CENTS_PER_DOLLAR == 100 * 1_000_000


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("prices: {}\n", 1, "no version"),
        ("version: '1'\nprize: {}\n", 2, "unknown key 'prize'"),
        ("version: '1'\nprices:\n  a:\n    m: { input: -1 }\n", 4, "'-1'"),
        ("version: '1'\nprices:\n  a:\n    m: { input: 1e3 }\n", 4, "'1e3'"),
        ("version: '1'\nprices:\n  a:\n    m: { imput: 1 }\n", 4, "'imput'"),
        ("version: '1'\nprices:\n  a:\n    m: {}\n    m: {}\n", 5, "'m' twice"),
        ("version: '1'\nprices:\n  a: [1]\n", 3, "no mapping for 'a'"),
        ("version: '1'\nprices: [\n", 3, "not valid YAML"),
        ("version: [1]\n", 1, "where a text belongs"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"line {line}: .*{what}") as caught:
        load_prices(path)
    assert caught.value.hint


def test_a_table_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_prices(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_prices(tmp_path / "bytes.yaml")
