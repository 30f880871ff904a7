"""What is no secret though it looks like one: the entries of `secrets-allowed.yaml`, and which of them count now.

An entry counts on a machine once a person there has agreed to it. What a pull brings waits until then: the git folder
keeps which entries wait, and up to when those count that a pull would let count longer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from adaptive_llm_gateway.core._errors import ConfigError

if TYPE_CHECKING:
    import yaml

ALLOWANCES_FILE: Final = "secrets-allowed.yaml"
"""Where a memory repo has its allowances."""
WAITING_FILE: Final = "alg-allowances.json"
"""Where the git folder of a memory repo has which of them wait for a person."""
ENDING_SOON: Final = timedelta(days=30)

_LIMIT: Final = 250_000  # bytes, which take some seconds to read
_REASON_LIMIT: Final = 500
_TEXT_LIMIT: Final = 200
_LAST_DAY: Final = datetime(9999, 12, 31, tzinfo=UTC)
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{16}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_KEYS: Final = ("fingerprint", "reason", "by", "added", "until", "kind")

AllowanceState = Literal["in_force", "ending", "ended", "waiting", "unknown_keys"]
"""It counts; it does for at most 30 more days; it did; a pull brought it and nobody here has agreed; a newer version
made it, and what it is restricted to is not known here."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A false positive that somebody has looked at: findings with this fingerprint pass.

    Attributes:
        reason: why it is no secret.
        by: who says so.
        added: when, as it is written.
        until: how long it counts, as it is written: a date, to its end in UTC, or a time of RFC 3339; empty: no end.
        kind: what the scanner took it for, for the reader.
        unknown: keys that this version does not know, with what is written behind them. They may restrict it, so
            an entry that has one allows nothing.
        line: in the file.
    """

    fingerprint: str
    reason: str
    by: str = ""
    added: str = ""
    until: str = ""
    kind: str = ""
    unknown: tuple[tuple[str, str], ...] = ()
    line: int = field(default=0, compare=False)

    @property
    def ends(self) -> datetime | None:
        """The first moment at which it does not count any more; None: there is none."""
        return parse_until(self.until) if self.until else None


@dataclass(frozen=True, slots=True)
class StandingAllowance:
    """An allowance and whether it counts.

    Attributes:
        counts_until: where a pull brought a later end than the one that was agreed to here: that one.
    """

    allowance: Allowance
    state: AllowanceState
    counts_until: str | None = None


def is_fingerprint(text: str) -> bool:
    """Whether a text can be a finding's fingerprint."""
    return _FINGERPRINT.fullmatch(text) is not None


