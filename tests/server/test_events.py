"""Changes by HTTP, with real hubs and real tokens: told once, in order, over every end of client and hub."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import Any

from events_made import Listener, Socket, Stream, since

JSON = {"Content-Type": "application/json"}
ALL = "memory:read,memory:write,handoff"


def token_of(server: Any, name: str, *more: str, scope: str = ALL) -> str:
    return str(server.json("clients", "add", name, "--scope", scope, *more)["token"])


def write(web: Any, token: str, title: str, **given: Any) -> str:
    body = json.dumps({"type": "note", "title": title, **given}).encode()
    answer = web.request("POST", "/api/v1/memories", body, token=token, headers=JSON)
    assert answer.status == 201, answer.body
    return str(answer.json()["id"])


def changes(web: Any, token: str, id: str | None = None, **query: Any) -> Any:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    answer = web.request("GET", f"/api/v1/changes{since(id) if id else '?'}{more}", token=token)
    assert answer.status == 200, answer.body
    return answer.json()


def titles(found: list[dict[str, Any]]) -> list[str]:
    return [each["title"] for each in found]


def push_elsewhere(remote: Path, folder: Path, title: str) -> None:
    """A team mate's plain git pushes a memory."""

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, timeout=60)

    if not folder.exists():
        subprocess.run(["git", "clone", "-q", str(remote), str(folder)], check=True, capture_output=True, timeout=60)
    git("pull", "-q")
    file = folder / "notes" / "2026" / "11" / f"{title.lower().replace(' ', '-')}.md"
    file.parent.mkdir(parents=True, exist_ok=True)
    number = f"{len(list(folder.rglob('*.md'))):010d}"
    file.write_text(
        f"---\nid: 01JD000000000000{number}\ntype: note\ntitle: {title}\ncreated: 2026-11-20T10:00:00Z\n"
        "updated: 2026-11-20T10:00:00Z\nauthor:\n  client: mate\n---\nText.\n",
        encoding="utf-8",
    )
    git("add", "-A")
    git("commit", "-qm", f"Write {title}")
    git("push", "-q", "origin", "HEAD:main")


def test_whoever_writes_it_is_told_once_and_in_order_over_both_kinds_of_stream(server: Any, tmp_path: Path) -> None:
    """By MCP, by REST, by hand, and by a pull from a remote; and again to those who only look now and then."""
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True, timeout=60)
    server.configure(f"sync:\n  remote: {remote}\n  interval_seconds: 0\n")
    web = server.web()
    token = token_of(server, "watcher", "--max-trust", "secret")
    mcp = server.client("codex")
    mcp.write("To begin with")
    mcp.call("memory_push")
    begin = changes(web, token)["next_id"]
    with Stream(web, token) as stream, Socket(web, token) as socket:
        socket.kind("ready")
        listeners: list[Listener] = [stream, socket]

        def told(expected: list[tuple[str, str, str | None]]) -> None:
            for each in listeners:
                found = each.events(len(expected))
                assert [(event["kind"], event["title"], event["by"]) for event in found] == expected, each

        first = mcp.write("By MCP", reason="to see")
        told([("created", "By MCP", "codex")])
        write(web, token, "By REST")
        told([("created", "By REST", "watcher")])
        (file,) = server.repo.rglob(f"*{first[-8:].lower()}.md")
        file.write_text(file.read_text(encoding="utf-8") + "More by hand.\n", encoding="utf-8")
        told([("updated", "By MCP", "editor")])
        push_elsewhere(remote, tmp_path / "mate", "By a mate")
        mcp.call("memory_pull")
        for each in listeners:
            (event,) = each.events(1)
            assert (event["kind"], event["title"]) == ("created", "By a mate")
        mcp.call("memory_delete", id=first, reason="not needed")
        told([("deleted", "By MCP", "codex")])
        assert set(stream.names[1:]) == {"memory"}
    page = changes(web, token, begin)
    assert sorted((each["kind"], each["title"]) for each in page["events"]) == [
        ("created", "By REST"),
        ("created", "By a mate"),
    ]
    assert not page["more"]


