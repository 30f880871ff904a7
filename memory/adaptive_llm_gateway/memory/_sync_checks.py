"""What is looked at before anything is merged or pushed: secrets, and files that must not come into the work tree."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pygit2
from pygit2.enums import ObjectType

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    ConfigError,
    FormatTooNew,
    SecretRefused,
    SyncError,
    UnsafePath,
    decode_allowances,
    parse_allowances,
)
from adaptive_llm_gateway.memory._brought import brought
from adaptive_llm_gateway.memory._frontmatter import MAX_FILE
from adaptive_llm_gateway.memory._git import run_git
from adaptive_llm_gateway.memory._merge import Entry
from adaptive_llm_gateway.memory._merge_driver_setup import DRIVER
from adaptive_llm_gateway.memory._merge_files import LONGEST_NAME, SUFFIX
from adaptive_llm_gateway.memory._merge_places import folded
from adaptive_llm_gateway.memory._names import is_portable_name, plain_name
from adaptive_llm_gateway.memory._quarantine import HeldKind
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_checks import check_format, check_path
from adaptive_llm_gateway.memory._sync_errors import sync_error
from adaptive_llm_gateway.memory._tree_diff import DEEPEST, FOLDER, Side, blob_at, diff_trees, is_file
from adaptive_llm_gateway.memory._values import SyncKind

MAX_OTHER: Final = 32 * 1024 * 1024
"""Bytes of a file that is no memory. Memories have `MAX_FILE`."""
_MOST_FORMAT: Final = 1024
MOST_CLEAN: Final = 100_000
"""Objects that are known to be clean, 10 MB of their names; beyond, all are looked at again."""
_MOST_NAMES: Final = 256 * 1024 * 1024  # bytes: 150 for each change of 100,000s of commits, which a new remote gets
_LONGEST_PATH: Final = 1000  # with the folder that the repo lies in, macOS takes 1,024

_LINK, _MODULE = 0o120000, 0o160000
_CONVERTING: Final = frozenset({"filter", "text", "crlf", "eol", "ident", "working-tree-encoding"})
_OWN_MERGES: Final = frozenset({"text", "binary", "union", DRIVER})  # git's own, and ours


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a file is held back; `why` has nothing of the file but findings that are masked."""

    kind: HeldKind
    why: str


@dataclass(frozen=True, slots=True)
class HistoryFinding:
    """A secret in an object that commits bring: the commit where that is known, and the path or the message."""

    object: str
    path: str | None
    why: str


