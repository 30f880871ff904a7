"""Keys without a form of their own: what stands before a random run says that it is one.

A named key (`api_key = "..."`, `The access token is ...`), a service's name and a word for a key, a scheme of an
`Authorization` header, the other half of a pair. Only ever looks back a bounded stretch from a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from adaptive_llm_gateway.core._secret_values import (
    CONTEXT,
    FORMAT,
    HEX,
    SSH_PUBLIC,
    UUID,
    WEAK,
    Match,
    decode,
    is_attribute,
    is_placeholder,
    is_random,
    is_varied,
    names_no_key,
)
from adaptive_llm_gateway.core._secret_vendors import OWN_NAMES, VENDORS

_NEAR, _WINDOW, _PAIR = 60, 100, 300  # characters before a run: of a vendor's name, of its context, of its other half
_LONGEST_KEY, _AWS_LENGTH = 1024, 40
_RUN_VALUE = re.compile(r"[A-Za-z0-9_.\-+/~%]{16,4096}={0,3}", re.ASCII)
# A sign that a run is a part of something else: it goes on behind one of these, or has begun before one.
_GOES_ON = re.compile(r"[!#@$^*(\[][A-Za-z0-9]|\?[A-Za-z0-9\"']|\^|(?<==)[A-Za-z0-9]", re.ASCII)
_BEGUN = re.compile(r"[?!#^*~+]|(?<=[\"'=+/])=|(?<=[A-Za-z0-9])@")
_HASHED = ("sha256:", "sha512:", "sha384:", "sha1:", "md5:", "blake3:", "hash:", "hash=")
_DIGESTS = ("sha512-", "sha384-", "sha256-", "sha1-", "h1:")  # of subresources and lock files
_BLANK = " \t\r\n\"'`*|>-\\"
_STEMS = ("key", "token", "secret", "credential", "password")
_QUALIFIER = re.compile(
    r"(?:api|access|auth|secret|signing|private|account|bearer|session|refresh|client|service|master|bot|personal"
    r"|admin|webhook|encryption|storage|license|shared|subscription|integration|deploy|app|application|csrf|jwt|hmac)"
    r"[ _.-]?(?:access[ _.-]?)?$"
)
_MY_KEY = re.compile(r"(?<![a-z])(?:the|our|my|new|this) $|[?&]$")
_TAIL = re.compile(
    r"(?:_?id)?s?(?:[_-]?(?:prod|production|dev|staging|stage|live|test|local|value|string|base64|b64|hex|[a-z]"
    r"|\d{1,2})){0,2}(?:_(?:of|for|from|in|to)(?:_[a-z0-9]{1,16}){1,5})?"
    r"[\"'`*\])}\\]{0,4}[ \t]{0,8}"
    r"(?P<gap>(?:\([^()\n]{0,40}\)|(?:for|of|to|on|in|from|with|we|i|that|which|the)\b[^.;:=\n]{0,40}?)??)[ \t]{0,8}"
    r"(?::[ \t]{0,2}[\w&'<>\[\]]{1,24}[ \t]{0,4}(?==)|(?:string|str|as string)[ \t]{1,4}(?==))?"
    r"(?P<sep>:=|=>|->|→|={1,3}|!=|:{1,2}|\||,|>|<-|\(|[-–—](?=[ \t])"
    r"|(?<![a-z])(?:is|was|ist|to|as|equals|now|est|es)(?![a-z]))?"
    r"[ \t]{0,8}(?:\r?\n[ \t]{0,16}){0,2}[@bru]?[\"'`*<\[\\{(]{0,4}",
)
_NO_KEY = re.compile(
    r"(?:public|primary|foreign|sort|cache|partition|idempotency|dedup|row|object|unique|index|natural|composite|hot"
    r"|short|arrow|foreign|next|page|continuation|cursor|max|num|group|query|map|dict|json|i18n|locale|hash|node|react"
    r"|publishable|site|publish|id|kms|project|host|wildcard|known|ssh|gpg|pgp|routing|event|message|document|doc|file"
    r"|image|s3|blob|record|item|entity|parent|child|lookup|translation|lang|storage|reset|match|left|right|any|no|on|is"
    r"|mon|tur|don|hoc|jo|whis|mic|buc)[ _.-]?$"
)
_NO_TOKEN = re.compile(
    r"(?:next|start|starting|continuation|page|paging|change|request|idempotency|resume|sync|upload|snapshot|cursor|unit"
    r"|product|forward|backward|max|num|marker)[ _.-]?$"
)
# `The decision on the API key is 01J...`: what is told is the decision's id, not the key.
_ABOUT = re.compile(
    r"(?<![a-z])(?:memory|memories|decision|handoff|ticket|issue|bug|incident|commit|task|note|runbook|thread|page|doc|fix"
    r"|change|pr|pull request|merge request) (?:about|on|for|of|with|regarding) (?:the |our |this |an? )?[\w -]{0,24}$"
)
_PARAMETER = re.compile(r"[ \t*&]{1,4}[A-Za-z_]\w{0,40}[ \t]{0,2}[,)]")
_OF_A_MAP = re.compile(
    r"(?:of|in|for) (?:the |this |that |each |a |an )?(?:map|dict|table|cache|index|entry|row|object|record)\b"
)
_IDENTIFIER = re.compile(r"[a-z0-9_.-]{0,40}$")
_ELEMENT = re.compile(r"<[a-z.:_-]{0,40}(?:secret|password|token|key|passphrase)>[^<\n]{0,60}$")
_BESIDE = re.compile(r"[a-z0-9_.-]{0,12}[ \t]{0,4}(?::=|[:=(]|=>|->)?[ \t]{0,4}(?:[\"'`]|(?<=[:=>]) ?|(?<= ))$")
_GROUPS = re.compile(r"[0-9a-fA-F]{1,12}(?:-[0-9a-fA-F]{1,12}){3,6}")
_NAMED_ID = re.compile(
    r"(?<!secret)(?<!token)(?:(?<![a-z])|(?<=client|tenant|object)|(?<=key))(?<!secret_)[_ -]?ids?"
    r"[\"'`\])]{0,3}[ \t]{0,4}(?::=|[:=|]|is|->)?[ \t]{0,4}[\"'`]?$"
)
_ARN = re.compile(r"(?<![a-z])arn:aws[a-z0-9:/*_-]{0,120}$")
_AWS_SECRET = re.compile(r"[A-Za-z0-9+/]{40}")
_NAME = re.compile(r"[a-z][a-z0-9]{1,24}")
_LAST_PARTS = tuple(
    re.findall(r"\w+", "api app auth access client secret key token id password user account admin"),
)
_NAME_PARTS = re.compile(rf"(?:{'|'.join(_LAST_PARTS)})+\d?$")
_AWS_ID = re.compile(r"(?:akia|asia)[a-z0-9]{16}", re.ASCII)
_AZURE = ("accountkey=", "sharedaccesskey=", "sharedsecretaccesskey=", "sig=")
_UPPER, _LOWER, _DIGITS = (re.compile(f"[{span}]", re.ASCII) for span in ("A-Z", "a-z", "0-9"))


def is_digest(low: str, start: int) -> bool:
    """Whether a run at `start` is said to be a digest: of a subresource, an image, a package in a lock file."""
    return low.startswith(_DIGESTS, start) or low.endswith(_HASHED, max(0, start - 8), start)


def by_context(text: str, low: str, start: int, end: int) -> Match | None:
    """A run `text[start:end]` without a vendor's form, taken for a key because of what stands before it.

    Args:
        low: the text in lower case, character for character.
    """
    length = end - start
    if length > _LONGEST_KEY:
        return None
    if low[start] in "./" and length != _AWS_LENGTH and low[start - 1 : start] != "=":
        return None  # a path
    window = low[max(0, start - _PAIR) : start]
    if not (_is_hinted(window) or _vendor(window[-_NEAR:], OWN_NAMES)):
        return None
    found = _RUN_VALUE.match(text, start)
    if found is None or _GOES_ON.match(text, found.end()) or (start and _BEGUN.match(text, start - 1)):
        return None
    value = found.group().rstrip(".")
    if value.isalpha() and _PARAMETER.match(text, found.end()) is not None:
        return None  # a type
    kind = _kind(window, value)
    if kind and not _is_prose(value):
        return Match(kind, start, start + len(value), value, CONTEXT)
    return None


def _is_hinted(window: str) -> bool:
    """Whether a word stands in it that is before a key which nothing else tells, or an AWS key's id."""
    return (
        "key" in window
        or "token" in window
        or "secret" in window
        or "auth" in window
        or "credential" in window
        or "password" in window
        or "bearer" in window
        or "basic" in window
        or "sig=" in window
        or "akia" in window
        or "asia" in window
    )


