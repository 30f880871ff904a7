"""Reads out of the SQLite index what a `ChunkTable` holds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import apsw
import numpy as np

from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable
from adaptive_llm_gateway.memory._sql import fetch_all

_SLICE = 100_000  # chunks whose numbers cross into Python as one string a column


def read_table(connection: apsw.Connection) -> ChunkTable:
    """The table of all chunks, about 2 seconds a million."""
    columns: list[list[str]] = [[] for _ in range(6)]
    last = 0
    while True:
        row = fetch_all(
            connection,
            "SELECT max(id), group_concat(id), group_concat(memory), group_concat(ordinal), group_concat(length), "
            "group_concat(thread), group_concat(created) FROM (SELECT c.id, c.memory, c.ordinal, "
            "c.stop - c.start AS length, coalesce(m.thread, 0) AS thread, m.created "
            "FROM chunks c CROSS JOIN memories m ON m.rowid = c.memory WHERE c.id > ? ORDER BY c.id LIMIT ?)",
            (last, _SLICE),
        )[0]
        if row[0] is None:
            break
        last = row[0]
        for column, text in zip(columns, row[1:], strict=True):
            column.append(text)
    table = ChunkTable()
    table.fill(*(np.fromstring(",".join(column), np.int64, sep=",") if last else np.zeros(0, np.int64)
                 for column in columns))  # fmt: skip
    return table


def read_blocks(connection: apsw.Connection, ids: Sequence[str]) -> list[Block]:
    """The chunks of some memories, by their ids."""
    rows = fetch_all(
        connection,
        "SELECT m.rowid, m.thread, m.created, c.id, c.stop - c.start FROM json_each(?) j "
        "CROSS JOIN memories m ON m.id = j.value CROSS JOIN chunks c ON c.memory = m.rowid ORDER BY m.rowid, c.ordinal",
        (json.dumps(list(ids)),),
    )
    return [
        Block(memory, thread, created, [(row[3], row[4]) for row in group])
        for (memory, thread, created), group in itertools.groupby(rows, lambda row: (row[0], row[1], row[2]))
    ]