class SecretCheck:
    """Scans what commits bring; what was found clean is not scanned again.

    Args:
        scan: given a path and its content, raises `SecretRefused` for credentials.
        timeout: seconds for listing the commits' objects.
    """

    def __init__(self, repo: MemoryRepo, scan: Callable[[str, bytes], None], *, timeout: float) -> None:
        self._repo, self._scan, self._timeout = repo, scan, timeout
        self._clean: set[str] = set()

    def check(self, commit: str, exclude: list[str], kind: SyncKind) -> None:
        """Scan every file, name and message that `commit` brings beside `exclude` (arguments of `git rev-list`).

        Raises:
            SyncError: of this `kind`, at the first secret.
        """
        if self._passes(commit, exclude, kind=kind):
            return
        self._check_names(commit, exclude[-1:], self._names(commit, exclude), kind)
        for name, path in self._listed(commit, exclude):
            try:
                self._look(name, path)
            except SecretRefused as error:
                where = path or f"the message of commit {name[:12]}"
                refused = sync_error(
                    kind,
                    f"{where!r} has what looks like a credential: {error.message}",
                    path=path,
                    findings=error.details.get("findings"),
                )
                if not self._is_in_files(commit, name, path):
                    refused.hint = _in_history_only(error)
                raise refused from error

    def check_branch(self) -> None:
        """Scan the name of the branch that is here: the remote would get one of this name.

        Raises:
            SyncError: of the kind `secret_outgoing`.
        """
        found = self.text(self._repo.branch, "the branch's name")
        if found is not None:
            refused = sync_error("secret_outgoing", f"the name of the branch: {found.replace('it has', 'it holds', 1)}")
            refused.hint = "Give the branch another name (`git branch -m`), then push again."
            raise refused

    def _check_names(self, commit: str, known: list[str], names: set[str], kind: SyncKind) -> None:
        """Scan the paths of new objects, and those that what the remote has goes by now."""
        git = self._repo.thread_repo
        before = git[known[0]].peel(pygit2.Tree) if known else None
        names |= {path for path, (_, new) in diff_trees(before, git[commit].peel(pygit2.Tree)).items() if new}
        if self.text("\n".join(names), "names") is None:
            return
        for path in sorted(names):
            found = self.text(path, "the file's name")
            if found is not None:
                folder = path.rpartition("/")[0]
                where = f" in {folder!r}" if folder and self.text(folder, "the folder's name") is None else ""
                raise sync_error(kind, f"the name of a file{where}: {found.replace('it has', 'it holds', 1)}")

    def in_history(self, commit: str, exclude: list[str], but: Collection[str]) -> list[HistoryFinding]:
        """What a scan finds in what `commit` brings beside those of `exclude`, and beside the blobs `but`."""
        if self._passes(commit, exclude, but, most=MAX_OTHER):
            return []
        found: list[HistoryFinding] = []
        for name, path in self._listed(commit, exclude):
            if name in but:
                continue
            try:
                self._look(name, path, most=MAX_OTHER)
            except SecretRefused as error:
                found.append(HistoryFinding(name, path or None, findings_text(error)))
        return found

    def blob(self, name: str, path: str) -> str | None:
        """What a scan finds in a file, masked; None for nothing."""
        try:
            self._look(name, path)
        except SecretRefused as error:
            return findings_text(error)
        return None

    def text(self, text: str, where: str) -> str | None:
        """What a scan finds in a text such as a path, masked; None for nothing."""
        try:
            self._scan(where, text.encode("utf-8", "replace"))
        except SecretRefused as error:
            return findings_text(error)
        return None

    def forget(self) -> None:
        """Scan everything anew: the scanner is another one."""
        self._clean.clear()

    def _is_in_files(self, commit: str, name: str, path: str) -> bool:
        """Whether somebody can edit it: the commit has it at this path, and it is not held back there."""
        held = self._repo.quarantine_at(commit).held.get(path)
        if held is not None and held.entry is not None and held.entry.blob == name:
            return False
        return bool(path) and blob_at(self._repo.thread_repo[commit].peel(pygit2.Tree), path) == name

    def _passes(
        self,
        commit: str,
        exclude: list[str],
        but: Collection[str] = (),
        *,
        most: int | None = None,
        kind: SyncKind | None = None,
    ) -> bool:
        """Whether a scan finds nothing in what it brings; False as well where git has to tell what that is.

        Args:
            kind: look at names, too.
        """
        try:
            listed = brought(self._repo.thread_repo, commit, exclude[-1] if exclude else None)
            if listed is None:
                return False
            if kind is not None:
                paths = {path for _, path in listed if path}
                self._check_names(commit, exclude[-1:], paths | {up for path in paths for up in _above(path)}, kind)
            for name, path in listed:
                if name not in but:
                    self._look(name, path, most=most)
        except (SecretRefused, SyncError, KeyError, ValueError, pygit2.GitError):
            return False
        return True

    def _listed(self, commit: str, exclude: list[str]) -> Iterable[tuple[str, str]]:
        listed = run_git(
            ["rev-list", "--objects", commit, *exclude], cwd=self._repo.path, reading=True, timeout=self._timeout
        )
        for line in listed.stdout.split(b"\n")[:-1]:  # a name may hold any other end of a line
            name, _, path = line.decode("utf-8", "surrogateescape").partition(" ")
            yield name, path

    def _names(self, commit: str, exclude: list[str]) -> set[str]:
        """Every path of a commit that none of its parents has so, also of a file that went, or came back, later.

        `rev-list --objects` tells one path of each new object, and none of an old one in a new place.
        """
        cwd, timeout = self._repo.path, self._timeout
        commits = run_git(["rev-list", commit, *exclude], cwd=cwd, reading=True, timeout=timeout).stdout
        asking = ["diff-tree", "--stdin", "--no-commit-id", "--root", "-c", "-r", "-t", "-z", "--raw", "--no-renames"]
        asking.append("--ignore-submodules=none")
        told = run_git(asking, cwd=cwd, stdin=commits, reading=True, timeout=timeout, output_limit=_MOST_NAMES)
        fields = told.stdout.decode("utf-8", "surrogateescape").split("\0")
        names: set[str] = set()
        for modes, path in zip(fields[::2], fields[1::2], strict=False):
            parents = len(modes) - len(modes.lstrip(":"))
            if modes.split(" ")[parents] != "000000":  # it is there
                names.add(path)
        return names

    def _look(self, name: str, path: str, *, most: int | None = None) -> None:
        if name in self._clean:
            return
        git = self._repo.thread_repo
        kind, size = git.odb.read_header(name)
        if most is not None and size > most:
            return  # which is not to be clean
        if kind in (ObjectType.BLOB, ObjectType.COMMIT):
            found: Any = git[name]
            if isinstance(found, pygit2.Blob):
                self._scan(path, found.data)
            else:  # its encoding may be one that nobody has heard of
                self._scan(f"commit {name[:12]}", found.read_raw())
        if len(self._clean) >= MOST_CLEAN:
            self._clean.clear()
        self._clean.add(name)


