"""Credentials that were changed on their way into a text: encoded, escaped, split, in other letters, in another case.

Values are random and put together here, so that no file of this repository ever has a credential in it.
"""

from __future__ import annotations

import base64
import json
import quopri
import random
import string
import textwrap
import urllib.parse
import zlib
from collections.abc import Callable

import pytest

from adaptive_llm_gateway.core import SecretScanner
from adaptive_llm_gateway.core._secret_detectors import find_matches
from adaptive_llm_gateway.core._secret_encoded import DEPTH

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
WEB = ALNUM + "-_"
UPPER = string.ascii_uppercase + string.digits
BASE32 = string.ascii_uppercase + "234567"

Make = Callable[[random.Random], str]


def of(alphabet: str, length: int, *, start: str = "") -> Make:
    ends = [c for c in alphabet if c.isalnum()]
    return lambda rng: start + "".join([*rng.choices(alphabet, k=length - 1), rng.choice(ends)])


def joined(separator: str, *makes: Make) -> Make:
    return lambda rng: separator.join(make(rng) for make in makes)


def checked(prefix: str) -> Make:
    """GitHub's and npm's form, with the CRC32 of its 30 characters in base 62 at the end."""

    def make(rng: random.Random) -> str:
        body = "".join(rng.choices(ALNUM, k=30))
        number, check = zlib.crc32(body.encode()), ""
        for _ in range(6):
            number, rest = divmod(number, 62)
            check = (string.digits + string.ascii_uppercase + string.ascii_lowercase)[rest] + check
        return prefix + body + check

    return make


def jwt(rng: random.Random) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return ".".join([part({"alg": "HS256", "typ": "JWT"}), part({"sub": of(HEX, 12)(rng)}), of(WEB, 43)(rng)])


FORMATS: dict[str, Make] = {
    "openai project": of(WEB, 120, start="sk-" + "proj-"),
    "anthropic": of(WEB, 95, start="sk-" + "ant-api03-"),
    "openrouter": of(HEX, 64, start="sk-" + "or-v1-"),
    "google oauth secret": of(WEB, 28, start="GOC" + "SPX-"),
    "groq": of(ALNUM, 52, start="gs" + "k_"),
    "aws key id": of(BASE32, 16, start="AK" + "IA"),
    "github classic": checked("gh" + "p_"),
    "github server": checked("gh" + "s_"),
    "github fine-grained": joined("_", of(ALNUM, 22, start="github" + "_pat_"), of(ALNUM, 59)),
    "gitlab": of(WEB, 20, start="glp" + "at-"),
    "slack bot": joined("-", of(string.digits, 12, start="xox" + "b-"), of(string.digits, 12), of(ALNUM, 24)),
    "stripe live": of(ALNUM, 24, start="sk" + "_live_"),
    "stripe restricted": of(ALNUM, 99, start="rk" + "_live_"),
    "sendgrid": joined(".", of(WEB, 22, start="S" + "G."), of(WEB, 43)),
    "npm": checked("np" + "m_"),
    "pypi": of(WEB, 150, start="py" + "pi-AgEIcHlwaS5vcmc"),
    "docker": of(WEB, 27, start="dckr" + "_pat_"),
    "digitalocean": of(HEX, 64, start="dop" + "_v1_"),
    "vault": of(WEB, 24, start="hv" + "s."),
    "databricks": of(HEX, 32, start="da" + "pi"),
    "supabase": of(HEX, 40, start="sb" + "p_"),
    "shopify": of(HEX, 32, start="shp" + "at_"),
    "linear": of(ALNUM, 40, start="lin" + "_api_"),
    "notion": joined("", of(string.digits, 11, start="nt" + "n_"), of(ALNUM, 35)),
    "figma": of(WEB, 40, start="fi" + "gd_"),
    "grafana": joined("_", of(ALNUM, 32, start="gl" + "sa_"), of(HEX, 8)),
    "jwt": jwt,
}

Change = Callable[[str, random.Random], str]


