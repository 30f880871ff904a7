"""Files that a pull put in place and that are not in the index yet. Belongs to the writer's thread."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from types import MappingProxyType

from adaptive_llm_gateway.memory._history import Told
from adaptive_llm_gateway.memory._sync import MergedPath


class Incoming:
    """Paths in the order in which they are to be indexed: what is there first, so that a moved memory is never gone.

    Attributes:
        told: what the commits that came say of the files.
    """

    def __init__(self) -> None:
        self.told: Mapping[str, Told] = MappingProxyType({})
        self._paths: dict[str, None] = {}
        self._moving = False

    @contextmanager
    def moving(self) -> Generator[None]:
        """Within, the branch moves before what moved with it is added here."""
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    @property
    def settled(self) -> bool:
        """Whether the index has all of a commit that was the last one before this was asked; from any thread."""
        return not self._moving and not self._paths  # in this order: what moved is added before the first says so

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, merged: Iterable[MergedPath]) -> None:
        """What a merge changed."""
        changed = list(merged)
        for path in (item.new_path for item in changed):
            if path is not None:
                self._paths[path] = None
        for path in (item.old_path for item in changed):
            if path is not None:
                self._paths.setdefault(path)

    def first(self, count: int) -> list[str]:
        """The next ones, at most so many."""
        return [path for path, _ in zip(self._paths, range(count), strict=False)]

    def done(self, paths: Iterable[str]) -> None:
        """They are in the index."""
        for path in paths:
            self._paths.pop(path, None)

    def others(self, paths: set[str]) -> set[str]:
        """Those of the paths that do not come in this way."""
        return paths - self._paths.keys()

    def clear(self) -> None:
        """The index was built from all files there are."""
        self._paths.clear()
