"""`alg hub install`: what systemd and launchd are told, and a hub that a real systemd runs."""

from __future__ import annotations

import contextlib
import json
import os
import plistlib
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._service import MARK, Service, agent_text, unit_text

ALG = str(Path(sys.executable).with_name("alg"))
WAIT = 60.0
ODD = 'a b%n$HOME "quoted" #;= \N{LATIN SMALL LETTER U WITH DIAERESIS}ber'


def service(**given: Any) -> Service:
    usual: dict[str, Any] = {"alg": ("/opt/alg",), "home": Path("/home/person/.adaptive-llm-gateway")}
    return Service(**{**usual, **given})


def lines_of(text: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{key}=")]


def verified(unit: Path, text: str) -> str:
    """What `systemd-analyze verify` finds wrong in a unit."""
    if shutil.which("systemd-analyze") is None:
        missing("systemd-analyze is not installed")
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(unit.parent)},
    )
    return done.stdout + "".join(line for line in done.stderr.splitlines(True) if unit.name in line)


def missing(reason: str) -> None:
    if os.environ.get("ALG_REQUIRE_SYSTEMD"):
        pytest.fail(reason)
    pytest.skip(reason)


# --- The texts ------------------------------------------------------------------------------------------------------


def test_systemd_finds_nothing_wrong_in_the_unit(tmp_path: Path) -> None:
    program = tmp_path / "alg"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    for given in ({}, {"namespaces": False}, {"private_tmp": False, "seals_memory": False, "path": "/opt/g/bin:/bin"}):
        text = unit_text(service(alg=(str(program),), home=tmp_path, **given))
        assert verified(tmp_path / "hub.service", text) == ""


def test_a_unit_is_hardened_and_writes_to_the_home_and_the_repos_alone() -> None:
    text = unit_text(service(writable=(Path("/srv/team memory"),)))
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=read-only", "PrivateTmp=yes",
                 "MemoryDenyWriteExecute=yes",
                 "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK", "UMask=0077", "Type=notify",
                 "Restart=on-failure", "RestartForceExitStatus=75"):  # fmt: skip
        assert line in text.splitlines()
    assert lines_of(text, "ReadWritePaths") == ['"/home/person/.adaptive-llm-gateway" "/srv/team memory"']


def test_where_the_machine_allows_no_namespaces_the_unit_asks_for_none() -> None:
    text = unit_text(service(namespaces=False))
    assert "NoNewPrivileges=yes" in text
    for name in ("ProtectSystem", "PrivateTmp", "ReadWritePaths", "PrivateDevices"):
        assert lines_of(text, name) == []


def test_each_home_has_a_service_of_its_own_name() -> None:
    first, second = service(default_home=False), service(default_home=False, home=Path("/other"))
    assert service().unit == "adaptive-llm-gateway.service"
    assert len({service().unit, first.unit, second.unit, service().label, first.label, second.label}) == 6


@pytest.mark.parametrize("make", [unit_text, agent_text])
def test_a_path_that_cannot_stand_in_a_service_is_refused(make: Any) -> None:
    for name in ("line\nbreak", "bell\x07", "not utf-8 \udcff"):
        with pytest.raises(InvalidInput):
            make(service(home=Path("/home") / name))


def test_a_path_that_systemd_has_no_way_to_write_is_refused_for_a_unit_alone() -> None:
    for name in ("'a\"", "back\\slash"):
        with pytest.raises(InvalidInput, match="systemd"):
            unit_text(service(home=Path("/home") / name))
        unit_text(service(home=Path("/home") / name, namespaces=False))  # no list of paths there
    assert "/home/'a" in agent_text(service(home=Path("/home/'a\"")))


def test_a_launchd_agent_is_a_property_list_that_names_the_paths_as_they_are() -> None:
    home = Path("/Users/person") / f"<{ODD}>&"
    agent = plistlib.loads(agent_text(service(home=home, alg=("/opt/a b/alg",))).encode())
    assert agent["ProgramArguments"] == ["/opt/a b/alg", "--home", str(home), "hub", "run", "--service"]
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True
    assert MARK in agent_text(service())


# --- A hub that is run as a service ---------------------------------------------------------------------------------


