"""Credentials that are planted by the tests `test_canary_*`, one maker for each format, and the search for them.

Each one carries a mark where its format has room for chance, and a number of its own, so that one look through all
bytes finds any of them, in any form that is looked for, and says which it was and where it was planted. None is real,
and none stands in this file: they are built.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import string
import subprocess
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

MARK = "QKZWXJVYHB"
"""Letters alone: any alphabet but that of digits and of hex has them, and none of base32 is missing."""
HEX_MARK = "e7c1d94f8b"
_PLACES = "BCDFGHJKLMNPRSTZ"  # the digits of a number behind the mark of letters: no words come of them
_SCATTERED = 0x5A3C  # so that no number is a row of equal digits, which would look like a placeholder
_FOUND = re.compile(rb"qkzwxjvyhb([bcdfghj-npr-tz]{4})|e7c1d94f8b([0-9a-f]{4})")

_ALNUM = string.ascii_letters + string.digits
_LOWER = string.ascii_lowercase + string.digits
_WEB = _ALNUM + "-_"
_BASE64 = _ALNUM + "+/"
_HEX = "0123456789abcdef"
_BASE32 = string.ascii_uppercase + "234567"
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


class Chance:
    """What makers draw from: chance that repeats, with the mark and the number of one credential in it."""

    def __init__(self, number: int) -> None:
        self._random = random.Random(number)  # noqa: S311 - has to repeat
        letters = "".join(_PLACES[number >> shift & 15] for shift in (12, 8, 4, 0))
        self._letters, self._hex = MARK + letters, f"{HEX_MARK}{number:04x}"

    def of(self, alphabet: str, length: int) -> str:
        """So many characters of an alphabet, with the mark among them where there is room for it."""
        if alphabet == _HEX:
            mark = self._hex
        elif alphabet == _LOWER:
            mark = self._letters.lower()
        else:
            mark = self._letters
        free = length - len(mark)
        if free < 2 or alphabet == string.digits:
            return self.plain(alphabet, length)
        before = free // 2
        return self.plain(alphabet, before) + mark + self.plain(alphabet, free - before)

    def plain(self, alphabet: str, length: int) -> str:
        """So many characters of an alphabet, no sign at either end."""
        ends = [char for char in alphabet if char.isalnum()]
        return "".join(self._random.choice(ends if at in (0, length - 1) else alphabet) for at in range(length))


Make = Callable[[Chance], str]


def _of(alphabet: str, length: int) -> Make:
    return lambda chance: chance.of(alphabet, length)


def _plain(alphabet: str, length: int) -> Make:
    return lambda chance: chance.plain(alphabet, length)


def _glued(*parts: str | Make) -> Make:
    return lambda chance: "".join(part if isinstance(part, str) else part(chance) for part in parts)


def _checked(prefix: str) -> Make:
    """GitHub's and npm's form: 30 characters, and their CRC32 in six digits of base 62."""

    def make(chance: Chance) -> str:
        entropy = chance.of(_ALNUM, 30)
        number, text = zlib.crc32(entropy.encode()), ""
        while number:
            number, rest = divmod(number, 62)
            text = _BASE62[rest] + text
        return prefix + entropy + text.rjust(6, "0")

    return make


def _grafana(chance: Chance) -> str:
    key = "gl" + "sa_" + chance.of(_ALNUM, 32)
    return f"{key}_{zlib.crc32(key.encode()).to_bytes(4, 'little').hex()}"


def _web_json(value: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def _jwt(chance: Chance) -> str:
    head = _web_json({"alg": "HS256", "typ": "JWT"})
    return f"{head}.{_web_json({'sub': chance.plain(_ALNUM, 12), 'iat': 1_700_000_000})}.{chance.of(_WEB, 43)}"


def _sentry(chance: Chance) -> str:
    value = {"iat": 1_700_000_000, "url": "https://sentry.example", "org": "shop"}
    return f"sntr{'ys_'}{base64.b64encode(json.dumps(value).encode()).decode()}_{chance.of(_BASE64, 43)}"


def _pem(label: str, lines: int, *, cut: bool = False) -> Make:
    def make(chance: Chance) -> str:
        body = [chance.of(_BASE64, 64) for _ in range(lines)]
        head, foot = (f"-----{word} {label}{'PRIVATE'} KEY-----" for word in ("BEGIN", "END"))
        return "\n".join([head, *body] if cut else [head, *body, chance.plain(_BASE64, 30) + "==", foot])

    return make


def _url(scheme: str, rest: str) -> Make:
    return lambda chance: f"{scheme}://shop:{chance.of(_ALNUM, 22)}@{rest}"


_DIGITS = _plain(string.digits, 2)  # letters alone may be a word, which is left to the tests of the scanner

FORMATS: dict[str, Make] = {
    "openai": _glued("sk", "-", _of(_ALNUM, 20), "T3Blbk", "FJ", _plain(_ALNUM, 20)),
    "openai-project": _glued("sk-", "proj-", _of(_WEB, 74), "T3Blbk", "FJ", _plain(_WEB, 74)),
    "openai-service-account": _glued("sk-", "svcacct-", _of(_WEB, 74), "T3Blbk", "FJ", _plain(_WEB, 74)),
    "openai-admin": _glued("sk-", "admin-", _of(_WEB, 58), "T3Blbk", "FJ", _plain(_WEB, 58)),
    "anthropic": _glued("sk-", "ant-", "api03-", _of(_WEB, 93), "AA"),
    "anthropic-oauth": _glued("sk-", "ant-", "oat01-", _of(_WEB, 93), "AA"),
    "google-api": _glued("AI", "za", _of(_WEB, 35)),
    "google-client-secret": _glued("GOC", "SPX-", _of(_WEB, 28)),
    "google-token": _glued("ya", "29.", _of(_WEB, 160)),
    "aws-key-id": _glued("AK", "IA", _of(_BASE32, 16)),
    "aws-pair": _glued("AWS_SECRET_", "ACCESS_KEY=", _of(_BASE64, 40)),
    "aws-session-token": _glued("AWS_SESSION_", "TOKEN=IQoJb3Jp", "Z2luX2Vj", _of(_BASE64, 340), "=="),
    "azure-storage": _glued("DefaultEndpointsProtocol=https;AccountName=shop;Account", "Key=", _of(_BASE64, 86), "=="),
    "azure-client-secret": _glued("AZURE_CLIENT_SECRET", "=", _plain(_ALNUM, 3), "8Q", "~", _of(_ALNUM + "._-~", 34)),
    "github": _checked("gh" + "p_"),
    "github-oauth": _checked("gh" + "o_"),
    "github-actions": _checked("gh" + "s_"),
    "github-refresh": _checked("gh" + "r_"),
    "github-fine-grained": _glued("github", "_pat_", _of(_ALNUM, 22), "_", _plain(_ALNUM, 59)),
    "gitlab": _glued("glp", "at-", _of(_WEB, 18), _DIGITS),
    "gitlab-deploy": _glued("gld", "t-", _of(_WEB, 18), _DIGITS),
    "hugging-face": _glued("h", "f_", _of(string.ascii_letters, 34)),
    "mistral": _glued("MISTRAL_API", "_KEY=", _of(_ALNUM, 30), _DIGITS),
    "groq": _glued("gs", "k_", _of(_ALNUM, 52)),
    "openrouter": _glued("sk-", "or-", "v1-", _of(_HEX, 64)),
    "slack-bot": _glued("xox", "b-", _plain(string.digits, 12), "-", _plain(string.digits, 13), "-", _of(_ALNUM, 24)),
    "slack-webhook": _glued(
        "https://hooks.slack", ".com/services/T0", _plain(_BASE32, 9), "/B0", _plain(_BASE32, 9), "/", _of(_ALNUM, 24)
    ),
    "stripe": _glued("sk", "_live_", _of(_ALNUM, 24)),
    "stripe-restricted": _glued("rk", "_live_", _of(_ALNUM, 99)),
    "twilio": _glued("S", "K", _of(_HEX, 32)),
    "sendgrid": _glued("S", "G.", _of(_WEB, 22), ".", _plain(_WEB, 43)),
    "npm": _checked("np" + "m_"),
    "pypi": _glued("py", "pi-", "AgEIcHlwaS5vcmc", _of(_WEB, 150)),
    "docker": _glued("dckr", "_pat_", _of(_WEB, 27)),
    "digitalocean": _glued("dop", "_v1_", _of(_HEX, 64)),
    "vault": _glued("hv", "s.", _of(_WEB, 24)),
    "databricks": _glued("da", "pi", _of(_HEX, 32)),
    "supabase": _glued("sb", "p_", _of(_HEX, 40)),
    "shopify": _glued("shp", "at_", _of(_HEX, 32)),
    "cloudflare": _glued("CLOUDFLARE_API", "_TOKEN=", _of(_WEB, 40)),
    "vercel": _glued("VERCEL", "_TOKEN=", _of(_ALNUM, 22), _DIGITS),
    "netlify": _glued("nf", "p_", _of(_ALNUM, 36)),
    "fly": _glued("Fly", "V1 fm", "2_", _of(_BASE64, 300)),
    "heroku": _glued("HR", "KU-AA", _of(_WEB, 58)),
    "linear": _glued("lin", "_api_", _of(_ALNUM, 40)),
    "notion": _glued("nt", "n_", _plain(string.digits, 11), _of(_ALNUM, 35)),
    "figma": _glued("fi", "gd_", _of(_WEB, 40)),
    "datadog": _glued("DD_API", "_KEY=", _of(_HEX, 32)),
    "sentry": _sentry,
    "grafana": _grafana,
    "jwt": _jwt,
    "private-key": _pem("RSA ", 24),
    "private-key-openssh": _pem("OPENSSH ", 6),
    "private-key-cut": _pem("", 3, cut=True),
    "postgres-url": _url("postgresql", "db.shop.test:5432/shop"),
    "amqp-url": _url("amqps", "mq.shop.test/v"),
    "basic-auth-url": _url("https", "registry.shop.test/simple"),
    "authorization": _glued("Authorization: Bearer ", _of(_ALNUM, 38), _DIGITS),
    "env": _glued("DB_PASS", "WORD=", _of(_ALNUM, 22), _DIGITS),
    "shell": _glued("export API_", "TOKEN=", _of(_ALNUM, 30), _DIGITS),
    "sentence": _glued("the password is ", _of(_ALNUM, 20), _DIGITS),
}
"""By name: the vendors' published forms, and those that a text around them tells."""

