"""The memories and queries that the benchmarks use: the same for a seed and a Python version, and unlike each other.

The prose is the English of the standard library's own documentation (docstrings and reference topics), which is in
every CPython and has the word frequencies of real text. Around it stand the titles, projects, people, dates, error
codes, versions, lists and code blocks that memories have.
"""

from __future__ import annotations

import ast
import datetime as dt
import importlib
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SEED = 20261121
COUNT = 10_000
_END = dt.datetime(2026, 11, 20, 18, 0, tzinfo=dt.UTC)
_DAYS = 365
_LEAST, _MOST = 300, 1_500  # characters of a body
_PACKAGES = ("", "asyncio", "concurrent/futures", "email", "http", "importlib", "json", "logging", "multiprocessing",
             "sqlite3", "tkinter", "unittest", "urllib", "wsgiref", "xml/dom", "xml/etree", "zipfile")  # fmt: skip
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_UNWANTED = re.compile(r"secret|passw|token|credential|api.?key|[^\x20-\x7e]|>>>|\.\. |::|\|", re.IGNORECASE)

_PROJECTS = ("atlas", "billing-api", "checkout", "data-lake", "edge-proxy", "field-app", "gateway", "home-lab",
             "ingest", "ledger", "mobile", "search", "thesis", "website")  # fmt: skip
_TAGS = ("api", "architecture", "auth", "bug", "build", "cache", "ci", "cli", "database", "deploy", "docs", "git",
         "incident", "infra", "latency", "logging", "meeting", "migration", "network", "onboarding", "performance",
         "python", "release", "review", "schema", "security", "storage", "style", "testing", "tooling", "ui",
         "upgrade")  # fmt: skip
_PEOPLE = ("Amina", "Bruno", "Chiara", "Dmitri", "Elif", "Femi", "Greta", "Hiro", "Ines", "Jonas", "Kofi", "Lena",
           "Mateo", "Noor", "Oskar", "Priya", "Quinn", "Rosa", "Sven", "Tala")  # fmt: skip
_CLIENTS = ("claude-code", "codex", "cursor", "command-line", "gemini-cli", "opencode")
_TYPES = (("note", 34), ("fact", 22), ("decision", 14), ("task", 14), ("preference", 8), ("session", 8))
_OPENINGS = {
    "note": ("{who} pointed out how {subject} behaves in {project}.", "For {project} we read up on {subject}.",
             "Notes from the call with {who} about {subject}, {date}."),
    "fact": ("In {project}, {subject} runs version {version} since {date}.",
             "{project} fails with {code} when {subject} is missing.", "{who} owns {subject} in {project}."),
    "decision": ("We use {subject} for {project} from {version} on; {who} agreed on {date}.",
                 "{project} no longer depends on {subject} because of {code}."),
    "task": ("Move {project} off {subject} before {version}.", "Find out why {subject} raises {code} in {project}.",
             "Ask {who} to review the {subject} change in {project}."),
    "preference": ("{who} wants {subject} to be left out of {project}.", "In {project}, prefer {subject} and say why."),
    "session": ("Session on {project} with {who}: {subject}, {code}.", "Looked into {code} in {subject}."),
}  # fmt: skip
_TITLES = {
    "note": ("{subject}: what {who} found in {project}", "How {subject} works in {project}", "{subject} and {other}"),
    "fact": ("{project} and {subject} {version}", "{code} in {subject}", "Who looks after {subject} in {project}"),
    "decision": ("Use {subject} in {project}", "Drop {subject} from {project} after {version}"),
    "task": ("Fix {code} in {project}", "Upgrade {subject} to {version}", "Review {subject} with {who}"),
    "preference": ("How {who} likes {subject} done", "{subject} style in {project}"),
    "session": ("{project}: {subject} on {date}", "Debugging {code} with {who}"),
}
_STATES: dict[str, dict[str, tuple[str, ...]]] = {
    "task": {"status": ("open", "in_progress", "done", "blocked"), "priority": ("low", "normal", "high")},
    "decision": {"status": ("accepted", "accepted", "proposed", "superseded")},
    "preference": {"strength": ("weak", "normal", "strong")},
}
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@dataclass(frozen=True, slots=True)
class Memory:
    """One generated memory; `path` is relative to the memory repo, `text` is the whole file."""

    id: str
    type: str
    title: str
    project: str
    tags: tuple[str, ...]
    body: str
    path: str
    text: str
    subject: str
    code: str
    sentences: tuple[str, ...]


def sentences_by_subject(*, whole: bool = True) -> dict[str, list[str]]:
    """The standard library's documentation as sentences, by module or topic; those with fewer than 8 are left out.

    Args:
        whole: with the docstrings, whose collection takes 5 seconds, and not the reference topics alone.
    """
    texts: dict[str, list[str]] = {}
    root = Path(sysconfig.get_path("stdlib"))
    for package in _PACKAGES if whole else ():
        for file in sorted((root / package).glob("*.py")):
            name = ".".join(part for part in (*Path(package).parts, file.stem) if part != "__init__")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                tree = ast.parse(file.read_text(encoding="utf-8", errors="replace"))
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    texts.setdefault(name.lstrip("_"), []).append(ast.get_docstring(node) or "")
    topics: dict[str, str] = importlib.import_module("pydoc_data.topics").topics
    for name, text in sorted(topics.items()):
        texts.setdefault(name, []).append(re.sub(r'["*]', "", text))
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for name, parts in texts.items():
        for paragraph in re.split(r"\n\s*\n", "\n\n".join(parts)):
            for sentence in _SENTENCE.split(" ".join(paragraph.split())):
                wanted = 40 <= len(sentence) <= 260 and sentence[0].isupper() and sentence.count(" ") >= 6
                if wanted and sentence not in seen and not _UNWANTED.search(sentence):
                    seen.add(sentence)
                    found.setdefault(name, []).append(sentence)
    return {name: lines for name, lines in found.items() if len(lines) >= 8}


