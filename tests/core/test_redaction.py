"""Marks in the place of credentials: what they tell, what they keep as it is, and that nothing hides in one.

Credentials are put together here at run time, so that this file has none.
"""

from __future__ import annotations

import ast
import json
import random
import re
import string
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from adaptive_llm_gateway.core import (
    MARK_KEY_BYTES,
    Allowance,
    SecretScanner,
    mark_of,
)
from adaptive_llm_gateway.core._secret_detectors import _PLUGINS  # pyright: ignore[reportPrivateUsage]
from adaptive_llm_gateway.core._secret_formats import _TABLE  # pyright: ignore[reportPrivateUsage]
from adaptive_llm_gateway.core._secret_vendors import VENDORS

KEY = bytes(range(MARK_KEY_BYTES))
OTHER_KEY = bytes(reversed(KEY))
TOKEN = "gh" + "p_" + "x8Kd02LmQz71RtVb64NcYw93HsPfJe5UaTgi"
PASSWORD = "Kd02" + "!mQz71"
SCANNER = SecretScanner(mark_key=KEY)
MARK = re.compile(r"\[redacted:([a-z0-9-]+)#([0-9a-f]{4})\]")


def pem(*, seed: int = 1, lines: int = 6, last: int = 20) -> list[str]:
    rng = random.Random(seed)  # noqa: S311 - a key that opens nothing
    letters = string.ascii_letters + string.digits + "+/"
    body = ["".join(rng.choices(letters, k=64)) for _ in range(lines)]
    body[0] = "MII" + body[0][3:]
    return [
        "-----BEGIN " + "RSA PRIVATE KEY-----",
        *body,
        "".join(rng.choices(letters, k=last)),
        "-----END " + "RSA PRIVATE KEY-----",
    ]


# --- What a mark tells -------------------------------------------------------------------------------------


def test_a_mark_names_the_kind_and_four_digits_of_a_keyed_hash() -> None:
    text, (done,) = SCANNER.redact(f"first\nthe token {TOKEN}.")
    assert text == f"first\nthe token {done.mark}."
    assert MARK.fullmatch(done.mark)
    assert (done.kind, done.line) == ("github-token", 2)
    assert not any(piece in repr(done) for piece in (TOKEN[:6], TOKEN[-4:]))


def test_equal_secrets_have_equal_marks_and_others_have_others() -> None:
    again = SecretScanner(mark_key=KEY).redact(f"- `{TOKEN}`\n")[0]
    assert SCANNER.redact(TOKEN)[0] in again
    marks = {SCANNER.redact(TOKEN[:-2] + pair)[0] for pair in ("aa", "ab", "ac", "ba", "bb", "bc")}
    assert len(marks) == 6


def test_a_mark_depends_on_the_key_and_without_one_has_no_hash() -> None:
    assert SCANNER.redact(TOKEN)[0] != SecretScanner(mark_key=OTHER_KEY).redact(TOKEN)[0]
    assert SecretScanner().redact(TOKEN)[0] == "[redacted:github-token]"


def test_the_hash_is_of_the_secret_alone_so_that_kinds_do_not_part_equal_secrets() -> None:
    one, other = mark_of("password", PASSWORD, KEY), mark_of("url-password", PASSWORD, KEY)
    assert one.partition("#")[2] == other.partition("#")[2]


def test_other_allowances_leave_the_marks_as_they_are() -> None:
    assert SCANNER.with_allowed([Allowance("0" * 16, "another")]).redact(TOKEN) == SCANNER.redact(TOKEN)


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused_and_not_shown(length: int) -> None:
    key = b"\xabA" * length
    with pytest.raises(ValueError, match="32") as caught:
        SecretScanner(mark_key=key[:length])
    assert not length or repr(key[:length])[2:-1] not in str(caught.value)


def test_the_key_is_in_nothing_that_a_scanner_shows() -> None:
    shown = repr(SCANNER) + str(SCANNER.redact(TOKEN)) + str(SCANNER.scan(TOKEN))
    assert KEY.hex() not in shown
    assert repr(KEY)[2:-1] not in shown


