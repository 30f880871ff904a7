"""`alg init`, `alg hub` and `alg doctor` with real hubs."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptive_llm_gateway.core import ConfigError, Home, ProcessLock, load_settings
from adaptive_llm_gateway.server._cli_setup import default_config, with_remote

ALG = str(Path(sys.executable).with_name("alg"))
REMOTE = "ssh://git@example.org/memory.git"


def on_a_terminal(*arguments: str, typed: str = "") -> tuple[int, str]:
    """Run the command line with a terminal for everything; its exit code, and what the terminal showed."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([ALG, *arguments], stdin=follower, stdout=follower, stderr=follower, close_fds=True)
    os.close(follower)
    os.write(leader, typed.encode())
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end was closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    return process.wait(timeout=60), shown.decode("utf-8").replace("\r\n", "\n")


def checks(server: Any) -> dict[str, Any]:
    done = server.alg("doctor", "--json", check=False)
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["ok"] else 1)
    return {check["name"]: check for check in report["checks"]}


# --- init -----------------------------------------------------------------------------------------------------


def test_init_makes_a_home_for_this_user_alone_and_prints_the_lines(server: Any) -> None:
    done = server.alg("init", "--yes")
    home: Path = server.home
    assert done.stdout.splitlines() == [
        f"claude mcp add --scope user alg -- {ALG} serve --home {home}",
        f"codex mcp add alg -- {ALG} serve --home {home}",
    ]
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "config.yaml").stat().st_mode) == 0o600
    assert (home / "memory" / ".git").is_dir()
    assert server.json("hub", "status")["pid"] == server.hub_pid()


def test_init_again_leaves_everything_as_it_is(server: Any) -> None:
    assert len(server.json("init", "--yes")["created"]) == 3
    config = server.home / "config.yaml"
    config.write_text("# mine\nhub:\n  idle_minutes: 5\n", encoding="utf-8")
    again = server.json("init", "--yes")
    assert again["created"] == []
    assert again["backup"] is None
    assert config.read_text(encoding="utf-8") == "# mine\nhub:\n  idle_minutes: 5\n"


