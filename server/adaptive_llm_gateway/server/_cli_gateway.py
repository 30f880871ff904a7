"""`alg complete`, `chat`, `embed` and `alg gateway`: asking models through the hub, and looking at who would answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from adaptive_llm_gateway.server._cli_memory import JsonOption, TrustLevel
from adaptive_llm_gateway.server._cli_output import emit, exit_code, print_error, print_json

ModeName = Literal["normal", "local", "offline"]
OperationName = Literal["complete", "chat", "embed"]

gateway_app = typer.Typer(
    help="Look at providers and models, and at who would get a request.", no_args_is_help=True, rich_markup_mode=None
)

Model = Annotated[
    str, typer.Option(metavar="NAME", help="provider/model, a model, a route, or auto: the best that may.")
]
TrustOption = Annotated[
    TrustLevel | None,
    typer.Option(help="How confidential it is, at least: what is found in it can raise that. Default: as configured."),
]
Purpose = Annotated[str | None, typer.Option(metavar="NAME", help="What for, as the policy calls it.")]
ProjectOption = Annotated[str | None, typer.Option(metavar="NAME", help="The project that it is for.")]
System = Annotated[str | None, typer.Option(metavar="TEXT", help="Instructions to the model, before all else.")]
MaxTokens = Annotated[int | None, typer.Option(metavar="N", help="At most this many tokens of answer.")]
Temperature = Annotated[float | None, typer.Option(metavar="T", help="0 to 2; the lower, the steadier.")]
AnswerJson = Annotated[bool, typer.Option("--answer-json", help="Have the model answer in JSON.")]
Stop = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End the answer before this text; repeatable.")]
NoFallback = Annotated[bool, typer.Option("--no-fallback", help="Ask the first that may, and nobody else.")]
Budget = Annotated[
    str | None, typer.Option(metavar="DOLLARS", help="It may cost this at most, such as 0.02, all attempts together.")
]
Deadline = Annotated[float | None, typer.Option(metavar="SECONDS", help="Have the whole answer within this time.")]
NoStream = Annotated[
    bool, typer.Option("--no-stream", help="Have the answer in one piece, also of models that cannot stream.")
]
ContextQuery = Annotated[
    str | None, typer.Option("--context", metavar="QUERY", help="Take along what the memories know about this.")
]
ContextBudget = Annotated[int, typer.Option(metavar="N", help="Tokens that --context may take.")]


def _asked(
    model: str,
    trust: str | None,
    purpose: str | None,
    project: str | None,
    *,
    max_tokens: int | None = None,
    temperature: float | None = None,
    answer_json: bool = False,
    stop: list[str] | None = None,
    no_fallback: bool,
    budget: str | None,
    deadline: float | None = None,
) -> dict[str, Any]:
    """The arguments of a request that were given."""
    from adaptive_llm_gateway.server._cli_ask import micro_cents  # noqa: PLC0415

    given: dict[str, Any] = {
        "client": "command-line",
        "model": model,
        "trust": trust,
        "purpose": purpose,
        "project": project,
        "max_tokens": max_tokens,
        "temperature": temperature,
        "json": answer_json or None,
        "stop": stop or None,
        "fallback": False if no_fallback else None,
        "budget": micro_cents(budget),
        "deadline": deadline,
    }
    return {name: value for name, value in given.items() if value is not None}


# --- Asking -------------------------------------------------------------------------------------------------------


def complete_command(
    context: typer.Context,
    prompt: Annotated[str | None, typer.Argument(metavar="PROMPT", help="What to ask; - is stdin alone.")] = None,
    model: Model = "auto",
    trust: TrustOption = None,
    purpose: Purpose = None,
    project: ProjectOption = None,
    system: System = None,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    answer_json: AnswerJson = False,
    stop: Stop = None,
    no_fallback: NoFallback = False,
    budget: Budget = None,
    deadline: Deadline = None,
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

    asked = _asked(
        model,
        trust,
        purpose,
        project,
        max_tokens=max_tokens,
        temperature=temperature,
        answer_json=answer_json,
        stop=stop,
        no_fallback=no_fallback,
        budget=budget,
        deadline=deadline,
    )
    if system:
        asked["system"] = system
    asked["prompt"] = read_prompt(prompt, stdin=not no_stdin)
    root: str = context.find_root().obj
    if json:
        print_json(call(root, "gateway_complete", **asked))
    else:
        ask(root, "gateway_complete", stream=not no_stream, **asked)


def chat_command(
    context: typer.Context,
    model: Model = "auto",
    trust: TrustOption = None,
    purpose: Purpose = None,
    project: ProjectOption = None,
    system: System = None,
    context_query: ContextQuery = None,
    context_budget: ContextBudget = 2_000,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    answer_json: AnswerJson = False,
    stop: Stop = None,
    no_fallback: NoFallback = False,
    budget: Budget = None,
    deadline: Deadline = None,
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

    asked = _asked(
        model,
        trust,
        purpose,
        project,
        max_tokens=max_tokens,
        temperature=temperature,
        answer_json=answer_json,
        stop=stop,
        no_fallback=no_fallback,
        budget=budget,
        deadline=deadline,
    )
    talked = Conversation(asked, system=system, query=context_query, budget=context_budget)
    root: str = context.find_root().obj
    if sys.stdin is not None and sys.stdin.isatty():  # pyright: ignore[reportUnnecessaryComparison]
        if json:
            raise typer.BadParameter("a conversation is not one document: pipe a message in", param_hint="'--json'")
        converse(root, talked, stream=not no_stream)
        return
    text = read_prompt("-")
    if json:
        given = {"context": talked.context()} if context_query else {}
        print_json(call(root, "gateway_chat", messages=talked.messages(text), **given, **asked))
    else:
        talked.say(root, text, stream=not no_stream)


def embed_command(
    context: typer.Context,
    text: Annotated[
        list[str] | None, typer.Argument(metavar="TEXT", help="Texts; without any, the lines of stdin.")
    ] = None,
    model: Model = "auto",
    trust: TrustOption = None,
    purpose: Purpose = None,
    project: ProjectOption = None,
    no_fallback: NoFallback = False,
    budget: Budget = None,
    deadline: Deadline = None,
    json: JsonOption = False,
) -> None:
    """Turn texts into vectors. --json has them whole."""
    from adaptive_llm_gateway.server._cli_ask import read_texts, talk_about_answer, vectors_text  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_work import call  # noqa: PLC0415

    asked = _asked(model, trust, purpose, project, no_fallback=no_fallback, budget=budget, deadline=deadline)
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
def preview(
    context: typer.Context,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What would be asked; - is stdin alone.")
    ] = None,
    operation: Annotated[OperationName, typer.Option(help="What would be done with it.")] = "complete",
    model: Model = "auto",
    trust: TrustOption = None,
    purpose: Purpose = None,
    project: ProjectOption = None,
    system: System = None,
    context_query: ContextQuery = None,
    context_budget: ContextBudget = 2_000,
    max_tokens: MaxTokens = None,
    answer_json: AnswerJson = False,
    no_fallback: NoFallback = False,
    budget: Budget = None,
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

    asked = _asked(
        model,
        trust,
        purpose,
        project,
        max_tokens=max_tokens,
        answer_json=answer_json,
        no_fallback=no_fallback,
        budget=budget,
    )
    text = read_prompt(prompt, stdin=not no_stdin)
    if operation == "embed":
        asked["texts"] = [text]
    elif operation == "chat":
        asked["messages"] = Conversation({}, system=system).messages(text)
    else:
        asked |= {"prompt": text, **({"system": system} if system else {})}
    if context_query:
        asked["context"] = {"query": context_query, "budget": context_budget}
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
