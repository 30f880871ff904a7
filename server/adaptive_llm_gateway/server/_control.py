"""The hub's side of the command line's way to it: JSON lines on the hub's socket, one request after the other.

A request is `{"do": NAME, "with": {...}}`; the answer is `{"result": ...}` or `{"error": {...}}`, after any number of
`{"progress": [done, total]}`, of `{"step": {...}}` where a pull or push was asked for with `"steps": true`, or of
`{"piece": TEXT}` where an answer of a model was asked for with `"stream": true`. Whoever hangs up while a model answers
has its call cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptive_llm_gateway.core import AlgError, InvalidInput
from adaptive_llm_gateway.server._call import touched
from adaptive_llm_gateway.server._gate import without_secrets
from adaptive_llm_gateway.server._going import farewell

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import Memories
    from adaptive_llm_gateway.server._hub import Hub

_log = logging.getLogger(__name__)

Step = Callable[[int, int], None]

_READING = ("search", "context", "summarize_path", "list", "read", "history", "status", "quarantine")
_WRITING = ("write", "replace_text", "append_session", "compact_session", "delete", "restore", "drop_quarantined")
_ALLOWANCES = ("secrets_allow", "secrets_list", "secrets_revoke")
_CLIENTS = ("clients_add", "clients_list", "clients_show", "clients_set", "clients_rotate", "clients_revoke")
_SYNCING = ("pull", "push", "sync")
_MODE = ("mode", "set_mode")
_STREAMING = ("gateway_complete", "gateway_chat")
_CALLING = (*_STREAMING, "gateway_embed")
_CONSENTS = ("consent_grant", "consent_list", "consent_revoke", "consent_set_aside", "consent_verify")
_RECORDS = ("receipts_list", "receipts_prune", "receipts_show", "receipts_verify", "runs_rebuild", "runs_replay")
_HANDOFFS = ("create", "list", "show", "claim", "update", "complete", "release", "checkpoint")
_GATEWAY = (*_CALLING, "gateway_health", "gateway_models", "gateway_route_preview")
_NOT_CHANGING = frozenset(  # what models are asked has receipts
    {*_READING, *_GATEWAY, "hub_status", "mode", "runs_replay"}
)
_KNOWN = frozenset(
    {*_CLIENTS, *_WRITING, *_ALLOWANCES, *_SYNCING, *_MODE, *_CONSENTS, *_RECORDS}
    | {"import", "export", "reindex", "hub_stop"}
) | {f"handoff_{each}" for each in _HANDOFFS}


async def serve_control(
    hub: Hub, lines: AsyncIterator[bytes], writer: asyncio.StreamWriter, *, resends: bool = False
) -> None:
    """Answer one command line's requests until it or the hub goes.

    Args:
        resends: whether the other side knows of farewells, see `_going`.
    """

    async def send(message: dict[str, Any]) -> None:
        writer.write(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        await writer.drain()

    async def next_line() -> bytes | None:
        return await anext(lines, None)

    coming = asyncio.create_task(next_line())
    going = asyncio.create_task(hub.going.wait())
    try:
        while True:
            await asyncio.wait({coming, going}, return_when=asyncio.FIRST_COMPLETED)
            if hub.going.begun:
                if resends:
                    await send(json.loads(farewell([])))
                return
            if (line := await coming) is None:
                return
            coming = asyncio.create_task(next_line())  # ahead of time, to hear of it when they hang up
            try:
                request = json.loads(line)
                name = str(request["do"])
                work = _observed(hub, name, dict(request.get("with") or {}), send)
                result = await (_while_there(work, coming) if name in _CALLING else work)
            except AlgError as error:
                await send({"error": without_secrets(error.as_dict())})
            except ConnectionError:
                return
            except Exception as error:  # noqa: BLE001 - told to whoever asked; the hub goes on
                _log.exception("a request of the command line failed")
                told = {"code": "error", "message": f"{type(error).__name__}: {error}", "hint": None}
                await send({"error": without_secrets(told)})
            else:
                await send({"result": result})
    finally:
        coming.cancel()
        going.cancel()


async def _while_there(work: Coroutine[Any, Any, Any], coming: asyncio.Task[bytes | None]) -> Any:
    """What `work` gives; it is cancelled when they hang up.

    Raises:
        ConnectionError: they did.
    """
    task = asyncio.create_task(work)
    try:
        await asyncio.wait({task, coming}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done() and (coming.exception() is not None or coming.result() is None):
            raise ConnectionError("the command line went away")
        return await task
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


async def _observed(hub: Hub, name: str, arguments: dict[str, Any], send: Any) -> Any:
    """Carry out what changes something so that the audit log has it; of clients and their tokens before the answer."""
    if not _changes(name) or (hub.observer.is_idle and name not in _CLIENTS):
        return await _carry_out(hub, name, arguments, send)
    action = name if name in _KNOWN else "unknown_operation"
    with hub.observer.call(action, transport="command-line") as call:
        touched(arguments.get("id"))
        result = await _carry_out(hub, name, arguments, send)
        touched(cast("dict[str, Any]", result).get("id") if isinstance(result, dict) else None)
        if action in _CLIENTS:
            call.target = cast("dict[str, str]", result)["name"]
            await hub.observer.make_sure(call)
    return cast("Any", result)


def _changes(name: str) -> bool:
    return name not in _NOT_CHANGING and not name.endswith(("_list", "_show", "_verify"))


async def _carry_out(hub: Hub, name: str, arguments: dict[str, Any], send: Any) -> Any:
    if name == "hub_status":
        return hub.status()
    if name == "hub_stop":
        hub.stop(again=arguments.get("again") is True)
        return hub.status()
    if name == "reindex":
        store = await hub.operations.whole()
        return asdict(await asyncio.to_thread(store.reindex, **arguments))
    if name in ("import", "export"):
        return await _with_progress(hub, send, _import if name == "import" else _export, arguments)
    if name in (*_READING, *_GATEWAY):
        arguments = hub.gate.questions(arguments)
    if name in _GATEWAY:
        return await _gateway(hub, name, arguments, send)
    if name in _CONSENTS:
        return await _of(hub.gateway.consents, name, arguments)
    if name in _ALLOWANCES:
        return await _allowances(hub, name, arguments)
    if name in _CLIENTS:
        from adaptive_llm_gateway.server._clients_operations import ClientOperations, mcp_address  # noqa: PLC0415

        operations = ClientOperations(
            hub.clients, hub.quotas, address=lambda: mcp_address(hub.settings, hub.http.status()["url"])
        )
        return await _of(operations, name, arguments)
    if name in _RECORDS:
        return await _of(hub.gateway.records, name, arguments)
    if name.removeprefix("handoff_") in _HANDOFFS and name.startswith("handoff_"):
        return await _handoff(hub, name.removeprefix("handoff_"), arguments)
    if name not in (*_READING, *_WRITING, *_SYNCING, *_MODE):
        raise InvalidInput(f"the hub has no operation {name!r}", hint="Hub and command line may differ in version.")
    if name in _SYNCING and arguments.pop("steps", False):
        arguments["on_step"] = partial(_send_step, send)
    if name in _WRITING:
        from adaptive_llm_gateway.memory import Author  # noqa: PLC0415

        arguments["author"] = Author(client="command-line")
    return await _of(hub.operations, name, arguments)


async def _allowances(hub: Hub, name: str, arguments: dict[str, Any]) -> Any:
    from adaptive_llm_gateway.server._allowance_operations import AllowanceOperations  # noqa: PLC0415

    if name != "secrets_list":
        from adaptive_llm_gateway.memory import Author  # noqa: PLC0415

        arguments["author"] = Author(client="command-line")
    return await _of(AllowanceOperations(hub.operations), name, arguments)


async def _handoff(hub: Hub, name: str, arguments: dict[str, Any]) -> Any:
    if name not in ("list", "show"):
        from adaptive_llm_gateway.memory import Author  # noqa: PLC0415

        arguments["author"] = Author(client="command-line", agent=arguments.pop("agent", None))
    return await _of(hub.handoffs, name, arguments)


async def _gateway(hub: Hub, name: str, arguments: dict[str, Any], send: Any) -> Any:
    async def piece(text: str) -> None:
        await send({"piece": text})

    if name in _STREAMING and arguments.pop("stream", False):
        arguments["on_piece"] = piece
    if name in (*_CALLING, "gateway_route_preview"):
        arguments.setdefault("client", "command-line")
    return await _of(hub.gateway, name, arguments)


async def _send_step(send: Any, step: dict[str, Any]) -> None:
    await send({"step": step})


async def _of(operations: object, name: str, arguments: dict[str, Any]) -> Any:
    operation: Callable[..., Any] = getattr(operations, name)
    return await operation(**arguments)


def _import(store: Memories, step: Step, path: str, **arguments: Any) -> dict[str, Any]:
    from adaptive_llm_gateway.memory import Author, import_memories  # noqa: PLC0415

    author = Author(client="import")
    report = import_memories(store, Path(path), author=author, on_progress=step, **arguments)
    return {**report.as_dict(), "text": report.render()}


def _export(
    store: Memories,
    step: Step,
    destination: str,
    type: str | None = None,
    project: str | None = None,
    tags: list[str] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    from adaptive_llm_gateway.memory import Filters, export_memories  # noqa: PLC0415

    filters = Filters(types=(type,) if type else (), project=project, tags=tuple(tags or ()))
    report = export_memories(store, Path(destination), filters=filters, on_progress=step, **arguments)
    return {**report.as_dict(), "text": report.render()}


async def _with_progress(hub: Hub, send: Any, work: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    """Run `work(store, step, ...)` in a thread, passing on what it tells through `step(done, total)`."""
    store = await hub.operations.store()
    loop = asyncio.get_running_loop()
    steps: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()

    def step(done: int, total: int) -> None:
        loop.call_soon_threadsafe(steps.put_nowait, (done, total))

    def run() -> Any:
        try:
            return work(store, step, **arguments)
        finally:
            loop.call_soon_threadsafe(steps.put_nowait, None)

    task = asyncio.create_task(asyncio.to_thread(run))
    try:
        while (progress := await steps.get()) is not None:
            await send({"progress": list(progress)})
    except OSError:  # the command line went away; the work is finished all the same
        _log.info("a command line went away while its request was carried out")
    return await task
