"""Handoffs as text for people at a terminal: a line each, one with its time line, and what an operation did.

Everything here is a function of the hub's JSON and of the time; what others wrote is shown without what steers a
terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless, in_a_line, talk
from adaptive_llm_gateway.server._render import standing_text
from adaptive_llm_gateway.server._times import iso

_STATE_STYLE = {"offered": "green", "claimed": "yellow", "done": "dim", "withdrawn": "dim", "damaged": "red"}
_PRIORITY_STYLE = {"urgent": "red", "high": "yellow", "low": "dim"}
_LONGEST_LINE = 100
"""Characters of an objective in a list; `show` has it whole."""
_LONGEST_TEXT = 30
"""Lines of a step's text in a time line; `--json` has them all."""
_LABEL = 11
_HEAD = 3
"""Cells of a line that stay together where it is broken: id, state, priority."""

Cell = tuple[str, str | None]


# --- Times and parties --------------------------------------------------------------------------------------------


def span(seconds: float) -> str:
    """A length of time in one unit, rounded down: `45 s`, `41 min`, `3 h`, `2 d`."""
    whole = max(0, int(seconds))
    for limit, unit, name in ((60, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if whole < limit:
            return f"{whole // unit} {name}"
    return f"{whole // 86_400} d"


def when(text: str) -> datetime:
    """The hub's time; one without a zone is in UTC."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ago(text: str, now: datetime) -> str:
    """How long a time is past: `3 s ago`."""
    return f"{span((now - when(text)).total_seconds())} ago"


def party_text(party: Json | None, *, host: bool = False) -> str:
    """`client/agent`, with `host` also `@machine`."""
    if not party:
        return "somebody"
    name = party["client"] + (f"/{party['agent']}" if party.get("agent") else "")
    return name + (f"@{party['host']}" if host and party.get("host") else "")


def _lease(claim: Json, now: datetime) -> str:
    left = (when(claim["lease_until"]) - now).total_seconds()
    return f"{span(left)} left" if left > 0 else f"its lease ran out {span(-left)} ago"


def state_text(handoff: Json, now: datetime, *, host: bool = False) -> str:
    """Where a handoff stands, with who holds it and for how long."""
    claim: Json | None = handoff["claim"]
    ended: Json | None = handoff["ended"]
    match handoff["state"]:
        case "claimed" if claim:
            provisional = " provisionally" if claim["provisional"] else ""
            holder = party_text(handoff["holder"] or claim["by"], host=host)
            return f"claimed{provisional} by {holder}, {_lease(claim, now)}"
        case "offered" if claim:
            return f"offered again, the lease of {party_text(claim['by'], host=host)} ran out"
        case "offered" if handoff["declined_by"]:
            return f"offered, declined by {', '.join(party_text(each, host=host) for each in handoff['declined_by'])}"
        case "damaged":
            count = handoff["damage_count"]
            return f"DAMAGED, {count} {'problem' if count == 1 else 'problems'}"
        case "expired" if handoff["expires"]:
            return f"expired {ago(handoff['expires'], now)}"
        case state:
            return f"{state} by {party_text(ended['by'], host=host)}" if ended else state


# --- A list -------------------------------------------------------------------------------------------------------


def _one_line(text: str, most: int = _LONGEST_LINE) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3]}..."


def _cells(handoff: Json, now: datetime) -> list[Cell]:
    state, priority = handoff["state"], handoff["priority"]
    objective = _one_line(handoff["objective"] or handoff["title"])
    return [
        (handoff["id"], "cyan"),
        (state_text(handoff, now), _STATE_STYLE.get(state)),
        (priority, _PRIORITY_STYLE.get(priority)),
        (f"for {handoff['to'] or 'anybody'}", None),
        (ago(handoff["created"], now), "dim"),
        (f"[{handoff['project']}]" if handoff["project"] else "-", "dim"),
        (f"checkpoint: {objective}" if handoff["checkpoint"] else objective, "bold"),
    ]


def _flat(text: str) -> str:
    """What others wrote where one line is due."""
    return harmless(" ".join(text.split()))


def _aligned(rows: Sequence[Sequence[Cell]], paint: Paint) -> list[str]:
    safe = [[(_flat(text), style) for text, style in row] for row in rows]
    widths = [max(len(text) for text, _ in column) for column in zip(*safe, strict=True)]
    lines: list[str] = []
    for row in safe:
        *first, (last, last_style) = row
        cells = [text.ljust(width) for (text, _), width in zip(first, widths[:-1], strict=True)]
        styled = [paint(cell, style) if style else cell for cell, (_, style) in zip(cells, first, strict=True)]
        lines.append("  ".join([*styled, paint(last, last_style) if last_style else last]).rstrip())
    return lines


def list_lines(found: Json, paint: Paint, now: datetime, *, width: int | None = None) -> list[str]:
    """A line for each handoff: id, state, priority, for whom, age, project, objective.

    Args:
        width: of the screen; where it does not hold the lines there are two for each, from whom it is for on.
    """
    rows = [_cells(each, now) for each in found["handoffs"]]
    if not width or max(map(len, _aligned(rows, Paint(on=False))), default=0) <= width:
        return _aligned(rows, paint)
    heads = _aligned([row[:_HEAD] for row in rows], paint)
    rests = _aligned([row[_HEAD:] for row in rows], paint)
    return [line for head, rest in zip(heads, rests, strict=True) for line in (head, f"    {rest}")]


def change_line(handoff: Json, paint: Paint, now: datetime) -> str:
    """One line of a list that is watched, with the time at which it was seen."""
    cells = _cells(handoff, now)
    row: list[Cell] = [(str(iso(now)), "dim"), *cells[:3], *cells[5:]]
    return _aligned([row], paint)[0]


def list_notes(found: Json, now: datetime) -> list[str]:
    """How many, when the remote was looked at and what it said, and notices."""
    notes = [f"{len(found['handoffs'])} of {found['total']}"]
    remote: Json | None = found["remote"]
    if remote:
        looked = f"looked {ago(remote['looked'], now)}" if remote["looked"] else "not looked yet"
        if remote["error"]:
            notes.append(f"note: the remote could not be reached: {harmless(remote['error'])} ({looked})")
        else:
            notes[0] += f"; remote: {looked}"
    return notes + [f"note: {harmless(each)}" for each in found["notices"]]


# --- One handoff --------------------------------------------------------------------------------------------------


def show_text(found: Json, paint: Paint, now: datetime) -> str:
    """What is handed over, and below it who did what; what is damaged comes before all else."""
    lines = [*_damage(found, paint), *_payload(found, paint, now)]
    if found["body"].strip():
        lines += ["", paint("state of the work", "bold"), *_indented(found["body"].strip("\n"))]
    lines += ["", paint("time line", "bold"), _offered_line(found, paint)]
    for step in found["steps"]:
        lines += step_lines(step, paint)
    return "\n".join(lines)


def _damage(found: Json, paint: Paint) -> list[str]:
    if not found["damage"]:
        return []
    lines = [paint("DAMAGED: nobody can claim it until these files are mended or taken away", "red")]
    for each in found["damage"]:
        lines.append(f"    {paint(_flat(each['path']), 'red')}: {_flat(each['problem'])}")
    if left := found["damage_count"] - len(found["damage"]):
        lines.append(f"    and {left:,} more")
    return [*lines, ""]


def _payload(found: Json, paint: Paint, now: datetime) -> list[str]:
    state = paint(_flat(state_text(found, now, host=True)), _STATE_STYLE.get(found["state"], "bold"))
    if found["state"] == "claimed" and found["claim"]:
        state += f" (until {found['claim']['lease_until']}, term {found['claim']['term']})"
    lines = [f"{'id':<{_LABEL}}{found['id']}", f"{'state':<{_LABEL}}{state}"]
    lines += _labelled("objective", found["objective"] or found["title"])
    lines += _labelled("next", found["next_action"])
    for label, key in (("question", "open_questions"), ("keep to", "constraints"), ("decision", "decisions")):
        for item in found[key]:
            lines += _labelled(label, item)
    facts = [f"for {found['to'] or 'anybody'}", f"priority {found['priority']}"]
    facts += [f"project {found['project']}"] if found["project"] else []
    facts += [f"#{tag}" for tag in found["tags"]]
    facts += [f"trust {found['trust']}"] if found["trust"] != "internal" else []
    facts += ["checkpoint of a session"] if found["checkpoint"] else []
    lines += _labelled("facts", ", ".join(facts))
    lines += _labelled("expires", found["expires"])
    lines += _labelled("session", found["session_id"])
    lines += _work_lines(found["work"])
    if found["declined_by"]:
        lines += _labelled("declined by", ", ".join(party_text(each, host=True) for each in found["declined_by"]))
    return [*lines, *_labelled("path", found["path"])]


def _work_lines(work: Json) -> list[str]:
    lines = _labelled("directory", work["directory"])
    at = [work["branch"] or ("detached" if work["commit"] else ""), str(work["commit"] or "")[:12]]
    lines += _labelled("branch", " at ".join(filter(None, at)))
    lines += _labelled("remote", work["remote"])
    if work["dirty_count"]:
        more = work["dirty_count"] - len(work["dirty"])
        listed = ", ".join(each.strip() for each in work["dirty"]) + (f" and {more} more" if more > 0 else "")
        lines += _labelled("changed", f"{work['dirty_count']} not committed: {listed}")
    return lines


def _labelled(label: str, text: str | None) -> list[str]:
    if not text or not text.strip():
        return []
    first, *rest = harmless(text.strip()).split("\n")
    return [f"{label:<{_LABEL}}{first}", *(" " * _LABEL + line for line in rest)]


def _indented(text: str) -> list[str]:
    return [f"    {line}" if line else "" for line in harmless(text).split("\n")]


# --- The time line ------------------------------------------------------------------------------------------------


def _line(time: str, event: str, by: Json | None, more: str, paint: Paint) -> str:
    head = f"{paint(time, 'dim')}  {paint(f'{_flat(event):<8}', 'cyan')}  {_flat(party_text(by, host=True))}"
    return f"{head}  {more}" if more else head


def _offered_line(found: Json, paint: Paint) -> str:
    return _line(found["created"], "offer", found["by"], "", paint)


def step_lines(step: Json, paint: Paint) -> list[str]:
    """A step in the time line: time, what, who, until when, whether it counts, and its text."""
    facts: list[str] = []
    if step["lease_until"]:
        facts.append(f"until {step['lease_until']}")
    if step["provisional"]:
        facts.append("provisional")
    note = _flat(step["note"] or "")
    if step["standing"] != "counts":
        mark = str(step["standing"]).upper()
        facts.append(paint(f"{mark}: {note}" if note else mark, "red" if step["standing"] == "void" else "yellow"))
    elif note:
        facts.append(note)
    lines = [_line(step["time"], step["event"], step["by"], ", ".join(facts), paint)]
    text: str = (step["text"] or "").strip("\n")
    if step["event"] == "patch":
        return [*lines, f"    `alg memory read {step['id']}` prints it"]
    told = _indented(text) if text.strip() else []
    if len(told) > _LONGEST_TEXT:
        told = [*told[:_LONGEST_TEXT], f"    ... {len(told) - _LONGEST_TEXT:,} more lines; --json has them"]
    return lines + told


# --- What an operation did ----------------------------------------------------------------------------------------


def write_text(done: Json, verb: str, paint: Paint, now: datetime) -> str:
    """What was done to which handoff, and where that stands."""
    lines = [f"{verb} {paint(_flat(_one_line(done['title'])), 'bold')}", f"id       {done['id']}"]
    lines.append(f"state    {_flat(state_text(done, now))}")
    lines += [f"path     {harmless(done['path'])}", f"stands   {harmless(standing_text(done['standing']))}"]
    return "\n".join(lines)


def talk_about(done: Json, *, patch: bool = False) -> None:
    """On stderr: with `patch`, the one that goes along; and notes."""
    carried: Json | None = done["patch"]
    if patch and carried:
        talk(f"with a patch of {carried['bytes']:,} bytes; `alg memory read {carried['id']}` prints it")
    for note in done["notes"]:
        talk(f"note: {in_a_line(note)}")


def talk_about_claim(done: Json, now: datetime) -> None:
    """On stderr: what was claimed and until when, how large the package is, the patch, where the claim stands."""
    claim: Json = done["claim"]
    how = "held already, renewed:" if done["again"] else "claimed"
    provisional = " provisionally" if claim["provisional"] else ""
    talk(f"{how}{provisional} {done['id']} until {claim['lease_until']} ({_lease(claim, now)})")
    talk(f"package of {done['used']:,} of {done['budget']:,} tokens; {harmless(standing_text(done['standing']))}")
    if claim["provisional"]:
        talk("note: the remote has not confirmed it: somebody else may hold it, and the next sync settles that")
    patch: Json | None = done["patch"]
    if patch:
        talk(harmless(_patch_text(patch)))
    for note in done["notes"]:
        talk(f"note: {in_a_line(note)}")
    talk(f"hint: `alg handoff update {done['id']} TEXT` renews it; `complete` or `release` ends it.")


def _patch_text(patch: Json) -> str:
    applies: Any = {True: "applies", False: "does NOT apply", None: "not tried"}[patch["applies"]]
    note = f": {patch['note']}" if patch["note"] else ""
    return f"patch of {patch['bytes']:,} bytes, {applies}{note}; `alg memory read {patch['id']}` prints it"
