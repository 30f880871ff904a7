"""The models behind the client programs, replaced by a script: one loopback server that answers as Anthropic's
Messages API (`POST /v1/messages`) and as OpenAI's Responses API (`POST /v1/responses`), streamed.

It holds no model: it answers a client's first request with a tool call, the request that brings the tool's result with
the next call, and the last result with a closing sentence. What it was told and offered, and what the tools returned,
is kept for the test to look at.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit

CALL_ID = "call_scripted"
SEARCH_ID = "call_tool_search"
MOST_SEARCHES = 8
"""How often a model asks for a tool: Claude Code lets it wait some seconds for a server, then tells it to ask again."""


Arguments = dict[str, Any] | Callable[[Sequence[str]], dict[str, Any]]
"""What a tool is called with, or how it follows from the results so far, with a LookupError where it does not."""


@dataclass(slots=True)
class Turn:
    """One scripted turn: the tool calls to make, one after the other, then what came of them.

    Args:
        server: the MCP server's name in the client.
        tool: the first tool's name on that server; empty: none is called.
        arguments: its arguments.
        closing: what the model says once it has the last result.
        then: the calls after the first: tool and arguments.
    """

    server: str
    tool: str
    arguments: Arguments
    closing: str
    then: Sequence[tuple[str, Arguments]] = ()
    offered: set[str] = field(default_factory=set[str])
    """Names of all tools that the client offered, `mcp__<server>__<tool>` for those of MCP servers."""
    results: list[str] = field(default_factory=list[str])
    """What the client reported as the tools' results; one entry for each call when all went well."""
    told: str = ""
    """All that the client sent as the user's words, instructions of its own included."""

    def next_call(self) -> tuple[int, str, Arguments] | None:
        """Number, tool and arguments of the call whose result is not there, None when all are."""
        calls = (*([(self.tool, self.arguments)] if self.tool else []), *self.then)
        number = len(self.results)
        return (number, *calls[number]) if number < len(calls) else None

    def full_name(self, tool: str) -> str:
        """A tool as both clients name it to a model."""
        return f"mcp__{self.server}__{tool}"

    def call(self, number: int, name: str, arguments: Arguments, *, namespace: str | None = None) -> Say | Call:
        """The answer that calls a tool, or says why its arguments do not follow from the results."""
        try:
            given = arguments(tuple(self.results)) if callable(arguments) else arguments
        except LookupError as error:
            return Say(f"{name} cannot be called: {error}")
        return Call(call_id(number), name, given, namespace)

    def not_offered(self, tool: str) -> Say:
        """What the model says when it cannot make its call."""
        return Say(f"{self.full_name(tool)} was not among the tools offered: {sorted(self.offered)}")


def call_id(number: int) -> str:
    """The id of a turn's call, counted from 0."""
    return f"{CALL_ID}_{number}"


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
    said: list[str | list[dict[str, Any]]] = [
        message["content"] for message in request["messages"] if message["role"] == "user"
    ]
    turn.told = "\n".join(map(_text, said))
    results: dict[str, Any] = {
        block["tool_use_id"]: block["content"]
        for content in said
        if not isinstance(content, str)
        for block in content
        if block["type"] == "tool_result"
    }
    turn.results = _in_order(results)
    wanted = turn.next_call()
    if wanted is None:
        return Say(turn.closing)
    number, tool, arguments = wanted
    name = turn.full_name(tool)
    if name in turn.offered:
        return turn.call(number, name, arguments)
    if "ToolSearch" in turn.offered:
        # Claude Code names the tools of MCP servers only; a model asks for the one it wants.
        for attempt in range(MOST_SEARCHES):
            if (search := f"{SEARCH_ID}_{number}_{attempt}") not in results:
                return Call(search, "ToolSearch", {"query": f"select:{name}", "max_results": 1})
    return turn.not_offered(tool)


def _in_order(results: dict[str, Any]) -> list[str]:
    """The texts of a turn's results, up to the first that is not there."""
    found: list[str] = []
    while call_id(len(found)) in results:
        found.append(_text(results[call_id(len(found))]))
    return found


def plan_response(request: dict[str, Any], turn: Turn) -> Say | Call:
    """The answer to a request of the Responses API."""
    flat: set[str] = set()
    tools: list[dict[str, Any]] = request.get("tools") or []
    for tool in tools:
        if tool["type"] == "namespace":
            inside: list[dict[str, Any]] = tool["tools"]
            turn.offered.update(f"{tool['name']}__{inner['name']}" for inner in inside)
        elif "name" in tool:
            flat.add(tool["name"])
    turn.offered |= flat
    items: list[dict[str, Any]] = request["input"]
    turn.told = "\n".join(_text(item["content"]) for item in items if item.get("role") == "user")
    outputs = {item["call_id"]: item["output"] for item in items if item.get("type") == "function_call_output"}
    turn.results = _in_order(outputs)
    wanted = turn.next_call()
    if wanted is None:
        return Say(turn.closing)
    number, name, arguments = wanted
    full = turn.full_name(name)
    if full not in turn.offered:
        return turn.not_offered(name)
    if full in flat:
        return turn.call(number, full, arguments)
    return turn.call(number, name, arguments, namespace=f"mcp__{turn.server}")


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
