"""The container: what Dockerfile, compose.yaml and .env.example say, and their commands within the same bounds.

No container engine is needed, nor used: what the image's process meets (another user without any capability, a
read-only file system, a volume) is made of Linux' own parts.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificate_made import certificate

from adaptive_llm_gateway.core import Home, HttpSettings, SecretScanner, load_settings

ROOT = Path(__file__).resolve().parents[2]
WAIT = 60.0
COMPONENTS = ("core", "memory", "compression", "handoff", "gateway", "server")
USER = 10001


# --- What the files say ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instruction:
    """One of a Dockerfile."""

    name: str
    words: str


def instructions() -> list[list[Instruction]]:
    """Those of each stage."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    found: list[list[Instruction]] = [[]]
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        name, _, words = line.partition(" ")
        if not name:
            continue
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, words))
    return found


def the(name: str) -> list[str]:
    """What the image's own stage says with this instruction."""
    return [each.words for each in instructions()[-1] if each.name == name]


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))


def variables() -> dict[str, str]:
    """What .env.example offers, by name."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return {found[1]: found[2] for line in lines if (found := re.match(r"^#? ?([A-Z][A-Z0-9_]+)=(.*)$", line))}


def test_the_image_installs_by_hash_and_takes_the_code_alone() -> None:
    _, build, final = instructions()
    installs = [each.words for each in build if each.name == "RUN" and "pip install" in each.words]
    assert "--require-hashes --requirement requirements.txt" in installs[0]
    assert all("--require-hashes" in words or "--no-deps" in words for words in installs)
    copied = {word for each in build if each.name == "COPY" for word in each.words.split()[:-1]}
    assert copied == {"requirements.txt", "pyproject.toml", "README.md", "LICENSE", "NOTICE", *COMPONENTS}
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] == "!"}
    assert let_in == copied
    assert all((ROOT / name).exists() for name in copied)
    assert [each.words for each in final if each.name == "COPY"] == ["--from=build /opt/alg /opt/alg"]
    assert (ROOT / "README.md").name in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_image_has_no_secret_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8") + (ROOT / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"(?i)(secret|token|password|passwd|api_?key)\s*[=:]", text)
    assert "--mount=type=secret" not in text
    assert the("USER") == [f"{USER}:{USER}"]
    assert the("STOPSIGNAL") == ["SIGTERM"]
    assert json.loads(the("ENTRYPOINT")[0]) + json.loads(the("CMD")[0]) == ["alg", "hub", "run", "--service"]


def test_compose_gives_it_nothing_but_a_volume_and_this_machines_loopback() -> None:
    hub = compose()["services"]["hub"]
    assert hub["read_only"] is True
    assert hub["cap_drop"] == ["ALL"]
    assert hub["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in hub
    assert "cap_add" not in hub
    assert [each.split(":")[0] for each in hub["tmpfs"]] == ["/tmp"]
    (volume,) = hub["volumes"]
    name, _, place = volume.partition(":")
    assert name in compose()["volumes"]
    assert json.loads(the("VOLUME")[0]) == [place]
    environment = dict(part.split("=", 1) for part in " ".join(the("ENV")).split())
    assert environment["ADAPTIVE_LLM_GATEWAY_HOME"].startswith(f"{place}/")
    (port,) = hub["ports"]
    assert port.startswith("127.0.0.1:")
    assert port.endswith(f":{hub['environment']['ALG_HTTP__PORT']}")
    assert the("EXPOSE") == [hub["environment"]["ALG_HTTP__PORT"]]
    assert f"http://127.0.0.1:{the('EXPOSE')[0]}/healthz" in the("HEALTHCHECK")[0]
    assert int(hub["stop_grace_period"].removesuffix("s")) > 20
    gateway = compose()["networks"]["inside"]["ipam"]["config"][0]["gateway"]
    assert json.loads(hub["environment"]["ALG_HTTP__TRUSTED_PROXIES"]) == [gateway]


@pytest.mark.parametrize("tls", [False, True])
def test_the_images_check_sees_whether_the_hub_answers_also_with_a_certificate(
    stand: Any, tmp_path: Path, tls: bool
) -> None:
    files = certificate(tmp_path) if tls else ()
    settings = dict(zip(("tls_certificate", "tls_key"), map(str, files), strict=False))
    one = stand(**settings)
    check = json.loads(the("HEALTHCHECK")[0].partition("CMD ")[2])
    environment = {**os.environ, **{f"ALG_HTTP__{name.upper()}": value for name, value in settings.items()}}

    def asked(port: int) -> int:
        words = [sys.executable, *(word.replace(":8377/", f":{port}/") for word in check[1:])]
        return subprocess.run(words, env=environment, capture_output=True, timeout=WAIT, check=False).returncode

    assert asked(one.port) == 0
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    assert asked(port) != 0


def test_every_setting_of_the_files_is_valid_and_all_that_http_has_are_offered(
    isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = compose()["services"]["hub"]["environment"]
    offered = variables()
    for name, value in {**offered, **given}.items():
        if name.startswith("ALG_"):
            monkeypatch.setenv(name, value)
    settings = load_settings(Home(isolated))
    assert settings.http.enabled
    assert settings.http.host == given["ALG_HTTP__HOST"]
    assert settings.http.allowed_hosts == ("memory.example.org",)
    assert {f"ALG_HTTP__{name.upper()}" for name in HttpSettings.model_fields} == {
        name for name in {**offered, **given} if name.startswith("ALG_HTTP__")
    }
    known = {f"ALG_{part.upper()}__" for part in type(settings).model_fields}
    assert all(any(name.startswith(part) for part in known) for name in offered if name.startswith("ALG_"))
    for name, value in offered.items():  # the others are compose's own, or keys, which have no value here
        assert (
            name.startswith("ALG_")
            or value == ""
            or f"${{{name}:-{value}}}" in (ROOT / "compose.yaml").read_text(encoding="utf-8")
        )


def test_nothing_in_the_example_is_private_and_all_of_it_is_a_comment() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert not SecretScanner().scan(text)
    assert all(line.startswith("#") or not line for line in text.splitlines())
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".env" in ignored


# --- The same commands within the same bounds -----------------------------------------------------------------------


def missing(reason: str) -> None:
    if os.environ.get("ALG_REQUIRE_SYSTEMD"):
        pytest.fail(reason)
    pytest.skip(reason)


class Bounds:
    """What a container of the image is: its user without capabilities, everything read-only but a volume and /tmp."""

    def __init__(self, folder: Path, port: int) -> None:
        data = folder / "data"
        data.mkdir(mode=0o700)
        os.chown(data, USER, USER)
        self.data = data
        code = [f"/run/src/{name}" for name in COMPONENTS]
        self.environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": ":".join(code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": "/run/data",
            "ADAPTIVE_LLM_GATEWAY_HOME": "/run/data/home",
            **{name: str(value) for name, value in compose()["services"]["hub"]["environment"].items()},
            "ALG_HTTP__PORT": str(port),
        }
        # Every mount is made read-only, as `read_only: true` does; the volume and /tmp come on top.
        script = f"""
