"""Credentials in declarations: something stands between a name and its value. Values are made from a seed."""

from __future__ import annotations

import random
import string

import pytest

from adaptive_llm_gateway.core import SecretScanner

FORMS = (
    'NAME: str = "IT"',
    'private let NAME: String = "IT"',
    'const NAME: &str = "IT";',
    'const NAME: &\'static str = "IT";',
    "private readonly NAME: string = 'IT';",
    "var NAME string = `IT`",
    'Dim NAME As String = "IT"',
    'NAME : constant String := "IT";',
    'char NAME[] = "IT";',
    'static const char NAME[64] = "IT";',
    'public string NAME { get; set; } = "IT";',
    'const std::string NAME{"IT"};',
    'NAME <- "IT"',
    "const x = process.env.NAME || 'IT';",
    "const x = process.env.NAME ?? 'IT';",
    "{ NAME:: 'IT' }",
    '{NAME, "IT"}.',
    "NAME('IT').",
    "set NAME {IT}",
    'set NAME to "IT"',
    'NAME="${NAME:-IT}"',
    '@Value("${NAME:IT}")',
    "<NAME><![CDATA[IT]]></NAME>",
    "- name: NAME\n  value: IT",
    '{"name": "NAME", "value": "IT"}',
    '- name: NAME\n  value: "IT"',
    '#define NAME "IT"',
    '(def NAME "IT")',
    "01 NAME PIC X(64) VALUE 'IT'.",
)
NAMES = (
    "password",
    "dbPassword",
    "db_password",
    "apiKey",
    "secret_key",
    "clientSecret",
    "auth_token",
    "ENCRYPTION_KEY",
)
LEFT = (
    'passwordLabel: string = "Passw0rd-2024-label"',
    'const tokenType: &str = "bearer"',
    'var key string = "users/2024/march"',
    'public string KeyPrefix { get; set; } = "v2-keys-2024";',
    "const name = process.env.TOKEN || 'no-token-was-given';",
    'def check(password: str = "", token: str | None = None) -> str: ...',
    'secretName: string = "shop-db-credentials"',
    'for token in tokens: print("token", "another word")',
    "password: Optional[str] = Field(description='The password of the user')",
    'NAME="${PASSWORD:-$OTHER_PASSWORD}"',
    "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: db-credentials-2024",
    'get_key("primary_key_of_table_2")',
    '#define KEY_UP "ctrl-alt-arrow-up-1"',
    'tokens <- strsplit(text, "[a-z0-9]+")',
)


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


def value(rng: random.Random) -> str:
    letters = string.ascii_letters + string.digits
    return "".join([rng.choice(string.ascii_uppercase), *rng.choices(letters, k=22), rng.choice("23456789"), "x"])


@pytest.mark.parametrize("form", FORMS)
def test_a_credential_is_found_in_a_declaration(scanner: SecretScanner, form: str) -> None:
    rng = random.Random(form)  # noqa: S311 - has to repeat
    missed = 0
    for name in NAMES:
        it = value(rng)
        text = form.replace("NAME", name).replace("IT", it)
        spans = scanner.spans(text)
        missed += not any(it in text[span.start : span.end] for span in spans)
    assert missed <= 1


@pytest.mark.parametrize("text", LEFT)
def test_what_only_speaks_of_a_password_or_a_key_is_none(scanner: SecretScanner, text: str) -> None:
    assert scanner.scan(text) == ()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("placeholder", ["<password>", "changeme", "${SECRET}", "xxxxxxxxxxxx", "YOUR_KEY_HERE"])
def test_a_placeholder_in_a_declaration_is_none(scanner: SecretScanner, form: str, placeholder: str) -> None:
    assert scanner.scan(form.replace("NAME", "apiKey").replace("IT", placeholder)) == ()


@pytest.mark.parametrize(
    "piece",
    [
        "password: ",
        "secret: str",
        "token {",
        "api_key[",
        "key <- ",
        "name: api_key\n value: ",
        "password ::",
        "${token:-",
        "`",
    ],
)
def test_pieces_of_declarations_are_scanned_in_bounded_time(scanner: SecretScanner, piece: str) -> None:
    # Linear work is a second of these 120,000 characters; anything quadratic would be hours.
    scanner.scan(piece * (120_000 // len(piece)))
