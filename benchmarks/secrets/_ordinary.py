"""Text without any credential in it: documentation, chat turns, lock files, minified code, hashes, images.

Documentation and minified code are what is installed here and what this repository has; the rest is made from a seed.
"""

from __future__ import annotations

import base64
import random
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import _files
import _formats as f
from _planting import plant

_ROOT = Path(__file__).resolve().parent.parent.parent
_LIMIT = 400_000  # bytes of a file


@dataclass(frozen=True, slots=True)
class Text:
    """A text and where it is from: a path in the repository or in an installed package, or a number."""

    name: str
    text: str

    @property
    def file(self) -> str:
        """What it is called where it lies on a disk: scanners leave some files out by their names."""
        path = Path(self.name)
        return path.name if path.suffix in (".json", ".txt", ".lock", ".sum", ".yaml", ".js", ".rst") else "text.md"


def documentation(limit: int) -> list[Text]:
    """The Markdown of this repository, and the README, reStructuredText and metadata files of installed packages.

    Args:
        limit: bytes of all of them, at most.
    """
    ours = [*_ROOT.glob("*.md"), *_ROOT.glob("docs/**/*.md"), *_ROOT.glob("examples/**/*.md")]
    ours = [path for path in ours if path.name != "quickstart.md"]  # it shows how a password is refused
    packages = Path(sysconfig.get_path("purelib"))
    theirs = [path for pattern in ("METADATA", "*.md", "*.rst") for path in packages.rglob(pattern)]
    return _read(_ROOT, sorted(ours), limit // 4) + _read(packages, sorted(theirs), limit)


def minified(limit: int) -> list[Text]:
    """Minified JavaScript of installed packages, and some that is made up."""
    packages = Path(sysconfig.get_path("purelib"))
    rng = random.Random("minified")
    made = [Text(f"made-up-{number}.min.js", _minified(rng)) for number in range(5)]
    return made + _read(packages, sorted(packages.rglob("*.min.js")), limit)


def source(limit: int) -> list[Text]:
    """Modules of the standard library."""
    library = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts]
    return _read(library, paths, limit)


_PLACEHOLDERS = (
    "<password>|xxxxxxxx|changeme|CHANGE_ME|${SECRET}|$SECRET|{{ secret }}|%(secret)s|your-password-here|YOUR_API_KEY"
    "|********|REPLACE_ME|example-secret|<%= ENV['X'] %>|@secret@|TODO|insert-token-here|my-secret-key|dummy-key"
)


def unfilled() -> list[Text]:
    """Configuration files with a placeholder wherever a credential belongs."""
    return [
        Text(f"{name}: {placeholder}", plant("", "", template, lambda _, value=placeholder: value).text)
        for name, template in _files.FILES.items()
        for placeholder in _PLACEHOLDERS.split("|")
    ]


def lock_files() -> list[Text]:
    """This repository's lock files, and some of other tools that are made up."""
    paths = [_ROOT / "tests/clients/node/package-lock.json", *sorted(_ROOT.glob("requirements*.txt"))]
    rng = random.Random("lock files")
    return _read(_ROOT, paths, 1_000_000) + [
        Text(name, "\n".join(make(rng) for _ in range(300))) for name, make in _LOCKED.items()
    ]


def hashes(seed: int) -> list[Text]:
    """Lists of UUIDs, hashes and other ids, with and without words beside them."""
    rng = random.Random(f"hashes {seed}")
    makes: dict[str, f.Make] = {
        "UUIDs": f.uuid,
        "SHA-1": f.of(f.HEX, 40),
        "SHA-256": f.of(f.HEX, 64),
        "MD5 sums": lambda r: f"{f.of(f.HEX, 32)(r)}  dist/{_word(r)}-{_version(r)}.tar.gz",
        "SHA-256 sums": lambda r: f"{f.of(f.HEX, 64)(r)} *{_word(r)}_{_version(r)}_amd64.deb",
        "image digests": lambda r: f"registry.test/{_word(r)}@sha256:{f.of(f.HEX, 64)(r)}",
        "git log": lambda r: f"{f.of(f.HEX, 40)(r)} {_word(r)}: {_word(r)} the {_word(r)}",
        "ULIDs": f.of("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26),
        "object ids": lambda r: f'{{"_id": "{f.of(f.HEX, 24)(r)}", "name": "{_word(r)}"}}',
        "etags": lambda r: f'ETag: W/"{f.of(f.HEX, 32)(r)}"',
        "traces": lambda r: f"trace_id={f.of(f.HEX, 32)(r)} span_id={f.of(f.HEX, 16)(r)} took {r.randrange(999)} ms",
    }
    return [Text(name, "\n".join(make(rng) for _ in range(200)) + "\n") for name, make in makes.items()]


def images(seed: int) -> list[Text]:
    """Images in base64: in Markdown, HTML, CSS and JSON, and wrapped as mail has them."""
    rng = random.Random(f"images {seed}")
    return [
        Text(f"{name} {number}", form.format(_image(rng)))
        for name, form in {
            "Markdown": "# Page\n\n![a chart](data:image/png;base64,{})\n",
            "HTML": '<img alt="chart" src="data:image/png;base64,{}">\n',
            "CSS": ".logo {{ background: url(data:image/png;base64,{}) }}\n",
            "JSON": '{{"mime": "image/png", "image": "{}"}}\n',
            "reference": "[logo]: <data:image/png;base64,{}>\n",
        }.items()
        for number in range(8)
    ] + [Text(f"mail {number}", _wrapped(_image(rng))) for number in range(8)]


def chat_turns(seed: int, count: int) -> list[Text]:
    """What people and agents write to each other at work: prose, code, ids, versions and paths, and talk of keys."""
    rng = random.Random(f"chat {seed}")
    return [Text(str(number), _turn(rng)) for number in range(count)]


# --- Files -----------------------------------------------------------------------------------------------


def _read(root: Path, paths: list[Path], limit: int) -> list[Text]:
    """The texts of files, each text once, until they have so many bytes."""
    texts: dict[str, Text] = {}
    size = 0
    for path in paths:
        data = path.read_bytes() if path.stat().st_size <= _LIMIT else b""
        text = data.decode("utf-8", "replace")
        if not text or text in texts:
            continue
        size += len(data)
        if size > limit:
            break
        texts[text] = Text(path.relative_to(root).as_posix(), text)
    return list(texts.values())


# --- Made up -----------------------------------------------------------------------------------------------

_NOUNS = tuple(
    re.findall(
        r"\w+",
        "build cache client column config deploy driver endpoint error fixture gateway handler index job layout log"
        " loop memory merge metric migration module option page parser patch plan pool port query queue release report"
        " request retry route row schema search server session shard shim socket store stream table task test thread"
        " timeout trace update user value vector view worker",
    )
)
_VERBS = ("add", "check", "drop", "fix", "keep", "move", "read", "rename", "replace", "retry", "revert", "split")


def _word(rng: random.Random) -> str:
    return rng.choice(_NOUNS)


def _version(rng: random.Random) -> str:
    return f"{rng.randrange(20)}.{rng.randrange(30)}.{rng.randrange(90)}"


def _path(rng: random.Random) -> str:
    suffix = rng.choice(("py", "ts", "go", "rs", "md", "yaml", "toml"))
    return "/".join([rng.choice(("src", "lib", "tests", "docs")), _word(rng), f"{_word(rng)}_{_word(rng)}.{suffix}"])


def _image(rng: random.Random) -> str:
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + rng.randbytes(rng.randrange(300, 9000))).decode()


