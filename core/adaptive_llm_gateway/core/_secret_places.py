"""Credentials by their place: assignments, sentences that tell a password, URLs, command lines, private keys."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import cast

from adaptive_llm_gateway.core._secret_values import (
    CONTEXT,
    NOT_A_KEY,
    PLACE,
    PLACEHOLDER,
    SLUG,
    Match,
    is_url_password,
    is_wordy,
    key_like,
    password_like,
)

# --- Short values: passwords and assignments ----------------------------------------------------------

_QUOTED = r"\\{0,2}(?:\"(?P<d>[^\"\n]{4,256})\"|'(?P<s>[^'\n]{4,256})'|`(?P<b>[^`\n]{4,256})`)"
_BARE = r"(?P<u>[^\s\"'`,;<>|]{4,256})"
_SUFFIX = (
    r"(?:[_-](?:prod(?:uction)?|dev|staging|stage|live|test|local|root|admin|base64|b64|value|[a-z0-9]{1,2})){0,2}"
)
_ASSIGN = (
    r"\\{0,2}[\"'`*\])]{0,4}[ \t]{0,8}(?P<sep>:=|=>|={1,3}|!=|:|\||(?<=[\"'])[ \t]{0,2},|>)\*{0,2}[ \t]{0,8}"
    rf"[@bru]?(?:{_QUOTED}|{_BARE})"
)
_TOLD = (
    r"[\"'`*)]{0,3}(?:[ \t]+\([^()\n]{1,40}\))?"
    r"(?:[ \t]+(?:for|to|of|on|at|in|into|from|zum?|für|vo[mn]|pour|para|del?|du)[ \t](?:[^\n.;:=]|\.(?=\w)){1,60}?)?"
    r"[\"'`*]{0,3}[ \t]+(?:(?:is|was|are|ist|war|lautet|est|es|era|becomes|remains|has been|will be)"
    r"(?:[ \t]+(?:now|still|currently|just|again|temporarily)){0,2}"
    r"(?:[ \t]+(?:set|changed|reset|updated|rotated)[ \t]+to)?"
    r"|(?:set|changed|reset|updated|rotated)[ \t]+to|to|=)"
    rf":?[ \t]+\*{{0,2}}(?:{_QUOTED}|{_BARE})"
)
_DIRECT = rf"[ \t]+\(?(?:{_QUOTED})"
_NAMES = (
    r"(?:pass(?:[ _-]?(?:word|wd|phrase|code|wort|wrd))?|pwd|kennwort|contrase(?:ñ|n)a|senha|mot de passe|wachtwoord)s?"
)
_PASS_ASSIGN = re.compile(_NAMES + _SUFFIX + _ASSIGN, re.IGNORECASE)
_PASS_TOLD = re.compile(_NAMES + _TOLD, re.IGNORECASE)
_PASS_DIRECT = re.compile(r"(?:pass(?:word|wd|phrase|code)|passwort|pwd|kennwort)" + _DIRECT, re.IGNORECASE)
_PASS_OPTION = re.compile(_NAMES + rf"[ \t]{{1,4}}(?:{_QUOTED}|{_BARE})", re.IGNORECASE)
_KEY_ASSIGN = re.compile(r"(?:key|token|secret)(?:[_-]?(?:key|token|base))?" + _SUFFIX + _ASSIGN, re.IGNORECASE)
_KEY_NAME = re.compile(
    r"(?:api|access|secret|private|auth|encryption|signing|master|service|account|storage|client|session|app|admin|jwt"
    r"|hmac|webhook|license|consumer|shared|deploy|subscription|integration|bot|bearer|refresh|security|django|flask"
    r"|cookie|crypt|encrypt)[ _.-]?$",
    re.IGNORECASE,
)
_KEY_VARIABLE = re.compile(
    r"(?<![A-Z0-9_])(?!.*(?:PUBLIC|PRIMARY|FOREIGN|SORT|CACHE|MAX|NUM|PAGE|NEXT))[A-Z][A-Z0-9_]{1,40}_$"
)
_NAME_CHARS = re.compile(r"[\w.-]{0,40}$")
_STEMS = ("pass", "pwd", "kennwort", "contrase", "senha", "wachtwoord")
_KEY_STEMS = ("key", "token", "secret")


def _value(found: re.Match[str]) -> tuple[str, int, int, bool]:
    for name in ("d", "s", "b"):
        if found[name] is not None:
            value = found[name].rstrip("\\")
            return value, found.start(name), found.start(name) + len(value), True
    value = found["u"]
    ampersand = re.search(r"&\w+=", value)
    if ampersand is not None:  # a query string goes on
        value = value[: ampersand.start()]
    value = value.rstrip(".,:)*\\") if len(value) > 4 else value
    return value, found.start("u"), found.start("u") + len(value), False


def passwords(text: str, low: str) -> Iterator[Match]:
    """Passwords that are assigned (`PASSWORD=...`) or told in a sentence."""
    for stem in _STEMS:
        at = low.find(stem)
        while at >= 0:
            after = at + len(stem)
            joined = at > 0 and low[at - 1].isalpha()
            # `dbpassword`, `userPass`, but not `compass` or `bypass`
            named = not joined or low.startswith(("word", "wd", "phrase", "code"), after) or text[at].isupper()
            if named:
                match = _password_at(text, at)
                if match is not None:
                    yield match
                    after = max(after, match.start)
            at = low.find(stem, after)


def _password_at(text: str, at: int) -> Match | None:
    assigned = _PASS_ASSIGN.match(text, at)
    if assigned is not None and _separated(text, at, assigned):
        value, start, end, quoted = _value(assigned)
        if password_like(value, quoted=quoted, code=_is_code(assigned)):
            return Match("password", start, end, value, CONTEXT)
    for pattern in (_PASS_TOLD, _PASS_DIRECT):
        told = pattern.match(text, at)
        if told is not None:
            value, start, end, quoted = _told_value(told)
            if password_like(value, quoted=quoted, code=False) and (quoted or not SLUG.fullmatch(value.rstrip(".,"))):
                return Match("password", start, end, value, CONTEXT)
    name = text[max(0, at - 40) : at]
    if name.endswith(("--", "-")) or " login " in name or "require" in name:
        option = _PASS_OPTION.match(text, at)
        if option is not None:
            value, start, end, quoted = _value(option)
            if password_like(value, quoted=quoted, code=False):
                return Match("password", start, end, value, CONTEXT)
    return None


def _told_value(found: re.Match[str]) -> tuple[str, int, int, bool]:
    if "u" in found.re.groupindex:
        return _value(found)
    name = next(name for name in ("d", "s", "b") if found[name] is not None)
    return found[name], found.start(name), found.end(name), True


def _separated(text: str, at: int, found: re.Match[str]) -> bool:
    """`>` separates only in XML (`<password>value</password>`), a comma only two quoted texts."""
    if found["sep"].strip() == ",":
        return found["u"] is None
    if found["sep"] != ">":
        return True
    opened = text.rfind("<", max(0, at - 40), at)
    return opened >= 0 and " " not in text[opened:at]


def _is_code(found: re.Match[str]) -> bool:
    """An assignment with blanks around its sign, as programs write it; `.env` and shell cannot."""
    sep = found.start("sep")
    return found["sep"] in ("=", "==", "!=", "===", ":=", "=>") and found.string[sep - 1 : sep] in " \t"


def keys(text: str, low: str) -> Iterator[Match]:
    """Keys and tokens that are assigned, also short ones: `API_KEY=...`, `client_secret: "..."`."""
    for stem in _KEY_STEMS:
        at = low.find(stem)
        while at >= 0:
            after = at + len(stem)
            found = _KEY_ASSIGN.match(text, at)
            if found is not None and _separated(text, at, found) and _key_named(text, at, stem):
                value, start, end, quoted = _value(found)
                if key_like(value, quoted=quoted, code=_is_code(found)):
                    yield Match("api-key", start, end, value, CONTEXT)
            at = low.find(stem, after)


def _key_named(text: str, at: int, stem: str) -> bool:
    name = cast(re.Match[str], _NAME_CHARS.search(text, max(0, at - 40), at)).group()
    if NOT_A_KEY.search(name):
        return False
    if _KEY_NAME.search(text[max(0, at - 20) : at]) or _KEY_VARIABLE.search(name):
        return True
    return (
        stem != "key"
        and (not name or not name[-1].isalpha())
        and not name.lower().startswith(("max", "num", "next", "page"))
    )


# --- Credentials by their place: URLs, command lines, private keys ------------------------------------------

_URL = re.compile(
    r"://(?P<user>[^\s:/@\"'`<>\[\]{}()|\\,;]{0,128}):(?P<password>[^\s/\"'`<>\\]{1,256})@(?P<host>[\w.\[-])"
)
_CURL = re.compile(r"(?:-u|--user|--proxy-user)[ =]{1,2}[\"']?[\w.@+-]{1,64}:(?P<password>[^\s\"'`]{6,128})")
_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_END = re.compile(r"-----END (?:[A-Z0-9]{1,12} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_LINE = re.compile(
    r"(?:\\[rnt]|[\s>\"'+,|*#]){0,24}"
    r"(?:(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset):[^\n\\]{0,100}|(?P<body>[A-Za-z0-9+/=_-]{1,4096}))"
)
_PUTTY = re.compile(
    r"private-lines:[ \t]*\d{1,4}[\r\n\\ ]{1,4}(?P<body>(?:[a-z0-9+/=]{16,80}[\r\n\\ ]{0,3}){1,80})", re.I
)
_BODY_LINE = re.compile(r"[\s>#|\"']*([A-Za-z0-9+/]{32,}={0,2})(?:\\n)?[\"',\s]*")
_KEY_LIMIT = 32_768  # characters of one private key


def urls(text: str) -> Iterator[Match]:
    at = text.find("://")
    while at >= 0:
        found = _URL.match(text, at)
        if found is not None and is_url_password(found["password"], found["user"]):
            yield Match("url-password", found.start("password"), found.end("password"), found["password"], PLACE)
        at = text.find("://", at + 3)


def command_lines(text: str, low: str) -> Iterator[Match]:
    for option in (" -u", "--user", "--proxy-user"):
        at = low.find(option)
        while at >= 0:
            found = _CURL.match(text, at + (option[0] == " "))
            if found is not None and password_like(found["password"], quoted=True, code=False):
                yield Match("password", found.start("password"), found.end("password"), found["password"], PLACE)
            at = low.find(option, at + len(option))


def private_keys(text: str, low: str) -> Iterator[Match]:
    """PEM blocks, whole or cut off at either end, on lines of their own, quoted, or with `\\n` spelled out."""
    done = 0
    end: re.Match[str] | None = None
    at = low.find("-----begin ")
    while at >= 0:
        begin = _BEGIN.match(text, at) if at >= done else None
        after = at + 11
        if begin is not None:
            body, stop = _key_body(text, begin.end())
            if len(body) >= 20 and not PLACEHOLDER.search(body[:64].rstrip(".")):
                end = _END.search(text, stop, min(len(text), stop + 64))
                done = after = end.end() if end is not None else stop
                yield Match("private-key", at, done, body, PLACE)
        at = low.find("-----begin ", after)
    at = low.find("-----end ")
    while at >= 0:
        end = _END.match(text, at)
        if end is not None and at >= done:
            start, body = _body_before(text, max(done, at - _KEY_LIMIT), at)
            if len(body) >= 40:
                yield Match("private-key", start, end.end(), body, PLACE)
            done = end.end()
        at = low.find("-----end ", at + 9)
    if "putty-user-key-file" in low:
        for found in _PUTTY.finditer(text):
            yield Match("private-key", found.start("body"), found.end("body"), found["body"], PLACE)


def _key_body(text: str, at: int) -> tuple[str, int]:
    """The base64 after a BEGIN line and where it ends; prose after the line is not base64."""
    body: list[str] = []
    limit = min(len(text), at + _KEY_LIMIT)
    last = at
    while at < limit:
        line = _KEY_LINE.match(text, at, limit)
        if line is None:
            break
        part = line["body"]
        if part is not None:
            if part.startswith("---"):
                break
            # Only the last line is short, and prose or a new sentence is not a line of base64.
            if len(part) < 20 and (
                not body or not re.fullmatch(r"[A-Za-z0-9+/]{1,19}={0,2}", part) or is_wordy(part) or part.isalpha()
            ):
                break
            body.append(part)
            last = line.end()
        at = line.end()
        if part is not None and len(part) < 20:
            break
    return "".join(body), last


def _body_before(text: str, low: int, at: int) -> tuple[int, str]:
    """The base64 lines that directly precede an END line."""
    start, body = at, ""
    stop = at
    short = True
    while stop > low:
        begin = max(low, text.rfind("\n", low, stop - 1) + 1)
        line = text[begin:stop].strip()
        if line:
            full = _BODY_LINE.fullmatch(line)
            if full is None and not (short and re.fullmatch(r"[A-Za-z0-9+/]{1,64}={0,2}", line)):
                break
            short = False
            body = line + body
            start = begin + (len(text[begin:stop]) - len(text[begin:stop].lstrip()))
        stop = begin
    return start, body
