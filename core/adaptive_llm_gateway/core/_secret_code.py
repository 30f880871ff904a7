"""Credentials in source files: constants of WordPress, Django's key, OAuth providers, calls that log in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adaptive_llm_gateway.core._secret_shapes import Shape, at_each, is_given, match_of
from adaptive_llm_gateway.core._secret_values import Match, is_placeholder, is_random, password_like

_WORDPRESS = re.compile(
    r"define\([ \t]{0,8}(?P<q>[\"'])(?P<name>[A-Z_]{4,40})(?P=q)[ \t]{0,8},[ \t]{0,40}"
    r"(?:'(?P<s>[^'\n]{4,256})'|\"(?P<d>[^\"\n]{4,256})\")"
)
_SALTS = ("_KEY", "_SALT", "PASSWORD", "PASS", "_SECRET", "_PWD")
# Functions that connect with a host, a user and a password, or log in with a user and a password.
_CALLS: dict[str, tuple[str, ...]] = {
    "connect(": ("mysql_connect", "mysqli_connect", "mysql_pconnect", "mssql_connect", "real_connect", "oci_connect",
                 "odbc_connect", "sybase_connect", ".connect", "->connect", "::connect", "_pconnect"),
    "login(": (".login", "->login", "::login", "_login", "?.login"),
}  # fmt: skip
_MORE_CALLS: dict[str, tuple[str, ...]] = {
    "mysqli(": ("new mysqli", "new \\mysqli"),
    "pdo(": ("new pdo", "new \\pdo"),
    "authenticate(": (".authenticate", "->authenticate", "::authenticate"),
    "auth_password(": ("ssh2_auth_password",),
}
_LOGINS = ("login(", "authenticate(")
_ARGUMENTS = re.compile(r"[ \t\r\n]{0,16}[^()\n]{3,400}")
_STRING = re.compile(r"\"(?P<d>[^\"\n]{0,256})\"|'(?P<s>[^'\n]{0,256})'|[\w$\[\]\->.:]{1,80}")
_ASCII_KEY = re.compile(r"SECRET_KEY[ \t]{0,8}=[ \t]{0,8}[urb]?(?:'(?P<s>[^'\n]{20,200})'|\"(?P<d>[^\"\n]{20,200})\")")
_OMNIAUTH = re.compile(
    r"provider[ \t(]{1,4}:\w{2,40},[ \t]{0,4}[\"'][\w.-]{4,80}[\"'],[ \t]{0,4}[\"'](?P<value>[^\"'\n]{12,128})[\"']"
)


def calls(text: str, low: str, shape: Shape) -> Iterator[Match]:
    """Credentials that are given to a function: constants that are defined, connections, logins."""
    yield from _defined(text, low, shape)
    for word, names in (_CALLS | _MORE_CALLS if shape.plain else _CALLS).items():
        yield from _connections(text, low, word, names, shape)


def _defined(text: str, low: str, shape: Shape) -> Iterator[Match]:
    """Constants of PHP, such as WordPress' password and its eight keys and salts."""
    for at in at_each(low, "define("):
        found = _WORDPRESS.match(text, at)
        if found is None or not found["name"].endswith(_SALTS):
            continue
        group = "s" if found["s"] is not None else "d"
        value = found[group]
        secret = len(value) >= 32 and " your " not in value and len(set(value)) >= 10 and "://" not in value
        if found["name"].endswith(("_KEY", "_SALT", "_SECRET")):
            given = secret and (is_random(value) or sum(not c.isalnum() for c in value) >= 6)
        else:
            given = shape.php and is_given(value)
        if given:
            yield match_of(found, "api-key" if secret else "password", group=group)


def _connections(text: str, low: str, word: str, names: tuple[str, ...], shape: Shape) -> Iterator[Match]:
    for at in at_each(low, word):
        if low.endswith(names, max(0, at - 20), at + len(word) - 1):
            found = _ARGUMENTS.match(text, at + len(word))
            if found is not None:
                yield from _given_to(found, second=word in _LOGINS, shape=shape)


def _given_to(found: re.Match[str], *, second: bool, shape: Shape) -> Iterator[Match]:
    arguments = list(_STRING.finditer(found.string, found.start(), found.end()))
    place = 1 if second else 2
    if len(arguments) <= place:
        return
    argument = arguments[place]
    group = "d" if argument["d"] is not None else "s"
    value = argument[group]
    if value is None:
        return
    user = arguments[place - 1]
    known = user["d"] is not None or user["s"] is not None
    if password_like(value, quoted=True, code=False) or (known and is_given(value) and (shape.php or "@" in user[0])):
        yield match_of(argument, group=group)


def secret_keys(text: str, low: str) -> Iterator[Match]:
    """Django\'s `SECRET_KEY`, which has signs that no other key has."""
    for at in at_each(low, "secret_key"):
        found = _ASCII_KEY.match(text, at)
        if found is None:
            continue
        group = "s" if found["s"] is not None else "d"
        value = found[group]
        made = value.removeprefix("django-insecure-")
        signs = sum(not c.isalnum() for c in made) if len(made) >= 32 else 0
        if " " not in value and len(set(value)) >= 12 and signs >= 3 and not is_placeholder(value):
            yield match_of(found, "api-key", group=group)


def omniauth(text: str, low: str) -> Iterator[Match]:
    """The secret of an OAuth provider of Rails: the third of its arguments."""
    for at in at_each(low, "provider :"):
        found = _OMNIAUTH.match(text, at)
        if found is not None and is_random(found["value"]):
            yield match_of(found, "api-key")
