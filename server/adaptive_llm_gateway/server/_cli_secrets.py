"""`alg secrets scan`: the secret scanner over files, folders, what is staged in git and a commit's message.

`--staged` and `--message` run at every commit in the memory repo, so nothing slow is imported for them: no typer, no
settings.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core import (
    ALLOWANCES_FILE,
    ConfigError,
    Finding,
    InvalidInput,
    NotFound,
    SecretScanner,
    StorageError,
    agreed_to,
    decode_allowances,
    load_agreed,
    load_waiting,
    narrowed,
    parse_allowances,
)
from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless, paint_for, print_json, talk

if TYPE_CHECKING:
    from adaptive_llm_gateway.server._cli_personal import PersonalData
    from adaptive_llm_gateway.server._second_opinion import SecondOpinion

MAX_BYTES = 16 * 1024 * 1024
_SNIFFED = 8192
_EXIT_FOUND = 5
_IN_NAME = "(in its name) "


@dataclass(slots=True)
class Scan:
    """What a scan came upon: findings with their paths, files read, and what was left out with the reason.

    Attributes:
        trouble: why nothing was allowed.
    """

    findings: list[tuple[str, Finding]] = field(default_factory=list[tuple[str, Finding]])
    scanned: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    personal: PersonalData | None = None
    second: SecondOpinion | None = None
    also: dict[tuple[str, Finding], str] = field(default_factory=dict[tuple[str, Finding], str])
    trouble: str | None = None

    def look(self, scanner: SecretScanner, path: str, data: bytes, *, shown: str | None = None) -> None:
        """Scan one file's bytes, unless they are too many or no text.

        Args:
            shown: how the path is told, where that is not `path`.
        """
        shown = shown or path
        if len(data) > MAX_BYTES:
            self.skipped.append((shown, f"larger than {MAX_BYTES:,} bytes"))
            return
        text = decode(data)
        if text is None:
            self.skipped.append((shown, "not a text file"))
            return
        self.scanned += 1
        if self.second is None:
            self.findings += [(shown, finding) for finding in scanner.scan(text)]
        else:
            for finding, also in self.second.merge(path, text, scanner):
                self.findings.append((shown, finding))
                if also is not None:
                    self.also[shown, finding] = also
        if self.personal is not None:
            self.personal.look(shown, text)

    def look_at_every_byte(self, scanner: SecretScanner, path: str, data: bytes) -> None:
        """Scan one file's name and its bytes, as a push does it: also of one that is no text."""
        shown = self.look_at_name(scanner, path, path)
        if b"\0" not in data or len(data) > MAX_BYTES:
            self.look(scanner, path, data, shown=shown)
            return
        self.scanned += 1
        found = {finding.fingerprint: finding for text in (data, narrowed(data), (decode(data) or "").encode())
                 for finding in scanner.scan(text.decode("utf-8", "replace"))}  # fmt: skip
        self.findings += [(shown, finding) for finding in found.values()]

    def look_at_name(self, scanner: SecretScanner, path: str, name: str) -> str:
        """Scan what a file is called, and give its path as it may be told: with a mark for what is found in it.

        Args:
            name: the end of `path` that is the file's own: what lies above belongs to whoever asks.
        """
        shown = scanner.redact(path)[0]
        self.findings += [(f"{_IN_NAME}{shown}", finding) for finding in scanner.scan(name)]
        return shown

    def as_dict(self) -> Json:
        """The scan as JSON."""
        return {
            "findings": [
                {
                    "path": path,
                    "line": found.line,
                    "kind": found.kind,
                    "preview": found.preview,
                    "fingerprint": found.fingerprint,
                    **({} if self.second is None else {"second": self.also.get((path, found))}),
                }
                for path, found in self.findings
            ],
            **({} if self.personal is None else self.personal.as_dict()),
            "scanned": self.scanned,
            "skipped": [{"path": path, "problem": problem} for path, problem in self.skipped],
        }


def decode(data: bytes) -> str | None:
    """The bytes as text; None for binary ones. Text that is not UTF-8 is scanned all the same."""
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    if b"\0" in data[:_SNIFFED]:
        return None
    return data.decode("utf-8", "replace")


