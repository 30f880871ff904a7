"""Two agents share a memory and a piece of work: what Claude Code writes, Codex finds a moment later; what Claude Code
cannot finish, Codex takes over; and git says who did what and why.

Run it with the Python that the gateway is installed in; it uses your home (or $ADAPTIVE_LLM_GATEWAY_HOME), starts the
hub if there is none, and takes its memories away again at the end (the history keeps them). It fails if anything it
says is not so.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from mcp import StdioServerParameters, stdio_client
from mcp.client.client import Client
from mcp_types import Implementation

ALG = str(Path(sys.executable).with_name("alg"))


def agent(name: str) -> Client:
    """An MCP client that starts the gateway as Claude Code or Codex would, under its own name."""
    server = stdio_client(StdioServerParameters(command=ALG, args=["serve"], env=dict(os.environ)))
    return Client(server, client_info=Implementation(name=name, version="1.0"))


async def call(client: Client, tool: str, **arguments: object) -> str:
    """Call a tool; the text of its answer."""
    result = await client.call_tool(tool, arguments)
    text = "".join(part.text for part in result.content if part.type == "text")
    assert not result.is_error, text
    return text


async def main() -> None:
    async with agent("claude-code") as claude, agent("codex") as codex:
        written = await call(
            claude,
            "memory_record_decision",
            title="The walrus project stores dates in UTC",
            rationale="Two offices in different time zones read the same rows.",
            project="walrus",
            reason="decided while fixing the report",
        )
        found_id = re.search(r"id ([0-9A-Z]{26})", written)
        assert found_id, written
        identifier = found_id[1]
        print(f"claude-code  wrote  {identifier}")

        found = await call(codex, "memory_search", query="which time zone do our timestamps have?", project="walrus")
        assert identifier in found and "decided while fixing the report" in found, found
        mode = "hybrid" if "(hybrid search)" in found else "lexical"
        print(f"codex        found  {identifier} ({mode} search)")

        whole = await call(codex, "memory_read", id=identifier)
        assert "Two offices in different time zones" in whole, whole
        print("codex        read   it whole")

        result = await codex.call_tool(
            "memory_context",
            {"query": "how does the report treat time zones?", "budget_tokens": 300, "project": "walrus"},
        )
        package = (result.meta or {})["adaptive-llm-gateway/package"]
        assert package["used"] <= 300, package
        assert identifier in [source["id"] for source in package["sources"]], package
        print(f"codex        asked  for what it needs to know: {package['stats']}")

        history = await call(codex, "memory_history", id=identifier)
        assert "claude-code" in history and "decided while fixing the report" in history, history

        paths = json.loads(subprocess.run([ALG, "path", "--json"], capture_output=True, text=True, check=True).stdout)
        log = subprocess.run(
            ["git", "-C", paths["memory"], "log", "-1", "--format=%an: %s%n%(trailers)", "--grep", identifier],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert log.startswith("claude-code: ") and "Reason: decided while fixing the report" in log, log
        print("git log      says   " + log.strip().replace("\n", "\n                    "))

        handoff = await hand_over(claude, codex, identifier)

        shown = subprocess.run([ALG, "handoff", "show", handoff, "--json"], capture_output=True, text=True, check=True)
        events = [step["id"] for step in json.loads(shown.stdout)["steps"]]
        for each in (handoff, *events, identifier):
            await call(claude, "memory_delete", id=each, reason="the example is over")
        listed = await call(codex, "handoff_list", project="walrus", state="offered,claimed,done,damaged")
        assert handoff not in listed, listed
        print("claude-code  took all of it away again; `git log` in the memory repo keeps it")


async def hand_over(claude: Client, codex: Client, decision: str) -> str:
    """Claude Code offers the rest of its work, Codex takes it over and finishes it; the handoff's id."""
    offered = await call(
        claude,
        "handoff_create",
        objective="The walrus report shows every date in UTC",
        next_action="Convert the totals at the foot of the report",
        decisions=[decision],
        project="walrus",
        to="codex",
    )
    found_id = re.search(r"id ([0-9A-Z]{26})", offered)
    assert found_id, offered
    handoff = found_id[1]
    print(f"claude-code  offered {handoff}: its unfinished work")

    # Provisional, for this home may have a remote that is out of reach now.
    asked = {"project": "walrus", "budget_tokens": 500, "provisional": True}
    result = await codex.call_tool("handoff_claim", asked)
    claimed = "".join(part.text for part in result.content if part.type == "text")
    assert not result.is_error and handoff in claimed, claimed
    assert "Convert the totals" in claimed and "Two offices in different time zones" in claimed, claimed
    about = (result.meta or {})["adaptive-llm-gateway/handoff"]
    assert about["state"] == "claimed" and about["used"] <= 500, about
    print(f"codex        claimed it, with what it needs to know in {about['used']} of 500 tokens")

    refused = await claude.call_tool("handoff_complete", {"id": handoff, "result": "not mine any more"})
    assert refused.is_error, refused

    await call(codex, "handoff_update", id=handoff, text="The totals are converted.")
    finished = await call(codex, "handoff_complete", id=handoff, result="Every date is in UTC.")
    assert "done by codex" in finished, finished
    seen = await call(claude, "handoff_list", id=handoff)
    assert "The totals are converted." in seen and "Every date is in UTC." in seen, seen
    print("codex        reported on it and finished it, and claude-code sees that")
    return handoff


if __name__ == "__main__":
    asyncio.run(main())
