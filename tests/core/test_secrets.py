"""The secret scanner: what it answers, what it refuses, what it leaves alone, and that nothing makes it slow or leaky.

Credentials are put together here at run time, so that this file has none.
"""

from __future__ import annotations

import pickle
import random
import string
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import Allowance, ConfigError, SecretRefused, SecretScanner, load_allowances

TOKEN = "gh" + "p_" + "x8Kd02LmQz71RtVb64NcYw93HsPfJe5UaTgi"
PASSWORD = "Kd02" + "!mQz71"
URL = "postgres://shop:" + PASSWORD + "@db.internal/shop"


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


def kinds(scanner: SecretScanner, text: str) -> list[str]:
    return [finding.kind for finding in scanner.scan(text)]


# --- What is answered --------------------------------------------------------------------------------


def test_a_finding_names_kind_line_and_masked_preview_and_never_the_secret(scanner: SecretScanner) -> None:
    (finding,) = scanner.scan(f"first\nsecond {TOKEN} here")
    assert (finding.kind, finding.line) == ("github-token", 2)
    assert finding.preview == f"{TOKEN[:4]}…{TOKEN[-2:]}"
    assert len(finding.fingerprint) == 16
    assert TOKEN[5:-3] not in repr(finding)


def test_short_secrets_show_less_of_themselves(scanner: SecretScanner) -> None:
    (finding,) = scanner.scan(f"password: {PASSWORD}")
    assert finding.preview == "…"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_are_counted_by_any_line_end(scanner: SecretScanner, end: str) -> None:
    text = end.join(["a", "b", f"the token {TOKEN}", "c", f"url {URL}"])
    assert [finding.line for finding in scanner.scan(text)] == [3, 5]


def test_spans_say_where_each_finding_is(scanner: SecretScanner) -> None:
    text = f"İstanbul 東京 😀 {TOKEN}\nand {URL}, {TOKEN}"
    spans = scanner.spans(text)
    assert tuple(span.finding for span in spans) == scanner.scan(text)
    assert text[spans[0].start : spans[0].end] == text[spans[2].start : spans[2].end] == TOKEN
    assert PASSWORD in text[spans[1].start : spans[1].end]
    assert scanner.spans("nothing here") == ()
    allowing = scanner.with_allowed([Allowance(spans[0].finding.fingerprint, "a sample")])
    assert allowing.spans(text) == spans[1:2]


def test_positions_hold_after_text_of_other_scripts(scanner: SecretScanner) -> None:
    before = "İstanbul, 東京, Ελλάδα 😀 "
    redacted, findings = scanner.redact(f"{before}{TOKEN} κ")
    assert redacted == f"{before}[redacted:github-token] κ"
    assert len(findings) == 1


def test_the_same_secret_has_the_same_fingerprint_in_any_text(scanner: SecretScanner) -> None:
    (one,) = scanner.scan(f"use {TOKEN}")
    (other,) = scanner.scan(f"# Notes\n\n- `{TOKEN}`\n")
    (third,) = scanner.scan(f"use {TOKEN[:-1]}A")
    assert one.fingerprint == other.fingerprint != third.fingerprint


def test_the_more_specific_kind_wins_where_two_apply(scanner: SecretScanner) -> None:
    assert kinds(scanner, f'api_token = "{TOKEN}"') == ["github-token"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (f"DB_PASSWORD={PASSWORD}", "password"),
        (f"the password for db.internal is {PASSWORD}.", "password"),
        (f"admin / {PASSWORD} (login)", "password"),
        (f"<password>{PASSWORD}</password>", "password"),
        (f"Das Passwort lautet {PASSWORD}", "password"),
        (f"Server=db;User Id=sa;Password={PASSWORD};", "password"),
        (f"curl -u deploy:{PASSWORD} https://ci.internal", "password"),
        (URL, "url-password"),
    ],
)
def test_passwords_are_found_where_people_put_them(scanner: SecretScanner, text: str, kind: str) -> None:
    assert kinds(scanner, text) == [kind]


# --- What is refused ---------------------------------------------------------------------------------


