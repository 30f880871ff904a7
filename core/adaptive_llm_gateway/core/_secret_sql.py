"""Passwords and their hashes in SQL: rows of accounts in dumps, and statements that give a user a password."""

from __future__ import annotations

import re
from collections.abc import Iterator

from adaptive_llm_gateway.core._secret_shapes import Shape, is_given
from adaptive_llm_gateway.core._secret_values import PLACE, Match, password_like

_NAME = r"[`\"\[]?[\w.]{1,128}[`\"\]]?(?:\.[`\"\[]?\w{1,128}[`\"\]]?)?"
_INSERT = re.compile(
    rf"(?:insert(?:[ \t]{{1,16}}ignore)?|replace)[ \t]{{1,16}}into[ \t]{{1,16}}(?P<table>{_NAME})\s{{0,8}}"
    r"(?:\((?P<columns>[^()]{1,2000})\))?\s{0,8}values?\s{0,8}(?=\()",
    re.IGNORECASE,
)
_COPY = re.compile(
    rf"copy[ \t]{{1,16}}(?P<table>{_NAME})[ \t]{{0,16}}\((?P<columns>[^()]{{1,2000}})\)[ \t]{{1,16}}from"
    rf"[ \t]{{1,16}}stdin[^\n]{{0,60}};[ \t]{{0,16}}\r?\n",
    re.IGNORECASE,
)
_CREATE = re.compile(
    rf"create[ \t]{{1,16}}table[ \t]{{1,16}}(?:if[ \t]{{1,16}}not[ \t]{{1,16}}exists[ \t]{{1,16}})?"
    rf"(?P<table>{_NAME})\s{{0,8}}\(",
    re.IGNORECASE,
)
_COLUMN = re.compile(r"[ \t]{0,16}[`\"\[]?(?P<name>\w{1,128})[`\"\]]?[ \t]{1,16}\w")
_VALUE = re.compile(
    r"[ \t\r\n]{0,16}(?:_?[A-Za-z]\w{0,12}[ \t]?(?=')|[NEe](?='))?"
    r"(?:'(?P<s>(?:[^'\\]|\\[^\n]|''){0,2000})'|\"(?P<d>[^\"\n]{0,2000})\""
    r"|(?P<other>[^,()'\"]{0,200}(?:\([^()']{0,80}\))?))"
    r"[ \t\r\n]{0,16}(?P<end>[,)])"
)
_PASSWORD = re.compile(
    r"(?:^|_|[a-z](?=P))(?:pass(?:word|wd|wrd|phrase|code|_?hash)?|pwd|pw)(?:_?(?:hash|digest|md5"
    r"|sha\d?|salt))?$|password|passwd|crypt",
    re.I,
)
_ACCOUNTS = re.compile(
    r"user|account|member|customer|login|admin|people|person|employee|auth|subscriber|client|author|staff", re.I
)
_HASH = re.compile(
    r"\$(?:1|2[abxy]?|5|6|7|y|P|H|S|apr1|argon2(?:id|i|d)|scrypt)\$[\w./$+=,-]{6,250}|\*[0-9A-F]{40}"
    r"|(?:pbkdf2_sha\d{1,3}|bcrypt(?:_sha256)?|argon2|sha1|md5|scrypt)\$[\w./$+=,-]{8,250}"
    r"|(?=[a-f]{0,40}\d)(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128})",
)  # fmt: skip
_STATEMENT = re.compile(
    r"(?:identified[ \t]{1,16}(?:with[ \t]{1,16}[\w'\"]{1,40}[ \t]{1,16})?(?:by|as)(?:[ \t]{1,16}(?:password|values))?"
    r"|(?:with[ \t]{1,16}|encrypted[ \t]{1,16}|set[ \t]{1,16}|=[ \t]{0,16}"
    r"|role[ \t]{1,16}\w{1,64}[ \t]{1,16}|user[ \t]{1,16}\w{1,64}[ \t]{1,16})?password(?:[ \t]{0,16}=)?)"
    r"[ \t]{0,16}\(?[ \t]{0,16}(?:'(?P<s>[^'\n]{4,256})'|\"(?P<d>[^\"\n]{4,256})\")",
    re.IGNORECASE,
)
_ROWS, _COLUMNS = 20_000, 200  # of one statement, of one row
_CREATED = 40_000  # characters of a table's definition


def rows(text: str, low: str, shape: Shape) -> Iterator[Match]:
    """Passwords and hashes in rows that are inserted or copied into tables of accounts, and those of statements."""
    if "insert i" in low or (shape.plain and "replace into" in low):
        yield from _inserts(text, low, shape)
    if shape.plain and "from stdin" in low:
        at = low.find("copy ")
        while at >= 0:
            found = _COPY.match(text, at)
            after = at + 5
            if found is not None:
                matches, after = _copied(text, found)
                yield from matches
            at = low.find("copy ", after)
    for word in ("identified ", *(("password '", 'password "', "password('") if shape.plain else ())):
        at = low.find(word)
        while at >= 0:
            found = _STATEMENT.match(text, at)
            if found is not None and (word == "identified " or _is_statement(low, at)):
                group = "s" if found["s"] is not None else "d"
                value = found[group]
                if password_like(value, quoted=True, code=False) or (shape.sql and is_given(value)):
                    yield Match("password", found.start(group), found.end(group), value, PLACE)
            at = low.find(word, at + len(word))


