"""Credentials in declarations of programming languages, where something stands between a name and its value.

A type (`password: str = "..."`, `var token string = ...`), an array, a property, a fallback, a call, a block: forms
that a plain assignment does not cover. Only at a word that names a password or a key, and a bounded stretch from there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from adaptive_llm_gateway.core._secret_values import CONTEXT, HEX, NOT_A_TOKEN, Match, key_like, password_like

_STEMS = ("passw", "passphrase", "pwd", "token", "secret", "key")
# What is between: a type after a colon or a blank, an array, accessors of a property; then what gives the value.
_DECLARED = re.compile(
    r"(?:passw(?:ord|d)|passphrase|pwd|token|secret|key)s?(?:[_-]?(?:key|token))?"
    r"(?:[_-](?:prod|production|dev|staging|live|test|local|root|admin|value|[a-z0-9]{1,2})){0,2}[\"'\])}]{0,3}"
    r"(?P<between>"
    r"[ \t]{0,4}:[ \t]{0,4}(?:&'?)?[a-z][\w \t.&<>\[\]?|*:]{0,40}?[ \t]{0,4}:?=(?!=)"
    r"|[ \t]{1,4}[a-z*&][\w .*&<>\[\]()]{0,32}?[ \t]{0,4}:?=(?!=)"
    r"|\[[\w ]{0,8}\][ \t]{0,4}="
    r"|[ \t]{0,4}\{[^{}\n\"']{1,40}\}[ \t]{0,4}="
    r"|[ \t]{0,4}(?:<-|<<-|\|\|=?|\?\?=?|::|\{|\(|,)"
    r"|[ \t]{1,4}(?:db|dc\.b|\.asciz|pic[ \t]x\([\w]{1,6}\)[ \t]{1,4}value|to|of)(?=[ \t])"
    r"|[\"']?[ \t]{0,4},?[ \t]{0,4}(?:\r?\n[ \t]{0,40})?[\"']?value[\"']?[ \t]{0,4}[:=]"
    r"|(?::-|:=|:|-)(?=[^\s\"'`{}]{6,256}\}))?"
    r"(?P<blank>[ \t]{0,8}(?:@|r#|[bru])?)"
    r"(?:\"(?P<d>[^\"\n]{6,256})\"|'(?P<s>[^'\n]{6,256})'|`(?P<b>[^`\n]{6,256})`"
    r"|><!\[cdata\[(?P<c>[^\]\n<]{6,256})\]\]>|(?P<u>[^\s\"'`{}<>,;()]{6,256})(?P<end>\}|[ \t]{0,4}(?:\r?\n|$))?)",
    re.IGNORECASE,
)
_GROUPS = ("d", "s", "b", "c", "u")
_FOLLOWS = frozenset(" \t\r:[{<>|?(\"'`_-sodw0123456789,)]}=\n")  # `password` goes on after `passw`
_JOINTS = ("_", "-", ".")
_REACH = 100  # characters from a name to the quote before its value
_NOT_SECRET = re.compile(
    r"(?:public|primary|foreign|sort|cache|partition|next|page|csrf|hash|type|kind|change|start|starting|continuation"
    r"|product|action|resume|cursor|upload|idempotency|snapshot|paging|max|num)[_-]?$"
)
_KEY_NAMES = tuple(
    re.findall(
        r"\w+",
        "api access secret private auth encryption signing master service account storage client session app admin jwt"
        " hmac webhook license consumer shared deploy subscription integration bot bearer refresh security cookie crypt"
        " encrypt",
    )
)


def declarations(text: str, low: str) -> Iterator[Match]:
    """Passwords and keys that a declaration gives to a name."""
    for stem in _STEMS:
        at = low.find(stem)
        while at >= 0:
            after = at + len(stem)
            found = _DECLARED.match(text, at) if _may_declare(low, at, after, stem) else None
            if found is not None:
                match = _declared(low, at, found, key=stem in ("key", "token", "secret"))
                if match is not None:
                    yield match
                    after = match.end
            at = low.find(stem, after)


def _may_declare(low: str, at: int, after: int, stem: str) -> bool:
    """What a word that names a secret in prose mostly lacks: the right sign behind it, and a value in quotes."""
    if low[after : after + 1] not in _FOLLOWS:
        return False
    if stem == "key" and not low.endswith(_KEY_NAMES, 0, at - (low[at - 1 : at] in _JOINTS)):
        return False
    near = low[after : after + _REACH]
    if '"' in near or "'" in near or "`" in near or "}" in near or "value" in near or "cdata" in near:
        return True
    return "--" in low[max(0, after - 24) : after]


def _declared(low: str, at: int, found: re.Match[str], *, key: bool) -> Match | None:
    group = next(group for group in _GROUPS if found[group] is not None)
    value, between = found[group], found["between"]
    if not _gives(low, at, found, group):
        return None
    before = low[max(0, at - 24) : at]
    if _NOT_SECRET.search(before) or (low.startswith("token", at) and NOT_A_TOKEN.search(before)):
        return None
    quoted = group != "u"
    if not key:
        if before[-1:].isalpha() and not low.startswith(("passw", "passphrase", "pwd"), at):
            return None
        return _match("password", found, group) if password_like(value, quoted=quoted, code=True) else None
    if HEX.fullmatch(value) and (len(value) < 16 or (between is None and not quoted)):
        return None
    return _match("api-key", found, group) if len(value) >= 12 and key_like(value, quoted=quoted, code=True) else None


def _gives(low: str, at: int, found: re.Match[str], group: str) -> bool:
    """Whether what is between a name and a value gives it to the name."""
    between = (found["between"] or "").strip().lower()
    if group == "c":
        return True
    if between in (":-", ":", "-"):  # `${NAME:-value}`
        return group == "u" and found["end"] == "}" and low.rfind("${", max(0, at - 40), at) >= 0
    if between.endswith(("value:", "value=", 'value":', "value':")):
        return group != "u" or found["end"] is not None
    if group == "u":
        begin = max(low.rfind("\n", max(0, at - 60), at) + 1, at - 60, 0)
        if between == "{":  # `set name {value}` of Tcl
            return found["end"] == "}" and low.rfind("set ", begin, at) >= 0
        return not between and found["blank"] != "" and _OPTION.search(low, begin, at) is not None
    if not between:  # `#define NAME "value"`, `(def name "value")`, `:name "value"`, `-Name "value"`
        begin = max(low.rfind("\n", max(0, at - 60), at) + 1, at - 60, 0)
        return found["blank"] != "" and _DEFINES.search(low, begin, at) is not None
    if between == ",":  # `{name, "value"}` of Erlang, `put("name", "value")`
        return low[max(0, at - 24) : at].rstrip("abcdefghijklmnopqrstuvwxyz_-").endswith(("{", "(", "'", '"'))
    return True


_OPTION = re.compile(r"(?:(?<![^ \t])--?[a-z_-]{0,30}|(?<![a-z])set -[a-z]{1,3} [a-z_]{0,30})$")
_DEFINES = re.compile(
    r"(?:#[ \t]{0,4}define[ \t]|\((?:def\w{0,12}|define|setq|set!)[ \t]|:|-|set[ \t]|set_header[ \t])[^\n\"']{0,40}$"
)


def _match(kind: str, found: re.Match[str], group: str) -> Match:
    return Match(kind, found.start(group), found.end(group), found[group], CONTEXT)