# --- Files and folders ------------------------------------------------------------------------------


def scan_paths(
    paths: Sequence[Path], *, repo: Path, personal: PersonalData | None = None, second: SecondOpinion | None = None
) -> Scan:
    """Scan files and, below folders, every file but git's own.

    Args:
        repo: the memory repo, whose allowances count where no folder above a path has a file of them.
        personal: takes in what is personal, where that is asked for.
        second: what another scanner found in the same files.

    Raises:
        NotFound: one of the paths does not exist.
        ConfigError: a file of allowances is not valid.
    """
    scan = Scan(personal=personal, second=second)
    plain = SecretScanner()
    scanners: dict[Path, SecretScanner] = {}
    for path in paths:
        if not os.path.lexists(path):
            raise NotFound(f"there is no {str(path)!r}", hint="Name a file or a folder.", path=str(path))
        allowances = find_allowances(path) or repo / ALLOWANCES_FILE
        if allowances not in scanners:
            scanners[allowances] = plain.with_allowed(load_agreed(allowances))
        scanner = scanners[allowances]
        for file in [path] if not path.is_dir() else _files(path, scan, scanner):
            _scan_file(scan, scanner, file, str(file.relative_to(path)) if file != path else file.name)
    return scan


def find_allowances(path: Path) -> Path | None:
    """The nearest file of allowances in the folder of `path` or above it."""
    start = path.resolve()
    for folder in (start, *start.parents):
        candidate = folder / ALLOWANCES_FILE
        if candidate.is_file():
            return candidate
    return None


def _files(folder: Path, scan: Scan, scanner: SecretScanner) -> Iterator[Path]:
    def unreadable(error: OSError) -> None:
        scan.skipped.append((scanner.redact(str(error.filename))[0], error.strerror or "cannot be read"))

    for where, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in sorted(files):
            yield Path(where, name)


def _scan_file(scan: Scan, scanner: SecretScanner, file: Path, name: str) -> None:
    shown = scan.look_at_name(scanner, str(file), name)
    try:
        if not file.is_file():  # a pipe or a device would keep us waiting
            scan.skipped.append((shown, "a link to nothing" if file.is_symlink() else "not a file"))
            return
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        scan.skipped.append((shown, error.strerror or "cannot be read"))
        return
    scan.look(scanner, str(file), data, shown=shown)


# --- What is staged -----------------------------------------------------------------------------------


