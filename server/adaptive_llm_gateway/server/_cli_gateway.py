"""`alg complete`, `chat`, `embed` and `alg gateway`: asking models through the hub, and looking at who would answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from adaptive_llm_gateway.server._cli_memory import JsonOption, TrustLevel
from adaptive_llm_gateway.server._cli_output import Json, emit, exit_code, print_error, print_json
from adaptive_llm_gateway.server._flat import as_arguments, flattened

ModeName = Literal["normal", "local", "offline"]
OperationName = Literal["complete", "chat", "embed"]

gateway_app = typer.Typer(
    help="Look at providers and models, and at who would get a request.", no_args_is_help=True, rich_markup_mode=None
)

System = Annotated[str | None, typer.Option(metavar="TEXT", help="Instructions to the model, before all else.")]
MaxTokens = Annotated[int | None, typer.Option(metavar="N", help="At most this many tokens of answer.")]
AnswerJson = Annotated[bool, typer.Option("--answer-json", help="Have the model answer in JSON.")]
NoStream = Annotated[
    bool, typer.Option("--no-stream", help="Have the answer in one piece, also of models that cannot stream.")
]


@dataclass(frozen=True, slots=True)
class Routing:
    """What decides to whom a request may go."""

    model: Annotated[
        str, typer.Option(metavar="NAME", help="provider/model, a model, a route, or auto: the best that may.")
    ] = "auto"
    trust: Annotated[
        TrustLevel | None,
        typer.Option(
            help="How confidential it is, at least: what is found in it can raise that. Default: as configured."
        ),
    ] = None
    purpose: Annotated[str | None, typer.Option(metavar="NAME", help="What for, as the policy calls it.")] = None
    project: Annotated[str | None, typer.Option(metavar="NAME", help="The project that it is for.")] = None

    def arguments(self) -> Json:
        """As the hub takes them; None is what was not given, here and below."""
        return as_arguments(self)


@dataclass(frozen=True, slots=True)
class Memories:
    """What goes along from the memory."""

    context_query: Annotated[
        str | None, typer.Option("--context", metavar="QUERY", help="Take along what the memories know about this.")
    ] = None
    context_budget: Annotated[int, typer.Option(metavar="N", help="Tokens that --context may take.")] = 2_000


@dataclass(frozen=True, slots=True)
class Answering:
    """What the answer is to be like."""

    max_tokens: MaxTokens = None
    temperature: Annotated[float | None, typer.Option(metavar="T", help="0 to 2; the lower, the steadier.")] = None
    answer_json: AnswerJson = False
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End the answer before this text; repeatable.")
    ] = None

    def arguments(self) -> Json:
        """As the hub takes them."""
        return {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "json": self.answer_json or None,
            "stop": self.stop or None,
        }


@dataclass(frozen=True, slots=True)
class Spending:
    """How many may be asked, for how much."""

    no_fallback: Annotated[bool, typer.Option("--no-fallback", help="Ask the first that may, and nobody else.")] = False
    budget: Annotated[
        str | None,
        typer.Option(metavar="DOLLARS", help="It may cost this at most, such as 0.02, all attempts together."),
    ] = None

    def arguments(self) -> Json:
        """As the hub takes them."""
        from adaptive_llm_gateway.server._cli_ask import micro_cents  # noqa: PLC0415

        return {"fallback": False if self.no_fallback else None, "budget": micro_cents(self.budget)}


@dataclass(frozen=True, slots=True)
class Limits(Spending):
    """The same, and until when."""

    deadline: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Have the whole answer within this time.")
    ] = None

    def arguments(self) -> Json:
        """As the hub takes them."""
        return {**Spending.arguments(self), "deadline": self.deadline}


def _asked(*groups: Routing | Answering | Spending) -> Json:
    """The arguments of a request that were given."""
    given = {name: value for group in groups for name, value in group.arguments().items()}
    return {"client": "command-line", **{name: value for name, value in given.items() if value is not None}}


# --- Asking -------------------------------------------------------------------------------------------------------


@flattened
def complete_command(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to ask; - is stdin alone.")] = None,
    *,
    routing: Routing,
    system: System = None,
    answering: Answering,
    limits: Limits,
    no_stream: NoStream = False,
    no_stdin: Annotated[
        bool, typer.Option("--no-stdin", help="Leave stdin alone, as in a loop over its lines.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Have a model answer a prompt.

    What comes on stdin is joined below PROMPT: git diff | alg complete "write a commit message". The answer goes to
    stdout as it comes; who gave it, tokens, cost and the receipt's id go to stderr. An answer that breaks off ends
    with an error that says so, and exit code 9.
    """
    from adaptive_llm_gateway.server._cli_ask import ask, read_prompt  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    asked = _asked(routing, answering, limits)
    if system:
        asked["system"] = system
    asked["prompt"] = read_prompt(prompt, stdin=not no_stdin)
    root: str = context.find_root().obj
    if json:
        print_json(call(root, "gateway_complete", **asked))
    else:
        ask(root, "gateway_complete", stream=not no_stream, **asked)


