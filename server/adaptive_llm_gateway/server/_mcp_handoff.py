"""The tools for handoffs, the resource of one, and the prompt that takes the next one up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError
from mcp_types import CallToolResult, TextContent
from pydantic import Field

from adaptive_llm_gateway.compression import DEFAULT_BUDGET
from adaptive_llm_gateway.core import AlgError, InvalidInput, NotFound
from adaptive_llm_gateway.server._call import touched, went_wrong
from adaptive_llm_gateway.server._mcp_shared import Ctx, ToolRow, author_of
from adaptive_llm_gateway.server._render import error_text
from adaptive_llm_gateway.server._render_handoff import claimed_text, list_text, show_text, written_text

if TYPE_CHECKING:
    from adaptive_llm_gateway.server._handoff_operations import HandoffOperations

Json = dict[str, Any]

HANDOFF = "adaptive-llm-gateway/handoff"
"""Under which name a claim's `_meta` has the handoff as data."""

_MOST_DIGITS = 20

Identifier = Annotated[str, Field(description="Handoff id")]
Redact = Annotated[bool, Field(description="Store [redacted:kind#ab12] for secrets, not refuse; default false")]
Project = Annotated[str | None, Field(description="Project name, e.g. the repository's name")]
Lease = Annotated[
    float | None, Field(description="Minutes that it is yours without a word of you, 1-1440; default as configured, 60")
]


class HandoffTools:
    """The tools, as bound functions whose names are the wire names and whose docstrings are the descriptions."""

    def __init__(self, operations: HandoffOperations) -> None:
        self._operations = operations

    def table(self) -> list[ToolRow]:
        """Each tool with its title and hints."""
        # A claim is confirmed by the memory's git remote, which is elsewhere.
        remote = {"open_world_hint": True}
        read = {"read_only_hint": True, "destructive_hint": False, "idempotent_hint": True, **remote}
        write = {"read_only_hint": False, "destructive_hint": False, "idempotent_hint": False, **remote}
        again = {"read_only_hint": False, "destructive_hint": False, "idempotent_hint": True, **remote}
        return [
            (self.handoff_create, "handoff.create", write),
            (self.handoff_list, "handoff.list", read),
            (self.handoff_claim, "handoff.claim", again),
            (self.handoff_update, "handoff.update", write),
            (self.handoff_complete, "handoff.complete", write),
            (self.handoff_release, "handoff.release", write),
        ]

    async def handoff_create(
        self,
        ctx: Ctx,
        objective: Annotated[
            str | None, Field(description="What is to be reached; needed unless session_id says it")
        ] = None,
        next_action: Annotated[str | None, Field(description="What to do first")] = None,
        session_id: Annotated[
            str | None, Field(description="Fills in from this session's log what is not given here")
        ] = None,
        to: Annotated[str | None, Field(description="Client or agent it is for, e.g. codex; default: anybody")] = None,
        project: Project = None,
        state: Annotated[str | None, Field(description="How the work stands, as Markdown")] = None,
        open_questions: Annotated[list[str] | None, Field(description="What is not decided")] = None,
        constraints: Annotated[list[str] | None, Field(description="What must be kept to")] = None,
        decisions: Annotated[list[str] | None, Field(description="Ids of memories that say what was decided")] = None,
        directory: Annotated[
            str | None,
            Field(description="Absolute path of the work's git repository; default: where this client was started"),
        ] = None,
        patch: Annotated[
            bool, Field(description="Also carry what is not committed there, as a patch; default false")
        ] = False,
        priority: Annotated[Literal["low", "normal", "high", "urgent"], Field(description="Default normal")] = "normal",
        expires: Annotated[
            str | None, Field(description="Until when it can be claimed: ISO time, or 12h, 7d; default 30d")
        ] = None,
        trust: Annotated[
            Literal["public", "internal", "confidential", "secret"] | None,
            Field(description="Who may see it; default internal, or the session's"),
        ] = None,
        title: Annotated[str | None, Field(description="One line; default: from the objective")] = None,
        tags: Annotated[list[str] | None, Field(description="Labels")] = None,
        redact: Redact = False,
    ) -> str:
        """Offer unfinished work to another agent, here or on another machine. When your context runs out, one call
        with the session_id of memory_append_session is enough: the rest comes from that log. The branch, commit and
        changed files of the repository go along."""
        done = await _asked(
            self._operations.create(
                objective,
                author=author_of(ctx),
                next_action=next_action,
                session_id=session_id,
                to=to,
                project=project,
                state=state,
                open_questions=open_questions,
                constraints=constraints,
                decisions=decisions,
                directory=directory,
                patch=patch,
                priority=priority,
                expires=expires,
                trust=trust,
                title=title,
                tags=tags,
                redact=redact,
            )
        )
        return written_text(done, "Offered")

    async def handoff_list(
        self,
        id: Annotated[str | None, Field(description="Only this one, with all that happened to it")] = None,
        state: Annotated[
            str | None,
            Field(
                description="offered, claimed, done, declined, withdrawn, expired, damaged; several with commas; "
                "default: the open ones"
            ),
        ] = None,
        project: Annotated[str | None, Field(description="Only this project")] = None,
        to: Annotated[str | None, Field(description="Only those for this client or agent")] = None,
        checkpoints: Annotated[
            bool, Field(description="Also what hooks kept of sessions that may still run; default false")
        ] = False,
        limit: Annotated[int, Field(description="Most of them, 1-1000; default 20")] = 20,
    ) -> str:
        """Handoffs that are open (default), the most urgent first: what is to be done, who offers it, who holds it.
        Asks the git remote for new ones first."""
        if id is not None:
            return show_text(await _asked(self._operations.show(id)))
        return list_text(
            await _asked(
                self._operations.list(state=state, project=project, to=to, checkpoints=checkpoints, limit=limit)
            )
        )

    async def handoff_claim(
        self,
        ctx: Ctx,
        id: Annotated[str | None, Field(description="Handoff id; default: the best open one for this client")] = None,
        budget_tokens: Annotated[int, Field(description="Most tokens of the package; default 2000")] = DEFAULT_BUDGET,
        project: Annotated[str | None, Field(description="Without id: only this project")] = None,
        lease_minutes: Lease = None,
        directory: Annotated[
            str | None,
            Field(
                description="Absolute path of your copy of the work, to try its patch on; default: where you started"
            ),
        ] = None,
        provisional: Annotated[
            bool,
            Field(description="Claim also when the remote is out of reach; the next sync settles it; default false"),
        ] = False,
        anyway: Annotated[bool, Field(description="Also one that is for somebody else; default false")] = False,
    ) -> CallToolResult:
        """Take a handoff: from now on it is yours alone, on all machines, until its lease ends. Answers with everything
        it needs in a token budget. Claiming what you hold renews it and answers the same."""
        done = await _asked(
            self._operations.claim(
                id,
                author=author_of(ctx),
                budget_tokens=budget_tokens,
                project=project,
                lease_minutes=lease_minutes,
                directory=directory,
                provisional=provisional,
                anyway=anyway,
            )
        )
        about = {key: value for key, value in done.items() if key != "text"}
        return CallToolResult(content=[TextContent(type="text", text=claimed_text(done))], _meta={HANDOFF: about})

    async def handoff_update(
        self,
        ctx: Ctx,
        id: Identifier,
        text: Annotated[str, Field(description="What was done, as Markdown")],
        lease_minutes: Lease = None,
        redact: Redact = False,
    ) -> str:
        """Report progress on a handoff that you hold, as you go: it renews your lease, and whoever comes after you
        sees it."""
        done = await _asked(
            self._operations.update(id, text, author=author_of(ctx), lease_minutes=lease_minutes, redact=redact)
        )
        return written_text(done, "Reported on")

    async def handoff_complete(
        self,
        ctx: Ctx,
        id: Identifier,
        result: Annotated[str, Field(description="What came of it, as Markdown")] = "",
        redact: Redact = False,
    ) -> str:
        """Finish a handoff that you hold."""
        done = await _asked(self._operations.complete(id, result, author=author_of(ctx), redact=redact))
        return written_text(done, "Finished")

    async def handoff_release(
        self,
        ctx: Ctx,
        id: Identifier,
        reason: Annotated[str, Field(description="Why, and what the next one should know")] = "",
        outcome: Annotated[
            Literal["released", "declined", "withdrawn"],
            Field(
                description="released (default): others may claim it. declined: it is not for you. "
                "withdrawn: you offered it, nobody holds it, and it is not to be done"
            ),
        ] = "released",
        redact: Redact = False,
    ) -> str:
        """Give a handoff back, decline it, or withdraw your own offer."""
        done = await _asked(self._operations.release(id, reason, author=author_of(ctx), outcome=outcome, redact=redact))
        return written_text(done, {"released": "Gave back", "declined": "Declined", "withdrawn": "Withdrew"}[outcome])