def test_a_hub_that_is_killed_loses_nothing_and_tells_nothing_twice(server: Any) -> None:
    web = server.web()
    token = token_of(server, "watcher")
    mcp = server.client("codex")
    last = changes(web, token)["next_id"]
    made: list[str] = []
    seen: list[str] = []
    for number in range(4):
        listener = Socket(web, token, since(last)) if number % 2 else Stream(web, token, last_id=last)
        with listener:
            made += [mcp.write(f"While somebody listens {number} {each}") for each in range(3)]
            for event in listener.events(2):  # the others may have come, and were not looked at
                seen.append(event["memory"])
                last = event["id"]
            server.kill_hub()
        made += [mcp.write(f"While nobody listens {number} {each}") for each in range(2)]
        web = server.web()
    seen += [event["memory"] for event in changes(web, token, last)["events"]]
    assert seen == made


def test_each_client_is_told_what_its_token_lets_it_see_also_when_that_changes(server: Any) -> None:
    web = server.web()
    every = token_of(server, "all", "--max-trust", "secret")
    low = token_of(server, "low", "--max-trust", "internal")
    alpha = token_of(server, "alpha", "--project", "alpha", "--max-trust", "secret")
    with Stream(web, every) as all_, Stream(web, low) as low_, Socket(web, alpha) as alpha_:
        alpha_.kind("ready")
        plain = write(web, every, "Plain")
        write(web, every, "Of alpha", project="alpha", trust="secret")
        write(web, every, "Of beta", project="beta", trust="public")
        assert titles(all_.events(3)) == ["Plain", "Of alpha", "Of beta"]
        assert titles(low_.events(2)) == ["Plain", "Of beta"]
        assert titles(alpha_.events(1)) == ["Of alpha"]
        patch = json.dumps({"trust": "confidential", "project": "alpha", "title": "Hidden"}).encode()
        assert web.request("PATCH", f"/api/v1/memories/{plain}", patch, token=every, headers=JSON).status == 200
        (gone,) = low_.events(1)
        assert gone.keys() == {"id", "kind", "time", "memory", "type"}
        assert (gone["kind"], gone["memory"]) == ("deleted", plain)
        (came,) = alpha_.events(1)
        assert (came["kind"], came["memory"], came["title"]) == ("created", plain, "Hidden")
        assert [event["kind"] for event in all_.events(1)] == ["updated"]


def test_filters_narrow_what_is_told(server: Any) -> None:
    web = server.web()
    token = token_of(server, "watcher")
    with (
        Stream(web, token, "?type=task,decision") as typed,
        Stream(web, token, "?project=alpha&project=beta") as of_projects,
    ):
        write(web, token, "A note", project="beta")
        write(web, token, "A task", type="task")
        assert titles(typed.events(1)) == ["A task"]
        assert titles(of_projects.events(1)) == ["A note"]
    assert titles(changes(web, token, of_projects.last_id)["events"]) == ["A task"]


def test_what_cannot_be_asked_for_is_refused_as_any_request_is(server: Any) -> None:
    web = server.web()
    token = token_of(server, "watcher")
    for query in ("type=walrus", "colour=red", "since_id=a&since_id=b", "since_id=%FF", "type=" + "x" * 7000):
        answer = web.request("GET", f"/api/v1/events?{query}", token=token)
        assert answer.status == 422, query
        assert answer.headers["content-type"] == "application/problem+json"
        assert "x" * 100 not in answer.body.decode()
        socket = Socket(web, token, f"?{query}")
        assert socket.status == 422, query
        assert json.loads(socket.body)["status"] == 422


def test_an_id_that_nobody_gave_is_answered_with_a_reset(server: Any) -> None:
    web = server.web()
    token = token_of(server, "watcher")
    for id in ("x", "%00", "AAAA" * 100, "-" * 7000, "%C3%A9", "1%27%20or%201=1", "%0d%0aevent:%20x"):
        (told,) = changes(web, token, None, since_id=id)["events"]
        assert (told["kind"], told["why"]) == ("reset", "unknown"), id
        with Stream(web, token, f"?since_id={id}") as stream, Socket(web, token, f"?since_id={id}") as socket:
            for each in (stream, socket):
                assert each.kind("reset")["why"] == "unknown", id
            write(web, token, "Later")
            assert [titles(each.events(1)) for each in (stream, socket)] == [["Later"], ["Later"]], id