ONE_LINE = "github"
"""The format for places where only the way in matters: known anywhere in a text, without a context."""


@dataclass(slots=True)
class Planter:
    """Makes credentials that are told apart, and finds them again.

    Attributes:
        ways: where each one was planted, by its number.
    """

    ways: dict[int, str] = field(default_factory=dict[int, str])

    def plant(self, way: str, form: str = ONE_LINE) -> str:
        """A credential for one place."""
        number = len(self.ways) ^ _SCATTERED
        self.ways[number] = f"{way} [{form}]"
        made = FORMATS[form](Chance(number))
        assert {*self.named(made.encode())} == {self.ways[number]}
        return made

    def named(self, data: bytes) -> Iterator[str]:
        """Where those were planted that these bytes have: as they are, in either case, in UTF-16, in base64."""
        folded = data.lower()
        for found in (folded, folded.replace(b"\0", b"")) if b"\0" in folded else (folded,):
            for match in _FOUND.finditer(found):
                yield self._way(match[1], match[2])
        for form in _IN_BASE64:
            if form in data:
                yield f"something in base64: {form!r}"

    def _way(self, letters: bytes | None, digits: bytes | None) -> str:
        if letters is not None:
            number = int("".join(f"{_PLACES.index(chr(char).upper()):x}" for char in letters), 16)
        else:
            number = int(digits or b"0", 16)
        return self.ways.get(number, f"number {number}")

    def sweep(self, places: Iterable[tuple[str, bytes]], *, but: Callable[[str, str], bool] | None = None) -> list[str]:
        """What of it stands anywhere, each as `where: what`.

        Args:
            but: given where and what, whether it may stand there.
        """
        told: dict[str, None] = {}
        for where, data in places:
            for way in self.named(data):
                if but is None or not but(where, way):
                    told[f"{where}: {way}"] = None
        return list(told)


