"""Three-way merge of text by lines: pure, symmetric but for the order of what both sides insert, bounded in time.

The difference algorithm is Myers's (An O(ND) Difference Algorithm and Its Variations, 1986), given up beyond
`MAX_DIFFERENCES`; the merge is diff3 (Khanna, Kunal, Pierce: A Formal Investigation of Diff3, 2007).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_LINE_END = re.compile(r"\r\n|\n|\r")
MAX_DIFFERENCES: Final = 600
"""Lines removed and added between two texts beyond which they are not compared further."""


def merge_lines(base: str, first: str, second: str) -> str | None:
    """The text with both sides' changes to `base`, or None where they clash.

    Lines that both sides insert at one place are no clash: all are kept, `first`'s before `second`'s, what is common
    to both once. Two texts without a common base do clash.
    """
    if second in (first, base):
        return first
    if first == base:
        return second
    if not base:
        return None
    end = next((found[0] for text in (base, first, second) if (found := _LINE_END.search(text))), "\n")
    ancestor, one, two = (_lines(text, end) for text in (base, first, second))
    to_one, to_two = _matches(ancestor, one), _matches(ancestor, two)
    if to_one is None or to_two is None:
        return None
    merged: list[str] = []
    a = b = c = 0
    while True:
        # The next line of the ancestor that both sides still have ends the part where they may differ.
        stable = next((n for n in range(a, len(ancestor)) if n in to_one and n in to_two), len(ancestor))
        b_end = to_one[stable] if stable < len(ancestor) else len(one)
        c_end = to_two[stable] if stable < len(ancestor) else len(two)
        part = _merge_part(ancestor[a:stable], one[b:b_end], two[c:c_end])
        if part is None:
            return None
        merged += part
        if stable == len(ancestor):
            break
        merged.append(ancestor[stable])
        a, b, c = stable + 1, b_end + 1, c_end + 1
    text = "".join(merged)
    # Where a side took away the line end at the very end it stays away, unless other lines follow there now.
    ends = [side.endswith(("\n", "\r")) for side in (base, first, second)]
    wanted = ends[1] if ends[1] != ends[0] else ends[2]
    last = [lines[-1] for lines, ended in ((one, ends[1]), (two, ends[2])) if lines and not ended]
    return text.removesuffix(end) if merged and not wanted and merged[-1] in last else text


def _lines(text: str, end: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith(("\n", "\r")):
        lines[-1] += end
    return lines


def _merge_part(ancestor: Sequence[str], one: Sequence[str], two: Sequence[str]) -> list[str] | None:
    if two in (one, ancestor):
        return list(one)
    if one == ancestor:
        return list(two)
    return None if ancestor else _union(one, two)


def _union(one: Sequence[str], two: Sequence[str]) -> list[str]:
    for longer, shorter in ((one, two), (two, one)):
        size = len(shorter)
        if any(longer[start : start + size] == shorter for start in range(len(longer) - size + 1)):
            return list(longer)
    limit = min(len(one), len(two))
    head = next((n for n in range(limit) if one[n] != two[n]), limit)
    tail = next((n for n in range(limit - head) if one[-1 - n] != two[-1 - n]), limit - head)
    return [*one[: len(one) - tail], *two[head : len(two) - tail], *one[len(one) - tail :]]


def _matches(old: Sequence[str], new: Sequence[str]) -> dict[int, int] | None:
    """Which lines of `old` are which lines of `new`, both increasing; None when they differ too much."""
    limit = min(len(old), len(new))
    head = next((n for n in range(limit) if old[n] != new[n]), limit)
    tail = next((n for n in range(limit - head) if old[-1 - n] != new[-1 - n]), limit - head)
    inner = _myers(old[head : len(old) - tail], new[head : len(new) - tail])
    if inner is None:
        return None
    pairs = {n: n for n in range(head)}
    pairs |= {head + x: head + y for x, y in inner}
    pairs |= {len(old) - 1 - n: len(new) - 1 - n for n in range(tail)}
    return pairs


def _myers(old: Sequence[str], new: Sequence[str]) -> list[tuple[int, int]] | None:
    n, m = len(old), len(new)
    if not n or not m:
        return []
    furthest: dict[int, int] = {1: 0}
    trace: list[dict[int, int]] = []
    for d in range(min(n + m, MAX_DIFFERENCES) + 1):
        trace.append({k: furthest[k] for k in range(-d - 1, d + 2) if k in furthest})
        for k in range(-d, d + 1, 2):
            down = k == -d or (k != d and furthest.get(k - 1, -1) < furthest.get(k + 1, -1))
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            y = x - k
            while x < n and y < m and old[x] == new[y]:
                x, y = x + 1, y + 1
            furthest[k] = x
            if x >= n and y >= m:
                return _walk_back(trace, n, m)
    return None


def _walk_back(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    for d in range(len(trace) - 1, -1, -1):
        before = trace[d]
        k = x - y
        down = k == -d or (k != d and before.get(k - 1, -1) < before.get(k + 1, -1))
        previous = k + 1 if down else k - 1
        start_x = before[previous]
        start_y = start_x - previous
        while x > max(start_x, 0) and y > max(start_y, 0) and x > (start_x if down else start_x + 1):
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = start_x, start_y
    pairs.reverse()
    return pairs