def test_init_without_yes_and_without_a_terminal_does_nothing(server: Any) -> None:
    done = server.alg("init", "--json", check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "--yes" in json.loads(done.stdout)["error"]["hint"]
    assert not server.home.exists()


def test_init_asks_once_on_a_terminal_and_takes_no_for_an_answer(server: Any) -> None:
    code, shown = on_a_terminal("init", typed="n\n")
    assert code == 1
    assert shown.count("[Y/n]") == 1
    assert not server.home.exists()
    code, shown = on_a_terminal("init", typed="\n")
    assert code == 0
    assert "claude mcp add" in shown
    assert server.hub_pid() is not None


@pytest.mark.parametrize("name", ["photos.zip", ".bashrc"])
def test_init_does_not_take_a_folder_of_other_things_for_a_home(server: Any, name: str) -> None:
    server.home.mkdir(mode=0o755)
    (server.home / name).touch()
    done = server.alg("init", "--yes", "--json", check=False)
    assert (done.returncode, json.loads(done.stdout)["error"]["code"]) == (2, "invalid_input")
    assert stat.S_IMODE(server.home.stat().st_mode) == 0o755


def test_init_with_a_remote_brings_what_another_machine_has_written(server: Any, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
    server.alg("init", "--yes", "--remote", str(remote))
    server.alg("memory", "write", "from the first machine", "--title", "First")
    assert server.json("memory", "push")["state"] == "pushed"
    server.alg("hub", "stop")
    other = tmp_path / "other"

    def there(*arguments: str) -> str:
        command = [ALG, "--home", str(other), *arguments]
        return subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True, check=True).stdout

    try:
        there("init", "--yes", "--remote", "remote.git")
        assert "First" in there("memory", "list")
    finally:
        there("hub", "stop")


def test_init_with_a_remote_on_an_existing_configuration_keeps_a_backup_and_reaches_the_hub(
    server: Any, tmp_path: Path
) -> None:
    before = "# mine\nsync:\n  push_after_write: false  # by hand\n"
    server.home.mkdir(mode=0o700)
    config = server.home / "config.yaml"
    config.write_text(before, encoding="utf-8")
    first = server.json("init", "--yes")["hub"]["pid"]
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
    done = server.json("init", "--yes", "--remote", str(remote))
    assert Path(done["backup"]).read_text(encoding="utf-8") == before
    assert "# by hand" in config.read_text(encoding="utf-8")
    assert yaml.safe_load(config.read_text(encoding="utf-8"))["sync"] == {
        "remote": str(remote),
        "push_after_write": False,
    }
    assert done["hub"]["pid"] != first
    assert done["sync"]["remote"] == str(remote)


@pytest.mark.parametrize("remote", ["", "-x", "ext::sh -c x", "https://me:pass@example.org/x.git"])
def test_init_with_a_remote_that_is_none_leaves_the_configuration_as_it_was(server: Any, remote: str) -> None:
    server.alg("init", "--yes")
    before = (server.home / "config.yaml").read_bytes()
    done = server.alg("init", "--yes", f"--remote={remote}", "--json", check=False)
    assert done.returncode == 2
    assert "remote" in json.loads(done.stdout)["error"]["message"]
    assert ":pass@" not in done.stdout
    assert (server.home / "config.yaml").read_bytes() == before
    assert list(server.home.glob("*.bak*")) == []


def test_init_names_what_is_wrong_in_the_configuration_and_changes_nothing(server: Any) -> None:
    server.home.mkdir(mode=0o700)
    (server.home / "config.yaml").write_text("hub:\n  idle_minuts: 5\n", encoding="utf-8")
    done = server.alg("init", "--yes", "--json", check=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["code"]) == (2, "config")
    assert "hub.idle_minuts" in error["message"]
    assert [path.name for path in server.home.iterdir()] == ["config.yaml"]


def test_a_new_configuration_says_every_default_and_sets_none(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.config.write_text(default_config(), encoding="utf-8")
    plain = load_settings(home)
    text = default_config()
    assert yaml.safe_load(text) is None
    commented = [line for line in text.splitlines() if re.match(r"# \w+:$|#   \w+: ", line)]
    home.config.write_text("\n".join(line.removeprefix("# ") for line in commented), encoding="utf-8")
    assert load_settings(home) == plain
    shown = yaml.safe_load(home.config.read_text(encoding="utf-8"))
    assert {name: set(keys or ()) for name, keys in shown.items()} == {
        name: set(section) for name, section in plain.model_dump().items()
    }
    home.config.write_text(default_config(REMOTE), encoding="utf-8")
    assert load_settings(home).sync.remote == REMOTE
    assert load_settings(home).hub == plain.hub


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# only words",
        "hub: {idle_minutes: 5}",
        "hub:\n  idle_minutes: 5\n",
        "sync:\n    # deep\n    push_after_write: false\n    timeout_seconds: 5\n\nhub:\n    idle_minutes: 5\n",
        "sync:\n  remote: /old/place   # where it was\n  timeout_seconds: 5\n",
        "sync: {push_after_write: false}\n",
        "sync: {push_after_write: false, remote: null}\n",
    ],
)
def test_setting_the_remote_leaves_all_else_in_the_configuration_alone(text: str) -> None:
    changed = with_remote(text, REMOTE, path=Path("config.yaml"))
    before: dict[str, Any] = yaml.safe_load(text) or {}
    assert yaml.safe_load(changed) == {**before, "sync": {**before.get("sync", {}), "remote": REMOTE}}
    assert changed.count("#") == text.count("#")