class Corpus:
    """Memories and queries without end, in the order of the seed; see `sentences_by_subject` for `whole`.

    Args:
        prose: other sentences, by subject.
    """

    def __init__(self, seed: int = SEED, *, whole: bool = True, prose: dict[str, list[str]] | None = None) -> None:
        self._dice = random.Random(seed)
        self._sentences = prose or sentences_by_subject(whole=whole)
        # A subject is as frequent as there is text on it, so that no sentence is everywhere.
        self._subjects = list(self._sentences)
        self._weights = [len(lines) for lines in self._sentences.values()]

    def memories(self, count: int) -> Iterator[Memory]:
        """`count` memories, their `created` spread over twelve months."""
        for number in range(count):
            yield self._memory(_END - dt.timedelta(days=_DAYS * (1 - number / count)))

    def _memory(self, about: dt.datetime) -> Memory:
        dice = self._dice
        created = about + dt.timedelta(seconds=dice.randrange(3_600), milliseconds=dice.randrange(1_000))
        kind = dice.choices([name for name, _ in _TYPES], [weight for _, weight in _TYPES])[0]
        subject, other = dice.choices(self._subjects, self._weights, k=2)
        words = {
            "subject": subject,
            "other": other,
            "project": dice.choice(_PROJECTS),
            "who": dice.choice(_PEOPLE),
            "version": f"v{dice.randrange(6)}.{dice.randrange(20)}.{dice.randrange(10)}",
            "code": f"{dice.choice(('E', 'ERR-', 'BUG-', 'SQL'))}{dice.randrange(1_000, 10_000)}",
            "date": f"{created:%d %B %Y}",
        }
        title = dice.choice(_TITLES[kind]).format(**words)
        body, used = self._body(kind, words)
        tags = tuple(dice.sample(_TAGS, dice.randrange(1, 5)))
        identifier = ulid(created, dice)
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60].strip("-")
        moment = created.isoformat(timespec="milliseconds")[:-6] + "Z"
        states = "".join(f"{name}: {dice.choice(values)}\n" for name, values in _STATES.get(kind, {}).items())
        head = (
            f'---\nid: {identifier}\ntype: {kind}\ntitle: "{title}"\ncreated: {moment}\nupdated: {moment}\n'
            f"author:\n  client: {dice.choice(_CLIENTS)}\n  host: workstation\nproject: {words['project']}\n"
            f"tags: [{', '.join(tags)}]\ntrust: internal\n{states}---\n"
        )
        path = f"{kind}s/{created:%Y/%m}/{slug}-{identifier[-8:].lower()}.md"
        return Memory(
            identifier, kind, title, words["project"], tags, body, path, head + body, subject, words["code"], used
        )

    def _body(self, kind: str, words: dict[str, str]) -> tuple[str, tuple[str, ...]]:
        dice = self._dice
        wanted = dice.randrange(_LEAST, _MOST - 260)
        used: list[str] = []
        blocks = [dice.choice(_OPENINGS[kind]).format(**words)]
        while sum(map(len, blocks)) + 2 * len(blocks) < wanted:
            lines = self._sentences[words["subject"] if dice.random() < 0.7 else words["other"]]
            fresh = [line for line in dice.sample(lines, dice.randrange(1, 4)) if line not in used]
            if not fresh:
                wanted -= 100
                continue
            used += fresh
            form = dice.random()
            if form < 0.7:
                blocks.append(" ".join(fresh))
            elif form < 0.9:
                blocks.append("\n".join(f"- {line}" for line in fresh))
            else:
                blocks.append(f"```\nimport {words['subject']}\n# {words['code']}: {fresh[0][:80]}\n```")
        text = "\n\n".join(blocks)
        return text[: _MOST - 1].rstrip() + "\n", tuple(used)

    def queries(self, memories: list[Memory], count: int) -> list[str]:
        """Different queries: half as questions, a third as keywords, the rest for an identifier in its context."""
        dice = self._dice
        found: dict[str, None] = {}
        while len(found) < count:
            memory = dice.choice(memories)
            words = list[str](re.findall(r"[a-z]{4,}", dice.choice(memory.sentences).lower()))
            if len(words) < 6:
                continue
            form = dice.random()
            start = dice.randrange(len(words) - 5)
            if form < 0.5:
                query = f"what do we know about {' '.join(words[start : start + 5])} in {memory.project}?"
            elif form < 5 / 6:
                query = " ".join(dice.sample(words, 3))
            else:
                query = f"{memory.code} {memory.subject}"
            found[query] = None
        return list(found)


def ulid(moment: dt.datetime, dice: random.Random) -> str:
    """A ULID of that time with a random part from `dice`."""
    value = int(moment.timestamp() * 1_000) << 80 | dice.getrandbits(80)
    return "".join(_CROCKFORD[value >> shift & 31] for shift in range(125, -1, -5))
