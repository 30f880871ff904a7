"""`alg path` and `alg init`: where things lie, and making the home."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adaptive_llm_gateway.core import AlgError, ConfigError, Home, InvalidInput, StorageError
from adaptive_llm_gateway.server import _cli_hub
from adaptive_llm_gateway.server._cli_output import HubRefused, Json, talk
from adaptive_llm_gateway.server._cli_work import run_sync
from adaptive_llm_gateway.server._registration import alg_command, registration, this_installation

if TYPE_CHECKING:
    from pydantic import BaseModel

# One of these in a folder that is not empty says that it is a home.
_MARKS = ("config.yaml", "memory", "index.db", "hub.lock", "hub-start.lock", "logs")
_HAND = "Set `remote` under `sync` in it by hand, then `alg hub stop`."
_NOT_A_PATH = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:|[^/]+:")  # a URL, or ssh's host:path


# --- alg path -----------------------------------------------------------------------------------------------------


def memory_repo(root: str) -> Path:
    """Where the memory repo lies by the configuration; by default, where that cannot be read."""
    home = Home(root)
    from adaptive_llm_gateway.core import load_settings  # noqa: PLC0415 - pydantic

    try:
        return load_settings(home).memory.path or home.memory
    except ConfigError:
        return home.memory


def merge_driver(root: str, repo: Path | None, *, uninstall: bool) -> Json:
    """Tell git of the merge driver in a clone, by default in the memory repo, or have it forget."""
    from adaptive_llm_gateway.memory import install_merge_driver, uninstall_merge_driver  # noqa: PLC0415

    folder = memory_repo(root) if repo is None else repo.absolute()
    if uninstall:
        return {"state": uninstall_merge_driver(folder), "repo": str(folder)}
    return {"state": install_merge_driver(folder, (*this_installation(), "merge-driver")), "repo": str(folder)}


def paths(root: str) -> dict[str, str]:
    """Every place by its name."""
    home = Home(root)
    return {
        "home": str(home.root),
        "config": str(home.config),
        "memory": str(memory_repo(root)),
        "index": str(home.index),
        "log": str(home.hub_log),
        "socket": str(home.socket),
        "alg": alg_command()[0],
    }


# --- alg init -----------------------------------------------------------------------------------------------------


def init(root: str, *, remote: str | None, yes: bool) -> Json:
    """Make the home and what belongs in it, leaving alone what is there; start the hub; say how to register.

    Args:
        remote: the git remote of the memory repo, to be set in the configuration.
        yes: do not ask.

    Raises:
        AlgError: the user said no.
        InvalidInput: there is nobody to ask, the folder is something else, or the remote is no address.
        ConfigError: the configuration that is there is not valid.
        StorageError: the home cannot be made.
        HubRefused: the hub does not start, or cannot open the memory repo.
    """
    from adaptive_llm_gateway.core import load_settings  # noqa: PLC0415 - pydantic

    home = Home(root)
    _check_folder(home)
    settings = load_settings(home)
    if remote is not None and not remote.strip():  # as of a variable that is not set
        raise InvalidInput("the remote's address is empty", hint="Leave --remote out, or name the remote.")
    address = _absolute(remote) if remote else None
    before = _read(home.config)
    after = default_config(address) if before is None else before
    if before is not None and address is not None and settings.sync.remote != address:
        after = with_remote(before, address, path=home.config)
    repo = settings.memory.path or home.memory
    _ask(home, before, after, repo, yes=yes)

    created: list[str] = []
    kept: list[str] = []
    (kept if home.root.exists() else created).append(str(home.root))
    (created if before is None else kept).append(str(home.config))
    (kept if (repo / ".git").exists() else created).append(str(repo))
    _make_home(home.root)
    backup = _write_config(home.config, before, after)
    if after != before:
        _cli_hub.stop(root)  # it has read the configuration as it was
    with _cli_hub.open_hub(root) as hub:
        store = hub.call("status")
        running = hub.call("hub_status")
    from adaptive_llm_gateway.server._repos import PERSONAL, personal_sync  # noqa: PLC0415 - 200 ms

    sync: Json = personal_sync(store)
    if address is not None:
        # Where there are several repos, each note names its own.
        told = (note.removeprefix(f"{PERSONAL}: ") for note in store["notices"])
        refused = next((note for note in told if note.startswith("the remote could not be set")), None)
        if refused is not None:
            _take_back(home, before, backup)
            raise InvalidInput(refused, hint="Give a path, or an ssh or https address without a password.")
        sync = _first_pull(root, sync)
    return {
        "home": str(home.root),
        "config": str(home.config),
        "memory": str(repo),
        "created": created,
        "kept": kept,
        "backup": str(backup) if backup else None,
        "sync": sync,
        "hub": running,
        "register": dict(registration(root)),
    }


def talk_about_init(done: Json) -> None:
    """On stderr: what was made, what was there, and what the lines on stdout are for."""
    for path in done["created"]:
        talk(f"created {path}")
    for path in done["kept"]:
        talk(f"kept    {path}")
    if done["backup"]:
        talk(f"the configuration as it was is kept in {done['backup']}")
    if done["sync"]["remote"]:
        from adaptive_llm_gateway.server._render_sync import sync_text  # noqa: PLC0415

        talk(f"remote  {done['sync']['remote']}: {sync_text(done['sync'])}")
    talk(f"hub     running, pid {done['hub']['pid']}")
    if sys.stdout.isatty():  # what comes next
        talk("To register it with Claude Code and with Codex:")


def _check_folder(home: Home) -> None:
    try:
        names = {entry.name for entry in os.scandir(home.root)}
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise InvalidInput(f"{str(home.root)!r} is not a folder", hint="Choose another home with --home.") from None
    except OSError as error:
        raise StorageError(f"cannot look into {str(home.root)!r}: {error.strerror}") from None
    if names and not names & set(_MARKS):
        raise InvalidInput(
            f"{str(home.root)!r} is not empty and holds nothing of ours",
            hint="A home is a folder of its own: choose a new or empty one with --home.",
        )


def _absolute(remote: str) -> str:
    """A relative path as an absolute one: git would take it from the memory repo, not from here."""
    if _NOT_A_PATH.match(remote) or remote.startswith("-"):
        return remote
    return str(Path(remote).expanduser().absolute())


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def _ask(home: Home, before: str | None, after: str, repo: Path, *, yes: bool) -> None:
    if before is not None:
        talk(f"{str(home.config)!r} is there and stays" + ("" if after == before else ", but for the remote"))
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput("there is nobody to ask whether to go on", hint="Give --yes.")
    print(f"Create the home {str(home.root)!r} with the memory repo {str(repo)!r}? [Y/n] ", end="", file=sys.stderr)
    sys.stderr.flush()
    try:
        answer = input()
    except EOFError:
        answer = "n"
    if answer.strip().lower() not in ("", "y", "yes"):
        raise AlgError("nothing was done")


def _make_home(root: Path) -> None:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and root.stat().st_mode & 0o077:
            root.chmod(0o700)
    except OSError as error:
        raise StorageError(f"cannot make the home {str(root)!r}: {error.strerror}", path=str(root)) from None


def _first_pull(root: str, sync: Json) -> Json:
    """What another machine has written already; that it cannot be had now does not keep the hub from working."""
    from adaptive_llm_gateway.server._repos import PERSONAL, personal_sync  # noqa: PLC0415 - 200 ms

    try:
        return run_sync(root, "pull", wait=True, repo=PERSONAL)
    except KeyboardInterrupt:
        talk("note: the first pull goes on in the hub; `alg memory status` says how it ends")
        with _cli_hub.open_hub(root) as hub:
            return personal_sync(hub.call("status")) or sync
    except HubRefused as refused:
        from adaptive_llm_gateway.server._render_sync import sentence  # noqa: PLC0415

        hint = f" {refused.error['hint']}" if refused.error.get("hint") else ""
        talk(f"note: the first pull did not succeed: {sentence(refused.error['message'])}{hint}")
        with _cli_hub.open_hub(root) as hub:
            return personal_sync(hub.call("status")) or sync


# --- The configuration file ---------------------------------------------------------------------------------------

_EXAMPLES = {
    "repos": ('team: {remote: "ssh://git@example.org/team/memory.git", projects: [acme, "acme-*"], trust: internal}',),
    "providers": (
        "ollama: {kind: ollama}",
        "work: {kind: openai_compatible, url: https://llm.example.com/v1, key_env: WORK_KEY}",
    ),
    "routes": ("fast: [ollama/qwen3:4b, work/small]",),
}
"""Sections whose keys are names of the user's own have no defaults to show."""


