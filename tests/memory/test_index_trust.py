"""What may not leave the machine is not handed to an embedder that is on another one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime

from adaptive_llm_gateway.core import Trust, new_ulid
from adaptive_llm_gateway.memory import Author, Record
from adaptive_llm_gateway.memory._memory_index import MemoryIndex


def test_the_backlog_leaves_out_memories_above_the_level_it_is_asked_for(
    open_index: Callable[[], MemoryIndex],
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    with closing(open_index()) as index:
        for trust in Trust:
            index.apply(
                [
                    Record(
                        id=new_ulid(),
                        type="note",
                        title=f"a {trust} one",
                        body="text\n",
                        path=f"notes/{trust}.md",
                        version="0" * 40,
                        mtime_ns=1,
                        size=1,
                        created=moment,
                        updated=moment,
                        author=Author("test"),
                        trust=trust,
                    )
                ]
            )
        assert len(index.backlog(10)) == 4
        texts = " ".join(text for _, text in index.backlog(10, max_trust=Trust.INTERNAL))
        assert "a public one" in texts
        assert "a internal one" in texts
        assert "confidential" not in texts
        assert "secret" not in texts
