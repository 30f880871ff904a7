"""The gateway's tools through real clients of a real hub, with servers on the loopback as providers."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Begin, Peer

TOOLS = ["gateway_complete", "gateway_chat", "gateway_embed", "gateway_health", "gateway_route_preview"]
FIRST = {
    "gateway_complete": ["prompt", "model", "trust", "purpose"],
    "gateway_chat": ["messages", "context"],
    "gateway_embed": ["texts", "model"],
    "gateway_health": [],
    "gateway_route_preview": ["prompt", "model", "trust", "purpose"],
}
BUILT_IN = "gateway: {discover: false}\nproviders: {trial: {kind: built_in}}\n"
NOTHING = "gateway: {discover: false}\n"
RECEIPT = re.compile(r"receipt ([0-9A-Z]{26})")


def with_peers(**peers: Peer) -> str:
    entries = "".join(
        f"  {name}: {{kind: openai_compatible, url: '{peer.url}', order: {place}, "
        f"models: [{{name: m, chat: true, stream: true}}]}}\n"
        for place, (name, peer) in enumerate(peers.items())
    )
    return f"{NOTHING}providers:\n{entries}"


def receipt_of(text: str) -> str:
    found = RECEIPT.search(text)
    assert found, text
    return found[1]


def filed(server: Any) -> list[dict[str, Any]]:
    """The receipts on the disk, the oldest first."""
    lines = [
        line
        for path in sorted((server.home / "gateway" / "receipts").glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [json.loads(line)["receipt"] for line in lines]


# --- What a client sees ---------------------------------------------------------------------------------------------


def test_the_five_tools_are_listed_in_one_order_with_the_arguments_of_the_design_first(server: Any) -> None:
    server.configure(BUILT_IN)
    lists = [server.client(name).request("tools/list")["result"]["tools"] for name in ("one", "two")]
    assert [tool["name"] for tool in lists[0]] == [tool["name"] for tool in lists[1]]
    tools = {tool["name"]: tool for tool in lists[0]}
    assert [name for name in tools if name.startswith("gateway_")] == TOOLS
    for name, first in FIRST.items():
        properties = tools[name]["inputSchema"]["properties"]
        assert list(properties)[: len(first)] == first
        assert tools[name]["title"] == name.replace("_", ".", 1)
        assert all(field.get("description") for field in properties.values())
    assert tools["gateway_complete"]["annotations"] == {
        "title": "gateway.complete",
        "readOnlyHint": False,
        "destructiveHint": False,
        "idempotentHint": False,
        "openWorldHint": True,
    }
    assert tools["gateway_route_preview"]["annotations"]["readOnlyHint"] is True
    assert not [name for name in tools if "consent" in name or "mode" in name or "policy" in name]


def test_a_model_answers_first_and_then_the_gateway_says_who_it_was(server: Any) -> None:
    server.configure(BUILT_IN)
    client = server.client("asking-client")
    result = client.answer(client.start_call("gateway_complete", prompt="What is a heron?"))["result"]
    text, footer = (part["text"] for part in result["content"])
    assert text.endswith("to: What is a heron?")
    assert text.startswith("Built-in answer")
    for word in ("trial/built-in, local", "sent as internal", "free"):
        assert word in footer
    receipt = next(each for each in filed(server) if each["id"] == receipt_of(footer))
    assert (receipt["outcome"], receipt["request"]["client"]) == ("answered", "asking-client")
    assert "gateway.complete" not in json.dumps(receipt)
    assert "a heron" in client.call("gateway.complete", prompt="What is a heron?", model="trial/built-in")
    given: dict[str, Any] = {"max_tokens": 30, "temperature": 0.5, "stop": ["END"], "fallback": False, "budget": 0}
    result = client.answer(client.start_call("gateway_complete", prompt="x", system="Be brief.", json=True, **given))
    assert json.loads(result["result"]["content"][0]["text"])["asked"] == "x"
    asked = filed(server)[-1]["request"]
    assert (asked["json"], asked["max_tokens"], asked["temperature"], asked["stop"]) == (True, 30, 0.5, ["END"])
    assert [turn["role"] for turn in asked["messages"]] == ["system", "user"]


def test_a_client_of_the_era_without_a_handshake_is_answered_in_pieces_too(server: Any) -> None:
    server.configure(BUILT_IN)
    client = server.raw_client()
    meta = {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "modern-client", "version": "1"},
        "progressToken": "t1",
    }
    params = {"name": "gateway_complete", "arguments": {"prompt": "Name a bird."}, "_meta": meta}
    told, result = progress(client, client.start_request("tools/call", params))
    text = result["content"][0]["text"]
    assert text.endswith("Name a bird.")
    assert "".join(each.get("message") or "" for each in told) == text
    assert filed(server)[-1]["request"]["client"] == "modern-client"


def test_a_conversation_is_answered_and_its_wrong_forms_are_told(server: Any) -> None:
    server.configure(BUILT_IN)
    client = server.client()
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Name a bird."}]},
    ]
    assert "Name a bird." in client.call("gateway_chat", messages=turns)
    for messages, words in (
        ([{"role": "robot", "content": "x"}], ["message 1", "'robot'"]),
        ([{"role": "user", "text": "x"}], ["message 1", "'text'"]),
        ([{"role": "user", "content": 5}], ["message 1"]),
        ([], ["no text of a user"]),
        ([{"role": "system", "content": "x"}], ["no text of a user"]),
    ):
        refusal = client.refused("gateway_chat", messages=messages)
        for word in words:
            assert word in refusal, refusal
    assert "'budgets'" in client.refused("gateway_chat", messages=turns, context={"query": "x", "budgets": 5})


def test_texts_become_vectors_in_their_order(server: Any) -> None:
    server.configure(BUILT_IN)
    client = server.client()
    text = client.call("gateway_embed", texts=["herons fish", "ledgers balance", "herons fish"])
    lines = text.splitlines()
    vectors = json.loads(lines[0])
    assert len(vectors) == 3
    assert vectors[0] == vectors[2] != vectors[1]
    assert "3 vectors of 64 numbers; trial/built-in-embed, local" in lines[1]
    assert filed(server)[-1]["request"]["operation"] == "embed"


def test_health_names_each_provider_and_where_it_is(server: Any, peer: Begin) -> None:
    here = peer("hello")
    gone = peer("nobody")
    gone.stop()
    server.configure(with_peers(here=here, gone=gone) + "  trial: {kind: built_in}\n")
    client = server.client()
    text = client.call("gateway_health")
    assert "- here (openai_compatible): local; up" in text
    assert "- gone (openai_compatible): local; down" in text
    assert "- trial (built_in): local; up" in text
    assert "mode normal; policy: the default policy" in text
    assert not here.asked
    assert "built-in answers" in client.call("gateway_health", probe=True)


def test_a_preview_says_what_would_happen_and_sends_nothing(server: Any, peer: Begin) -> None:
    here = peer("hello")
    server.configure(with_peers(here=here))
    client = server.client()
    text = client.call("gateway_route_preview", prompt="Who fishes?", trust="confidential")
    assert "It would be confidential" in text
    assert "1. here/m: local; sent as confidential; free" in text
    assert filed(server)[-1]["outcome"] == "simulated"
    assert filed(server)[-1]["id"] == receipt_of(text)
    down = client.call("gateway_route_preview", prompt="Who fishes?", what_if={"down": ["here"]})
    assert "It would be refused" in down
    assert "switched off" in down
    assert "'nobody'" in client.refused("gateway_route_preview", prompt="x", what_if={"down": ["nobody"]})
    assert "prompt, messages or texts" in client.refused("gateway_route_preview")
    assert not here.asked


# --- What goes wrong ------------------------------------------------------------------------------------------------


def test_without_a_provider_a_request_says_what_was_looked_for_and_how_to_add_one(server: Any) -> None:
    server.configure(NOTHING)
    client = server.client()
    refusal = client.refused("gateway_complete", prompt="hello")
    assert "no provider is configured" in refusal
    assert "config.yaml" in refusal
    assert next(each for each in filed(server) if each["id"] == receipt_of(refusal))["outcome"] == "refused"
    assert "There is no provider of models" in client.call("gateway_health")


def test_an_unknown_model_is_answered_with_the_nearest_names(server: Any) -> None:
    server.configure(BUILT_IN)
    refusal = server.client().refused("gateway_complete", prompt="hello", model="trial/bilt-in")
    assert "trial/built-in" in refusal
    assert RECEIPT.search(refusal)


def test_a_failed_provider_is_followed_by_the_next(server: Any, peer: Begin) -> None:
    broken, well = peer(status=500), peer("all ", "well")
    server.configure(with_peers(broken=broken, well=well))
    client = server.client()
    text = client.call("gateway_complete", prompt="how are you")
    assert text.startswith("all well")
    assert "well/m, local" in text
    assert broken.asked
    refusal = client.refused("gateway_complete", prompt="how are you", model="broken/m")
    assert RECEIPT.search(refusal)
    assert filed(server)[-1]["outcome"] == "failed"


def test_what_is_not_permitted_calls_nobody(server: Any, peer: Begin) -> None:
    here = peer("hello")
    server.configure(with_peers(here=here))
    strict = "version: 1\nrules:\n" + "".join(
        f"  {level}: {{local: deny, hosted: deny}}\n" for level in ("public", "internal", "confidential", "secret")
    )
    (server.home / "policy.yaml").write_text(strict, encoding="utf-8")
    client = server.client()
    for tool, given in (("gateway_complete", {"prompt": "x"}), ("gateway_chat", {"messages": [user("x")]})):
        refusal = client.refused(tool, **given)
        assert "may go to none" in refusal
        assert RECEIPT.search(refusal)
    assert not here.asked


def test_a_broken_policy_refuses_every_request_with_its_line_while_the_memory_goes_on(server: Any, peer: Begin) -> None:
    here = peer("hello")
    server.configure(with_peers(here=here))
    client = server.client()
    client.call("gateway_complete", prompt="fine")
    policy = server.home / "policy.yaml"
    policy.write_text("version: 1\nrules:\n  public: {local: allow}\n", encoding="utf-8")
    before = len(here.asked)
    for tool, given in (
        ("gateway_complete", {"prompt": "x"}),
        ("gateway_embed", {"texts": ["x"]}),
        ("gateway_route_preview", {"prompt": "x"}),
    ):
        refusal = client.refused(tool, **given)
        assert "policy.yaml line" in refusal
        receipt = next(each for each in filed(server) if each["id"] == receipt_of(refusal))
        assert receipt["outcome"] == "refused"
    assert "policy.yaml line" in client.call("gateway_health")
    assert len(here.asked) == before
    written = client.write("The memory goes on")
    assert written in client.call("memory_search", query="memory goes on")
    policy.unlink()
    assert client.call("gateway_complete", prompt="fine again").startswith("hello")


def test_a_mode_that_somebody_sets_holds_for_the_next_request(server: Any) -> None:
    server.configure(BUILT_IN)
    client = server.client()
    assert "mode normal" in client.call("gateway_route_preview", prompt="x")
    server.alg("mode", "offline")
    assert "mode offline" in client.call("gateway_route_preview", prompt="x")
    assert "mode offline" in client.call("gateway_health")
    server.alg("mode", "normal")
    assert "mode normal" in client.call("gateway_route_preview", prompt="x")


# --- Context --------------------------------------------------------------------------------------------------------


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def test_what_the_memory_knows_goes_along_and_raises_the_level(server: Any, peer: Begin) -> None:
    here = peer("ten")
    server.configure(with_peers(here=here))
    client = server.client()
    known = client.write("The pool", body="The pool holds ten connections, says Bo.", trust="confidential")
    asked = [user("How many connections does the pool hold?")]
    text = client.call("gateway_chat", messages=asked, context={"query": "connections of the pool", "budget": 400})
    assert text.startswith("ten")
    assert "sent as confidential" in text
    assert "context: 1 memories" in text
    assert "says Bo" in here.texts()
    receipt = next(each for each in filed(server) if each["id"] == receipt_of(text))
    assert [(ref["id"], ref["level"]) for ref in receipt["context"]] == [(known, "confidential")]
    assert receipt["context"][0]["version"] == server.json("memory", "read", known)["version"]
    assert receipt["level"]["level"] == "confidential"
    assert 0 < receipt["tokens"]["context"] <= 400
    low = client.call("gateway_chat", messages=asked, context={"query": "the pool", "max_trust": "internal"})
    assert "sent as internal" in low
    assert "says Bo" not in json.dumps(here.asked[-1])


def test_a_confidential_context_is_kept_from_a_hosted_provider(server: Any, peer: Begin) -> None:
    here = peer("ten")
    policy = "version: 1\nrules:\n" + "".join(
        f"  {level}: {{local: {'allow' if level in ('public', 'internal') else 'deny'}, hosted: deny}}\n"
        for level in ("public", "internal", "confidential", "secret")
    )
    server.configure(with_peers(here=here))
    (server.home / "policy.yaml").write_text(policy, encoding="utf-8")
    client = server.client()
    client.write("The pool", body="The pool holds ten connections, says Bo.", trust="confidential")
    asked = [user("What of the pool?")]
    refusal = client.refused("gateway_chat", messages=asked, context={"query": "the pool"})
    assert "confidential text" in refusal
    assert not here.asked
    assert client.call("gateway_chat", messages=asked).startswith("ten")


# --- While a model answers ------------------------------------------------------------------------------------------


def progress(client: Any, number: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What came as progress until a request's answer, and that answer."""
    found: list[dict[str, Any]] = []
    while True:
        line = client._lines.get(timeout=60)
        assert line is not None
        message = json.loads(line)
        if message.get("method") == "notifications/progress":
            found.append(message["params"])
        elif message.get("id") == number:
            return found, message["result"]


