"""`alg doctor`: look at everything that has to be right, and say what to do about what is not. Starts nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_never, cast

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    AlgError,
    Home,
    LockHeld,
    ProcessLock,
    counted,
    load_agreed,
    load_settings,
    set_offline,
    settings_in_environment,
)
from adaptive_llm_gateway.server import _cli_hub, _cli_mode
from adaptive_llm_gateway.server._cli_doctor_http import look_at_files
from adaptive_llm_gateway.server._cli_output import HubRefused, Json, Paint, harmless
from adaptive_llm_gateway.server._gate import without_secrets
from adaptive_llm_gateway.server._mark_key import look_at_mark_key
from adaptive_llm_gateway.server._registration import NAME, registration
from adaptive_llm_gateway.server._render_sync import standing_line, what_is_so
from adaptive_llm_gateway.server._repos import PERSONAL, RepoInfo, check_apart, configured_repos, personal_sync

if TYPE_CHECKING:
    from adaptive_llm_gateway.core import Settings

State = Literal["ok", "warn", "fail"]

MIN_GIT = (2, 30)
_FREE_BYTES = 200 * 1024 * 1024
_REMOTE_SECONDS = 15.0
_PACKAGES = ("apsw", "numpy", "pygit2", "watchdog", "mcp", "pydantic", "yaml", "detect_secrets")
_SEEN_HERE = (
    *("disk_full", "read_only", "corrupt_here", "repo_busy", "detached_head", "ref_locked", "format_too_new"),
    *("index_lock", "index_lock_stale", "identity_missing", "shallow", "ownership", "other"),
)
_ANEW = "`alg hub stop` and `alg hub start`"
_HOOK_MARK = "adaptive-llm-gateway: secret gate"
_NAME_ANOTHER = "Name a path, or an ssh or https address without a password, under `sync.remote`; then `alg hub stop`."
_STAYS_HERE = "What was edited here by hand never leaves; bring it to somebody who may push."


@dataclass(frozen=True, slots=True)
class Check:
    """One finding: what was looked at, how it is, and what to do about it."""

    name: str
    state: State
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    """What several checks look at: None where it is not to be had."""

    home: Home
    settings: Settings | None
    hub: Json | None
    store: Json | None
    problem: Json | None
    sync: Json | None = None

    @property
    def repo(self) -> Path:
        return (self.settings.memory.path if self.settings else None) or self.home.memory


def examine(root: str) -> list[Check]:
    """Every check, in an order in which an earlier one explains the later ones."""
    home = Home(root)
    checks = [*_machine(), *_home(home)]
    settings: Settings | None = None
    try:
        settings = load_settings(home)
    except AlgError as error:
        checks.append(Check("config", "fail", str(error), error.hint or f"Correct {str(home.config)!r}."))
    else:
        here = settings_in_environment()
        rest = f"beside {', '.join(here)} in the environment" if here else ""
        source = (
            f"{home.config} {rest}".rstrip() if home.config.exists() else f"none; every key {rest or 'has its default'}"
        )
        checks.append(Check("config", "ok", source))
    checks.append(_mode(home))
    seen = _ask_hub(home, settings)
    seen = replace(seen, sync=personal_sync(seen.store) if seen.store is not None else _look_at_sync(seen.repo))
    for look in (
        _hub,
        _http,
        _tokens,
        _files_of_http,
        _store,
        _repos,
        _index,
        _embedder,
        _reranker,
        _hook,
        _objects,
        _merging,
        _remote,
        _clients,
    ):
        checks += look(seen)
    return [_told(check) for check in checks]


def _told(check: Check) -> Check:
    """The same with marks for credentials: it may quote a wrong setting, or what a git remote is called."""
    hint = without_secrets(check.hint) if check.hint else check.hint
    return replace(check, message=without_secrets(check.message), hint=hint)


def as_json(checks: list[Check]) -> Json:
    """The checks as JSON; `ok` when none fails."""
    return {
        "ok": all(check.state != "fail" for check in checks),
        "checks": [
            {"name": check.name, "state": check.state, "message": check.message, "hint": check.hint} for check in checks
        ],
    }


def as_text(checks: list[Check], paint: Paint) -> str:
    """A line for each check, and below it what to do."""
    styles = {"ok": "green", "warn": "yellow", "fail": "red"}
    lines: list[str] = []
    for check in checks:
        lines.append(f"{paint(f'{check.state:<4}', styles[check.state])}  {check.name:<11} {harmless(check.message)}")
        if check.hint and check.state != "ok":
            lines.append(f"                  to do: {harmless(check.hint)}")
    return "\n".join(lines)


def _ask_hub(home: Home, settings: Settings | None) -> _Seen:
    status = _cli_hub.status(str(home.root))
    if not status["running"]:
        return _Seen(home, settings, None, None, None)
    try:
        with _cli_hub.open_hub(str(home.root), start=False) as hub:
            return _Seen(home, settings, status, hub.call("status"), None)
    except HubRefused as refused:
        return _Seen(home, settings, status, None, refused.error)


# --- The machine and the home ---------------------------------------------------------------------------------------


def _machine() -> Iterator[Check]:
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        yield Check("packages", "fail", f"missing: {', '.join(missing)}", "Install adaptive-llm-gateway again.")
    else:
        yield Check("packages", "ok", f"{len(_PACKAGES)} of {len(_PACKAGES)} found")
    words = _git(["--version"])
    version = re.search(r"(\d+)\.(\d+)[.\d]*", words or "")
    if words is None or version is None:
        yield Check("git", "fail", "git is not on the PATH", "Install git.")
    elif (int(version[1]), int(version[2])) < MIN_GIT:
        wanted = ".".join(map(str, MIN_GIT))
        yield Check("git", "warn", f"{version[0]} is older than {wanted}", f"Install git {wanted} or newer.")
    else:
        yield Check("git", "ok", version[0])


def _home(home: Home) -> Iterator[Check]:
    root = home.root
    try:
        status = root.stat()
    except FileNotFoundError:
        yield Check("home", "fail", f"there is no {str(root)!r}", "`alg init` makes it.")
        return
    except OSError as error:
        yield Check("home", "fail", f"{str(root)!r}: {error.strerror}", "Choose another home with --home.")
        return
    if not stat.S_ISDIR(status.st_mode) or not os.access(root, os.R_OK | os.W_OK | os.X_OK):
        yield Check("home", "fail", f"{str(root)!r} is no folder that can be written", "Choose another with --home.")
    elif os.name == "posix" and status.st_uid != os.getuid():
        yield Check("home", "fail", f"{str(root)!r} belongs to another user", "Choose another with --home.")
    elif os.name == "posix" and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        yield Check("home", "warn", f"{str(root)!r} is open to others (mode {mode:04o})", f"chmod 700 {root}")
    else:
        yield Check("home", "ok", str(root))
    yield _marks(home)
    free = shutil.disk_usage(root).free
    if free < _FREE_BYTES:
        yield Check("disk", "warn", f"{free // 2**20} MB free", "Free some space.")


def _marks(home: Home) -> Check:
    problem = look_at_mark_key(home.mark_key)
    if problem is None:
        there = "its key is there" if home.mark_key.exists() else "the first hub makes their key"
        return Check("marks", "ok", f"of redacted secrets: {there}")
    return Check(
        "marks",
        "warn",
        f"{str(home.mark_key)!r} {problem}: marks of redacted secrets may not tell equal ones",
        "`alg hub stop`; the next hub mends it, or says in `alg memory status` what is to be done.",
    )


def _mode(home: Home) -> Check:
    found = _cli_mode.look(str(home.root))
    if found["mode"] == "offline":
        set_offline(True)  # what is looked at here and below must not leave the machine either
    if found["problem"]:
        return Check("mode", "fail", found["problem"], "`alg mode` shows what was tried; docs/offline.md says more.")
    proof = f", proved by {len(found['proof'])} attempts to leave" if found["proof"] else ""
    return Check("mode", "ok", found["mode"] + proof)


# --- The hub and what it holds ----------------------------------------------------------------------------------------


def _hub(seen: _Seen) -> Iterator[Check]:
    if seen.hub is not None:
        from importlib.metadata import version  # noqa: PLC0415

        facts = f"running, pid {seen.hub['pid']}, {counted(seen.hub['clients'], 'client')} connected on this machine"
        installed = version("adaptive-llm-gateway")
        if seen.hub["version"] != installed:
            yield Check("hub", "warn", f"{facts}, version {seen.hub['version']} of {installed}", "`alg hub stop`")
        else:
            yield Check("hub", "ok", facts)
        return
    if seen.home.hub_lock.exists():
        try:
            with ProcessLock(seen.home.hub_lock):
                pass
        except LockHeld as error:
            owner: Any = error.details.get("owner") or {}
            yield Check(
                "hub",
                "fail",
                f"process {owner.get('pid', '?')} holds the home but does not answer",
                "It may be starting or stopping: look again in a moment, then at `alg hub logs`.",
            )
            return
        except AlgError as error:
            yield Check("hub", "fail", str(error), error.hint)
            return
    yield Check("hub", "ok", "not running; the next client starts it")


def _http(seen: _Seen) -> Iterator[Check]:
    """Whether the hub listens by HTTP where it is to."""
    http: Json = (seen.hub or {}).get("http", {"state": "off"})
    if http["state"] == "listening":
        yield Check("http", "ok", http["url"])
    elif http["state"] == "failed":
        yield Check("http", "fail", http["problem"], http["hint"])
    elif http["state"] == "off" and seen.hub is not None and seen.settings is not None and seen.settings.http.enabled:
        yield Check("http", "warn", "the hub was started before `http.enabled` was set", _ANEW)


def _tokens(seen: _Seen) -> Iterator[Check]:
    """Whether those who may come by HTTP can, and how many they are."""
    path = seen.home.clients
    if not os.path.lexists(path):
        return
    from adaptive_llm_gateway.server._clients import Clients  # noqa: PLC0415 - most homes have none

    clients = Clients(path)
    if (problem := clients.problem) is not None:
        yield Check("tokens", "fail", problem.message, problem.hint)
        return
    now = clients.now()
    states = [client.state(now) for client in clients.all()]
    told = f"{counted(states.count('valid'), 'client')} may come by HTTP"
    yield Check("tokens", "ok", told + (f", {states.count('expired')} have expired" if "expired" in states else ""))


def _files_of_http(seen: _Seen) -> Iterator[Check]:
    """What lies in the home of clients by HTTP, and what the hub could not write of it."""
    for finding in look_at_files(seen.home):
        yield Check(*finding)
    audit: Json = (seen.hub or {}).get("audit") or {}
    if audit.get("error"):
        yield Check("audit now", "fail", audit["error"], "`alg hub status` says how much waits, and what is lost.")


def _store(seen: _Seen) -> Iterator[Check]:
    if seen.problem is not None:
        yield Check("store", "fail", seen.problem["message"], seen.problem.get("hint") or "`alg hub logs` says more.")
        return
    git_folder = seen.repo / ".git"
    if not git_folder.exists():
        yield Check("store", "warn", f"there is no memory repo at {str(seen.repo)!r} yet", "`alg init` makes it.")
        return
    here = [problem for problem in (seen.sync or {"problems": []})["problems"] if _is_here(problem)]
    for problem in here:
        yield _check("store", problem)
    if any(problem["blocks"] for problem in here):
        return
    if seen.store is None:
        yield Check("store", "ok", f"{seen.repo} (not open: no hub is running)")
        yield from _allowances_of(seen.repo, "allowances")
        return
    count: int = seen.store["uncommitted"]
    waiting = f", {counted(count, 'write waits', 'writes wait')} for a commit" if count else ""
    yield Check("store", "ok", f"{seen.repo}, {counted(seen.store['memories'], 'memory', 'memories')}{waiting}")
    for notice in seen.store["notices"]:
        yield Check("store", "warn", notice)


def _repos(seen: _Seen) -> Iterator[Check]:
    """Several memory repos: whether they get in each other's way, and how each stands."""
    if seen.settings is None or not seen.settings.repos:
        return
    repos = configured_repos(seen.home, seen.settings)
    try:
        check_apart(repos)
    except AlgError as error:
        yield Check("repos", "fail", str(error), error.hint)
        return
    everything = next((repo for repo in repos if "*" in repo.projects), None)
    for repo in repos[repos.index(everything) + 1 :] if everything is not None else ():
        yield Check(
            "repos",
            "warn",
            f"nothing is written to {repo.name!r}, for {everything.name!r} before it has every project",  # pyright: ignore[reportOptionalMemberAccess]
            "Put it first in the configuration.",
        )
    told: dict[str, Json] = {repo["name"]: repo for repo in (seen.store or {}).get("repos", ())}
    for repo in repos:
        yield from _repo_open(repo, told[repo.name]) if repo.name in told else _repo_closed(repo)
        if repo.name != PERSONAL:
            yield from _hook_of(repo.path, f"hook {repo.name}")
            yield from _merging_of(repo.path, f"merging {repo.name}")