def _kind(window: str, value: str) -> str:
    end = window[-32:].rstrip(" \t\"'`")
    if end.endswith(_AZURE):
        return "azure-key" if len(value) >= 32 and is_varied(value) else ""
    if end.endswith("basic"):
        pair = decode(value)
        return "basic-authorization" if pair and ":" in pair and _plain(pair) else ""
    if value.startswith((*SSH_PUBLIC, "pk_live_", "pk_test_")) or end.endswith("auth0|"):
        return ""  # keys that Stripe has everybody see; the id of a user
    if ".svg?" in window[-16:] or not is_random(value):
        return ""
    if "EXAMPLE" in value or ("arn:aws" in window and _ARN.search(window)):
        return ""
    if is_attribute(value) or (_GROUPS.fullmatch(value) and not UUID.fullmatch(value)):
        return ""
    if end.endswith("bearer"):
        return "bearer-token"
    before = _before(window)
    exact = HEX.fullmatch(value) is not None or UUID.fullmatch(value) is not None
    if _AWS_SECRET.fullmatch(value) and not exact and (_AWS_ID.search(window) or _aws_named(before)):
        return "aws-secret-key"
    if value[0] in "./" or names_no_key(before) or ("id" in before and _NAMED_ID.search(before)):
        return ""
    named = _is_named(before, value, exact=exact, window=window)
    vendor = _vendor(before, VENDORS) if len(value) >= 20 else ""
    told = vendor in OWN_NAMES and _is_whole(value) and any(stem in before for stem in (*_STEMS, "auth"))
    if vendor and (named or told):
        return f"{vendor}-key"
    if named or _ELEMENT.search(before):
        return "api-key"
    near = before[-_NEAR:]
    own = _vendor(near, VENDORS)
    if not own or not _is_whole(value):
        return ""
    beside = _BESIDE.match(near, near.rfind(own) + len(own)) is not None
    return f"{own}-key" if beside or (not exact and own in OWN_NAMES and _is_dense(value)) else ""