def _cores_in_base64() -> tuple[bytes, ...]:
    """What base64 makes of a mark at each of its three places, without what depends on the neighbours."""
    forms: list[bytes] = []
    for mark in (MARK, MARK.lower(), HEX_MARK):
        for shift in range(3):
            coded = base64.b64encode(b"." * shift + mark.encode())
            first, last = (shift * 8 + 5) // 6, (shift + len(mark)) * 8 // 6
            forms.append(coded[first:last])
    return tuple(forms)


_IN_BASE64 = _cores_in_base64()


def every_byte(*folders: Path) -> Iterator[tuple[str, bytes]]:
    """The files below folders with their names, and of each git repository every object, also one nothing leads to."""
    for folder in folders:
        repositories: list[Path] = []
        for parent, names, files in os.walk(folder):
            if "HEAD" in files and "objects" in names:
                repositories.append(Path(parent))
            for name in (*names, *files):
                yield f"the name {Path(parent, name)}", os.fsencode(name)
            for name in files:
                path = Path(parent, name)
                if path.is_symlink():
                    yield f"the link {path}", os.fsencode(path.readlink())
                elif path.is_file():
                    yield str(path), path.read_bytes()
        for repository in repositories:
            yield f"objects of {repository}", objects(repository)


def objects(repository: Path) -> bytes:
    """All objects of a git repository, unpacked: loose ones and packed ones, reachable or not."""
    listing = ["git", "--git-dir", str(repository), "cat-file", "--batch-all-objects", "--batch", "--unordered"]
    return subprocess.run(listing, capture_output=True, check=True, timeout=60).stdout
