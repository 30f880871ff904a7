"""`alg hub install`: have systemd or launchd keep the hub running, and take that back."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, assert_never

from adaptive_llm_gateway.core import (
    Home,
    InvalidInput,
    StorageError,
    Unavailable,
    load_settings,
    settings_in_environment,
)
from adaptive_llm_gateway.server._cli_output import Json, Paint, talk
from adaptive_llm_gateway.server._registration import alg_command
from adaptive_llm_gateway.server._repos import configured_repos
from adaptive_llm_gateway.server._service import MARK, Manager, Service, agent_text, unit_text

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import Settings

State = Literal["would_install", "installed", "unchanged", "written", "would_remove", "removed", "absent"]

_ASK_SECONDS: Final = 20.0
_START_SECONDS: Final = 150.0
_USUAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MAC_PATH: Final = "/usr/bin:/bin:/usr/sbin:/sbin"
# Where they say that a user's programs get no file systems of their own.
_REFUSING: Final = {
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
    "/proc/sys/user/max_user_namespaces": "0",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written where, and what to run then.

    Attributes:
        file: where the manager looks for it.
        text: what is to stand there.
        before: what stands there now; None: nothing.
        begin, end: commands that have the manager take it up, and let it go.
        reachable: whether the manager of this user answers.
        notes: what whoever installs it has to know.
    """

    manager: Manager
    name: str
    file: Path
    text: str
    before: str | None
    begin: tuple[tuple[str, ...], ...]
    end: tuple[tuple[str, ...], ...]
    reachable: bool
    notes: tuple[str, ...]


def install(root: str, *, dry_run: bool, uninstall: bool, show: Callable[[str], None] | None = None) -> Json:
    """Install the service of the home's hub, or remove it; with `dry_run` only say how.

    Args:
        show: given what is to be written, before it is.

    Raises:
        Unavailable: there is no service manager here, or it refused.
        InvalidInput: what is in place is not ours, or a path cannot be written in it.
        StorageError: the file cannot be written.
    """
    plan = _plan(root)
    if uninstall:
        return _told(plan, *_remove(plan, dry_run=dry_run))
    if show is not None:
        show(plan.text)
    return _told(plan, *_put(plan, dry_run=dry_run))


def installed_text(done: Json, paint: Paint) -> str:
    """What was done, for people."""
    state: State = done["state"]
    match state:
        case "would_install" | "would_remove":
            head = f"{paint(state.replace('_', ' '), 'yellow')}  {done['file']}"
        case "installed" | "unchanged":
            head = f"{paint(state, 'green')}  {done['name']} runs the hub; {done['file']}"
        case "written":
            head = f"{paint('written', 'yellow')}  {done['file']}; {done['manager']} is not reachable from here"
        case "removed":
            head = f"removed  {done['file']}"
        case "absent":
            head = f"nothing to remove: {done['file']} is not there"
        case _:
            assert_never(state)
    lines = [head]
    if done["backup"]:
        lines.append(f"kept     {done['backup']}, as it was")
    lines += [f"note: {note}" for note in done["notes"]]
    if done["run"]:
        lines += ["To run, as the user whose hub it is:", *(f"  {command}" for command in done["run"])]
    return "\n".join(lines)


def show(text: str) -> None:
    """What is about to be written, on stderr."""
    talk(text.rstrip("\n"))


# --- The plan -----------------------------------------------------------------------------------------------------


