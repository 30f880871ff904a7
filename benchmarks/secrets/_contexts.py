"""Markdown around a credential: the sentences, lists, tables and blocks in which people and agents write one down."""

from __future__ import annotations

import base64
import random
import urllib.parse
from collections.abc import Callable, Sequence

from _formats import ALNUM, FORMATS, Format
from _planting import Planted, plant

BARE: dict[str, str] = {
    "alone": "${it}",
    "quoted": 'He sent me "${it}" this morning.',
    "backticks": "We deploy with `${it}` from now on.",
    "parentheses": "The old one (${it}) still works.",
    "list": "- found in the wiki: ${it}",
    "full stop": "Until Friday everybody uses ${it}.",
    "html": "<code>${it}</code>",
    "comma": "Try ${it}, and tell me what comes back.",
    "quote": "> ${it}",
    "table alone": "| where | what |\n|---|---|\n| staging | ${it} |",
    "json value": '```json\n{"region": "eu", "value": "${it}"}\n```',
}
NAMED: dict[str, str] = {
    "colon": "${~noun}: ${it}",
    "is": "The ${~noun} is ${it}",
    "is, full stop": "The ${~noun} is ${it}.",
    "is, backticks": "Our ${~noun} for staging is `${it}`.",
    "equals": '${~noun} = "${it}"',
    "bold": "- **${~noun}**: ${it}",
    "named in parentheses": "Log in first (${~noun}: ${it}).",
    "named in a table": "| name | value |\n|---|---|\n| ${~noun} | ${it} |",
    "set to": "Set the ${~noun} to '${it}', then restart.",
    "environment": "```sh\nexport ${~variable}=${it}\n./run.sh\n```",
    "yaml": "```yaml\nservice:\n  ${~key}: ${it}\n  region: eu\n```",
    "json": '```json\n{"${~key}": "${it}", "region": "eu"}\n```',
    "next line": "The ${~noun}:\n\n    ${it}",
    "arrow": "${~noun} -> ${it}",
    "changed": "I changed the ${~noun} to ${it} today.",
}
BLOCKS: dict[str, str] = {
    "alone": "${it}",
    "fenced": "```\n${it}\n```",
    "fenced with a language": "```pem\n${it}\n```",
    "after is": "The ${~noun} is\n\n${it}",
    "after a colon": "The ${~noun}:\n${it}\nKeep it.",
    "indented": "The ${~noun}:\n\n${it-indented}",
    "in a list": "- the ${~noun}:\n${it-indented}",
    "quoted": "${it-quoted}",
    "here document": "```sh\ncat > id <<EOF\n${it}\nEOF\n```",
    "yaml": "```yaml\nkey: |\n${it-indented}\n```",
    "html": "<pre>${it}</pre>",
    "string": 'key = """${it}"""',
}
_AROUND = "# Notes of the week\n\nSome words before it.\n\n{}\n\nAnd some after.\n"


def contexts_of(form: Format) -> dict[str, str]:
    """The contexts in which a format has to be found: at least ten."""
    if form.block:
        return BLOCKS
    return NAMED if form.told else BARE | NAMED


def sentences(seed: int, formats: Sequence[Format] = FORMATS) -> list[Planted]:
    """Each format once in each of its contexts, every time with another value."""
    rng = random.Random(f"sentences {seed}")
    return [
        plant(form.name, name, _AROUND.format(context), _filling(form, form.make(rng)))
        for form in formats
        for name, context in contexts_of(form).items()
    ]


def _filling(form: Format, value: str) -> Callable[[str], str]:
    key = "_".join(form.noun.replace("'", "").lower().split())
    values = {
        "it": value,
        "it-indented": "\n".join("    " + line for line in value.split("\n")),
        "it-quoted": "\n".join("> " + line for line in value.split("\n")),
        "noun": form.noun,
        "key": key,
        "variable": key.upper(),
    }
    return values.__getitem__


def _noise(value: str, rng: random.Random) -> str:
    words = ["".join(rng.choices(ALNUM, k=rng.randint(3, 12))) for _ in range(40)]
    return f"{' '.join(words[:20])} {value} {' '.join(words[20:])}"


def _letters(rng: random.Random) -> str:
    return "".join(rng.choices(ALNUM, k=9))


def _halves(value: str) -> tuple[str, str]:
    return value[: len(value) // 2], value[len(value) // 2 :]


def _cased(value: str) -> str:
    return value.upper() if value != value.upper() else value.lower()


MUTATIONS: dict[str, Callable[[str, random.Random], str]] = {
    "in random words": _noise,
    "within random letters": lambda value, rng: _letters(rng) + value + _letters(rng),
    "wrapped over two lines": lambda value, _: "\n".join(_halves(value)),
    "split with a backslash": lambda value, _: "\\\n".join(_halves(value)),
    "joined strings": lambda value, _: 'key = "{}" + "{}"'.format(*_halves(value)),
    "base64": lambda value, _: base64.b64encode(value.encode()).decode(),
    "URL-encoded": lambda value, _: "https://shop.test/cb?state=1&v=" + urllib.parse.quote(value, safe=""),
    "every character URL-encoded": lambda value, _: "".join(f"%{byte:02X}" for byte in value.encode()),
    "hex": lambda value, _: value.encode().hex(),
    "other case": lambda value, _: _cased(value),
    "reversed": lambda value, _: value[::-1],
}


def mutations(seed: int) -> list[Planted]:
    """Formats that say by their form what they are, each changed in each way: grouped by the way."""
    rng = random.Random(f"mutations {seed}")
    planted: list[Planted] = []
    for form in FORMATS:
        if form.told or form.block:
            continue
        for name, change in MUTATIONS.items():
            changed = change(form.make(rng), rng)
            planted.append(plant(name, form.name, _AROUND.format("${it}"), {"it": changed}.__getitem__))
    return planted
