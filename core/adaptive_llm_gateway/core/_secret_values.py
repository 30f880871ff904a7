"""Judging a value: a credential, or a placeholder, a reference, a word?"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import unquote

FORMAT, PLACE, CONTEXT = 0, 1, 2  # rank of a match: the lower, the more specific, wins where two overlap


@dataclass(frozen=True, slots=True)
class Match:
    """A credential in a text: `text[start:end]` is what redaction replaces, `secret` what is fingerprinted."""

    kind: str
    start: int
    end: int
    secret: str
    rank: int


# --- Is this value worth the name? ------------------------------------------------------------------

PLACEHOLDER = re.compile(
    r"""example|placeholder|redacted|change[-_]?(?:me|this|it)|replace[-_]?(?:me|this|with)|insert[-_]|dummy
    |sample|your|[-_]here$|not[-_]a?[-_]?real|my[-_]?(?:secret|passw|token|api|key)|fake|to[-_]?do|foo[-_]?bar
    |undefined|censored|masked""",
    re.IGNORECASE | re.VERBOSE,
)
_PLACEHOLDER_PARTS = tuple(
    re.findall(
        r"\S+",
        "example placeholder redacted change replace insert dummy sample your here real my fake todo to-do to_do foo"
        " undefined censored masked",
    )
)
_FILLERS = tuple(re.findall(r"\S+", "xxxx XXXX *** ... … 12345678 01234567 abcdefgh ABCDEFGH ${ $( {{ {% <% EXAMPLE"))
# The values in the examples of RFC 6749 and RFC 6750 (OAuth 2.0), which every documentation of an API repeats.
_PUBLISHED = frozenset(
    {"2YotnFZFEjr1zCsicMWpAA", "tGzv3JOkF0XG5Qx2TlKWIA", "gX1fBat3bV", "45ghiukldjahdnhzdauz", "mF_9.B5f-4.1JqM"}
    | {"SplxlOBeZQQYbYS6WxSbIA", "7Fjfp0ZBr1KtDRbnfVdmIw", "dbjftJeZ4CVP"}
)
_EIGHT_SAME = re.compile(r"(.)\1{7}")
_REFERENCE = re.compile(
    r"""\$\w+|%\w+%|ENC\[[A-Z0-9_]{3,20}.*|<[^>]*>?|\{[^}]*\}?|\[[^\]]*\]?|@\w+@|%\(\w+\)\w?|%[sdrv]|:\w+|[&!|>][A-Za-z-]*|\#.*
    |(?:os\.|process\.|env[.\[(:]|secrets?[.\[:]|vars?[.\[]|config[.\[]|settings[.\[]|self[.\[]|this\.|op://|vault:
       |ssm:|arn:|file:|https?:|data:).*""",
    re.IGNORECASE | re.VERBOSE,
)
# `[redacted:password#ab12]`, as it is written, `[REDACTED:password]`, as it was, and other tools' `[REDACTED:EMAIL_1]`.
# No part of one has room for a credential: a kind has at most one digit, and its small letters alone are none.
MARK = re.compile(
    r"\[(?:redacted|REDACTED)"
    r"(?::(?:[a-z](?=[a-z-]*\d?[a-z-]*[#\]])[a-z\d-]{0,39}|[A-Z][A-Z_-]{0,39}\d?)(?:\#[0-9a-f]{1,4})?)?\]"
)
_IMITATION = re.compile(
    r"\[(?i:redacted):(?:[a-z](?=[a-z-]*\d?[a-z-]*[#:])[a-z\d-]{0,39}[#:])?([^\[\]]*)\]?",
)
_PATH = re.compile(r"(?:\.{1,2}|~|[A-Za-z]:)?[/\\]\S*")
_LETTERS = re.compile(r"[A-Z]?[a-z]{2,}|[A-Z]{3,}")
HEX = re.compile(r"(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]+")
UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HAS_DIGIT = re.compile(r"\d")
_NO_LETTER = re.compile(r"[\W\d_]+")
_NO_ASCII_LETTER = bytes(code for code in range(128) if not chr(code).isalpha())
_PART = re.compile(r"[A-Z]?[a-z]{0,12}\d{0,3}|[A-Z]{1,12}\d{0,3}|\d{1,14}")
_FILE = re.compile(
    r"\.(?:md|mdx|txt|py|json|ya?ml|toml|lock|html?|css|jsx?|tsx?|png|jpe?g|svg|gif|csv|log|db|pdf|zip|gz|sh)$",
    re.IGNORECASE,
)
_RESOURCE = re.compile(r"(?:key|alias|policy|role|user|secret|sink|domain|fleet|build|table|cluster)/")
_CAMEL_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_THREE = re.compile("|".join(chr(c) + chr(c + 1) + chr(c + 2) for c in range(97, 121)).encode())
_FIRST = ord("a")
# What names a thing and is no credential, whatever it stands beside: an id, an advisory, an algorithm, a version, a
# measure, a place in a file.
_NAMED = re.compile(
    r"(?:(?:mem|memory|handoff|session|id)[:/_-])?01[0-9A-HJKMNP-TV-Z]{24}"  # a ULID, as memories and handoffs have
    r"|GHSA(?:-[23456789cfghjmpqrvwx]{4}){3}|CVE-\d{4}-\d{3,7}|[A-Z]{2,8}-(?:20\d\d-)?\d{1,6}|20\d\d-(?:Q[1-4]|[WH]\d\d?)"
    r"|(?i:aes|rsa|hmac|pbkdf2|hkdf|ecdhe?|ecdsa|eddsa|ed25519|x25519|chacha20|sha\d{1,3}|oauth\d?|argon2i?d?)"
    r"(?:[-_/](?:\d{1,4}|[A-Za-z]{1,8}\d{0,4})){0,5}(?:\.\d)?"
    r"|(?:[a-z]{2,20}[-@])?v?\d{1,4}(?:\.\d{1,4}){1,3}(?:-?(?:rc|alpha|beta|dev|post|pre|build)[.-]?\d{0,4})?"
    r"|[a-z]{1,12}\d{0,3}[=<>]{1,2}\d{1,9}(?:\.\d{1,6})?(?:[munµ]?s|min|h|d|[kKMG](?:i?B)?|%|px)"
    r"|[\w./-]{1,200}\.(?:pyi?|[jt]sx?|go|rs|java|kts?|rb|php|cs|[ch](?:pp)?|swift|sql|sh|md|ya?ml|toml|json)(?::\d{1,6}){1,2}"
)
# `shop-db-password-x2k9f`: an object in Kubernetes, with letters at its end that spell no words.
_OBJECT = re.compile(
    r"[a-z]{2,20}\d?(?:-[a-z]{2,20}\d?){1,6}(?:-[bcdfghjklmnpqrstvwxz2456789]{6,10})?-(?:[bcdfghjklmnpqrstvwxz2456789]{5}){1,2}"
)
_SLUG_PATH = re.compile(r"(?:[a-z]{2,20}\d{0,2}|v?\d{1,2})(?:[-_./](?:[a-z]{1,20}\d{0,2}|v?\d{1,2})){2,12}")
SSH_PUBLIC = ("AAAAB3NzaC1", "AAAAC3NzaC1", "AAAAE2VjZHNh", "AAAAGnNr", "AAAAInNr")

NOT_A_KEY = re.compile(
    r"public|fingerprint|sha-?\d|md5|checksum|digest|integrity|hash|commit|revision|blob|etag|uuid|websocket-"
    # What names a thing, or marks a place in a list: the last words before a value.
    r"|(?:arn:[\w:-]{3,80}:|\w::\w{1,40}[`\"' =:]{0,6}|(?:identifier"
    r"|(?:next|starting|change|client|update|page|continuation|cursor|lock|resume"
    r"|pagination|idempotency|request)[ _-]?(?:page[ _-]?)?token)[`\"' =:]{0,6})$",
    re.IGNORECASE,
)

_NOT_KEY_WORDS = tuple(
    re.findall(
        r"\S+",
        "public fingerprint sha md5 checksum digest integrity hash commit revision blob etag uuid websocket- arn: ::",
    )
)


def names_no_key(low: str) -> bool:
    """Whether `NOT_A_KEY` is in a text of small ASCII letters; most have none of its words, which is seen sooner."""
    for word in _NOT_KEY_WORDS:
        if word in low:
            return NOT_A_KEY.search(low) is not None
    return low.rstrip("`\"' =:\n").endswith(("token", "identifier")) and NOT_A_KEY.search(low) is not None


# What a token of no worth to anybody else is called before the word `token`.
NOT_A_TOKEN = re.compile(
    r"(?:next|starting|change|client|update|page|continuation|cursor|lock|resume|pagination|idempotency|request|unit)"
    r"[_-]?$",
    re.IGNORECASE,
)

# Adjacent letters in technical English are one of these 140 pairs in 83 % of cases, random letters in 21 %.
_PAIRS = frozenset(
    re.findall(
        r"\S+",
        "ac ad ag ai al am an ar as at au bl bu ca ce ch ci ck cl co cr ct da de di do ea ec ed ee ef el em en ep "
        "er es et ev ex fa fi fo ge gi ha he hi ho ht hu ic ie if ig il im in io ir is it ka ke la ld le li ll lo "
        "lt ly ma me mi mm mo mp na nc nd ne ng no np ns nt oc od ol om on op or os ot ou ow pa pe pl pm po pr ps "
        "pt pu ra re ri ro rs rt ru ry sc se sh si so sp ss st su ta te th ti to tr ts tt ty ub ue ul un ur us ut "
        "va ve vi wh wi yp ",
    )
)


def unmarked(value: str) -> str:
    """A value without the marks in it; of what only looks like a mark, what it carries."""
    return _IMITATION.sub(r"\1", MARK.sub("", value)) if "[" in value else value


def is_placeholder(value: str) -> bool:
    """Whether a value stands for one (`<token>`, `xxxx`, `${VAR}`, `AKIA...EXAMPLE`) or was redacted before."""
    rest = unmarked(value) if "[" in value else value
    if len(rest) < 4 or rest in _PUBLISHED or _is_filler(rest) or _REFERENCE.fullmatch(rest) is not None:
        return True
    # In a long random text four letters may come together by chance.
    if len(rest) >= 40 and len(set(rest)) >= 20:
        return False
    low = rest.lower()
    for part in _PLACEHOLDER_PARTS:  # most values have none of them: looking for words is cheaper than the expression
        if part in low:
            return PLACEHOLDER.search(rest) is not None
    return False


def _is_filler(value: str) -> bool:
    for filler in _FILLERS:
        if filler in value:
            return True
    return _EIGHT_SAME.search(value) is not None


def is_wordy(value: str) -> bool:
    """Whether most of it reads like words rather than like chance; too little to tell is not words."""
    words = _LETTERS.findall(value)
    covered = sum(map(len, words))
    total = covered - len(words)
    if total < 4 or covered * 2 < len(value):
        return False
    common = 0
    for word in words:
        run = word.lower()
        common += sum([run[i : i + 2] in _PAIRS for i in range(len(run) - 1)])
    return common > 0.6 * total


def _is_slug(value: str) -> bool:
    """`journal/2024-05-01.md`, `v2.4.7-hotfix-20240501-build7`: words and numbers joined by signs."""
    parts = re.split(r"[-_./+]", value)
    return _FILE.search(value) is not None or (len(parts) > 2 and all(_PART.fullmatch(part) for part in parts))


def _letters(value: str) -> int:
    """How many letters a value has."""
    if value.isascii():
        return len(value.encode().translate(None, _NO_ASCII_LETTER))
    return len(_NO_LETTER.sub("", value))


def is_varied(value: str) -> bool:
    """Enough different characters for a token, and no placeholder: all that a vendor's own prefix still needs."""
    return len(set(value)) >= min(8, len(value) // 2) and not is_placeholder(value)


def is_mixed(value: str) -> bool:
    """`is_varied`, and not only words: what a vendor's prefix needs that words may follow as well (`hf_`)."""
    if not is_varied(value):
        return False
    return _HAS_DIGIT.search(value) is not None or (
        value != value.lower() and value != value.upper() and not is_wordy(value)
    )


def is_random(value: str) -> bool:
    """What a generator made, for values whose only other sign is where they stand."""
    if len(set(value)) < min(9, len(value) // 2) or _letters(value) < 3 or is_placeholder(value):
        return False
    if _RESOURCE.match(value) is not None or _is_sequence(value) or _NAMED.fullmatch(value) is not None:
        return False
    if _OBJECT.fullmatch(value) is not None:
        return False
    if HEX.fullmatch(value) or UUID.fullmatch(value):
        return True
    if _HAS_DIGIT.search(value) is None and (value == value.lower() or value == value.upper() or _is_camel(value)):
        return False
    return not is_wordy(value) and not _is_slug(value)


def _is_camel(value: str) -> bool:
    """`AsyncAdminAPIKeys`: a name of words joined by their capitals, which random letters change too often for."""
    parts = _CAMEL_PART.findall(value)
    return len(value) >= 4 * len(parts) and sum(map(len, parts)) == len(value)


def _is_sequence(value: str, *, shortest: int = 10) -> bool:
    """`1a2b3c4d-5e6f-7a8b-9c0d`, `AB1C2defGHijklMN`: the alphabet in its order, as samples have it."""
    if value.isascii():
        letters = value[:96].encode().translate(None, _NO_ASCII_LETTER).lower()
    else:
        letters = _NO_LETTER.sub("", value[:96]).lower().encode("ascii", "ignore")
    if len(letters) < shortest or _THREE.search(letters) is None:
        return False
    steps = sum(after - before == 1 or after == _FIRST for before, after in pairwise(letters))
    return steps * 10 >= (len(letters) - 1) * 9


def decode(value: str) -> str | None:
    """Base64 or base64url, padded or not, as UTF-8; None when it is not that."""
    body = value.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


# --- Passwords and short keys ---

WEAK = frozenset(
    re.findall(
        r"\S+",
        "password passwd passw0rd pass pwd secret user username test admin root guest hunter example foo bar baz "
        "none null true false string default changeme letmein value token key postgres mysql redis rabbitmq mongo "
        "minio passwort kennwort wachtwoord contraseña contrasena senha motdepasse gebruiker",
    )
)
_TRIVIAL = re.compile(
    r"(?:password|passwd|passw0rd|pass|pwd|secret|test|testing|user|admin|root|foo|bar|baz|abc|abcd"
    r"|token|key|value|string"
    r"|str|int|uint|sha|md|utf|base|oauth|basic|bearer|version|ver|v|step|line|option|field|param|arg|var|input|char"
    r"|varchar|column|type|level|section|chapter|figure|table|https?|ipv|argon|pbkdf|aes|rsa|des|x|python|node|java"
    r"|bcrypt|scrypt|web|win|wpa|tls|ssl|log4j|k8s|i18n|l10n|a11y|s3|ec2|mp|h)[-_]?\d{0,4}"
    r"|argon2(?:id|i|d)|(?:bug|issue|pr|mr|gh|rt)?#\d{1,9}(?:,#\d{1,9}){0,9}|(?:bug|issue)#.{1,60}"
    r"|\\?x[0-9a-f]{2}(?:\\x[0-9a-f]{2}){1,40}|\\?(?:x[0-9a-f]{2}|u[0-9a-f]{4})(?:\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\[0-7]{3}){0,40}"
    r"|(?:\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\[0-7]{3}){1,40}|-?anonymous@?"
    r"|\d{1,5}[-_ ]?(?-i:[A-Z]?[a-z]{1,14}|[A-Z]{1,4})|\d+(?:st|nd|rd|th)|[\d.,:/-]+[A-Za-z]{0,3}",
    re.IGNORECASE,
)
EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+")
_ATTRIBUTE = re.compile(r"[A-Za-z_$][\w$]*(?:(?:\.|->|::|\?\.)[A-Za-z_$][\w$]{0,4096})+")
_HASHED = re.compile(
    r"(?:pbkdf2|bcrypt|argon2|scrypt|sha-?\d{1,3}|md5)[:_$]|\$[0-9a-z]{1,9}\$|\{[A-Z0-9]{3,9}\}", re.IGNORECASE
)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z_]*\d{0,2}")
SLUG = re.compile(r"[A-Za-z]+\d{0,3}(?:[-_.][A-Za-z0-9]{1,16})+")
_QUESTION = re.compile(r"[\w./+=-]{1,200}\?[\w./+=&-]{0,200}")  # one sign that no alphabet of keys has: a query
_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4}){1,40}")
_HOST_PORT = re.compile(r"(?:localhost|[\w-]{1,64}(?:\.[\w-]{1,64}){1,6}):\d{1,5}")
_MARKUP = re.compile(r"\\[f&*s|-]|\$[A-Za-z_]\w*(?:::|->|\[|\{|\()")  # of manual pages; of programs
_TELLING = re.compile(
    r"p[a4@][s5$]{2}[-_]?(?:w(?:or|0r)?[dt]|phrase)|(?<![a-z])secret|secret(?:pass|key|\d)", re.IGNORECASE
)
_BRACKETS, _NO_KEY_SIGN = frozenset("()[]{}<>|"), frozenset("()[]{}<> \t")
STRONG = "!@#$%^*?~&+="  # signs of which a password by the rules of a form has one
_STRONG = frozenset(STRONG)


def password_like(value: str, *, quoted: bool, code: bool) -> bool:
    """Whether somebody would log in with it: not a word, a reference, a call or a description."""
    core = unmarked(value).strip(" \t*_\\")
    core = core.rstrip(".,;:!?)\"'*`\\")
    if not 6 <= len(core) <= 256 or is_placeholder(core) or is_placeholder(value) or core.lower() in WEAK:
        return False
    if len(core.split()) != 1 or not core.isprintable() or _TRIVIAL.fullmatch(core) or EMAIL.fullmatch(core):
        return False
    if (
        core[0] == ":"
        or "://" in core
        or len(set(core)) < 4
        or _MARKUP.search(core) is not None
        or _HOST_PORT.fullmatch(core) is not None
    ):
        return False
    if (
        _is_sample(core)
        or _NAMED.fullmatch(core) is not None
        or ("/" in core and _SLUG_PATH.fullmatch(core) is not None)
    ):
        return False
    if _HASHED.match(core) or (_PATH.match(core) and (is_wordy(core) or not any(c.isdigit() for c in core))):
        return False
    if not quoted and (not _BRACKETS.isdisjoint(core) or _ATTRIBUTE.fullmatch(core)):
        return False
    if quoted and (
        core[0] in "^([{" or any(sign in core for sign in ("\\w", "\\d", "\\s", "[a-", "[A-", "[0-", "()", "):"))
    ):
        return False
    letters = _letters(core)
    digits = len(_HAS_DIGIT.findall(core))
    strong = sum(map(_STRONG.__contains__, core))
    if not letters:
        return digits >= 6 and strong >= 2
    if digits:
        if code and not quoted and _IDENTIFIER.fullmatch(core):
            return False
        return not (not strong and SLUG.fullmatch(core) and is_wordy(core))
    if strong:
        return (
            len(core) >= 8 and (quoted or not code) and not (core[0] in "@#&" and not quoted) and not _prose_sign(core)
        )
    return len(core) >= 10 and core.isascii() and not is_wordy(core) and _changes_case(core)


def _is_sample(core: str) -> bool:
    """What says itself that it is a password, follows the alphabet, or is words in base64: written for a reader."""
    if len(core) < 24 and _TELLING.search(core) is not None and sum(c in _STRONG for c in core[1:-1]) < 2:
        return True
    if core.endswith("=") and " " in (decode(core) or ""):
        return True
    return _is_sequence(core, shortest=4)


def is_attribute(value: str) -> bool:
    """`rsa.RSAPrivateKey`: a name in a program, not a token with a dot in it."""
    return _ATTRIBUTE.fullmatch(value) is not None and len(value.rsplit(".", 1)[-1]) < 24


def is_strong(value: str) -> bool:
    """Small and capital letters, digits and a sign within: a password by the rules of every sign-up form."""
    return (
        value != value.upper()
        and value != value.lower()
        and _HAS_DIGIT.search(value) is not None
        and not _STRONG.isdisjoint(value)
        and any(c in _STRONG for c in value[1:-1] + value[:1].strip("@#$&+*~%") + value[-1:].strip("?*+&=~%"))
        and not is_wordy(value)
        and password_like(value, quoted=True, code=False)
    )


def _prose_sign(core: str) -> bool:
    # `user@host`, `name=value`, `a+b`, `read&write`: words joined by a sign, not a password.
    parts = re.split(r"[@=+&?*]", core)
    return len(parts) > 1 and all(len(part) > 2 and part.isalpha() and is_wordy(part + part) for part in parts if part)


def _changes_case(value: str) -> bool:
    changes = sum(a.isupper() != b.isupper() for a, b in pairwise(value))
    return changes * 3 >= len(value)


def key_like(value: str, *, quoted: bool, code: bool) -> bool:
    core = unmarked(value).strip("*_\\ ")
    if core.endswith("-") or _ESCAPES.fullmatch(value) is not None or _OBJECT.fullmatch(core) is not None:
        return False
    if len(core) >= 16:
        if (
            not _NO_KEY_SIGN.isdisjoint(core)
            or _ATTRIBUTE.fullmatch(core)
            or core.startswith(SSH_PUBLIC)
            or _QUESTION.fullmatch(core)
            or _PATH.match(core)
            or _HASHED.match(core)
        ):
            return False
        return is_random(core) and ":/" not in core and not EMAIL.fullmatch(core)
    digits = sum(c.isdigit() for c in core)
    changes = sum(a.isdigit() != b.isdigit() for a, b in pairwise(core))
    return (
        len(core) >= 8
        and digits >= 2
        and changes >= 2
        and not is_wordy(core)
        and password_like(value, quoted=quoted, code=code)
    )


def is_url_password(password: str, user: str) -> bool:
    core = unquote(unmarked(password))
    if (
        len(core) < 5
        or not core.isprintable()
        or " " in core
        or is_placeholder(core)
        or core.lower() in WEAK
        or _TRIVIAL.fullmatch(core)
    ):
        return False
    if (core == user and len(core) < 20) or (
        core.lower().startswith(("pass", "pwd", "secret", "p4ss", "p@ss")) and len(core) < 12
    ):
        return False
    if not any(c.isdigit() for c in core):
        return len(core) >= 8 and (not is_wordy(core) or _changes_case(core))
    return not (SLUG.fullmatch(core) and is_wordy(core)) and len(set(core)) >= 4
