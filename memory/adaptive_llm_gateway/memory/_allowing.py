"""The allowances of one memory repo: which count here, and how a person adds, renews and revokes them."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import pygit2

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    WAITING_FILE,
    AlgError,
    Allowance,
    ConfigError,
    InvalidInput,
    NotFound,
    Quarantined,
    SecretScanner,
    StandingAllowance,
    agreed_to,
    arriving,
    counted,
    decode_allowances,
    git_folder,
    is_fingerprint,
    load_waiting,
    parse_allowances,
    parse_until,
    standing,
    waiting_bytes,
    with_allowance,
    without_allowance,
)
from adaptive_llm_gateway.memory._commit_message import agent_text, one_line
from adaptive_llm_gateway.memory._files import FileBatch, read_file, storage_errors, write_atomically
from adaptive_llm_gateway.memory._repo import MemoryRepo
from adaptive_llm_gateway.memory._repo_rules import RepoRules
from adaptive_llm_gateway.memory._tree_diff import blob_at
from adaptive_llm_gateway.memory._values import Author, Change

NEVER: Final = "never"
_A_YEAR: Final = timedelta(days=365)
_MOST: Final = 4 * 1024 * 1024  # bytes that are read at all
_REASON_LIMIT: Final = 500
_NAME_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class Allow:
    """A person's word that findings with a fingerprint are no secrets.

    Attributes:
        reason: why; may be left out where there is an entry that has one.
        until: a date, to its end in UTC, a time of RFC 3339, or `never`; default: a year from now, so that each one is
            looked at again some day.
        by: who says so; default: the person whom git knows.
        kind: what it was taken for; default: what the scanner took it for of late.
    """

    fingerprint: str
    reason: str | None = None
    until: str | None = None
    by: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Allowed:
    """What came of it: a new entry, one that was there and is renewed, or one that a pull brought and now counts."""

    allowance: Allowance
    outcome: Literal["allowed", "renewed", "agreed"]
    commit: str | None


class Allowing:
    """The list of one memory repo. What changes it belongs to the writer's thread.

    Args:
        scratch: for temporary files.
        clock: the time, timezone-aware; None: the machine's own.
        rules: whether the repo may be written.
        trusting: what a pull brings counts at once.
    """

    def __init__(
        self,
        repo: MemoryRepo,
        *,
        scratch: Path,
        clock: Callable[[], datetime] | None,
        rules: RepoRules,
        trusting: bool = False,
    ) -> None:
        self._repo, self._scratch, self._rules, self._trusting = repo, scratch, rules, trusting
        self._clock = clock or (lambda: datetime.now(UTC))
        self._marks = (git_folder(repo.path) or repo.git_dir) / WAITING_FILE
        self.notices: list[str] = []
        """What people are told of the list, as it was read last."""
        self.trouble: str | None = None
        """Why nothing of it counts."""
        self._seen: tuple[SecretScanner, frozenset[str]] | None = None

    # -- reading -----------------------------------------------------------------------------------------------

    def load(self) -> tuple[Allowance, ...]:
        """What counts here. Of a list that cannot be read that is nothing, and `notices` says why."""
        self.notices, self.trouble = [], None
        try:
            listed, waiting = self._listed(), load_waiting(self._marks.parent)
        except AlgError as error:
            self.trouble = error.message
            self.notices = [f"no finding of secrets is allowed: {error.message}"]
            return ()
        for allowance in listed:
            if allowance.unknown:
                self.notices.append(
                    f"{ALLOWANCES_FILE}, line {allowance.line}: the entry has keys that this version does not know, "
                    "and allows nothing here"
                )
        new = sum(item.state == "waiting" for item in standing(listed, waiting, self._clock()))
        if new:
            waits = counted(new, "allowance waits", "allowances wait")
            self.notices.append(
                f"{waits} for the person at this machine, who has not agreed to what the remote brought: "
                "`alg secrets list` shows who gave them and why"
            )
        return agreed_to(listed, waiting)

    def scanner(self, before: SecretScanner) -> SecretScanner:
        """A scanner with what counts here, which shares what `before` knows."""
        return before.with_allowed(self.load(), trouble=self.trouble)

    def same_until_changed(self, scanner: SecretScanner) -> object:
        """The same object until the scanner is another one, or one of its allowances ends."""
        allowed = scanner.allowed
        if self._seen is None or self._seen[0] is not scanner or self._seen[1] is not allowed:
            self._seen = (scanner, allowed)
        return self._seen

    def all(self) -> tuple[StandingAllowance, ...]:
        """Every entry, and whether it counts.

        Raises:
            ConfigError: the list cannot be read.
        """
        return standing(self._listed(), load_waiting(self._marks.parent), self._clock())

    def _listed(self) -> tuple[Allowance, ...]:
        return parse_allowances(self._text(self._data()), where=self._where)

    def _data(self) -> bytes:
        return read_file(self._repo.path, ALLOWANCES_FILE, limit=_MOST) or b""

    def _text(self, data: bytes) -> str:
        return decode_allowances(data, where=self._where)

    @property
    def _where(self) -> str:
        return str(self._repo.path / ALLOWANCES_FILE)

    # -- what a pull brings ------------------------------------------------------------------------------------

    def arrive(self, start: str, target: str) -> None:
        """Before a pull moves the repo from one commit to another: what it adds to the list waits for a person.

        Whoever can push to the remote could open the gate here otherwise, also for what comes in the same pull.
        """
        if self._trusting:
            return
        git = self._repo.thread_repo
        old, new = (blob_at(git[commit].peel(pygit2.Tree), ALLOWANCES_FILE) for commit in (start, target))
        if old == new or new is None:
            return
        waiting = load_waiting(self._marks.parent)
        try:
            after = parse_allowances(self._text(self._repo.read_blob(new)))
        except ConfigError:
            return  # it is held back
        try:
            before = self._listed()
        except ConfigError:
            before = ()
        self._set_waiting(arriving(before, waiting, after))

    def _set_waiting(self, waiting: dict[str, str | None]) -> None:
        with storage_errors("note which allowances wait"):
            if waiting != load_waiting(self._marks.parent):
                write_atomically(self._marks, waiting_bytes(waiting))

    # -- changing ----------------------------------------------------------------------------------------------

    def allow(self, wanted: Allow, author: Author, *, kind: str | None) -> Allowed:
        """Add an entry, renew it, or agree to it; in the writer's thread, with nothing waiting for its commit.

        Args:
            kind: what the scanner took it for of late.

        Raises:
            InvalidInput: no fingerprint, no reason, an end that is past or cannot be read; nothing changed.
            SecretRefused: the reason, or who it is, carries a secret.
            ConfigError: the list cannot be read or changed.
            Quarantined: another version of the list is held back.
            RepoReadOnly: the repo is only read; what came with it can be agreed to.
        """
        fingerprint = wanted.fingerprint.strip().lower()
        if not is_fingerprint(fingerprint):
            raise InvalidInput(
                "that is no fingerprint: it has 16 hex digits", hint="A refusal, and `alg secrets scan`, name it."
            )
        data, waiting = self._data(), dict(load_waiting(self._marks.parent))
        text = self._text(data)
        present = [item for item in parse_allowances(text, where=self._where) if item.fingerprint == fingerprint]
        if any(item.unknown for item in present):
            raise InvalidInput(
                f"the entry for {fingerprint} has keys that this version does not know",
                hint="Change it with the version that wrote it, or revoke it and allow it anew.",
            )
        if fingerprint in waiting and present and wanted == Allow(wanted.fingerprint):
            del waiting[fingerprint]
            self._set_waiting(waiting)
            return Allowed(present[0], "agreed", None)
        self._rules.check_open()
        made = self._made(wanted, fingerprint, present[0] if present else None, kind)
        changed = with_allowance(text, made, where=self._where)
        verb = "Renew the allowance of" if present else "Allow"
        commit = self._write(data, changed, author, f"{verb} {_named(made)}", made.reason, made.by)
        if waiting.pop(fingerprint, "") != "":
            self._set_waiting(waiting)
        return Allowed(made, "renewed" if present else "allowed", commit)

    def _made(self, wanted: Allow, fingerprint: str, present: Allowance | None, kind: str | None) -> Allowance:
        now = self._clock().astimezone(UTC)
        given = wanted.reason if wanted.reason is not None else present.reason if present is not None else ""
        made = Allowance(
            fingerprint,
            _checked("reason", given, _REASON_LIMIT),
            _checked("name of who allows it", wanted.by or self._person(), _NAME_LIMIT),
            now.isoformat(timespec="seconds").replace("+00:00", "Z"),
            _until(wanted.until, now),
            _checked("kind", wanted.kind, _NAME_LIMIT) if wanted.kind else kind or (present.kind if present else ""),
        )
        plain = SecretScanner()
        for where, text in (("the reason", made.reason), ("who allows it", made.by), ("the kind", made.kind)):
            plain.check(text, where=where)
        return made

    def revoke(self, fingerprint: str, author: Author, by: str | None = None) -> str | None:
        """Take an entry out, in the writer's thread; the commit.

        Raises:
            NotFound: there is none; nothing changed. Else as `allow`.
        """
        fingerprint = fingerprint.strip().lower()
        data, waiting = self._data(), dict(load_waiting(self._marks.parent))
        text = self._text(data)
        found = [item for item in parse_allowances(text, where=self._where) if item.fingerprint == fingerprint]
        if not found:
            raise NotFound("there is no allowance with this fingerprint", hint="`alg secrets list --all` shows all.")
        self._rules.check_open()
        who = _checked("name of who revokes it", by or self._person(), _NAME_LIMIT)
        SecretScanner().check(who, where="who revokes it")
        changed = without_allowance(text, fingerprint, where=self._where)
        commit = self._write(data, changed, author, f"Revoke the allowance of {_named(found[0])}", None, who)
        if waiting.pop(fingerprint, "") != "":
            self._set_waiting(waiting)
        return commit

    def commit_edits(self, author: Author) -> str | None:
        """Commit what somebody edited by hand, in the writer's thread; None: nothing, or nothing that can be."""
        if ALLOWANCES_FILE in self._repo.quarantine.held or not (self._repo.path / ".git").exists():
            return None
        committed = self._repo.versions([ALLOWANCES_FILE]).get(ALLOWANCES_FILE)
        try:
            data = read_file(self._repo.path, ALLOWANCES_FILE, limit=_MOST)
            if (committed is None and data is None) or (data is not None and committed == MemoryRepo.blob_id(data)):
                return None
            if data is None and ALLOWANCES_FILE in self._repo.left_out():
                return None
            allowed = self.load()
            if self.trouble is not None:
                return None
            text = self._text(data or b"")
            SecretScanner(allowed=allowed, clock=self._clock).check(text, where=ALLOWANCES_FILE)
        except AlgError as error:
            self.notices.append(f"{ALLOWANCES_FILE} is not committed: {error.message}")
            return None
        return self._commit(data, author, f"Edit {ALLOWANCES_FILE}", None, None)

    def _write(self, before: bytes, text: str, author: Author, subject: str, reason: str | None, by: str) -> str | None:
        held = self._repo.quarantine.held.get(ALLOWANCES_FILE)
        if held is not None:
            raise Quarantined(
                f"{ALLOWANCES_FILE} cannot be changed now: the remote has another version, which is held back "
                f"({held.why}); a change would undo it unseen",
                hint="Have it mended on the remote and pull, or give it up: `alg memory quarantine` shows it.",
                path=held.shown,
                commit=held.commit,
                why=held.kind,
            )
        mark = b"\xef\xbb\xbf" if before.startswith(b"\xef\xbb\xbf") else b""
        data = mark + text.encode()
        self._text(data)  # that it is not too large
        files = FileBatch(self._repo.path, self._scratch)
        undo = files.put(ALLOWANCES_FILE, data)
        try:
            files.settle()
            return self._commit(data, author, subject, reason, by)
        except BaseException:
            undo()
            raise
        finally:
            files.forget()

    def _commit(
        self, data: bytes | None, author: Author, subject: str, reason: str | None, by: str | None
    ) -> str | None:
        title = one_line(subject)
        lines = [title if reason is None else f"{title}: {one_line(reason, limit=100)}", ""]
        lines.append(f"- edit {ALLOWANCES_FILE} by {agent_text(author)}")
        lines += ["", f"Agent: {agent_text(author)}"]
        lines += [f"Reason: {one_line(reason)}"] if reason else []
        lines += [f"By: {one_line(by)}"] if by else []
        change = Change(ALLOWANCES_FILE, data, "edit", "", ALLOWANCES_FILE, author, reason)
        return self._repo.commit([change], message="\n".join(lines) + "\n")

    def _person(self) -> str:
        who = self._repo.identity(refresh=True)
        if who.configured:
            return f"{who.name} <{who.email}>"
        with contextlib.suppress(Exception):  # no such user, no name for it
            return getpass.getuser()
        return "somebody"