class Told:
    """A service manager's socket, and what came to it."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "n")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.settimeout(WAIT)

    def next(self) -> str:
        return self._socket.recv(4096).decode()

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def told(isolated: Path) -> Iterator[Told]:
    isolated.mkdir(mode=0o700)
    with contextlib.closing(Told(isolated)) as told:
        yield told


def run_service(told: Told | None = None, **env: str) -> subprocess.Popen[str]:
    more = {"NOTIFY_SOCKET": told.address} if told else {}
    return subprocess.Popen(
        [ALG, "hub", "run", "--service"], stderr=subprocess.PIPE, text=True, env={**os.environ, **more, **env}
    )


def ended(process: subprocess.Popen[str]) -> int:
    code = process.wait(timeout=WAIT)
    assert process.stderr is not None
    process.stderr.close()
    return code


def test_the_manager_is_told_when_the_hub_is_ready_and_when_it_goes(server: Any, told: Told) -> None:
    hub = run_service(told)
    assert told.next() == "READY=1"
    assert server.json("hub", "status")["service"] is True
    hub.terminate()
    assert told.next() == "STOPPING=1"
    assert ended(hub) == 0


def test_a_hub_of_a_service_does_not_end_when_idle(server: Any, told: Told) -> None:
    hub = run_service(told, ALG_HUB__IDLE_MINUTES="0.001")
    assert told.next() == "READY=1"
    client = server.client()
    client.close()
    # One that ends when idle would have, many times over, before the hub has done all this.
    for _ in range(3):
        server.alg("memory", "status")
    assert server.json("hub", "status")["pid"] == hub.pid
    assert server.json("hub", "status")["idle_minutes"] == 0
    hub.terminate()
    assert ended(hub) == 0


def test_a_service_takes_over_from_the_hub_that_a_client_started(server: Any, told: Told) -> None:
    client = server.client()
    first = server.hub_pid()
    hub = run_service(told)
    assert told.next() == "READY=1"
    assert server.hub_pid() == hub.pid != first
    client.write("Goes on")
    hub.terminate()
    assert ended(hub) == 0


def test_a_second_service_on_one_home_leaves_the_first_alone(server: Any, told: Told) -> None:
    hub = run_service(told)
    assert told.next() == "READY=1"
    second = run_service()
    assert second.stderr is not None
    assert str(hub.pid) in second.stderr.read()
    assert ended(second) == 6
    assert server.hub_pid() == hub.pid
    hub.terminate()
    assert ended(hub) == 0


def test_a_service_that_is_to_be_started_again_says_so_by_its_exit_code(server: Any, told: Told) -> None:
    hub = run_service(told)
    assert told.next() == "READY=1"
    before = server.json("hub", "restart")["before"]
    assert before == hub.pid
    assert ended(hub) == 75


def test_a_service_without_a_valid_configuration_ends_with_a_code_that_is_not_tried_again(server: Any) -> None:
    server.configure("hub: {idle: 5}\n")
    hub = run_service()
    assert ended(hub) == 2


# --- Installing -----------------------------------------------------------------------------------------------------


class Here:
    """A systemd of a user, in a mount namespace of its own; `run` runs something beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.home = "/run/person/home"
        script = (
            "mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system /run/user/0 /run/person && "
            "chmod 700 /run/user/0 && exec /lib/systemd/systemd --user --log-target=console"
        )
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/run/person",
            "XDG_RUNTIME_DIR": "/run/user/0",
            "GIT_CONFIG_NOSYSTEM": "1",
            **{name: os.environ[name] for name in ("PYTHONPATH", "LANG") if name in os.environ},
        }
        with (folder / "systemd.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["nsenter", "--mount", f"--target={self.process.pid}", "--", *command],
            capture_output=True,
            text=True,
            timeout=2 * WAIT,
            check=False,
            env={**self.environment, **env},
            cwd="/",
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def alg(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self.run(ALG, "--home", self.home, *words, **options)

    def json(self, *words: str) -> Any:
        return json.loads(self.alg(*words, "--json").stdout)

    def systemctl(self, *words: str, check: bool = True) -> str:
        return self.run("systemctl", "--user", *words, check=check).stdout.strip()

    def unit(self) -> str:
        (name,) = self.run("sh", "-c", "ls /run/person/.config/systemd/user/*.service").stdout.splitlines()
        return Path(name).name

    def with_code(self) -> None:
        """Have the service find the code that is tested, wherever that lies."""
        if "PYTHONPATH" in self.environment:
            text = f"PYTHONPATH={self.environment['PYTHONPATH']}"
            self.run("sh", "-c", 'printf "%s\\n" "$1" > "$2/service.env"', "sh", text, self.home)

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            return False
        return self.systemctl("is-system-running", check=False) in ("running", "degraded")

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.alg("hub", "stop", check=False)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=WAIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=WAIT)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "systemctl"))):
        missing("a systemd of a user needs root, unshare, nsenter and systemd here")
    started = Here(tmp_path)
    try:
        end = time.monotonic() + WAIT
        while not started.is_up():
            if started.process.poll() is not None or time.monotonic() > end:
                missing("systemd does not run here: " + (tmp_path / "systemd.log").read_text(encoding="utf-8")[-500:])
        yield started
    finally:
        started.close()