def until_text(client: Any) -> list[dict[str, Any]]:
    """The progress up to the first that has text of the answer; before that come signs of life where it takes long."""
    found: list[dict[str, Any]] = []
    while not found or not found[-1].get("message"):
        message = json.loads(client._lines.get(timeout=60))
        assert message.get("method") == "notifications/progress", message
        found.append(message["params"])
    return found


def start(client: Any, tool: str, token: str | None, **arguments: Any) -> int:
    params: dict[str, Any] = {"name": tool, "arguments": arguments}
    return client.start_request("tools/call", {**params, **({"_meta": {"progressToken": token}} if token else {})})


def test_a_client_that_asks_for_progress_gets_the_answer_as_it_comes(server: Any, peer: Begin) -> None:
    words = ["One ", "two ", "three ", "four."]
    here = peer(*words)
    here.go_on.clear()
    server.configure(with_peers(here=here))
    client = server.client()
    number = start(client, "gateway_complete", "t1", prompt="count")
    begun = until_text(client)
    assert begun[-1]["message"] == "One "
    here.go_on.set()
    told, result = progress(client, number)
    told = [*begun, *told]
    assert {each["progressToken"] for each in told} == {"t1"}
    assert "".join(each.get("message") or "" for each in told) == "".join(words)
    counts = [each["progress"] for each in told]
    assert counts == sorted(set(counts))
    assert result["content"][0]["text"] == "".join(words)
    assert here.asked[-1]["stream"] is True