def default_config(remote: str | None = None) -> str:
    """The text of a new `config.yaml`: every key, its default and what it is for, as comments; `remote` is set."""
    from adaptive_llm_gateway.core import Settings  # noqa: PLC0415 - pydantic

    lines = [
        "# Configuration of the Adaptive LLM Gateway. Every key has a default, which is shown;",
        "# take away the `# ` before a section and a key to set it. The environment overrules this file:",
        "# hub.idle_minutes, for example, is ALG_HUB__IDLE_MINUTES there.",
    ]
    for name, field in Settings.model_fields.items():
        if name in _EXAMPLES:
            lines += ["", f"# {field.description}", f"# {name}:", *(f"#   # {line}" for line in _EXAMPLES[name])]
            continue
        section = cast("type[BaseModel]", field.annotation)
        set_here = name == "sync" and remote is not None
        lines += ["", f"# {(section.__doc__ or '').strip()}", f"{name}:" if set_here else f"# {name}:"]
        for key, info in section.model_fields.items():
            lines.append(f"  # {info.description}" if set_here else f"#   # {info.description}")
            if set_here and key == "remote":
                lines.append(f"  remote: {_scalar(remote)}")
            else:
                lines.append(("  # " if set_here else "#   ") + f"{key}: {_scalar(info.default)}")
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    # A JSON scalar is a YAML one.
    return json.dumps(value, ensure_ascii=False)


