"""Credentials made from a seed, one maker for each format. None is real, and none stands in this file: they are built.

Formats are those that vendors publish. Prefixes are put together here, so that no scanner takes this file for a leak.
"""

from __future__ import annotations

import base64
import json
import random
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass

Make = Callable[[random.Random], str]

DIGITS = string.digits
LETTERS = string.ascii_letters
ALNUM = LETTERS + DIGITS
LOWER = string.ascii_lowercase + DIGITS
UPPER = string.ascii_uppercase + DIGITS
HEX = "0123456789abcdef"
WEB = ALNUM + "-_"
BASE64 = ALNUM + "+/"
BASE32 = string.ascii_uppercase + "234567"
BASE62 = DIGITS + string.ascii_uppercase + string.ascii_lowercase


def of(alphabet: str, length: int) -> Make:
    """So many characters of an alphabet, the first and last of them no signs."""

    def make(rng: random.Random) -> str:
        ends = [c for c in alphabet if c.isalnum()]
        return rng.choice(ends) + "".join(rng.choices(alphabet, k=length - 2)) + rng.choice(ends)

    return make


def fixed(*parts: str) -> Make:
    """Always the same, put together from parts."""
    return lambda _: "".join(parts)


def glued(*makes: Make) -> Make:
    """One after the other."""
    return lambda rng: "".join(make(rng) for make in makes)


def uuid(rng: random.Random) -> str:
    """A random UUID of version 4."""
    groups = ["".join(rng.choices(HEX, k=k)) for k in (8, 4, 3, 3, 12)]
    return f"{groups[0]}-{groups[1]}-4{groups[2]}-{rng.choice('89ab')}{groups[3]}-{groups[4]}"


def base62(number: int, width: int) -> str:
    """A number in base 62, digits first, with leading zeros."""
    text = ""
    while number:
        number, rest = divmod(number, 62)
        text = BASE62[rest] + text
    return text.rjust(width, "0")


def checked(prefix: str) -> Make:
    """GitHub's and npm's form: a prefix, 30 characters, and their CRC32 in six digits of base 62."""

    def make(rng: random.Random) -> str:
        entropy = "".join(rng.choices(ALNUM, k=30))
        return prefix + entropy + base62(zlib.crc32(entropy.encode()), 6)

    return make


def grafana(rng: random.Random) -> str:
    """A service account's token: its CRC32, the lowest byte first, stands at the end in hex."""
    key = "gl" + "sa_" + "".join(rng.choices(ALNUM, k=32))
    return f"{key}_{zlib.crc32(key.encode()).to_bytes(4, 'little').hex()}"


def web_json(value: dict[str, object]) -> str:
    """JSON in base64url without padding, as JWTs have it."""
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).decode().rstrip("=")


def jwt(rng: random.Random) -> str:
    """A signed token (RFC 7519) with a subject of its own."""
    payload: dict[str, object] = {"sub": uuid(rng), "iat": rng.randrange(1_600_000_000, 1_900_000_000)}
    return ".".join([web_json({"alg": "HS256", "typ": "JWT"}), web_json(payload), of(WEB, 43)(rng)])


def role_jwt(rng: random.Random) -> str:
    """The key of a Supabase project's service role."""
    payload: dict[str, object] = {"iss": "supabase", "ref": of(LOWER, 20)(rng), "role": "service_role"}
    return ".".join([web_json({"alg": "HS256", "typ": "JWT"}), web_json(payload), of(WEB, 43)(rng)])


def sentry(rng: random.Random) -> str:
    """An organisation's token: JSON in base64, then the random part."""
    value = {"iat": rng.randrange(10**9), "url": "https://sentry.example", "org": "shop"}
    payload = base64.b64encode(json.dumps(value).encode()).decode()
    return f"sntr{'ys_'}{payload}_{of(BASE64, 43)(rng)}"


WORDS = [
    "copper",
    "maple",
    "harbor",
    "violet",
    "thunder",
    "pixel",
    "garden",
    "falcon",
    "summer",
    "anchor",
    "river",
    "marble",
    "winter",
    "cactus",
]


