"""Vendors' formats, one by one: values made from a seed in the form that the vendor publishes, each told in a sentence.

Values are random and assembled here, so that no file of this repository ever has a credential in it.
"""

from __future__ import annotations

import base64
import random
import re
import string
import zlib

import pytest

from adaptive_llm_gateway.core import SecretScanner

CLASSES = {
    "A": string.ascii_letters + string.digits,
    "W": string.ascii_letters + string.digits + "-_",
    "L": string.ascii_lowercase + string.digits,
    "U": string.ascii_uppercase + string.digits,
    "H": "0123456789abcdef",
    "X": "0123456789ABCDEF",
    "D": string.digits,
    "B": string.ascii_letters + string.digits + "+/",
    "N": "123456789",
}

# Kind, and forms: `{A30}` is thirty characters of a class, `{G}` a UUID, `~~` a tilde; `~` alone is nothing, and keeps
# a prefix from being one in this file.
FORMS = """
anthropic-key: sk-~ant-api03-{W93}AA | sk-~ant-admin01-{W93}AA | sk-~ant-oat01-{W93}AA
openai-key: sk-~proj-{W74}T3Blbk~FJ{W74} | sk-~svcacct-{W120} | sk-~admin-{W120} | sk-~{A20}T3Blbk~FJ{A20}
openrouter-key: sk-~or-v1-{H64}
google-api-key: AI~za{W35} | AQ.~Ab8RN6{A44}
google-oauth-secret: GOC~SPX-{A28}
google-oauth-token: ya~29.{A120}
google-refresh-token: 1~//0{A60}
hugging-face-token: h~f_{A34} | api_~org_{A34}
groq-key: gs~k_{A52}
xai-key: xa~i-{A80}
perplexity-key: pp~lx-{A48}
replicate-token: r~8_{A37}
nvidia-key: nv~api-{A64}
langsmith-key: lsv2~_pt_{H32}_{H10}
elevenlabs-key: sk~_{H48}
jina-key: ji~na_{A60}
cerebras-key: cs~k-{L48}
apify-token: apify~_api_{A36}
firecrawl-key: f~c-{H32}
wandb-key: wandb~_v1_{A60}
aws-access-key-id: AK~IA{U16} | AS~IA{U16}
appsync-key: da~2-{L26}
bedrock-key: AB~SK{B128}
alibaba-access-key: LT~AI{A20}
tencent-access-key: AK~ID{A32}
digitalocean-token: dop~_v1_{H64} | doo~_v1_{H64} | dor~_v1_{H64}
databricks-token: da~pi{H32} | da~pi{H32}-2
supabase-token: sb~p_{H40}
supabase-key: sb~_secret_{A22}_{A8}
vercel-token: vc~p_{A56}
netlify-token: nf~p_{A36}
heroku-key: HR~KU-AA{A58}
render-key: rn~d_{A28}
neon-key: na~pi_{L64}
cloudflare-token: cf~ut_{A40}{H8} | cf~k_{A40}{H8}
cloudflare-origin-key: v1~.0-{H24}-{H146}
planetscale-token: pscale~_tkn_{A43}
doppler-token: dp~.pt.{A43}
pulumi-token: pu~l-{H40}
tailscale-key: ts~key-auth-{A17}-{A32}
vault-token: hv~s.{A24} | hv~b.{W140}
azure-client-secret: {A3}8Q~~{A34}
azure-key: {A52}JQQJ~99{A26}
azure-signature: sp=r&sv=2022-11-02&si~g={A43}%3D
yandex-key: AQ~VN{A36}
aiven-password: AV~NS_{A19}
mongodb-atlas-secret: mdb~_sa_sk_{A40}
openshift-token: sha~256~{A43}
alg-token: al~gt_{A49}
github-token: gh~p_{A36} | gh~o_{A36} | gh~u_{A36} | gh~s_{A36} | gh~r_{A76} | github~_pat_{A22}_{A59}
gitlab-token: glp~at-{A20} | gld~t-{A20} | glr~t-{A20} | gls~oat-{A20} | glc~bt-64_{A20} | glp~tt-{H40} | glo~as-{H64}
npm-token: np~m_{A36}
pypi-token: py~pi-AgEIcHlwaS5vcmc{W150}
docker-token: dckr~_pat_{A27} | dckr~_oat_{A32}
rubygems-key: ruby~gems_{H48}
clojars-token: CLO~JARS_{L60}
nuget-key: oy~2{L43}
atlassian-token: ATA~TT3xFfGF0{W180} | AT~BB{A32}
bitbucket-token: BB~DC-MTk4{B40}
trello-token: AT~TA{H64}
postman-key: PM~AK-{H24}-{H34}
sonar-token: sq~u_{H40} | sq~p_{H40}
circleci-token: CCI~PAT_{A22}_{H40}
buildkite-token: bk~ua_{H40}
harness-token: pa~t.{A22}.{H24}.{A20}
launchdarkly-key: sd~k-{G}
octopus-key: AP~I-{U29}
prefect-key: pn~u_{A36}
slack-token: xox~b-{D12}-{D13}-{A24} | xox~p-{D12}-{D12}-{D13}-{H32} | xa~pp-1-A{U10}-{D13}-{H64} | xox~e-1-{A140}
slack-webhook: hooks.slack~.com/services/T{U10}/B{U10}/{A24}
discord-webhook: https://discord~.com/api/webhooks/{N18}/{A68}
teams-webhook: https://shop.webhook.office~.com/webhookb2/{G}@{G}/IncomingWebhook/{H32}/{G}
zapier-webhook: https://hooks.zapier~.com/hooks/catch/{N7}/{L7}
notion-token: nt~n_{D11}{A35} | sec~ret_{A43}
linear-key: lin~_api_{A40}
figma-token: fi~gd_{A40}
airtable-token: pa~t{A14}.{H64}
hubspot-token: pa~t-na1-{G}
asana-token: 2~/{N16}/{N16}:{H32}
clickup-token: p~k_{N8}_{U32}
dropbox-token: s~l.{A130}
typeform-token: tf~p_{A44}_{A14}
contentful-token: CF~PAT-{A43}
readme-key: rd~me_{L70}
frameio-token: fi~o-u-{A64}
grafana-token: gl~sa_{A32}_{H8} | gl~c_{B110}=
sentry-token: sn~trys_{B120} | sn~tryu_{H64}
new-relic-key: NR~AK-{U27} | NR~II-{A32} | {H36}FFFF~NRAL | {H40}-~NRMA
dynatrace-token: dt0~c01.{U24}.{U64}
posthog-key: ph~x_{A43}
rootly-token: root~ly_{H64}
mapbox-token: s~k.eyJ{A60}.{A22}
maxmind-key: {A6}_{A29}~_mmk
sendgrid-key: S~G.{A22}.{A43}
mailgun-key: ke~y-{H32} | {H32}-{H8}-{H8}
mandrill-key: m~d-{A22}
brevo-key: xkey~sib-{H64}-{A16}
resend-key: r~e_{A8}_{A24}
twilio-key: S~K{H32}
telnyx-key: KE~Y{X32}_{A22}
stripe-key: sk~_live_{A24} | rk~_live_{A99} | sk~_test_{A24}
stripe-webhook-secret: wh~sec_{A32}
square-token: EA~AA{A60} | sq0~atp-{A22}
square-secret: sq0~csp-{A43}
razorpay-key: rzp~_live_{A14}
plaid-token: acc~ess-sandbox-{G}
paypal-token: acc~ess_token$production${L16}${H32}
flutterwave-key: FLW~SECK-{H32}-X
duffel-token: duf~fel_live_{A43}
shippo-token: ship~po_live_{H40}
shopify-token: shp~at_{H32} | shp~ss_{H32} | shp~ca_{H32}
woocommerce-key: c~k_{H40}
facebook-token: EA~A{A160}
linkedin-secret: WPL~_AP1.{A16}.{A6}==
age-key: AGE-SECRET~-KEY-1{U58}
""".strip()
SENTENCES = (
    "We deploy with `{}` from now on.",
    "{}",
    "- found in the wiki: {}",
    '{{"value": "{}"}}',
    "Use {}, please.",
)


