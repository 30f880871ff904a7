"""What is measured of a text for a question, and many of these as shares with intervals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import fmean, quantiles
from typing import Any

import numpy as np
from _answers import content_words, has_all
from _packing import Prepared, Way
from _units import PARTS

from adaptive_llm_gateway.compression._units import units_of

Row = dict[str, float]
Line = dict[str, Any]
SHARES = ("whole", "tokens", "answered")
_SAMPLES = 2_000  # of the bootstrap
_SEED = 20_261_122


class Evidence:
    """What a question's texts are measured against: the texts that answer it, and their pieces with their tokens."""

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._whole = [_spaced(text) for text in prepared.asked.evidence]
        self._pieces = [
            (_spaced(said), prepared.counter.count(said))
            for text in prepared.asked.evidence
            for said in (text[unit.start : unit.end] for unit in units_of(text))
        ]

    def measured(self, way: Way, budget: int) -> Row:
        """One way's text for one budget: shares, tokens used and milliseconds.

        Raises:
            AssertionError: it has more tokens than the budget.
        """
        start = time.perf_counter()
        text = way(self._prepared, budget)
        ms = (time.perf_counter() - start) * 1e3
        used = self._prepared.counter.count(text)
        assert used <= budget, f"{used} of {budget} tokens"
        inside = _spaced(text)
        had = sum(tokens for said, tokens in self._pieces if said in inside)
        row = {
            "whole": fmean(said in inside for said in self._whole),
            "tokens": had / max(sum(tokens for _, tokens in self._pieces), 1),
            "used": float(used),
            "ms": round(ms, 3),
        }
        answered = has_all(self._prepared.asked.answer, content_words(text))
        return row if answered is None else {**row, "answered": float(answered)}


def summary(lines: Sequence[Line], ways: Sequence[str], budgets: Sequence[int]) -> dict[str, Any]:
    """A set's numbers, of one line a question.

    Args:
        lines: `part`, `possible` (whether all memories together have the answer's words; None: it has none) and
            `ways`, rows by way and budget.
    """
    possible = [line["possible"] for line in lines if line["possible"] is not None]
    return {
        "questions": len(lines),
        "parts": {part: sum(line["part"] == part for line in lines) for part in PARTS},
        "with an answer": len(possible),
        "possible": fmean(possible or [0.0]),
        "lines": [_line(lines, way, budget) for way in ways for budget in budgets],
    }


def _line(lines: Sequence[Line], way: str, budget: int) -> dict[str, Any]:
    every: list[Row] = [line["ways"][way][str(budget)] for line in lines]
    by_part = {
        part: [row for row, line in zip(every, lines, strict=True) if line["part"] == part]
        for part in PARTS
        if any(line["part"] == part for line in lines)
    }
    times = sorted(row["ms"] for row in every)
    cuts = quantiles([*times, *times], n=20)
    return {
        "way": way,
        "budget": budget,
        "questions": len(every),
        **{name: _mean(every, name) for name in (*SHARES, "used")},
        "interval": {name: interval([row[name] for row in every if name in row]) for name in SHARES},
        "by part": {part: {name: _mean(rows, name) for name in SHARES} for part, rows in by_part.items()},
        "ms": {"min": times[0], "p50": cuts[9], "p95": cuts[18], "max": times[-1]},
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean, by the percentiles of the bootstrap over questions; the same in each run."""
    if not values:
        return 0.0, 0.0
    matrix = np.array(values)
    drawn = np.random.default_rng(_SEED).integers(0, len(matrix), (_SAMPLES, len(matrix)))
    low, high = np.percentile(matrix[drawn].mean(axis=1), [2.5, 97.5]).tolist()
    return low, high


def _mean(rows: Sequence[Row], name: str) -> float:
    return fmean([row[name] for row in rows if name in row] or [0.0])


def _spaced(text: str) -> str:
    return " ".join(text.split())
