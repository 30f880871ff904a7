"""What a service manager is told so that it keeps a hub running: a systemd user unit, or a launchd agent.

Everything here is text from values; nothing is read, written or started.
"""

from __future__ import annotations

import hashlib
import os
import plistlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._going import START_AGAIN

Manager = Literal["systemd", "launchd"]

MARK: Final = "Written by `alg hub install`"
"""Stands in the first lines of each file of ours."""
_NAME: Final = "adaptive-llm-gateway"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_STOP_SECONDS: Final = 30  # a hub goes within 20
_HARDENED: Final = """\
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
"""
_NAMESPACED: Final = """\
ProtectSystem=strict
ProtectHome=read-only
ProtectControlGroups=yes
PrivateDevices=yes
"""


@dataclass(frozen=True, slots=True)
class Service:
    """The service of one home's hub.

    Attributes:
        alg: the command that runs `alg`.
        home: the home, absolute.
        writable: folders beside the home that the hub writes to.
        private_tmp: whether nothing that it needs, such as its socket, lies below /tmp.
        namespaces: whether a user's services may have file systems of their own on this machine.
        seals_memory: whether no memory has to be both written and executed; torch needs that.
        default_home: whether the home is the usual one.
        path: the `PATH` that it needs to find git, where the usual one does not have it.
    """

    alg: tuple[str, ...]
    home: Path
    writable: tuple[Path, ...] = ()
    private_tmp: bool = True
    namespaces: bool = True
    seals_memory: bool = True
    default_home: bool = True
    path: str | None = None

    @property
    def suffix(self) -> str:
        """What tells this home's service from another home's."""
        return "" if self.default_home else f"-{hashlib.sha256(os.fsencode(self.home)).hexdigest()[:8]}"

    @property
    def unit(self) -> str:
        """The unit's name for systemd."""
        return f"{_NAME}{self.suffix}.service"

    @property
    def label(self) -> str:
        """The agent's name for launchd."""
        return f"{_NAME}.hub{self.suffix}"

    @property
    def command(self) -> tuple[str, ...]:
        """What is run."""
        return (*self.alg, "--home", str(self.home), "hub", "run", "--service")


def unit_text(service: Service) -> str:
    """The systemd user unit.

    Raises:
        InvalidInput: a path cannot be written in a unit.
    """
    _checked([*service.command, *map(str, service.writable), service.path or ""])
    hardened = _HARDENED
    if service.seals_memory:
        hardened += "MemoryDenyWriteExecute=yes\n"
    if service.namespaces:
        hardened += _NAMESPACED
        if service.private_tmp:
            hardened += "PrivateTmp=yes\n"
        writable = (service.home, *service.writable)
        hardened += f"ReadWritePaths={' '.join(_path(each) for each in writable)}\n"
    path = f"Environment={_quoted(f'PATH={service.path}')}\n" if service.path else ""
    return f"""\
# {MARK}; `alg hub install --uninstall` removes it.
[Unit]
Description={_escaped(f"The hub of {service.home} (Adaptive LLM Gateway)")}
StartLimitIntervalSec=120
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={_command(service.command)}
{path}# Variables for its environment, such as a provider's key: a file for this user alone, which need not be there.
EnvironmentFile=-{_escaped(str(service.home / "service.env"))}
# {START_AGAIN}: another version was installed, or `alg hub restart`. What a person has to mend (2) is not tried again.
Restart=on-failure
RestartForceExitStatus={START_AGAIN}
SuccessExitStatus={START_AGAIN}
RestartPreventExitStatus=2
RestartSec=1
TimeoutStartSec=120
TimeoutStopSec={_STOP_SECONDS}
KillMode=mixed
UMask=0077

{hardened}
[Install]
WantedBy=default.target
"""


def agent_text(service: Service) -> str:
    """The launchd agent, a property list.

    Raises:
        InvalidInput: a path cannot be written in one.
    """
    _checked([*service.command, service.path or ""])
    agent: dict[str, object] = {
        "Label": service.label,
        "ProgramArguments": list(service.command),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": 5,
        "ExitTimeOut": _STOP_SECONDS,
        "ProcessType": "Background",
        "Umask": 0o077,
        "StandardErrorPath": str(service.home / "logs" / "service.err"),
    }
    if service.path:
        agent["EnvironmentVariables"] = {"PATH": service.path}
    text = plistlib.dumps(agent, sort_keys=False).decode("utf-8")
    head, found, rest = text.partition("<plist")
    return f"{head}<!-- {MARK}, which also removes it. -->\n{found}{rest}"


def _checked(words: Sequence[str]) -> None:
    for word in words:
        if _CONTROL.search(word):
            raise InvalidInput(
                f"{word!r} has a character that cannot stand in a service's description",
                hint="Choose a home, and a place for the memory repo, without line breaks and control characters.",
            )
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            raise InvalidInput(
                f"{word!r} is not valid UTF-8", hint="A service's description is; choose another place."
            ) from None


def _escaped(text: str) -> str:
    """Where systemd takes the rest of the line as it is, but for `%`; no backslash may end it."""
    return text.replace("%", "%%")


def _command(words: Sequence[str]) -> str:
    # The colon: `$` means nothing special. It belongs to the first word, as its quotes do.
    first, *rest = words
    return " ".join([_quoted(f":{first}"), *map(_quoted, rest)])


def _quoted(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _path(path: Path) -> str:
    """As one of several paths: there systemd takes quotes off, and has no way to write a backslash."""
    text = str(path).replace("%", "%%")
    for quote in ('"', "'"):
        if quote not in text and "\\" not in text:
            return f"{quote}{text}{quote}"
    raise InvalidInput(
        f"{str(path)!r} cannot be named in a systemd unit", hint="Choose a name without quotes and backslashes."
    )
