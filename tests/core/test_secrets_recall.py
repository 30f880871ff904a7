"""Recall on generated credentials: every format, many values, in the sentences people and agents write.

Values are random and assembled here, so that no file of this repository ever has a credential in it.
"""

from __future__ import annotations

import base64
import json
import random
import string
from collections import defaultdict
from collections.abc import Callable

import pytest

from adaptive_llm_gateway.core import SecretScanner

ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
WEB = ALNUM + "-_"
UPPER = string.ascii_uppercase + string.digits
BASE64 = ALNUM + "+/"

Make = Callable[[random.Random], str]


def of(alphabet: str, length: int, *, start: str = "", end: str = "") -> Make:
    return lambda rng: start + "".join(rng.choices(alphabet, k=length)) + end


def joined(separator: str, *makes: Make) -> Make:
    return lambda rng: separator.join(make(rng) for make in makes)


def glued(*makes: Make) -> Make:
    return joined("", *makes)


def fixed(text: str) -> Make:
    return lambda rng: text


def uuid(rng: random.Random) -> str:
    return "-".join("".join(rng.choices(HEX, k=k)) for k in (8, 4, 4, 4, 12))


def jwt(rng: random.Random) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    subject = "".join(rng.choices(HEX, k=12))
    return ".".join([part({"alg": "HS256", "typ": "JWT"}), part({"sub": subject, "iat": 17}), of(WEB, 43)(rng)])


def password(rng: random.Random) -> str:
    parts = [rng.choice(string.ascii_uppercase), *rng.choices(string.ascii_lowercase, k=6)]
    parts += [*rng.choices("23456789", k=3), rng.choice("!#%*?")]
    rng.shuffle(parts)
    return rng.choice(ALNUM[:52]) + "".join(parts)


def pem(rng: random.Random) -> str:
    label = rng.choice(["RSA ", "EC ", "OPENSSH ", ""]) + "PRIVATE KEY"
    lines = ["".join(rng.choices(BASE64, k=64)) for _ in range(rng.randint(3, 20))]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"])


def cut_pem(rng: random.Random) -> str:
    return "\n".join(pem(rng).split("\n")[: rng.randint(2, 3)])


def basic(rng: random.Random) -> str:
    return base64.b64encode(f"deploy:{password(rng)}".encode()).decode()


SENTENCES = (
    "We deploy with `{}` from now on.",
    "The new one is {} and it works.",
    "- found in the old wiki: {}",
    'export SERVICE_CREDENTIAL="{}"',
    "| staging | {} | rotated in May |",
    "Use {}, please.",
    "({})",
    "```\ncurl -H 'X-Auth: {}' https://api.service.test/v1\n```",
    "> {}",
    '{{"value": "{}"}}',
)
KEY_SENTENCES = (
    "The {} API key is {}.",
    "{} api key: `{}`",
    "For {} we use the token {} everywhere.",
    "{0}_API_KEY={1}",
    'set {0}\'s access token to "{1}"',
)
PASSWORD_SENTENCES = (
    "The password is {}",
    "The password for the staging database is `{}`.",
    "Password: {}",
    "- **Password:** {}",
    "DB_PASSWORD={}",
    "export PGPASSWORD='{}'",
    'password = "{}"',
    '  "password": "{}",',
    "  password: {}",
    "log in as deploy with password `{}`",
    "I changed the root password to {} today.",
    "mysql --user deploy --password={} shop",
)
SECRET_SENTENCES = (
    "SECRET_KEY={}",
    'client_secret: "{}"',
    "The client secret is {}",
    'api_key = "{}"',
    '"apiKey": "{}"',
    "X-Api-Key: {}",
    "const accessToken = '{}';",
    "auth_token: {}",
)


def named(vendor: str) -> tuple[str, ...]:
    def one(sentence: str) -> str:
        name = vendor.upper() if "_API_KEY" in sentence else vendor
        return (
            sentence.replace("{0}", name).replace("{1}", "{}").replace("{}", name, 1 if sentence.count("{}") > 1 else 0)
        )

    return tuple(one(sentence) for sentence in KEY_SENTENCES)