def _wrapped(text: str) -> str:
    lines = [text[at : at + 76] for at in range(0, len(text), 76)]
    return "Content-Type: image/png\nContent-Transfer-Encoding: base64\n\n" + "\n".join(lines) + "\n"


def _integrity(rng: random.Random) -> str:
    return base64.b64encode(rng.randbytes(64)).decode()


_LOCKED: dict[str, f.Make] = {
    "yarn.lock": lambda r: (
        f'{_word(r)}@^{_version(r)}:\n  version "{_version(r)}"\n'
        f'  resolved "https://registry.test/{_word(r)}/-/{_word(r)}-{_version(r)}.tgz#{f.of(f.HEX, 40)(r)}"\n'
        f"  integrity sha512-{_integrity(r)}\n"
    ),
    "poetry.lock": lambda r: (
        f'[[package]]\nname = "{_word(r)}"\nversion = "{_version(r)}"\nfiles = [\n'
        f'    {{file = "{_word(r)}-{_version(r)}.whl", hash = "sha256:{f.of(f.HEX, 64)(r)}"}},\n]\n'
    ),
    "Cargo.lock": lambda r: (
        f'[[package]]\nname = "{_word(r)}"\nversion = "{_version(r)}"\nchecksum = "{f.of(f.HEX, 64)(r)}"\n'
    ),
    "go.sum": lambda r: f"example.test/{_word(r)} v{_version(r)} h1:{f.of(f.BASE64, 43)(r)}=",
    "pnpm-lock.yaml": lambda r: (
        f"  /{_word(r)}@{_version(r)}:\n    resolution: {{integrity: sha512-{_integrity(r)}}}\n    dev: true\n"
    ),
    "Gemfile.lock": lambda r: (
        f"    {_word(r)} ({_version(r)})\n      {_word(r)} (~> {_version(r)}) sha256={f.of(f.HEX, 64)(r)}"
    ),
    "composer.lock": lambda r: (
        f'{{"name": "shop/{_word(r)}", "reference": "{f.of(f.HEX, 40)(r)}", "shasum": "{f.of(f.HEX, 40)(r)}"}},'
    ),
    "flake.lock": lambda r: f'"narHash": "sha256-{f.of(f.BASE64, 43)(r)}=", "rev": "{f.of(f.HEX, 40)(r)}",',
}


def _minified(rng: random.Random) -> str:
    return "".join(_filled(rng.choice(_FUNCTIONS), rng) for _ in range(900)) + "\n//# sourceMappingURL=main.js.map\n"


_VALUES: dict[str, f.Make] = {
    "noun": _word,
    "verb": lambda r: r.choice(_VERBS),
    "version": _version,
    "path": _path,
    "number": lambda r: str(r.randrange(10 ** r.randint(1, 5))),
    "commit": lambda r: f.of(f.HEX, r.choice((7, 10, 40)))(r),
    "uuid": f.uuid,
    "ulid": f.of("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 26),
    "integrity": _integrity,
    "base64": f.of(f.BASE64, 43),
    **{f"hex{length}": f.of(f.HEX, length) for length in (7, 8, 16, 40, 64)},
    "name": lambda r: "".join(r.choices(f.LETTERS, k=r.randint(1, 2))),
    "chunk": f.of(f.UPPER, 8),
}


def _filled(template: str, rng: random.Random) -> str:
    return plant("", "", template, lambda name: _VALUES[name](rng)).text


def _templates(name: str) -> list[str]:
    return Path(__file__).with_name(name).read_text("utf-8").removesuffix("\n").split("\n===\n")


_SAID = _templates("chat.txt")
_FUNCTIONS = _templates("minified.txt")


def _turn(rng: random.Random) -> str:
    return "\n".join(_sentences(rng, rng.choice((1, 2, 3, 5, 8, 13))))


def _sentences(rng: random.Random, count: int) -> Iterator[str]:
    for _ in range(count):
        yield _filled(rng.choice(_SAID), rng)
