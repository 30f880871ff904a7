"""The secret scanner: finds credentials in text before it goes anywhere, and never repeats one."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from adaptive_llm_gateway.core._errors import SecretRefused
from adaptive_llm_gateway.core._redaction import MARK_KEY_BYTES, Redaction, line_ends, with_marks
from adaptive_llm_gateway.core._secret_allowances import Allowance
from adaptive_llm_gateway.core._secret_detectors import Match, find_matches

_CACHED_TEXTS = 4096
_CACHED_FINDINGS = 64  # a text with more is scanned again rather than kept
LEAVE_TO_PERSON = "If it is no secret, leave it to the person at this machine to allow it"
"""What a refusal says to whoever may be a model; the command line has the command in its place."""
_MOST_TOLD = 100  # findings that a refusal lists, whoever reads it
_ROUNDS = 16
_NEVER = datetime(1, 1, 1, tzinfo=UTC)  # the end of what never counts


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
class FindingSpan:
    """Where in a text a finding is: characters `start` up to `end`, for whoever puts something in its place."""

    finding: Finding
    start: int
    end: int


class SecretScanner:
    """Finds, redacts or refuses credentials in text. Safe to share between threads.

    Args:
        allowed: findings with these fingerprints are none, until the allowance ends.
        clock: what time it is, timezone-aware; default: the machine's own.
        trouble: why more than these is not allowed, which a refusal says: the list cannot be read.
        mark_key: 32 bytes with which a redaction's marks are made; without it they only say what was there.

    Raises:
        ValueError: the key has another length.
    """

    def __init__(
        self,
        *,
        allowed: Iterable[Allowance] = (),
        clock: Callable[[], datetime] | None = None,
        trouble: str | None = None,
        mark_key: bytes | None = None,
    ) -> None:
        if mark_key is not None and len(mark_key) != MARK_KEY_BYTES:
            raise ValueError(f"the key of the marks has {len(mark_key)} bytes, not {MARK_KEY_BYTES}")
        self._mark_key = mark_key
        # Of several for one fingerprint the one that ends first; one with keys nobody here knows may be restricted.
        self._ends: dict[str, datetime | None] = {}
        for allowance in allowed:
            end = _NEVER if allowance.unknown else allowance.ends
            known = self._ends.get(allowance.fingerprint)
            if known is None or (end is not None and end < known):
                self._ends[allowance.fingerprint] = end
        self._clock = clock
        self._trouble = trouble
        self._counting: tuple[frozenset[str], datetime | None] | None = None
        self._cache = _Cache()

    def with_allowed(self, allowed: Iterable[Allowance], *, trouble: str | None = None) -> SecretScanner:
        """A scanner with these allowances in place of this one's, sharing what is already known of texts."""
        scanner = SecretScanner(allowed=allowed, clock=self._clock, trouble=trouble, mark_key=self._mark_key)
        scanner._cache = self._cache
        return scanner

    @property
    def allowed(self) -> frozenset[str]:
        """The fingerprints that are allowed now; the same object as long as nothing ends."""
        counting = self._counting
        if counting is None or (counting[1] is not None and self._now() >= counting[1]):
            now = self._now() if any(self._ends.values()) else None
            counts = {print_: end for print_, end in self._ends.items() if end is None or now is None or end > now}
            counting = frozenset(counts), min((end for end in counts.values() if end is not None), default=None)
            self._counting = counting
        return counting[0]

    @property
    def _allowed(self) -> frozenset[str]:
        return self.allowed

    def _now(self) -> datetime:
        return self._clock() if self._clock is not None else datetime.now(UTC)

    def kind_of(self, fingerprint: str) -> str | None:
        """What a finding of late with this fingerprint was taken for; None where there was none."""
        return self._cache.kind_of(fingerprint)

    def scan(self, text: str) -> tuple[Finding, ...]:
        """Every credential in `text`, in order of its place."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        findings = self._cache.get(key)
        if findings is None:
            findings = _findings(text, find_matches(text))
            self._cache.put(key, findings)
        if not findings or not self._ends:
            return findings
        allowed = self.allowed
        return tuple(finding for finding in findings if finding.fingerprint not in allowed)

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

    def told(self, text: str, start: int, end: int, *, kind: str) -> Finding | None:
        """What another scanner found in `text`, characters `start` up to `end`, as a finding; None where it is allowed.

        Args:
            kind: what that scanner takes it for.
        """
        match = Match(kind, start, end, text[start:end], 0)
        (finding,) = _findings(text, [match])
        return None if finding.fingerprint in self._allowed else finding

    def redact(self, text: str) -> tuple[str, tuple[Redaction, ...]]:
        """The text with a mark for each credential and nothing else changed, and what was taken out.

        A mark is `[redacted:<kind>#<hash>]`, of equal secrets the same (`mark_of`). Of a credential of several lines
        the line ends stay, and what quotes the lines. A scan of the result is clean, so redacting it changes nothing.
        """
        done: tuple[Redaction, ...] = ()
        for number in range(2 * _ROUNDS):
            matches = [match for match in find_matches(text) if _fingerprint(match) not in self._allowed]
            if not matches:
                return text, done
            if number >= _ROUNDS:  # text made to reveal a new credential each time one goes: take the lines whole
                matches = [_whole_lines(text, match) for match in matches]
            text, more = with_marks(text, matches, self._mark_key)
            done += more
        matches = [match for match in find_matches(text) if _fingerprint(match) not in self._allowed]
        if matches:
            text, more = with_marks(text, [replace(matches[0], start=0, end=len(text))], self._mark_key)
            done += more
        return text, done

    def _about(self, findings: tuple[Finding, ...]) -> str:
        """Why what seems to be allowed is not."""
        if self._trouble is not None:
            return f"Nothing is allowed: {self._trouble}. "
        ended = self._ends.get(findings[0].fingerprint)
        if ended is None or ended == _NEVER:
            return ""
        return f"It was allowed until {ended.isoformat(timespec='seconds').replace('+00:00', 'Z')}. "

    def check(self, text: str, *, where: str) -> None:
        """Refuse `text` when it carries a credential.

        Args:
            where: what the text is, for the message: `the body`, a path, `the commit message`.

        Raises:
            SecretRefused: `details["findings"]` has `kind`, `line`, `preview` and `fingerprint` of each finding; of
                more than 100 the first ones, and `details["found"]` how many there are.
        """
        findings = self.scan(text)
        if len(findings) == 0:
            return
        named = ", ".join(f"{f.kind} in line {f.line} ({f.preview})" for f in findings[:5])
        more = f" and {len(findings) - 5} more" if len(findings) > 5 else ""
        raise SecretRefused(
            f"{where} carries what looks like a secret: {named}{more}",
            # Whoever reads this may be a model, which is not to allow anything by itself; the command line names the
            # command to people.
            hint="Remove it and try again, or pass redact=true to store a mark in its place. "
            f"{self._about(findings)}{LEAVE_TO_PERSON}, by its fingerprint ({findings[0].fingerprint}).",
            where=where,
            findings=[
                {"kind": f.kind, "line": f.line, "preview": f.preview, "fingerprint": f.fingerprint}
                for f in findings[:_MOST_TOLD]
            ],
            **({"found": len(findings)} if len(findings) > _MOST_TOLD else {}),
        )


# --- Matches to findings ----------------------------------------------------------------------------


def _findings(text: str, matches: list[Match]) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    line, at = 1, 0
    for match in matches:
        line += line_ends(text, at, match.start)
        at = match.start
        findings.append(Finding(match.kind, line, _preview(match.secret), _fingerprint(match)))
    return tuple(findings)


def _fingerprint(match: Match) -> str:
    secret = match.secret.encode("utf-8", "surrogatepass")
    return hashlib.sha256(match.kind.encode() + b"\0" + secret).hexdigest()[:16]


def _preview(secret: str) -> str:
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in secret[:4] + secret[-2:])
    if len(secret) >= 20:
        return f"{shown[:4]}…{shown[4:]}"
    return f"{shown[:2]}…" if len(secret) >= 12 else "…"


def _whole_lines(text: str, match: Match) -> Match:
    start = text.rfind("\n", 0, match.start) + 1
    end = text.find("\n", match.end)
    return replace(match, start=start, end=len(text) if end < 0 else end)


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

    def kind_of(self, fingerprint: str) -> str | None:
        """The kind of a kept finding; None where there is none."""
        with self._lock:
            kept = [found for findings in reversed(self._kept.values()) for found in findings]
        return next((found.kind for found in kept if found.fingerprint == fingerprint), None)

    def put(self, key: bytes, findings: tuple[Finding, ...]) -> None:
        if len(findings) > _CACHED_FINDINGS:
            return
        with self._lock:
            self._kept[key] = findings
            if len(self._kept) > _CACHED_TEXTS:
                self._kept.popitem(last=False)
