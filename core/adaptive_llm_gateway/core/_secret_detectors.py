"""What a credential looks like: vendors' published formats, keys by their context, passwords, URLs, private keys.

One pass finds the places worth a look (long unbroken runs of token characters, and a few words such as `pass`);
an expression is only ever tried at such a place and reads a bounded stretch from there, so the work per byte is
bounded on any input. Positions are in characters of the given text.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from adaptive_llm_gateway.core._secret_places import command_lines, keys, passwords, private_keys, urls
from adaptive_llm_gateway.core._secret_values import (
    CONTEXT,
    FORMAT,
    HEX,
    NOT_A_KEY,
    SSH_PUBLIC,
    UUID,
    WEAK,
    Match,
    decode,
    is_attribute,
    is_mixed,
    is_placeholder,
    is_random,
    is_varied,
)

# --- Tokens that say by their form whose they are ----------------------------------------------------

_Check = Callable[[str], bool]


def _format(kind: str, prefixes: str, rest: str, check: _Check = is_varied) -> list[tuple[str, _Format]]:
    entry = _Format(kind, rest, check)
    return [(prefix, entry) for prefix in prefixes.split()]


@dataclass(frozen=True, slots=True)
class _Format:
    kind: str
    rest: str  # an expression for what follows the prefix; every repetition has a bound
    check: _Check  # judges what follows the prefix


def _is_jwt(rest: str) -> bool:
    # The published form (RFC 7519): base64url JSON with `alg`, then payload, then signature.
    head, _, after = rest.partition(".")
    header = decode("eyJ" + head)
    if header is None or not ('"alg"' in header or '"enc"' in header):
        return False
    payload = decode(after.partition(".")[0]) or ""
    return '"1234567890"' not in payload and '"some"' not in payload  # the samples of every tutorial


_W = "[A-Za-z0-9_-]"
_A = "[A-Za-z0-9]"
_FORMATS: dict[str, list[_Format]] = {}
for _prefix, _entry in [
    # Models and their hosts
    *_format("anthropic-key", "sk-ant-", _W + "{20,200}"),
    *_format("openrouter-key", "sk-or-", _W + "{32,120}"),
    *_format("openai-key", "sk-proj- sk-svcacct- sk-admin- sk-None- sess-", _W + "{20,250}", is_random),
    *_format("openai-key", "sk-", _A + r"{20,120}(?![\w-])", is_random),
    *_format("langfuse-key", "sk-lf-", _W + "{32,60}"),
    *_format("google-api-key", "AIza", _W + "{33,39}"),
    *_format("google-oauth-secret", "GOCSPX-", _W + "{20,40}"),
    *_format("google-oauth-token", "ya29.", _W + "{30,1000}", is_mixed),
    *_format("hugging-face-token", "hf_", _A + "{30,60}", is_mixed),
    *_format("hugging-face-token", "api_org_", _A + "{30,60}", is_mixed),
    *_format("groq-key", "gsk_", _A + "{40,80}"),
    *_format("xai-key", "xai-", _A + "{40,120}", is_random),
    *_format("perplexity-key", "pplx-", _A + "{32,80}", is_mixed),
    *_format("replicate-token", "r8_", _A + "{30,50}", is_mixed),
    *_format("nvidia-key", "nvapi-", _W + "{40,100}", is_mixed),
    *_format("langsmith-key", "lsv2_pt_ lsv2_sk_", r"[0-9a-f]{32}(?:_[0-9a-f]{4,16})?"),
    *_format("pinecone-key", "pcsk_", r"\w{40,100}", is_mixed),
    *_format("tavily-key", "tvly-", _W + "{20,60}", is_mixed),
    # Clouds and hosting
    *_format("aws-access-key-id", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    *_format("alibaba-access-key", "LTAI", _A + r"{16,26}(?![A-Za-z0-9])", is_random),
    *_format("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", r"[0-9a-f]{40,64}"),
    *_format("databricks-token", "dapi dose", r"[0-9a-f]{32}(?:-\d)?(?![0-9A-Za-z])"),
    *_format("supabase-token", "sbp_ sbp_v0_", r"[0-9a-f]{32,64}"),
    *_format("supabase-key", "sb_secret_", _W + "{20,80}", is_mixed),
    *_format("netlify-token", "nfp_ nfc_ nfo_ nfu_ nfb_", _A + "{30,60}", is_mixed),
    *_format("fly-token", "fm1_ fm1r_ fm1a_ fm2_ fo1_", r"[A-Za-z0-9+/=_-]{40,4000}", is_mixed),
    *_format("heroku-key", "HRKU-", _W + "{36,80}"),
    *_format("cloudflare-origin-key", "v1.0-", r"[0-9a-f]{24}-[0-9a-f]{100,160}"),
    *_format("planetscale-token", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,64}", is_mixed),
    *_format("doppler-token", "dp.pt. dp.st. dp.ct. dp.sa.", r"[\w.-]{40,80}", is_mixed),
    *_format("pulumi-token", "pul-", r"[0-9a-f]{40}"),
    *_format("tailscale-key", "tskey-", _W + "{20,100}", is_mixed),
    *_format("vault-token", "hvs. hvb. hvr.", _W + "{20,300}", is_mixed),
    *_format("onepassword-token", "ops_", r"eyJ[\w=-]{100,1500}"),
    # Code and packages
    *_format("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", _A + "{30,255}"),
    *_format("github-token", "github_pat_", r"\w{40,255}"),
    *_format(
        "gitlab-token",
        "glpat- gldt- glft- glsoat- glrt- glcbt- glimt- glptt- glagent- gloas- glffct-",
        r"[\w.-]{20,300}",
        is_mixed,
    ),
    *_format("npm-token", "npm_", _A + "{30,60}", is_mixed),
    *_format("pypi-token", "pypi-", r"Ag[Ee]" + _W + "{40,500}"),
    *_format("docker-token", "dckr_pat_ dckr_oat_", _W + "{20,60}"),
    *_format("rubygems-key", "rubygems_", r"[0-9a-f]{40,64}"),
    *_format("crates-io-token", "cio", _A + r"{32}(?![A-Za-z0-9])", is_random),
    *_format("nuget-key", "oy2", r"[a-z0-9]{43}(?![A-Za-z0-9])", is_random),
    *_format("atlassian-token", "ATATT3x ATCTT3x ATBB", r"[\w=-]{24,300}", is_mixed),
    *_format("postman-key", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    *_format("terraform-token", "atlasv1.", _W + "{40,80}", is_mixed),
    # Work tools
    *_format(
        "slack-token", "xoxb- xoxp- xoxa- xoxo- xoxs- xoxr- xoxc- xoxd- xoxe- xoxe.xoxp-", r"[\w%-]{16,400}", is_random
    ),
    *_format("slack-token", "xapp-", r"\d-[A-Z0-9]{6,20}-\d{6,20}-[a-z0-9]{20,100}"),
    *_format(
        "slack-webhook",
        "hooks.slack.com/services/ hooks.slack.com/workflows/ hooks.slack.com/triggers/",
        r"[\w/]{30,150}",
        is_random,
    ),
    *_format(
        "discord-webhook", "discord.com/api/webhooks/ discordapp.com/api/webhooks/", r"\d{15,21}/" + _W + "{40,100}"
    ),
    *_format("notion-token", "ntn_", _A + "{36,60}", is_mixed),
    *_format("notion-token", "secret_", _A + r"{43}(?![\w-])", is_random),
    *_format("linear-key", "lin_api_ lin_oauth_ lin_wh_", _A + "{30,80}"),
    *_format("figma-token", "figd_ figu_ figor_ figo_", _W + "{30,80}", is_mixed),
    *_format("airtable-token", "pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}"),
    *_format("hubspot-token", "pat-na1- pat-na2- pat-eu1-", r"[0-9a-f]{8}-[0-9a-f-]{27}"),
    *_format("telegram-webhook", "api.telegram.org/bot", r"\d{8,10}:" + _W + "{30,40}"),
    # Watching
    *_format("grafana-token", "glsa_", _A + r"{28,40}_[0-9a-fA-F]{8}"),
    *_format("grafana-token", "glc_ glk_", r"[A-Za-z0-9+/=]{32,400}", is_mixed),
    *_format("sentry-token", "sntrys_", r"[\w+/=-]{40,600}"),
    *_format("sentry-token", "sntryu_", r"[0-9a-f]{60,70}"),
    *_format("new-relic-key", "NRAK- NRAL- NRII-", _A + "{24,60}"),
    *_format("dynatrace-token", "dt0c01. dt0s01. dt0s02.", r"[A-Z0-9]{20,30}\.[A-Z0-9]{60,70}"),
    # Mail, telephone, money, shops
    *_format("sendgrid-key", "SG.", r"[\w-]{16,32}\.[\w-]{32,60}"),
    *_format("mailgun-key", "key-", r"[0-9a-f]{32}(?![0-9A-Za-z])"),
    *_format("brevo-key", "xkeysib- xsmtpsib-", r"[0-9a-f]{64}-[A-Za-z0-9]{16}"),
    *_format("twilio-key", "SK", r"[0-9a-f]{32}(?![0-9A-Za-z])"),
    *_format("stripe-key", "sk_live_ rk_live_ sk_test_ rk_test_ sk_org_", _A + "{16,250}", is_mixed),
    *_format("stripe-webhook-secret", "whsec_", r"[A-Za-z0-9+/=]{24,100}", is_mixed),
    *_format("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"[0-9a-fA-F]{32}"),
    *_format("easypost-key", "EZAK EZTK", _A + "{54}", is_mixed),
    # Anybody's
    *_format("jwt", "eyJ", _W + r"{10,4000}\." + _W + r"{4,8000}={0,2}\.[\w-]{16,4000}", _is_jwt),
    *_format("age-key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,60}"),
]:
    _FORMATS.setdefault(_prefix, []).append(_entry)

_PREFIX = re.compile(r"(?<![A-Za-z0-9])(?:" + "|".join(map(re.escape, sorted(_FORMATS, key=len, reverse=True))) + ")")


@functools.cache
def _compiled(expression: str) -> re.Pattern[str]:
    # On first use: most processes meet a few of these formats, and all of them together take 50 ms to compile.
    return re.compile(expression, re.ASCII)


def _formats(text: str, start: int, end: int) -> Iterator[Match]:
    """Vendors' tokens in one run `text[start:end]`."""
    after = start
    for found in _PREFIX.finditer(text, start, end):
        if found.start() < after:
            continue
        for form in _FORMATS[found.group()]:
            rest = _compiled(form.rest).match(text, found.end())
            if rest is not None and form.check(rest.group()):
                after = rest.end()
                yield Match(form.kind, found.start(), after, text[found.start() : after], FORMAT)
                break


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
    "square": ("square_oauth", "SquareOAuthDetector", "square-secret"),
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
      | (?P<square>sq0csp-)
      | (?P<telegram>\d{8,10}:[\w-]{35})
    )""",
    re.VERBOSE | re.ASCII,
)


@functools.cache
def _plugin(module: str, name: str) -> _Plugin:
    return cast(_Plugin, getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)())


def _plugins(text: str, start: int, end: int) -> Iterator[Match]:
    """What detect-secrets' plugins find around one run, asked string by string without its global settings."""
    low = max(0, start - 32, text.rfind("\n", max(0, start - 32), start) + 1)
    for hint in _PLUGIN_HINT.finditer(text, low, min(end, start + 256)):
        module, name, kind = _PLUGINS[cast(str, hint.lastgroup)]
        stop = min(end + 1, hint.start() + 200)
        part = text[max(low, hint.start() - 1) : stop]
        for secret in _plugin(module, name).analyze_string(part):
            value = secret.strip(' \t\r\n"=:')
            at = text.find(value, low, stop)
            if at >= 0 and is_mixed(value):
                yield Match(kind, at, at + len(value), value, FORMAT)