def test_nobody_listens_without_a_token_that_lets_it_read(server: Any) -> None:
    web = server.web()
    writer = token_of(server, "writer", scope="memory:write")
    for path in ("/api/v1/events", "/api/v1/changes"):
        assert web.request("GET", path).status == 401
        assert web.request("GET", path, token=writer).status == 403
        assert web.request("GET", f"{path}?access_token={writer}").status == 401
    assert Socket(web, None).status == 401
    assert Socket(web, writer).status == 403
    assert Socket(web, None, f"?token={writer}").status == 401


def test_a_page_gives_its_token_among_the_subprotocols_and_only_where_its_origin_may(server: Any) -> None:
    page = "https://tools.example.org"
    web = server.web(allowed_origins=[page])
    token = token_of(server, "page")
    offered = f"alg.events.v1, alg.token.{token}"
    with Socket(web, None, protocols=offered, Origin=page) as socket:
        assert socket.status == 101
        assert socket.headers["sec-websocket-protocol"] == "alg.events.v1"
        socket.kind("ready")
        write(web, token, "Told to a page")
        assert titles(socket.events(1)) == ["Told to a page"]
    assert Socket(web, None, protocols=offered, Origin="https://evil.example.org").status == 403
    assert Socket(web, None, protocols=f"{offered}, alg.token.{token}", Origin=page).status == 401
    assert Socket(web, None, protocols="alg.events.v1, alg.token.x", Origin=page).status == 401
    assert token not in "".join(path.read_text("utf-8") for path in (server.home / "logs").iterdir())


def test_a_token_that_is_revoked_ends_what_was_begun_with_it(server: Any) -> None:
    web = server.web()
    token, other = token_of(server, "watcher"), token_of(server, "other")
    with Stream(web, token) as stream, Socket(web, token) as socket, Stream(web, other) as stays:
        socket.kind("ready")
        server.alg("clients", "revoke", "watcher")
        assert (stream.ended() or {}).get("why") == "token"
        socket.ended()
        assert socket.code == 4401
        write(web, other, "Only for the others")
        assert titles(stays.events(1)) == ["Only for the others"]


def test_a_hub_that_stops_says_so_to_those_who_listen(server: Any) -> None:
    web = server.web()
    token = token_of(server, "watcher")
    with Stream(web, token) as stream, Socket(web, token) as socket:
        socket.kind("ready")
        server.alg("hub", "stop")
        assert (stream.ended() or {}).get("why") == "stopping"
        socket.ended()
        assert socket.code == 1012
    log = (server.home / "logs" / "hub.log").read_text("utf-8")
    assert "Traceback" not in log
    assert "stopped" in log


def test_a_client_with_a_websocket_only_listens(server: Any) -> None:
    web = server.web()
    token = token_of(server, "watcher")
    for opcode in (1, 2):
        with Socket(web, token) as socket:
            socket.kind("ready")
            socket.send(b"ping?", opcode=9)
            write(web, token, "Still there")
            assert titles(socket.events(1)) == ["Still there"]
            socket.send(b"{}", opcode=opcode)
            socket.ended()
            assert socket.code == 1003
        with Socket(web, token) as socket:
            socket.kind("ready")
            with contextlib.suppress(OSError):  # it need not be read to its end
                socket.send(b"x" * 200_000, opcode=opcode)
            socket.ended()
            assert socket.code in (1009, None)
    assert write(web, token, "The hub goes on")


def test_as_many_may_listen_as_is_set(server: Any) -> None:
    web = server.web(max_event_streams=3, max_event_streams_per_client=2)
    one, other, third = (token_of(server, name) for name in ("one", "other", "third"))
    with Stream(web, one), Stream(web, one):
        answer = web.request("GET", "/api/v1/events", token=one)
        assert (answer.status, answer.headers["retry-after"]) == (429, "10")
        assert Socket(web, one).status == 429
        with Stream(web, other):
            assert web.request("GET", "/api/v1/events", token=third).status == 429
        assert changes(web, one)["events"] == []

    def has_room() -> bool:
        try:
            Stream(web, one).close()
        except AssertionError:
            return False
        return True

    server.wait_until(has_room, what="room for another")
