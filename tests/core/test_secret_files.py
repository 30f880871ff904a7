"""Credentials in the places of known tools' files: found whatever they look like, and only there.

`secret_files.txt` has the files, each after a line `=== name`: `{word}` in one is a weak password made at run time,
`{random}` a strong one, and so on as `VALUES` says. No file here has a credential in it.
"""

from __future__ import annotations

import base64
import random
import re
import string
from collections.abc import Callable
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import SecretScanner

ALNUM = string.ascii_letters + string.digits
CRYPT = ALNUM + "./"


def _of(alphabet: str, length: int) -> Callable[[random.Random], str]:
    return lambda rng: "".join(rng.choices(alphabet, k=length - 2)) + rng.choice("Qx") + rng.choice("37")


def _word(rng: random.Random) -> str:
    word = "".join(rng.choice("bfgklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(3, 4)))
    return word + rng.choice(["", "", "1", "77"])


def _pair(rng: random.Random) -> str:
    return base64.b64encode(f"ci:{_word(rng)}".encode()).decode()


VALUES: dict[str, Callable[[random.Random], str]] = {
    "word": _word,
    "random": _of(ALNUM, 18),
    "salt": _of(ALNUM + "!@#%^&*()-_[]<>~`+=,.;:/?|", 64),
    "hex32": lambda rng: f"{rng.getrandbits(120) + (11 << 124):032x}",
    "hex10": lambda rng: f"0{rng.getrandbits(32) | 0x80000000:08X}A",
    "hex40": lambda rng: f"{rng.getrandbits(150) + (11 << 156):040x}",
    "crypt": lambda rng: "$" + "6$" + _of(ALNUM, 12)(rng) + "$" + _of(CRYPT, 86)(rng),
    "apr1": lambda rng: "$ap" + "r1$" + _of(ALNUM, 8)(rng) + "$" + _of(CRYPT, 22)(rng),
    "bcrypt": lambda rng: "$2" + "y$10$" + _of(CRYPT, 53)(rng),
    "md5": lambda rng: "$" + "1$" + _of(ALNUM, 4)(rng) + "$" + _of(CRYPT, 22)(rng),
    "sha": lambda rng: "{SH" + "A}" + base64.b64encode(rng.randbytes(20)).decode(),
    "des": _of(CRYPT, 13),
    "word64": lambda rng: base64.b64encode(_word(rng).encode()).decode(),
    "pair64": _pair,
    "long64": lambda rng: "LS0tLS1CRUdJTi" + _of(ALNUM, 60)(rng),
    "nss": lambda rng: "MDIEEPg" + "A" * 22 + "EwFAYIKoZIhvcNAwcECF" + _of(ALNUM, 28)(rng),
    "sealed": lambda rng: "{AQAAABAAAAAQ" + _of(ALNUM, 43)(rng) + "=}",
}


def fill(template: str, seed: int) -> tuple[str, int]:
    """The text of a template, and how many credentials it has."""
    rng = random.Random(f"{seed}")  # noqa: S311 - has to repeat
    count = 0

    def value(mark: re.Match[str]) -> str:
        nonlocal count
        count += 1
        return VALUES[mark[1]](rng)

    return re.sub(r"\{(" + "|".join(VALUES) + r")\}", value, template), count


def _templates() -> dict[str, str]:
    text = Path(__file__).with_name("secret_files.txt").read_text(encoding="utf-8")
    parts = re.split(r"^=== (.+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


FILES = _templates()


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FILES)
def test_each_credential_of_a_known_file_is_found_however_weak(scanner: SecretScanner, name: str, seed: int) -> None:
    text, count = fill(FILES[name], seed)
    spans = scanner.spans(text)
    assert len(spans) == count, [span.finding for span in spans]


@pytest.mark.parametrize("name", FILES)
def test_what_is_found_in_a_known_file_is_gone_after_redaction(scanner: SecretScanner, name: str) -> None:
    text, _ = fill(FILES[name], 99)
    assert scanner.scan(scanner.redact(text)[0]) == ()


PLACEHOLDERS = (
    "<token>|xxxxxxxx|changeme|$PASSWORD|${PASSWORD}|{{password}}|%(password)s|password|CHANGEME|example|****"
)
WITH_ONE_VALUE = [
    name
    for name, template in FILES.items()
    if "{word}" in template and not re.search(r"\{(?!word\})(?:" + "|".join(VALUES) + r")\}", template)
]


@pytest.mark.parametrize("placeholder", PLACEHOLDERS.split("|"))
@pytest.mark.parametrize("name", WITH_ONE_VALUE)
def test_a_placeholder_in_a_known_file_is_no_secret(scanner: SecretScanner, name: str, placeholder: str) -> None:
    assert scanner.scan(FILES[name].replace("{word}", placeholder)) == ()


PROSE = (
    "The password is kept in the vault, and nobody but the two of us may see it there.\n\n"
    "Whoever needs one asks the owner of the server, who then makes a new one for them.\n\n"
)


@pytest.mark.parametrize(
    "lines",
    [
        "password: {word}",
        "machine ftp.shop.test login deploy password {word}",
        "mysql -u root -p{word} shop",
        "localhost:5432:shop:deploy:{word}",
        '"password": "{word}",',
        "$password = '{word}';",
        "deploy:{apr1}",
        "psk={word}",
    ],
)
def test_a_weak_value_amid_prose_is_no_secret(scanner: SecretScanner, lines: str) -> None:
    line, _ = fill(lines.replace("{word}", "marble"), 1)
    assert scanner.scan(f"# Notes\n\n{PROSE}{line}\n\n{PROSE}") == ()
    assert scanner.scan(f"{PROSE}```\nhost: a.test\n{line}\n```\n{PROSE}") == ()


@pytest.mark.parametrize(
    "text",
    [
        '{\n  "login": "Anmelden",\n  "username": "Benutzername",\n  "password": "Passwort"\n}\n',
        "login:\n  username: Nom\n  password: Motdepasse\n  submit: Envoyer\n",
        '<resources>\n<string name="password">Passwort</string>\n</resources>\n',
        '{\n  "dependencies": {\n    "minipass": "^7.0.3",\n    "host": "1.2.3"\n  }\n}\n',
        "<settings>\n<!-- <username>repouser</username>\n<password>repopwd</password> -->\n</settings>\n",
        "properties:\n  password:\n    type: string\n    format: password\n  port: 8080\n",
        "port: 22\npassword_file: /run/secrets/db\npasswordCommand: pass show db\n",
        "[server]\nport = 80\npassword =\nuser = root\n",
        "mkdir -p build\nssh -p 2222 shop.test\nmysql -u root -p shop\ncp -a one two\nls -a\n",
        "def test():\n    check('''\n            machine host.test login log password river account acct\n''')\n",
        "def test_login():\n    client.login(username='river', password='marble')\n",
        "root:x:0:0:root:/root:/bin/bash\nme:x:1000:1000::/home/me:/bin/zsh\n",
        "INSERT INTO orders (id, note, token_count) VALUES (1, 'river', 44);\n",
        "CREATE TABLE users (id int, password varchar(60));\n",
        "define('AUTH_KEY', 'put your unique phrase here');\n",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b\n",
        "build\nv2.4.7\n",
        "apiVersion: v1\nkind: Secret\ndata:\n  username: c2hvcA==\n",
    ],
)
def test_files_without_a_credential_are_left_alone(scanner: SecretScanner, text: str) -> None:
    assert scanner.scan(text) == ()


HOSTILE: dict[str, str] = {
    "names": "pass=",
    "blanks": "pass" + " " * 90,
    "short names": "pw=",
    "psk": 'psk="',
    "accounts": "a:$6$",
    "crypt": "a:$6$" + "b" * 60,
    "machines": "machine a login b ",
    "machine lines": "machine a\nlogin b\n",
    "ports": "a:5432:",
    "stars": "a:*:",
    "rows": "insert into users (password) values (",
    "open rows": "insert into users (password) values ('",
    "tables": "create table users (",
    "copies": "copy users (password) from stdin;\n",
    "statements": "identified by ",
    "logins": "a.login('b',",
    "connections": "mysql_connect('a','b',",
    "defines": "define('AUTH_KEY','",
    "options": "mysql -p",
    "spaced options": "sshpass -p  -p ",
    "pipes": "echo a | ",
    "urls": "://a:bcde@",
    "url lines": "https://a:bcde@f\n",
    "elements": "<pass>",
    "settings of XML": '<a name="pass"',
    "comments": "<!-- pass>",
    "manifests": "kind: secret\ndata:\n",
    "data": "kind: secret\n---\ndata:\n  a: YWJj\n",
    "auth": '"auth": "' + "Ab1" * 30,
    "npm": "\n_auth=",
    "firefox": '"encryptedpassword": "',
    "network": "hostname a\nsecret 5 $",
    "network on one line": "password community ",
    "exports": "export A_PASS",
    "digests": "a:b:\n",
    "keys": "SECRET_KEY='",
    "providers": "provider :a,'bcde','",
    "nagios": "$USER1$=",
    "hosts": "host=a pass=b ",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_take_bounded_work(name: str) -> None:
    # Linear work is a second or two of these 200,000 characters; anything quadratic would be hours.
    text = HOSTILE[name] * (60_000 // len(HOSTILE[name]))
    for variant in (text, "<" + text, "<?php " + text):
        SecretScanner().scan(variant)