def _in_history_only(error: SecretRefused) -> str:
    """The next steps where no edit of a file reaches what was found."""
    findings: list[Mapping[str, Any]] = list(error.details.get("findings") or [])
    named = f" ({findings[0]['fingerprint']})" if findings and findings[0].get("fingerprint") else ""
    return (
        "No file here has it, only the history, which no edit reaches. Make it invalid where it gives access, then "
        f"have the person at this machine allow its fingerprint{named} and push again. What nobody else has yet can "
        "also be taken out of the commits that wait."
    )


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _shown(item: Mapping[str, Any]) -> str:
    shown = [str(item["preview"])] if item.get("preview") else []
    shown += [f"fingerprint {item['fingerprint']}"] if item.get("fingerprint") else []
    return f" ({', '.join(shown)})" if shown else ""


def findings_text(error: SecretRefused) -> str:
    """What a scan found, without what it found: kinds, lines and masked previews."""
    findings: list[Mapping[str, Any]] = list(error.details.get("findings") or [])
    named = [f"{item.get('kind')} in line {item.get('line')}" + _shown(item) for item in findings[:3]]
    count = int(error.details.get("found") or len(findings))
    more = f" and {count - 3} more" if count > 3 else ""
    return f"it has what looks like a secret: {', '.join(named)}{more}" if named else "it has what looks like a secret"


# --- single files ---------------------------------------------------------------------------------------


class Judge:
    """Tells why a file of the remote is to be held back, by itself; `find_collisions` looks at names together."""

    def __init__(self, repo: MemoryRepo, secrets: SecretCheck) -> None:
        self._repo, self._secrets = repo, secrets

    def problem(self, path: str, entry: Entry, *, new: bool) -> Problem | None:
        """Why it cannot come in; None when it can.

        Args:
            new: no file of the work tree has this name yet; one that has it lies on this machine as it is.
        """
        found = _problem_of_mode(entry) or _problem_of_path(path, new=new)
        if found is not None:
            return found
        named = self._secrets.text(path, "the file's name")
        if named is not None:
            return Problem("secret", named.replace("it has", "its name has", 1))
        limit = MAX_FILE if path.endswith(SUFFIX) else MAX_OTHER
        try:
            _, size = self._repo.thread_repo.odb.read_header(entry.blob)
            if size > limit:
                return Problem("size", f"it has {size:,} bytes, more than {limit:,}")
            if plain_name(path.rpartition("/")[2]) == ".gitattributes":
                attribute = risky_attribute(self._repo.read_blob(entry.blob))
                if attribute is not None:
                    return Problem("attributes", f"it sets {attribute!r}, and git would change what files hold")
            secret = self._secrets.blob(entry.blob, path)
            if secret is None and path == ALLOWANCES_FILE:
                return _problem_of_allowances(self._repo.read_blob(entry.blob))
        except (KeyError, ValueError, pygit2.GitError):
            return Problem("unreadable", "its content is not there")
        return Problem("secret", secret) if secret is not None else None


def _problem_of_allowances(data: bytes) -> Problem | None:
    """A list that cannot be read would allow nothing more, whatever the last good one does."""
    try:
        parse_allowances(decode_allowances(data, where=ALLOWANCES_FILE))
    except ConfigError as error:
        return Problem("allowances", f"it is no list of allowances: {error.message}")
    return None


def _problem_of_mode(entry: Entry) -> Problem | None:
    if is_file(entry):
        return None
    if entry.mode == _LINK:
        return Problem("link", "it is a symbolic link")
    if entry.mode == _MODULE:
        return Problem("submodule", "it is a submodule")
    if entry.mode == FOLDER:
        return Problem("depth", f"it is a folder below {DEEPEST} others")
    return Problem("mode", "it is not a regular file")