def test_check_refuses_with_place_kind_line_preview_and_what_to_do(scanner: SecretScanner) -> None:
    with pytest.raises(SecretRefused) as caught:
        scanner.check(f"hello\n{TOKEN}", where="the body")
    error = caught.value
    (finding,) = scanner.scan(f"hello\n{TOKEN}")
    assert "the body" in error.message
    assert "github-token in line 2" in error.message
    assert finding.preview in error.message
    assert error.hint is not None
    assert all(word in error.hint for word in ("redact=true", finding.fingerprint))
    assert "alg secrets allow" not in error.hint  # a model may read it
    assert error.details["findings"] == [
        {"kind": "github-token", "line": 2, "preview": finding.preview, "fingerprint": finding.fingerprint}
    ]
    assert TOKEN.encode() not in pickle.dumps(error)


def test_check_lets_clean_text_pass(scanner: SecretScanner) -> None:
    scanner.check("We meet at nine. The key point: pass the salt.", where="the body")


# --- What is redacted --------------------------------------------------------------------------------


def test_redaction_replaces_the_secret_and_nothing_else(scanner: SecretScanner) -> None:
    text = f"a\r\n  {URL}\r\n\tpassword: '{PASSWORD}' # why\r\n{TOKEN}\n"
    redacted, findings = scanner.redact(text)
    assert redacted == (
        "a\r\n  postgres://shop:[redacted:url-password]@db.internal/shop\r\n"
        "\tpassword: '[redacted:password]' # why\r\n[redacted:github-token]\n"
    )
    assert [finding.kind for finding in findings] == ["url-password", "password", "github-token"]
    assert scanner.scan(redacted) == ()


def test_redacting_twice_changes_nothing(scanner: SecretScanner) -> None:
    once, _ = scanner.redact(f"password={PASSWORD}, {URL}, Authorization: Bearer {TOKEN}")
    assert scanner.redact(once) == (once, ())


