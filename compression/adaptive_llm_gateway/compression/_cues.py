"""What kind of statement a sentence is, by how it is said. The cues are English; labels and boxes are no language's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from adaptive_llm_gateway.compression._sentences import Names, Sentence
from adaptive_llm_gateway.compression._session import Kind


def _cue(pattern: str) -> re.Pattern[str]:
    """A pattern for text in lower case: ignoring case takes twice as long."""
    return re.compile(pattern)


_LABELS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "goal": ("goal", "objective", "aim", "purpose", "the ask", "request"),
    "decision": ("decision", "decided", "agreed", "we chose", "conclusion"),
    "change": ("change", "what changed", "done", "changelog", "implemented", "fixed", "added", "removed", "completed"),
    "question": ("open question", "question", "unclear", "unknown", "to clarify", "open"),
    "next": ("next", "todo", "to do", "to-do", "remaining", "follow-up", "follow up", "pending", "plan"),
    "fact": (
        "fact",
        "note",
        "finding",
        "found",
        "key fact",
        "cause",
        "root cause",
        "important",
        "constraint",
        "result",
    ),
}
_LABEL: Final[Mapping[Kind, re.Pattern[str]]] = {
    kind: _cue(rf"(?:{'|'.join(map(re.escape, words))})(?:s|\b)") for kind, words in _LABELS.items()
}
_OWN_LABEL = re.compile(r"[*_]{0,2}([a-z][a-z /'-]{1,38}?)[*_]{0,2}[:：][*_]{0,2}(?=\s|$)")
_CHANGED = (
    "add|fix|chang|renam|remov|delet|implement|refactor|updat|upgrad|bump|creat|committ|push|merg|deploy|releas|mov|"
    "replac|migrat|install|revert|land|rewr(?:o|i)t|extract|split|enabl|disabl|patch|drop|introduc|ship|publish|edit|modif|wrote|write"
    "|correct|adjust|set up|tidied|clean"
)
_CUES: Final[Mapping[Kind, tuple[tuple[re.Pattern[str], float], ...]]] = {
    "goal": (
        (_cue(r"\b(?:the|our|my|new|main|overall) (?:goal|objective|aim|task)\b"), 2.5),
        (_cue(r"\b(?:user|client|customer|they|he|she) (?:wants?|asks?|asked|needs?)\b"), 1.6),
        (
            _cue(r"^(?:please|can you|could you|i (?:want|need|would like)|we (?:want|need) to)\b"),
            1.3,
        ),
    ),
    "decision": (
        (
            _cue(
                r"\b(?:decided|the decision|decision (?:is|was)|agreed|settled on|we chose|chose to|chosen|ruled out)\b"
            ),
            2.2,
        ),
        (
            _cue(r"\b(?:go(?:ing)? with|went with|stick(?:ing)? with|opted|approved|rejected)\b"),
            1.8,
        ),
        (
            _cue(r"\b(?:we|i)(?:'ll| will| won['’]t| shall) (?:use|keep|not|stay|store|have)\b"),
            1.5,
        ),
        (_cue(r"\b(?:instead of|rather than|in favou?r of)\b"), 1.0),
    ),
    "change": (
        (_cue(rf"^(?:(?:i|we|also|now|then|have|just|and|it) ?)*\b(?:{_CHANGED})\w*"), 1.4),
        (
            _cue(rf"\b(?:i|we|was|were|been|is now|are now|have|has) (?:now |just )?(?:{_CHANGED})\w*d?\b"),
            1.3,
        ),
        (_cue(r"\b(?:commit|merged|released|deployed|tests? pass)"), 0.8),
    ),
    "question": (
        (
            _cue(r"\b(?:open question|unclear|not (?:yet )?(?:sure|clear|decided)|undecided|tbd|unresolved)\b"),
            2.0,
        ),
        (_cue(r"\b(?:to be (?:decided|clarified)|need to (?:find out|ask|clarify)|don['’]t know)\b"), 1.7),
        (_cue(r"[?？]\W*$"), 1.5),
        (_cue(r"\b(?:waiting (?:for|on)|blocked (?:by|on))\b"), 1.2),
    ),
    "next": (
        (_cue(r"\bnext (?:step|action|up|thing|task|is|i|we|comes)\b|^next[:,]? "), 2.2),
        (_cue(r"\b(?:todo|fixme)\b|\b(?:still (?:to do|need|have to|missing)|left to do|remains?)\b"), 1.7),
        (_cue(r"\b(?:tomorrow|afterwards|follow[- ]up|later today|next (?:week|session))\b"), 1.1),
        (_cue(r"\b(?:i|we)(?:'ll| will| have to| must| should| need to)\b"), 0.7),
    ),
    "fact": (
        (_cue(r"\b(?:root cause|turn(?:s|ed) out|the (?:cause|reason|problem|bug|fix) (?:is|was))\b"), 1.9),
        (_cue(r"\b(?:important|note that|remember|beware|caveat|must not|never|always)\b"), 1.3),
        (_cue(r"\b(?:because|requires?|depends on|limit|fails?|failed|error|crash\w*|measured)\b"), 0.7),
        (_cue(r"\b(?:found|learned|confirmed|verified|observed|discovered)\b"), 0.8),
    ),
}
_NUMBER = _cue(r"\d")
_IDENTIFIER = re.compile(r"`[^`]+`|\b\w+_\w+\b|\b[a-z]+[A-Z]\w+\b")
_VAGUE = _cue(r"^(?:ok(?:ay)?|thanks?|thank you|great|perfect|hi|hello|sure|yes|no|good|nice|cool|let me)\b")
_ORDERS = _cue(
    r"\b(?:ignore|disregard|forget|override)\b.{0,40}\b(?:instructions?|prompts?|rules|guidelines)\b"
    r"|\bsystem prompt\b|\byou (?:are now|must now)\b"
)
LEAST: Final = 1.0
"""What a sentence must score to count as of a kind."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A sentence as one kind of statement, and how plainly it is one."""

    sentence: Sentence
    kind: Kind
    score: float
    names: Names


