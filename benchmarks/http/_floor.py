"""The floors: the MCP SDK's server with one tool that does nothing, and bare uvicorn.

python _floor.py sdk|bare PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

_BODY = b'{"jsonrpc":"2.0","id":1,"result":{}}'


async def _bare(scope: Any, receive: Any, send: Any) -> None:
    """Reads the request, and gives always the same answer."""
    del scope
    while (await receive()).get("more_body"):
        pass
    length = str(len(_BODY)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": _BODY})


def _sdk() -> Any:
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - the bare one does without

    server: MCPServer[Any] = MCPServer("floor", version="1", log_level="WARNING")

    @server.tool(structured_output=False)
    async def nothing() -> str:  # pyright: ignore[reportUnusedFunction]
        """Do nothing."""
        return "ok"

    return server.streamable_http_app()


def main(kind: str, port: str) -> None:
    """Serve on the loopback until killed."""
    app = _sdk() if kind == "sdk" else _bare
    uvicorn.run(app, port=int(port), log_level="warning", access_log=False, lifespan="on" if kind == "sdk" else "off")


if __name__ == "__main__":
    main(*sys.argv[1:])