def _plan(root: str) -> Plan:
    home = Home(root)
    settings = load_settings(home)
    mac = sys.platform == "darwin"
    if not mac and shutil.which("systemctl") is None:
        raise Unavailable(
            "there is no systemd and no launchd here that could keep the hub running",
            hint="In a container run `alg hub run --service`. Elsewhere clients start the hub by themselves.",
        )
    repos = configured_repos(home, settings)
    beside = [repo.path for repo in repos if not repo.path.is_relative_to(home.root)]
    # A remote that is a folder of this machine is written to by git.
    beside += [Path(repo.remote) for repo in repos if repo.remote and os.path.isabs(repo.remote) and not repo.read_only]  # noqa: PTH117
    if home.socket.parent != home.root:
        beside.append(home.socket.parent.parent)  # the hub makes a folder there
    usual = _MAC_PATH if mac else _USUAL_PATH
    git = shutil.which("git")
    service = Service(
        alg=alg_command(),
        home=home.root,
        writable=tuple(dict.fromkeys(beside)),
        private_tmp=not any(
            path.is_relative_to(shared)
            for path in (home.root, home.socket, *beside, *map(Path, alg_command()), Path(__file__))
            for shared in ("/tmp", "/var/tmp")  # noqa: S108
        ),
        namespaces=mac or _has_namespaces(),
        seals_memory=settings.embedder.kind != "transformers" and settings.reranker.kind != "transformers",
        default_home=home.root == Path("~/.adaptive-llm-gateway").expanduser(),
        path=f"{Path(git).parent}:{usual}" if git and shutil.which("git", path=usual) is None else None,
    )
    missing = [f"{str(path)!r} is not there yet" for path in (home.root, *service.writable) if not path.exists()]
    if missing:
        raise InvalidInput(
            "; ".join(missing), hint="Make the home first: `alg init`, or start the hub once: `alg hub start`."
        )
    notes = _notes(settings)
    if mac:
        file = Path("~/Library/LaunchAgents").expanduser() / f"{service.label}.plist"
        domain = f"gui/{os.getuid()}"
        return Plan(
            "launchd",
            service.label,
            file,
            agent_text(service),
            _read(file),
            (("launchctl", "bootstrap", domain, str(file)),),
            (("launchctl", "bootout", f"{domain}/{service.label}"),),
            _answers("launchctl", "print", domain),
            notes,
        )
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    file = folder / "systemd" / "user" / service.unit
    user = ("systemctl", "--user")
    if not service.namespaces:
        notes = (*notes, "this machine lets no user's service have a file system of its own: it is hardened less")
    if not _lingers():
        notes = (*notes, "it runs while you are logged in; `loginctl enable-linger` has it run from the start on")
    return Plan(
        "systemd",
        service.unit,
        file,
        unit_text(service),
        _read(file),
        ((*user, "daemon-reload"), (*user, "enable", service.unit), (*user, "restart", service.unit)),
        ((*user, "disable", "--now", service.unit), (*user, "daemon-reload")),
        _answers(*user, "show-environment"),
        notes,
    )


def _notes(settings: Settings) -> tuple[str, ...]:
    """What of this environment the service will not have."""
    notes = [
        f"{name} is set here and not for the service: put it into config.yaml" for name in settings_in_environment()
    ]
    keys = {
        settings.embedder.api_key_env,
        settings.reranker.api_key_env,
        settings.index.api_key_env,
        *(provider.key_env for provider in settings.providers.values()),
    }
    where = "launchd has no file for such" if sys.platform == "darwin" else "service.env in the home may hold it"
    notes += [
        f"{name} holds a key here and not for the service: the keychain is read by it, or {where}"
        for name in sorted(key for key in keys if key and key in os.environ)
    ]
    return tuple(notes)


def _has_namespaces() -> bool:
    if os.getuid() == 0:
        return True
    for name, refusing in _REFUSING.items():
        with contextlib.suppress(OSError):
            if Path(name).read_text(encoding="ascii").strip() == refusing:
                return False
    return True


def _lingers() -> bool:
    with contextlib.suppress(OSError, KeyError, ImportError):
        import pwd  # noqa: PLC0415 - not on every system

        return Path("/var/lib/systemd/linger", pwd.getpwuid(os.getuid()).pw_name).exists()
    return False


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot read {str(file)!r}: {error}", path=str(file)) from None


# --- Doing it -----------------------------------------------------------------------------------------------------


