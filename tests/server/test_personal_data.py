"""Personal data through the hub: every way in raises the level and says so, and the value is in no answer, status or
log but where somebody reads the memory itself.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
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


# --- alg secrets scan --personal ------------------------------------------------------------------------------


def test_a_scan_lists_personal_data_as_a_class_of_its_own_and_exits_as_without_it(server: Any, tmp_path: Path) -> None:
    file = tmp_path / "who.md"
    file.write_text(f"# Who\n\nmail {EMAIL}\nor git@github.com\n", encoding="utf-8")
    found = server.json("secrets", "scan", str(tmp_path / "who.md"), "--personal")
    assert found["findings"] == []
    assert found["personal"] == [
        {"path": str(file), "line": 3, "class": "personal", "kind": "email", "preview": "j…@….com"}
    ]
    told = server.alg("secrets", "scan", str(file), "--personal")
    assert told.stdout == f"{file}:3: personal email j…@….com\n"
    assert "1 piece of personal data" in told.stderr
    assert LOCAL not in told.stdout + told.stderr
    assert "personal" not in server.json("secrets", "scan", str(file))


def test_a_scan_for_personal_data_still_finds_credentials_and_heeds_allowed_addresses(
    server: Any, tmp_path: Path
) -> None:
    server.configure(f"gateway:\n  personal_allowed: ['{EMAIL}']\n")
    token = "gh" + "p_" + "x8Kd02LmQz71RtVb64NcYw93HsPfJe5UaTgi"
    (tmp_path / "a.md").write_text(f"mail {EMAIL}, {token}\n", encoding="utf-8")
    done = server.alg("secrets", "scan", str(tmp_path / "a.md"), "--personal", "--json", check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["personal"]) == (5, [])
    assert found["findings"][0]["kind"] == "github-token"
    refused = server.alg("secrets", "scan", "--staged", "--personal", check=False)
    assert refused.returncode == 2
    assert "--personal" in refused.stderr