def test_every_kind_that_a_detector_names_makes_a_mark_of_that_kind() -> None:
    kinds = {row[0] for row in _TABLE} | {kind for _, _, kind in _PLUGINS.values()}
    kinds |= (
        {f"{vendor}-key" for vendor in VENDORS}
        | {"azure-client-secret", "registry-login"}
        | {"password", "url-password", "private-key", "api-key"}
    )
    assert [kind for kind in sorted(kinds) if not mark_of(kind, TOKEN, KEY).startswith(f"[redacted:{kind}#")] == []


@pytest.mark.parametrize("kind", ["", "a1b2c3", "x" * 60, "two words", "Kd02!mQz71", "a]b", "a#b"])
def test_a_kind_that_no_mark_can_hold_is_called_a_secret(kind: str) -> None:
    assert re.fullmatch(r"\[redacted:secret#[0-9a-f]{4}\]", mark_of(kind, TOKEN, KEY))


# --- A mark is none of what it stands for ------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark",
    [
        "[redacted:github-token#ab12]",
        "[redacted:password#0000]",
        "[redacted:auth0-key#9f3c]",
        "[redacted:password#1]",
        "[redacted:password]",
        "[REDACTED:password]",
        "[REDACTED:github-token]",
        "[REDACTED:EMAIL_1]",
        "[redacted]",
        "[REDACTED]",
    ],
)
@pytest.mark.parametrize(
    "form",
    [
        "password={}",
        'password: "{}"',
        "API_KEY={}",
        "api_key: '{}'",
        "Authorization: Bearer {}",
        "the password is {}",
        "postgres://shop:{}@db.internal/shop",
        "curl -u deploy:{} https://ci.internal",
        "admin / {} (login)",
        "secret = {0}{0}",
    ],
)
def test_a_mark_is_no_secret_wherever_it_stands(mark: str, form: str) -> None:
    text = form.format(mark)
    assert SCANNER.scan(text) == ()
    assert SCANNER.redact(text) == (text, ())


@pytest.mark.parametrize(
    "text",
    [
        "[redacted:github-token#{token}]",
        "[redacted:{token}]",
        "[REDACTED:{token}]",
        "[redacted:{token}#ab12]",
        "[redacted:github-token#ab12]{token}",
        "[redacted:password#ab12] password={password}",
        "password=[redacted:password#{password}]",
        'password: "[redacted:{password}]"',
        "password=[redacted:password:{password}]",
        "password=[REDACTED:{password}]",
        "password=[redacted:{plain}#ab12]",
        "password=[redacted:{plain}]",
        "password=[redacted:[redacted:password#ab12]{password}]",
        "password=[redacted:password#{plain}]",
        "password=[redacted:password#{password}",
        "password=[redacted:password#ab12]{password}",
        "api_key=[redacted:key#{hex}]",
        "postgres://shop:[redacted:url-password#{password}]@db.internal/shop",
    ],
)
def test_nothing_hides_in_what_looks_like_a_mark(text: str) -> None:
    given = text.format(token=TOKEN, password=PASSWORD, plain="Kd02mQz7" + "1x", hex="3f9a1c77d0" + "b84e52a6c1")
    assert SCANNER.scan(given)
    redacted, done = SCANNER.redact(given)
    assert done
    assert not any(secret in redacted for secret in (TOKEN, PASSWORD, "Kd02mQz7", "b84e52a6c1"))
    assert SCANNER.scan(redacted) == ()


# --- What stays as it is -----------------------------------------------------------------------------------

_FILLING = st.text(st.characters(codec="utf-8", exclude_characters="[]"), max_size=30)
_SECRETS = st.sampled_from(
    [TOKEN, f"password={PASSWORD}", f"postgres://u:{PASSWORD}@h/d", "\n".join(pem()), "\r\n".join(pem(seed=2))]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(_FILLING, _SECRETS), max_size=4), _FILLING)
