"""Personal data through the hub: every way in raises the level and says so, and the value is in no answer, status or
log but where somebody reads the memory itself.
"""

from __future__ import annotations

import json
import re
from typing import Any

LOCAL = "jane.doe"
EMAIL = LOCAL + "@" + "acme.com"
OTHER = "erika.muster" + "@" + "acme.com"


def trust_of(server: Any, id: str) -> str:
    return server.json("memory", "read", id)["trust"]


def test_the_tools_raise_the_level_and_say_so_and_show_no_value(server: Any) -> None:
    client = server.client()
    told = client.call("memory_write", title="Who to ask", body=f"Ask {EMAIL} first.\n")
    assert "1 of kind email (line " in told
    assert "raised from `internal` to `confidential`" in told
    assert LOCAL not in told
    plain = client.call("memory_write", title="Nobody", body="git@github.com:acme/x.git\n")
    assert "raised" not in plain
    entry = client.call("memory_append_session", text=f"{EMAIL} answered.")
    assert "raised from `internal` to `confidential`" in entry
    offer = client.call("handoff_create", objective=f"Wait for {OTHER} to answer", next_action="Ask again")
    assert "raised from `internal` to `confidential`" in offer
    server.settled()
    status = json.dumps(server.json("memory", "status"))
    logs = "".join(path.read_text(encoding="utf-8", errors="replace") for path in server.home.rglob("*.log"))
    assert not any(name in status + logs for name in (LOCAL, "erika.muster"))


def test_the_command_line_has_it_as_json_and_the_level_can_be_lowered_for_good(server: Any) -> None:
    done = server.json("memory", "write", f"mail {EMAIL}", "--title", "Who to ask")
    assert done["raised"]["from"] == "internal"
    assert done["raised"]["to"] == done["raised"]["wanted"] == "confidential"
    assert done["raised"]["count"] == 1
    (finding,) = done["raised"]["found"]
    assert set(finding) == {"kind", "line", "preview"}
    assert (finding["kind"], finding["preview"]) == ("email", "j…@….com")
    assert LOCAL not in json.dumps(done)
    assert trust_of(server, done["id"]) == "confidential"
    lowered = server.json("memory", "write", "--id", done["id"], "--trust", "internal")
    assert "raised" not in lowered
    server.json("memory", "write", f"still {EMAIL}", "--id", done["id"])
    assert trust_of(server, done["id"]) == "internal"


def test_what_the_gateway_calls_personal_is_so_here_and_it_can_be_switched_off(server: Any) -> None:
    server.configure(f"gateway:\n  personal_data: secret\n  personal_allowed: ['{EMAIL}']\n")
    own = server.json("memory", "write", f"mail {EMAIL}", "--title", "Me")
    assert "raised" not in own
    other = server.json("memory", "write", f"mail {OTHER}", "--title", "Another")
    assert other["raised"]["to"] == trust_of(server, other["id"]) == "secret"
    server.alg("hub", "stop")
    server.configure("memory:\n  personal_data: off\n")
    off = server.json("memory", "write", f"mail {OTHER}", "--title", "Off")
    assert "raised" not in off
    assert trust_of(server, off["id"]) == "internal"


def test_a_summary_is_raised_with_the_log_that_it_repeats(server: Any) -> None:
    client = server.client()
    session = re.findall(r"session_id ([0-9A-Z]{26})", client.call("memory_append_session", text="We begin."))[0]
    client.call("memory_compact_session", session=session)
    client.call("memory_append_session", text=f"{EMAIL} answered.", session_id=session)
    (summary,) = [
        row for row in server.json("memory", "list", "--type", "note")["memories"] if row["title"].startswith("Summary")
    ]
    assert summary["trust"] == "confidential"