def _problem_of_path(path: str, *, new: bool) -> Problem | None:
    try:
        size = len(path.encode("utf-8"))
    except UnicodeEncodeError:
        return Problem("path", "its name is not valid UTF-8")
    try:
        check_path(path)
    except UnsafePath:
        return Problem("path", "its path is not safe")
    if path.casefold() == ".gitmodules":
        return Problem("submodules", "it names submodules")
    if new and size > _LONGEST_PATH:
        return Problem("name", f"its path has {size:,} bytes, more than {_LONGEST_PATH:,}")
    for name in path.split("/"):
        if len(name.encode()) > LONGEST_NAME:
            return Problem("name", f"a name in its path has more than {LONGEST_NAME} bytes")
        if new and not is_portable_name(name):
            return Problem("name", "a name in its path is reserved on Windows")
    return None


def risky_attribute(data: bytes) -> str | None:
    """The first attribute in a `.gitattributes` with which git would change files, or run a driver; None for none."""
    for line in data.decode("utf-8", "replace").splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        given = re.sub(r'^(?:"(?:[^"\\]|\\.)*"|\S+)', "", text, count=1).split()
        for item in given:
            name, _, value = item.partition("=")
            if name in _CONVERTING or (name == "merge" and value and value not in _OWN_MERGES):
                return item[:60]
    return None


# --- names together ---------------------------------------------------------------------------------------


def find_collisions(coming: Iterable[str], present: Collection[str]) -> dict[str, Problem]:
    """Which new files cannot be told from another one on every file system, by case or by Unicode's forms.

    What is present stays. Of several new ones the first in order of names comes in, so that clones that have none of
    them choose alike.

    Args:
        coming: new paths, none of them present.
        present: the work tree's other files.
    """
    coming = sorted(coming)
    if not coming:
        return {}
    files: dict[str, str] = {}
    folders: dict[str, str] = {}

    def take(path: str) -> None:
        files.setdefault(folded(path), path)
        for folder in _folders(path):
            folders.setdefault(folded(folder), folder)

    for path in present:
        take(path)
    problems: dict[str, Problem] = {}
    for path in coming:
        name = folded(path)
        other = files.get(name) or folders.get(name)
        other = other or next((files[part] for part in map(folded, _folders(path)) if part in files), None)
        if other is None:
            take(path)
        else:
            problems[path] = Problem("collision", "its name cannot be told from another one's on every file system")
    return problems


def _folders(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


# --- a pull together ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SortedPull:
    """What a pull brings: what is merged, and what only goes into the commit.

    Attributes:
        ours, theirs: both sides' changes without the paths that are not merged.
        carried: what of theirs goes into the merged tree as it is, unread by the merge.
        problems: why files of theirs are held back, by path.
    """

    ours: Side
    theirs: Side
    carried: Mapping[str, Entry]
    problems: Mapping[str, Problem]


def sort_incoming(
    ours: Side,
    theirs: Side,
    *,
    held: Collection[str],
    problem: Callable[[str, Entry], Problem | None],
) -> SortedPull:
    """Decide what of theirs may be merged with ours.

    Args:
        held: paths of our tree whose content is somebody else's that is held back: it is not merged with anything.
        problem: why a file is to be held back.
    """
    problems: dict[str, Problem] = {}
    carried: dict[str, Entry] = {}
    apart = {path for path in held if path in ours}
    for path, (_, new) in theirs.items():
        mine = ours.get(path)
        if new is None or (mine is not None and mine[1] == new):
            continue
        found = problem(path, new)
        if found is not None:
            problems[path] = found
        if found is not None or path in apart:
            carried[path] = new
    apart |= carried.keys()
    return SortedPull(
        {path: change for path, change in ours.items() if path not in apart},
        {path: change for path, change in theirs.items() if path not in apart},
        carried,
        problems,
    )


def check_marker(repo: MemoryRepo, entry: Entry | None) -> None:
    """Refuse a remote of a newer format as a whole: nothing of it could be understood.

    Raises:
        SyncError: kind `format_too_new`.
    """
    if entry is None or not is_file(entry):
        return
    try:
        _, size = repo.thread_repo.odb.read_header(entry.blob)
        check_format(repo.read_blob(entry.blob) if size <= _MOST_FORMAT else b"?", where=None)
    except FormatTooNew as error:
        raise sync_error("format_too_new", error.message, **error.details) from error
    except (KeyError, ValueError, pygit2.GitError):
        return  # it is held back, for its content is not there
