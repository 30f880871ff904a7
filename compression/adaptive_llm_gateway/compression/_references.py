"""Which definitions the rest of some files refers to: a graph of names between files, and its PageRank. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

_STEPS = 30
_STAYS = 0.85  # of a file's weight, what goes to those that it refers to
_MOST_PLACES = 8  # files that define the same name: of more, the name says nothing
_MOST_EDGES = 1_000_000  # references that are looked at; more have files only that were made to have them
_PLAIN = 0.1  # of a reference, for a short name of one word, which may mean anything
_LONG = 9  # letters of a name that is one word and still means something


def importances(
    defined: Sequence[Sequence[str]], mentioned: Sequence[frozenset[str]], interest: Sequence[float]
) -> list[list[float]]:
    """How much the other files refer to each definition: between 0 and 1, the most referred to has 1.

    A reference counts for as much as the file it stands in: what important files refer to is important, and files of
    interest are important to begin with (PageRank with a restart there, Page et al. 1999).

    Args:
        defined: the names that each file defines.
        mentioned: every name that stands in each file.
        interest: of each file, 0 or more.
    """
    places = _places(defined)
    pairs: dict[tuple[int, str], int] = {}  # a file and a name that it defines, and where these stand in what follows
    targets: list[int] = []
    weights: list[float] = []
    for name, others in places.items():
        for target in others:
            pairs[target, name] = len(targets)
            targets.append(target)
            weights.append(_weight(name) / len(others))
    sources: list[int] = []
    edges: list[int] = []
    for source, names in enumerate(mentioned):
        if len(edges) > _MOST_EDGES:
            break
        for name in sorted(names & places.keys()):
            others = places[name]
            if source not in others:
                first = pairs[others[0], name]
                edges += range(first, first + len(others))
                sources += [source] * len(others)
    if not edges:
        return [[0.0] * len(names) for names in defined]
    source_of, pair_of = np.array(sources), np.array(edges)
    weight = np.array(weights)
    rank = _rank(source_of, np.array(targets)[pair_of], weight[pair_of], np.array(interest, np.float64))
    given = np.bincount(pair_of, rank[source_of] * weight[pair_of], len(targets))
    shares: list[float] = np.sqrt(given / max(float(given.max()), 1e-12)).tolist()
    return [
        [shares[pairs[place, name]] if (place, name) in pairs else 0.0 for name in names]
        for place, names in enumerate(defined)
    ]


def _places(defined: Sequence[Sequence[str]]) -> Mapping[str, tuple[int, ...]]:
    """The files that define each name, where these are few."""
    found: dict[str, dict[int, None]] = {}
    for place, names in enumerate(defined):
        for name in names:
            found.setdefault(name, {})[place] = None
    return {name: tuple(places) for name, places in found.items() if len(places) <= _MOST_PLACES}


def is_telling(name: str) -> bool:
    """Whether a name looks like one also in prose: words in one, or in letters of both sizes within."""
    return "_" in name.strip("_") or (name[1:] != name[1:].lower() and name != name.upper())


def _weight(name: str) -> float:
    return 1.0 if len(name) >= _LONG or is_telling(name) else _PLAIN


def _rank(
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    weights: NDArray[np.float64],
    interest: NDArray[np.float64],
) -> NDArray[np.float64]:
    count = len(interest)
    start = 1.0 + interest / max(float(interest.max()), 1e-9) * count / 4 if interest.any() else np.ones(count)
    start = start / start.sum()
    out = np.bincount(sources, weights, count)
    share = weights / out[sources]
    rank = start
    for _ in range(_STEPS):
        flow = np.bincount(targets, rank[sources] * share, count)
        stays = float(rank[out == 0].sum())
        rank = (1 - _STAYS) * start + _STAYS * (flow + stays * start)
    return rank