# name: (how a value is made, the sentences it stands in, the share that has to be found)
FORMATS: dict[str, tuple[Make, tuple[str, ...], float]] = {
    "openai project": (of(WEB, 120, start="sk-proj-"), SENTENCES, 1.0),
    "openai service account": (of(WEB, 100, start="sk-svcacct-"), SENTENCES, 1.0),
    "openai legacy": (glued(of(ALNUM, 20, start="sk-"), of(ALNUM, 20, start="T3Blbk" + "FJ")), SENTENCES, 1.0),
    "anthropic": (of(WEB, 93, start="sk-ant-" + "api03-", end="AA"), SENTENCES, 1.0),
    "openrouter": (of(HEX, 64, start="sk-or-" + "v1-"), SENTENCES, 1.0),
    "google api": (of(WEB, 35, start="AI" + "za"), SENTENCES, 1.0),
    "groq": (of(ALNUM, 52, start="gsk" + "_"), SENTENCES, 1.0),
    "hugging face": (of(string.ascii_letters, 34, start="hf" + "_"), SENTENCES, 0.95),
    "aws access key": (of(string.ascii_uppercase + "234567", 16, start="AK" + "IA"), SENTENCES, 1.0),
    "aws temporary key": (of(string.ascii_uppercase + "234567", 16, start="AS" + "IA"), SENTENCES, 1.0),
    "aws secret": (
        of(BASE64, 40),
        ("aws_secret_access_key = {}", "AWS_SECRET_ACCESS_KEY={}", "The AWS secret access key is {}."),
        0.95,
    ),
    "azure storage": (
        of(BASE64, 86, start="DefaultEndpointsProtocol=https;AccountName=shop;Account" + "Key=", end="=="),
        SENTENCES,
        1.0,
    ),
    "github classic": (of(ALNUM, 36, start="gh" + "p_"), SENTENCES, 1.0),
    "github oauth": (of(ALNUM, 36, start="gh" + "o_"), SENTENCES, 1.0),
    "github server": (of(ALNUM, 36, start="gh" + "s_"), SENTENCES, 1.0),
    "github fine-grained": (joined("_", of(ALNUM, 22, start="github_" + "pat_"), of(ALNUM, 59)), SENTENCES, 1.0),
    "gitlab": (of(WEB, 20, start="glp" + "at-"), SENTENCES, 0.98),
    "slack bot": (
        joined("-", of(string.digits, 12, start="xox" + "b-"), of(string.digits, 12), of(ALNUM, 24)),
        SENTENCES,
        1.0,
    ),
    "slack webhook": (
        joined(
            "/", of(UPPER, 10, start="https://hooks.slack.com/" + "services/T"), of(UPPER, 10, start="B"), of(ALNUM, 24)
        ),
        SENTENCES,
        1.0,
    ),
    "stripe live": (of(ALNUM, 24, start="sk_" + "live_"), SENTENCES, 0.98),
    "stripe restricted": (of(ALNUM, 99, start="rk_" + "live_"), SENTENCES, 1.0),
    "stripe test": (of(ALNUM, 24, start="sk_" + "test_"), SENTENCES, 0.98),
    "twilio key": (of(HEX, 32, start="S" + "K"), SENTENCES, 1.0),
    "twilio auth token": (of(HEX, 32), named("Twilio"), 0.98),
    "sendgrid": (joined(".", fixed("S" + "G"), of(WEB, 22), of(WEB, 43)), SENTENCES, 1.0),
    "npm": (of(ALNUM, 36, start="npm" + "_"), SENTENCES, 0.98),
    "pypi": (of(WEB, 150, start="pypi-" + "AgEIcHlwaS5vcmc"), SENTENCES, 1.0),
    "docker": (of(WEB, 27, start="dckr_" + "pat_"), SENTENCES, 1.0),
    "digitalocean": (of(HEX, 64, start="dop_" + "v1_"), SENTENCES, 1.0),
    "vault": (of(WEB, 24, start="hv" + "s."), SENTENCES, 0.98),
    "databricks": (of(HEX, 32, start="da" + "pi"), SENTENCES, 1.0),
    "supabase": (of(HEX, 40, start="sb" + "p_"), SENTENCES, 1.0),
    "shopify": (of(HEX, 32, start="shp" + "at_"), SENTENCES, 1.0),
    "linear": (of(ALNUM, 40, start="lin_" + "api_"), SENTENCES, 1.0),
    "notion": (of(ALNUM, 46, start="nt" + "n_"), SENTENCES, 0.98),
    "notion old": (of(ALNUM, 43, start="sec" + "ret_"), SENTENCES, 0.98),
    "figma": (of(WEB, 40, start="fi" + "gd_"), SENTENCES, 0.98),
    "grafana": (joined("_", of(ALNUM, 32, start="gl" + "sa_"), of(HEX, 8)), SENTENCES, 1.0),
    "sentry": (of(BASE64, 120, start="sntr" + "ys_eyJ"), SENTENCES, 1.0),
    "telegram bot": (joined(":", of("123456789", 10), of(WEB, 35)), SENTENCES, 0.9),
    "mailchimp": (of(HEX, 32, end="-us12"), SENTENCES, 0.9),
    "jwt": (jwt, SENTENCES, 1.0),
    "private key": (pem, ("{}", "The key:\n\n{}\n\nKeep it."), 1.0),
    "cut private key": (cut_pem, ("{}", "It begins like this:\n{}\n\nand goes on.", "{}\n..."), 1.0),
    "mistral": (of(ALNUM, 32), named("Mistral"), 0.95),
    "datadog": (of(HEX, 32), named("Datadog"), 0.98),
    "cloudflare": (of(WEB, 40), named("Cloudflare"), 0.95),
    "heroku": (uuid, named("Heroku"), 0.98),
    "database url": (
        lambda rng: f"postgres://shop:{of(ALNUM, 14)(rng)}@db.internal:5432/shop",
        SENTENCES,
        0.95,
    ),
    "broker url": (lambda rng: f"amqps://svc:{of(ALNUM + '!*~', 16)(rng)}@mq.internal/v", SENTENCES, 0.98),
    "web url": (lambda rng: f"https://ci:{of(ALNUM, 20)(rng)}@git.internal/shop.git", SENTENCES, 0.98),
    "bearer": (of(ALNUM, 40, start="Authorization: Bearer "), SENTENCES, 0.98),
    "basic": (glued(fixed("Authorization: Basic "), basic), SENTENCES, 1.0),
    "password": (password, PASSWORD_SENTENCES, 0.95),
    "secret assigned": (of(ALNUM, 32), SECRET_SENTENCES, 0.95),
    "short key assigned": (of(ALNUM, 20), SECRET_SENTENCES, 0.9),
}
PER_FORMAT = 40