@example([("HASH", f"password={PASSWORD}")], "")  # what is a hash is said on its own line
def test_redacting_twice_changes_nothing_and_lines_stay_in_their_places(parts: list[tuple[str, str]], end: str) -> None:
    text = "".join(f"{filling}\n{secret}\n" for filling, secret in parts) + end
    once, done = SCANNER.redact(text)
    assert SCANNER.redact(once) == (once, ())
    assert re.findall(r"\r\n|\n|\r", once) == re.findall(r"\r\n|\n|\r", text)
    assert len(done) >= len(parts)
    lines = re.split(r"\r\n|\n|\r", once)
    assert all(each.mark in lines[each.line - 1] for each in done)


@settings(max_examples=200, deadline=None)
@given(_FILLING, _FILLING)
@example("nvapi-", "")  # the line before and the token may be one credential that was wrapped
def test_what_stands_around_a_mark_is_kept_character_for_character(before: str, after: str) -> None:
    text = f"{before}\n{TOKEN}\n{after}"
    redacted, done = SCANNER.redact(text)
    if len(done) == 1:
        [span] = SCANNER.spans(text)
        assert redacted.startswith(text[: span.start])
        assert redacted.endswith(text[span.end :])
        if text[span.start : span.end] == TOKEN:
            assert redacted == f"{before}\n{mark_of('github-token', TOKEN, KEY)}\n{after}"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_a_text_without_a_secret_stays_as_it_is(text: str) -> None:
    if not SCANNER.scan(text):
        assert SCANNER.redact(text) == (text, ())


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "[redacted:",
                    "[REDACTED:",
                    "password",
                    "#",
                    "ab12",
                    "]",
                    "[",
                    ":",
                    "=",
                    " ",
                    "\n",
                    '"',
                    "\\n",
                    "+",
                    "-",
                ),
                *(
                    TOKEN,
                    PASSWORD,
                    "github-token",
                    "api_key",
                    "://u:",
                    "@h",
                    "-----BEGIN PRIVATE KEY-----",
                    "Ab1+" * 16,
                ),
                *("-----END PRIVATE KEY-----", "\r\n", "> ", "#" * 3, "'", "login", "[redacted:password#ab12]"),
            ]
        ),
        max_size=30,
    )
)
def test_whatever_is_redacted_is_clean_and_stays_so(pieces: list[str]) -> None:
    text = "".join(pieces)
    once, done = SCANNER.redact(text)
    assert SCANNER.scan(once) == ()
    assert SCANNER.redact(once) == (once, ())
    assert bool(done) == bool(SCANNER.scan(text))
    assert once.count("\n") == text.count("\n")


# --- What a mark stands in ---------------------------------------------------------------------------------


def test_json_stays_json() -> None:
    value = {
        "token": TOKEN,
        "env": {"DB_PASSWORD": PASSWORD, "DB": f"postgres://u:{PASSWORD}@h/d"},
        "key": "\n".join(pem()) + "\n",
        "said": f'the password is "{PASSWORD}"',
    }
    for text in (json.dumps(value), json.dumps(value, indent=2)):
        redacted, done = SCANNER.redact(text)
        kept = json.loads(redacted)
        assert kept.keys() == value.keys()
        assert {each.kind for each in done} == {"github-token", "password", "url-password", "private-key"}
        assert not any(secret in redacted for secret in (TOKEN, PASSWORD, pem()[2]))


def test_yaml_and_front_matter_stay_valid() -> None:
    key = "".join(f"  {line}\n" for line in pem())
    text = (
        f"password: {PASSWORD}\nquoted: '{TOKEN}'\nurl: postgres://u:{PASSWORD}@h/d\n"
        f'key: |\n{key}after: "{TOKEN}"\nlist:\n  - token={TOKEN}\n'
    )
    redacted, _ = SCANNER.redact(text)
    kept = yaml.safe_load(redacted)
    assert list(kept) == ["password", "quoted", "url", "key", "after", "list"]
    assert kept["quoted"] == kept["after"] == mark_of("github-token", TOKEN, KEY)
    assert kept["key"].startswith("[redacted:private-key#")
    assert SCANNER.redact(f"---\n{text}---\n\nbody\n")[0] == f"---\n{redacted}---\n\nbody\n"