def _is_prose(value: str) -> bool:
    """Base64 of a sentence, which is what documentation has in the place of a key."""
    told = decode(value)
    return told is not None and told.isprintable() and any(c.isspace() for c in told)


def _before(window: str) -> str:
    """What is before a value on its line; the line above it too when that ends with a colon or the like."""
    window = window[-_WINDOW:]
    at = window.rfind("\n")
    if at < 0:
        return window
    line = window[at + 1 :]
    if not line.strip(_BLANK):
        above = window[:at].rstrip(" \t\r\n>")
        if above.endswith((":", "=", "|", " is")):
            return above[above.rfind("\n") + 1 :] + "\n" + line
    return line


def _is_named(before: str, value: str, *, exact: bool, window: str) -> bool:
    """Whether the last word for a key before a value names it: `api_key = "`, `API key for staging is `."""
    at, stem = max((before.rfind(stem), stem) for stem in _STEMS)
    if at < 0:
        return False
    tail = _TAIL.fullmatch(before, at + len(stem))
    if tail is None:
        return False
    name = _IDENTIFIER.search(before, 0, at)
    ahead = before[max(0, at - 24) : at]
    if stem == "token" and _NO_TOKEN.search(ahead):
        return False
    if _ABOUT.search(before, 0, at) or before.endswith("]("):  # the target of a link in Markdown
        return False
    strong = (
        _QUALIFIER.search(ahead) is not None
        or (stem != "key" and not ahead[-1:].isalpha())
        or (stem == "key" and _MY_KEY.search(ahead) is not None)
    )
    sep = tail["sep"]
    if stem == "key" and _OF_A_MAP.match(tail["gap"]):
        return False
    if strong:
        return sep is not None or not (tail["gap"] or (exact and "api" not in ahead))
    if _NO_KEY.search(ahead):
        return False
    if (sep in (None, ">", ",", "|") or tail["gap"]) and not (sep and _vendor(before[:at], VENDORS)):
        return False
    own = name.group() if name is not None else ""
    if not own:  # only `key`, which may be one of a lock, a map or a sort
        return len(value) >= 20 and (_vendor(window[-160:], VENDORS) != "" or (_is_dense(value) and "api" in before))
    if not exact:
        return True
    if _vendor(own, VENDORS) or _vendor(window[-160:], OWN_NAMES):
        return True
    return "-" not in value and ("api" in own or "auth" in own or "api" in window[-_WINDOW:])


