"""What a text is: a configuration file that a tool reads, a source file, or something that people read.

In a file that a tool reads, a place that holds a credential holds one whatever its value looks like. In prose, and in
code, a weak value beside the word `password` is nearly always about one. So weak values count by their place only
where the text as a whole is a file of that kind.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from functools import cached_property

from adaptive_llm_gateway.core._secret_values import EMAIL, PLACE, Match, is_placeholder

_LOOKED_AT = 12_000  # characters of a text that tell what it is
_COMMENT = re.compile(r"[#;!*]|//|--|/\*|<!--|rem\b", re.IGNORECASE)
_PROSE = re.compile(r"(?<![\w\"'=])[A-Za-z][a-z',]{1,20} [a-z',]{2,20} [a-z']{1,20} [a-z']{2,20}(?![\w=:/])")
_DIRECTIVE = re.compile(
    r"(?:machine|default|poll|skip|set|unset|username|enable|identity|account|mda|via|ip|no|snmp-server|ldap\w*|server"
    r"|neighbor|crypto|key|alias|export|user|password|login|host\w*|define|provider|create|alter|insert|grant) ",
    re.IGNORECASE,
)
_MARKDOWN = ("```", "](", "**", "~~~", "====")
_SETTING = re.compile(
    r"[-$\"'@]{0,3}[\w.\-/:\[\]$]{1,80}?[\"'\]]{0,2}[ \t]{0,40}(?:=>|[:=])|[\w.-]{1,40}[ \t]{1,20}\S{1,200}$"
    r"|[\[{}()<]|[\w.*-]{1,60}:[^\s:]|\S{1,80}[ \t]{1,8}\w{1,40}=\S"
)
_COMPANION = re.compile(
    r"(?:user(?:[_-]?(?:name|id))?|usr|uid|login|host(?:[_-]?name)?|server|addr(?:ess)?|port|adapter|driver|protocol"
    r"|database|dbname|poll|storage|db|ur[il]|machine|e?mail|identity|account|ssid|connection|from"
    r"|type|tls|ssl|auth|timeout|enabled)"
    r"[\"'\])]{0,2}[ \t]{0,20}(?:=>|[:=]|,|[ \t])[ \t]{0,20}@?[\"']?"
    r"(?:[\w.+-]{1,64}@[\w-]|[\w-]{1,60}\.[\w.-]{2,60}|(?:jdbc:)?[a-z][a-z0-9+]{1,12}://|localhost"
    r"|\d{2,5}(?![\w.])|[01](?!\w)"
    r"|(?:true|false|yes|no|on|off|root|admin\w{0,12}|postgres\w{0,4}|mysql\w{0,4}|sqlite\w{0,4}"
    r"|s?ftps?|ssh|mongodb)(?!\w))"
    r"|_user(?:name)?[\"']?[ \t]{0,4}[:=][ \t]{0,4}\S|ssid=\"|(?:key|store)(?:file|alias)=",
    re.IGNORECASE,
)
_NOTHING = frozenset(
    re.findall(
        r"\S+",
        "password passwort passwd passphrase pass pwd secret token key value none null nil true false yes no on off"
        " string str text bool boolean int integer bytes object array number char varchar default required optional"
        " prompt ask empty blank hidden unset undefined unknown missing disabled enabled plain plaintext crypt bcrypt"
        " md5 sha1 sha256 sha512 basic digest login user username file env environment external internal auto any all"
        " xxx yyy zzz abc foo bar baz foobar changeme changeit letmeknow todo tbd mask masked password_here"
        " username_here passw0rd_here secret_here kennwort contraseña contrasena senha wachtwoord password: always"
        " never n/a",
    )
)
_REFERRED = re.compile(
    r"[\^~<>=v]{0,2}\d{1,5}(?:\.[\dx*]{1,5}){1,3}(?:-[\w.]{1,20})?|[$%@{<\[&!].*|.*[(){}<>].*|.*://.*"
    r"|[~.]{0,2}/.*|[A-Za-z]:\\.*|[-:].*|[*.•x?_-]+|\\.*|.*[\"'`].*"
)
_SCHEME = re.compile(r"^(?:sha\d{0,3}|md5|argon2|bcrypt|plain):", re.IGNORECASE)
_NEAR = 400  # characters before and after a place that belong to the same setting


class Shape:
    """What a text is, found out when it is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _lines(self) -> tuple[int, int, int] | None:
        """How many lines it has at its start, those with settings, those with calls; None when people read it."""
        head = self._text[:_LOOKED_AT]
        if any(mark in head for mark in _MARKDOWN):
            return None
        bearable = head.count("\n") // 12  # lines of prose
        lines = prose = 0
        others: list[str] = []
        for line in head.split("\n"):
            rest = line.strip()
            if not rest or _COMMENT.match(rest) is not None:
                continue
            lines += 1
            if rest.count(" ") > 2 and is_prose(rest):
                prose += 1
                if prose > bearable or (prose > 2 and prose * 12 > lines):
                    return None
            else:
                others.append(rest)
        if prose * 12 > lines:
            return None
        calls = sum("(" in line and line[0] != "(" for line in others)
        return lines, sum((_SETTING.match(line) or _DIRECTIVE.match(line)) is not None for line in others), calls

    @property
    def plain(self) -> bool:
        """Whether it holds neither prose nor Markdown: settings, commands, code."""
        return self._lines is not None

    @property
    def settings(self) -> bool:
        """Whether a tool reads it: lines of settings, hardly any prose, no calls, no Markdown."""
        if self._lines is None:
            return False
        lines, settings, calls = self._lines
        return lines > 0 and calls * 5 <= lines and settings * 10 >= lines * 7

    @cached_property
    def xml(self) -> bool:
        """XML of a tool: no web page, no schema, no resources with words in them."""
        head = self._text[:2_000].lstrip("\ufeff \t\r\n")
        low = head[:2_000].lower()
        return low.startswith(("<?xml", "<")) and not any(
            sign in low for sign in ("<html", "<!doctype html", "<resources", "<xs:", "<xsd:", "<wsdl", "<ts ", "<svg")
        )

    @cached_property
    def php(self) -> bool:
        """A PHP file."""
        return "<?php" in self._text[:400]

    @cached_property
    def sql(self) -> bool:
        """A dump or a script of SQL."""
        start = self._text[:_LOOKED_AT].lstrip("\ufeff \t\r\n")
        while start.startswith(("--", "/*", "#")):
            _, _, start = start.partition("\n")
            start = start.lstrip()
        return start[:12].upper().startswith(
            ("INSERT ", "CREATE ", "DROP ", "SET ", "USE ", "COPY ", "LOCK ", "BEGIN", "ALTER ", "GRANT ", "SELECT ",
             "UPDATE ", "START ", "REPLACE ", "PRAGMA ", "DELETE ", "DELIMITER")
        )  # fmt: skip

    @cached_property
    def _companions(self) -> list[int]:
        return [found.start() for found in _COMPANION.finditer(self._text)]

    def beside(self, start: int, end: int) -> bool:
        """Whether something stands nearby that belongs to a login: a host, a port, a user, an address."""
        place = bisect.bisect_left(self._companions, start - _NEAR)
        return place < len(self._companions) and self._companions[place] < end + _NEAR


def is_prose(line: str) -> bool:
    """Whether a line is a sentence, or a part of one."""
    if _PROSE.search(line, 0, 300) is None:
        return False
    return line.endswith((".", "?")) or _DIRECTIVE.match(line) is None


def is_given(value: str) -> bool:
    """Whether a value in a place for credentials is one, however weak: no placeholder, no reference, no type."""
    core = _SCHEME.sub("", value.strip())
    if not 4 <= len(core) <= 512 or not core.isprintable() or any(c.isspace() for c in core):
        return False
    if core.lower() in _NOTHING or _REFERRED.fullmatch(core) is not None:
        return False
    return EMAIL.fullmatch(core) is None and not is_placeholder(core)


def at_each(low: str, word: str) -> Iterator[int]:
    """Where a word stands, from the first place to the last."""
    at = low.find(word)
    while at >= 0:
        yield at
        at = low.find(word, at + len(word))


def match_of(found: re.Match[str], kind: str = "password", *, group: str = "value", rank: int = PLACE) -> Match:
    """The match of one group of an expression."""
    return Match(kind, found.start(group), found.end(group), found[group], rank)
