"""How a search was read, and what it counted, as JSON and in a few words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.core import Trust
from adaptive_llm_gateway.memory import TimeRange
from adaptive_llm_gateway.server._times import iso

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import Answer, Facets, Filters, Plan

Json = dict[str, Any]


def read_as(plan: Plan) -> list[str]:
    """What a query's operators and its sentence's time were taken for, in a few words each."""
    told = filter_words(replace(plan.filters, also=()))
    if plan.preferred is not None:
        told.append(f"{_range(plan.preferred)} preferred")
    return told


def filter_words(filters: Filters) -> list[str]:
    """What filters demand, in a few words each."""
    told: list[str] = []

    def add(name: str, values: Sequence[str] | str | None, joint: str = " or ") -> None:
        if values:
            told.append(f"{name} {values if isinstance(values, str) else joint.join(values)}")

    add("type", filters.types)
    add("tag", filters.tags, " and ")
    add("project", filters.project)
    add("author", filters.author)
    add("id", filters.ids)
    if filters.since or filters.until:
        told.append(_range(TimeRange(filters.since, filters.until)))
    if filters.max_trust is not Trust.SECRET:
        told.append(f"trust {filters.max_trust} at most")
    told += [f"{name} {value}" for name, value in filters.fields.items()]
    without = filters.without
    add("not type", without.types)
    add("not tag", without.tags)
    add("not project", without.projects)
    add("not author", without.authors)
    add("not id", without.ids)
    add("without", [repr(word) for word in without.words])
    for more in filters.also:
        told += filter_words(more)
    return told


def _range(range_: TimeRange) -> str:
    since, until = iso(range_.since), iso(range_.until)
    return " ".join([*(["since", since] if since else []), *(["before", until] if until else [])])


def plan_json(answer: Answer) -> Json:
    """All of how a search was read."""
    plan = answer.plan
    preferred = plan.preferred
    return {
        "words": plan.words,
        "operators": list(plan.operators),
        "filters": filter_words(plan.filters),
        "preferred": {"since": iso(preferred.since), "until": iso(preferred.until)} if preferred else None,
        "literals": list(plan.literals),
        "stop_words": list(plan.stop_words),
        "common_words": list(plan.common),
        "telling_words": list(plan.similar_to[1]) if plan.similar_to else [],
        "mode": answer.mode,
        "candidates": answer.candidates,
    }


def facets_json(facets: Facets) -> Json:
    """Counts, each kind's in the order of `Facets`."""
    return {
        "total": facets.total,
        "type": dict(facets.types),
        "project": dict(facets.projects),
        "tag": dict(facets.tags),
        "author": dict(facets.authors),
        "month": dict(facets.months),
    }