def made(form: str, rng: random.Random) -> str:
    """A value of a form; no class gives the same character everywhere, and all have a digit."""

    def some(match: re.Match[str]) -> str:
        letters, length = CLASSES[match[1]], int(match[2])
        ends = [c for c in letters if c.isalnum()]
        return "".join([rng.choice(ends), *rng.choices(letters, k=max(0, length - 2)), rng.choice(ends)])[:length]

    kept = (
        form.replace("{G}", "{H8}-{H4}-4{H3}-a{H3}-{H12}")
        .replace("~~", "\0")
        .replace("sha~256~", "sha256\0")
        .replace("~", "")
        .replace("\0", "~")
    )
    return re.sub(r"\{([A-Z])(\d+)\}", some, kept)


ROWS = [
    (kind, form.strip())
    for kind, _, forms in (line.partition(": ") for line in FORMS.splitlines())
    for form in forms.split(" | ")
]


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


@pytest.mark.parametrize(("kind", "form"), ROWS, ids=[form for _, form in ROWS])
def test_a_token_of_a_published_form_is_found_whole_and_by_its_name(
    scanner: SecretScanner, kind: str, form: str
) -> None:
    rng = random.Random(form)  # noqa: S311 - has to repeat
    for number in range(20):
        value = made(form, rng)
        text = SENTENCES[number % len(SENTENCES)].format(value)
        (span,) = scanner.spans(text)
        assert span.finding.kind == kind
        assert text[span.start : span.end] in value
        assert span.end - span.start >= len(value) * 0.4


