from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable

Plan = list[tuple[int, int | None, int, int]]  # memory, thread, created, chunks
_PLANS: st.SearchStrategy[Plan] = st.lists(
    st.tuples(
        st.integers(1, 12), st.one_of(st.none(), st.sampled_from([77, -5, 900])), st.integers(0, 9), st.integers(0, 4)
    ),
    max_size=40,
)


def facts(table: ChunkTable, chunks: list[int]) -> list[tuple[float, ...]]:
    about = table.about(np.array(chunks, np.int64))
    # Groups are named differently by each table; what matters is which chunks share one.
    names: dict[int, int] = {}
    groups = [names.setdefault(group, len(names)) for group in about.groups.tolist()]
    rest = [column.tolist() for name, column in zip(about._fields, about, strict=True) if name != "groups"]
    return list(zip(groups, *rest, strict=True))


@given(_PLANS)
def test_a_table_changed_step_by_step_is_the_one_read_at_once(plan: Plan) -> None:
    table = ChunkTable()
    blocks: dict[int, Block] = {}
    following = 1
    for memory, thread, created, count in plan:
        old = blocks.pop(memory, None)
        kept: list[tuple[int, int]] = list(old.chunks)[:1] if old and count else []
        fresh = [(following + place, 10 * place + memory) for place in range(max(0, count - len(kept)))]
        following += count
        block = Block(memory, thread, created, [*kept, *fresh])
        gone = [chunk for chunk, _ in old.chunks if chunk not in dict(kept)] if old else []
        table.put([block], gone)
        if block.chunks:
            blocks[memory] = block

    whole = ChunkTable()
    rows = [
        (chunk, block.memory, ordinal, length, block.thread or 0, block.created)
        for block in blocks.values()
        for ordinal, (chunk, length) in enumerate(block.chunks)
    ]
    whole.fill(*(np.array([row[column] for row in rows], np.int64) for column in range(6)))

    chunks = list(range(following + 2))
    assert facts(table, chunks) == facts(whole, chunks)
    assert table.sizes == whole.sizes


def test_chunks_of_a_thread_are_neighbours_in_order_of_their_memories() -> None:
    table = ChunkTable()
    table.put([Block(1, 7, 100, [(1, 5)]), Block(2, None, 50, [(2, 5), (3, 5)]), Block(3, 7, 50, [(4, 5), (5, 5)])])

    about = table.about(np.array([4, 5, 1, 2, 3, 99], np.int64))

    assert about.previous.tolist() == [0, 4, 5, 0, 2, 0]
    assert about.following.tolist() == [5, 1, 0, 3, 0, 0]
    assert about.memories.tolist() == [3, 3, 1, 2, 2, 0]
    assert about.group_lengths.tolist() == [15, 15, 15, 10, 10, 0]
