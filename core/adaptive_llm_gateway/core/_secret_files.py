"""Credentials in files of known tools: what stands in their places is one, whatever it looks like.

The forms are those of the tools' own documentation. A form is told by what a file holds, since a text has no name here:
several lines of the same form, the words of a header, or a word that only such a file has. Every form is looked for
only where a word of it stands, and reads a bounded stretch from there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from adaptive_llm_gateway.core._secret_code import calls, omniauth, secret_keys
from adaptive_llm_gateway.core._secret_commands import commands
from adaptive_llm_gateway.core._secret_shapes import Shape, at_each, is_given, is_prose, match_of
from adaptive_llm_gateway.core._secret_sql import rows
from adaptive_llm_gateway.core._secret_values import (
    CONTEXT,
    HEX,
    Match,
    decode,
    is_placeholder,
    is_random,
    password_like,
)


def files(text: str, low: str) -> Iterator[Match]:
    """Credentials in the places of known tools' files; `low` is the text in small letters."""
    shape = Shape(text)
    plain = shape.plain
    # Looking for one character is ten times as fast as looking for a word, so it decides where it can.
    secret, auth = "secret" in low, "auth" in low
    if plain:
        yield from _plain(text, low, shape, secret=secret)
    if auth:
        yield from _npm(text, low, "_auth", shape)
    if secret:
        yield from _kubernetes_secret(text, low)
        yield from secret_keys(text, low)
    if "client-key-data" in low:
        yield from _kubernetes(text, low)
    if "(" in low:
        yield from calls(text, low, shape)
    yield from commands(text, low, shape)
    yield from rows(text, low, shape)


def _plain(text: str, low: str, shape: Shape, *, secret: bool) -> Iterator[Match]:
    """What is only looked for in texts without prose: most of it would be a sample elsewhere."""
    password = "pass" in low
    yield from _settings(text, low, shape)
    if shape.xml:
        yield from _xml(text, low)
    if "$" in low:
        yield from _accounts(text, low, ":$", shape)
        yield from _nagios(text, low)
    if "{" in low:
        yield from _accounts(text, low, ":{s", shape)
    if ":" in low:
        yield from _pgpass(text, low, ":*:", shape)
        yield from _pgpass(text, low, ":543", shape)
    if password:
        yield from _npm(text, low, "_password", shape)
        yield from _firefox(text, low)
        yield from _netrc(text, low)
    if "auth" in low:
        yield from _docker(text, low)
    if password or secret or "community " in low:
        yield from _network(text, low, shape)
    yield from omniauth(text, low)
    yield from _whole(text)


# --- Settings: a weak password beside a host, a port or a user ------------------------------------------------

_PLACE_NAME = (
    r"(?:pass(?:word|wd|phrase|code|wort|wrd)?|pwd|pw|psk|kennwort|contrase(?:ñ|n)a|senha|wachtwoord)"
    r"(?:[_-]?(?:encrypted|enc|prod(?:uction)?|dev|staging|test|local|root|admin|value|[0-9]{1,2})){0,2}"
)
_IN_QUOTES = r"(?:\"(?P<d>[^\"\n]{1,256})\"|'(?P<s>[^'\n]{1,256})'|(?P<u>[^\s\"',;]{1,256}+))"
_ENDS = r"(?=[ \t]{0,8}(?:[,;}\])]|$|\r?\n|#|[ \t][\w-]{1,40}(?:[ \t=:]|$|\r?\n)))"
_PLACE = re.compile(
    _PLACE_NAME
    + r"[\"'\])]{0,3}[ \t]{0,40}(?P<sep>=>|:=|[:=]|[ \t])[ \t]{0,40}(?:[0-7][ \t]{1,4})?(?:[u@](?=[\"']))?"
    + _IN_QUOTES
    + _ENDS,
    re.IGNORECASE,
)
_STEMS = ("pass", "pwd", "pw", "psk", "kennwort", "contrase", "senha", "wachtwoord")


_URL = re.compile(r"://(?P<user>[\w.@+%-]{1,128}):(?P<value>[^\s/@:\"'`<>|(){}]{4,256})@[\w.\[-]")


def _quoted(found: re.Match[str]) -> tuple[str, int, int]:
    for name in ("d", "s", "u"):
        if found[name] is not None:
            value = found[name] if name != "u" else found[name].rstrip(")}]")
            return value, found.start(name), found.start(name) + len(value)
    return "", 0, 0