def test_systemd_runs_the_hub_keeps_it_running_and_lets_it_go(here: Here) -> None:
    here.home = f"/run/person/{ODD}"
    here.alg("init", "--yes")
    here.with_code()
    by_client = here.json("hub", "status")["pid"]
    shown = here.alg("hub", "install", "--dry-run")
    assert "[Service]" in shown.stderr
    assert "would install" in shown.stdout
    assert here.json("hub", "status")["pid"] == by_client

    done = here.json("hub", "install")
    assert done["state"] == "installed"
    unit = here.unit()
    first = here.json("hub", "status")
    assert first["service"] is True
    assert first["pid"] != by_client
    assert here.systemctl("show", "--property=MainPID", "--value", unit) == str(first["pid"])
    written = here.json("memory", "write", "text", "--title", "By the service")
    assert written["state"] in ("committed", "saved")
    end = time.monotonic() + WAIT
    while here.json("memory", "search", "service")["mode"] != "hybrid":  # the model runs within these bounds, too
        assert time.monotonic() < end, here.alg("memory", "status").stdout

    again = here.json("hub", "install")
    assert again["state"] == "unchanged"
    assert here.json("hub", "status")["pid"] == first["pid"]

    restarted = here.json("hub", "restart")
    assert restarted["before"] == first["pid"]
    assert here.systemctl("show", "--property=MainPID", "--value", unit) == str(restarted["pid"])

    os.kill(restarted["pid"], signal.SIGKILL)
    end = time.monotonic() + WAIT
    while (now := here.json("hub", "status"))["pid"] in (None, restarted["pid"]):
        assert time.monotonic() < end, "systemd did not start it again"
    assert now["service"] is True

    assert here.json("hub", "install", "--uninstall")["state"] == "removed"
    assert here.json("hub", "status")["running"] is False
    assert here.systemctl("is-enabled", unit, check=False) in ("not-found", "")
    assert here.json("hub", "install", "--uninstall")["state"] == "absent"


def test_the_hub_of_systemd_cannot_write_elsewhere(here: Here) -> None:
    here.alg("init", "--yes")
    here.with_code()
    here.json("hub", "install")
    here.json("memory", "write", "text", "--title", "Kept inside")
    elsewhere = Path(f"/var/lib/alg-{os.getpid()}")
    try:
        refused = here.alg("memory", "export", str(elsewhere), "--json", check=False)
        assert refused.returncode != 0
        assert "ead-only file system" in refused.stdout
        assert not elsewhere.exists()
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)
    assert here.alg("memory", "export", f"{here.home}/export").returncode == 0


def test_a_hub_that_does_not_start_leaves_no_service_behind(here: Here) -> None:
    here.alg("init", "--yes")
    here.alg("hub", "stop")
    here.run("sh", "-c", f"printf 'PYTHONPATH=/nowhere\\nPYTHONHOME=/nowhere\\n' > {here.home}/service.env")
    refused = here.alg("hub", "install", "--json", check=False)
    assert refused.returncode == 6
    assert "as it was before" in json.loads(refused.stdout)["error"]["hint"]
    assert here.run("sh", "-c", "ls /run/person/.config/systemd/user", check=False).stdout.strip() in (
        "",
        "default.target.wants",
    )


# --- Where no manager answers ---------------------------------------------------------------------------------------


def test_where_no_manager_answers_the_unit_is_written_and_the_commands_are_told(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n", encoding="utf-8")
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("ALG_HUB__LOG_LEVEL", "debug")
    monkeypatch.setenv("ALG_TOKEN", "of a client")  # no setting: it has no business in a file of settings
    server.alg("init", "--yes")
    done = server.json("hub", "install")
    assert done["state"] == "written"
    assert not any("ALG_TOKEN" in note for note in done["notes"])
    file = Path(done["file"])
    assert file.read_text(encoding="utf-8") == done["text"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [line.split()[:3] for line in done["run"]] == [["systemctl", "--user", word] for word in
                                                         ("daemon-reload", "enable", "restart")]  # fmt: skip
    assert any("ALG_HUB__LOG_LEVEL" in note for note in done["notes"])
    assert "ALG_HUB__LOG_LEVEL" not in done["text"]
    assert server.json("hub", "install")["backup"] is None

    file.write_text(done["text"].replace("RestartSec=1", "RestartSec=9"), encoding="utf-8")
    again = server.json("hub", "install")
    assert "RestartSec=9" in Path(again["backup"]).read_text(encoding="utf-8")
    assert file.read_text(encoding="utf-8") == done["text"]

    gone = server.json("hub", "install", "--uninstall")
    assert (gone["state"], file.exists()) == ("removed", False)
    assert any("disable" in line for line in gone["run"])


def test_a_unit_that_somebody_else_wrote_is_left_alone(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server.alg("init", "--yes")
    done = server.json("hub", "install", "--dry-run")
    assert done["state"] == "would_install"
    file = Path(done["file"])
    assert not file.exists()
    file.parent.mkdir(parents=True)
    file.write_text("[Service]\nExecStart=/bin/true\n", encoding="utf-8")
    for words in ((), ("--uninstall",)):
        refused = server.alg("hub", "install", *words, "--json", check=False)
        assert refused.returncode == 2
    assert file.read_text(encoding="utf-8") == "[Service]\nExecStart=/bin/true\n"


def test_without_any_manager_it_is_said_what_to_do(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "git").symlink_to(str(shutil.which("git")))
    server.alg("init", "--yes")
    monkeypatch.setenv("PATH", str(programs))
    refused = server.alg("hub", "install", "--json", check=False)
    assert refused.returncode == 6
    assert "alg hub run --service" in json.loads(refused.stdout)["error"]["hint"]


def test_a_home_that_is_not_there_is_made_first(server: Any) -> None:
    refused = server.alg("hub", "install", "--json", check=False)
    assert refused.returncode == 2
    assert "alg init" in json.loads(refused.stdout)["error"]["hint"]
    assert not server.home.exists()
