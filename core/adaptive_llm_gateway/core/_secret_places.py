"""Credentials by their place: assignments, sentences that tell a password, URLs, command lines, private keys."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adaptive_llm_gateway.core._secret_values import (
    CONTEXT,
    NOT_A_KEY,
    NOT_A_TOKEN,
    PLACE,
    PLACEHOLDER,
    SLUG,
    STRONG,
    Match,
    is_strong,
    is_url_password,
    is_wordy,
    key_like,
    names_no_key,
    password_like,
)

# --- Short values: passwords and assignments ----------------------------------------------------------

_QUOTED = r"\\{0,2}(?:\"(?P<d>[^\"\n]{4,256})\"|'(?P<s>[^'\n]{4,256})'|`(?P<b>[^`\n]{4,256})`)"
_BARE = r"(?P<u>[^\s\"'`,;<>|]{4,256})"
_SUFFIX = (
    r"(?:[_-](?:prod(?:uction)?|dev|staging|stage|live|test|local|root|admin|base64|b64|value"
    r"|(?!id)[a-z0-9]{1,2})){0,2}"
)
_ASSIGN = (
    r"\\{0,2}[\"'`*\])]{0,4}[ \t]{0,8}(?P<sep>:=|=>|={1,3}|!=|:|\||(?<=[\"'])[ \t]{0,2},"
    r"|(?<=[\"'])[ \t]value=|>)\*{0,2}[ \t]{0,8}"
    rf"[@bru]?(?:{_QUOTED}|{_BARE})"
)
_TOLD = (
    r"[\"'`*)]{0,3}(?:[ \t]+\([^()\n]{1,40}\))?"
    r"(?:[ \t]+(?:for|to|of|on|at|in|into|from|zum?|für|vo[mn]|pour|para|del?|du)[ \t](?:[^\n.;:=]|\.(?=\w)){1,60}?)?"
    r"[\"'`*]{0,3}(?:[ \t]+(?:(?:is|was|are|ist|war|lautet|est|es|era|é|è|becomes|remains|has been|will be)"
    r"(?:[ \t]{1,64}(?:now|still|currently|just|again|temporarily)){0,2}"
    r"(?:[ \t]+(?:set|changed|reset|updated|rotated)[ \t]+to)?"
    r"|(?:set|changed|reset|updated|rotated)[ \t]+to|to|=):?|:)"
    rf"[ \t]+\*{{0,2}}(?:{_QUOTED}|{_BARE})"
)
_BELOW = (  # after an arrow, or on a line of its own below the name
    r"(?:[ \t]{0,4}(?:->|→)[ \t]{0,4}|[\"'`*]{0,3}:\*{0,2}[ \t]{0,4}(?:\r?\n[ \t>]{0,8}){1,2})[\"'`]{0,3}"
    r"(?P<u>[^\s\"'`]{4,256})[\"'`]{0,3}[ \t]{0,4}(?=\r|\n|$|[.,;)])"
)
_DIRECT = rf"[ \t]+\(?(?:{_QUOTED})"
_NAMES = (
    r"(?:pass(?:[ _-]?(?:word|wd|phrase|code|wort|wrd|e\b))?|pwd|pw\b"
    r"|kennwort|contrase(?:ñ|n)a|senha|wachtwoord)s?"
)
_PASS_ASSIGN = re.compile(_NAMES + _SUFFIX + _ASSIGN, re.IGNORECASE)
_PASS_TOLD = re.compile(_NAMES + _TOLD, re.IGNORECASE)
_PASS_DIRECT = re.compile(r"(?:pass(?:word|wd|phrase|code)|passwort|pwd|kennwort)" + _DIRECT, re.IGNORECASE)
_PASS_BELOW = re.compile(_NAMES + _SUFFIX + _BELOW, re.IGNORECASE)
_PASS_OPTION = re.compile(_NAMES + rf"[ \t]{{1,4}}(?:{_QUOTED}|{_BARE})", re.IGNORECASE)
_KEY_ASSIGN = re.compile(r"(?:key|token|secret)(?:[_-]?(?:key|token|base))?" + _SUFFIX + _ASSIGN, re.IGNORECASE)
_KEY_NAMES = tuple(
    re.findall(
        r"\w+",
        "api access secret private auth encryption signing master service account storage client session app admin jwt"
        " hmac webhook license consumer shared deploy subscription integration bot bearer refresh security django flask"
        " cookie crypt encrypt identity validation decryption",
    )
)
_KEY_NAME = re.compile(rf"(?:{'|'.join(_KEY_NAMES)})[ _.-]?$", re.IGNORECASE)
_KEY_VARIABLE = re.compile(r"(?!.*(?:PUBLIC|PRIMARY|FOREIGN|SORT|CACHE|MAX|NUM|PAGE|NEXT))[A-Z][A-Z0-9_]{1,40}_")
_CODE = re.compile(r"[A-Za-z]\w*(?:\.\w{1,256})+|\w+=\S*|.*::.*|-.*")
_ENV_NAME = re.compile(r"\bENV [A-Z0-9_]*$")
_BESIDE = re.compile(r"(?<![^\s\"'`:/(|])[^\s\"'`<>:/(){}\[\]\\=,;|]{8,40}(?![^\s\"'`<>,;.:)|])")
_STRONG_SIGN = re.compile(f"[{re.escape(STRONG)}]")
_OTHER_SIGN = re.compile(r"[^A-Za-z0-9+=]")
_GOES_ON = frozenset("_-ktb\\\"'`*]) \t:=!|>?")  # `?` is what stands for a character that is not ASCII
_ASSIGNS = frozenset(" \t:=!|>")
_JOINTS = (" ", "_", ".", "-")
_LONG_RUN = 44  # characters without a blank, as a password has not
_BEFORE, _AFTER = 60, 100  # characters around such a word
_LOGINS = ("credential", "login", "identified by")
_STEMS = ("pass", "pw", "kennwort", "contrase", "senha", "wachtwoord", *_LOGINS)
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
    """Passwords that are assigned (`PASSWORD=...`), told in a sentence, or plain to see beside a login."""
    for stem in _STEMS:
        at = low.find(stem)
        near = 0
        while at >= 0:
            after = at + len(stem)
            if _is_name(low, at, stem) or text[at].isupper():
                match, read = _password_at(text, at)
                after = max(after, read)
                if match is not None:
                    yield match
            if at >= near:
                yield from _beside(text, at, after=at + len(stem) if stem == "pw" else at)
                near = at + _BEFORE
            at = low.find(stem, after)


def _is_name(low: str, at: int, stem: str) -> bool:
    """`dbpassword` and `pass` name a password, `compass` and `bypass` do not; `userPass` shows by its capital."""
    if stem in _LOGINS:
        return False
    if at == 0 or not low[at - 1].isalpha() or low.endswith("require", 0, at):
        return True
    return low.startswith(("password", "passwd", "passphrase", "passcode", "pwd"), at)


def _beside(text: str, at: int, *, after: int) -> Iterator[Match]:
    """What can hardly be anything but a password, on a line that speaks of logging in: `admin / Xy7#...`.

    Args:
        after: what goes from `at` to here names no login within a value; two letters come up by chance.
    """
    begin = max(text.rfind("\n", max(0, at - _BEFORE), at) + 1, at - _BEFORE)
    end = text.find("\n", at, at + _AFTER)
    cut = end < 0 and at + _AFTER < len(text)
    end = min(len(text), at + _AFTER) if end < 0 else end
    if _STRONG_SIGN.search(text, begin, end) is None:
        return  # as nearly always, and as no strong password is
    for found in _BESIDE.finditer(text, begin, end):
        value = found.group().rstrip(".,:)")
        if (
            not (cut and found.end() == end)
            and not found.start() <= at < after <= found.end()
            and is_strong(value)
            and not _within_a_run(text, found.start(), found.end())
        ):
            yield Match("password", found.start(), found.start() + len(value), value, CONTEXT)


def _within_a_run(text: str, start: int, end: int) -> bool:
    """Whether it is a piece of something long and unbroken, such as a line of base64."""
    if end - start > 20 and not _OTHER_SIGN.search(text, start, end):
        return True
    while start > 0 and end - start < _LONG_RUN and not text[start - 1].isspace():
        start -= 1
    while end < len(text) and end - start < _LONG_RUN and not text[end].isspace():
        end += 1
    return end - start >= _LONG_RUN and text.count("/", start, end) + text.count("+", start, end) > 0


def _password_at(text: str, at: int) -> tuple[Match | None, int]:
    """The password told at this word, if any, and how far no other has to be looked for."""
    read = at
    assigned = _PASS_ASSIGN.match(text, at)
    if assigned is not None and _separated(text, at, assigned):
        value, start, end, quoted = _value(assigned)
        if password_like(value, quoted=quoted, code=_is_code(assigned)) and not _is_hash(text, at):
            return Match("password", start, end, value, CONTEXT), end
        read = _read_to(start, end, quoted=quoted)
    for pattern in (_PASS_TOLD, _PASS_DIRECT):
        told = pattern.match(text, at)
        if told is not None and not text.startswith("pass to ", at):
            value, start, end, quoted = _told_value(told)
            # Words that only stand beside the word `password`, such as a slug or a piece of code, are about it.
            beside = _CODE if quoted else SLUG
            if beside.fullmatch(value.rstrip(".,")):
                continue
            if password_like(value, quoted=quoted, code=False):
                return Match("password", start, end, value, CONTEXT), end
    below = _PASS_BELOW.match(text, at)
    if below is not None and password_like(below["u"], quoted=False, code=False) and not _is_hash(text, at):
        return Match("password", below.start("u"), below.end("u"), below["u"], CONTEXT), below.end()
    name = text[max(0, at - 40) : at]
    if name.endswith(("-", "require")) or " login " in name or ("ENV " in name and _ENV_NAME.search(name)):
        option = _PASS_OPTION.match(text, at)
        if option is not None:
            value, start, end, quoted = _value(option)
            if password_like(value, quoted=quoted, code=False):
                return Match("password", start, end, value, CONTEXT), end
    return None, read


def _read_to(start: int, end: int, *, quoted: bool) -> int:
    # A long unbroken value was judged as one: reading it again from each word in it would cost its square.
    return end if not quoted and end - start > 64 else start


def _is_hash(text: str, at: int) -> bool:
    """Whether what is before it on its line says that it is a hash."""
    return "hash" in text[max(0, at - 12) : at].lower().replace("\r", "\n").rpartition("\n")[2]


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
    return opened >= 0 and " " not in text[opened:at] and text.startswith("<", found.end())


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
            found = _KEY_ASSIGN.match(text, at) if _may_assign(low, after) else None
            if found is not None:
                value, start, end, quoted = _value(found)
                after = max(after, _read_to(start, end, quoted=quoted))
                if (
                    len(value) >= 8
                    and _separated(text, at, found)
                    and _key_named(text, at, stem)
                    and key_like(value, quoted=quoted, code=_is_code(found))
                ):
                    yield Match("api-key", start, end, value, CONTEXT)
            at = low.find(stem, after)


def _may_assign(low: str, after: int) -> bool:
    """What `_KEY_ASSIGN` needs behind its word; most such words in prose are followed by another one."""
    sign = low[after : after + 1]
    return sign in _GOES_ON and (sign != " " or low[after + 1 : after + 2] in _ASSIGNS)


_ARN = re.compile(r"arn:[\w:/-]{1,80}")  # the name of a resource of AWS, of which `secret:` is a part


def _is_key_name(before: str) -> bool:
    """`_KEY_NAME`, without trying it at each place of what is before a word."""
    if not before.isascii():
        return _KEY_NAME.search(before) is not None
    before = before.lower().removesuffix("\n")
    return before.endswith(_KEY_NAMES) or (before[-1:] in _JOINTS and before[:-1].endswith(_KEY_NAMES))


def _key_named(text: str, at: int, stem: str) -> bool:
    begin = at
    while begin > max(0, at - 40) and (text[begin - 1].isalnum() or text[begin - 1] in "_.-"):
        begin -= 1
    name = text[begin:at]
    if (
        (names_no_key(name.lower()) if name.isascii() else NOT_A_KEY.search(name))
        or text.startswith("checksum/", begin - 9)  # an annotation of Helm, so that pods restart
        or text.startswith(".svg?", begin - 5)
        or ("." not in name and text.startswith("::", begin - 2))
    ):
        return False
    resource = text.rfind("arn:", max(0, begin - 80), begin)
    if resource >= 0 and _ARN.fullmatch(text, resource, at) is not None:
        return False
    if stem == "token" and NOT_A_TOKEN.search(name) is not None:
        return False
    if _is_key_name(text[max(0, at - 20) : at]) or _KEY_VARIABLE.fullmatch(name):
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
            if len(set(found["body"])) >= 20:
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