set -e
mount -t tmpfs tmpfs /run
mkdir /run/src /run/data /run/python
mount --bind '{ROOT}' /run/src
mount --bind '{sys.prefix}' /run/python
mount --bind '{data}' /run/data
mount -t tmpfs -o mode=1777,noexec,nosuid,nodev tmpfs /tmp
if [ ! -d '{sys.prefix}' ]; then mkdir -p '{sys.prefix}'; mount --bind /run/python '{sys.prefix}'; fi
awk '{{print $5}}' /proc/self/mountinfo | while read -r place; do
    case "$place" in /proc*|/sys*|/dev*|/tmp|/run/data|/run) ;;
    *) mount -o remount,bind,ro "$(printf '%b' "$place")" 2>/dev/null || true ;; esac
done
mount -o remount,ro /run
exec setpriv --reuid {USER} --regid {USER} --clear-groups --no-new-privs --bounding-set -all --inh-caps -all \\
    -- {" ".join(json.loads(the("ENTRYPOINT")[0]) + json.loads(the("CMD")[0]))}
"""
        self.hub = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd="/",
        )
        self.said: list[str] = []
        self.ready = threading.Event()
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self.hub.stderr is not None
        for line in self.hub.stderr:
            self.said.append(line)
            if line == "ready\n":
                self.ready.set()
        self.ready.set()

    def exec(self, *command: str) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec hub ...` does it."""
        asked = ["nsenter", "--mount", f"--target={self.hub.pid}", "--", "setpriv", f"--reuid={USER}"]
        asked += [f"--regid={USER}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--"]
        return subprocess.run(
            [*asked, *command],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
            env=self.environment,
            cwd="/",
        )

    def healthy(self) -> bool:
        """By the image's own check."""
        check = json.loads(the("HEALTHCHECK")[0].partition("CMD ")[2])
        port = self.environment["ALG_HTTP__PORT"]
        return self.exec(*(word.replace(":8377/", f":{port}/") for word in check)).returncode == 0

    def close(self) -> None:
        if self.hub.poll() is None:
            self.hub.send_signal(signal.SIGKILL)
        self.hub.wait(timeout=WAIT)
        self._listening.join(WAIT)
        if self.hub.stderr is not None:
            self.hub.stderr.close()


@pytest.fixture
def bounds(tmp_path: Path) -> Iterator[Bounds]:
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "setpriv"))):
        missing("the bounds of a container need root, unshare, nsenter and setpriv here")
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for folder in (tmp_path, *tmp_path.parents):  # another user has to come by
        if folder.stat().st_uid == os.geteuid() and folder.is_relative_to(tmp_path.parents[2]):
            folder.chmod(folder.stat().st_mode | 0o011)
    with contextlib.closing(Bounds(tmp_path, port)) as made:
        made.ready.wait(WAIT)
        assert made.hub.poll() is None, "".join(made.said)
        yield made


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, f"waited in vain: {what}"
        threading.Event().wait(0.1)


def test_the_images_command_serves_its_first_client_within_a_containers_bounds(bounds: Bounds) -> None:
    assert bounds.exec("sh", "-c", "touch /opt/alg-was-here 2>&1").returncode != 0
    assert "CapEff:\t0000000000000000" in Path(f"/proc/{bounds.hub.pid}/status").read_text(encoding="utf-8")
    assert not bounds.healthy()  # it listens for nobody
    made = bounds.exec("alg", "clients", "add", "laptop", "--scope", "memory:read", "--scope", "memory:write", "--json")
    assert made.returncode == 0, made.stderr + made.stdout
    token = json.loads(made.stdout)["token"]
    until(bounds.healthy, "the hub to listen")

    body = json.dumps({"title": "From outside"}).encode()
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    port = int(bounds.environment["ALG_HTTP__PORT"])
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)) as asked:
        asked.request("POST", "/api/v1/memories", body, headers)
        assert asked.getresponse().status == 201
    owners = {path.stat().st_uid for path in bounds.data.rglob("*")}
    assert owners == {USER}

    bounds.hub.send_signal(signal.SIGTERM)
    assert bounds.hub.wait(timeout=WAIT) == 0
    repo = str(bounds.data / "home" / "memory")
    log = subprocess.run(
        ["git", "-c", f"safe.directory={repo}", "-C", repo, "log", "--format=%s"],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
    )
    assert "From outside" in log.stdout
