"""Allowances in the hub: what a person lets pass though it looks like a secret. For the command line alone.

There is no tool for this: a model that is refused a text must not be able to let itself pass.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from adaptive_llm_gateway.core import AlgError, InvalidInput
from adaptive_llm_gateway.server._access import ACCESS
from adaptive_llm_gateway.server._memory_json import sync_json
from adaptive_llm_gateway.server._repos import PERSONAL

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import Allowance, StandingAllowance
    from adaptive_llm_gateway.memory import Author, Memories, MemoryStore
    from adaptive_llm_gateway.server._operations import Operations

Json = dict[str, Any]
_T = TypeVar("_T")


class AllowanceOperations:
    """What the command line asks the hub for.

    Args:
        operations: of the hub, which has the store.
    """

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    async def secrets_allow(
        self,
        author: Author,
        fingerprints: Sequence[str],
        reason: str | None = None,
        until: str | None = None,
        by: str | None = None,
        kind: str | None = None,
        repo: str | None = None,
    ) -> Json:
        """Let findings with these fingerprints pass, in the person's own repo unless another one is named."""
        from adaptive_llm_gateway.memory import Allow  # noqa: PLC0415 - the store is open, so it is loaded

        if not fingerprints:
            raise InvalidInput("no fingerprint is given", hint="A refusal, and `alg secrets scan`, name it.")

        def work(memories: Memories) -> Json:
            name, store = _named(memories, repo or PERSONAL)
            done: list[Json] = []
            for fingerprint in fingerprints:
                allowed = store.allow(Allow(fingerprint, reason, until, by, kind), author)
                item = {**allowance_json(allowed.allowance), "outcome": allowed.outcome, "commit": allowed.commit}
                done.append({**item, "repo": name})
            return {"allowed": done, **sync_json(store.sync_status())}

        return await self._run(work)

    async def secrets_list(self, repo: str | None = None) -> Json:
        """What is allowed in each repo, and what keeps a list from being read."""

        def work(memories: Memories) -> Json:
            found: list[Json] = []
            problems: list[Json] = []
            for name, store in [_named(memories, repo)] if repo else _stores(memories).items():
                try:
                    found += [{**standing_json(item), "repo": name} for item in store.allowances()]
                except AlgError as error:
                    problems.append({"repo": name, "message": error.message, "hint": error.hint})
            return {"allowances": found, "problems": problems}

        return await self._run(work)

    async def secrets_revoke(
        self, author: Author, fingerprint: str, repo: str | None = None, by: str | None = None
    ) -> Json:
        """Let findings with a fingerprint pass no more, in the repo that has it."""
        from adaptive_llm_gateway.memory import one_of  # noqa: PLC0415 - as above

        def work(memories: Memories) -> Json:
            name = repo
            if not name:
                stores = _stores(memories).items()
                having = [each for each, store in stores if _has(store, fingerprint.strip().lower())]
                name = one_of(having, fingerprint.strip().lower())
            name, store = _named(memories, name)
            commit = store.revoke_allowance(fingerprint, author, by=by)
            stands = sync_json(store.sync_status())
            return {"revoked": fingerprint.strip().lower(), "repo": name, "commit": commit, **stands}

        return await self._run(work)

    async def _run(self, work: Callable[[Memories], _T]) -> _T:
        if (access := ACCESS.get()).client is not None:
            access.needs("admin", "what is allowed though it looks like a secret")
        store = await self._operations.whole()
        return await asyncio.to_thread(work, store)


def _stores(memories: Memories) -> dict[str, MemoryStore]:
    from adaptive_llm_gateway.memory import MemoryStore  # noqa: PLC0415 - as above

    return {PERSONAL: memories} if isinstance(memories, MemoryStore) else memories.stores


def _named(memories: Memories, name: str) -> tuple[str, MemoryStore]:
    from adaptive_llm_gateway.memory import MemoryStore  # noqa: PLC0415 - as above

    if not isinstance(memories, MemoryStore):
        return name, memories.store_named(name)
    if name != PERSONAL:
        raise InvalidInput(f"there is no memory repo {name!r}", hint=f"There is one, {PERSONAL!r}.")
    return name, memories


def _has(store: MemoryStore, fingerprint: str) -> bool:
    return any(item.allowance.fingerprint == fingerprint for item in store.allowances())


def allowance_json(allowance: Allowance) -> Json:
    """An entry; what it does not say is None."""
    names = ("fingerprint", "reason", "by", "added", "until", "kind")
    return {name: getattr(allowance, name) or None for name in names}


def standing_json(item: StandingAllowance) -> Json:
    """An entry and whether it counts."""
    found = {**allowance_json(item.allowance), "state": item.state, "line": item.allowance.line}
    return found | ({"counts_until": item.counts_until or None} if item.counts_until is not None else {})
