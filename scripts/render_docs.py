"""Write the parts of `docs/` that are made from the code, or with `--check` say which of them are out of date."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent.parent / "docs"
WIDTH = 88
_NOTE = "<!-- Made by scripts/render_docs.py from the code; do not edit. -->"


# --- docs/command-line.md ------------------------------------------------------------------------------------------


def command_line() -> str:
    """The command line: every command's own help, and what holds for all of them."""
    from adaptive_llm_gateway.server._cli_app import build_command  # noqa: PLC0415
    from adaptive_llm_gateway.server._cli_output import EXIT_CODES  # noqa: PLC0415

    parts = [
        "# Command line",
        _NOTE,
        "`alg` and `adaptive-llm-gateway` are the same command; `memory ...` is `alg memory ...`.",
        "What a command finds goes to stdout, what it has to say to stderr. With `--json` there is exactly one JSON\n"
        "document on stdout, also when the command fails; with `--watch` there is one on each line:",
        '```json\n{"error": {"code": "not_found", "message": "...", "hint": "...", "details": {}}}\n```',
        "`code` is stable, and so are the exit codes; the words are not.",
        "| exit code | meaning |\n|---|---|\n" + "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES.items()),
        "`--home DIR` may stand anywhere on the line. Colours are used on a terminal only, and never where `NO_COLOR`\n"
        "is set; `alg memory edit` takes the editor from `VISUAL`, then `EDITOR`.",
        "## Asking models",
        _ASKING,
    ]
    for path, text in _helps(build_command()):
        parts += [f"{'#' * min(len(path), 3) or '#'}# `{' '.join(path)}`", f"```text\n{text}\n```"]
    return "\n\n".join(parts) + "\n"


_ASKING = """```sh
git diff | alg complete "write a commit message"
alg chat --model ollama/qwen3:4b --context "what we decided about the index"
alg gateway preview "who would get this?" --trust confidential
```

An answer is printed as it comes, and nothing else is on stdout; who gave it and where, tokens, cost and the receipt's
id are on stderr. <!-- P-CLI-01 --> What comes on stdin is joined below the prompt. <!-- P-CLI-02 --> An answer that
broke off ends with an error that says that it is not whole, and exit code 9; nobody else goes on with it.
<!-- P-CLI-03 --> Ctrl-C, or a reader of stdout that goes away, cancels the provider's call, and the receipt says so.
<!-- P-CLI-04 --> In `alg chat`, Ctrl-C stops the answer and the conversation goes on. <!-- P-CLI-05 --> On a terminal,
an answer's control characters are shown as U+FFFD; in a pipe it is untouched. <!-- P-CLI-06 -->

`--budget` is in dollars, and exact to the micro-cent. <!-- P-CLI-07 --> Where a person's consent is missing, the
refusal's hint is the command that gives it. <!-- P-CLI-08 --> `alg consent verify` and `alg receipts verify` end with
exit code 7 when something was changed afterwards; a broken ledger lets nothing through until it is set aside.
<!-- P-CLI-09 --> `alg runs replay` plans a request again and says what is otherwise now. <!-- P-CLI-10 -->
`alg policy test` needs no hub, so a policy is tried before it holds. <!-- P-CLI-11 -->"""