def _repo_open(repo: RepoInfo, told: Json) -> Iterator[Check]:
    name = f"repo {repo.name}"
    if told["problem"]:
        hint = f"Look at {told['path']!r}; `alg hub logs` says more."
        yield Check(name, "fail", f"not there: {told['problem']}", hint)
        return
    yield Check(name, "ok", f"{told['path']}, {counted(told['memories'], 'memory', 'memories')}")
    yield from _remote_of(f"remote {repo.name}", repo.path, told["sync"], is_open=True)


def _allowances_of(repo: Path, name: str) -> Iterator[Check]:
    """Whether the list of what is no secret can be read; a hub that runs tells that itself."""
    try:
        load_agreed(repo / ALLOWANCES_FILE)
    except AlgError as error:
        yield Check(name, "warn", f"no finding of secrets is allowed: {error}", error.hint)


def _repo_closed(repo: RepoInfo) -> Iterator[Check]:
    name = f"repo {repo.name}"
    if not (repo.path / ".git").exists():
        if repo.index.exists():
            yield Check(name, "fail", f"{str(repo.path)!r} is gone", "Bring the folder back, or correct its path.")
        else:
            yield Check(name, "ok", f"{str(repo.path)!r} is not there yet; the hub makes it")
        return
    yield Check(name, "ok", str(repo.path))
    yield from _allowances_of(repo.path, f"allowances {repo.name}")
    sync = _look_at_sync(repo.path, read_only=repo.read_only)
    yield from _remote_of(f"remote {repo.name}", repo.path, sync, is_open=False)


