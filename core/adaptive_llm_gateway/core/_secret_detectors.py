"""Every credential in a text: vendors' formats, keys by their context, passwords, URLs, private keys.

One pass finds the places worth a look (long unbroken runs of token characters, and a few words such as `pass`);
an expression is only ever tried at such a place and reads a bounded stretch from there, so the work per byte is
bounded on any input. Positions are in characters of the given text.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Iterable, Iterator
from typing import Protocol, cast

from adaptive_llm_gateway.core._secret_context import by_context, is_digest, registry_logins, signatures
from adaptive_llm_gateway.core._secret_declarations import declarations
from adaptive_llm_gateway.core._secret_encoded import DEPTH, changed
from adaptive_llm_gateway.core._secret_files import files
from adaptive_llm_gateway.core._secret_formats import azure_client_secrets, formats, marked
from adaptive_llm_gateway.core._secret_places import command_lines, keys, passwords, private_keys, urls
from adaptive_llm_gateway.core._secret_values import FORMAT, Match, is_mixed

# --- detect-secrets' own, for formats that are not above ----------------------------------------------


class _Plugin(Protocol):
    def analyze_string(self, string: str) -> Iterable[str]: ...


# What has to be there before a plugin is asked: its import costs 200 ms (it brings `requests` for verification,
# which is never used here), so a process that sees nothing like it never pays.
_PLUGINS: dict[str, tuple[str, str, str]] = {
    "artifactory": ("artifactory", "ArtifactoryDetector", "artifactory-token"),
    "cloudant": ("cloudant", "CloudantDetector", "cloudant-credential"),
    "discord": ("discord", "DiscordBotTokenDetector", "discord-token"),
    "gitlab": ("gitlab_token", "GitLabTokenDetector", "gitlab-token"),
    "mailchimp": ("mailchimp", "MailchimpDetector", "mailchimp-key"),
    "softlayer": ("softlayer", "SoftlayerDetector", "softlayer-credential"),
    "telegram": ("telegram_token", "TelegramBotTokenDetector", "telegram-token"),
}
_PLUGIN_HINT = re.compile(
    r"""(?<![A-Za-z0-9])(?:
        (?P<artifactory>AKC[A-Za-z0-9]{10}|AP[0-9A-F][A-Za-z0-9]{8})
      | (?P<cloudant>(?i:clou|cl)[_-]?(?i:api|key|p))
      | (?P<discord>[MNO][\w-]{23,25}\.[\w-]{6}\.)
      | (?P<gitlab>GR1348941)
      | (?P<mailchimp>[0-9a-z]{32}-us\d)
      | (?P<softlayer>(?i:softlayer|sl)[_-]?(?i:api|key|p)|api\.softlayer)
      | (?P<telegram>\d{8,10}:[\w-]{35})
    )""",
    re.VERBOSE | re.ASCII,
)


@functools.cache
def _plugin(module: str, name: str) -> _Plugin:
    return cast(_Plugin, getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)())


_ABBREVIATED = re.compile(r"(?:cl(?:ou)?|sl)[_-]?(?:api|key|p)")
_LONGER_THAN_ARTIFACTORY = 75  # a line of base64: two letters and a digit come up in it by chance


def _may_be_plugins(text: str, low: str, start: int, end: int) -> bool:
    """A cheaper question first: whether anything of what `_PLUGIN_HINT` looks for is there."""
    first = text[start]
    if first in "MNO" and text.find(".", start + 24, start + 27) >= 0:
        return True
    if text.startswith(("AKC", "AP", "GR1348941"), start) or (text[start - 1 : start] == ":" and start > 8):
        return True
    run = low[max(0, start - 32) : min(end, start + 256)]
    if "-us" in run or "akc" in run or "softlayer" in run:
        return True
    return ("cl" in run or "sl" in run) and _ABBREVIATED.search(run) is not None


def _plugins(text: str, start: int, end: int) -> Iterator[Match]:
    """What detect-secrets' plugins find around one run, asked string by string without its global settings."""
    low = max(0, start - 32, text.rfind("\n", max(0, start - 32), start) + 1)
    for hint in _PLUGIN_HINT.finditer(text, low, min(end, start + 256)):
        module, name, kind = _PLUGINS[cast(str, hint.lastgroup)]
        if module == "artifactory" and end - start >= _LONGER_THAN_ARTIFACTORY:
            continue
        stop = min(end + 1, hint.start() + 200)
        part = text[max(low, hint.start() - 1) : stop]
        for secret in _plugin(module, name).analyze_string(part):
            value = secret.strip(' \t\r\n"=:')
            at = text.find(value, low, stop)
            if at >= 0 and is_mixed(value):
                yield Match(kind, at, at + len(value), value, FORMAT)


# --- All of it ------------------------------------------------------------------------------------------

_RUN = b"a" * 16
_RUN_CLASS = bytes(0x61 if (chr(c).isalnum() and c < 128) or chr(c) in "_.-+/" else 0x20 for c in range(256))
_DIGIT = re.compile("[0-9]")
_CAMEL = re.compile("(?:[a-z]{1,4}[A-Z]{1,4}){2}[a-z]")


def find_matches(text: str, depth: int = 0) -> list[Match]:
    """Every credential in `text`, in order and without overlap; the more specific match wins where two meet.

    Args:
        depth: that the text is a decoded reading of another, of which there is an end.
    """
    raw = text.encode("ascii", "replace")  # one byte for one character, so positions agree
    mask = raw.translate(_RUN_CLASS)
    low = raw.lower().decode("ascii")
    found: list[Match] = []
    start = mask.find(_RUN)
    while start >= 0:
        end = mask.find(b" ", start)
        end = len(mask) if end < 0 else end
        _add_run(found, text, low, start, end)
        start = mask.find(_RUN, end)
    found.extend(urls(text))
    found.extend(passwords(text, low))
    found.extend(keys(text, low))
    found.extend(declarations(text, low))
    if "auth" in low:
        found.extend(registry_logins(text, low))
    if "sig=" in low:
        found.extend(signatures(text, low))
    if "Q~" in text:
        found.extend(azure_client_secrets(text))
    found.extend(files(text, low))
    if "-u" in low:
        found.extend(command_lines(text, low))
    if "-----" in low or "putty" in low:
        found.extend(private_keys(text, low))
    if depth < DEPTH:
        found.extend(changed().find(text, raw, low, found, find_matches, depth))
    return _without_overlap(found)


def _add_run(found: list[Match], text: str, low: str, start: int, end: int) -> None:
    by_form = formats(text, start, end)
    if by_form:
        found += by_form
        return
    if not _is_mixed_run(text, low, start, end) or is_digest(low, start):
        return
    match = marked(text, start, end) if 36 <= end - start <= 100 else None
    if match is not None:
        found.append(match)
    if _may_be_plugins(text, low, start, end):
        count = len(found)
        found.extend(_plugins(text, start, end))
        if len(found) > count:
            return
    if match is None:
        match = by_context(text, low, start, end)
        if match is not None:
            found.append(match)


def _is_mixed_run(text: str, low: str, start: int, end: int) -> bool:
    """Whether there is a digit, or capitals within: few words have either, few keys have neither."""
    if _DIGIT.search(text, start, end) is not None:
        return True
    return text[start:end] != low[start:end] and _CAMEL.search(text, start, end) is not None


def _without_overlap(found: list[Match]) -> list[Match]:
    if len(found) < 2:
        return found
    kept: list[Match] = []
    for match in sorted(found, key=lambda m: (m.start, m.rank, -m.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
        elif match.rank < kept[-1].rank:
            kept[-1] = match
    return kept