def _settings(text: str, low: str, shape: Shape) -> Iterator[Match]:
    if not (shape.settings or shape.php):
        return
    for stem in _STEMS:
        done = 0
        for at in at_each(low, stem):
            if at < done or (stem == "pw" and low.startswith("pwd", at)):
                continue
            found = _PLACE.match(text, at)
            if found is None or not _is_setting(text, found) or not _is_name(low, text, at):
                continue
            value, start, end = _quoted(found)
            done = end if end - start > 64 else done
            strong = shape.settings and password_like(value, quoted=True, code=False)
            given = strong or is_given(value.replace(" ", "") if stem == "psk" else value)
            if given and (strong or shape.beside(at, end)):
                yield Match("password", start, end, value, CONTEXT)
    if not shape.php:
        for at in at_each(low, "://"):
            found = _URL.match(text, at)
            if found is not None and is_given(found["value"]) and found["value"] != found["user"]:
                yield match_of(found, "url-password")


_BEFORE_SETTING = 2_000  # characters of a long line that are looked at, so that it is not read again from each word
_GIVEN = re.compile(r"[a-z]\w{1,30}=")  # another setting, as lines of a log have them


def _is_setting(text: str, found: re.Match[str]) -> bool:
    """No call and no condition; and where only a blank parts name and value, no value of another setting."""
    at = found.start()
    before = text[max(text.rfind("\n", max(0, at - 200), at) + 1, at - _BEFORE_SETTING, 0) : at]
    if "(" in before:
        return False
    if found["sep"] not in (" ", "\t"):
        return True
    if ":" in before or "=" in before or _GIVEN.match(_quoted(found)[0]) is not None:
        return False
    return not is_prose(before + text[at : found.end() + 60].partition("\n")[0])


# `dbpass`, `keypass`: what a name of a password begins with where no sign and no capital parts it. `compass` is none.
_BEFORE_PASS = tuple(
    re.findall(
        r"\w+",
        "db root user admin key keys store smtp imap pop ftp sftp mail proxy http https sudo become"
        " auth login sql mysql pg"
        " ldap wifi rcon irc nick vpn my php net server client ssh su web api app",
    )
)


def _is_name(low: str, text: str, at: int) -> bool:
    if at == 0 or not low[at - 1].isalpha() or text[at].isupper():
        return True
    return low.startswith(("password", "passwd", "passphrase"), at) or low.endswith(_BEFORE_PASS, max(0, at - 8), at)


# --- XML ------------------------------------------------------------------------------------------------------

_XML_ELEMENT = re.compile(
    r"(?:[Pp]ass(?:[Ww]ord|[Ww]d|[Pp]hrase)?|[Ss]ecret|[Aa]pi(?:Token|Key)|[Pp]rivateKey|[Tt]oken|PASS(?:WORD)?)"
    r"(?:[ \t]{1,4}(?:encoding|type)=[\"'](?P<encoding>\w{1,16})[\"']){0,2}[ \t]{0,4}>[ \t]{0,4}(?:<!\[CDATA\[)?"
    r"(?P<value>[^<>\n]{4,512}?)[ \t]{0,4}(?:\]\]>)?</(?!key>)"
    r"|(?:[Pp]ass(?:[Ww]ord|[Pp]hrase)?|PASSWORD)(?:</key>\s{0,40}<string>|[\"'][^<>\n]{0,60}value=[\"'])"
    r"(?P<beside>[^\"'<>\n]{4,512})"
)
_XML_ATTRIBUTE = re.compile(r"[Pp]ass(?:[Ww]ord|[Ww]d|[Pp]hrase)?=[\"'](?P<value>[^\"'<>\n]{4,512})[\"']")
_XML_SETTING = re.compile(
    r"name=[\"'][^\"'<>\n]{0,40}[Pp]ass(?:word|wd"
    r"|phrase)?[\"'](?:[ \t]{1,4}\w{1,16}=[\"']\w{0,16}[\"']){0,3}[ \t]{0,4}>"
    r"(?P<value>[^<>\s]{4,512})</(?!string)"
)
_SEALED = re.compile(r"\{[A-Za-z0-9+/=]{16,2048}\}")