def _index(seen: _Seen) -> Iterator[Check]:
    kind = seen.settings.index.kind if seen.settings is not None else "sqlite"
    if seen.settings is not None and kind != "sqlite":
        yield _index_server(seen.settings)
    if seen.store is None:
        if kind == "postgres":
            return
        there = seen.home.index.exists()
        yield Check("index", "ok", "there" if there else "not there; it is built from the files when the hub starts")
        return
    yield Check("index", "ok", seen.store["index"])
    skipped: list[Json] = seen.store["skipped"]
    if skipped:
        first = "; ".join(f"{item['path']}: {item['problem']}" for item in skipped[:3])
        more = f"; and {len(skipped) - 3} more" if len(skipped) > 3 else ""
        yield Check(
            "index",
            "warn",
            f"{counted(len(skipped), 'file is', 'files are')} left out: {first}{more}",
            "Correct them; nothing else is needed.",
        )


def _index_server(settings: Settings) -> Check:
    from adaptive_llm_gateway.memory import look_at_postgres, look_at_qdrant  # noqa: PLC0415 - only where it is wanted
    from adaptive_llm_gateway.server._hub import postgres_config, qdrant_config  # noqa: PLC0415

    try:
        database, qdrant = postgres_config(settings), qdrant_config(settings)
        if database is not None:
            return Check("index", "ok", look_at_postgres(database))
        return Check("index", "ok", look_at_qdrant(qdrant) if qdrant is not None else "in a file")
    except AlgError as error:
        return Check("index", "fail", str(error), error.hint)