def scan_staged(folder: Path) -> Scan:
    """Scan what the next commit of the git repo around `folder` would add or change.

    What counts are the allowances that this commit would have, not those in the folder: else a text would go where
    nobody is told why it may. Those that wait for the person at this machine do not count.

    Raises:
        InvalidInput: `folder` is in no git repo.
        StorageError: git failed.
    """
    scan = Scan()
    staged = list(_staged(folder))
    if not staged:
        return scan
    scanner = _scanner_of(scan, folder)
    with subprocess.Popen(
        ["git", "cat-file", "--batch"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as git:
        assert git.stdin is not None  # noqa: S101 - pipes were asked for
        assert git.stdout is not None  # noqa: S101
        for blob, path in staged:
            git.stdin.write(blob + b"\n")
            git.stdin.flush()
            head = git.stdout.readline().split()
            if len(head) != 3 or not head[2].isdigit():
                raise StorageError(f"git has no object for the staged {os.fsdecode(path)!r}")
            size = int(head[2])
            data = git.stdout.read(size)
            git.stdout.read(1)
            scan.look_at_every_byte(scanner, os.fsdecode(path), data)
        git.stdin.close()
    return scan


def _scanner_of(scan: Scan, folder: Path) -> SecretScanner:
    """The scanner of the git repo around `folder`, with the allowances that are staged and that the person agreed to.

    Without a list that can be read nothing is allowed, which is told beside what is found.
    """
    command = ["git", "cat-file", "blob", f":0:{ALLOWANCES_FILE}"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    if listed.returncode != 0:  # there is none
        return SecretScanner()
    # Asked of git, which may have been told of another folder than the one here.
    git_dir = _git_says(folder, "rev-parse", "--path-format=absolute", "--git-common-dir").removesuffix("\n")
    try:
        staged = parse_allowances(decode_allowances(listed.stdout, where=ALLOWANCES_FILE))
        if not git_dir:
            raise ConfigError("git does not say where its folder is")
        return SecretScanner(allowed=agreed_to(staged, load_waiting(Path(git_dir))))
    except ConfigError as error:
        scan.trouble = error.message
        return SecretScanner()


def scan_message(file: Path, folder: Path, people: Sequence[str] = ()) -> Scan:
    """Scan the message of a commit, as git's `commit-msg` hook has it in a file, and who makes it.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise StorageError(f"{str(file)!r} cannot be read: {error.strerror}", path=str(file)) from error
    scan = Scan(scanned=1)
    text = _kept_of_message(data.decode("utf-8", "replace"), folder)
    scanner = _scanner_of(scan, folder)
    scan.findings += [("the message", finding) for finding in scanner.scan(text)]
    scan.findings += [("the author's name", finding) for finding in scanner.scan("\n".join(people))]
    return scan


def _kept_of_message(text: str, folder: Path) -> str:
    """A commit's message without what git is sure to take out of it.

    To whoever writes in an editor git lists the changed files in lines that begin with its sign for comments and a tab,
    and below a certain line shows what is committed. What a file that goes is called is no reason to keep it. Without
    an editor, which git tells its hooks so, all is kept that was given.
    """
    if os.environ.get("GIT_EDITOR") == ":":
        return text
    told = _git_says(folder, "config", "-z", "--get-regexp", r"^(core\.comment(char|string)|commit\.cleanup)$")
    settings: dict[str, str] = {}
    for item in told.split("\0"):
        name, _, value = item.partition("\n")
        settings[name] = value
    sign = settings.get("core.commentstring") or settings.get("core.commentchar") or "#"
    if settings.get("commit.cleanup", "default") not in {"default", "strip", "scissors"} or sign == "auto":
        return text
    text = text.partition(f"{sign} {'-' * 24} >8 {'-' * 24}\n")[0]
    if settings.get("commit.cleanup") == "scissors":
        return text
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(f"{sign}\t"))


def _people(folder: Path) -> list[str]:
    """Who makes the commit, as the hook's environment has it and as git would say, which knows the settings, too."""
    asked = [f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")]
    told = [_git_says(folder, "var", f"GIT_{who}_IDENT").rpartition(">")[0] for who in ("AUTHOR", "COMMITTER")]
    return [os.environ.get(name, "") for name in asked] + [ident.replace(" <", "\n") for ident in told]


def _git_says(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    return os.fsdecode(done.stdout) if done.returncode == 0 else ""


def _staged(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """Blob id and path of each file that is added or changed in git's index."""
    command = ["git", "diff", "--cached", "--raw", "-z", "--no-abbrev", "--no-renames", "--diff-filter=ACMRT"]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    except FileNotFoundError:
        raise StorageError("git is not installed, or not on the PATH", hint="Install git 2.34 or newer.") from None
    if done.returncode != 0:
        # Outside of a repo git would speak of an option that is unknown there.
        if not _git_says(folder, "rev-parse", "--git-dir"):
            raise InvalidInput(f"{str(folder)!r} is in no git repo", hint="Go to the repo whose commit it is about.")
        words = done.stderr.decode("utf-8", "replace").strip()
        raise InvalidInput(
            f"git cannot say what is staged in {str(folder)!r}: {words.splitlines()[0] if words else ''}"
        )
    parts = iter(done.stdout.split(b"\0"))
    for facts in parts:
        if not facts:
            break
        _, mode, _, blob, *_ = facts.split(b" ")
        path = next(parts)
        if mode != b"160000":  # another repo's commit
            yield blob, path


# --- Reports ----------------------------------------------------------------------------------------------


def scan_text(scan: Scan, paint: Paint) -> str:
    """A line for each finding."""
    lines = [
        f"{harmless(path)}:{found.line}: {paint(found.kind, 'red')} {found.preview}  "
        f"{paint(f'fingerprint {found.fingerprint}', 'dim')}{_also(scan, path, found)}"
        for path, found in scan.findings
    ]
    if scan.personal is not None and (personal := scan.personal.text(paint)):
        lines.append(personal)
    return "\n".join(lines)


def _also(scan: Scan, path: str, found: Finding) -> str:
    also = scan.also.get((path, found))
    return "" if also is None or also == found.kind else f"  also {also}"


def talk_about(scan: Scan) -> None:
    """On stderr: what was left out, the count, and how to allow a false positive."""
    for path, problem in scan.skipped:
        talk(f"note: skipped {harmless(path)}: {problem}")
    if scan.personal is not None:
        scan.personal.talk()
    files = "file" if scan.scanned == 1 else "files"
    if not scan.findings:
        talk(f"{scan.scanned} {files} scanned, nothing found")
        return
    talk(f"{scan.scanned} {files} scanned, {len(scan.findings)} found")
    fingerprint = scan.findings[0][1].fingerprint
    talk(
        f"{paint_for(sys.stderr)('hint:', 'yellow')} if one is no secret: `alg secrets allow {fingerprint} --reason "
        f"WHY` in the memory repo; elsewhere in a {ALLOWANCES_FILE} above the files:\n"
        f"  - fingerprint: {fingerprint}\n    reason: why it is none"
    )


def run_staged(*, as_json: bool) -> int:
    """Scan what is staged where we are, and refuse it when something is found; returns the exit code.

    Raises:
        AlgError: the scan could not be made; then nothing may pass either.
    """
    scan = scan_staged(Path.cwd())
    if as_json:
        print_json(scan.as_dict())
        return _EXIT_FOUND if scan.findings else 0
    for path, problem in scan.skipped:
        talk(f"note: not scanned: {harmless(path)}: {problem}")
    if not scan.findings:
        return 0
    paint = paint_for(sys.stderr)
    talk(f"{paint('error:', 'red')} not committed: what looks like a secret is staged")
    for line in scan_text(scan, paint).splitlines():
        talk(f"  {line}")
    first_path, first = scan.findings[0]
    named = "" if first_path.startswith(_IN_NAME) else f" {shlex.quote(harmless(first_path))}"
    talk(
        f"{paint('hint:', 'yellow')} take it out of the file or its name and stage it again "
        f"(`git restore --staged{named}` takes the file back out).\n"
        f"hint: if it is no secret: `alg secrets allow {first.fingerprint} --reason WHY`, or stage {ALLOWANCES_FILE} "
        f"with it:\n"
        f"  - fingerprint: {first.fingerprint}\n    reason: why it is none"
    )
    if scan.trouble is not None:
        talk(f"note: nothing is allowed: {harmless(scan.trouble)}")
    return _EXIT_FOUND


def run_message(file: str, *, as_json: bool = False) -> int:
    """Scan the message of the commit that is being made, and refuse it when something is found; returns the exit code.

    Raises:
        AlgError: the scan could not be made; then nothing may pass either.
    """
    folder = Path.cwd()
    scan = scan_message(Path(file), folder, _people(folder))
    if as_json:
        print_json(scan.as_dict())
        return _EXIT_FOUND if scan.findings else 0
    if not scan.findings:
        return 0
    paint = paint_for(sys.stderr)
    talk(f"{paint('error:', 'red')} not committed: what looks like a secret is in the commit's message or its author")
    for line in scan_text(scan, paint).splitlines():
        talk(f"  {line}")
    talk(
        f"{paint('hint:', 'yellow')} commit again without it.\n"
        f"hint: if it is no secret: `alg secrets allow {scan.findings[0][1].fingerprint} --reason WHY`, or stage "
        f"{ALLOWANCES_FILE} with it:\n"
        f"  - fingerprint: {scan.findings[0][1].fingerprint}\n    reason: why it is none"
    )
    if scan.trouble is not None:
        talk(f"note: nothing is allowed: {harmless(scan.trouble)}")
    return _EXIT_FOUND
