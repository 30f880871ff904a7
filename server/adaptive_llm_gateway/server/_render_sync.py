"""Where the memory repo stands against its remote, as text: what is so, what git says, what to do next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

Json = dict[str, Any]

_LONGEST: Final = 300
_MORE: Final = " ..."
_STILL_NEWS: Final = timedelta(minutes=15)


def sync_text(sync: Json, *, now: datetime | None = None) -> str:
    """In one line: the state, what is most in the way with git's words and the next step, and what else there is.

    Args:
        now: timezone-aware; default: now. What was seen of the remote longer ago than a quarter of an hour is dated.
    """
    text = standing_line(sync, now=now)
    first, *others = [problem for problem in _problems(sync) if problem["blocks"]] or [None]
    if first is not None:
        text += f". {_said(first)}"
        if first["hint"]:
            text += f" Next: {first['hint']}"
    if others:
        text += f" Also: {', '.join(str(problem['kind']) for problem in others if problem)}."
    if sync.get("writes", "committed") != "committed":
        text = f"{sentence(text)} Writes here are {_WRITES[sync['writes']]}."
    return text + ("; held back by offline mode" if sync["offline"] else "")


def standing_line(sync: Json, *, now: datetime | None = None) -> str:
    """The state, with what belongs to it."""
    facts = [f"{sync['ahead']} ahead, {sync['behind']} behind" + (f" since {sync['since']}" if sync["since"] else "")]
    if sync["state"] == "failed":
        count = sync.get("attempts", 0)
        facts += [f"{count} attempts in a row"] if count > 1 else []
    if sync.get("next_attempt"):
        facts.append(f"the next attempt at {sync['next_attempt']}")
    told = "; ".join(facts)
    match sync["state"]:
        case "no_remote":
            return "no remote"
        case "pushed":
            return f"pushed{_as_of(sync, now)}"
        case "pulled":
            return f"pulled, and nothing is ever pushed: the remote is only read{_as_of(sync, now)}"
        case "local":
            stay = "commit stays" if sync["ahead"] == 1 else "commits stay"
            return f"{sync['ahead']} {stay} here: the remote is only read ({told}){_as_of(sync, now)}"
        case "behind" if sync.get("read_only") and not sync.get("checked"):
            return "not pulled yet; the remote is only read"
        case "pending":
            return f"not yet pushed ({told}){_as_of(sync, now)}"
        case "behind":
            return f"the remote has newer commits ({told}){_as_of(sync, now)}"
        case "diverged":
            return f"diverged from the remote ({told}){_as_of(sync, now)}"
        case state:
            return f"{state}: {sync['kind']} ({told})"


def sync_lines(sync: Json, *, now: datetime | None = None) -> list[str]:
    """All there is: the state, the remote, and a line for each problem and notice."""
    first = f"sync: {standing_line(sync, now=now)}" + ("; held back by offline mode" if sync["offline"] else "")
    if sync["remote"]:
        first += f"; remote {sync['remote']}"
        seen = [("last seen", sync.get("checked")), ("last the same on both sides", sync.get("last_success"))]
        first += "".join(f", {words} {when}" for words, when in seen if when)
    lines = [first]
    if sync.get("writes", "committed") != "committed":
        lines.append(f"writes here are {_WRITES[sync['writes']]}")
    return lines + [problem_line(problem) for problem in _problems(sync)]


def progress_text(progress: Json) -> str:
    """`pull: receiving objects, 420 of 1000, 1.20 MiB`: what runs, and how far it is."""
    done, total = progress["done"], progress["total"]
    count = f", {done} of {total}" if total else f", {done}" if done else ""
    size = f", {progress['size']}" if progress["size"] else ""
    return f"{progress['operation']}: {progress['phase']}{count}{size}"


def problem_line(problem: Json) -> str:
    """A problem or notice: what is so, git's words, the next step."""
    facts = [str(problem[name]) for name in ("operation",) if problem.get(name)]
    facts += [f"since {problem['since']}"] if problem.get("since") else []
    facts += [f"{problem['attempts']} attempts in a row"] if problem.get("attempts", 0) > 1 else []
    told = f" ({', '.join(facts)})" if facts else ""
    text = f"{'problem' if problem['blocks'] else 'notice'} {problem['kind']}{told}: {what_is_so(problem)}"
    return text + (f" Next: {problem['hint']}" if problem.get("hint") else "")


def what_is_so(problem: Json) -> str:
    """A problem in sentences: its message, and git's words where the message does not have them already."""
    text = sentence(problem["message"])
    said = _first_line(problem["git"] or "")
    return text if said.removesuffix(_MORE) in text else f"{text} git says: {sentence(said)}"


def _first_line(text: str) -> str:
    """A text's first line, which says what there is to say; what git tells a person to check comes below it."""
    first, *more = text.strip().splitlines() or [""]
    return f"{first[:_LONGEST]}{_MORE}" if more or len(first) > _LONGEST else first


_WRITES: Final = {
    "saved": "on disk and searchable, and not committed",
    "refused": "refused until then",
}


def _problems(sync: Json) -> list[Json]:
    found: list[Json] | None = sync.get("problems")
    if found is None:
        found = []
    if not found and sync["state"] == "failed":
        found = [{"kind": sync["kind"], "blocks": True, "git": sync["error"], "hint": sync.get("hint"), "message": ""}]
    return found


def _said(problem: Json) -> str:
    if problem.get("git"):
        return f"git says: {sentence(_first_line(problem['git']))}"
    return f"In the way: {sentence(problem['message'])}"


def sentence(text: str) -> str:
    """`text` with a full stop, unless it has its end."""
    return text if text.endswith((".", "!", "?", "...")) else f"{text}."


def _as_of(sync: Json, now: datetime | None) -> str:
    """How old what is said of the remote is, where that is no news."""
    checked = sync.get("checked")
    if not checked:
        return ""
    seen = datetime.fromisoformat(checked)
    return f", as of {checked}" if (now or datetime.now(UTC)) - seen > _STILL_NEWS else ""
