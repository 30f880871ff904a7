"""Passwords and keys as programs and people give them to a name: every form, with values made at run time."""

from __future__ import annotations

import random
import string

import pytest

from adaptive_llm_gateway.core import SecretScanner

ALNUM = string.ascii_letters + string.digits

PROGRAMS = (
    r"""
NAME : constant String := "IT";
set NAME to "IT"
NAME db "IT", 0
NAME="${NAME:-IT}"
set NAME=IT
char NAME[] = "IT";
const std::string NAME{"IT"};
public string NAME { get; set; } = "IT";
01 NAME PIC X(64) VALUE 'IT'.
NAME : String = "IT"
config :shop, NAME: "IT"
{NAME, "IT"}.
var NAME string = `IT`
@Value("${NAME:IT}")
const x = process.env.NAME || 'IT';
const x = env.NAME ?? 'IT';
{ NAME:: 'IT' }
NAME('IT').
NAME: str = "IT"
os.environ.get("NAME", "IT")
NAME <- "IT"
const NAME: &str = "IT";
let NAME: String = "IT"
set NAME {IT}
Dim NAME As String = "IT"
<NAME><![CDATA[IT]]></NAME>
<property name="NAME" value="IT"/>
- name: NAME
  value: IT
private readonly NAME: string = "IT";
""".replace("\n  ", "\0  ")
    .strip()
    .split("\n")
)
PEOPLE = """
The NAME is IT
The NAME is `IT`.
NAME -> IT
NAME → IT
The NAME:\0\0    IT
The NAME:\0IT\0
**NAME**: IT
| name | value |\0|---|---|\0| NAME | IT |
I set the NAME to 'IT', then restarted.
> NAME: IT
""".strip().split("\n")
LANGUAGES = """
Das Passwort lautet IT
Passwort: IT
Kennwort für den Server: IT
La contraseña es IT
contraseña: IT
A senha é: IT
Het wachtwoord is IT
""".strip().split("\n")


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


def key(seed: int) -> str:
    rng = random.Random(f"key {seed}")  # noqa: S311 - has to repeat
    return "".join(rng.choices(ALNUM, k=30)) + "7Q"


def password(seed: int) -> str:
    rng = random.Random(f"password {seed}")  # noqa: S311
    return (
        "".join(rng.choices(string.ascii_letters, k=9)) + "".join(rng.choices(string.digits, k=3)) + rng.choice("!#*")
    )


def found(scanner: SecretScanner, form: str, name: str, value: str) -> bool:
    text = form.replace("\0", "\n").replace("NAME", name).replace("IT", value) + "\n"
    return any(value in text[span.start - 1 : span.end + 1] for span in scanner.spans(text))


@pytest.mark.parametrize("form", [*PROGRAMS, *PEOPLE])
@pytest.mark.parametrize("name", ["password", "dbPassword", "DB_PASSWORD", "smtp_password"])
def test_a_password_is_found_in_each_form_of_giving_it(scanner: SecretScanner, form: str, name: str) -> None:
    assert all(found(scanner, form, name, password(seed)) for seed in range(5))


@pytest.mark.parametrize("form", PROGRAMS)
@pytest.mark.parametrize("name", ["api_key", "clientSecret", "AUTH_TOKEN", "secret_key"])
def test_a_key_is_found_in_each_form_of_giving_it(scanner: SecretScanner, form: str, name: str) -> None:
    assert all(found(scanner, form, name, key(seed)) for seed in range(5))


@pytest.mark.parametrize("form", LANGUAGES)
def test_a_password_is_found_in_sentences_of_other_languages(scanner: SecretScanner, form: str) -> None:
    assert all(found(scanner, form, "", password(seed)) for seed in range(5))


@pytest.mark.parametrize("form", [*PROGRAMS, *PEOPLE])
@pytest.mark.parametrize("value", ["<password>", "changeme", "your-password", "xxxxxxxx", "string"])
def test_a_placeholder_in_such_a_form_is_no_secret(scanner: SecretScanner, form: str, value: str) -> None:
    assert scanner.scan(form.replace("\0", "\n").replace("NAME", "password").replace("IT", value)) == ()
