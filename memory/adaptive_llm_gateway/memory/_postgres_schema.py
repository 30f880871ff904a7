"""The tables of a PostgreSQL index, in a schema of their own, and how they are checked."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from psycopg import Error, errors, sql

from adaptive_llm_gateway.core import ConfigError, FormatTooNew
from adaptive_llm_gateway.memory._index_schema import CorruptIndex
from adaptive_llm_gateway.memory._postgres import Database
from adaptive_llm_gateway.memory._requests import PostgresConfig
from adaptive_llm_gateway.memory._sql_postgres import Link, fetch_all, fetch_value, run

FORMAT = 1
_MARK = "adaptive-llm-gateway index"  # of the table `meta`: the schema is ours
_OLDEST_VECTOR = (0, 8)  # the first whose index goes on looking where filters leave too few
_LONGEST_INDEXED = 4_000  # dimensions; longer vectors are compared one by one

# Text is compared by its bytes, as SQLite does. `words` has the tokens of a chunk in order, see `Stream`; `postings`
# where a token occurs, by blocks of chunks, see `_postgres_words`.
_TABLES = """
CREATE TABLE meta (key text COLLATE "C" PRIMARY KEY, value text NOT NULL);
CREATE TABLE memories (
    row bigint PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    path text COLLATE "C" NOT NULL UNIQUE DEFERRABLE INITIALLY DEFERRED,
    version text COLLATE "C" NOT NULL,
    mtime_ns bigint NOT NULL,
    size bigint NOT NULL,
    type text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    created bigint NOT NULL,
    updated bigint NOT NULL,
    client text COLLATE "C" NOT NULL,
    author text COLLATE "C" NOT NULL,
    project text COLLATE "C",
    tags text COLLATE "C" NOT NULL,
    trust smallint NOT NULL,
    links text COLLATE "C" NOT NULL,
    source text COLLATE "C",
    reason text COLLATE "C",
    fields text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    chunk_count integer NOT NULL,
    thread bigint
);
CREATE INDEX memories_updated ON memories (updated, row);
CREATE INDEX memories_type ON memories (type, updated);
CREATE INDEX memories_project ON memories (lower(project), updated);
CREATE INDEX memories_client ON memories (lower(client), updated);
CREATE TABLE bodies (memory bigint PRIMARY KEY, body text COLLATE "C" NOT NULL);
CREATE TABLE memory_tags (
    folded text COLLATE "C" NOT NULL, memory bigint NOT NULL, tag text COLLATE "C" NOT NULL,
    PRIMARY KEY (folded, memory)
);
CREATE INDEX memory_tags_memory ON memory_tags (memory);
CREATE TABLE chunks (
    id bigint PRIMARY KEY,
    memory bigint NOT NULL,
    ordinal integer NOT NULL,
    start integer NOT NULL,
    stop integer NOT NULL,
    first_line integer NOT NULL,
    last_line integer NOT NULL,
    heading text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    embedded boolean NOT NULL DEFAULT false
);
CREATE INDEX chunks_memory ON chunks (memory, ordinal);
CREATE INDEX chunks_backlog ON chunks (id) WHERE NOT embedded;
CREATE TABLE words (
    chunk bigint PRIMARY KEY, memory bigint NOT NULL, stream bytea NOT NULL, said_end integer NOT NULL
);
ALTER TABLE words ALTER stream SET STORAGE main;
CREATE TABLE postings (
    term integer NOT NULL, block integer NOT NULL, entries bytea NOT NULL, PRIMARY KEY (term, block)
) WITH (fillfactor = 80);
-- What is appended to all the time is not worth compressing.
ALTER TABLE postings ALTER entries SET STORAGE plain;
CREATE TABLE pending (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    path text COLLATE "C" NOT NULL,
    memory_id text COLLATE "C" NOT NULL,
    operation text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    author text COLLATE "C" NOT NULL,
    reason text COLLATE "C"
);
CREATE TABLE tombstones (
    id text COLLATE "C" PRIMARY KEY,
    path text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    type text COLLATE "C" NOT NULL,
    title text COLLATE "C" NOT NULL,
    deleted bigint NOT NULL,
    author text COLLATE "C" NOT NULL,
    reason text COLLATE "C"
);
CREATE SEQUENCE memory_rows;
CREATE SEQUENCE chunk_ids;
"""

_VECTORS = """
DROP TABLE IF EXISTS vectors;
CREATE TABLE vectors (chunk bigint PRIMARY KEY, memory bigint NOT NULL, half halfvec NOT NULL);
ALTER TABLE vectors ALTER half SET STORAGE main;
CREATE INDEX vectors_memory ON vectors (memory);
"""
# While everything is read anew: the vectors that there were, by the digest of their chunks.
_KEPT = "CREATE TABLE kept_vectors (digest bytea PRIMARY KEY, half halfvec NOT NULL)"

_DERIVED = ("memories", "bodies", "memory_tags", "chunks", "words", "postings")
TABLES = (*_DERIVED, "vectors", "kept_vectors", "meta", "pending", "tombstones")


def prepare(database: Database) -> bool:
    """Create the tables where there are none, else check them; True when they are new.

    Raises:
        FormatTooNew: a newer version of this program wrote them; nothing was changed.
        CorruptIndex: of an older format, or tables are missing.
        ConfigError: the schema holds something else, or the server lacks pgvector.
    """
    return database.write(lambda connection: _prepare(connection, database))


def look(config: PostgresConfig) -> str:
    """What answers, in a line; changes nothing. Raises as `prepare` does."""
    database = Database(replace(config, schema=config.schema or "alg"))
    try:
        return database.read(lambda connection: _looked(connection, database))
    finally:
        database.close()


def _looked(connection: Link, database: Database) -> str:
    version, extension = fetch_all(
        connection,
        "SELECT current_setting('server_version'), (SELECT coalesce(installed_version, default_version) "
        "FROM pg_available_extensions WHERE name = 'vector')",
    )[0]
    if extension is None:
        raise _no_vector(database)
    _check_version(extension, database)
    return f"PostgreSQL {version.split()[0]} with pgvector {extension} at {database.place}"


def set_aside(database: Database) -> str:
    """Give the schema another name, so that a new one can be made; returns that name."""
    aside = f"{database.schema[:40]}_damaged_{int(time.time())}"
    statement = sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(database.schema), sql.Identifier(aside))
    database.write(lambda connection: connection.execute(statement))
    return aside


def adopt(connection: Link, aside: str) -> None:
    """Take journal and tombstones over from a schema that was set aside, as far as they can be read there."""
    for table, columns, order in (
        ("pending", "path, memory_id, operation, title, author, reason", "seq"),
        ("tombstones", "id, path, version, type, title, deleted, author, reason", "id"),
    ):
        statement = sql.SQL("INSERT INTO {table} ({columns}) SELECT {columns} FROM {aside} ORDER BY {order}").format(
            table=sql.Identifier(table),
            columns=sql.SQL(", ").join(map(sql.Identifier, columns.split(", "))),
            aside=sql.Identifier(aside, table),
            order=sql.Identifier(order),
        )
        with contextlib.suppress(Error), connection.transaction():  # a savepoint; of an older format, or damaged too
            connection.execute(statement)


def clear_derived(connection: Link, dimensions: int) -> None:
    """Empty what can be rebuilt from the files; inside the caller's transaction. Vectors are kept by their digest."""
    run(
        connection,
        "INSERT INTO kept_vectors SELECT c.digest, v.half FROM vectors v JOIN chunks c ON c.id = v.chunk "
        "ON CONFLICT DO NOTHING",
    )
    # Not TRUNCATE: readers keep what they began with, and it would wait for them.
    for table in _DERIVED:
        run(connection, f"DELETE FROM {table}")  # noqa: S608 - our own names
    create_vectors(connection, dimensions)


