"""Local servers of models that run now: found at their usual ports, and told apart by what they say there."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from adaptive_llm_gateway.gateway._health import ANY_SERVER, SIGNS, Server, has_sign, version_of
from adaptive_llm_gateway.gateway._locality import Address, address_of
from adaptive_llm_gateway.gateway._transport import CALL_HEADER, Call, guarded_client

PORTS = tuple(sign.port for sign in SIGNS)
HOSTS = ("127.0.0.1", "::1")  # both: `localhost` may be either, and a server binds one
_MOST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FoundServer:
    """A server that answers on the loopback; `address` is where its OpenAI-compatible API begins."""

    server: Server
    address: Address
    version: str | None = None


async def local_servers(
    *, ports: Sequence[int] = PORTS, hosts: Sequence[str] = HOSTS, timeout: float = 1.0
) -> list[FoundServer]:
    """The local servers of models that answer now, by port. A port alone says nothing: each is asked what it is.

    Args:
        timeout: seconds for each question.
    """
    places = [(host, port) for port in dict.fromkeys(ports) for host in hosts]
    listening = await asyncio.gather(*(_listens(host, port, timeout) for host, port in places))
    found: list[FoundServer] = []
    for (host, port), open_ in zip(places, listening, strict=True):
        if open_ and not any(known.address.port == port for known in found):
            server = await _server_at(host, port, timeout)
            if server is not None:
                found.append(server)
    return found


async def _listens(host: str, port: int, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def _server_at(host: str, port: int, timeout: float) -> FoundServer | None:
    import httpx2  # noqa: PLC0415 - loaded only when somebody listens

    base = address_of(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
    guarded = await asyncio.to_thread(guarded_client, httpx2, base, loopback_only=True, most_bytes=_MOST)

    async def document(path: str) -> object:
        call = Call()
        guarded.calls["1"] = call
        try:
            async with asyncio.timeout(timeout):
                response = await guarded.client.get(f"{base.root}{path}", headers={CALL_HEADER: "1"})
            return json.loads(response.content) if response.status_code == 200 else None
        except (httpx2.HTTPError, OSError, TimeoutError, ValueError, RecursionError):
            return None
        finally:
            await call.release()

    try:
        for sign in (*sorted(SIGNS, key=lambda sign: sign.port != port), ANY_SERVER):  # the usual one first
            said = await document(sign.path)
            if has_sign(sign.server, said):
                version = {"ollama": "/api/version", "vllm": "/version"}.get(sign.server)
                return FoundServer(sign.server, base, version_of(said if version is None else await document(version)))
    finally:
        await guarded.client.aclose()
    return None