@pytest.mark.parametrize(
    "text",
    ["{hub: {idle_minutes: 5}}", "sync:\n", "sync:\n  remote: >-\n    /old/\n    place\nhub: {}\n", "sync: {}\n"],
)
def test_a_configuration_that_cannot_be_changed_safely_is_left_to_its_owner(text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        with_remote(text, REMOTE, path=Path("config.yaml"))
    assert "by hand" in str(refused.value.hint)


# --- hub --------------------------------------------------------------------------------------------------------


def test_status_starts_no_hub(server: Any) -> None:
    assert server.json("hub", "status") == {"running": False, "pid": None, "home": str(server.home)}
    assert not server.home.exists()
    assert server.json("hub", "stop")["stopped"] is False
    assert not server.home.exists()


def test_start_starts_one_hub_and_stop_waits_until_it_is_gone(server: Any) -> None:
    first = server.json("hub", "start")
    assert first["pid"] == server.hub_pid()
    assert server.json("hub", "start")["pid"] == first["pid"]
    stopped = server.json("hub", "stop")
    assert (stopped["stopped"], stopped["pid"]) == (True, first["pid"])
    with ProcessLock(server.home / "hub.lock"):
        assert server.json("hub", "status")["running"] is False


def test_logs_show_the_end_of_the_log(server: Any) -> None:
    assert server.alg("hub", "logs", check=False).returncode == 3
    server.alg("hub", "start")
    server.alg("hub", "stop")
    assert server.alg("hub", "logs", "-n", "1").stdout.rstrip().endswith("stopped")
    assert server.json("hub", "logs", "-n", "0")["lines"] == []


def test_following_the_log_shows_what_is_added_until_ctrl_c(server: Any) -> None:
    server.alg("hub", "start")
    process = subprocess.Popen(
        [ALG, "hub", "logs", "-n", "1", "--follow"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # it looks at the log now
    server.alg("hub", "stop")
    while "stopped" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert (process.returncode, words) == (130, "")


@pytest.mark.parametrize(
    ("name", "text", "code", "number"),
    [("config.yaml", "hub: {idle: 5}", "config", 2), ("logs", "in the way", "storage", 7)],
)
def test_a_hub_that_cannot_start_says_why_through_whoever_wanted_it(
    server: Any, name: str, text: str, code: str, number: int
) -> None:
    server.home.mkdir(mode=0o700)
    (server.home / name).write_text(text, encoding="utf-8")
    for arguments in (["hub", "start"], ["memory", "list"]):
        done = server.alg(*arguments, "--json", check=False)
        assert json.loads(done.stdout)["error"]["code"] == code
        assert done.returncode == number


def test_the_ready_descriptor_gets_one_line_on_success_and_on_failure(server: Any) -> None:
    def run() -> tuple[subprocess.Popen[bytes], bytes]:
        read, write = os.pipe()
        process = subprocess.Popen([ALG, "hub", "run", "--ready-fd", str(write)], pass_fds=(write,))
        os.close(write)
        with os.fdopen(read, "rb") as file:
            return process, file.read()

    first, line = run()
    assert line == b"ready\n"
    second, line = run()
    assert second.wait(timeout=60) == 6
    assert line.startswith(b"lock_held: ")
    assert line.count(b"\n") == 1
    assert str(first.pid).encode() in line
    first.terminate()
    assert first.wait(timeout=60) == 0


def test_a_hub_in_the_foreground_speaks_on_stderr_and_ends_on_ctrl_c(server: Any) -> None:
    process = subprocess.Popen([ALG, "hub", "run"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == ""
    assert process.returncode == 0


# --- doctor -------------------------------------------------------------------------------------------------------


def test_doctor_finds_a_fresh_home_well_with_a_hub_and_without(server: Any) -> None:
    server.alg("init", "--yes")
    with_hub = checks(server)
    assert {check["state"] for check in with_hub.values()} == {"ok"}
    assert f"pid {server.hub_pid()}" in with_hub["hub"]["message"]
    server.alg("hub", "stop")
    without = checks(server)
    assert {check["state"] for check in without.values()} == {"ok"}
    assert server.hub_pid() is None


def test_doctor_says_what_to_do_where_there_is_no_home_and_makes_none(server: Any) -> None:
    found = checks(server)
    assert found["home"]["state"] == "fail"
    assert "alg init" in found["home"]["hint"]
    assert not server.home.exists()


def test_doctor_names_each_thing_that_is_wrong(server: Any, tmp_path: Path) -> None:
    server.alg("init", "--yes")
    server.alg("hub", "stop")
    server.home.chmod(0o755)
    (server.home / "config.yaml").write_text("embedder:\n  kind: onyx\n", encoding="utf-8")
    (server.home / "memory" / ".git" / "rebase-merge").mkdir()
    (server.home / "memory" / ".git" / "hooks" / "pre-commit").unlink()
    server.git("remote", "add", "origin", str(tmp_path / "nowhere.git"))
    found = checks(server)
    assert {name: check["state"] for name, check in found.items() if check["state"] != "ok"} == {
        "home": "warn",
        "config": "fail",
        "store": "fail",
        "hook": "warn",
        "remote": "fail",
    }
    assert all(check["hint"] for check in found.values() if check["state"] != "ok")
    assert "onnx" in found["config"]["message"]


def test_doctor_says_where_plain_git_would_not_merge_as_the_hub_does(server: Any) -> None:
    server.alg("init", "--yes")
    assert checks(server)["merging"]["state"] == "ok"
    server.alg("hub", "stop")
    attributes = server.home / "memory/.git/info/attributes"
    told = attributes.read_bytes()
    attributes.write_bytes(b"")
    assert "leaves conflict markers" in checks(server)["merging"]["message"]
    attributes.write_bytes(told)
    server.git("config", "merge.alg-memory.driver", "/no/such/program %O %A %B %P")
    found = checks(server)["merging"]
    assert (found["state"], "cannot be run" in found["message"]) == ("warn", True)
    repo = str(server.home / "memory")
    assert f"alg memory install-merge-driver --repo {repo}" in found["hint"]
    server.json("memory", "install-merge-driver", "--repo", repo)
    assert checks(server)["merging"]["state"] == "ok"
    server.json("memory", "install-merge-driver", "--repo", repo, "--uninstall")
    assert "merging" not in checks(server)


def test_doctor_tells_each_thing_that_is_in_the_way_of_sync_with_a_hub_and_without(server: Any, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
    server.alg("init", "--yes", "--remote", str(remote))
    hook = remote / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho no pushes on Fridays >&2\nexit 1\n", encoding="utf-8")
    hook.chmod(0o755)
    server.alg("memory", "write", "one", "--title", "One")
    refused = server.alg("memory", "push", "--json", check=False)
    assert refused.returncode == 8
    error = json.loads(refused.stdout)["error"]
    assert (error["details"]["kind"], "Fridays" in error["message"]) == ("hook_rejected", True)
    assert "its words say why" in error["hint"]
    status = server.json("memory", "status")["sync"]
    assert [problem["kind"] for problem in status["problems"]] == ["hook_rejected"]
    shown = server.alg("memory", "status").stdout
    assert "problem hook_rejected (push, since " in shown
    assert "no pushes on Fridays" in shown
    found = checks(server)
    assert found["remote"]["state"] == "fail"
    assert "no pushes on Fridays" in found["remote"]["message"]
    server.alg("hub", "stop")
    (tmp_path / "user" / ".gitconfig").write_text("", encoding="utf-8")
    server.git("switch", "-q", "--detach")
    done = json.loads(server.alg("doctor", "--json", check=False).stdout)["checks"]
    told = [(check["name"], check["state"]) for check in done if check["name"] in ("store", "remote")]
    assert told == [("store", "fail"), ("store", "warn"), ("remote", "fail")]
    assert all(check["hint"] for check in done if check["state"] != "ok")
    assert "detached" in next(check["message"] for check in done if check["name"] == "store")
    assert server.hub_pid() is None


def test_doctor_says_that_a_remote_in_the_configuration_is_not_used(server: Any) -> None:
    server.home.mkdir(mode=0o700)
    text = "sync:\n  remote: https://me:pass@example.org/x.git\n"
    (server.home / "config.yaml").write_text(text, encoding="utf-8")
    assert server.json("memory", "status")["sync"]["state"] == "no_remote"
    done = server.alg("doctor", "--json", check=False)
    assert ":pass@" not in done.stdout
    (found,) = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "remote"]
    assert (done.returncode, found["state"], "sync.remote" in found["hint"]) == (1, "fail", True)


def test_doctor_asks_a_remote_that_no_hub_has_open_and_tells_what_it_says(server: Any, tmp_path: Path) -> None:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True, timeout=60)
    server.alg("init", "--yes", "--remote", str(remote))
    server.alg("memory", "push")
    server.alg("hub", "stop")
    found = checks(server)
    assert found["remote"]["state"] == "ok"
    assert found["remote"]["message"].endswith(": pushed, reached")
    remote.rename(tmp_path / "moved.git")
    gone = checks(server)["remote"]
    assert gone["state"] == "fail"
    assert "(remote_missing)" in gone["message"]
    assert "Check the remote's address" in gone["hint"]
    assert server.hub_pid() is None


def test_doctor_names_a_memory_repo_that_cannot_be_opened(server: Any) -> None:
    server.alg("init", "--yes")
    server.alg("hub", "stop")
    (server.home / "memory" / ".git" / "HEAD").unlink()
    found = checks(server)["store"]
    assert (found["state"], "not a git repository" in found["message"]) == ("fail", True)
    assert found["hint"]


def test_doctor_says_that_a_client_program_is_not_registered_and_how_to(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("claude", "codex"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    user = Path(os.environ["HOME"])
    (user / ".claude.json").write_text("{ broken", encoding="utf-8")
    (user / ".codex").mkdir()
    (user / ".codex" / "config.toml").write_text('[mcp_servers.alg]\ncommand = "alg"\n', encoding="utf-8")
    found = checks(server)
    assert found["claude-code"]["state"] == "warn"
    assert found["claude-code"]["hint"].startswith("claude mcp add")
    assert found["codex"]["state"] == "ok"