def _is_dense(value: str) -> bool:
    """More than random: letters and digits so mixed that hardly anything but a key is."""
    digits = len(_DIGITS.findall(value))
    if digits < 3 or len(value) < 20:
        return False
    lower, upper = len(_LOWER.findall(value)), len(_UPPER.findall(value))
    if lower > 1 and upper > 1:
        return (lower + upper + digits) * 10 >= len(value) * 9
    return len(value) >= 24 and digits >= 4 and lower + upper >= 6 and lower + upper + digits >= len(value) - 6


def _is_whole(value: str) -> bool:
    """Of a length that generators give: even, as bytes in hexadecimal are, or of 16, 26 or 32 bytes in base64."""
    if HEX.fullmatch(value):
        return len(value) % 4 == 0 or len(value) in (30, 37)
    return len(value) % 2 == 0 or len(value) in (35, 37, 43, 45)


def _vendor(before: str, names: frozenset[str]) -> str:
    """The last service named in a text of small letters, also within a name such as `acme_api_key`."""
    for word in reversed(_NAME.findall(before)):
        if word in names:
            return word
        if len(word) > 5 and word.rstrip("0123456789").endswith(_LAST_PARTS):
            bare = _NAME_PARTS.sub("", word)
            if bare in names:
                return bare
    return ""


def _aws_named(before: str) -> bool:
    return ("aws" in before or "amazon" in before or "access" in before) and ("secret" in before or "key" in before)


def _plain(pair: str) -> bool:
    _, _, password = pair.partition(":")
    return pair.isprintable() and bool(password) and not is_placeholder(password) and password.lower() not in WEAK


# --- Signatures of shared access ----------------------------------------------------------------------

_SIGNATURE = re.compile(r"sig=(?P<value>(?:[A-Za-z0-9+/]|%[0-9A-Fa-f]{2}){42,46}(?:=|%3[Dd]))")


def signatures(text: str, low: str) -> Iterator[Match]:
    """`sig=` of a shared access signature (Azure): 32 bytes in base64, mostly with its signs as `%2B`."""
    at = low.find("sig=")
    while at >= 0:
        found = _SIGNATURE.match(text, at)
        if found is not None and is_varied(found["value"]):
            yield Match("azure-signature", found.start("value"), found.end("value"), found["value"], FORMAT)
        at = low.find("sig=", at + 4)


# --- The logins of container registries -----------------------------------------------------------------

_REGISTRY_AUTH = re.compile(
    r"auth\\{0,4}[\"']?[ \t]{0,4}[:=][ \t]{0,4}\\{0,4}[\"']?(?P<value>[A-Za-z0-9+/]{8,8192}={0,2})", re.ASCII
)


def registry_logins(text: str, low: str) -> Iterator[Match]:
    """`"auth": "<user:password in base64>"` of a Docker configuration, `_auth=` of an `.npmrc`."""
    at = low.find("auth")
    while at >= 0:
        found = _REGISTRY_AUTH.match(text, at)
        if found is not None and len(found["value"]) % 4 == 0:
            pair = decode(found["value"])
            if pair and ":" in pair and pair.isascii() and _is_login(pair):
                yield Match("registry-login", found.start("value"), found.end("value"), found["value"], CONTEXT)
        at = low.find("auth", at + 4)


def _is_login(pair: str) -> bool:
    user, _, password = pair.partition(":")
    if user == "_json_key" or "\n" in password:
        return "PRIVATE KEY" in password
    return bool(user) and _plain(pair) and not any(c.isspace() for c in password)
