"""Handoffs as text for models: complete by themselves, what others wrote fenced as data."""

from __future__ import annotations

from typing import Any

from adaptive_llm_gateway.server._render import fence, standing_text

Json = dict[str, Any]

_PROBLEMS = 3
_STEPS = 50
# Characters of what is on one line.
_LINE = 200
_TEXT = 500
_CUT = " …"


def _cut(text: str, most: int) -> str:
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most and len(text) <= 4 * most else line[: most - len(_CUT)].rstrip() + _CUT


def who(party: Json) -> str:
    """`claude-code (reviewer) on laptop`."""
    agent = f" ({party['agent']})" if party.get("agent") else ""
    host = f" on {party['host']}" if party.get("host") else ""
    return f"{party['client']}{agent}{host}"


def state_text(handoff: Json) -> str:
    """Where it stands, in a few words: `claimed by codex on laptop until ...`."""
    state, claim = handoff["state"], handoff["claim"]
    if state == "claimed" and claim:
        provisional = ", provisional until the next sync" if claim["provisional"] else ""
        return f"claimed by {who(claim['by'])} until {claim['lease_until']}{provisional}"
    if state == "offered" and claim:
        return f"offered again: the lease of {who(claim['by'])} ran out at {claim['lease_until']}"
    if handoff["ended"]:
        return f"{state} by {who(handoff['ended']['by'])} at {handoff['ended']['time']}"
    if state == "damaged":
        damage: list[Json] = handoff["damage"]
        problems = "; ".join(f"{item['path']}: {item['problem']}" for item in damage[:_PROBLEMS])
        count: int = handoff["damage_count"]
        problems += f"; and {count - _PROBLEMS:,} more" if count > _PROBLEMS else ""
        return f"DAMAGED, not to be claimed until somebody mends it: {problems}"
    return str(state)


def handoff_line(handoff: Json) -> str:
    """One handoff in a list."""
    facts = [state_text(handoff), f"by {who(handoff['by'])} at {handoff['created']}"]
    facts += [f"{name} {_cut(handoff[name], _LINE)}" for name in ("project", "repo", "to") if handoff.get(name)]
    facts += [f"priority {handoff['priority']}"] if handoff["priority"] != "normal" else []
    facts += ["checkpoint"] if handoff["checkpoint"] else []
    lines = [f"- {_cut(handoff['title'], _LINE)} (id {handoff['id']})", f"  {'; '.join(facts)}"]
    if handoff["next_action"]:
        lines.append(f"  next: {_cut(handoff['next_action'], _LINE)}")
    return "\n".join(lines)


def list_text(answer: Json) -> str:
    """The handoffs of a list."""
    handoffs: list[Json] = answer["handoffs"]
    if not handoffs:
        lines = ["No handoffs that fit." if answer["filtered"] else "No open handoffs."]
    else:
        more = f" of {answer['total']}" if answer["total"] > len(handoffs) else ""
        lines = [f"{len(handoffs)}{more} handoff{'s' if answer['total'] > 1 else ''}. Take one: handoff_claim(id)."]
        lines.append(fence("\n".join(map(handoff_line, handoffs))))
    return "\n".join([*lines, *_remote(answer["remote"]), *(f"note: {notice}" for notice in answer["notices"])])


def _remote(remote: Json | None) -> list[str]:
    if remote is None or not remote["error"]:
        return []
    since = f"as of {remote['looked']}" if remote["looked"] else "what is known here"
    return [f"note: the remote could not be asked ({remote['error']}); this is {since}"]


def show_text(handoff: Json) -> str:
    """One handoff, with all that happened to it."""
    told = [
        ("Objective", handoff["objective"]),
        ("Next action", handoff["next_action"] or ""),
        ("Constraints", "\n".join(f"- {item}" for item in handoff["constraints"])),
        ("Open questions", "\n".join(f"- {item}" for item in handoff["open_questions"])),
        ("Decisions", "\n".join(f"- memory_read {id_}" for id_ in handoff["decisions"])),
        ("Work", "\n".join(_work(handoff["work"]))),
        ("State", handoff["body"].strip()),
        ("What happened", "\n".join(_step_lines(handoff))),
    ]
    parts = "\n\n".join(f"## {heading}\n{text}" for heading, text in told if text)
    first = f"Handoff {handoff['id']}: {state_text(handoff)}."
    return "\n".join([first, fence(f"# {handoff['title']}\n\n{parts}"), *_remote(handoff["remote"])])


def _work(work: Json) -> list[str]:
    lines = [f"{name}: {work[name]}" for name in ("remote", "branch", "commit", "directory") if work[name]]
    if work["dirty_count"]:
        lines.append(f"{work['dirty_count']} files not committed there")
    return lines


def _step_lines(handoff: Json) -> list[str]:
    """What happened last; a handoff that goes on for weeks has more than an answer may hold."""
    steps: list[Json] = handoff["steps"]
    earlier = len(steps) - _STEPS
    first = [f"- {earlier:,} steps before these: `alg handoff show {handoff['id']}` has them"] if earlier > 0 else []
    return [*first, *map(step_line, steps[-_STEPS:])]


def step_line(step: Json) -> str:
    """One thing that happened."""
    standing = "" if step["standing"] == "counts" else f" [{step['standing']}: {step['note']}]"
    text = f": {_cut(step['text'], _TEXT)}" if step["text"].strip() else ""
    if text.endswith(_CUT):
        text += f" (whole: memory_read {step['id']})"
    lease = f" until {step['lease_until']}" if step["lease_until"] else ""
    return f"- {step['time']} {who(step['by'])} {step['event']}{lease}{standing}{text}"


def written_text(done: Json, what: str) -> str:
    """What a write did to a handoff and where it stands."""
    lines = [f"{what} handoff {done['title']!r}, id {done['id']}: {state_text(done)}."]
    if done["patch"]:
        lines.append(f"patch: {done['patch']['bytes']:,} bytes, memory_read {done['patch']['id']}")
    lines.append(standing_text(done["standing"]))
    return "\n".join([*lines, *(f"note: {note}" for note in done["notes"])])


def claimed_text(done: Json) -> str:
    """A claim and its package."""
    notes = [f"note: {note}" for note in done["notes"]]
    return "\n".join([done["text"], *notes])