def create_vectors(connection: Link, dimensions: int) -> None:
    """(Re)create the table of vectors, empty; inside the caller's transaction.

    A search that began before and comes to the vectors only now finds none.
    """
    run(connection, _VECTORS)
    if 0 < dimensions <= _LONGEST_INDEXED:
        run(
            connection,
            f"CREATE INDEX vectors_near ON vectors USING hnsw ((half::halfvec({dimensions})) halfvec_cosine_ops)",
        )


def _prepare(connection: Link, database: Database) -> bool:
    # Two hubs may make their schemas at once, and the extension is the database's.
    run(connection, "SELECT pg_advisory_xact_lock(4700385231)")
    _check_vector(connection, database)
    known = {
        row[0]
        for row in fetch_all(
            connection,
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relkind = 'r'",
            (database.schema,),
        )
    }
    if not known:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(database.schema)))
        run(connection, _TABLES)
        run(connection, _KEPT)
        create_vectors(connection, 0)
        run(connection, f"COMMENT ON TABLE meta IS '{_MARK}'")
        run(connection, "INSERT INTO meta VALUES ('format', %s)", (str(FORMAT),))
        return True
    if "meta" not in known or fetch_value(connection, "SELECT obj_description('meta'::regclass)") != _MARK:
        raise ConfigError(
            f"{database.name} is none: the schema holds other tables",
            hint="Name another schema in `index.schema_name`; it is created when there is none.",
        )
    _check_format(connection, database)
    missing = set(TABLES) - known
    if missing:
        raise _damaged(database, f"the tables {sorted(missing)!r} are missing")
    return False