def test_a_client_that_asks_for_none_gets_the_answer_alone(server: Any, peer: Begin) -> None:
    here = peer("One ", "two.")
    server.configure(with_peers(here=here))
    client = server.client()
    told, result = progress(client, start(client, "gateway_complete", None, prompt="count"))
    assert told == []
    assert result["content"][0]["text"] == "One two."
    assert not here.asked[-1].get("stream")


def test_a_call_that_the_client_cancels_is_cancelled_at_the_provider(server: Any, peer: Begin) -> None:
    here = peer("One ", "two.")
    here.go_on.clear()
    server.configure(with_peers(here=here))
    client = server.client()
    number = start(client, "gateway_complete", "t1", prompt="count")
    until_text(client)
    client.notify("notifications/cancelled", requestId=number, reason="no longer wanted")
    assert here.left.wait(60)
    server.wait_until(lambda: filed(server), what="the receipt")
    receipt = filed(server)[-1]
    assert receipt["outcome"] == "cancelled"
    here.go_on.set()
    assert client.call("gateway_complete", prompt="again").startswith("One two.")


def test_a_call_of_a_client_that_is_gone_is_cancelled_at_the_provider(server: Any, peer: Begin) -> None:
    here = peer("One ", "two.")
    here.go_on.clear()
    server.configure(with_peers(here=here))
    server.client("stays")
    client = server.client("goes")
    start(client, "gateway_complete", "t1", prompt="count")
    until_text(client)
    client.process.kill()
    assert here.left.wait(60)
    server.wait_until(lambda: filed(server), what="the receipt")
    assert filed(server)[-1]["outcome"] == "cancelled"
    assert server.hub_pid() is not None


