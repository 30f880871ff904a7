"""The few ways in which the PostgreSQL index talks to psycopg. Statements are ours, never a user's text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import Connection

Link = Connection[tuple[Any, ...]]


def fetch_all(connection: Link, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows."""
    return connection.execute(statement.encode(), values, binary=True).fetchall()


def fetch_one(connection: Link, statement: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
    """The first row, `None` when there is none."""
    return connection.execute(statement.encode(), values, binary=True).fetchone()


def fetch_value(connection: Link, statement: str, values: Sequence[Any] = ()) -> Any:
    """The first column of the first row, `None` when there is none."""
    row = fetch_one(connection, statement, values)
    return row[0] if row else None


def run(connection: Link, statement: str, values: Sequence[Any] = ()) -> None:
    """Carry out a statement, or several when there are no values."""
    connection.execute(statement.encode(), values or None)


def run_many(connection: Link, statement: str, values: Sequence[Sequence[Any]]) -> None:
    """Carry out a statement once per tuple of values, without waiting for each."""
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(statement.encode(), values)