_pieces = st.sampled_from(
    [
        *(
            "password",
            "=",
            ": ",
            " is ",
            '"',
            "'",
            "`",
            "\\",
            "\n",
            " ",
            "://",
            "@",
            ":",
            "-----BEGIN ",
            "PRIVATE KEY-----",
        ),
        *(
            "-----END ",
            "api_key",
            "token",
            "secret",
            "Bearer ",
            "Basic ",
            "[redacted:password]",
            "<",
            ">",
            "&",
            "é",
            "\r\n",
        ),
        *(
            TOKEN,
            PASSWORD,
            URL,
            "AK" + "IA" + "Q3EXAM7LERT2VWYZ",
            "Ab1" * 20,
            "YTpiY2RlZjE=",
            "hunter" + "2x",
            "-u a:",
            "key-",
        ),
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(_pieces, max_size=25))
def test_whatever_is_redacted_scans_clean(pieces: list[str]) -> None:
    scanner = SecretScanner()
    redacted, findings = scanner.redact("".join(pieces))
    assert scanner.scan(redacted) == ()
    assert bool(findings) == bool(scanner.scan("".join(pieces)))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_scanned_without_an_error(text: str) -> None:
    SecretScanner().redact(text + "\ud800" + text)


# --- What is left alone -------------------------------------------------------------------------------

PLACEHOLDERS = (
    "<token>|xxxxxxxxxxxxxxxx|****************|$DB_PASSWORD|${DB_PASSWORD}|{{ password }}|%PASSWORD%|your-api-key"
    "|changeme|YOUR_API_KEY_HERE|os.environ['PASSWORD']|process.env.PASSWORD|<your password>|[password]"
    "|None|null|...|getpass()|config.password|self._password|REPLACE_ME|example-password-1|secrets.DB_PASSWORD|vault:secret/db#password"
)


@pytest.mark.parametrize("placeholder", PLACEHOLDERS.split("|"))
@pytest.mark.parametrize("form", ["password={}", "api_key: {}", 'SECRET_KEY = "{}"', "the password is {}", "Bearer {}"])
def test_a_placeholder_is_no_secret(scanner: SecretScanner, placeholder: str, form: str) -> None:
    assert scanner.scan(form.format(placeholder)) == ()


@pytest.mark.parametrize(
    "text",
    [
        "AK" + "IAIOSFODNN7EXAMPLE",
        "sk-" + "ant-" + "x" * 40,
        "gh" + "p_" + "0123456789" * 4,
        "postgres://user:password@localhost/db and amqp://guest:guest@localhost",
        "https://user:${TOKEN}@git.internal/x.git",
        "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
        "The file starts with -----BEGIN PRIVATE KEY----- and then the key follows.",
        "Authorization: Bearer <access-token>",
        "commit 3f2a9c1d5e8b7a604f1c2d3e4b5a69788796a5b4",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        '"integrity": "sha512-v2kDEe57lecTulaDIuNTPy3Ry4gLGJ6Z1O3vE1krgXZNrsQ+LFTGHVxVjcXPs17LhbZVGedAJv8XZ1tvj5FvSg"',
        "id: 01HV3Q8Z6T2M4N5P7R9S0W1X2Y\nlinks: 0190b0c4-5d5e-7c3a-9f5e-1a2b3c4d5e6f",
        "The token check is in commit 3f2a9c1d5e8b7a604f1c2d3e4b5a69788796a5b4.",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6h4vO1dQ2n8mXc7bY0kRzT5uWsE3pLqA9fGjHiKlMn me@host",
        "max_tokens: 128000\ntokenizer=bert-base-uncased-v2\nnext_page_token = 12",
        "def f(password: str, token: str | None = None) -> str: return token or self.tokens[0]",
        "password = hashlib.sha256(value).hexdigest()",
        "Pass `timeout=30` to it; bypass the cache; the compass says N45E.",
        "A password must have 8-12 characters, one of them a digit, and is hashed with sha256.",
        "The password is case-sensitive and the key is under the mat.",
        "primary_key=user_id_2024_backup, cache key: users/v2/2024-05-01",
        "The vault's key notes: journal/2024-05-01-retro.md; Azure token work in v2.4.7-hotfix-20240501-build7.",
        'class="sk-estimator-doc-link sk-toggleable__content"',
        "scikit: hf_hub_download_with_retries_and_timeout",
    ],
)
def test_ordinary_text_is_no_secret(scanner: SecretScanner, text: str) -> None:
    assert scanner.scan(text) == ()


def test_an_image_in_base64_is_no_secret(scanner: SecretScanner) -> None:
    data = "".join(random.Random(5).choices(string.ascii_letters + string.digits + "+/", k=200_000))  # noqa: S311
    assert scanner.scan(f"The token count fell: ![plot](data:image/png;base64,{data})") == ()


def test_lock_files_are_no_secret(scanner: SecretScanner) -> None:
    rng = random.Random(6)  # noqa: S311
    lines = [
        f'    {{ url = "https://files.host/packages/a{n}/secretstorage-{n}.tar.gz", '
        f'hash = "sha256:{"".join(rng.choices("0123456789abcdef", k=64))}" }},'
        for n in range(500)
    ]
    assert scanner.scan("\n".join(lines)) == ()


# --- What is allowed ----------------------------------------------------------------------------------


def test_an_allowed_fingerprint_passes_and_only_that_one(scanner: SecretScanner) -> None:
    text = f"{TOKEN}\npassword: {PASSWORD}"
    first, second = scanner.scan(text)
    allowing = scanner.with_allowed([Allowance(first.fingerprint, "revoked in 2023, kept as an example")])
    assert allowing.scan(text) == (second,)
    assert allowing.redact(text)[0] == f"{TOKEN}\npassword: [redacted:password]"
    assert scanner.scan(text) == (first, second)


def test_allowances_come_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets-allowed.yaml"
    assert load_allowances(path) == ()
    path.write_text("", encoding="utf-8")
    assert load_allowances(path) == ()
    # Digits only, and what YAML would take for a float: both are text here.
    path.write_text(
        "- fingerprint: 0123456789012345\n  reason: a sample\n- {fingerprint: 12345678901234e1, reason: another}\n",
        encoding="utf-8",
    )
    assert load_allowances(path) == (
        Allowance("0123456789012345", "a sample"),
        Allowance("12345678901234e1", "another"),
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("fingerprint: 0123456789abcdef\n", 1),
        ("- fingerprint: 0123456789abcdef\n  reason: ok\n- just text\n", 3),
        ("- fingerprint: short\n  reason: ok\n", 1),
        ("- fingerprint: 0123456789abcdef\n", 1),
        ("- fingerprint: 0123456789abcdef\n  reason: ''\n", 1),
        ("- fingerprint: 0123456789abcdef\n  reason: ok\n  until: 2030\n", 3),
        ("- fingerprint: 0123456789abcdef\n  reason: [a, b]\n", 2),
        ("- fingerprint: 0123456789abcdef\n  reason: 'open\n", 3),
        ("- !!python/object/apply:os.system [id]\n", 1),
        ("[" * 1000, 1),
    ],
)
def test_a_wrong_file_of_allowances_is_named_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "secrets-allowed.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_allowances(path)
    assert str(path) in caught.value.message
    assert caught.value.details["line"] == line


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"#" * 1_000_001])
def test_a_file_of_allowances_that_is_no_text_or_too_large_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "secrets-allowed.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"secrets-allowed\.yaml"):
        load_allowances(path)


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_allowances(tmp_path)


