"""What the tests of merges share: trees in memory, path to bytes, and their merge as a store would write it."""

from __future__ import annotations

from adaptive_llm_gateway.memory._merge import Changed, Entry, MergePlan, plan_merge
from adaptive_llm_gateway.memory._repo import MemoryRepo

Tree = dict[str, bytes]


class Blobs(dict[str, bytes]):
    """Contents by their blob id."""

    def put(self, data: bytes) -> Entry:
        blob = MemoryRepo.blob_id(data)
        self[blob] = data
        return Entry(0o100644, blob)


def changes(store: Blobs, base: Tree, now: Tree) -> Changed:
    return {
        path: (store.put(base[path]) if path in base else None, store.put(now[path]) if path in now else None)
        for path in base.keys() | now.keys()
        if base.get(path) != now.get(path)
    }


def merge_trees(base: Tree, ours: Tree, theirs: Tree, *, keep: bool = True) -> tuple[Tree, MergePlan]:
    store = Blobs()
    files = {path: store.put(data).blob for path, data in ours.items()}
    sides = changes(store, base, ours), changes(store, base, theirs)
    plan = plan_merge(*sides, store.__getitem__, files=files, keep=keep)
    result = dict(ours)
    for path, content in plan.writes.items():
        if content is None:
            result.pop(path, None)
        else:
            result[path] = store[content.blob] if isinstance(content, Entry) else content
    return result, plan