def _check_format(connection: Link, database: Database) -> None:
    try:
        number = int(fetch_value(connection, "SELECT value FROM meta WHERE key = 'format'") or 0)
    except (ValueError, errors.UndefinedColumn):
        raise _damaged(database, "it does not say its format") from None
    if number > FORMAT:
        raise FormatTooNew(
            f"{database.name} has format {number}, this version knows {FORMAT}",
            hint="Update adaptive-llm-gateway, or name another schema in `index.schema_name`.",
            format=number,
            known=FORMAT,
        )
    if number < FORMAT:
        raise _damaged(database, f"it has the older format {number}, this version writes {FORMAT}")


def _check_vector(connection: Link, database: Database) -> None:
    """pgvector is there, made by us where we may, and new enough."""
    version = fetch_value(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    if version is None:
        if not fetch_value(connection, "SELECT 1 FROM pg_available_extensions WHERE name = 'vector'"):
            raise _no_vector(database)
        try:
            with connection.transaction():
                run(connection, "CREATE EXTENSION vector WITH SCHEMA public")
        except errors.InsufficientPrivilege:
            raise ConfigError(
                f"{database.name}: pgvector is not enabled in this database, and this user may not do so",
                hint="Have an administrator run `CREATE EXTENSION vector` in it.",
            ) from None
        version = fetch_value(connection, "SELECT extversion FROM pg_extension WHERE extname = 'vector'")
    _check_version(version, database)


def _check_version(version: str, database: Database) -> None:
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < _OLDEST_VECTOR:
        raise ConfigError(
            f"{database.name}: pgvector is {version}, and {'.'.join(map(str, _OLDEST_VECTOR))} or newer is needed",
            hint="Update it on the server, then run `ALTER EXTENSION vector UPDATE` in the database.",
        )


def _no_vector(database: Database) -> ConfigError:
    return ConfigError(
        f"{database.name}: its server has no pgvector",
        hint="Install it on the server; packages are called `postgresql-17-pgvector` or the like.",
    )


def _damaged(database: Database, why: str) -> CorruptIndex:
    return CorruptIndex(f"{database.name} is damaged: {why}", hint="It is set aside and built anew at the next start.")