@pytest.mark.parametrize(("kind", "form"), ROWS, ids=[form for _, form in ROWS])
def test_a_placeholder_in_a_published_form_is_none(scanner: SecretScanner, kind: str, form: str) -> None:
    value = re.sub(r"\{[A-Z](\d+)\}", lambda match: "x" * int(match[1]), form.replace("~", "").replace("{G}", "{H36}"))
    assert not any(finding.kind == kind for finding in scanner.scan(f"for example {value} or so"))


def test_there_are_more_than_a_hundred_forms() -> None:
    assert len(ROWS) >= 130


# --- Checksums ---------------------------------------------------------------------------------------

BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase


def base62(number: int) -> str:
    digits = ""
    while number:
        number, rest = divmod(number, 62)
        digits = BASE62[rest] + digits
    return digits.rjust(6, "0")


@pytest.mark.parametrize("prefix", ["gh" + "p_", "gh" + "s_", "np" + "m_", "al" + "gt_"])
def test_a_right_checksum_proves_a_token_that_looks_like_a_sample(scanner: SecretScanner, prefix: str) -> None:
    part = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    assert len(scanner.scan(f"use {prefix}{part}{base62(zlib.crc32(part.encode()))} now")) == 1
    assert scanner.scan(f"use {prefix}{part}000000 now") == ()


@pytest.mark.parametrize("prefix", ["gh" + "p_", "np" + "m_"])
def test_a_wrong_checksum_is_no_excuse(scanner: SecretScanner, prefix: str) -> None:
    part = "x8Kd02LmQz71RtVb64NcYw93HsPfJe"
    assert len(scanner.scan(f"use {prefix}{part}000000 now")) == 1


# --- Keys that only their context tells ----------------------------------------------------------------

TOLD = (
    "[DEBUG] Sending a request to the Mailerlite API\n[DEBUG] Using Key={}",
    'codemagic_key: "{}"',
    'appcuesToken := "{}"',
    "cloudsmith: '{}'",
    'clickhelpSecret = "{}"',
    "const fastlyKey string = `{}`",
    "<secret>{{bugherd {}}}</secret>",
    "The Datadog API key:\n\n    {}",
    "| Heroku API key | {} |",
    'client.Header.Set("X-Octopus-ApiKey", "{}")',
)


@pytest.mark.parametrize("told", TOLD)
@pytest.mark.parametrize("form", ["{A32}", "{H32}", "{L40}", "{A24}"])
def test_a_key_is_told_by_the_service_or_the_name_before_it(scanner: SecretScanner, told: str, form: str) -> None:
    rng = random.Random(told + form)  # noqa: S311 - has to repeat
    values = [made(form, rng) for _ in range(20)]
    assert sum(bool(scanner.scan(told.format(value))) for value in values) >= 18


LEFT = (
    "git checkout {H40} and build the Netlify site",
    "The image is shop@sha256:{H64}, the token of the build is gone.",
    '"KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/{G}"',
    "client_id: {A32}",
    "--next-token {A40}",
    "--change-token {A40}",
    "primary_key: {A24}",
    "cache_key = {A24}",
    "publicKey: {A44}",
    "Sentry release {H40} is out; see the key changes.",
    "the etag of the Cloudflare page is {H32}",
)


@pytest.mark.parametrize("text", LEFT)
def test_an_identifier_beside_a_service_or_a_key_is_none(scanner: SecretScanner, text: str) -> None:
    rng = random.Random(text)  # noqa: S311 - has to repeat
    for _ in range(20):
        assert scanner.scan(made(text, rng)) == ()


def test_the_login_of_a_registry_is_found_in_a_docker_configuration(scanner: SecretScanner) -> None:
    login = base64.b64encode(b"shopbot:" + b"Kd02mQz71").decode()
    for text in (
        f'{{"auths": {{"registry.test": {{"auth": "{login}"}}}}}}',
        f'{{\\"auth\\":\\"{login}\\"}}',
        f"//registry.test/:_auth={login}",
    ):
        (span,) = scanner.spans(text)
        assert (span.finding.kind, text[span.start : span.end]) == ("registry-login", login)
    sample = base64.b64encode(b"user:your password here").decode()
    assert scanner.scan(f'{{"auth": "{sample}"}}') == ()