def test_a_call_without_progress_is_cancelled_too(server: Any, peer: Begin) -> None:
    here = peer("One ", "two.")
    here.go_on.clear()
    server.configure(with_peers(here=here))
    client = server.client()
    number = start(client, "gateway_chat", None, messages=[user("count")])
    server.wait_until(lambda: here.asked, what="the question at the provider")
    client.notify("notifications/cancelled", requestId=number)
    server.wait_until(lambda: filed(server), what="the receipt")
    assert filed(server)[-1]["outcome"] == "cancelled"


def test_a_hub_that_is_stopped_while_a_model_answers_leaves_a_receipt(server: Any, peer: Begin) -> None:
    here = peer("One ", "two.")
    here.go_on.clear()
    server.configure(with_peers(here=here))
    client = server.client()
    start(client, "gateway_complete", "t1", prompt="count")
    until_text(client)
    server.alg("hub", "stop")
    server.wait_until(lambda: server.hub_pid() is None, what="the hub's end")
    assert here.left.wait(60)
    assert [each["outcome"] for each in filed(server)] == ["cancelled"]
    assert not list((server.home / "gateway" / "open").glob("*.json"))


def test_a_piece_goes_out_although_none_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from adaptive_llm_gateway.server import _mcp_gateway

    told: list[str | None] = []

    class Asking:
        request_context = SimpleNamespace(meta={"progress_token": "t"})

        async def report_progress(self, count: float, message: str | None = None) -> None:
            told.append(message)

    async def until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)

    async def main() -> None:
        asking: Any = Asking()
        async with _mcp_gateway.progress_of(asking) as on_piece:
            assert on_piece is not None
            await until(lambda: len(told) >= 2)
            await on_piece("One ")  # right behind a sign of life
            await until(lambda: "One " in told)
            await on_piece("two ")
            await on_piece("three.")

    monkeypatch.setattr(_mcp_gateway, "_SIGN_OF_LIFE_SECONDS", 0.01)  # a real one would take five seconds
    asyncio.run(main())
    assert told[:2] == [None, None]
    assert "".join(filter(None, told)) == "One two three."