# --- Under load, and under attack --------------------------------------------------------------------


def test_threads_share_a_scanner(scanner: SecretScanner) -> None:
    texts = [f"number {n}\n" * (n % 7) + (f"{TOKEN}{n % 5}" if n % 3 else "clean") for n in range(400)]
    expected = [SecretScanner().scan(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(scanner.scan, texts)) == expected


def _run(code: str, *, timeout: float) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clean_text_never_costs_the_import_of_detect_secrets() -> None:
    code = """
import sys
from adaptive_llm_gateway.core import SecretScanner
SecretScanner().scan("The password is in the safe, the API key: see https://a.test/x1y2z3 and 9f86d081884c7d659a2f.")
print(sorted({"detect_secrets", "requests", "yaml"} & set(sys.modules)))
"""
    assert _run(code, timeout=60).strip() == "[]"


HOSTILE: dict[str, Callable[[int], str]] = {
    "one letter": lambda n: "a" * n,
    "letters and digits": lambda n: "aB3" * (n // 3),
    "prefixes": lambda n: "ghp_sk-eyJa." * (n // 12),
    "token heads": lambda n: "eyJaaaaaaaaaaaa." * (n // 16),
    "separators": lambda n: "://a:" * (n // 5),
    "long users": lambda n: ("://" + "a" * 120 + ":") * (n // 124),
    "names": lambda n: "password=" * (n // 9),
    "quoted names": lambda n: 'password="' * (n // 10),
    "sentences": lambda n: "the password for the " * (n // 21),
    "quotes": lambda n: "pass:\"'`\\" * (n // 9),
    "keys": lambda n: "api_key=token:secret " * (n // 21),
    "key runs": lambda n: ("api key " + "a1b2c3d4" + "e5f6g7h8 ") * (n // 25),
    "blanks": lambda n: ("password" + " " * 50) * (n // 58),
    "begin lines": lambda n: "-----BEGIN RSA PRIVATE KEY-----\n" * (n // 32),
    "end lines": lambda n: ("Ab1c" * 10 + "\n-----END RSA PRIVATE KEY-----\n") * (n // 71),
    "base64 lines": lambda n: "-----BEGIN PRIVATE KEY-----\n" + ("Ab1c" * 16 + "\n") * (n // 65),
    "braces": lambda n: "password={{[((" * (n // 14),
    "placeholders": lambda n: "password=[redacted:password]" * (n // 28),
    "options": lambda n: (" -u a:" + "bcdef1") * (n // 12),
    "digits": lambda n: "1234567890:" * (n // 11),
    "hexadecimal": lambda n: ("0123456789abcdef" * 2 + "-us") * (n // 35),
    "slugs": lambda n: "api key " + "12-a1-" * (n // 6) + "%",
    "nothing": lambda n: "\0\r\n" * (n // 3),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_scanned_and_redacted_in_bounded_time(name: str) -> None:
    # Linear work is a second or two of these 120,000 characters; anything quadratic would be hours.
    text = HOSTILE[name](120_000)
    redacted, _ = SecretScanner().redact(text)
    assert SecretScanner().scan(redacted) == ()


def test_a_line_of_five_million_characters_is_scanned() -> None:
    code = f"""
from adaptive_llm_gateway.core import SecretScanner
assert SecretScanner().scan("a1B_" * 1_250_000) == ()
found = SecretScanner().scan("x" * 2_500_000 + " {TOKEN[:8]}" + {TOKEN[8:]!r} + " " + "y1/" * 800_000)
assert [finding.kind for finding in found] == ["github-token"]
"""
    _run(code, timeout=120)


def test_a_refusal_of_very_many_secrets_lists_the_first_and_counts_the_rest() -> None:
    chance = random.Random(8)  # noqa: S311 - has to repeat
    tokens = ["ghp_" + "".join(chance.choices(string.ascii_letters + string.digits, k=36)) for _ in range(1_000)]
    with pytest.raises(SecretRefused) as refused:
        SecretScanner().check("\n".join(tokens), where="the body")
    assert refused.value.message.endswith("and 995 more")
    assert [found["line"] for found in refused.value.details["findings"]] == list(range(1, 101))
    assert refused.value.details["found"] == 1_000
