"""A Qdrant server through its client: one hub's collections, and what the server's failures mean.

Only numbers cross over: a point is a chunk's id, its vector, and as payload the row id of its memory and a checksum.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from adaptive_llm_gateway.core import ConfigError, Trust, Unavailable, is_offline
from adaptive_llm_gateway.memory._endpoint import checked_url
from adaptive_llm_gateway.memory._offline import BACK
from adaptive_llm_gateway.memory._requests import QdrantConfig
from adaptive_llm_gateway.memory._vectors import Floats, Integers

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

_SECONDS = 20.0  # to connect, and for each part of an answer
_QUERY_SECONDS = 2.0  # a search waits no longer
_MAX_QUERIES = 8  # under way at once; the server may have forgotten them
_PAGE = 4_096
_EF = 256  # how far the server looks around in its graph
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_Answer = TypeVar("_Answer")


class Stored(NamedTuple):
    """A vector as the index's file has it: chunk, the row id of its memory, int8 code."""

    chunk: int
    memory: int
    code: bytes


class Points(NamedTuple):
    """Points of a collection in order of their ids: chunks, row ids of memories, checksums; parallel arrays."""

    chunks: Integers
    memories: Integers
    checksums: Integers


class QdrantUnavailable(Unavailable):
    """The Qdrant server cannot be used; `details["reason"]` is `unreachable`, `timeout`, `offline`, `key_missing`,
    `refused`, `dimensions`, `gone`, `status` or `answer`.
    """

    code = "qdrant_unavailable"


def checksum(code: bytes) -> int:
    """Tells one vector of a chunk from another."""
    return zlib.crc32(code)