def password(rng: random.Random) -> str:
    """A password as people choose them or a manager makes them: ten to twenty characters without a blank."""
    if rng.random() < 0.5:
        word = rng.choice(WORDS)
        return f"{word.capitalize()}{rng.choice(WORDS)}{rng.randrange(10, 9999)}{rng.choice('!#%*?_')}"
    length = rng.randint(10, 20)
    return "".join(
        [rng.choice(LETTERS), *rng.choices(ALNUM + "!#%*?_-", k=length - 3), rng.choice(DIGITS), rng.choice(LETTERS)]
    )


def plain_password(rng: random.Random) -> str:
    """A password that needs no escape in a URL."""
    return of(ALNUM, rng.randint(10, 18))(rng)


def basic(rng: random.Random) -> str:
    """A user and a password in base64, as HTTP has them."""
    return base64.b64encode(f"deploy:{password(rng)}".encode()).decode()


def pem_lines(label: str, lines: int, *, cut: bool = False) -> Make:
    """A private key over several lines; `cut`: without its end, as it is pasted from a terminal."""

    def make(rng: random.Random) -> str:
        body = ["".join(rng.choices(BASE64, k=64)) for _ in range(lines)]
        head, foot = (f"-----{word} {label}{'PRIVATE'} KEY-----" for word in ("BEGIN", "END"))
        return "\n".join([head, *body] if cut else [head, *body, of(BASE64, 30)(rng) + "==", foot])

    return make


def escaped(make: Make) -> Make:
    """Several lines in one, as JSON and `.env` files have them."""
    return lambda rng: make(rng).replace("\n", "\\n")


