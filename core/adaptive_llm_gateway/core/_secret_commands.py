"""Passwords that are given to a command: `mysql -p...`, `sshpass -p ...`, `curl -u user:...`, `echo ... | sudo -S`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adaptive_llm_gateway.core._secret_shapes import Shape, is_given
from adaptive_llm_gateway.core._secret_values import PLACE, Match, password_like

_VALUE = r"(?:\"(?P<d>[^\"\n]{1,128})\"|'(?P<s>[^'\n]{1,128})'|(?P<u>[^\s\"'|;&<>`]{1,128}))"
_ATTACHED = re.compile(_VALUE)
_SPACED = re.compile(r"[ =]{1,4}" + _VALUE)
_USER = re.compile(r"[ =]{0,4}[\"']?[\w.@+\\-]{1,64}(?P<sign>[:%,])" + _VALUE)
_PIPED = re.compile(
    r"(?:echo|printf)(?:[ \t]{1,4}-\w{1,4})?[ \t]{1,8}"
    + _VALUE
    + r"[ \t]{0,8}\|[ \t]{0,8}(?:sudo|su|ssh|passwd|chpasswd|docker[ \t]login)\b"
)
# After which option of which commands a password stands; the option attached to it, apart from it, or after a user.
_OPTIONS: dict[str, tuple[tuple[re.Pattern[str], re.Pattern[str]], ...]] = {
    "p": (
        (re.compile(r"\b(?:mysql\w{0,10}|mariadb[\w-]{0,10}|7z[ar]?|rar|sshpass|innobackupex)\b"), _ATTACHED),
        (
            re.compile(
                r"\b(?:sshpass|(?:docker|podman|buildah|az|oc|cf|argocd|npm|helm registry"
                r"|skopeo)[ \t]{1,16}login|mongo\w{0,8}"
                r"|cqlsh|rdesktop|impala-shell|beeline|rcon|mcrcon)\b"
            ),
            _SPACED,
        ),
    ),
    "P": ((re.compile(r"\b(?:sqlcmd|bcp|isql|osql|tsql|mosquitto_\w{3}|zip|unzip|ipmitool)\b"), _SPACED),),
    "a": ((re.compile(r"\bredis-cli\b"), _SPACED),),
    "w": ((re.compile(r"\bldap(?:search|modify|add|delete|passwd|whoami|compare)\b"), _SPACED),),
    "u": ((re.compile(r"\b(?:curl|wget|http|lftp|cadaver)\b"), _USER),),
    "U": ((re.compile(r"\b(?:smbclient|rpcclient|smbget|wmic|winexe)\b"), _USER),),
}
# What is in all of those commands, so that few lines have to be read for one.
_PARTS = ("sql", "mariadb", "7z", "rar", "pass", "login", "mongo", "cqlsh", "rdesk", "impala", "beeline", "rcon",
          "bcp", "mosquitto", "zip", "ipmi", "redis", "ldap", "curl", "wget", "http", "lftp", "cadaver", "smb", "rpc",
          "wmic", "winexe", "backupex")  # fmt: skip
_NO_PASSWORD = re.compile(r"(?:ort|rotocol|assword|lugin\w*|rint\w*|ipe|ager\w*)(?:=.*)?|-\S*")
_ENVIRONMENT = re.compile(
    r"(?:(?:export|setenv|declare -x|set -x|SET"
    r"|set)[ \t]{1,4})?(?:[A-Z][A-Z0-9_]{0,40})?(?:PASS(?:WORD|WD|PHRASE)?|PWD)"
    r"(?:=|[ \t]{1,16}(?==?[\w\"']))" + _VALUE + r"(?=[ \t]|\r?\n|$|;)"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[\w.@+%-]{1,128}:(?P<u>[^\s/@:\"'`<>|(){}]{4,256})@[\w.\[-]")
_CALLED = re.compile(
    r"(?:\$[ \t])?(?:sudo[ \t])?(?:psql|mongo\w{0,8}|git|curl|wget|redis-cli|export|pg_\w{4,8}"
    r"|mysql\w{0,8}|npm|pip|ssh|ftp|lftp|svn|hg|alias)[ \t]"
)
_BACK = 200  # characters of a line before an option in which its command stands


def commands(text: str, low: str, shape: Shape) -> Iterator[Match]:
    """Passwords on command lines; weak ones only where a text holds no prose."""
    for option in (" -p", " -a", " -w", " -u"):
        at = low.find(option)
        while at >= 0:
            yield from _after_option(text, low, at, shape)
            at = low.find(option, at + 3)
    if "|" in text and ("sudo" in low or "passwd" in low or "login" in low):
        for word in ("echo ", "printf "):
            at = low.find(word)
            while at >= 0:
                yield from _given(_PIPED.match(text, at), shape)
                at = low.find(word, at + len(word))
    if shape.plain:
        yield from _lines(text, low)


def _after_option(text: str, low: str, at: int, shape: Shape) -> Iterator[Match]:
    begin = max(text.rfind("\n", max(0, at - _BACK), at) + 1, at - _BACK)
    line = low[begin:at]
    if any(part in line for part in _PARTS):
        for command, form in _OPTIONS.get(text[at + 2], ()):
            if command.search(line) is not None:
                yield from _given(form.match(text, at + 3), shape)


def _lines(text: str, low: str) -> Iterator[Match]:
    for word in ("export ", "pgpassword", "setenv "):
        at = low.find(word)
        while at >= 0:
            found = _ENVIRONMENT.match(text, at)
            if found is not None:
                yield from _matched(found)
            at = low.find(word, at + len(word))
    at = text.find("://")
    while at >= 0:
        begin = max(text.rfind("\n", max(0, at - _BACK), at) + 1, at - _BACK)
        if _CALLED.match(text, begin) is not None:
            start = at
            while start > begin and (text[start - 1].isalnum() or text[start - 1] in "+.-"):
                start -= 1
            found = _URL.match(text, start)
            if found is not None and is_given(found["u"]):
                yield Match("url-password", found.start("u"), found.end("u"), found["u"], PLACE)
        at = text.find("://", at + 3)


def _given(found: re.Match[str] | None, shape: Shape) -> Iterator[Match]:
    if found is not None:
        for match in _matched(found):
            if not _NO_PASSWORD.fullmatch(match.secret) and (
                shape.plain or password_like(match.secret, quoted=False, code=False)
            ):
                yield match


def _matched(found: re.Match[str]) -> Iterator[Match]:
    group = next(name for name in ("d", "s", "u") if found[name] is not None)
    value = found[group].rstrip("\"'") if group == "u" else found[group]
    if is_given(value) or password_like(value, quoted=True, code=False):
        yield Match("password", found.start(group), found.start(group) + len(value), value, PLACE)
