"""Consents and receipts as text for people at a terminal."""

from __future__ import annotations

from typing import Any

from adaptive_llm_gateway.core import counted
from adaptive_llm_gateway.server._cli_ask import dollars
from adaptive_llm_gateway.server._cli_gateway_text import columns, reason_lines
from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless
from adaptive_llm_gateway.server._render_gateway import of_cache

_LONGEST = 2_000
"""Characters of a message that a receipt shows; `--json` has all."""
_GOOD = ("answered", "simulated")


# --- Consents -----------------------------------------------------------------------------------------------------


def consent_text(consent: Json, paint: Paint) -> str:
    """A consent and its state."""
    lines = [
        f"id       {consent['id']}",
        f"consent  {paint(consent['state'], 'green' if consent['state'] == 'active' else 'yellow')}",
        f"to       {harmless(_scope(consent))}",
        f"until    {consent['expires'] or 'it is revoked'}",
        f"by       {harmless(consent['by'])}, {consent['granted']}",
    ]
    if consent["reason"]:
        lines.append(f"because  {harmless(consent['reason'])}")
    if consent["revoked"]:
        revoked = consent["revoked"]
        because = f", because: {revoked['reason']}" if revoked["reason"] else ""
        lines.append(f"revoked  {revoked['at']} by {harmless(revoked['by'] + because)}")
    return "\n".join(lines)


def _scope(consent: Json) -> str:
    scope = f"send {consent['provider']} what is {consent['trust']}"
    if consent["trust"] != "public":
        scope += " or below"
    if consent["purpose"]:
        scope += f", for {consent['purpose']}"
    if consent["project"]:
        scope += f", in {consent['project']}"
    return scope


def consents_text(found: Json, paint: Paint) -> str:
    """A line for each."""
    rows = [
        [
            each["id"],
            each["state"],
            each["provider"],
            each["trust"],
            each["purpose"] or "any purpose",
            each["project"] or "any project",
            f"until {each['expires']}" if each["expires"] else "until revoked",
            each["reason"],
        ]
        for each in found["consents"]
    ]
    return "\n".join(columns(rows, paint, styles=["cyan"]))


def ledger_text(found: Json, paint: Paint) -> str:
    """Whether the ledger holds, and where not."""
    if found["holds"]:
        lines = [
            f"{paint('holds', 'green')}  {counted(found['entries'], 'entry', 'entries')}  {harmless(found['path'])}"
        ]
    else:
        broken = found["broken"]
        lines = [
            f"{paint('BROKEN', 'red')}  line {broken['line']}: {harmless(broken['why'])}  {harmless(found['path'])}"
        ]
    if found["torn"]:
        lines.append(f"{found['torn']} bytes of an entry that was never finished; they count for nothing")
    return "\n".join(lines)


# --- Receipts -----------------------------------------------------------------------------------------------------


def receipts_text(found: Json, paint: Paint) -> str:
    """A line for each, and below it why, where it was not answered."""
    rows = [
        [
            each["id"],
            each["at"],
            each["outcome"],
            each["operation"],
            each["trust"],
            f"{each['provider']}/{each['answered_by']}" if each["answered_by"] else each["provider"] or "-",
            each["where"] or "-",
            dollars(each["micro_cents"]) if each["answered_by"] else "-",
        ]
        for each in found["receipts"]
    ]
    lines: list[str] = []
    for line, each in zip(columns(rows, paint, styles=["cyan", "dim"]), found["receipts"], strict=True):
        lines.append(line)
        if each["outcome"] not in _GOOD:
            lines.append(f"    {paint(harmless(each['why']), 'yellow')}")
    return "\n".join(lines)


def receipt_text(found: Json, paint: Paint) -> str:
    """All of a receipt, in the order in which it happened."""
    receipt: Json = found["receipt"]
    request: Json = receipt["request"]
    color = "green" if receipt["outcome"] in _GOOD else "yellow"
    facts: list[tuple[str, list[str]]] = [
        ("receipt", [receipt["id"], receipt["at"]]),
        ("outcome", [paint(receipt["outcome"], color), harmless(receipt["why"])]),
        ("asked", [harmless(line) for line in _asked(request)]),
        *((f"  {message['role']}", _quoted(message["text"])) for message in request["messages"]),
        *(("  text", _quoted(text)) for text in request["texts"]),
        ("level", [receipt["level"]["level"], *reason_lines(receipt["level"]["reasons"])]),
        ("context", [f"{each['id']} version {each['version'][:12]}, {each['level']}" for each in receipt["context"]]),
        ("blocked", [harmless(f"{each['what']}: {each['why']}") for each in receipt["blocked"]]),
        (
            "redacted",
            [harmless(f"{each['count']} x {each['kind']} in {each['where']}") for each in receipt["redacted"]],
        ),
        ("route", [_step(each, paint) for each in receipt["route"]]),
        ("attempts", [harmless(_attempt(each)) for each in receipt["attempts"]]),
        ("answer", _answer(receipt["answer"])),
        ("tokens", _tokens(receipt["tokens"])),
        ("cost", [harmless(_cost(receipt["cost"]))]),
        ("time", [_times(receipt["timings"])]),
        ("consents", [f"{each['id']} entry {each['entry'][:16]}" for each in receipt["consents"]]),
        ("hash", [found["hash"], harmless(f"line {found['line']} of {found['file']}")]),
        ("inputs", [receipt["inputs"]] if receipt["inputs"] else []),
        ("run", [harmless(found["run"])]),
    ]
    lines: list[str] = []
    for name, values in facts:
        for number, value in enumerate(values):
            label = "" if number else name
            lines.append(f"{paint(f'{label:<12}', 'bold')}{value}")
    return "\n".join(lines)