def _embedder(seen: _Seen) -> Iterator[Check]:
    if seen.store is not None:
        done, total = seen.store["vectors"]
        state: str = seen.store["embedder"]
        if state.startswith("unavailable"):
            yield Check(
                "embedder", "warn", f"search is lexical: {state}", "`alg hub logs` says more; it is tried again."
            )
        elif state in ("loading", "off"):
            yield Check("embedder", "ok", f"{state}; search is lexical" + (" until then" if state == "loading" else ""))
        else:
            yield Check("embedder", "ok", f"{state}, {done} of {total} passages have a vector")
        return
    if seen.settings is None:
        return
    wanted = seen.settings.embedder
    problem: str | None = None
    match wanted.kind:
        case "onnx":
            problem = next((f"{name} is missing" for name in ("onnxruntime", "tokenizers") if not _found(name)), None)
        case "transformers":
            problem = None if _found("sentence_transformers") else "sentence-transformers is not installed"
        case "http":
            if not wanted.url:
                problem = "embedder.url is not set"
            elif wanted.api_key_env and not os.environ.get(wanted.api_key_env):
                problem = f"the environment has no {wanted.api_key_env}"
        case "none":
            pass
    if problem:
        hint = "pip install 'adaptive-llm-gateway[transformers]'" if wanted.kind == "transformers" else None
        yield Check("embedder", "warn", f"{wanted.kind}: {problem}; search would be lexical", hint)
    else:
        yield Check("embedder", "ok", f"{wanted.kind} (not loaded: no hub is running)")