def parse_until(text: str) -> datetime:
    """When something ends that holds until then: a date to its end in UTC, a time of RFC 3339 (section 5.6) as it is.

    Raises:
        ValueError: it is neither.
    """
    if _DATE.fullmatch(text):
        day = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return day + timedelta(days=1) if day < _LAST_DAY else day
    if not _TIME.fullmatch(text.upper()):
        raise ValueError("neither a date such as 2030-01-31 nor a time such as 2030-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError:
        raise ValueError("out of range") from None


def earlier_end(one: str, other: str) -> str:
    """Of two ends as they are written the earlier one; nothing is the latest. The same in either order."""
    if not one or not other:
        return one or other
    return min(one, other, key=lambda end: (parse_until(end), end))


# --- the file ---------------------------------------------------------------------------------------------


def load_allowances(path: Path) -> tuple[Allowance, ...]:
    """The entries of a `secrets-allowed.yaml`; none when there is no file.

    Raises:
        ConfigError: the file is not a list of allowances; the message names path and line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error.strerror}", path=str(path)) from error
    return parse_allowances(decode_allowances(data, where=str(path)), where=str(path))


def decode_allowances(data: bytes, *, where: str) -> str:
    """The file's text.

    Raises:
        ConfigError: it is too large, or not UTF-8.
    """
    if len(data) > _LIMIT:
        raise ConfigError(f"{where!r} is larger than {_LIMIT:,} bytes", path=where)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where!r} is not UTF-8: {error.reason}", path=where) from error


def parse_allowances(text: str, *, where: str = ALLOWANCES_FILE) -> tuple[Allowance, ...]:
    """As `load_allowances`, from the file's text.

    Args:
        where: the file, for the message.
    """
    return tuple(allowance for allowance, _ in compose_allowances(text, where=where)[1])


def compose_allowances(
    text: str, *, where: str = ALLOWANCES_FILE
) -> tuple[yaml.SequenceNode | None, list[tuple[Allowance, yaml.MappingNode]]]:
    """The file's list, and each entry with its place in the text; None where the file says nothing.

    Raises:
        ConfigError: as `load_allowances`.
    """
    import yaml  # noqa: PLC0415 - 15 ms that only those with such a file pay

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        raise _invalid(where, mark.line + 1 if mark else 1, "is not valid YAML") from error
    if root is None:
        return None, []
    if not isinstance(root, yaml.SequenceNode):
        raise _invalid(where, root.start_mark.line + 1, "is not a list")
    return root, [_allowance(where, text, node) for node in root.value]


def _allowance(where: str, text: str, node: yaml.Node) -> tuple[Allowance, yaml.MappingNode]:
    import yaml  # noqa: PLC0415

    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise _invalid(where, line, "has an entry that is not a mapping of fingerprint and reason")
    # No value is quoted: somebody may have put the secret itself there.
    # Scalars as written, not as YAML would type them: 16 digits are a fingerprint, not a number.
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    unknown: list[tuple[str, str]] = []
    for key, value in node.value:
        at = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise _invalid(where, at, "has a key that is no text")
        if key.value not in _KEYS:
            unknown.append((key.value, text[value.start_mark.index : value.end_mark.index].rstrip()))
            continue
        if not isinstance(value, yaml.ScalarNode) or key.value in values:
            raise _invalid(where, at, f"needs one text for {key.value!r}")
        values[key.value], lines[key.value] = value.value.strip(), at
    fingerprint, reason = values.get("fingerprint", ""), values.get("reason", "")
    if not is_fingerprint(fingerprint):
        raise _invalid(where, line, "has a fingerprint that is not 16 hex digits")
    if not 0 < len(reason) <= _REASON_LIMIT:
        raise _invalid(where, line, f"needs a reason of 1 to {_REASON_LIMIT} characters for {fingerprint!r}")
    for key in ("by", "kind"):
        if len(values.get(key, "")) > _TEXT_LIMIT:
            raise _invalid(where, lines[key], f"has more than {_TEXT_LIMIT} characters in {key!r}")
    for key in ("added", "until"):
        try:
            if key in values:
                parse_until(values[key])
        except ValueError as error:
            raise _invalid(where, lines[key], f"has an end or a time in {key!r} that is {error}") from None
    return Allowance(**values, unknown=tuple(unknown), line=line), node


def _invalid(where: str, line: int, what: str) -> ConfigError:
    return ConfigError(
        f"{where!r}, line {line}: the file {what}",
        hint="Each entry reads `- fingerprint: <16 hex digits>` and, below, `  reason: <why it is no secret>`. "
        "Until it is mended nothing is allowed.",
        path=where,
        line=line,
    )


# --- what counts ------------------------------------------------------------------------------------------

Waiting = Mapping[str, str | None]
"""Entries that a pull brought, or made count longer: fingerprint to the end up to which they count here, as it is
written; empty: without end, None: not at all."""


def standing(allowances: Iterable[Allowance], waiting: Waiting, now: datetime) -> tuple[StandingAllowance, ...]:
    """Each allowance, and whether it counts."""
    found: list[StandingAllowance] = []
    for allowance in allowances:
        agreed = waiting.get(allowance.fingerprint, "")
        until = earlier_end(allowance.until, agreed or "")
        ends = parse_until(until) if until else None
        state: AllowanceState = "in_force"
        if allowance.unknown:
            state = "unknown_keys"
        elif ends is not None and ends <= now:
            state = "ended"
        elif agreed is None:
            state = "waiting"
        elif ends is not None and ends - now <= ENDING_SOON:
            state = "ending"
        if state == "ended" and allowance.until != until and (allowance.ends is None or allowance.ends > now):
            state = "waiting"  # it was renewed, and nobody here has agreed to that
        found.append(StandingAllowance(allowance, state, until if until != allowance.until else None))
    return tuple(found)


def agreed_to(allowances: Iterable[Allowance], waiting: Waiting) -> tuple[Allowance, ...]:
    """The allowances as far as somebody here has agreed to them."""
    return tuple(
        replace(allowance, until=earlier_end(allowance.until, agreed))
        for allowance in allowances
        if (agreed := waiting.get(allowance.fingerprint, "")) is not None
    )


def arriving(before: Iterable[Allowance], waiting: Waiting, after: Iterable[Allowance]) -> dict[str, str | None]:
    """What waits once a pull has put other entries in the place of these.

    What is taken away or ends earlier does so at once.
    """
    agreed: dict[str, str] = {}
    for allowance in agreed_to(before, waiting):
        if not allowance.unknown:
            known = agreed.get(allowance.fingerprint)
            agreed[allowance.fingerprint] = allowance.until if known is None else earlier_end(known, allowance.until)
    result: dict[str, str | None] = {}
    for allowance in after:
        until = agreed.get(allowance.fingerprint)
        if until is None or earlier_end(until, allowance.until) != allowance.until:
            result[allowance.fingerprint] = until
    return result


def load_waiting(git_dir: Path) -> Waiting:
    """Which entries wait for a person, as the git folder of a memory repo has it.

    Raises:
        ConfigError: it cannot be read, so that nothing of the file may count.
    """
    path = git_dir / WAITING_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _unreadable(path) from error
    try:
        waiting = json.loads(data)["waiting"]
        found = {str(key): None if value is None else str(value) for key, value in waiting.items()}
        for until in found.values():
            if until:
                parse_until(until)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path) from error
    return found


def waiting_bytes(waiting: Waiting) -> bytes:
    """What `load_waiting` reads."""
    return json.dumps({"waiting": dict(sorted(waiting.items()))}, indent=1).encode("ascii")


def _unreadable(path: Path) -> ConfigError:
    return ConfigError(
        f"{str(path)!r}, which has the allowances that wait for a person, cannot be read",
        hint="Until it is mended nothing is allowed. Without that file all that is in the list of allowances counts: "
        "look through `alg secrets list --all` before you take it away.",
        path=str(path),
    )


def git_folder(repo: Path) -> Path | None:
    """The git folder that all work trees of a repository share; None where `repo` is no work tree's top."""
    found = repo / ".git"
    try:
        if found.is_file():  # a work tree beside another one
            text = found.read_text(encoding="utf-8", errors="surrogateescape").strip()
            found = repo / text.removeprefix("gitdir:").strip()
        common = found / "commondir"
        if common.is_file():
            found = found / common.read_text(encoding="utf-8", errors="surrogateescape").strip()
    except OSError:
        return None
    return found if found.is_dir() else None


def load_agreed(path: Path) -> tuple[Allowance, ...]:
    """As `load_allowances`, as far as somebody at this machine has agreed to them.

    Raises:
        ConfigError: as `load_allowances` and `load_waiting`.
    """
    git_dir = git_folder(path.parent)
    return agreed_to(load_allowances(path), load_waiting(git_dir) if git_dir is not None else {})
