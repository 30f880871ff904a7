"""Reads out of a PostgreSQL index what a `ChunkTable` holds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from adaptive_llm_gateway.memory._chunk_table import Block, ChunkTable
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all

_SLICE = 100_000  # chunks whose numbers cross over as one value a column


def read_table(connection: Link) -> ChunkTable:
    """The table of all chunks."""
    columns: list[list[bytes]] = [[] for _ in range(6)]
    last = 0
    while True:
        row = fetch_all(
            connection,
            "SELECT max(id), string_agg(int8send(id), ''::bytea), string_agg(int8send(memory), ''::bytea), "
            "string_agg(int8send(ordinal), ''::bytea), string_agg(int8send(length), ''::bytea), "
            "string_agg(int8send(thread), ''::bytea), string_agg(int8send(created), ''::bytea) FROM ("
            "SELECT c.id, c.memory, c.ordinal, c.stop - c.start AS length, coalesce(m.thread, 0) AS thread, m.created "
            "FROM chunks c JOIN memories m ON m.row = c.memory WHERE c.id > %s ORDER BY c.id LIMIT %s) f",
            (last, _SLICE),
        )[0]
        if row[0] is None:
            break
        last = row[0]
        for column, part in zip(columns, row[1:], strict=True):
            column.append(part)
    table = ChunkTable()
    table.fill(*(np.frombuffer(b"".join(column), ">i8").astype(np.int64) for column in columns))
    return table


def read_blocks(connection: Link, ids: Sequence[str]) -> list[Block]:
    """The chunks of some memories, by their ids."""
    rows = fetch_all(
        connection,
        "SELECT m.row, m.thread, m.created, c.id, c.stop - c.start FROM memories m JOIN chunks c ON c.memory = m.row "
        "WHERE m.id = ANY(%s) ORDER BY m.row, c.ordinal",
        (list(ids),),
    )
    return [
        Block(memory, thread, created, [(row[3], row[4]) for row in group])
        for (memory, thread, created), group in itertools.groupby(rows, lambda row: (row[0], row[1], row[2]))
    ]
