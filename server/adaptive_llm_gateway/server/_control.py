"""The hub's side of the command line's way to it: JSON lines on the hub's socket, one request after the other.

A request is `{"do": NAME, "with": {...}}`; the answer is `{"result": ...}` or `{"error": {...}}`, after any number of
`{"progress": [done, total]}`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adaptive_llm_gateway.core import AlgError, InvalidInput

if TYPE_CHECKING:
    from adaptive_llm_gateway.memory import MemoryStore
    from adaptive_llm_gateway.server._hub import Hub

_log = logging.getLogger(__name__)

Step = Callable[[int, int], None]

_READING = ("search", "context", "summarize_path", "list", "read", "history", "status")
_WRITING = ("write", "replace_text", "append_session", "compact_session", "delete", "restore")
_SYNCING = ("pull", "push")
_MODE = ("mode", "set_mode")


async def serve_control(hub: Hub, lines: AsyncIterator[bytes], writer: asyncio.StreamWriter) -> None:
    """Answer one command line's requests until it goes."""

    async def send(message: dict[str, Any]) -> None:
        writer.write(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        await writer.drain()

    async for line in lines:
        try:
            request = json.loads(line)
            result = await _carry_out(hub, str(request["do"]), dict(request.get("with") or {}), send)
        except AlgError as error:
            await send({"error": error.as_dict()})
        except Exception as error:  # noqa: BLE001 - told to whoever asked; the hub goes on
            _log.exception("a request of the command line failed")
            await send({"error": {"code": "error", "message": f"{type(error).__name__}: {error}", "hint": None}})
        else:
            await send({"result": result})


async def _carry_out(hub: Hub, name: str, arguments: dict[str, Any], send: Any) -> Any:
    if name == "hub_status":
        return hub.status()
    if name == "hub_stop":
        hub.stop()
        return hub.status()
    if name == "reindex":
        store = await hub.operations.store()
        return asdict(await asyncio.to_thread(store.reindex, **arguments))
    if name in ("import", "export"):
        return await _with_progress(hub, send, _import if name == "import" else _export, arguments)
    if name not in (*_READING, *_WRITING, *_SYNCING, *_MODE):
        raise InvalidInput(f"the hub has no operation {name!r}", hint="Hub and command line may differ in version.")
    operation: Callable[..., Any] = getattr(hub.operations, name)
    if name in _WRITING:
        from adaptive_llm_gateway.memory import Author  # noqa: PLC0415

        arguments["author"] = Author(client="command-line")
    return await operation(**arguments)


def _import(store: MemoryStore, step: Step, path: str, **arguments: Any) -> dict[str, Any]:
    from adaptive_llm_gateway.memory import Author, import_memories  # noqa: PLC0415

    author = Author(client="import")
    report = import_memories(store, Path(path), author=author, on_progress=step, **arguments)
    return {**report.as_dict(), "text": report.render()}


def _export(
    store: MemoryStore,
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