def url(scheme: str, rest: str, user: str = "shop") -> Make:
    """A URL with a password in it."""
    return lambda rng: f"{scheme}://{user}:{plain_password(rng)}@{rest}"


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of credential.

    Attributes:
        name: unique.
        noun: what people call it in a sentence.
        make: gives one.
        told: its form says nothing, so that only a text that names it tells what it is.
        block: it has several lines.
    """

    name: str
    noun: str
    make: Make
    told: bool = False
    block: bool = False


def _vendor(name: str, noun: str, *parts: str | Make) -> Format:
    return Format(name, noun, glued(*(fixed(part) if isinstance(part, str) else part for part in parts)))


def _told(name: str, noun: str, make: Make) -> Format:
    return Format(name, noun, make, told=True)


FORMATS: tuple[Format, ...] = (
    _vendor("openai-legacy", "OpenAI key", "sk", "-", of(ALNUM, 20), "T3Blbk", "FJ", of(ALNUM, 20)),
    _vendor("openai-project", "OpenAI project key", "sk-", "proj-", of(WEB, 74), "T3Blbk", "FJ", of(WEB, 74)),
    _vendor("openai-service-account", "OpenAI key", "sk-", "svcacct-", of(WEB, 74), "T3Blbk", "FJ", of(WEB, 74)),
    _vendor("openai-admin", "OpenAI admin key", "sk-", "admin-", of(WEB, 58), "T3Blbk", "FJ", of(WEB, 58)),
    _vendor("anthropic", "Anthropic key", "sk-", "ant-", "api03-", of(WEB, 93), "AA"),
    _vendor("anthropic-admin", "Anthropic admin key", "sk-", "ant-", "admin01-", of(WEB, 93), "AA"),
    _vendor("anthropic-oauth", "Claude login token", "sk-", "ant-", "oat01-", of(WEB, 93), "AA"),
    _vendor("google-api", "Google Maps key", "AI", "za", of(WEB, 35)),
    _vendor("google-oauth-secret", "Google client secret", "GOC", "SPX-", of(WEB, 28)),
    _vendor("google-oauth-token", "Google access token", "ya", "29.", of(WEB, 160)),
    _vendor("aws-key-id", "AWS access key ID", "AK", "IA", of(BASE32, 16)),
    _vendor("aws-temporary-id", "AWS temporary key ID", "AS", "IA", of(BASE32, 16)),
    _told("aws-secret", "AWS secret access key", of(BASE64, 40)),
    _told("aws-session", "AWS session token", glued(fixed("IQoJb3Jp", "Z2luX2Vj"), of(BASE64, 340), fixed("=="))),
    Format("aws-pair", "AWS pair", glued(fixed("AK", "IA"), of(BASE32, 16), fixed(" / "), of(BASE64, 40))),
    _vendor(
        "azure-storage",
        "storage connection string",
        "DefaultEndpointsProtocol=https;AccountName=shop;Account",
        "Key=",
        of(BASE64, 86),
        "==;EndpointSuffix=core.windows.net",
    ),
    _vendor("azure-client-secret", "Azure client secret", of(ALNUM, 3), "8Q", "~", of(ALNUM + "._-~", 34)),
    _vendor(
        "azure-sas",
        "Azure SAS URL",
        "https://shop.blob.core.windows.net/in?sv=2022-11-02&sp=r&si",
        "g=",
        of(ALNUM, 43),
        "%3D",
    ),
    _vendor(
        "azure-service-bus",
        "Service Bus string",
        "Endpoint=sb://shop.servicebus.windows.net/;SharedAccessKeyName=Root;SharedAccess",
        "Key=",
        of(BASE64, 43),
        "=",
    ),
    *(
        Format(f"github-{name}", noun, checked("gh" + letter + "_"))
        for letter, name, noun in (
            ("p", "classic", "GitHub token"),
            ("o", "oauth", "GitHub OAuth token"),
            ("u", "user", "GitHub user token"),
            ("s", "server", "GitHub Actions token"),
            ("r", "refresh", "GitHub refresh token"),
        )
    ),
    _vendor("github-fine-grained", "GitHub token", "github", "_pat_", of(ALNUM, 22), "_", of(ALNUM, 59)),
    _vendor("gitlab", "GitLab token", "glp", "at-", of(WEB, 20)),
    _vendor("gitlab-routable", "GitLab token", "glp", "at-", of(WEB, 27), ".01.", of(LOWER, 9)),
    _vendor("gitlab-deploy", "GitLab deploy token", "gld", "t-", of(WEB, 20)),
    _vendor("gitlab-runner", "GitLab runner token", "glr", "t-", of(WEB, 20)),
    _vendor("hugging-face", "Hugging Face token", "h", "f_", of(LETTERS, 34)),
    _told("mistral", "Mistral API key", of(ALNUM, 32)),
    _vendor("groq", "Groq key", "gs", "k_", of(ALNUM, 52)),
    _vendor("openrouter", "OpenRouter key", "sk-", "or-", "v1-", of(HEX, 64)),
    _vendor("slack-bot", "Slack bot token", "xox", "b-", of(DIGITS, 12), "-", of(DIGITS, 13), "-", of(ALNUM, 24)),
    _vendor(
        "slack-user",
        "Slack user token",
        *("xox", "p-", of(DIGITS, 12), "-", of(DIGITS, 12), "-", of(DIGITS, 13), "-", of(HEX, 32)),
    ),
    _vendor("slack-app", "Slack app token", "xa", "pp-1-A", of(UPPER, 10), "-", of(DIGITS, 13), "-", of(HEX, 64)),
    _vendor(
        "slack-webhook",
        "Slack webhook",
        *("https://hooks.slack", ".com/services/T", of(UPPER, 10), "/B", of(UPPER, 10), "/", of(ALNUM, 24)),
    ),
    _vendor("stripe-live", "Stripe key", "sk", "_live_", of(ALNUM, 24)),
    _vendor("stripe-long", "Stripe secret key", "sk", "_live_51", of(ALNUM, 97)),
    _vendor("stripe-restricted", "restricted Stripe key", "rk", "_live_", of(ALNUM, 99)),
    _vendor("stripe-test", "Stripe test key", "sk", "_test_", of(ALNUM, 24)),
    _vendor("stripe-webhook", "Stripe webhook secret", "wh", "sec_", of(ALNUM, 32)),
    _vendor("twilio-key", "Twilio API key", "S", "K", of(HEX, 32)),
    _told("twilio-auth", "Twilio auth token", of(HEX, 32)),
    _vendor("sendgrid", "SendGrid key", "S", "G.", of(WEB, 22), ".", of(WEB, 43)),
    Format("npm", "npm token", checked("np" + "m_")),
    _vendor("pypi", "PyPI token", "py", "pi-", "AgEIcHlwaS5vcmc", of(WEB, 150)),
    _vendor("docker", "Docker Hub token", "dckr", "_pat_", of(WEB, 27)),
    _vendor("docker-organization", "Docker token", "dckr", "_oat_", of(WEB, 32)),
    _vendor("digitalocean", "DigitalOcean token", "dop", "_v1_", of(HEX, 64)),
    _vendor("digitalocean-oauth", "DigitalOcean token", "doo", "_v1_", of(HEX, 64)),
    _vendor("vault", "Vault token", "hv", "s.", of(WEB, 24)),
    _vendor("vault-batch", "Vault batch token", "hv", "b.", of(WEB, 140)),
    _vendor("databricks", "Databricks token", "da", "pi", of(HEX, 32)),
    _vendor("supabase", "Supabase token", "sb", "p_", of(HEX, 40)),
    _vendor("supabase-secret", "Supabase secret key", "sb", "_secret_", of(WEB, 22), "_", of(WEB, 8)),
    Format("supabase-service-role", "Supabase service key", role_jwt),
    _vendor("shopify", "Shopify token", "shp", "at_", of(HEX, 32)),
    _vendor("shopify-shared", "Shopify shared secret", "shp", "ss_", of(HEX, 32)),
    _told("cloudflare", "Cloudflare API token", of(WEB, 40)),
    _told("cloudflare-global", "Cloudflare API key", of(HEX, 37)),
    _vendor("cloudflare-origin", "origin CA key", "v1", ".0-", of(HEX, 24), "-", of(HEX, 146)),
    _told("vercel", "Vercel token", of(ALNUM, 24)),
    _vendor("netlify", "Netlify token", "nf", "p_", of(ALNUM, 36)),
    _vendor("fly", "Fly token", "Fly", "V1 fm", "2_", of(BASE64, 300)),
    _told("heroku", "Heroku API key", uuid),
    _vendor("heroku-new", "Heroku token", "HR", "KU-AA", of(WEB, 58)),
    _vendor("linear", "Linear key", "lin", "_api_", of(ALNUM, 40)),
    _vendor("notion", "Notion token", "nt", "n_", of(DIGITS, 11), of(ALNUM, 35)),
    _vendor("notion-old", "Notion integration token", "sec", "ret_", of(ALNUM, 43)),
    _vendor("figma", "Figma token", "fi", "gd_", of(WEB, 40)),
    _told("datadog-api", "Datadog API key", of(HEX, 32)),
    _told("datadog-app", "Datadog application key", of(HEX, 40)),
    Format("sentry", "Sentry token", sentry),
    _vendor("sentry-user", "Sentry user token", "sntr", "yu_", of(HEX, 64)),
    Format("grafana", "Grafana token", grafana),
    _vendor("grafana-cloud", "Grafana Cloud token", "gl", "c_", of(BASE64, 110), "="),
    Format("jwt", "session token", jwt),
    Format("private-key-rsa", "deploy key", pem_lines("RSA ", 24), block=True),
    Format("private-key-openssh", "SSH key", pem_lines("OPENSSH ", 6), block=True),
    Format("private-key-ec", "signing key", pem_lines("EC ", 2), block=True),
    Format("private-key-cut", "server key", pem_lines("", 3, cut=True), block=True),
    Format("private-key-escaped", "service account's key", escaped(pem_lines("", 24))),
    Format("postgres-url", "database URL", url("postgresql", "db.shop.test:5432/shop")),
    Format("mysql-url", "database URL", url("mysql", "10.2.0.7/shop")),
    Format("mongodb-url", "Mongo URI", url("mongodb+srv", "cluster0.k3x9q.mongodb.net/shop")),
    Format("redis-url", "cache URL", url("redis", "cache.shop.test:6379/0", user="")),
    Format("amqp-url", "broker URL", url("amqps", "mq.shop.test/v")),
    Format("basic-auth-url", "registry", url("https", "registry.shop.test/simple", user="ci")),
    _vendor("authorization-bearer", "header", "Authorization: Bearer ", of(ALNUM, 40)),
    Format("authorization-basic", "header", glued(fixed("Authorization: Basic "), basic)),
    Format("env-assignment", "line", glued(fixed("DB_PASS", "WORD="), password)),
    Format("shell-assignment", "line", glued(fixed("export API_", "TOKEN="), of(ALNUM, 32))),
    _told("password", "password", password),
    _told("password-of", "admin password", password),
    # What fewer people have: more kinds of the above, and services of every trade.
    _vendor("google-gemini", "Gemini API key", "AQ", ".Ab8RN6", of(WEB, 44)),
    _vendor("google-refresh", "Google refresh token", "1/", "/0", of(WEB, 60)),
    _vendor("azure-openai", "Azure OpenAI key", of(ALNUM, 52), "JQQ", "J99", of(ALNUM, 26)),
    _vendor("aws-bedrock", "Bedrock API key", "AB", "SK", of(ALNUM, 128)),
    _vendor("alibaba", "Alibaba access key", "LT", "AI", of(ALNUM, 20)),
    _vendor("cloudflare-account", "Cloudflare token", "cf", "at_", of(ALNUM, 40), of(HEX, 8)),
    _vendor("vercel-new", "Vercel token", "vc", "p_", of(ALNUM, 56)),
    _vendor("render", "Render API key", "rn", "d_", of(ALNUM, 28)),
    _vendor("planetscale", "PlanetScale token", "pscale", "_tkn_", of(ALNUM, 43)),
    _vendor("doppler", "Doppler token", "dp", ".pt.", of(ALNUM, 43)),
    _vendor("pulumi", "Pulumi token", "pu", "l-", of(HEX, 40)),
    _vendor("tailscale", "Tailscale key", "tsk", "ey-auth-", of(ALNUM, 17), "-", of(ALNUM, 32)),
    _vendor("terraform", "Terraform token", of(ALNUM, 14), ".atlas", "v1.", of(WEB, 67)),
    _vendor("perplexity", "Perplexity key", "pp", "lx-", of(ALNUM, 48)),
    _vendor("xai", "xAI key", "xa", "i-", of(ALNUM, 80)),
    _vendor("replicate", "Replicate token", "r", "8_", of(ALNUM, 37)),
    _vendor("langsmith", "LangSmith key", "lsv2", "_pt_", of(HEX, 32), "_", of(HEX, 10)),
    _vendor("elevenlabs", "ElevenLabs key", "s", "k_", of(HEX, 48)),
    _vendor("apify", "Apify token", "apify", "_api_", of(ALNUM, 36)),
    _vendor("gitlab-trigger", "GitLab trigger token", "glp", "tt-", of(HEX, 40)),
    _vendor("bitbucket", "Bitbucket app password", "AT", "BB", of(ALNUM, 32)),
    _vendor("atlassian", "Atlassian token", "ATA", "TT3xFfGF0", of(WEB, 180)),
    _vendor("rubygems", "RubyGems key", "ruby", "gems_", of(HEX, 48)),
    _vendor("crates-io", "crates.io token", "ci", "o", of(ALNUM, 32)),
    _vendor("nuget", "NuGet key", "oy", "2", of(LOWER, 43)),
    _vendor("postman", "Postman key", "PM", "AK-", of(HEX, 24), "-", of(HEX, 34)),
    _vendor("sonar", "SonarQube token", "sq", "u_", of(HEX, 40)),
    _vendor("buildkite", "Buildkite token", "bk", "ua_", of(HEX, 40)),
    _vendor("circleci", "CircleCI token", "CCI", "PAT_", of(ALNUM, 22), "_", of(HEX, 40)),
    _vendor("launchdarkly", "LaunchDarkly key", "sd", "k-", uuid),
    _vendor("airtable", "Airtable token", "pa", "t", of(ALNUM, 14), ".", of(HEX, 64)),
    _vendor("hubspot", "HubSpot token", "pa", "t-na1-", uuid),
    _vendor("asana", "Asana token", "2", "/1", of(DIGITS, 15), "/1", of(DIGITS, 15), ":", of(HEX, 32)),
    _vendor("clickup", "ClickUp token", "p", "k_", "48213377_", of(UPPER, 32)),
    _vendor("typeform", "Typeform token", "tf", "p_", of(ALNUM, 44), "_", of(ALNUM, 14)),
    _vendor("new-relic", "New Relic key", "NR", "AK-", of(UPPER, 27)),
    _vendor("new-relic-license", "New Relic license key", of(HEX, 36), "FFFF", "NRAL"),
    _vendor("dynatrace", "Dynatrace token", "dt0", "c01.", of(UPPER, 24), ".", of(UPPER, 64)),
    _vendor("posthog", "PostHog key", "ph", "x_", of(ALNUM, 43)),
    _vendor("mapbox", "Mapbox token", "s", "k.eyJ", of(ALNUM, 60), ".", of(ALNUM, 22)),
    _vendor("mailgun", "Mailgun key", of(HEX, 32), "-", of(HEX, 8), "-", of(HEX, 8)),
    _vendor("mailchimp", "Mailchimp key", of(HEX, 32), "-us", "14"),
    _vendor("brevo", "Brevo key", "xkey", "sib-", of(HEX, 64), "-", of(ALNUM, 16)),
    _vendor("resend", "Resend key", "r", "e_", of(ALNUM, 8), "_", of(ALNUM, 24)),
    _vendor("square", "Square token", "EA", "AA", of(ALNUM, 60)),
    _vendor("plaid", "Plaid token", "acc", "ess-production-", uuid),
    _vendor("razorpay", "Razorpay key", "rzp", "_live_", of(ALNUM, 14)),
    _vendor("telegram", "Telegram bot token", "7", of(DIGITS, 9), ":AA", of(WEB, 33)),
    _vendor(
        "discord-webhook", "Discord webhook", "https://discord", ".com/api/webhooks/1", of(DIGITS, 18), "/", of(WEB, 68)
    ),
    _told("deepgram", "Deepgram API key", of(HEX, 40)),
    _told("cohere", "Cohere API key", of(ALNUM, 40)),
    _told("assemblyai", "AssemblyAI key", of(HEX, 32)),
    _told("algolia", "Algolia admin API key", of(HEX, 32)),
    _told("fastly", "Fastly API token", of(WEB, 32)),
    _told("okta", "Okta API token", glued(fixed("00"), of(WEB, 40))),
    _told("pagerduty", "PagerDuty API key", of(ALNUM, 20)),
    _told("azure-devops", "Azure DevOps token", of(string.ascii_lowercase + "234567", 52)),
    _told("azure-cognitive", "Azure Cognitive Services key", of(HEX, 32)),
    _told("codecov", "Codecov token", uuid),
    _told("snyk", "Snyk API token", uuid),
    _told("zendesk", "Zendesk API token", of(ALNUM, 40)),
    _told("trello", "Trello API key", of(HEX, 32)),
    _told("mixpanel", "Mixpanel API secret", of(HEX, 32)),
    _told("binance", "Binance secret key", of(ALNUM, 64)),
    _told("etherscan", "Etherscan API key", of(UPPER, 34)),
    _told("linode", "Linode token", of(HEX, 64)),
    _told("hetzner", "Hetzner API token", of(ALNUM, 64)),
    _told("vultr", "Vultr API key", of(UPPER, 36)),
    _told("scaleway", "Scaleway secret key", uuid),
    _told("vendor-unknown", "API token of the parcel service", of(ALNUM, 36)),
    _told("wifi", "WLAN password", password),
)
