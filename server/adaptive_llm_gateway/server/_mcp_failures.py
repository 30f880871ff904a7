"""What nobody caught, as a client is told of it: that the hub failed, and under which id its log says how."""

from __future__ import annotations

import logging
import re
from typing import Any, Final, cast

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver.exceptions import UnexpectedResourceError
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR, CallToolResult, TextContent
from pydantic import ValidationError

from adaptive_llm_gateway.core import AlgError
from adaptive_llm_gateway.server._call import CALL, CALL_IN_SCOPE, Call, accepted_request_id
from adaptive_llm_gateway.server._mcp_access import METHODS
from adaptive_llm_gateway.server._render import error_text

_log = logging.getLogger(__name__)
_CRASHED: Final = re.compile(r"Error executing tool (\w+)", re.ASCII)
"""The whole text of the SDK for a tool that raised what it did not mean to, whose traceback it has logged."""


class Contained:
    """Middleware, the outermost: nothing of an exception that is a mistake of ours reaches a client.

    In the era 2025-11-25 the SDK would answer with its text, in 2026-07-28 with no word of where to look.
    """

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Carry out one message."""
        if ctx.request_id is None:
            return await call_next(ctx)  # nobody waits for an answer
        scope: Any = getattr(ctx.request, "scope", None)
        found = scope.get(CALL_IN_SCOPE) if scope is not None else None
        # The context of a session is that of the request which began it, and of a connection nobody's.
        call = (
            found if isinstance(found, Call) else Call(accepted_request_id(None), "stdio" if scope is None else "http")
        )
        token = CALL.set(call)
        try:
            return _named(await call_next(ctx), call.request)
        except ValidationError:
            raise  # the SDK says that the arguments are wrong, and not how
        except MCPError as error:
            if isinstance(error.__context__, UnexpectedResourceError):
                raise _internal("resources/read", call.request, error.error.data) from None
            raise
        except AlgError as error:
            raise MCPError(INTERNAL_ERROR, error_text(error.message, error.hint)) from error
        except Exception:  # noqa: BLE001 - whatever nobody meant
            method = ctx.method if ctx.method in METHODS else "a message of MCP"
            _log.exception("%s failed", method)
            raise _internal(method, call.request) from None
        finally:
            CALL.reset(token)


def _internal(what: str, request: str, data: Any = None) -> MCPError:
    told = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    return MCPError(INTERNAL_ERROR, _text(what, request), {**told, "request_id": request})


def _text(what: str, request: str) -> str:
    return f"Internal error of the hub at {what}. Its log says how, under request {request}."


def _named(result: HandlerResult, request: str) -> HandlerResult:
    """A tool's answer; of one that crashed, with the id under which the log has it."""
    if isinstance(result, CallToolResult):
        texts = [part.text for part in result.content if isinstance(part, TextContent)]
        crashed = _crashed(texts) if result.is_error and len(result.content) == 1 else None
        return (
            result
            if crashed is None
            else CallToolResult(content=[TextContent(text=_text(crashed, request))], is_error=True)
        )
    if isinstance(result, dict) and result.get("isError"):
        parts = cast("list[dict[str, Any]]", result.get("content") or [])
        crashed = _crashed([str(part.get("text")) for part in parts])
        if crashed is not None:
            return {**result, "content": [{"type": "text", "text": _text(crashed, request)}]}
    return result


def _crashed(texts: list[str]) -> str | None:
    """The name of the tool that crashed, if that is what an error says."""
    found = _CRASHED.fullmatch(texts[0]) if len(texts) == 1 else None
    return None if found is None else found[1]