def _asked(request: Json) -> list[str]:
    facts = [request["operation"], f"model {request['model']}", f"purpose {request['purpose']}"]
    facts += [
        f"{name} {request[name]}"
        for name in ("project", "client", "max_tokens", "temperature")
        if request[name] is not None
    ]
    if request["json"]:
        facts.append("answer in JSON")
    if request["stop"]:
        facts.append(f"stop {', '.join(map(repr, request['stop']))}")
    return [", ".join(map(str, facts))]


def _quoted(text: str) -> list[str]:
    shown = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text):,} characters)"
    return [harmless(line) for line in shown.splitlines()] or ["(empty)"]


def _step(step: Json, paint: Paint) -> str:
    mark = paint("taken   ", "green") if step["taken"] else paint("rejected", "yellow")
    told = f"{step['provider']}/{step['model'] or '-'} ({step['where']}): {step['reason']}"
    return f"{mark}  {harmless(told)}"


def _attempt(attempt: Json) -> str:
    told = f"{attempt['provider']}/{attempt['model']}: {attempt['outcome']} after {_seconds(attempt['took'])}"
    if attempt["status"] is not None:
        told += f", status {attempt['status']}"
    if attempt["waited_for"] is not None:
        told += f", to be asked again in {_seconds(attempt['waited_for'])}"
    return f"{told}; {attempt['message']}" if attempt["message"] else told


def _answer(answer: Json | None) -> list[str]:
    if answer is None:
        return []
    finish = answer["finish"] or "not whole"
    return [
        f"{answer['characters']:,} characters, {finish}, by {harmless(answer['model'])}",
        f"SHA-256 {answer['hash']}",
    ]


def _tokens(tokens: Json) -> list[str]:
    facts: list[str] = []
    if tokens["context"] is not None:
        before = f" (compressed from {tokens['context_from']:,})" if tokens["context_from"] is not None else ""
        facts.append(f"context {tokens['context']:,}{before}")
    told = (("input", of_cache(tokens)), ("output", ""))
    facts += [f"{name} {tokens[name]:,}{more}" for name, more in told if tokens[name] is not None]
    return [", ".join(facts)] if facts else []


def _cost(cost: Json) -> str:
    table = f", price table {cost['table']}" if cost["table"] else ""
    amount = "not known" if cost["micro_cents"] is None else dollars(cost["micro_cents"])
    return f"{amount}: {cost['why']}{table}"


def _times(timings: Json) -> str:
    facts = [f"{_seconds(timings['total'])} in all"]
    facts += [
        f"{name} {_seconds(timings[key])}"
        for name, key in (("planning", "planning"), ("first token", "first_token"))
        if timings[key] is not None
    ]
    return ", ".join(facts)


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1_000_000:.3f} s"


def check_text(found: Json, paint: Paint) -> str:
    """A line for each file, then what does not hold besides."""
    lines: list[str] = []
    for each in found["files"]:
        broken: Any = each["broken"]
        if broken:
            lines.append(
                f"{paint('BROKEN', 'red')}  {harmless(each['file'])} line {broken['line']}: {harmless(broken['why'])}"
            )
        else:
            torn = f", {each['torn']} bytes of one that was never finished" if each["torn"] else ""
            receipts = counted(each["receipts"], "receipt")
            lines.append(f"{paint('holds', 'green')}   {harmless(each['file'])}  {receipts}{torn}")
    lines += [f"{paint('DIFFERS', 'red')} the run folder of {harmless(each)}" for each in found["runs"]]
    lines += [f"under way, or to be filed at the next start: {harmless(each)}" for each in found["unfinished"]]
    return "\n".join(lines or ["no receipts"])


def replay_text(found: Json, paint: Paint) -> str:
    """What is otherwise now."""
    lines: list[str] = []
    if found.get("reproduces") is False:
        lines.append(f"{paint('the receipt does not tell the plan that its inputs make', 'red')}")
    lines += [harmless(each) for each in found["differences"]]
    return "\n".join(lines or [paint("it would go the same way", "green")])
