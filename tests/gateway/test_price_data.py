"""The prices that come with the gateway are the library's, exactly; nobody is asked for newer ones."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time
from decimal import ROUND_CEILING, Decimal
from pathlib import Path

import pytest
from genai_prices import Usage, data_snapshot
from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TimeOfDateConstraint,
)
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.gateway import PriceTable, default_prices, load_prices
from adaptive_llm_gateway.gateway import Usage as OurUsage
from adaptive_llm_gateway.gateway._price_data import PRICED_KINDS, depends_on_the_hour
from adaptive_llm_gateway.gateway._prices import MICRO_CENTS_PER_DOLLAR, charged

DAY = date(2026, 11, 22)
KINDS = {"work": "openai", "router": "openrouter", "claude": "anthropic", "groq": "groq", "mistral": "mistral"}
TABLE = default_prices(DAY).for_providers(KINDS)
NAMES = {kind: name for name, kind in KINDS.items()}
LISTED = [(provider.id, model.id) for provider in providers if provider.id in PRICED_KINDS for model in provider.models]


def of_library(kind: str, model: str, read: int, cached: int, written: int, *, into_cache: int = 0) -> int:
    """What the library itself counts, rounded up to a micro-cent."""
    provider = next(provider for provider in providers if provider.id == kind)
    found = provider.find_model(model)
    assert found is not None
    usage = Usage(
        input_tokens=read + cached + into_cache,
        cache_read_tokens=cached,
        cache_write_tokens=into_cache,
        output_tokens=written,
    )
    price = found.calc_price(usage, provider, genai_request_timestamp=datetime.combine(DAY, time(12), UTC))
    return int((price.total_price * MICRO_CENTS_PER_DOLLAR).to_integral_value(ROUND_CEILING))


@given(st.sampled_from(LISTED), st.integers(0, 600_000), st.integers(0, 600_000), st.integers(0, 100_000))
def test_a_known_cost_is_what_the_library_counts(listed: tuple[str, str], read: int, cached: int, written: int) -> None:
    kind, model = listed
    price = TABLE.price(NAMES[kind], model)
    cost = TABLE.cost(NAMES[kind], model, {"input": read, "cached_input": cached, "output": written})
    if cost.micro_cents is None:
        assert price is None or not {"cached_input", "output"} <= price.per_million.keys()
        return
    counted = of_library(kind, model, read, cached, written)
    # Where the provider fills its cache unasked, every token that was not read from it may have been written to it.
    assert counted <= cost.micro_cents <= counted + -(-read * MICRO_CENTS_PER_DOLLAR * 30 // 1_000_000)
    if kind in ("anthropic", "groq", "mistral") or not cached + read:
        assert cost.micro_cents == counted


@given(st.sampled_from(LISTED), *[st.integers(0, 300_000)] * 4)
def test_a_cost_of_all_that_was_told_is_what_the_library_counts(
    listed: tuple[str, str], read: int, cached: int, into_cache: int, written: int
) -> None:
    kind, model = listed
    price = TABLE.price(NAMES[kind], model)
    if price is None or "output" not in price.per_million:
        return
    told = charged(OurUsage(read + cached + into_cache, written, cached, into_cache))
    cost = TABLE.cost(NAMES[kind], model, told, cached_is_input=True)
    assert cost.micro_cents == of_library(kind, model, read, cached, written, into_cache=into_cache)
    assert "at most" not in cost.why


def test_most_models_have_a_price_and_whatever_name_a_price_is_found_by_is_the_librarys() -> None:
    costs = [(kind, model, TABLE.cost(NAMES[kind], model, {"input": 10**6}).micro_cents) for kind, model in LISTED]
    known = [(kind, model, cost) for kind, model, cost in costs if cost is not None]
    assert len(known) > 0.9 * len(costs)
    for kind, model, cost in known:
        counted = of_library(kind, model, 10**6, 0, 0)
        assert cost == counted or (kind in ("openai", "openrouter") and cost > counted), model


def test_a_provider_has_the_prices_of_its_kind_whatever_its_name_is() -> None:
    by_name = TABLE.price("work", "gpt-4o")
    assert by_name is not None
    assert by_name.per_million == {"input": 250_000_000, "cached_input": 125_000_000, "output": 1_000_000_000}
    dated = TABLE.price("work", "gpt-4o-2024-11-20")
    assert dated is not None
    assert dated.per_million == by_name.per_million
    assert TABLE.price("openai", "gpt-4o") is None  # nobody is called so
    assert default_prices(DAY).price("work", "gpt-4o") is None
    assert default_prices(DAY).for_providers({"work": "ollama"}).price("work", "gpt-4o") is None


def test_a_price_has_the_day_that_it_is_asked_for() -> None:
    before, after = TABLE.on(date(2025, 6, 9)), TABLE.on(date(2025, 6, 10))
    assert before.cost("work", "o3", {"input": 1_000_000}).micro_cents == 10**9
    assert after.cost("work", "o3", {"input": 1_000_000}).micro_cents == 2 * 10**8
    assert TABLE.on(DAY) is TABLE
    assert "2025-06-09" in before.version
    assert before.hash != after.hash
    load = PriceTable("mine")
    assert load.on(DAY) is load


def test_what_is_paid_for_in_a_way_that_is_not_told_has_no_price() -> None:
    assert TABLE.price("router", "perplexity/sonar-deep-research") is None  # thinking costs other than the answer
    assert TABLE.price("work", "whisper-1") is None  # by the hour
    assert TABLE.price("work", "no-such-model") is None
    prices = ModelPrice(input_mtok=Decimal(1))
    for constraint, depends in (
        (TimeOfDateConstraint(time(1), time(2)), True),
        (StartDateConstraint(DAY), False),
        (None, False),
    ):
        model = ModelInfo("m", ClauseEquals("m"), prices=[ConditionalPrice(constraint, prices=prices)])
        assert depends_on_the_hour(model) is depends


def test_a_model_without_prices_is_free_only_where_its_name_says_so() -> None:
    assert TABLE.cost("router", "qwen/qwq-32b:free", {"input": 10**6, "output": 10**6}).micro_cents == 0
    assert TABLE.price("router", "google/lyria-3-pro-preview") is None


def test_a_cost_says_when_it_is_at_most() -> None:
    assert "at most" in TABLE.cost("work", "gpt-4o", {"input": 5}).why
    assert "at most" not in TABLE.cost("work", "gpt-4o", {"input": 5, "cached_input": 0}).why
    assert "at most" not in TABLE.cost("groq", "llama-3.1-8b-instant", {"input": 5}).why


def test_the_users_file_overrules_what_is_shipped(tmp_path: Path) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("version: mine\nprices:\n  work:\n    gpt-4o: { input: 1.00 }\n", encoding="utf-8")
    table = load_prices(path, base=default_prices(DAY)).for_providers(KINDS)
    assert table.cost("work", "gpt-4o", {"input": 1_000_000}).micro_cents == 10**8
    assert table.cost("work", "gpt-4o", {"input": 1, "output": 1}).known == "no_price"  # it is the whole price
    assert table.price("work", "gpt-4o-mini") == TABLE.price("work", "gpt-4o-mini")
    assert table.version == f"mine over {TABLE.version}"
    assert table.hash != TABLE.hash
    assert table.on(date(2026, 1, 1)).version == f"mine over {TABLE.on(date(2026, 1, 1)).version}"
    assert load_prices(path).version == "mine"


def test_data_that_somebody_else_fetched_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    empty = data_snapshot.DataSnapshot([], from_auto_update=True)
    monkeypatch.setattr(data_snapshot, "_custom_snapshot", empty)
    price = default_prices(DAY).for_providers(KINDS).price("work", "gpt-4o")
    assert price == TABLE.price("work", "gpt-4o")


ASKS_NOBODY = """
import sys, threading
heard = []
sys.addaudithook(lambda event, args: heard.append(event) if event.startswith(("socket.", "urllib.")) else None)
from adaptive_llm_gateway.gateway import default_prices
table = default_prices().for_providers({"work": "openai"})
assert table.version.startswith("genai-prices ") and table.hash
assert table.price("local", "m") is None
assert "genai_prices" not in sys.modules, "it was read before a price was asked for"
table.prepare()
assert "genai_prices" in sys.modules
assert table.price("work", "gpt-4o") is not None
assert threading.enumerate() == [threading.main_thread()]
assert not [event for event in heard if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request")], heard
"""


def test_nobody_is_asked_and_nothing_is_read_before_a_price_is_wanted() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASKS_NOBODY], capture_output=True, text=True, encoding="utf-8", timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
