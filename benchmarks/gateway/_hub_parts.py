"""The gateway as clients have it: through the hub over stdio, with its start and its memory."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import yaml
from _bench import Bench, Size
from _calls import Amount, prompt
from _client import Client
from _endpoint import model_names, pieces
from _home import LOCAL
from _measure import Row, memory_of, milliseconds, row

_MODEL = f"desk/{model_names('desk')[0]}"
_NO_VECTORS = {"ALG_EMBEDDER__KIND": "none"}


def start(root: str, folder: Path, amount: Amount) -> list[Row]:
    """A hub's start with and without providers, its first request to a model, and what that adds to its memory."""
    bench = _bench(folder)
    homes = {"no provider": _made(bench, "bare", None), "three providers": _made(bench, "full", root)}
    initialized: dict[str, list[float]] = {name: [] for name in homes}
    first: list[float] = []
    second: list[float] = []
    grown: list[float] = []
    at_rest: dict[str, list[float]] = {name: [] for name in homes}
    for turn in range(amount.starts + 1):
        for name, home in homes.items():
            began = time.perf_counter()
            with bench.client(home, handshake=False, env=_NO_VECTORS) as client:
                client.initialize()
                took = (time.perf_counter() - began) * 1_000
                client.request("tools/list")
                pid = bench.hub_pid(home)
                before = memory_of(pid).rss
                if turn:
                    initialized[name].append(took)
                    at_rest[name].append(before)
                if name != "no provider":
                    times: list[float] = []
                    for number in range(2):
                        with milliseconds(times):
                            _complete(client, prompt(2_000, number))
                    if turn:
                        first.append(times[0])
                        second.append(times[1])
                        grown.append(memory_of(pid).rss - before)
            bench.run(home, "hub", "stop")
    bare = row("hub, no provider configured: start to `initialize` answered", "ms", initialized["no provider"])
    rest = row("hub, no provider configured: resident", "MB", at_rest["no provider"])
    return [
        row(
            "hub, three providers configured: start to `initialize` answered",
            "ms",
            initialized["three providers"],
            against=bare,
        ),
        bare,
        row("hub, three providers configured: resident", "MB", at_rest["three providers"], against=rest),
        rest,
        row(
            "its first `gateway_complete`",
            "ms",
            first,
            note="libraries and the tokenizer are loaded, and providers are asked for models; a hub does the loading "
            "ahead, 2 s after its start",
        ),
        row("its second", "ms", second),
        row("growth of the hub by these, resident", "MB", grown),
    ]


def hub(root: str, folder: Path, amount: Amount) -> list[Row]:
    """`gateway_complete` through the hub, beside the same request by raw HTTP and a request that does nothing."""
    import httpx2  # noqa: PLC0415 - the other parts load it later

    bench = _bench(folder)
    home = _made(bench, "hub", root)
    samples: dict[str, list[float]] = {"raw": [], "nothing": [], "tool": []}
    url = f"{root}/desk/v1/chat/completions"
    bench.run(home, "hub", "start", **_NO_VECTORS)
    try:
        with bench.client(home, env=_NO_VECTORS) as client, httpx2.Client(trust_env=False, timeout=60) as raw:
            for number in range(-10, amount.hub_calls):
                text = prompt(2_000, number + 10)
                asked = {"model": _MODEL.partition("/")[2], "messages": [{"role": "user", "content": text}]}
                taken: dict[str, list[float]] = {name: [] for name in samples}
                with milliseconds(taken["raw"]):
                    answer: Any = raw.post(url, json={**asked, "max_tokens": 64}).json()
                assert answer["choices"][0]["message"]["content"] == "".join(pieces(text, 64))
                with milliseconds(taken["nothing"]):
                    client.request("ping")
                with milliseconds(taken["tool"]):
                    _complete(client, text)
                for name in samples if number >= 0 else ():
                    samples[name] += taken[name]
    finally:
        bench.run(home, "hub", "stop")
    floor = row("raw HTTP, 2 kB prompt", "ms", samples["raw"], of="floor")
    nothing = row("no-op request through stdio", "ms", samples["nothing"], of="floor")
    added = [tool - direct for tool, direct in zip(samples["tool"], samples["raw"], strict=True)]
    return [
        row("`gateway_complete`, 2 kB prompt", "ms", samples["tool"], against=floor),
        floor,
        nothing,
        row("`gateway_complete`: added to raw HTTP", "ms", added, note="the shim, the hub and MCP are in it"),
    ]


def _complete(client: Client, text: str) -> None:
    answer = client.call("gateway_complete", prompt=text, model=_MODEL, max_tokens=64)
    if "".join(pieces(text, 64)) not in answer:
        raise RuntimeError("`gateway_complete` gave another answer than the endpoint")


def _bench(folder: Path) -> Bench:
    folder.mkdir(parents=True, exist_ok=True)
    return Bench(folder, Size())


def _made(bench: Bench, name: str, root: str | None) -> Path:
    """A home without memories, whose local providers are at the endpoint."""
    home = bench.root / name
    bench.run(home, "init", "--yes", **_NO_VECTORS)
    bench.run(home, "hub", "stop")
    providers = {each: {"kind": "openai_compatible", "url": f"{root}/{each}/v1"} for each in LOCAL}
    section: dict[str, Any] = {"gateway": {"discover": False}, **({"providers": providers} if root else {})}
    path = home / "config.yaml"
    given = yaml.safe_load(path.read_text("utf-8")) if path.exists() else None
    path.write_text(yaml.safe_dump({**(given or {}), **section}), "utf-8")
    return home
