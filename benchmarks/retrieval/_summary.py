"""Outcomes summed up for the report."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from _measure import commit, load_average
from _metrics import mean, percentile
from _units import PARTS, Haystack
from _ways import Outcome


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means over all questions, by part and by group, and the time of an answer.

    Groups that stand apart are in `groups` only. `published` is against the evidence before corrections.
    """
    counted = [item for item in outcomes if not item.question.apart]
    by_part = {part: [item.measures for item in counted if item.question.part == part] for part in PARTS}
    groups = dict.fromkeys(sorted({item.question.group for item in outcomes}))
    published = [item.published for item in counted if item.published is not None]
    return {
        "all": mean(item.measures for item in counted),
        **{part: mean(rows) for part, rows in by_part.items() if rows},
        **({"published": mean(published)} if published else {}),
        "groups": {group: mean(item.measures for item in outcomes if item.question.group == group) for group in groups},
        "ms": times([item.ms for item in outcomes]),
    }


def made(model: str | None = None) -> dict[str, Any]:
    """When, from which commit and on how busy a machine a part is measured, called before it."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "commit": commit(),
        "model": model,
        "load_average": load_average(),
    }


def counts(haystacks: Sequence[Haystack]) -> dict[str, Any]:
    """How many there are of everything."""
    questions = [question for haystack in haystacks for question in haystack.questions]
    counted = [question for question in questions if not question.apart]
    return {
        "haystacks": len(haystacks),
        "units": sum(len(haystack.units) for haystack in haystacks),
        "questions": len(counted),
        **{part: sum(question.part == part for question in counted) for part in PARTS},
        "corrected": sum(
            question.published is not None and question.published != question.evidence for question in counted
        ),
        "groups": dict(sorted(Counter(question.group for question in questions).items())),
        "apart": sorted({question.group for question in questions if question.apart}),
    }


def details(name: str, outcomes: Mapping[str, Sequence[Outcome]]) -> Iterator[dict[str, Any]]:
    """Each question with the ranks of its evidence by every way, to see where one fails.

    Args:
        outcomes: by way, each in the order of the questions.
    """
    for rows in zip(*outcomes.values(), strict=True):
        question = rows[0].question
        yield {
            "set": name,
            "group": question.group,
            "part": question.part,
            "question": question.text,
            "ranks": {way: row.ranks for way, row in zip(outcomes, rows, strict=True)},
        }


def times(samples: Sequence[float]) -> dict[str, float]:
    """Milliseconds: minimum, median, 95th percentile and maximum."""
    return {
        "min": round(min(samples), 3),
        "p50": round(percentile(samples, 0.5), 3),
        "p95": round(percentile(samples, 0.95), 3),
        "max": round(max(samples), 3),
    }