def _helps(command: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each command's path and its help, groups before what is in them; hidden ones are left out."""
    pending: list[tuple[tuple[str, ...], Any, Any]] = [(("alg",), command, None)]
    while pending:
        path, current, parent = pending.pop(0)
        context = current.context_class(
            current, info_name=path[-1], parent=parent, terminal_width=WIDTH, max_content_width=WIDTH
        )
        yield path, "\n".join(line.rstrip() for line in current.get_help(context).splitlines())
        children: Mapping[str, Any] = getattr(current, "commands", {})
        pending[:0] = [((*path, name), child, context) for name, child in children.items() if not child.hidden]


# --- docs/tools.md -------------------------------------------------------------------------------------------------


def tools() -> str:
    """The MCP surface: what a client is told of the tools, the resource and the prompt."""
    import asyncio  # noqa: PLC0415

    from adaptive_llm_gateway.server._mcp import INSTRUCTIONS, build_server  # noqa: PLC0415

    nothing: Any = None  # no tool is called, so there need be no operations
    server = build_server(nothing, nothing, nothing, version="0")
    listed = [tool.model_dump(by_alias=True) for tool in asyncio.run(server.list_tools())]
    templates = [item.model_dump(by_alias=True) for item in asyncio.run(server.list_resource_templates())]
    prompts = [item.model_dump(by_alias=True) for item in asyncio.run(server.list_prompts())]
    parts = [
        "# Tools",
        _NOTE,
        "What an MCP client sees. The name on the wire has underscores, because several clients and model APIs refuse\n"
        "dots; the title has the dot, and a call by the dotted name (`memory.search`) is accepted too. An answer is\n"
        "text that is complete by itself. A failure that the caller can mend is a tool error that says what to do.",
        "Instructions that a client gets when it connects:",
        f"```text\n{INSTRUCTIONS}\n```",
        "| tool | writes | what it is for |\n|---|---|---|\n"
        + "\n".join(
            f"| [`{tool['name']}`](#{tool['name']}) | {_changes(tool['annotations'])} "
            f"| {_cell(tool['description'].partition('. ')[0].rstrip('.'))} |"
            for tool in listed
        ),
        _MODELS,
    ]
    for tool in listed:
        hints = ", ".join(f"`{name}` {str(value).lower()}" for name, value in _hints(tool["annotations"]).items())
        parts += [f"## `{tool['name']}`", tool["description"], f"Title `{tool['title']}`; {hints}."]
        parts.append(_arguments(tool["inputSchema"]))
    parts.append("## Resources")
    parts += [f"`{item['uriTemplate']}` ({item['mimeType']}): {item['description']}" for item in templates]
    parts.append("## Prompts")
    for prompt in prompts:
        names = ", ".join(
            f"`{item['name']}`" + ("" if item["required"] else " (optional)") for item in prompt["arguments"]
        )
        parts.append(f"`{prompt['name']}` ({prompt['title']}): {prompt['description']} Arguments: {names}.")
    return "\n\n".join(parts) + "\n"


_MODELS = """The tools of `gateway_` call models, by trust level, policy and consent. A request that was answered,
refused or that failed names its receipt. <!-- P-MODEL-01 --> To a client that sends a progress token the answer comes
in pieces, as the messages of progress notifications, with a sign of life every five seconds. <!-- P-MODEL-02 --> A call
that the client cancels, or leaves by going away, is cancelled at the provider. <!-- P-MODEL-03 --> The trust levels of
memories that a `context` brings along raise that of the request. <!-- P-MODEL-04 --> No tool grants consent: people do,
with `alg consent grant`. <!-- P-MODEL-05 --> How each model fares is remembered, in numbers alone, as one `route`
memory for each model and purpose. <!-- P-MODEL-06 -->"""


def _hints(annotations: Mapping[str, Any]) -> dict[str, bool]:
    return {name: value for name, value in annotations.items() if name.endswith("Hint") and value is not None}


def _changes(annotations: Mapping[str, Any]) -> str:
    if annotations["readOnlyHint"]:
        return "no"
    return "takes away; can be undone" if annotations["destructiveHint"] else "yes"


def _arguments(schema: Mapping[str, Any]) -> str:
    rows: list[str] = []
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in schema.get("required", ()) else _value(field.get("default"))
        rows.append(f"| `{name}` | {_kind(field)} | {default} | {_cell(field.get('description', ''))} |")
    if not rows:
        return "No arguments."
    return "| argument | type | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows)


def _kind(field: Mapping[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"])
    if field.get("type") == "array":
        return f"list of {_kind(field['items'])}"
    names = {"string": "text", "integer": "whole number", "boolean": "true or false"}
    return names.get(str(field.get("type")), str(field.get("type")))


def _value(value: object) -> str:
    if value is None or value == "":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- docs/configuration.md -----------------------------------------------------------------------------------------


def configuration() -> str:
    """Every setting, with its variable, default and what is allowed."""
    from adaptive_llm_gateway.core import Settings  # noqa: PLC0415

    parts = [
        "# Configuration",
        _NOTE,
        "Settings are read once, when the hub starts: after a change, `alg hub stop`; the next client starts it anew.\n"
        "The file is `config.yaml` in the home, which is `~/.adaptive-llm-gateway` or what\n"
        "`$ADAPTIVE_LLM_GATEWAY_HOME` names. `alg init` writes one in which every key is a comment; none is needed.",
        "```yaml\nhub:\n  idle_minutes: 0\nsync:\n  remote: git@example.org:me/memory.git\n```",
        "The environment overrules the file: `hub.idle_minutes` is `ALG_HUB__IDLE_MINUTES` there. The variables that\n"
        "count are those of the process that starts the hub, which is as a rule a client program. A key that is not\n"
        "known, or a value that is not allowed, is an error that names the key, where it was set and what is allowed;\n"
        "the hub does not start with it, and `alg doctor` says so too.",
    ]
    for section, field in Settings.model_fields.items():
        parts.append(f"## `{section}`")
        if section in _BY_NAME:
            parts += _by_name(section, str(field.description))
            continue
        model: Any = field.annotation
        parts += [str(model.__doc__).strip(), _settings_table(model, section)]
    parts += ["## A remote", _REMOTE, "## A reranker", _RERANKER, "## An index in PostgreSQL", _POSTGRES]
    parts += ["## Vectors in Qdrant", _QDRANT]
    return "\n\n".join(parts) + "\n"


def _settings_table(model: Any, section: str) -> str:
    schema = model.model_json_schema()
    rows: list[str] = []
    for key, each in schema["properties"].items():
        known = {**schema.get("$defs", {}).get(str(each.get("$ref")).rpartition("/")[2], {}), **each}
        default = "required" if key in schema.get("required", ()) else _value(known.get("default")) or "none"
        variable = f"ALG_{section}__{key}".upper()
        rows.append(f"| `{key}` | `{variable}` | {default} | {_allowed(known)} | {_cell(each['description'])} |")
    return "| key | variable | default | allowed | meaning |\n|---|---|---|---|---|\n" + "\n".join(rows)


def _by_name(section: str, description: str) -> list[str]:
    """A section whose keys are names of the user's own."""
    from adaptive_llm_gateway.core import RepoSettings  # noqa: PLC0415
    from adaptive_llm_gateway.core._settings_gateway import ProviderSettings  # noqa: PLC0415

    models: dict[str, Any] = {"providers": ProviderSettings, "repos": RepoSettings}
    return [
        description,
        *([_settings_table(models[section], f"{section}__<name>")] if section in models else []),
        _BY_NAME[section],
    ]


_BY_NAME = {
    "repos": """```yaml
repos:
  team:
    remote: ssh://git@example.org/team/memory.git
    projects: [acme, "acme-*"]
    trust: internal
  handbook:
    remote: https://git.example.org/handbook.git
    read_only: true
```

The repo of `memory.path` is called `personal`; it has what belongs to no other. How several repos work together is in
[several-repos.md](several-repos.md).""",
    "providers": """```yaml
providers:
  ollama: {kind: ollama}
  work:
    kind: openai_compatible
    url: https://llm.example.com/v1
    key_env: WORK_KEY
    models: [{name: big, context: 128000}]
```

A key stands in no file: `key_env` is the name of the environment variable that has it, in the hub's environment. A
file with a key in it is refused, and the key is not shown. <!-- P-PROVIDER-01 --> A provider or a route that is wrong
is named by its path. <!-- P-PROVIDER-02 -->

The policy in `policy.yaml` and prices of your own in `prices.yaml`, both in the home, count as they are when a request
comes; a file that does not hold refuses every request to a model, with its line, and leaves the memory alone.
<!-- P-PROVIDER-03 -->""",
    "routes": """```yaml
routes:
  fast: [ollama/qwen3:4b, groq/llama-3.1-8b-instant]
```

The variable of the route `fast` is `ALG_ROUTES__FAST`, with a JSON list.""",
}


_REMOTE = """`sync.remote` is a path, or an ssh, https or git address without a password in it: git's own keys and
credential helpers are used. `alg init --remote URL` sets it and pulls once. A push follows soon after a write;
`memory pull` and `memory push` ask for one now. What has come in is merged before a push; nothing is ever forced.
What it needs to get in, and how to change or leave a remote, is in [sync.md](sync.md#the-way-in)."""


_RERANKER = """A reranker judges the first hits of a search once more; what that does to scores and pages is in
[search.md](search.md#reranking). Any sentence-transformers `CrossEncoder` runs in the hub, by name or folder, with
`adaptive-llm-gateway[transformers]` installed: <!-- P-RERANK-06 -->

```yaml
reranker:
  kind: transformers
  model: cross-encoder/ms-marco-MiniLM-L6-v2
```

Or it is an endpoint that takes `POST <url>/rerank` with `model`, `query` and `documents` and answers `results` with
`index` and `relevance_score`, as Jina, Cohere, vLLM and llama.cpp's server (`--rerank`) do; Text Embeddings Inference
(`texts`, and a bare list with `score`) is recognised: <!-- P-RERANK-07 -->

```yaml
reranker:
  kind: http
  url: http://127.0.0.1:8080/v1
  model: bge-reranker-v2-m3
  api_key_env: RERANK_KEY
```

The key stands in that environment variable only, and is sent to this URL alone. `alg doctor` says whether the
reranker is there, and what it lacks. <!-- P-RERANK-08 --> A model on the processor takes its time: where answers say
that it was slow, set `reranker.top` lower, or `reranker.timeout` higher."""


_POSTGRES = """A hub keeps its index in a file, which serves a person well. A team's hubs may keep theirs in a
PostgreSQL server with pgvector 0.8 or newer: <!-- P-POSTGRES-01 -->

```yaml
index:
  kind: postgres
  url: postgresql://hub@db.example.org:5432/memories
```

Install `adaptive-llm-gateway[postgres]`. The user of the URL needs `CREATE` on the database, and an administrator runs
`CREATE EXTENSION vector` in it once. Several hubs may share a database: each has a schema of its own there, to which
no other hub writes. <!-- P-POSTGRES-02 --> A password stands in `~/.pgpass`, or in the URL where that is in the
environment (`ALG_INDEX__URL`); a file with a password in the URL is refused. <!-- P-POSTGRES-03 --> A pooler on the
way must leave a hub its session. A lost connection is made anew, and nothing is written twice or lost by it.
<!-- P-POSTGRES-04 --> The memories themselves stay files in git, so `alg memory reindex` builds the index anew.
`alg doctor` says whether the server answers. <!-- P-POSTGRES-05 --> What was measured is in
[decision 0007](decisions/0007-an-index-in-postgresql.md)."""


_QDRANT = """A hub that keeps its index in a file may have a Qdrant server search the vectors, rather than hold them in
memory: <!-- P-QDRANT-01 -->

```yaml
index:
  kind: qdrant
  url: http://127.0.0.1:6333
  api_key_env: QDRANT_KEY
```

Install `adaptive-llm-gateway[qdrant]`. Memories, words, filters and a copy of every vector stay in the file. Qdrant
gets numbers alone: of each passage its id, its vector, the row of its memory and a checksum, in a collection of this
hub and this model. <!-- P-QDRANT-02 --> Vectors tell something of the text that they were made of, so a server on
another machine (any address but the loopback) gets none of memories above `internal`; those are found by words.
<!-- P-QDRANT-03 --> While the server is away or slow, refuses the key or holds something else under the collection's
name, search is by words and says why, after a few seconds at most; what the server lacks, or has lost, is brought to it
when it answers, and no vector is computed anew for it. <!-- P-QDRANT-04 --> The key stands in that environment variable
only. `alg doctor` says whether the server answers and lets the hub in. <!-- P-QDRANT-05 -->

It serves where a server with memory to spare searches for a small machine. It was tested with Qdrant's client against
that client's own engine behind the same interface, not against a Qdrant server:
[decision 0011](decisions/0011-vectors-in-qdrant.md)."""


def _allowed(schema: Mapping[str, Any]) -> str:
    options = [option for option in schema.get("anyOf", [schema]) if option.get("type") != "null"]
    first = options[0]
    if "enum" in first:
        return ", ".join(f"`{choice}`" for choice in first["enum"])
    if first.get("format") == "path":
        return "path"
    if first.get("type") == "array":
        return "list of models" if "$ref" in first["items"] else f"list of {_allowed(first['items'])}s"
    names = {"string": "text", "boolean": "`true`, `false`", "integer": "whole number", "number": "number"}
    word = names[first["type"]]
    least, most = first.get("minimum"), first.get("maximum")
    more_than = first.get("exclusiveMinimum")
    low = "" if least is None else f"{least:,}"
    if more_than is not None:
        low = f"more than {more_than:,}"
    if most is None:
        return f"{word}, {low}{' or more' if more_than is None else ''}" if low else word
    return f"{word}, {low} to {most:,}"


# --- docs/schemas/handoff.json -------------------------------------------------------------------------------------


def handoff_schema() -> str:
    """The front matter of an offer's and an event's file."""
    from adaptive_llm_gateway.handoff import handoff_schema as schema  # noqa: PLC0415

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


# --- docs/openapi.json ---------------------------------------------------------------------------------------------


def openapi() -> str:
    """The REST API's description of itself."""
    from adaptive_llm_gateway.core import Home  # noqa: PLC0415
    from adaptive_llm_gateway.server._rest import build_api  # noqa: PLC0415
    from adaptive_llm_gateway.server._services import Services  # noqa: PLC0415

    nothing: Any = None  # no request is answered, so there need be no operations
    services = Services(Home(DOCS), nothing, nothing, nothing, nothing, nothing)
    return json.dumps(build_api(services).description(), indent=2, ensure_ascii=False) + "\n"


DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "command-line.md": command_line,
    "configuration.md": configuration,
    "openapi.json": openapi,
    "schemas/handoff.json": handoff_schema,
    "tools.md": tools,
}


def main() -> int:
    """Write or check; the exit code is 1 when something is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit code 1 when something would change")
    check: bool = parser.parse_args().check
    stale: list[str] = []
    for name, render in DOCUMENTS.items():
        path = DOCS / name
        text = render()
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8", newline="\n")
    for name in stale:
        print(f"docs/{name} is out of date" if check else f"wrote docs/{name}", file=sys.stderr)
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
