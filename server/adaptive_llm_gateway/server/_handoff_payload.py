"""What a handoff says of the work when nobody writes it down: from a session's log, or from a client's transcript."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import InvalidInput
from adaptive_llm_gateway.server._compaction import summarise

if TYPE_CHECKING:
    from adaptive_llm_gateway.compression import Compaction, TokenCounter
    from adaptive_llm_gateway.core import SecretScanner
    from adaptive_llm_gateway.handoff import NewOffer
    from adaptive_llm_gateway.memory import Author, SeenMemories

_MOST_LINES: Final = 20
# What a log calls its goal and its next step; the handoff's fields say that already.
_LABEL: Final = re.compile(
    r"^[*_]{0,2}(?:goal|objective|task|next(?: step| action)?|to ?do|(?:open )?question)s?[*_]{0,2}"
    r"\s*[:：][*_]{0,2}\s*",
    re.IGNORECASE,
)


def is_session(store: SeenMemories, id: str) -> bool:
    """Whether the memory has a session's log with this full id."""
    record = store.record(id)
    return record is not None and record.type == "session"


def of_session(store: SeenMemories, new: NewOffer, session: str, *, author: Author, counter: TokenCounter) -> NewOffer:
    """The offer with what it does not say taken from the compaction of a session's log.

    Raises:
        NotFound, InvalidInput: no such session, or one without entries.
    """
    found = summarise(store, session, DEFAULT_BUDGET, author=author, counter=counter)
    done, log = found.compaction, found.log
    goal, following = _first(done, "goal"), _first(done, "next")
    asked = (_LABEL.sub("", statement.text).strip() for statement in done.of("question")[:_MOST_LINES])
    questions = tuple(question for question in asked if question)
    trust = max((level for level in (new.trust, log.trust) if level is not None), key=lambda level: level.rank)
    return replace(
        new,
        objective=new.objective or goal or log.title,
        next_action=new.next_action or following,
        open_questions=new.open_questions or questions,
        state=f"{new.state.rstrip()}\n\n{done.text}".lstrip() if new.state else done.text,
        project=new.project or log.project,
        session_id=log.id,
        trust=trust,
    )


def _first(done: Compaction, kind: str) -> str | None:
    """The last goal or next step that a log names: what was meant before is history."""
    found = [statement.text for statement in done.statements if statement.kind == kind]
    return _LABEL.sub("", found[-1]).strip() or None if found else None


def of_transcript(
    new: NewOffer, path: Path, session: str | None, scanner: SecretScanner
) -> tuple[NewOffer, str | None]:
    """The offer with what it does not say taken from a client's transcript, without secrets, and the session's id.

    Raises:
        InvalidInput: not a transcript that can be read.
    """
    from adaptive_llm_gateway.handoff import read_transcript, summary_of  # noqa: PLC0415 - after the hub listens

    if not path.is_absolute():
        raise InvalidInput(f"the transcript {str(path)!r} is not an absolute path")
    transcript = read_transcript(path)
    found = summary_of(transcript, lambda text: scanner.redact(text)[0])
    return (
        replace(
            new,
            objective=new.objective or found.objective,
            next_action=new.next_action or found.next_action,
            state=new.state or found.state,
            project=new.project or transcript.project,
        ),
        session or transcript.session,
    )
