"""Has the first hits of a search judged by a reranker, in bounded time; without a judgement they stay as they are."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import replace

from adaptive_llm_gateway.core import AlgError, Trust
from adaptive_llm_gateway.memory._rerank import Reranker, RerankerConfig, RerankerUnavailable, create_reranker
from adaptive_llm_gateway.memory._values import Hit

_log = logging.getLogger(__name__)

SIGNAL = "reranked"
_MAX_QUERY = 2_000  # characters
_AT_ONCE = 4
_RETRY_SECONDS = 60.0
_BREAK_SECONDS = 30.0  # without another try after a search waited in vain
_STOP_SECONDS = 5.0
_KEPT = 4_096  # scores


def passage(hit: Hit) -> str:
    """What a reranker is given of a hit: its title and the passage that matched."""
    return f"{hit.record.title}\n{hit.snippet}"


def reordered(hits: Sequence[Hit], scores: Mapping[int, float]) -> tuple[Hit, ...]:
    """The hits whose place is in `scores` in the order of these, on the places that they have together; others stay.

    The score becomes a hit's own; its signals, which brought it there, stay beside `reranked`.
    """
    found = list(hits)
    best = sorted(scores, key=lambda place: (-scores[place], place))
    for place, origin in zip(sorted(scores), best, strict=True):
        hit, score = hits[origin], round(scores[origin], 4)
        found[place] = replace(hit, score=score, signals={SIGNAL: score, **hit.signals})
    return tuple(found)


class Reranking:
    """Judges hits for one store. A search never fails nor waits longer than `timeout` for it.

    A reranker on another machine never sees memories above `internal`; they keep their places.

    Args:
        config: which reranker, or one that is made already; it is closed here.
        top: how many of the first hits are judged.
        timeout: seconds that a search waits.
    """

    def __init__(self, config: RerankerConfig | Reranker, *, top: int, timeout: float) -> None:
        self._config = config
        self._timeout = timeout
        self._reranker: Reranker | None = None
        self._made = None if isinstance(config, RerankerConfig) else config
        self._slots = threading.Semaphore(_AT_ONCE)
        self._stopping = threading.Event()
        self._quiet_until = 0.0
        self._lock = threading.Lock()
        self._scores: OrderedDict[bytes, float] = OrderedDict()
        self._thread = threading.Thread(target=self._load, name="memory-reranker", daemon=True)
        wanted = not isinstance(config, RerankerConfig) or config.kind != "none"
        self.top = top if wanted else 0
        self.state = "loading" if wanted else "off"

    def start(self) -> None:
        """Begin to load."""
        if self.top:
            self._thread.start()

    def stop(self) -> None:
        """Let the reranker go. One that is still being loaded goes when that has ended; nobody waits long for it."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        elif self._made is not None:
            self._made.close()

    def apply(self, query: str, hits: Sequence[Hit]) -> tuple[tuple[Hit, ...], str | None]:
        """(the hits, the first `top` of them as the reranker orders them; what the searcher must know of it)."""
        if self._reranker is None:
            return tuple(hits), self._notice(self.state)
        local = self._reranker.local
        places = [
            place for place, hit in enumerate(hits[: self.top]) if local or Trust.INTERNAL.allows(hit.record.trust)
        ]
        if not places:
            return tuple(hits), None
        try:
            scores = self._judged(self._reranker, query[:_MAX_QUERY], [passage(hits[place]) for place in places])
        except AlgError as error:
            return tuple(hits), self._notice(self._failed(error))
        except Exception as error:  # noqa: BLE001 - whatever a model does, the search has its answer
            _log.exception("reranking failed")
            return tuple(hits), self._notice(self._failed(error))
        return reordered(hits, dict(zip(places, scores, strict=True))), None

    def _notice(self, state: str) -> str:
        return f"hits are in the order of the search, not reranked: the reranker is {state}"

    def _judged(self, reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
        """A score for each text; those that are known are not asked for, so that the next page costs nothing."""
        keys = [_key(query, text) for text in texts]
        with self._lock:
            known = {key: self._scores[key] for key in keys if key in self._scores}
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        if fresh:
            known |= dict(zip(fresh, self._asked(reranker, query, list(fresh.values())), strict=True))
            with self._lock:
                self._scores |= known
                while len(self._scores) > _KEPT:
                    self._scores.popitem(last=False)
        return [known[key] for key in keys]

    def _asked(self, reranker: Reranker, query: str, texts: Sequence[str]) -> list[float]:
        import numpy as np  # noqa: PLC0415 - only where hits are reranked

        began = time.monotonic()
        if began < self._quiet_until:
            raise RerankerUnavailable("it did not answer in time and is left alone for a while", reason="timeout")
        if not self._slots.acquire(timeout=self._timeout):
            raise self._late()
        judgement: Future[list[float]] = Future()

        def judge() -> None:
            try:
                scores = np.asarray(reranker.score(query, texts), dtype=np.float64)
                if scores.shape != (len(texts),) or not np.isfinite(scores).all():
                    raise RerankerUnavailable(
                        f"it gave no finite score for each of {len(texts)} texts", reason="answer"
                    )
                judgement.set_result(scores.tolist())
            except Exception as error:  # noqa: BLE001 - it is the waiting search's to handle
                judgement.set_exception(error)
            except BaseException as error:  # noqa: BLE001 - what ends a thread must not end the search's
                judgement.set_exception(RerankerUnavailable(f"it ended with {error!r}", reason="failed"))
            finally:
                self._slots.release()

        # A thread of its own, so that one which hangs holds up neither the search nor the end of the process.
        threading.Thread(target=judge, name="memory-rerank", daemon=True).start()
        try:
            scores = judgement.result(max(0.0, began + self._timeout - time.monotonic()))
        except FutureTimeout:
            raise self._late() from None
        except RerankerUnavailable as error:
            if error.details.get("reason") == "timeout":
                self._quiet_until = time.monotonic() + _BREAK_SECONDS
            raise
        self.state = reranker.id
        return scores

    def _late(self) -> RerankerUnavailable:
        self._quiet_until = time.monotonic() + _BREAK_SECONDS
        return RerankerUnavailable(f"it did not answer within {self._timeout:g} s", reason="timeout")

    def _load(self) -> None:
        while not self._stopping.is_set():
            try:
                if self._made is None:
                    config = self._config
                    self._made = create_reranker(config) if isinstance(config, RerankerConfig) else config
                    if self._made is None:
                        return
                self._made.load()
            except AlgError as error:
                self._failed(error)
            except Exception as error:  # noqa: BLE001 - any failure of a model leaves hits as they are
                if not self._stopping.is_set():
                    _log.exception("the reranker does not load")
                self._failed(error)
            else:
                self.state = self._made.id
                self._reranker = self._made
                break
            self._stopping.wait(_RETRY_SECONDS)
        if self._stopping.is_set() and self._made is not None:
            self._made.close()

    def _failed(self, error: Exception) -> str:
        state = f"unavailable: {error}"
        if self.state != state:
            _log.warning("the reranker is %s", state)
        self.state = state
        return state


def _key(query: str, text: str) -> bytes:
    data = f"{len(query)}\0{query}{text}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16).digest()