# --- Keys by what stands before them ------------------------------------------------------------------

_VENDORS = frozenset(
    re.findall(
        r"\w+",
        "mistral twilio datadog cloudflare heroku vercel netlify fastly algolia okta auth0 cohere deepgram elevenlabs"
        " together fireworks azure aws amazon mailgun pagerduty opsgenie splunk elastic newrelic sonar snyk circleci"
        " travis codecov jenkins bitbucket jira confluence zendesk intercom segment mixpanel amplitude launchdarkly"
        " asana trello monday airtable dropbox zoom spotify twitter facebook linkedin discord telegram mapbox plaid"
        " paypal braintree square adyen coinbase binance kraken infura alchemy etherscan pinecone weaviate qdrant"
        " voyage jina serpapi assemblyai stability deepseek moonshot consul artifactory scaleway linode vultr"
        " hetzner ovh openai anthropic gemini fly",
    )
)
_WORD = re.compile(r"[a-z]+0?|[A-Z][a-z]+|[A-Z]+0?")
_KEY_WORD = re.compile(
    r"(?:api|access|auth|app|secret|signing|private|account|deploy|bearer|session|refresh|client|service|master"
    r"|bot|personal|admin|webhook|encryption|storage|license|shared|subscription|integration|write|read)"
    r"[ _.-]?(?:key|token|secret)s?|token|secret|credential|api[ _-]?key|(?<![a-z])key|password",
    re.IGNORECASE,
)
# A named key at the very end of the window before a run: `api_key = "`, `API key for staging is `, `X-Api-Key: `.
_STRONG_NAME = (
    r"(?:(?:api|access|auth|secret|signing|private|account|bearer|session|refresh|client|service|master|bot|personal"
    r"|admin|webhook|encryption|storage|license|shared|subscription|integration|deploy|app|application|csrf|jwt|hmac)"
    r"[ _.-]?(?:access[ _.-]?)?(?:keys?|tokens?|secrets?)|(?<![A-Za-z])(?:tokens?|secret)|credentials?"
    r"|(?<![a-z])(?:the|our|my|new|this) key|[?&]key)"
)
_NAMED = re.compile(
    _STRONG_NAME + r"(?:[_-](?:prod|production|dev|staging|live|test|\d))?"
    r"[\"'`*\])]{0,4}[ \t]*"
    r"(?P<gap>(?:\((?:[^()\n]{0,40})\)|(?:for|of|to|on|in|from|with|we|i|that|which|the)\b[^.;:=\n]{0,40}?)?)[ \t]*"
    r"(?P<sep>:=|=>|->|→|={1,2}|:|\||,|>|[-–—](?=[ \t])|(?<![a-z])(?:is|was|ist|to|as|equals|now|est|es)(?![a-z]))?"
    r"[ \t]*(?:\r?\n[ \t]*)?[\"'`*<\[\\]{0,4}$",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(?<![a-z])bearer[ \t]{1,3}[\"'`]?$", re.IGNORECASE)
_BASIC = re.compile(r"(?<![a-z])basic[ \t]{1,3}[\"'`]?$", re.IGNORECASE)
_AWS_ID = re.compile(r"(?:AKIA|ASIA)[A-Z0-9]{16}", re.ASCII)
_AZURE = re.compile(r"(?:AccountKey|SharedAccessKey|SharedSecretAccessKey|sig)=$", re.IGNORECASE)
_WINDOW, _PAIR = 100, 300  # characters before a run: of its context, of the other half of a pair
_LONGEST_KEY = 1024
_RUN_VALUE = re.compile(r"[A-Za-z0-9_.\-+/~%]{16,4096}={0,3}", re.ASCII)


def _by_context(text: str, low: str, start: int, end: int) -> Iterator[Match]:
    """A run without a vendor's form, taken for a key because of the words before it."""
    window = low[max(0, start - _PAIR) : start]
    if end - start > _LONGEST_KEY or not any(hint in window for hint in _KEY_HINTS):
        return
    found = _RUN_VALUE.match(text, start)
    if found is None:
        return
    value = found.group().rstrip(".")
    lines = text[max(0, start - _WINDOW) : start].rsplit("\n", 2)
    before = lines[-1]
    if len(lines) > 1 and not before.strip(" \t\"'`*|>-\\") and lines[-2].rstrip("\r \t").endswith((":", "=", "|")):
        before = lines[-2] + "\n" + before
    kind = _kind_by_context(text, start, before, value)
    if kind is not None:
        yield Match(kind, start, start + len(value), value, CONTEXT)


def _kind_by_context(text: str, start: int, before: str, value: str) -> str | None:
    if _AZURE.search(before):
        return "azure-key" if len(value) >= 32 and is_varied(value) else None
    if _BASIC.search(before):
        pair = decode(value)
        return "basic-authorization" if pair and ":" in pair and _plain(pair) else None
    if value.startswith(SSH_PUBLIC) or ".svg?" in before[-16:] or not is_random(value):
        return None
    if is_attribute(value):
        return None
    exact = HEX.fullmatch(value) is not None or UUID.fullmatch(value) is not None
    if _BEARER.search(before):
        return "bearer-token"
    if len(value) == 40 and not exact and (_AWS_ID.search(text, max(0, start - _PAIR), start) or _aws_named(before)):
        return "aws-secret-key"
    if value.startswith(("/", "./", "../")) or NOT_A_KEY.search(before):
        return None
    vendor = _vendor(before) if len(value) >= 20 else None
    if vendor is not None and _KEY_WORD.search(before):
        return f"{vendor}-key"
    named = _NAMED.search(before)
    if named is None or (named["sep"] is None and (named["gap"] or (exact and "api" not in named.group().lower()))):
        return None
    return "api-key"


def _vendor(before: str) -> str | None:
    words = re.findall(r"[a-z]+0?", before.lower()) + [word.lower() for word in _WORD.findall(before)]
    return next((word for word in words if word in _VENDORS), None)


def _aws_named(before: str) -> bool:
    low = before.lower()
    return ("aws" in low or "amazon" in low or "access" in low) and ("secret" in low or "key" in low)


def _plain(pair: str) -> bool:
    _, _, password = pair.partition(":")
    return pair.isprintable() and bool(password) and not is_placeholder(password) and password.lower() not in WEAK


# --- All of it ------------------------------------------------------------------------------------------

_RUN = b"a" * 16
_RUN_CLASS = bytes(0x61 if (chr(c).isalnum() and c < 128) or chr(c) in "_.-+/" else 0x20 for c in range(256))
_DIGIT = re.compile(r"[0-9]")
# One of these stands before a key that nothing else tells; `akia` and `asia` before the secret of an AWS pair.
_KEY_HINTS = ("key", "token", "secret", "credential", "password", "bearer", "basic", "sig=", "akia", "asia")


def find_matches(text: str) -> list[Match]:
    """Every credential in `text`, in order and without overlap; the more specific match wins where two meet."""
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
    if "-u" in low:
        found.extend(command_lines(text, low))
    if "-----" in low or "putty" in low:
        found.extend(private_keys(text, low))
    return _without_overlap(found)


def _add_run(found: list[Match], text: str, low: str, start: int, end: int) -> None:
    count = len(found)
    found.extend(_formats(text, start, end))
    if len(found) > count or _DIGIT.search(text, start, end) is None:
        return
    found.extend(_plugins(text, start, end))
    if len(found) == count:
        found.extend(_by_context(text, low, start, end))


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
