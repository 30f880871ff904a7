"""Handoffs as text for models: what an answer holds however much there is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.handoff import Damage, Handoff, Handoffs, NewOffer, Party, check_claim, fold
from adaptive_llm_gateway.memory import MemoryStore
from adaptive_llm_gateway.memory.testing import temporary_store
from adaptive_llm_gateway.server._handoff_json import handoff_json, step_json
from adaptive_llm_gateway.server._render_handoff import list_text, show_text

CLAUDE, CODEX = Party("claude-code"), Party("codex")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MemoryStore]:
    with temporary_store(tmp_path / "store") as opened:
        yield opened


def listed(handoff: Handoff) -> str:
    return list_text(
        {"handoffs": [handoff_json(handoff)], "total": 1, "filtered": False, "remote": None, "notices": []}
    )


def shown(handoff: Handoff) -> str:
    told: dict[str, Any] = {**handoff_json(handoff), "remote": None, "body": handoff.offer.state}
    return show_text({**told, "steps": [step_json(step) for step in handoff.steps]})


def test_of_much_damage_the_first_problems_are_named_and_the_rest_counted(store: MemoryStore) -> None:
    whole = Handoffs(store).create(NewOffer("Have quotes nest"), CLAUDE).handoff
    damage = [Damage(f"handoffs/2026/11/aaaaaaaa/{number:04d}-claim.md", "it has no 'step'") for number in range(2_000)]
    handoff = fold(whole.offer, (), damage, now=whole.offer.created, lease_over=lambda _: False)
    for text in (listed(handoff), shown(handoff)):
        assert text.count("it has no 'step'") == 3
        assert "; and 1,997 more" in text
        assert len(text) < 2_000
    with pytest.raises(InvalidInput, match="; and 1,997 more") as caught:
        check_claim(handoff, CODEX, is_there=lambda _: False)
    assert caught.value.message.count("it has no 'step'") == 3
    assert (len(caught.value.details["damage"]), caught.value.details["problems"]) == (3, 2_000)


def test_what_is_long_is_cut_in_a_list_and_says_where_the_rest_is(store: MemoryStore) -> None:
    service = Handoffs(store)
    long = "Convert the next file. " * 800
    id_ = service.create(NewOffer("Have quotes nest", next_action=long), CLAUDE).handoff.offer.id
    assert len(listed(service.one(id_))) < 1_000
    service.claim(id_, CODEX, lease=timedelta(hours=1))
    handoff = service.update(id_, "Done with one. " * 1_000, CODEX).handoff
    (claimed, reported) = handoff.steps
    text = shown(handoff)
    (line,) = [line for line in text.splitlines() if "Done with one." in line]
    assert line.endswith(f" … (whole: memory_read {reported.event.id})")
    assert len(line) < 700
    assert long.strip() in text
    many = [step_json(claimed), *[step_json(reported)] * 200]
    text = show_text({**handoff_json(handoff), "remote": None, "body": "", "steps": many})
    assert sum("Done with one." in line for line in text.splitlines()) == 50
    assert f"- 151 steps before these: `alg handoff show {id_}` has them" in text
