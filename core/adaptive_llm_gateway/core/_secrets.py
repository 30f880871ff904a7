"""The secret scanner: finds credentials in text before it goes anywhere, and never repeats one."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adaptive_llm_gateway.core._errors import ConfigError, SecretRefused
from adaptive_llm_gateway.core._secret_detectors import Match, find_matches

if TYPE_CHECKING:
    import yaml

_CACHED_TEXTS = 4096
_CACHED_FINDINGS = 64  # a text with more is scanned again rather than kept
_ROUNDS = 16
_ALLOWANCES_LIMIT = 1_000_000  # bytes
_REASON_LIMIT = 500
_FINGERPRINT = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Finding:
    """A credential that was found, without the credential: safe to log, to show and to store.

    Attributes:
        kind: what it is, such as `github-token` or `password`.
        line: 1-based; CR LF, LF and CR each end a line.
        preview: at most its first four and last two characters, fewer of short ones.
        fingerprint: 16 hex digits of the SHA-256 of kind and secret. The same secret has the same one everywhere,
            which is what an allowance needs. A generated token cannot be recovered from it; a guess at a short
            password can be confirmed with it, so treat it like the preview: fine among those who may see the text.
    """

    kind: str
    line: int
    preview: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Allowance:
    """A false positive that somebody has looked at: findings with this fingerprint pass."""

    fingerprint: str
    reason: str


@dataclass(frozen=True, slots=True)
class FindingSpan:
    """Where in a text a finding is: characters `start` up to `end`, for whoever puts something in its place."""

    finding: Finding
    start: int
    end: int


class SecretScanner:
    """Finds, redacts or refuses credentials in text. Immutable and safe to share between threads.

    Args:
        allowed: findings with these fingerprints are none.
    """

    def __init__(self, *, allowed: Iterable[Allowance] = ()) -> None:
        self._allowed = frozenset(allowance.fingerprint for allowance in allowed)
        self._cache = _Cache()

    def with_allowed(self, allowed: Iterable[Allowance]) -> SecretScanner:
        """A scanner with these allowances in place of this one's, sharing what is already known of texts."""
        scanner = SecretScanner(allowed=allowed)
        scanner._cache = self._cache
        return scanner

    def scan(self, text: str) -> tuple[Finding, ...]:
        """Every credential in `text`, in order of its place."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        findings = self._cache.get(key)
        if findings is None:
            findings = _findings(text, find_matches(text))
            self._cache.put(key, findings)
        if not self._allowed:
            return findings
        return tuple(finding for finding in findings if finding.fingerprint not in self._allowed)

    def spans(self, text: str) -> tuple[FindingSpan, ...]:
        """Every credential in `text` with its place, in order and without overlap.

        With one credential gone, the scan of what is left may find another.
        """
        if not self.scan(text):
            return ()
        matches = find_matches(text)
        found = zip(_findings(text, matches), matches, strict=True)
        spans = [FindingSpan(finding, match.start, match.end) for finding, match in found]
        return tuple(span for span in spans if span.finding.fingerprint not in self._allowed)

    def redact(self, text: str) -> tuple[str, tuple[Finding, ...]]:
        """The text with `[REDACTED:<kind>]` for each credential and nothing else changed, and what was found.

        A scan of the result is clean.
        """
        found: tuple[Finding, ...] = ()
        for _ in range(_ROUNDS):
            matches = [match for match in find_matches(text) if _fingerprint(match) not in self._allowed]
            if not matches:
                return text, found
            found += _findings(text, matches)
            text = _replace(text, matches)
        # Text made to reveal a new credential each time one goes: take the lines whole.
        while matches := [match for match in find_matches(text) if _fingerprint(match) not in self._allowed]:
            found += _findings(text, matches)
            text = _replace(text, [_whole_lines(text, match) for match in matches])
        return text, found

    def check(self, text: str, *, where: str) -> None:
        """Refuse `text` when it carries a credential.

        Args:
            where: what the text is, for the message: `the body`, a path, `the commit message`.

        Raises:
            SecretRefused: `details["findings"]` has each finding's `kind`, `line`, `preview` and `fingerprint`.
        """
        findings = self.scan(text)
        if len(findings) == 0:
            return
        named = ", ".join(f"{f.kind} in line {f.line} ({f.preview})" for f in findings[:5])
        more = f" and {len(findings) - 5} more" if len(findings) > 5 else ""
        raise SecretRefused(
            f"{where} carries what looks like a secret: {named}{more}",
            hint="Remove it and try again, or pass redact=true to store a placeholder in its place. If it is none, "
            f"add its fingerprint ({findings[0].fingerprint}) with a reason to secrets-allowed.yaml.",
            where=where,
            findings=[
                {"kind": f.kind, "line": f.line, "preview": f.preview, "fingerprint": f.fingerprint} for f in findings
            ],
        )


def load_allowances(path: Path) -> tuple[Allowance, ...]:
    """The allowances of a `secrets-allowed.yaml`: a list of `fingerprint` and `reason`; none when there is no file.

    Raises:
        ConfigError: the file is not such a list; the message names path and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_ALLOWANCES_LIMIT + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    if len(data) > _ALLOWANCES_LIMIT:
        raise ConfigError(f"{str(path)!r} is larger than {_ALLOWANCES_LIMIT:,} bytes", path=str(path))
    import yaml  # noqa: PLC0415 - 15 ms that only those with such a file pay

    try:
        root = yaml.compose(data.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{str(path)!r} is not UTF-8: {error.reason}", path=str(path)) from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _invalid(path, mark.line + 1 if mark else 1, "is not valid YAML") from error
    if root is None:
        return ()
    if not isinstance(root, yaml.SequenceNode):
        raise _invalid(path, root.start_mark.line + 1, "is not a list")
    return tuple(_allowance(path, item) for item in root.value)


def _allowance(path: Path, node: yaml.Node) -> Allowance:
    import yaml  # noqa: PLC0415

    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise _invalid(path, line, "has an entry that is not a mapping of fingerprint and reason")
    # Scalars as written, not as YAML would type them: 16 digits are a fingerprint, not a number.
    values: dict[str, str] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value not in ("fingerprint", "reason"):
            name = key.value if isinstance(key, yaml.ScalarNode) else "a nested value"
            raise _invalid(path, key.start_mark.line + 1, f"has the unknown key {name!r}")
        if not isinstance(value, yaml.ScalarNode) or key.value in values:
            raise _invalid(path, key.start_mark.line + 1, f"needs one text for {key.value!r}")
        values[key.value] = value.value
    fingerprint, reason = values.get("fingerprint", ""), values.get("reason", "").strip()
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise _invalid(path, line, f"has the fingerprint {fingerprint[:40]!r}, which is not 16 hex digits")
    if not 0 < len(reason) <= _REASON_LIMIT:
        raise _invalid(path, line, f"needs a reason of 1 to {_REASON_LIMIT} characters for {fingerprint!r}")
    return Allowance(fingerprint, reason)


def _invalid(path: Path, line: int, what: str) -> ConfigError:
    return ConfigError(
        f"{str(path)!r}, line {line}: the file {what}",
        hint="Each entry reads `- fingerprint: <16 hex digits>` and, below, `  reason: <why it is no secret>`.",
        path=str(path),
        line=line,
    )


# --- Matches to findings ----------------------------------------------------------------------------


def _findings(text: str, matches: list[Match]) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    line, at = 1, 0
    for match in matches:
        line += _line_ends(text, at, match.start)
        at = match.start
        findings.append(Finding(match.kind, line, _preview(match.secret), _fingerprint(match)))
    return tuple(findings)


def _line_ends(text: str, start: int, end: int) -> int:
    crlf = text.count("\r\n", start, end)
    return text.count("\n", start, end) + text.count("\r", start, end) - crlf


def _fingerprint(match: Match) -> str:
    secret = match.secret.encode("utf-8", "surrogatepass")
    return hashlib.sha256(match.kind.encode() + b"\0" + secret).hexdigest()[:16]


def _preview(secret: str) -> str:
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in secret[:4] + secret[-2:])
    if len(secret) >= 20:
        return f"{shown[:4]}…{shown[4:]}"
    return f"{shown[:2]}…" if len(secret) >= 12 else "…"


def _replace(text: str, matches: list[Match]) -> str:
    parts: list[str] = []
    at = 0
    for match in matches:
        if match.start < at:
            continue
        parts += (text[at : match.start], f"[REDACTED:{match.kind}]")
        at = match.end
    return "".join([*parts, text[at:]])


def _whole_lines(text: str, match: Match) -> Match:
    start = text.rfind("\n", 0, match.start) + 1
    end = text.find("\n", match.end)
    return Match(match.kind, start, len(text) if end < 0 else end, match.secret, match.rank)


class _Cache:
    """The findings of texts by their hash, the least recently used going first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, tuple[Finding, ...]] = OrderedDict()

    def get(self, key: bytes) -> tuple[Finding, ...] | None:
        with self._lock:
            findings = self._kept.get(key)
            if findings is not None:
                self._kept.move_to_end(key)
            return findings

    def put(self, key: bytes, findings: tuple[Finding, ...]) -> None:
        if len(findings) > _CACHED_FINDINGS:
            return
        with self._lock:
            self._kept[key] = findings
            if len(self._kept) > _CACHED_TEXTS:
                self._kept.popitem(last=False)
