"""The models behind the client programs, replaced by a script: one loopback server that answers as Anthropic's
Messages API (`POST /v1/messages`) and as OpenAI's Responses API (`POST /v1/responses`), streamed.

It holds no model: it answers a client's first request with one tool call, and the request that brings the tool's
result with a closing sentence. What it was offered and what the tool returned is kept for the test to look at.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

CALL_ID = "call_scripted"
SEARCH_ID = "call_tool_search"


@dataclass(slots=True)
class Turn:
    """One scripted turn: the tool call to make, then what came of it.

    Args:
        server: the MCP server's name in the client.
        tool: the tool's name on that server.
        arguments: its arguments.
        closing: what the model says once it has the result.
    """

    server: str
    tool: str
    arguments: dict[str, Any]
    closing: str
    offered: set[str] = field(default_factory=set[str])
    """Names of all tools that the client offered, `mcp__<server>__<tool>` for those of MCP servers."""
    results: list[str] = field(default_factory=list[str])
    """What the client reported as the tool's result; one entry when all went well."""

    @property
    def full_name(self) -> str:
        """The tool as both clients name it to a model."""
        return f"mcp__{self.server}__{self.tool}"

    def not_offered(self) -> str:
        """What the model says when it cannot make its call."""
        return f"{self.full_name} was not among the tools offered: {sorted(self.offered)}"


@dataclass(frozen=True, slots=True)
class Say:
    """The model answers with text."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """The model answers with one tool call; `namespace` is only used by the Responses API."""

    id: str
    name: str
    arguments: dict[str, Any]
    namespace: str | None = None


def _text(content: str | list[dict[str, Any]]) -> str:
    """The text of a tool result: a string, or a list of blocks."""
    if isinstance(content, str):
        return content
    return "\n".join(block["text"] for block in content if "text" in block)


def plan_message(request: dict[str, Any], turn: Turn) -> Say | Call:
    """The answer to a request of the Messages API."""
    tools: list[dict[str, Any]] = request.get("tools") or []
    if not tools:
        return Say("A title")  # a side request: titles, summaries, warming up
    turn.offered.update(tool["name"] for tool in tools)
    results: dict[str, Any] = {
        block["tool_use_id"]: block["content"]
        for message in request["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    }
    if CALL_ID in results:
        turn.results.append(_text(results[CALL_ID]))
        return Say(turn.closing)
    if turn.full_name in turn.offered:
        return Call(CALL_ID, turn.full_name, turn.arguments)
    if "ToolSearch" in turn.offered and SEARCH_ID not in results:
        # Claude Code names the tools of MCP servers only; a model asks for the one it wants.
        return Call(SEARCH_ID, "ToolSearch", {"query": f"select:{turn.full_name}", "max_results": 1})
    return Say(turn.not_offered())


def plan_response(request: dict[str, Any], turn: Turn) -> Say | Call:
    """The answer to a request of the Responses API."""
    flat = False
    tools: list[dict[str, Any]] = request.get("tools") or []
    for tool in tools:
        if tool["type"] == "namespace":
            inside: list[dict[str, Any]] = tool["tools"]
            turn.offered.update(f"{tool['name']}__{inner['name']}" for inner in inside)
        elif "name" in tool:
            flat = flat or bool(tool["name"] == turn.full_name)
            turn.offered.add(tool["name"])
    for item in request["input"]:
        if item.get("type") == "function_call_output" and item["call_id"] == CALL_ID:
            turn.results.append(_text(item["output"]))
            return Say(turn.closing)
    if turn.full_name not in turn.offered:
        return Say(turn.not_offered())
    if flat:
        return Call(CALL_ID, turn.full_name, turn.arguments)
    return Call(CALL_ID, turn.tool, turn.arguments, namespace=f"mcp__{turn.server}")


def message_events(answer: Say | Call, *, number: int, model: str) -> list[dict[str, Any]]:
    """The Messages API's events for one answer; `number` makes ids unique."""
    if isinstance(answer, Say):
        block: dict[str, Any] = {"type": "text", "text": ""}
        delta: dict[str, Any] = {"type": "text_delta", "text": answer.text}
        stop = "end_turn"
    else:
        block = {"type": "tool_use", "id": answer.id, "name": answer.name, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(answer.arguments)}
        stop = "tool_use"
    message: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]


def response_events(answer: Say | Call, *, number: int) -> list[dict[str, Any]]:
    """The Responses API's events for one answer; `number` makes ids unique."""
    if isinstance(answer, Say):
        item: dict[str, Any] = {
            "type": "message",
            "id": f"item_{number}",
            "role": "assistant",
            "content": [{"type": "output_text", "text": answer.text, "annotations": []}],
        }
    else:
        item = {
            "type": "function_call",
            "id": f"item_{number}",
            "call_id": answer.id,
            "name": answer.name,
            "arguments": json.dumps(answer.arguments),
        }
        if answer.namespace is not None:
            item["namespace"] = answer.namespace
    usage: dict[str, Any] = {
        "input_tokens": 1,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 2,
    }
    response: dict[str, Any] = {"id": f"resp_{number}", "status": "completed", "output": [item], "usage": usage}
    return [
        {"type": "response.created", "response": {"id": f"resp_{number}"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]


class FakeModels(ThreadingHTTPServer):
    """The server, on a loopback port of its own; use it as a context manager.

    Set `turn` before a client is started.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.turn: Turn | None = None
        self.lock = threading.Lock()
        self.answered = 0

    @property
    def url(self) -> str:
        """Where it listens, without a path."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="fake models", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, path: str, request: dict[str, Any]) -> list[dict[str, Any]] | None:
        """The events to stream, None when the path is neither API's or no turn is scripted."""
        with self.lock:
            self.answered += 1
            if self.turn is not None and path == "/v1/messages":
                plan = plan_message(request, self.turn)
                return message_events(plan, number=self.answered, model=request["model"])
            if self.turn is not None and path == "/v1/responses":
                return response_events(plan_response(request, self.turn), number=self.answered)
            return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        models = self.server
        assert isinstance(models, FakeModels)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        path = urlsplit(self.path).path
        events = models.answer(path, json.loads(body)) if path in {"/v1/messages", "/v1/responses"} else None
        if events is None:
            self.refuse()
            return
        stream = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
        self.reply(200, "text/event-stream", stream.encode("utf-8"))

    def refuse(self) -> None:
        self.reply(404, "application/json", b'{"error": {"type": "not_found_error", "message": "not here"}}')

    do_GET = do_HEAD = do_PUT = do_DELETE = refuse

    def reply(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: pytest's output is for failures."""