def add_resource_and_prompt(server: MCPServer[Any], operations: HandoffOperations) -> None:
    """The resource `handoff://{id}` and the prompt `resume`."""

    @server.resource(
        "handoff://{id}",
        name="handoff",
        title="A handoff",
        description="One handoff, with all that happened to it.",
        mime_type="text/markdown",
    )
    async def handoff(id: str) -> str:
        try:
            return show_text(await operations.show(id))
        except NotFound as error:
            went_wrong(error)
            raise ResourceNotFoundError(error_text(str(error), error.hint)) from error
        except AlgError as error:
            went_wrong(error)
            raise ResourceError(error_text(str(error), error.hint)) from error

    @server.prompt(
        name="resume",
        title="Take up unfinished work",
        description="Claims the best open handoff for this client, and gives everything it needs.",
    )
    async def resume(ctx: Ctx, project: str = "", budget_tokens: str = "") -> str:
        return await _resumed(operations.claim, author_of(ctx), project, budget_tokens)


async def _resumed(claim: Callable[..., Awaitable[Json]], author: Any, project: str, budget: str) -> str:
    try:
        tokens = _tokens(budget.strip())
        done = await claim(None, author=author, project=project or None, budget_tokens=tokens)
    except NotFound as error:
        went_wrong(error)
        return f"There is nothing to take up: {error_text(str(error), error.hint)}"
    except AlgError as error:
        went_wrong(error)
        return f"Nothing was claimed: {error_text(str(error), error.hint)}"
    return (
        "Go on with this work. It is claimed for you. Check how the repository stands before you change anything, "
        f"and begin with the next action.\n\n{claimed_text(done)}"
    )


def _tokens(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        return DEFAULT_BUDGET
    if len(text) > _MOST_DIGITS:
        raise InvalidInput(f"'budget_tokens' has {len(text):,} digits", hint="The default is 2,000.")
    return int(text)


async def _asked(work: Awaitable[Json]) -> Json:
    try:
        answer = await work
    except AlgError as error:
        went_wrong(error)
        raise ToolError(error_text(str(error), error.hint)) from error
    touched(answer.get("id"))
    return answer