def _put(plan: Plan, *, dry_run: bool) -> tuple[State, Path | None]:
    if plan.before is not None and MARK not in plan.before:
        raise InvalidInput(
            f"{str(plan.file)!r} is there and was not written by `alg hub install`",
            hint="Move it away, or keep the hub running by it.",
            path=str(plan.file),
        )
    if dry_run:
        return "would_install", None
    same = plan.before == plan.text
    if same and plan.reachable and _runs(plan):
        return "unchanged", None
    backup = None if same else _write(plan)
    if not plan.reachable:
        return "written", backup
    if plan.manager == "launchd" and plan.before is not None:
        _answers(*plan.end[0])  # an agent is taken up anew
    try:
        for command in plan.begin:
            _run(command)
    except Unavailable:
        _take_back(plan, backup)
        raise
    return "installed", backup


def _remove(plan: Plan, *, dry_run: bool) -> tuple[State, Path | None]:
    if plan.before is None:
        return "absent", None
    if MARK not in plan.before:
        raise InvalidInput(
            f"{str(plan.file)!r} was not written by `alg hub install`", hint="Whoever wrote it may remove it."
        )
    if dry_run:
        return "would_remove", None
    backup = None if plan.before == plan.text else _kept(plan.file)
    if plan.reachable:
        _answers(*plan.end[0], seconds=_START_SECONDS)  # it may have been let go by hand
    plan.file.unlink(missing_ok=True)
    for command in plan.end[1:] if plan.reachable else ():
        _run(command)
    return "removed", backup


def _write(plan: Plan) -> Path | None:
    """Put the text in place in one step; what was there is kept beside it."""
    try:
        plan.file.parent.mkdir(parents=True, exist_ok=True)
        backup = None if plan.before is None else _kept(plan.file)
        handle, name = tempfile.mkstemp(prefix=f".{plan.file.name}.", dir=plan.file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(plan.text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(plan.file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"cannot write {str(plan.file)!r}: {error.strerror}", path=str(plan.file)) from None
    return backup


def _kept(file: Path) -> Path:
    """A copy of what is in place, beside it; an earlier one stays."""
    names = (file.with_name(f"{file.name}.bak{number or ''}") for number in range(1000))
    backup = next(name for name in names if not os.path.lexists(name))
    shutil.copy2(file, backup)
    return backup


def _take_back(plan: Plan, backup: Path | None) -> None:
    """The manager refused: as it was before."""
    _answers(*plan.end[0])
    if plan.before is None:
        plan.file.unlink(missing_ok=True)
    elif backup is not None:
        backup.replace(plan.file)
    for command in (*plan.end[1:], *(plan.begin if plan.before is not None else ())):
        _answers(*command, seconds=_START_SECONDS)


def _runs(plan: Plan) -> bool:
    match plan.manager:
        case "systemd":
            return _answers("systemctl", "--user", "is-active", "--quiet", plan.name)
        case "launchd":
            return _answers("launchctl", "print", f"gui/{os.getuid()}/{plan.name}")
        case _:
            assert_never(plan.manager)


def _answers(*command: str, seconds: float = _ASK_SECONDS) -> bool:
    """Whether the command succeeds."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False, env=_environment()
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _run(command: Sequence[str]) -> None:
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_START_SECONDS,
            check=False,
            env=_environment(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"`{shown}` failed: {error}", hint="All is as it was before.") from None
    if done.returncode != 0:
        words = " ".join((done.stderr or done.stdout).split()) or f"exit status {done.returncode}"
        raise Unavailable(
            f"`{shown}` failed: {words}",
            hint="All is as it was before. `journalctl --user -e` and `alg hub logs` may say why.",
        )


def _environment() -> Mapping[str, str]:
    return {**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": ""}


def _told(plan: Plan, state: State, backup: Path | None) -> Json:
    commands: Callable[[tuple[tuple[str, ...], ...]], list[str]] = lambda rows: [" ".join(row) for row in rows]  # noqa: E731
    run: list[str] = []
    if not plan.reachable:
        run = commands(plan.end) if state == "removed" else commands(plan.begin) if state == "written" else []
    done: dict[str, Any] = {
        "state": state,
        "manager": plan.manager,
        "name": plan.name,
        "file": str(plan.file),
        "text": plan.text,
        "backup": str(backup) if backup else None,
        "notes": [] if state in ("removed", "absent", "would_remove") else list(plan.notes),
        "run": run,
    }
    return done