@flattened
def chat_command(
    context: typer.Context,
    *,
    routing: Routing,
    system: System = None,
    memories: Memories,
    answering: Answering,
    limits: Limits,
    no_stream: NoStream = False,
    json: JsonOption = False,
) -> None:
    """Converse with a model on the terminal.

    /model, /trust and /context change how the next message is sent, /new begins anew, /quit or Ctrl-D ends it;
    Ctrl-C stops an answer. Where stdin is no terminal, all of it is one message. --budget and --deadline are for
    each answer.
    """
    import sys  # noqa: PLC0415

    from adaptive_llm_gateway.server._cli_ask import read_prompt  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_chat import Conversation, converse  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    asked = _asked(routing, answering, limits)
    talked = Conversation(asked, system=system, query=memories.context_query, budget=memories.context_budget)
    root: str = context.find_root().obj
    if sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        if json:
            raise typer.BadParameter("a conversation is not one document: pipe a message in", param_hint="'--json'")
        converse(root, talked, stream=not no_stream)
        return
    text = read_prompt("-")
    if json:
        given = {"context": talked.context()} if memories.context_query else {}
        print_json(call(root, "gateway_chat", messages=talked.messages(text), **given, **asked))
    else:
        talked.say(root, text, stream=not no_stream)


@flattened
def embed_command(
    context: typer.Context,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; without any, the lines of stdin.")
    ] = None,
    *,
    routing: Routing,
    limits: Limits,
    json: JsonOption = False,
) -> None:
    """Turn texts into vectors. --json has them whole."""
    from adaptive_llm_gateway.server._cli_ask import read_texts, talk_about_answer, vectors_text  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    asked = _asked(routing, limits)
    texts = read_texts(text or [])
    answer = call(context.find_root().obj, "gateway_embed", texts=texts, **asked)
    emit(answer, as_json=json, text=lambda paint: vectors_text(answer, texts, paint))
    if not json:
        talk_about_answer(answer)


# --- alg gateway --------------------------------------------------------------------------------------------------


@gateway_app.command()
def health(
    context: typer.Context,
    probe: Annotated[
        bool, typer.Option("--probe", help="Have the first chat model of each local provider answer one token, too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Ask every provider whether it answers: where it is, and how that is known; its key; its models."""
    from adaptive_llm_gateway.server._cli_gateway_text import health_text, talk_about_health  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    found = call(context.find_root().obj, "gateway_health", probe=probe)
    emit(found, as_json=json, text=lambda paint: health_text(found, paint))
    if not json:
        talk_about_health(found)


@gateway_app.command()
def models(context: typer.Context, json: JsonOption = False) -> None:
    """List the models of all providers, what each can, and the routes."""
    from adaptive_llm_gateway.server._cli_gateway_text import models_text  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    found = call(context.find_root().obj, "gateway_models")
    emit(found, as_json=json, text=lambda paint: models_text(found, paint))


@gateway_app.command()
@flattened
def preview(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What would be asked; - is stdin alone.")
    ] = None,
    operation: Annotated[OperationName, typer.Option(help="What would be done with it.")] = "complete",
    *,
    routing: Routing,
    system: System = None,
    memories: Memories,
    max_tokens: MaxTokens = None,
    answer_json: AnswerJson = False,
    spending: Spending,
    no_stream: NoStream = False,
    what_if_mode: Annotated[ModeName | None, typer.Option(help="As if this mode were set.")] = None,
    what_if_trust: Annotated[
        TrustLevel | None, typer.Option(help="As if it were of this level, whatever is found.")
    ] = None,
    down: Annotated[
        list[str] | None, typer.Option(metavar="PROVIDER", help="As if this provider were away; repeatable.")
    ] = None,
    consent: Annotated[
        list[str] | None, typer.Option(metavar="PROVIDER", help="As if there were consent for it; repeatable.")
    ] = None,
    no_stdin: Annotated[bool, typer.Option("--no-stdin", help="Leave stdin alone.")] = False,
    json: JsonOption = False,
) -> None:
    """Say who would get a request, in which order and why, and why nobody else. Nothing is sent.

    The exit code is 0 when somebody would get it, else that of the error which the request would end with.
    """
    from adaptive_llm_gateway.server._cli_ask import read_prompt  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_chat import Conversation  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_gateway_text import preview_text  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    asked = _asked(routing, Answering(max_tokens=max_tokens, answer_json=answer_json), spending)
    text = read_prompt(prompt, stdin=not no_stdin)
    if operation == "embed":
        asked["texts"] = [text]
    elif operation == "chat":
        asked["messages"] = Conversation({}, system=system).messages(text)
    else:
        asked |= {"prompt": text, **({"system": system} if system else {})}
    if memories.context_query:
        asked["context"] = {"query": memories.context_query, "budget": memories.context_budget}
    supposed = {"mode": what_if_mode, "trust": what_if_trust, "down": down or None, "consent": consent or None}
    what_if = {name: value for name, value in supposed.items() if value}
    if what_if:
        asked["what_if"] = what_if
    stream = operation != "embed" and not no_stream
    found = call(context.find_root().obj, "gateway_route_preview", stream=stream, **asked)
    emit(found, as_json=json, text=lambda paint: preview_text(found, paint))
    if found["error"]:
        if not json:
            print_error(found["error"], as_json=False)
        raise typer.Exit(exit_code(found["error"]["code"]))