def _inserts(text: str, low: str, shape: Shape) -> Iterator[Match]:
    tables: dict[str, list[str]] | None = None
    at = low.find("into ")
    while at >= 0:
        start = max(low.rfind("insert", max(0, at - 20), at), low.rfind("replace", max(0, at - 20), at))
        found = _INSERT.match(text, start) if start >= 0 else None
        after = at + 5
        if found is not None:
            if found["columns"] is None and tables is None:
                tables = _tables(text, low)
            table = _plain(found["table"])
            columns = _names(found["columns"]) if found["columns"] else (tables or {}).get(table, [])
            matches, after = _inserted(text, found.end(), table, columns, shape)
            yield from matches
        at = low.find("into ", max(after, at + 5))


def _is_statement(low: str, at: int) -> bool:
    before = low[max(0, at - 80) : at]
    return any(word in before for word in (" user ", " role ", "set ", "login ", "alter ", "create "))


def _plain(name: str) -> str:
    return name.replace("`", "").replace('"', "").strip("[]").rpartition(".")[2].lower()


def _names(columns: str) -> list[str]:
    return [name.strip(' `"[]\t\r\n') for name in columns.split(",")]


def _tables(text: str, low: str) -> dict[str, list[str]]:
    """The columns of each table that the text creates; a definition is read to its closing line."""
    tables: dict[str, list[str]] = {}
    at = low.find("create table")
    while at >= 0:
        found = _CREATE.match(text, at)
        after = at + 12
        if found is not None:
            stop = text.find("\n)", found.end(), found.end() + _CREATED)
            names: list[str] = []
            for line in text[found.end() : max(stop, found.end())].split("\n"):
                column = _COLUMN.match(line)
                if column is not None and column["name"].upper() not in ("PRIMARY", "KEY", "UNIQUE", "CONSTRAINT"):
                    names.append(column["name"])
            tables[_plain(found["table"])] = names
            after = max(after, stop)
        at = low.find("create table", after)
    return tables


def _inserted(text: str, at: int, table: str, columns: list[str], shape: Shape) -> tuple[list[Match], int]:
    places = {place for place, name in enumerate(columns) if _PASSWORD.search(name) is not None}
    accounts = _ACCOUNTS.search(table) is not None
    matches: list[Match] = []
    if not places and not accounts:
        return matches, at
    for _ in range(_ROWS):
        if not text.startswith("(", at):
            break
        at += 1
        for place in range(_COLUMNS):
            found = _VALUE.match(text, at)
            if found is None:
                return matches, at
            at = found.end()
            group = "s" if found["s"] is not None else "d" if found["d"] is not None else None
            value = found[group] if group is not None else None
            if value and group is not None and _is_kept(value, place in places, accounts and not places, shape):
                matches.append(Match("password", found.start(group), found.end(group), value, PLACE))
            if found["end"] == ")":
                break
        gap = re.compile(r"[ \t\r\n]{0,8},[ \t\r\n]{0,8}").match(text, at)
        if gap is None:
            break
        at = gap.end()
    return matches, at


def _is_kept(value: str, named: bool, unnamed: bool, shape: Shape) -> bool:
    hashed = _HASH.fullmatch(value) is not None and len(set(value)) >= 8
    if unnamed:
        return hashed and (value.startswith(("$", "*", "pbkdf2", "bcrypt", "argon2")) or len(value) == 32)
    if not named:
        return False
    return hashed or password_like(value, quoted=True, code=False) or (shape.sql and is_given(value))


def _copied(text: str, found: re.Match[str]) -> tuple[list[Match], int]:
    """What stands in the columns for passwords, up to the line that ends the rows, and where that is."""
    places = [place for place, name in enumerate(_names(found["columns"])) if _PASSWORD.search(name) is not None]
    matches: list[Match] = []
    at = found.end()
    while at < len(text):
        end = text.find("\n", at)
        end = len(text) if end < 0 else end
        line = text[at:end].rstrip("\r")
        if line.startswith("\\."):
            break
        values = line.split("\t", _COLUMNS) if places else []
        for place in places:
            value = values[place] if place < len(values) else ""
            if is_given(value) or _HASH.fullmatch(value) is not None:
                start = at + sum(len(one) + 1 for one in values[:place])
                matches.append(Match("password", start, start + len(value), value, PLACE))
        at = end + 1
    return matches, at