def _named(allowance: Allowance) -> str:
    return f"{allowance.fingerprint} ({allowance.kind})" if allowance.kind else allowance.fingerprint


def _checked(what: str, text: str, limit: int) -> str:
    line = " ".join("".join(char if char.isprintable() or char.isspace() else " " for char in text).split())
    if not line:
        raise InvalidInput(f"the {what} is empty", hint="Say why it is no secret, for those who read the list later.")
    if len(line) > limit:
        raise InvalidInput(f"the {what} has more than {limit} characters", hint="Make it shorter.")
    return line


def _until(given: str | None, now: datetime) -> str:
    if given is None:
        return (now + _A_YEAR).date().isoformat()
    text = given.strip()
    if text.lower() == NEVER:
        return ""
    try:
        ends = parse_until(text)
    except ValueError as error:
        raise InvalidInput(f"the end {text[:40]!r} is {error}", hint="Give one of these, or `never`.") from None
    if ends <= now:
        raise InvalidInput(f"the end {text!r} is past", hint="To end an allowance now, revoke it.")
    return text.upper()


def one_of(found: Sequence[str], fingerprint: str) -> str:
    """Of the repos that have an entry the one that is meant.

    Raises:
        NotFound: none has it.
        InvalidInput: several do.
    """
    if not found:
        raise NotFound("there is no allowance with this fingerprint", hint="`alg secrets list --all` shows all.")
    if len(found) > 1:
        named = ", ".join(repr(name) for name in found)
        raise InvalidInput(f"{fingerprint} is allowed in several repos: {named}", hint="Name one with --repo.")
    return found[0]