def _xml(text: str, low: str) -> Iterator[Match]:
    for stem in ("pass", "secret", "token", "apikey", "privatekey"):
        for at in at_each(low, stem):
            found = _XML_ELEMENT.match(text, at) or _XML_ATTRIBUTE.match(text, at)
            if found is None and text.startswith("name=", max(0, text.rfind("name=", max(0, at - 48), at))):
                found = _XML_SETTING.match(text, text.rfind("name=", max(0, at - 48), at))
            if found is None or text.rfind("<!--", max(0, at - 2_000), at) > text.rfind("-->", max(0, at - 2_000), at):
                continue
            group = "value" if found["value"] is not None else "beside"
            value = found[group]
            sealed = _SEALED.fullmatch(value) is not None
            if sealed or (is_given(value) and (stem == "pass" or is_random(value))):
                yield match_of(found, "password" if stem == "pass" else "api-key", group=group)


# --- Accounts with hashes -------------------------------------------------------------------------------------

HASH = (
    r"\$(?:1|2[abxy]?|5|6|7|8|9|y|gy|apr1|sha1|md5|argon2(?:id|i|d)|scrypt|pbkdf2-sha\d{1,3}|P|H|S|krb5\w{0,12})\$"
    r"[\w./$+=,-]{6,250}|\{(?:S|SS)HA(?:\d{3})?\}[A-Za-z0-9+/=]{20,200}"
)
_ACCOUNT = re.compile(r"(?P<user>[\w.@+$-]{1,64}):(?P<value>" + HASH + r")(?=:|\r?\n|$)")


def _accounts(text: str, low: str, sign: str, shape: Shape) -> Iterator[Match]:
    """`htpasswd`, `shadow`, `proftpd` and whatever else keeps accounts as lines of `user:hash`."""
    for at in at_each(low, sign):
        begin = text.rfind("\n", max(0, at - 80), at) + 1
        begin = begin if begin > 0 or at < 80 else at
        found = _ACCOUNT.match(text, begin)
        if found is not None and found.start("value") == at + 1 and shape.settings:
            yield match_of(found, "password-hash")


# --- JSON and properties of package managers --------------------------------------------------------------------

_DOCKER_AUTH = re.compile(r"\"auth\"[ \t]{0,8}:[ \t]{0,8}\"(?P<value>[A-Za-z0-9+/_-]{6,1024}={0,2})\"")
_NPM_AUTH = re.compile(r"(?P<name>_(?:auth(?:Token)?|password))[ \t]{0,8}=[ \t]{0,8}[\"']?(?P<value>[^\s\"']{4,1024})")
_FIREFOX = re.compile(
    r"\"(?:encrypted(?:Username|Password)|encPassword)\"[ \t]{0,8}:[ \t]{0,8}"
    r"\"(?P<value>[A-Za-z0-9+/]{16,1024}={0,2})\"",
    re.IGNORECASE,
)
_SECRET_DATA = re.compile(
    r"(?P<in>[ \t]{1,16})[\w.\"'-]{1,80}:[ \t]{1,8}[\"']?(?P<value>[A-Za-z0-9+/]{4,8192}={0,2})[\"']?[ \t]{0,16}\r?$"
)
_KUBE = re.compile(r"client-key-data[\"']?:[ \t]{0,8}[\"']?(?P<value>[A-Za-z0-9+/]{24,16384}={0,2})")


def _docker(text: str, low: str) -> Iterator[Match]:
    for at in at_each(low, '"auth"'):
        found = _DOCKER_AUTH.match(text, at)
        pair = decode(found["value"]) if found is not None else None
        if found is not None and pair is not None and ":" in pair and is_given(pair.partition(":")[2].strip()):
            yield match_of(found, "registry-login")


def _npm(text: str, low: str, word: str, shape: Shape) -> Iterator[Match]:
    for at in at_each(low, word):
        name = text[max(text.rfind("\n", max(0, at - 200), at) + 1, at - 200, 0) : at]
        if not (name.startswith("//") and name.endswith(":")) and (name or word == "_password"):
            continue
        found = _NPM_AUTH.match(text, at)
        if found is None or not is_given(found["value"]):
            continue
        if shape.settings or is_random(found["value"]) or decode(found["value"]) is not None:
            yield match_of(found, "npm-token" if found["name"] == "_authToken" else "registry-login")


