"""`alg secrets allow | list | revoke` through real hubs, and what a model is told of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import SecretScanner, parse_allowances
from adaptive_llm_gateway.server._gateway_live import LiveScanner

ALG = str(Path(sys.executable).with_name("alg"))
# In two pieces, so that no scanner takes this file for a leak.
TOKEN = "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a"
FINGERPRINT = SecretScanner().scan(TOKEN)[0].fingerprint


def failed(server: Any, *arguments: str) -> tuple[int, dict[str, Any]]:
    done = server.alg(*arguments, "--json", check=False)
    assert TOKEN not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)["error"]


def in_file(server: Any) -> Path:
    return server.home / "memory" / "secrets-allowed.yaml"


def listed(server: Any, *arguments: str) -> dict[str, str]:
    found = server.json("secrets", "list", *arguments)
    return {item["fingerprint"]: item["state"] for item in found["allowances"]}


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_the_refusal_names_the_command_to_people_and_after_it_the_text_passes(server: Any) -> None:
    refused = server.alg("memory", "write", f"sample {TOKEN}", "--title", "Sample", check=False)
    assert refused.returncode == 5
    assert f"If it is no secret: `alg secrets allow {FINGERPRINT} --reason WHY`" in refused.stderr
    assert "pass --redact to store a mark" in refused.stderr
    done = server.json("secrets", "allow", FINGERPRINT, "--reason", "of the manual", "--by", "Ada")
    (entry,) = done["allowed"]
    assert (entry["outcome"], entry["kind"], entry["by"], entry["repo"]) == (
        "allowed", "github-token", "Ada", "personal",
    )  # fmt: skip
    assert server.json("memory", "write", f"sample {TOKEN}", "--title", "Sample")["id"]
    (shown,) = server.json("secrets", "list")["allowances"]
    assert (shown["state"], shown["reason"], shown["until"]) == ("in_force", "of the manual", entry["until"])
    text = server.alg("secrets", "list").stdout
    assert all(word in text for word in (FINGERPRINT, "of the manual", "Ada", "github-token", "allowed"))
    log = git(server.home / "memory", "log", "--format=%s", "--", "secrets-allowed.yaml")
    assert log == f"Allow {FINGERPRINT} (github-token): of the manual\n"
    revoked = server.alg("secrets", "revoke", FINGERPRINT)
    assert revoked.stdout == f"revoked {FINGERPRINT} in personal\n"
    assert "what it let pass stays where it is" in revoked.stderr
    assert "nothing is allowed" in server.alg("secrets", "list").stderr
    assert failed(server, "memory", "write", f"other {TOKEN}", "--title", "Other")[0] == 5
    assert listed(server) == {}


def test_without_a_hub_the_commands_start_one_and_a_hub_that_starts_knows_what_was_allowed(server: Any) -> None:
    server.json("secrets", "allow", FINGERPRINT, "--reason", "a sample", "--until", "never")
    server.alg("hub", "stop")
    in_file(server).write_text(
        in_file(server).read_text(encoding="utf-8") + f"# by hand\n- fingerprint: {'0' * 16}\n  reason: mine\n",
        encoding="utf-8",
    )
    assert listed(server) == {FINGERPRINT: "in_force", "0" * 16: "in_force"}
    server.alg("hub", "stop")
    server.alg("secrets", "revoke", "0" * 16)
    assert [item.fingerprint for item in parse_allowances(in_file(server).read_text(encoding="utf-8"))] == [FINGERPRINT]
    assert "# by hand" in in_file(server).read_text(encoding="utf-8")
    assert server.json("memory", "write", TOKEN, "--title", "Sample")["id"]


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (["allow", "0123", "--reason", "a"], 2, "invalid_input"),
        (["allow", FINGERPRINT], 2, "invalid_input"),
        (["allow", FINGERPRINT, "--reason", " "], 2, "invalid_input"),
        (["allow", FINGERPRINT, "--reason", "a", "--until", "2020-01-01"], 2, "invalid_input"),
        (["allow", FINGERPRINT, "--reason", "a", "--until", "soon"], 2, "invalid_input"),
        (["allow", FINGERPRINT, "--reason", f"it is {TOKEN}"], 5, "secret_refused"),
        (["allow", FINGERPRINT, "--reason", "a", "--repo", "team"], 2, "invalid_input"),
        (["revoke", FINGERPRINT], 3, "not_found"),
    ],
)
def test_what_is_refused_has_its_exit_code_and_leaves_no_file(
    server: Any, arguments: list[str], code: int, name: str
) -> None:
    found, error = failed(server, "secrets", *arguments)
    assert (found, error["code"]) == (code, name)
    assert not in_file(server).exists()


def test_several_are_allowed_at_once_and_long_ended_ones_are_listed_when_asked_for(server: Any) -> None:
    server.json("memory", "status")
    in_file(server).write_text(
        f"- fingerprint: {'a' * 16}\n  reason: long ago\n  until: 2020-01-01\n", encoding="utf-8"
    )
    server.json("secrets", "allow", "b" * 16, "c" * 16, "--reason", "two samples")
    assert listed(server) == {"b" * 16: "in_force", "c" * 16: "in_force"}
    assert listed(server, "--all")["a" * 16] == "ended"
    assert "1 that ended long ago left out" in server.alg("secrets", "list").stderr


def test_a_broken_list_is_told_by_the_commands_the_status_and_doctor_with_and_without_a_hub(server: Any) -> None:
    server.json("memory", "status")
    in_file(server).write_text(f"- fingerprint: {TOKEN}\n  reason: pasted\n", encoding="utf-8")
    found = server.wait_until(lambda: server.json("secrets", "list")["problems"], what="the problem")
    assert "line 1" in found[0]["message"]
    assert failed(server, "secrets", "allow", FINGERPRINT, "--reason", "a")[1]["code"] == "config"
    server.wait_until(lambda: server.json("memory", "status")["notices"], what="the notice")
    for _ in range(2):
        told = server.alg("doctor", check=False).stdout
        assert "no finding of secrets is allowed" in told
        assert TOKEN not in told
        server.alg("hub", "stop")


def test_a_model_is_told_to_leave_it_to_the_person_and_has_no_tool_for_it(server: Any) -> None:
    client = server.client("claude-code")
    for arguments in ({"body": f"sample {TOKEN}"}, {"body": "a sample", "tags": [TOKEN]}):
        told = client.refused("memory_write", title="Sample", **arguments)
        assert FINGERPRINT in told
        assert "leave it to the person" in told
        assert "secrets allow" not in told
        assert "secrets-allowed.yaml" not in told
    names = [tool["name"] for tool in client.request("tools/list")["result"]["tools"]]
    assert "memory_write" in names
    assert not any("allow" in name or "secret" in name for name in names)


def test_the_gateway_takes_what_the_person_has_agreed_to_of_their_own_repo(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    file = tmp_path / "secrets-allowed.yaml"
    scanner = LiveScanner()
    file.write_text(f"- fingerprint: {FINGERPRINT}\n  reason: a sample\n", encoding="utf-8")
    scanner.use(file)
    assert scanner.scan(TOKEN) == ()
    (tmp_path / ".git" / "alg-allowances.json").write_text(
        json.dumps({"waiting": {FINGERPRINT: None}}), encoding="utf-8"
    )
    scanner.use(file)
    assert len(scanner.scan(TOKEN)) == 1
    file.write_text(f"- fingerprint: {FINGERPRINT}\n  reason: a sample\n  until: 2020-01-01\n", encoding="utf-8")
    (tmp_path / ".git" / "alg-allowances.json").unlink()
    scanner.use(file)
    assert len(scanner.scan(TOKEN)) == 1


def test_with_several_repos_each_has_a_list_of_its_own_and_the_refusal_names_the_repo(server: Any) -> None:
    server.configure("repos:\n  team:\n    projects: [acme]\n")
    refused = server.alg(
        "memory", "write", f"sample {TOKEN}", "--title", "Sample", "--project", "acme", check=False
    )  # fmt: skip
    assert f"`alg secrets allow {FINGERPRINT} --repo team --reason WHY`" in refused.stderr
    server.json("secrets", "allow", FINGERPRINT, "--reason", "mine")
    assert failed(server, "memory", "write", TOKEN, "--title", "Sample", "--project", "acme")[0] == 5
    assert server.json("memory", "write", TOKEN, "--title", "Mine")["repo"] == "personal"
    server.json("secrets", "allow", FINGERPRINT, "--reason", "of the team", "--repo", "team")
    assert server.json("memory", "write", TOKEN, "--title", "Sample", "--project", "acme")["repo"] == "team"
    found = server.json("secrets", "list")["allowances"]
    assert {(item["repo"], item["reason"]) for item in found} == {("personal", "mine"), ("team", "of the team")}
    assert [item["repo"] for item in server.json("secrets", "list", "--repo", "team")["allowances"]] == ["team"]
    code, error = failed(server, "secrets", "revoke", FINGERPRINT)
    assert (code, "--repo" in error["hint"]) == (2, True)
    server.alg("secrets", "revoke", FINGERPRINT, "--repo", "personal")
    assert server.json("secrets", "revoke", FINGERPRINT)["repo"] == "team"
    assert failed(server, "secrets", "revoke", FINGERPRINT)[0] == 3