def with_remote(text: str, remote: str, *, path: Path) -> str:
    """The text of a `config.yaml` with `sync.remote` set and all else, comments included, as it was.

    Raises:
        ConfigError: it is written in a way that this does not know how to change.
    """
    import yaml  # noqa: PLC0415

    found: dict[str, Any] = yaml.safe_load(text) or {}
    section: dict[str, Any] = found.get("sync") or {}
    wanted: dict[str, Any] = {**found, "sync": {**section, "remote": remote}}
    if text == default_config():
        return default_config(remote)
    changed = _insert_remote(text, remote, yaml.compose(text, Loader=yaml.SafeLoader))
    try:
        fits = changed is not None and yaml.safe_load(changed) == wanted
    except yaml.YAMLError:
        fits = False
    if not fits or changed is None:
        raise ConfigError(f"cannot set the remote in {str(path)!r}, as it is written", hint=_HAND, path=str(path))
    return changed


def _insert_remote(text: str, remote: str, root: Any) -> str | None:
    value = _scalar(remote)
    pairs: list[tuple[Any, Any]] = root.value if root is not None else []
    section = next((node for key, node in pairs if key.value == "sync"), None)
    if section is None:
        if root is not None and root.flow_style:
            return None
        return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}sync:\n  remote: {value}\n"
    entries = cast("list[tuple[Any, Any]]", section.value if isinstance(section.value, list) else [])  # pyright: ignore[reportUnknownMemberType]
    if not entries:
        return None
    for key, node in entries:
        if key.value == "remote":
            return text[: node.start_mark.index] + value + text[node.end_mark.index :]
    first = entries[0][0].start_mark
    end = ", " if section.flow_style else "\n" + " " * first.column
    return f"{text[: first.index]}remote: {value}{end}{text[first.index :]}"


def _write_config(path: Path, before: str | None, after: str) -> Path | None:
    """Put the new text in place in one step; the old one, if it differs, is kept beside it."""
    if after == before:
        return None
    target = path.resolve()  # a link, as people who keep their settings in a repo have, stays one
    backup: Path | None = None
    try:
        if before is not None:
            names = (target.with_name(f"{path.name}.bak{number or ''}") for number in range(1000))
            backup = next(name for name in names if not os.path.lexists(name))
            _write_new(backup, before)
        _write_new(target, after)
    except OSError as error:
        raise StorageError(f"cannot write {str(path)!r}: {error.strerror}", path=str(path)) from None
    return backup


def _write_new(target: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _take_back(home: Home, before: str | None, backup: Path | None) -> None:
    _write_new(home.config.resolve(), default_config() if before is None else before)
    if backup is not None:
        backup.unlink(missing_ok=True)
    _cli_hub.stop(str(home.root))