def changes(sentence: Sentence) -> bool:
    """Whether a sentence tells of a change, whatever else it says."""
    text = sentence.text.lower()
    return any(cue.search(text) for cue, _ in _CUES["change"]) or _labelled(sentence, text) == "change"


def _labelled(sentence: Sentence, text: str) -> Kind | None:
    """The kind that a label says: the sentence's own, as in `Goal: this. Next step: that.`, before its paragraph's."""
    own = _OWN_LABEL.match(text) if ":" in text or "：" in text else None
    return (_kind(own[1]) if own else None) or _kind(sentence.label)


def _kind(label: str) -> Kind | None:
    return next((kind for kind, known in _LABEL.items() if known.match(label)), None) if label else None


def scored(sentence: Sentence, names: Names) -> Scored | None:
    """The kind that fits a sentence best; None when it is of none of them.

    Text that gives orders to a model is no statement about the work, whatever its cues: it stays in the log.
    """
    text = sentence.text.lower()
    if _ORDERS.search(text):
        return None
    scores: dict[Kind, float] = {}
    for kind, cues in _CUES.items():
        scores[kind] = max((weight for cue, weight in cues if cue.search(text)), default=0.0)
    if labelled := _labelled(sentence, text):
        scores[labelled] += 2.5
    if sentence.box is not None:
        scores["change" if sentence.box else "next"] += 2.0
    if scores["question"] and scores["question"] < 2.5 and text.rstrip().endswith("?"):
        scores["decision"] = scores["next"] = 0.0  # asked, not said
    if names.files or names.commits or names.versions:
        scores["change"] += 0.6 if scores["change"] else 0.0
        scores["fact"] += 0.4
    scores["fact"] += 0.2 * bool(_NUMBER.search(text)) + 0.2 * bool(_IDENTIFIER.search(sentence.text))
    best: Kind = max(scores, key=lambda kind: scores[kind])
    score = scores[best]
    if _VAGUE.match(text):
        score -= 0.8
    if len(text) < 20:
        score -= 0.4
    return Scored(sentence, best, score, names) if score >= LEAST else None