# --- The command line's way -----------------------------------------------------------------------------------------


def test_the_command_line_gets_pieces_and_hanging_up_cancels_the_call(server: Any, peer: Begin) -> None:
    from adaptive_llm_gateway.server._hub_client import HubClient, HubError

    here = peer("One ", "two ", "three.")
    server.configure(with_peers(here=here))
    server.alg("hub", "start")
    pieces: list[str] = []
    with HubClient(str(server.home)) as hub:
        answer = hub.call("gateway_complete", prompt="count", stream=True, on_piece=pieces.append)
        assert "".join(pieces) == answer["text"] == "One two three."
        assert hub.call("gateway_complete", prompt="count")["text"] == "One two three."
        with pytest.raises(HubError) as caught:
            hub.call("gateway_complete", prompt="count", model="nothing", stream=True)
        assert caught.value.error["details"]["receipt"]
        assert hub.call("receipts_list")["receipts"][-1]["client"] == "command-line"
    here.go_on.clear()

    def hang_up(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), HubClient(str(server.home)) as hub:
        hub.call("gateway_chat", messages=[user("count")], stream=True, on_piece=hang_up)
    assert here.left.wait(60)
    with HubClient(str(server.home)) as hub:
        server.wait_until(
            lambda: hub.call("receipts_list")["receipts"][0]["outcome"] == "cancelled", what="the receipt"
        )