def planted(seed: int) -> list[tuple[str, str, str]]:
    """Format, secret and text of every sample; the first of a format is the same for the same seed."""
    rng = random.Random(seed)  # noqa: S311 - has to repeat
    samples: list[tuple[str, str, str]] = []
    for name, (make, sentences, _) in FORMATS.items():
        for number in range(PER_FORMAT):
            secret = make(rng)
            text = sentences[number % len(sentences)].format(secret)
            samples.append(
                (name, secret, f"# Notes of the week\n\nSome words before it.\n\n{text}\n\nAnd some after.\n")
            )
    return samples


@pytest.fixture(scope="module")
def shares() -> dict[str, float]:
    scanner = SecretScanner()
    found: dict[str, int] = defaultdict(int)
    for name, _, text in planted(20240517):
        found[name] += bool(scanner.scan(text))
    return {name: found[name] / PER_FORMAT for name in FORMATS}


@pytest.mark.parametrize("name", FORMATS)
def test_a_generated_credential_in_a_sentence_is_found(name: str, shares: dict[str, float]) -> None:
    assert shares[name] >= FORMATS[name][2]


def test_at_least_98_percent_of_all_generated_credentials_are_found(shares: dict[str, float]) -> None:
    assert sum(shares.values()) / len(shares) >= 0.98


def test_what_is_found_is_gone_after_redaction() -> None:
    scanner = SecretScanner()
    for name, secret, text in planted(7)[:: PER_FORMAT // 8]:
        redacted, findings = scanner.redact(text)
        assert scanner.scan(redacted) == (), name
        if findings and name not in ("database url", "broker url", "web url", "azure storage"):
            assert secret.split(" ")[-1].split("\n")[-1] not in redacted, name