class QdrantServer:
    """One hub's collections in a Qdrant server; see `QdrantConfig`. Safe to call from any thread.

    Nothing is asked of the server until the first call. The key is read from the environment then, and goes to the
    configured URL alone.

    Attributes:
        url: without a trailing slash.
        max_trust: memories above it do not leave this machine.

    Args:
        hub: the hub's name, after which its collections are called.

    Raises:
        ConfigError: the URL or the name of the variable cannot be used, or the client is not installed.
    """

    def __init__(self, config: QdrantConfig, hub: str) -> None:
        self.url, self._local = checked_url("index", config.url, example="http://127.0.0.1:6333")
        self.max_trust = Trust.SECRET if self._local else Trust.INTERNAL
        if config.api_key_env is not None and not _ENVIRONMENT.fullmatch(config.api_key_env):
            raise ConfigError(
                "index.api_key_env is not the name of an environment variable",  # not shown: it may be the key
                hint="Put the key into an environment variable, and that variable's name here.",
                key="index.api_key_env",
            )
        if importlib.util.find_spec("qdrant_client") is None:  # looked for alone: it takes a while to import
            raise ConfigError(
                "vectors are to be searched by Qdrant, but its client is not installed",
                hint="Install it with `pip install 'adaptive-llm-gateway[qdrant]'`.",
            )
        self._config = config
        self._hub = re.sub(r"[^a-z0-9]+", "_", hub.lower()).strip("_")[-58:].lstrip("_")
        self._key: str | None = None
        self._client: QdrantClient | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._under_way = threading.Semaphore(_MAX_QUERIES)

    def collection_for(self, space: str, dimensions: int) -> str:
        """The collection of one model's vectors; no other model has the same."""
        digest = hashlib.blake2b(f"{space}\n{dimensions}".encode(), digest_size=8).hexdigest()
        return f"alg_{self._hub}_{digest}"

    def owns(self, collection: str) -> bool:
        """Whether a collection is one of this hub's."""
        return collection.rpartition("_")[0] == f"alg_{self._hub}"

    def close(self) -> None:
        """Close the connections; harmless when repeated."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def version(self) -> str:
        """What the server says it is.

        Raises:
            QdrantUnavailable: so it is with every method below.
        """
        return self._ask(lambda client: client.info().version)

    def look(self) -> None:
        """See to it that the server lets us in, which `version` does not tell."""
        self._ask(lambda client: client.get_collections())

    def prepare(self, collection: str, dimensions: int) -> None:
        """See to it that the collection is there and holds vectors of so many dimensions."""
        from qdrant_client import models  # noqa: PLC0415

        if not self._ask(lambda client: client.collection_exists(collection)):
            form = models.VectorParams(size=dimensions, distance=models.Distance.COSINE)
            self._ask(lambda client: client.create_collection(collection, vectors_config=form))
        found = self._ask(lambda client: client.get_collection(collection))
        form = found.config.params.vectors
        if not isinstance(form, models.VectorParams) or form.size != dimensions or form.distance.value != "Cosine":
            what = (
                f"{form.size!r} dimensions, {form.distance.value}" if isinstance(form, models.VectorParams) else "more"
            )
            raise self._failure(
                "dimensions",
                f"has a collection {collection!r} of another form ({what}) than this model's vectors "
                f"({dimensions!r} dimensions, Cosine)",
                hint="Remove that collection in Qdrant; it is made anew, and nothing is lost.",
            )
        # Filters go by it, so it has to be there before the points.
        if "memory" not in found.payload_schema:
            self._ask(
                lambda client: client.create_payload_index(collection, "memory", models.PayloadSchemaType.INTEGER)
            )

    def put(self, collection: str, rows: Sequence[Stored]) -> None:
        """Put points in, in the place of those with their ids."""
        from qdrant_client import models  # noqa: PLC0415

        if not rows:
            return
        codes = np.frombuffer(b"".join(row.code for row in rows), np.int8).reshape(len(rows), -1)
        # The distance is the cosine, so the codes' scale does not matter, and small whole numbers are short to send.
        vectors: list[list[float]] = codes.astype(np.float32).tolist()
        payloads: list[dict[str, Any]] = [{"memory": row.memory, "code": checksum(row.code)} for row in rows]
        points = models.Batch(ids=[row.chunk for row in rows], vectors=vectors, payloads=payloads)
        self._ask(lambda client: client.upsert(collection, points, wait=True))

    def drop(self, collection: str, chunks: Sequence[int]) -> None:
        """Take points out; unknown ids are ignored."""
        from qdrant_client import models  # noqa: PLC0415

        if chunks:
            ids: list[Any] = list(chunks)
            self._ask(lambda client: client.delete(collection, models.PointIdsList(points=ids), wait=True))

    def remove(self, collection: str) -> None:
        """Remove a collection; harmless when there is none."""
        self._ask(lambda client: client.delete_collection(collection))

    def points(self, collection: str) -> Points:
        """All that the collection has, without vectors."""
        columns: list[list[int]] = [[], [], []]
        following: Any = None
        while True:
            start = following
            records, following = self._ask(
                lambda client, start=start: client.scroll(
                    collection, limit=_PAGE, offset=start, with_payload=True, with_vectors=False
                )
            )
            for record in records:
                payload = record.payload or {}
                known = isinstance(record.id, int) and all(
                    isinstance(payload.get(key), int) for key in ("memory", "code")
                )
                if isinstance(record.id, int):
                    columns[0].append(record.id)
                    columns[1].append(payload["memory"] if known else 0)
                    columns[2].append(payload["code"] if known else -1)
            if following is None:
                break
        chunks, memories, checksums = (np.array(column, np.int64) for column in columns)
        order = np.argsort(chunks)
        return Points(chunks[order], memories[order], checksums[order])

    def count(self, collection: str) -> int:
        """How many points the collection has."""
        return self._ask(lambda client: client.count(collection, exact=True)).count

    def nearest(self, collection: str, vector: Floats, count: int, allowed: Integers | None) -> Integers:
        """Ids of the `count` chunks nearest to a vector (d,), best first, within 2 s whatever the server does.

        Args:
            allowed: row ids of the memories to choose from; `None` allows all. The server applies it before the cut.
        """
        from qdrant_client import models  # noqa: PLC0415

        only = None
        if allowed is not None:
            rows: list[int] = allowed.tolist()
            only = models.Filter(must=[models.FieldCondition(key="memory", match=models.MatchAny(any=rows))])
        query: list[float] = vector.tolist()

        def ask(client: QdrantClient) -> Integers:
            found = client.query_points(
                collection,
                query=query,
                query_filter=only,
                search_params=models.SearchParams(hnsw_ef=max(_EF, count)),
                limit=count,
                with_payload=False,
                timeout=math.ceil(_QUERY_SECONDS),
            )
            return np.array([point.id for point in found.points if isinstance(point.id, int)], np.int64)

        return self._in_time(lambda: self._ask(ask))

    def _in_time(self, work: Callable[[], Integers]) -> Integers:
        """`work`, given up after a while: the client's own time begins anew with each piece of an answer."""
        if not self._under_way.acquire(blocking=False):
            raise self._failure("timeout", "still owes the answers to earlier queries")
        done = threading.Event()
        result: list[Integers | Exception] = []

        def run() -> None:
            try:
                result.append(work())
            except Exception as error:  # noqa: BLE001 - raised again by whoever waits
                result.append(error)
            finally:
                self._under_way.release()
                done.set()

        threading.Thread(target=run, name="memory-ask-qdrant", daemon=True).start()
        if not done.wait(_QUERY_SECONDS):
            raise self._failure("timeout", f"did not answer a query within {_QUERY_SECONDS:g} s")
        answer = result[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _ask(self, work: Callable[[QdrantClient], _Answer]) -> _Answer:
        if is_offline() and not self._local:
            raise self._failure("offline", "is held back in offline mode: it is not on this machine", hint=BACK)
        import httpx  # noqa: PLC0415 - the client's own, not a library of ours
        from qdrant_client.common.client_exceptions import QdrantException  # noqa: PLC0415
        from qdrant_client.http.exceptions import ApiException, ResponseHandlingException  # noqa: PLC0415
        from qdrant_client.http.exceptions import UnexpectedResponse as Unexpected  # noqa: PLC0415

        client = self._connected()
        # The client's own errors are not chained: they carry the request, and that carries the key.
        try:
            return work(client)
        except Unexpected as error:
            raise self._refused(error.status_code or 0, error.content) from None
        except ResponseHandlingException as error:
            source = error.source
            if isinstance(source, httpx.TimeoutException):
                raise self._failure("timeout", "did not answer in time") from None
            if isinstance(source, (httpx.RequestError, RuntimeError)):  # or the client was closed under us
                said = self._without_key(f"{type(source).__name__}: {source}")
                raise self._failure("unreachable", f"cannot be reached ({said})") from None
            raise self._failure("answer", "answered something that Qdrant does not answer") from None
        except QdrantException as error:
            raise self._failure("status", f"is busy ({self._without_key(str(error))[:200]!r})") from None
        except (ApiException, ValueError, TypeError, KeyError, AssertionError):
            raise self._failure("answer", "answered something that Qdrant does not answer") from None

    def _refused(self, status: int, content: bytes) -> QdrantUnavailable:
        if status in (401, 403):
            return self._failure(
                "refused",
                f"refuses us (HTTP {status})",
                hint=f"Check the key in the environment variable {self._config.api_key_env!r}."
                if self._config.api_key_env
                else "Name the environment variable that holds the key in index.api_key_env.",
            )
        said = self._without_key(content[:400].decode("utf-8", "replace"))[:200]
        return self._failure("gone" if status == 404 else "status", f"answered HTTP {status} and said {said!r}")

    def _failure(self, reason: str, what: str, *, hint: str | None = None) -> QdrantUnavailable:
        return QdrantUnavailable(
            f"Qdrant at {self.url!r} {what}",
            hint=hint or "Check that it runs. Nothing is lost: what it lacks is brought to it when it answers.",
            reason=reason,
            url=self.url,
        )

    def _connected(self) -> QdrantClient:
        with self._lock:
            if self._closed:
                raise self._failure("unreachable", "is not asked any more")
            if self._client is None:
                from qdrant_client import QdrantClient  # noqa: PLC0415

                self._key = self._read_key()
                secure = self.url.startswith("https:")
                self._client = QdrantClient(
                    url=self.url,
                    # As a header, for given as the key it makes the client warn of a loopback address, too.
                    headers={"api-key": self._key} if self._key else None,
                    timeout=int(_SECONDS),
                    check_compatibility=False,
                    # A proxy of an https request sees neither vectors nor key; of an http request it would see both.
                    trust_env=secure and not self._local,
                )
            return self._client

    def _read_key(self) -> str | None:
        name = self._config.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            what = "carries what no key does" if key else "is not set"
            raise self._failure(
                "key_missing",
                f"is not asked: the environment variable {name!r} with its key {what}",
                hint=f"Set {name} where the hub starts, and restart it.",
            )
        return key

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text