def _firefox(text: str, low: str) -> Iterator[Match]:
    for at in at_each(low, '"enc'):
        found = _FIREFOX.match(text, at)
        # What Firefox keeps begins alike and has many zero bytes, so only its variety tells it from a sample.
        if found is not None and len(set(found["value"])) >= 16:
            yield match_of(found)


def _kubernetes(text: str, low: str) -> Iterator[Match]:
    for at in at_each(low, "client-key-data"):
        found = _KUBE.match(text, at)
        if found is not None and not is_placeholder(found["value"]):
            yield match_of(found, "private-key")


def _kubernetes_secret(text: str, low: str) -> Iterator[Match]:
    """What stands in base64 under `data:` of a manifest of a secret."""
    done = 0
    for at in at_each(low, "kind: secret"):
        if at < done or low[at + 12 : at + 13] not in ("", "\r", "\n", " "):
            continue
        start = max(text.rfind("\n---", max(0, at - 8_192), at) + 1, done)
        end = text.find("\n---", at, at + 65_536)
        done = end = end if end >= 0 else min(len(text), at + 65_536)
        block = re.compile(r"^data:[ \t]{0,16}\r?$", re.MULTILINE).search(text, start, end)
        if block is None:
            continue
        position = block.end() + 1
        while position < end:
            stop = text.find("\n", position, end)
            stop = end if stop < 0 else stop
            if stop > position and text[position] not in " \t\r":
                break
            found = _SECRET_DATA.match(text, position, stop)
            if found is not None and _is_kept_secret(text[position : found.start("value")], found["value"]):
                yield match_of(found, "kubernetes-secret")
            position = stop + 1


def _is_kept_secret(name: str, value: str) -> bool:
    name = name.lower()
    if any(word in name for word in ("user", "host", "port", ".crt", "ca.", "namespace", "email", "region", "url:")):
        return False
    inner = decode(value)
    if inner is None:
        return len(value) >= 24 and is_random(value)
    inner = inner.strip()
    return "\n" in inner or (is_given(inner) and not inner.isdigit())


# --- Lines of services ------------------------------------------------------------------------------------------

_PGPASS = re.compile(
    r"(?:[\w.*-]{1,255}|\[[\da-f:]{2,45}\]):(?:\d{2,5}"
    r"|\*):(?:[\w.*-]{1,128}):[\w.*@-]{1,128}:(?P<value>(?:[^\s:\\]|\\[\\:]){1,256})[ \t]{0,16}\r?$",
    re.IGNORECASE | re.MULTILINE,
)
_NETRC = re.compile(
    r"machine[ \t]{1,40}\S{1,255}\s{1,40}(?:(?:login|user)[ \t]{1,40}(?P<user>\S{1,255})\s{1,40})?"
    r"(?:account[ \t]{1,40}\S{1,255}\s{1,40})?password[ \t]{1,40}[\"']?(?P<value>[^\s\"']{1,512})"
)
_CREDENTIAL_URL = re.compile(
    r"[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{0,255}:(?P<value>[^\s@/]{3,512})@[\w.\[\]:-]{3,255}"
    r"[\w./%?=&-]{0,255}[ \t]{0,16}\r?$"
)
_NETWORK = re.compile(
    r"(?:(?:enable|line)[ \t]{1,16})?(?P<name>secret|password|community|key-string|encrypted-password|pre-shared-key"
    r"(?:[ \t]{1,16}ascii-text)?|md5[ \t]{1,16}\d"
    r"|key)[ \t]{1,16}(?:(?:encrypted[ \t]{1,16})?[0-9][ \t]{1,16}|[0-9a-z]{1,8}[ \t]{1,16}(?=\$))?"
    r"(?P<quote>\"?)(?P<value>[^\s\";]{3,256})(?P=quote)[ \t]{0,16}(?:;|\r?$|RO\b|RW\b|rw\b|ro\b"
    r"|address\b|view\b|level\b)",
    re.MULTILINE,
)
_NETWORK_SIGNS = re.compile(
    r"^(?:hostname \S{1,64}[ \t]{0,16}$|interface \w|enable (?:secret|password) |snmp-server "
    r"|line (?:vty|con)|no ip |ip route "
    r"|[ \t]{0,16}host-name [\w-]{1,64};|router \w|aaa |service password-encryption)",
    re.MULTILINE,
)
_SEALED_BY_ROUTER = re.compile(r"\$\d{1,2}\$[\w./$]{8}")
_RESOURCE = re.compile(r"\$USER\d{1,3}\$[ \t]{0,16}=[ \t]{0,16}(?P<value>\S{4,256})[ \t]{0,16}\r?$", re.MULTILINE)


