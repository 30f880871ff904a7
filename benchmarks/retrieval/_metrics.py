"""Measures of one answer, and their means. All are between 0 and 1; relevance is yes or no."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

DEPTH = 20  # hits asked for
CUTS = (5, 10, 20)
MEASURES = (*(f"recall@{k}" for k in CUTS), *(f"any@{k}" for k in CUTS), "ndcg@10", "mrr")


def recall(found: Sequence[str], evidence: frozenset[str], k: int) -> float:
    """Share of the evidence among the first k."""
    return len(evidence.intersection(found[:k])) / len(evidence)


def ndcg(found: Sequence[str], evidence: frozenset[str], k: int) -> float:
    """Normalised discounted cumulative gain of the first k, with log2 discounts (Järvelin and Kekäläinen, 2002)."""
    gained = sum(1 / math.log2(rank + 2) for rank, key in enumerate(found[:k]) if key in evidence)
    return gained / sum(1 / math.log2(rank + 2) for rank in range(min(k, len(evidence))))


def reciprocal_rank(found: Sequence[str], evidence: frozenset[str]) -> float:
    """One divided by the rank of the first evidence, 0 when there is none among those found."""
    return next((1 / rank for rank, key in enumerate(found, 1) if key in evidence), 0.0)


def measure(found: Sequence[str], evidence: frozenset[str]) -> dict[str, float]:
    """Every one of `MEASURES` for one answer: keys, best first, of which `DEPTH` count; a key counts once."""
    found = list(dict.fromkeys(found))[:DEPTH]
    shares = {k: recall(found, evidence, k) for k in CUTS}
    return {
        **{f"recall@{k}": share for k, share in shares.items()},
        **{f"any@{k}": float(share > 0) for k, share in shares.items()},
        "ndcg@10": ndcg(found, evidence, 10),
        "mrr": reciprocal_rank(found, evidence),
    }


def mean(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each measure over questions, each counting alike."""
    listed = list(rows)
    return {name: round(fmean(row[name] for row in listed), 5) for name in MEASURES}


def percentile(samples: Sequence[float], share: float) -> float:
    """The sample below which this share lies."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