def halves(value: str) -> tuple[str, str]:
    return value[: len(value) // 2], value[len(value) // 2 :]


def between(seam: str) -> Change:
    return lambda value, _: seam.join(halves(value))


def in_pieces(seam: str, size: int) -> Change:
    return lambda value, _: seam.join(value[at : at + size] for at in range(0, len(value), size))


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def wrapped(value: str, width: int, rng: random.Random) -> str:
    """Base64 of a text with the value in it, in lines."""
    noise = "\n".join(" ".join(rng.choices(("north", "copper", "maple", "line"), k=8)) for _ in range(3))
    return "\n".join(textwrap.wrap(encoded(f"{noise}\nVALUE={value}\n{noise}\n"), width))


def noise(rng: random.Random, length: int) -> str:
    return "".join(rng.choices(ALNUM, k=length))


def entities(value: str, _: random.Random) -> str:
    return "".join(f"&#{ord(c)};" if n % 2 else f"&#x{ord(c):x};" for n, c in enumerate(value))


# How a value is changed, and the formats that are not found then: too little tells them from chance, or half of one
# is too short to look twice at.
CHANGES: dict[str, tuple[Change, set[str]]] = {
    "base64": (lambda value, _: encoded(value), set()),
    "base64 without padding, for URLs": (
        lambda value, _: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
        set(),
    ),
    "base64 of a text with it": (lambda value, _: encoded(f"# staging\nAPP=shop\nVALUE='{value}'\nDEBUG=1\n"), set()),
    "base64 in lines of 76": (lambda value, rng: wrapped(value, 76, rng), set()),
    "base64 in lines of 64, quoted": (lambda value, rng: wrapped(value, 64, rng).replace("\n", "\n> "), set()),
    "a data URL of JSON": (
        lambda value, _: "data:application/json;base64," + encoded(json.dumps({"region": "eu", "value": value})),
        set(),
    ),
    "basic authorization": (lambda value, _: "Authorization: Basic " + encoded(f"ci:{value}"), set()),
    "base64 of base64": (lambda value, _: encoded(encoded(f"value={value}")), set()),
    "hex": (lambda value, _: value.encode().hex(), set()),
    "hex of a text with it, in capitals": (lambda value, _: f"a\nVALUE={value}\n".encode().hex().upper(), set()),
    "URL-encoded": (lambda value, _: "https://a.test/?v=" + urllib.parse.quote(f"'{value}'", safe=""), set()),
    "every character URL-encoded": (lambda value, _: "".join(f"%{ord(c):02x}" for c in value), set()),
    "every second character URL-encoded": (
        lambda value, _: "".join(f"%{ord(c):02X}" if n % 2 else c for n, c in enumerate(value)),
        set(),
    ),
    "URL-encoded twice": (
        lambda value, _: urllib.parse.quote("".join(f"%{ord(c):02X}" for c in value[:8]) + value[8:], safe=""),
        set(),
    ),
    "escaped as JSON does": (lambda value, _: "".join(f"\\u{ord(c):04x}" for c in value), set()),
    "its prefix escaped": (lambda value, _: "".join(f"\\x{ord(c):02x}" for c in value[:4]) + value[4:], set()),
    "HTML entities": (entities, set()),
    "escaped for Markdown": (lambda value, _: value.replace("_", "\\_").replace("-", "\\-").replace(".", "\\."), set()),
    "zero-width blanks in it": (in_pieces("\u200b", 5), set()),
    "soft hyphens in it": (in_pieces("\u00ad", 7), set()),
    "hyphens of a word processor": (lambda value, _: value.replace("-", "\u2011"), set()),
    "full-width": (
        lambda value, _: "".join(chr(ord(c) + 0xFEE0) for c in value),
        set(),
    ),
    "over two lines": (between("\n"), {"gitlab", "vault"}),
    "over two lines of a quoted mail": (between("\n> "), {"gitlab", "vault"}),
    "over two lines of YAML": (lambda value, _: "value: >-\n    " + "\n    ".join(halves(value)), {"gitlab", "vault"}),
    "a line continued": (between("\\\n"), set()),
    "strings with a plus": (lambda value, _: 'x = "{}" + "{}"'.format(*halves(value)), {"gitlab", "vault"}),
    "its prefix in a string of its own": (lambda value, _: f"x = '{value[:5]}' + '{value[5:]}'", set()),
    "strings in two lines": (
        lambda value, _: 'x = (\n    "{}"\n    "{}"\n)'.format(*halves(value)),
        {"gitlab", "vault"},
    ),
    "a JavaScript template": (lambda value, _: "x = `{}${{'{}'}}`".format(*halves(value)), {"gitlab", "vault"}),
    "quoted-printable": (
        lambda value, _: quopri.encodestring(f"{'x' * 40} {value}".encode()).decode(),
        {"gitlab", "vault"},
    ),
    "bold from the prefix on": (lambda value, _: f"{value[:5]}**{value[5:]}**", set()),
    "in HTML with a mark": (lambda value, _: "<b>{}</b><i>{}</i>".format(*halves(value)), {"gitlab", "vault"}),
    "within random letters": (lambda value, rng: noise(rng, 9) + value + noise(rng, 9), set()),
    "behind a word": (lambda value, _: f"staging{value}", set()),
    "behind an escaped line end": (lambda value, _: f'"first\\n{value}\\nlast"', set()),
    "capitals": (lambda value, _: value.upper(), {"jwt", "pypi", "gitlab"}),
    "small letters": (lambda value, _: value.lower(), {"jwt", "pypi", "gitlab"}),
}
SEED = 20261122
EACH = 2


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


def text_around(value: str, rng: random.Random) -> tuple[str, int, int]:
    """A text with this in it, and where."""
    words = [noise(rng, rng.randint(3, 12)) for _ in range(30)]
    before = f"# Notes\n\n{' '.join(words[:15])}.\n\n"
    return f"{before}{value}\n\nAnd {' '.join(words[15:])}.\n", len(before), len(before) + len(value)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_credential_is_found_and_redacted(change: str, scanner: SecretScanner) -> None:
    changed, missed = CHANGES[change]
    found: dict[str, int] = {}
    for name, make in FORMATS.items():
        for number in range(EACH):
            rng = random.Random(f"{SEED} {change} {name} {number}")  # noqa: S311 - has to repeat
            text, start, end = text_around(changed(make(rng), rng), rng)
            spans = scanner.spans(text)
            found[name] = found.get(name, 0) + any(span.start < end and start < span.end for span in spans)
            if number == 0:
                redacted, _ = scanner.redact(text)
                assert scanner.scan(redacted) == (), (change, name)
    least = {name for name in found if found[name] < EACH}
    assert least <= missed, (change, least)


WHOLE = (
    *("base64", "base64 of a text with it", "base64 in lines of 76", "base64 of base64", "hex"),
    *("every character URL-encoded", "URL-encoded twice", "escaped as JSON does", "HTML entities", "full-width"),
    *("escaped for Markdown", "zero-width blanks in it", "a line continued", "its prefix in a string of its own"),
)


@pytest.mark.parametrize("change", WHOLE)
def test_a_changed_credential_has_the_kind_and_the_fingerprint_that_it_has_as_it_is(
    change: str, scanner: SecretScanner
) -> None:
    """So that one allowance is for both."""
    rng = random.Random(f"{SEED} {change}")  # noqa: S311
    for name, make in FORMATS.items():
        value = make(rng)
        (plain,) = scanner.scan(f"It is {value} now.")
        text, _, _ = text_around(CHANGES[change][0](value, rng), rng)
        (span,) = scanner.spans(text)
        assert (span.finding.kind, span.finding.fingerprint) == (plain.kind, plain.fingerprint), name


def test_a_finding_is_where_the_encoded_form_is_and_redaction_leaves_the_rest(scanner: SecretScanner) -> None:
    token = checked("gh" + "p_")(random.Random(SEED))  # noqa: S311
    secret = encoded(token)
    text = f"kind: Secret\ndata:\n  user: YWRtaW4=\n  token: {secret}\n  region: ZXU=\n"
    (span,) = scanner.spans(text)
    assert span.finding.line == 4
    assert text[span.start : span.end] == secret
    redacted, (finding,) = scanner.redact(text)
    assert redacted == text.replace(secret, f"[redacted:{finding.kind}]")


def test_only_what_stands_for_the_credential_is_taken_out_of_an_encoded_text(scanner: SecretScanner) -> None:
    token = checked("np" + "m_")(random.Random(SEED))  # noqa: S311
    whole = encoded(f"north of the harbor there is a copper roof\nVALUE={token}\nand a maple in the garden of it\n")
    (span,) = scanner.spans(f"data: {whole}")
    part = base64.b64decode(whole[span.start - 6 : span.end - 6]).decode()
    assert token in part
    assert len(part) <= len(token) + 4


def test_a_word_after_a_token_at_the_end_of_a_line_is_no_part_of_it(scanner: SecretScanner) -> None:
    token = checked("gh" + "p_")(random.Random(SEED))  # noqa: S311
    text = f"We deploy with {token}\nnormally on Mondays.\n"
    (span,) = scanner.spans(text)
    assert text[span.start : span.end] == token


# --- What only looks like it ------------------------------------------------------------------------------------


def lines_of(data: bytes, width: int) -> str:
    return "\n".join(textwrap.wrap(base64.b64encode(data).decode(), width))


SIZE = 400_000
ORDINARY: dict[str, Callable[[random.Random], str]] = {
    "base64": lambda rng: base64.b64encode(rng.randbytes(SIZE)).decode(),
    "base64 in lines of 64": lambda rng: lines_of(rng.randbytes(SIZE // 4), 64),
    "base64 for URLs": lambda rng: base64.urlsafe_b64encode(rng.randbytes(SIZE)).decode(),
    "letters and digits": lambda rng: noise(rng, SIZE),
    "hex": lambda rng: rng.randbytes(SIZE // 2).hex(),
    "escaped bytes": lambda rng: "".join(f"\\x{byte:02x}" for byte in rng.randbytes(SIZE // 16)),
    "URL-encoded bytes": lambda rng: "".join(f"%{byte:02X}" for byte in rng.randbytes(SIZE // 16)),
    "base64 of prose": lambda rng: encoded(
        " ".join(rng.choices(("the", "harbor", "of", "copper", "is"), k=SIZE // 16))
    ),
    "base64 of code": lambda rng: encoded(
        "".join(f"const {noise(rng, 3)}1 = require('./lib/{noise(rng, 5)}.js');\n" for _ in range(SIZE // 128))
    ),
    "hashes of a lock file": lambda rng: "".join(
        f'  "integrity": "sha512-{base64.b64encode(rng.randbytes(64)).decode()}",\n' for _ in range(SIZE // 256)
    ),
    "short ids": lambda rng: " ".join(
        base64.urlsafe_b64encode(rng.randbytes(16)).decode().rstrip("=") for _ in range(SIZE // 64)
    ),
    "a certificate": lambda rng: (
        f"-----BEGIN CERTIFICATE-----\n{lines_of(rng.randbytes(SIZE // 64), 64)}\n-----END CERTIFICATE-----\n"
    ),
    "public keys": lambda rng: "".join(
        f"ssh-rsa {base64.b64encode(bytes(7) + b'ssh-rsa' + rng.randbytes(256)).decode()} me@host\n" for _ in range(99)
    ),
    "a source map": lambda rng: (
        '{"version":3,"mappings":"' + ";".join("".join(rng.choices("ACDEGIMQU", k=8)) for _ in range(9999)) + '"}'
    ),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_is_random_or_ordinary_text_when_it_is_decoded_is_no_secret(name: str) -> None:
    text = ORDINARY[name](random.Random(f"{SEED} {name}"))  # noqa: S311
    # Beside what is taken for one as it stands.
    plain = find_matches(text, DEPTH)
    assert [match for match in find_matches(text) if match not in plain] == []


def test_wrapped_prose_and_tables_of_names_are_no_secret(scanner: SecretScanner) -> None:
    text = (
        "The prefixes of GitHub are `ghp_`, `gho_` and `ghs_`\nsince 2021; a variable NPM_CONFIG_REGISTRY\n"
        'or `HF_HUB_ENABLE_HF_TRANSFER` is none. ["ghp_", "gho_", "glpat-"] + ["sk-"]\n'
        "See https://host.test/a%20b/task-runner-2024-05-01%2Fx and C:\\users\\x86\\disk-5f3a9c1d5e8b7a604f1c2d3e4b5a\n"
        "asiapacificnortheast2 and monkey-0123456789abcdef0123456789abcde1 stand\nin a row.\n"
    )
    assert scanner.scan(text) == ()