def _pgpass(text: str, low: str, sign: str, shape: Shape) -> Iterator[Match]:
    seen = -1
    for at in at_each(low, sign):
        begin = text.rfind("\n", max(0, at - 256), at) + 1
        if begin == seen or (begin == 0 and at > 256):
            continue
        seen = begin
        found = _PGPASS.match(text, begin)
        if found is not None and found.start("value") > at:
            strong = password_like(found["value"], quoted=True, code=False)
            if strong or (shape.settings and is_given(found["value"])):
                yield match_of(found)


def _netrc(text: str, low: str) -> Iterator[Match]:
    for at in at_each(low, "machine"):
        if at and text[at - 1] != "\n":
            continue
        found = _NETRC.match(text, at)
        if found is not None and found["user"] != "anonymous" and is_given(found["value"]):
            yield match_of(found)


def _network(text: str, low: str, shape: Shape) -> Iterator[Match]:
    """Routers and switches: Cisco's and Juniper's lines, with hashes and their own weak ciphers."""
    if not shape.settings or _NETWORK_SIGNS.search(text) is None:
        return
    for word in ("secret ", "password ", "community ", "key-string ", "pre-shared-key ", "md5 "):
        for at in at_each(low, word):
            begin = max(text.rfind("\n", max(0, at - 100), at) + 1, at - (10 if word == "password " else 0))
            found = _NETWORK.match(text, at if text[begin:at].strip() != "encrypted-" else begin)
            value = found["value"] if found is not None else "public"
            given = is_given(value) or _SEALED_BY_ROUTER.match(value) is not None
            if found is not None and given and value.lower() not in ("public", "private", "encryption"):
                yield match_of(found)


def _nagios(text: str, low: str) -> Iterator[Match]:
    for at in at_each(low, "$user"):
        found = _RESOURCE.match(text, at)
        if found is not None and password_like(found["value"], quoted=False, code=False):
            yield match_of(found)


# --- Files that are one credential ------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z][\w.@-]{1,63}")
_DIGEST_LINE = re.compile(
    r"[\w.@+-]{1,64}:(?:[\w .@-]{1,64}:)?(?P<value>[0-9a-f]{32}|[A-Za-z0-9./]{13})(?::.{0,200})?[ \t]{0,16}\r?$"
)


def _whole(text: str) -> Iterator[Match]:
    """A user and a password on two lines, and lists of URLs with passwords."""
    if len(text) < 2_000:
        body = text.strip()
        lines = body.split("\n")
        if len(lines) == 2 and _NAME.fullmatch(lines[0].strip()) is not None:
            value = lines[1].strip()
            if _is_login(lines[0].strip(), value):
                at = text.rindex(value)
                yield Match("password", at, at + len(value), value, CONTEXT)
    if text.startswith(("http", "ftp", "ssh", "smtp", "imap")):
        yield from _lines_of(text, _CREDENTIAL_URL, is_given, "url-password")
    elif len(text) < 100_000 and _DIGEST_LINE.match(text, 0, (text.find("\n") + 1 or len(text) + 1) - 1) is not None:
        yield from _lines_of(text, _DIGEST_LINE, _is_crypt, "password-hash")


def _lines_of(text: str, form: re.Pattern[str], given: Callable[[str], bool], kind: str) -> Iterator[Match]:
    """The values of a text of which every line but comments has one form."""
    found: list[Match] = []
    at = 0
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = form.match(text, at, end)
        if line is None:
            if text[at:end].strip() and text[at] != "#":
                return
        elif given(line["value"]):
            found.append(match_of(line, kind))
        at = end + 1
    yield from found


def _is_crypt(value: str) -> bool:
    return len(set(value)) >= 8 and (
        HEX.fullmatch(value) is not None
        or (
            any(c.isupper() for c in value)
            and any(c.islower() for c in value)
            and any(c in "./0123456789" for c in value)
        )
    )


def _is_login(user: str, value: str) -> bool:
    return (
        any(c.isdigit() for c in value)
        and any(c.isalpha() for c in value)
        and (user == user.lower() or "@" in user)
        and password_like(value, quoted=False, code=False)
        and is_given(value)
        and HEX.fullmatch(value) is None
    )
