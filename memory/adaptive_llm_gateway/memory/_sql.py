"""APSW's calls with the types that our statements have: rows of anything, instead of a union at each column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import apsw


def fetch_all(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows."""
    return cast("list[tuple[Any, ...]]", connection.execute(statement, values).fetchall())  # pyright: ignore[reportUnknownMemberType]


def fetch_one(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """The first row, `None` when there is none; the statement is not left open."""
    cursor = connection.execute(statement, values)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    try:
        return cast("tuple[Any, ...] | None", cursor.fetchone())  # pyright: ignore[reportUnknownMemberType]
    finally:
        cursor.close()


def fetch_value(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> Any:
    """The first column of the first row, `None` when there is none."""
    row = fetch_one(connection, statement, values)
    return row[0] if row else None


def run(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> None:
    """Carry out a statement, or several when there are no values."""
    connection.execute(statement, values or None)  # pyright: ignore[reportUnknownMemberType]


def run_many(connection: apsw.Connection, statement: str, values: Iterable[Sequence[Any]]) -> None:
    """Carry out a statement once per tuple of values."""
    connection.executemany(statement, values)  # pyright: ignore[reportUnknownMemberType]


def fetch_pairs(connection: apsw.Connection, statement: str, values: Sequence[Any] = ()) -> dict[Any, Any]:
    """Rows of two columns as a dictionary."""
    return dict(cast("list[tuple[Any, Any]]", fetch_all(connection, statement, values)))


def placeholders(count: int) -> str:
    """`?, ?, ?` for so many values."""
    return ", ".join("?" * count)