def test_a_shell_script_and_a_program_stay_valid() -> None:
    script = (
        f'export DB_PASSWORD={PASSWORD}\ncurl -u "deploy:{PASSWORD}" https://ci.internal # {TOKEN}\n'
        f"GH_TOKEN='{TOKEN}' gh repo list\n"
    )
    redacted, _ = SCANNER.redact(script)
    subprocess.run(["bash", "-n"], input=redacted, text=True, encoding="utf-8", check=True)
    program = "key = (\n" + "\n".join(f'    "{line}\\n"' for line in pem()) + f"\n)\ntoken = '{TOKEN}'\n"
    redacted, _ = SCANNER.redact(program)
    (key, token) = ast.parse(redacted).body
    assert isinstance(key, ast.Assign)
    assert isinstance(token, ast.Assign)
    assert ast.literal_eval(key.value).startswith("[redacted:private-key#")
    assert pem()[3] not in redacted


def test_a_url_keeps_all_but_its_password() -> None:
    redacted, (done,) = SCANNER.redact(f"postgres://shop:{PASSWORD}@db.internal:5432/shop?sslmode=require")
    assert redacted == f"postgres://shop:{done.mark}@db.internal:5432/shop?sslmode=require"


@pytest.mark.parametrize("sign", ["+", "-", " "])
@pytest.mark.parametrize("last", [20, 64])
def test_a_private_key_in_a_patch_leaves_its_hunks_with_as_many_lines(tmp_path: Path, sign: str, last: int) -> None:
    key = pem(last=last)
    body = [" first = 1", *(sign + line for line in key), "+after = 2"]
    old = sum(line[0] in " -" for line in body)
    new = sum(line[0] in " +" for line in body)
    patch = f"diff --git a/k.py b/k.py\n--- a/k.py\n+++ b/k.py\n@@ -1,{old} +1,{new} @@\n" + "\n".join(body) + "\n"
    redacted, done = SCANNER.redact(patch)
    assert [each.kind for each in done] == ["private-key"]
    assert not any(line[4:] in redacted for line in key)
    lines = redacted.split("\n")[4:-1]
    assert [line[:1] for line in lines] == [line[:1] for line in body]
    subprocess.run(
        ["git", "apply", "--numstat"],
        input=redacted,
        text=True,
        encoding="utf-8",
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    assert [mark.group() for mark in MARK.finditer(redacted)] == [SCANNER.redact("\n".join(key))[0].rstrip("\n")]


@pytest.mark.parametrize("prefix", ["> ", "# ", "    ", " * ", "| "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_private_key_leaves_what_quotes_its_lines(prefix: str, end: str) -> None:
    text = end.join(["before", *(prefix + line for line in pem()), "after", ""])
    redacted, (done,) = SCANNER.redact(text)
    lines = redacted.split(end)
    assert lines == ["before", prefix + done.mark, *[prefix] * (len(pem()) - 1), "after", ""]


def test_a_cut_private_key_leaves_the_lines_after_it() -> None:
    text = "\n".join([*pem()[:4], "", "and then prose goes on."])
    redacted, (done,) = SCANNER.redact(text)
    assert redacted == f"{done.mark}\n\n\n\n\nand then prose goes on."
    tail = "\n".join(["prose first.", *pem()[3:], "and goes on."])
    redacted, (done,) = SCANNER.redact(tail)
    assert redacted.split("\n")[0] == "prose first."
    assert redacted.split("\n")[-1] == "and goes on."
    assert redacted.count("\n") == tail.count("\n")