def _reranker(seen: _Seen) -> Iterator[Check]:
    if seen.store is not None:
        state: str = seen.store["reranker"]
        if state.startswith("unavailable"):
            yield Check(
                "reranker", "warn", f"hits are not reranked: {state}", "`alg hub logs` says more; it is tried again."
            )
        elif state != "off":
            yield Check("reranker", "ok", state)
        return
    if seen.settings is None or seen.settings.reranker.kind == "none":
        return
    from adaptive_llm_gateway.memory import create_reranker  # noqa: PLC0415 - only where it is wanted
    from adaptive_llm_gateway.server._hub import reranker_config  # noqa: PLC0415

    wanted = seen.settings.reranker
    try:
        create_reranker(reranker_config(seen.settings))
    except AlgError as error:
        yield Check("reranker", "warn", f"{error}; hits would not be reranked", error.hint)
        return
    if wanted.kind == "http" and wanted.api_key_env and not os.environ.get(wanted.api_key_env):
        yield Check(
            "reranker",
            "warn",
            f"http: the environment has no {wanted.api_key_env}; hits would not be reranked",
            f"Set {wanted.api_key_env} where the hub starts.",
        )
    else:
        yield Check("reranker", "ok", f"{wanted.kind} (not loaded: no hub is running)")


def _found(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def _hook(seen: _Seen) -> Iterator[Check]:
    yield from _hook_of(seen.repo, "hook")


def _hook_of(repo: Path, name: str) -> Iterator[Check]:
    if not (repo / ".git").exists():
        return
    elsewhere = _git(["config", "--get", "core.hooksPath"], cwd=repo)
    if elsewhere:
        yield Check(
            name,
            "warn",
            f"git's core.hooksPath is {elsewhere!r}, so the repo's own secret check does not run on `git commit`",
            "Run `alg secrets scan --staged` from the pre-commit hook there.",
        )
        return
    common = _git(["rev-parse", "--git-common-dir"], cwd=repo) or ".git"
    texts = [_own_hook(repo / common / "hooks" / hook) for hook in ("pre-commit", "commit-msg")]
    if None in texts:
        yield Check(name, "warn", "the repo's pre-commit or commit-msg hook is not ours", _ANEW)
    elif any(sys.executable not in (text or "") for text in texts):
        yield Check(name, "warn", "the hook belongs to another installation", _ANEW)
    else:
        yield Check(name, "ok", "the pre-commit and commit-msg hooks look for secrets")


def _own_hook(hook: Path) -> str | None:
    """The text of a hook of ours that git can run."""
    try:
        text = hook.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text if _HOOK_MARK in text and os.access(hook, os.X_OK) else None


def _objects(seen: _Seen) -> Iterator[Check]:
    """What the hub found in git's objects while it had nothing else to do."""
    if seen.settings is None:
        return
    from adaptive_llm_gateway.server._objects_seen import seen_json, seen_text  # noqa: PLC0415 - only where it is wanted

    for repo in configured_repos(seen.home, seen.settings):
        name = "objects" if repo.name == PERSONAL else f"objects {repo.name}"
        found = seen_json(repo)
        if found is None:
            continue
        if found["secrets"]:
            yield Check(
                name, "warn", seen_text(found), "`alg secrets scan --history` shows each, and what to consider."
            )
        unread = f", {found['unread']:,} could not be" if found["unread"] else ""
        so_far = "" if found["complete"] else " so far"
        looked = f"{counted(found['seen'], 'git object')} looked through for secrets{so_far}{unread}"
        if not found["secrets"]:
            yield Check(name, "ok", looked)


def _merging(seen: _Seen) -> Iterator[Check]:
    yield from _merging_of(seen.repo, "merging")


def _merging_of(repo: Path, name: str) -> Iterator[Check]:
    """Whether plain git merges as the hub does, where it has been told to."""
    if not (repo / ".git").exists():
        return
    from adaptive_llm_gateway.memory import look_at_merge_driver  # noqa: PLC0415 - only where it is wanted

    try:
        state = look_at_merge_driver(repo)
    except AlgError:  # whatever that is, the store says it
        return
    hint = f"`alg memory install-merge-driver --repo {shlex.quote(str(repo))}` tells git again."
    match state:
        case "absent":
            pass
        case "ready":
            yield Check(name, "ok", "plain git merges as the hub does")
        case "no_attribute":
            text = "git's settings have the merge driver and its attributes do not name it: plain git merges by lines, "
            yield Check(name, "warn", f"{text}and leaves conflict markers where they clash", hint)
        case "no_settings":
            text = (
                "git's attributes name the merge driver and its settings lack it, or a part of it: plain git may merge "
            )
            yield Check(name, "warn", f"{text}by lines, and leave conflict markers", hint)
        case "no_program":
            text = (
                "the program of git's merge driver cannot be run: plain git stops at each file that both sides changed"
            )
            yield Check(name, "warn", text, hint)
        case _:
            assert_never(state)


def _remote(seen: _Seen) -> Iterator[Check]:
    if seen.settings is None or not seen.settings.repos:  # else each repo is told of with its remote
        named = seen.settings is not None and seen.settings.sync.remote
        if named and seen.store is not None and seen.sync is not None and not seen.sync["remote"]:
            yield Check("remote", "fail", "the one that the configuration names is not used", _NAME_ANOTHER)
            return
        yield from _remote_of("remote", seen.repo, seen.sync, is_open=seen.store is not None)


def _remote_of(name: str, repo: Path, sync: Json | None, *, is_open: bool) -> Iterator[Check]:
    if sync is None:
        return
    if not sync["remote"]:
        yield Check(name, "ok", "none")
        return
    there = [problem for problem in sync["problems"] if not _is_here(problem)]
    shown: str = sync["remote"]
    asked = None if is_open or sync["offline"] else _ask_remote(repo)
    if asked is not None:
        there = [asked, *(problem for problem in there if problem["kind"] != asked["kind"])]
    for problem in there:
        yield _check(name, problem, before=f"{shown}: ")
    if not any(problem["blocks"] for problem in there):
        state: State = "warn" if sync["state"] in ("diverged", "local") else "ok"
        reached = ", reached" if asked is None and not is_open and not sync["offline"] else ""
        held = ", held back by offline mode" if sync["offline"] else ""
        hint = {"diverged": "`alg memory pull`", "local": _STAYS_HERE}.get(sync["state"])
        yield Check(name, state, f"{shown}: {standing_line(sync)}{reached}{held}", hint)


def _is_here(problem: Json) -> bool:
    """Whether it was seen in the memory repo, rather than met by a pull or push."""
    return problem["kind"] in _SEEN_HERE and problem["operation"] in (None, "commit")


def _check(name: str, problem: Json, *, before: str = "") -> Check:
    text = before + what_is_so(problem)
    tried = f" ({problem['attempts']} attempts in a row, since {problem['since']})" if problem["attempts"] > 1 else ""
    return Check(name, "fail" if problem["blocks"] else "warn", text + tried, problem["hint"])


def _look_at_sync(repo: Path, *, read_only: bool = False) -> Json | None:
    """Where a memory repo stands that no hub has open; None where there is none."""
    if not (repo / ".git").exists():
        return None
    from adaptive_llm_gateway.memory import look_at_sync  # noqa: PLC0415 - only where it is wanted
    from adaptive_llm_gateway.server._memory_json import sync_json  # noqa: PLC0415

    return sync_json(look_at_sync(repo, read_only=read_only))


def _ask_remote(repo: Path) -> Json | None:
    """What keeps the remote from answering."""
    from adaptive_llm_gateway.memory import ask_remote  # noqa: PLC0415 - only where it is wanted

    problem = ask_remote(repo, timeout=_REMOTE_SECONDS)
    return None if problem is None else asdict(problem)


def _git(arguments: list[str], *, cwd: Path | None = None) -> str | None:
    """git's answer; None when it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=15
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


# --- Client programs ----------------------------------------------------------------------------------------------


def _clients(seen: _Seen) -> Iterator[Check]:
    lines = registration(str(seen.home.root))
    known: dict[str, tuple[str, Callable[[], bool | None]]] = {
        "claude-code": ("claude", _in_claude),
        "codex": ("codex", _in_codex),
    }
    for client, (program, registered) in known.items():
        path = shutil.which(program)
        if path is None:
            yield Check(client, "ok", f"`{program}` is not on the PATH")
        elif registered():
            yield Check(client, "ok", f"{path}, registered as {NAME!r}")
        else:
            yield Check(client, "warn", f"{path}, not registered", lines[client])


def _in_claude() -> bool | None:
    folder = os.environ.get("CLAUDE_CONFIG_DIR")
    path = Path(folder) / ".claude.json" if folder else Path.home() / ".claude.json"
    try:
        return _names(json.loads(path.read_text(encoding="utf-8")), "mcpServers")
    except (OSError, ValueError, RecursionError):
        return None


def _in_codex() -> bool | None:
    folder = os.environ.get("CODEX_HOME")
    path = (Path(folder) if folder else Path.home() / ".codex") / "config.toml"
    try:
        return _names(tomllib.loads(path.read_text(encoding="utf-8")), "mcp_servers")
    except (OSError, ValueError, RecursionError):
        return None


def _names(settings: Any, key: str) -> bool:
    servers = cast("dict[str, Any]", settings).get(key) if isinstance(settings, dict) else None
    return isinstance(servers, dict) and NAME in servers
