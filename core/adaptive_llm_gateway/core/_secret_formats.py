"""Vendors' published formats: tokens that say by their form whose they are.

A table of prefix, what follows it and how that is judged; all prefixes are one expression, shaped as a tree, so that
a place costs the same whether there are ten formats or a thousand.
"""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from adaptive_llm_gateway.core._secret_values import FORMAT, Match, decode, is_mixed, is_random, is_varied

_Check = Callable[[str], bool]

# --- Checksums ----------------------------------------------------------------------------------------
#
# A checksum that is right proves a token, whatever its characters look like. One that is wrong proves nothing: tokens
# are told with a digit lost or another in its place, and samples with a wrong checksum are refused all the same.

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def base62_crc32(text: str) -> str:
    """The CRC-32 of a text as GitHub and npm write it: six digits in base 62, the highest first."""
    number, digits = zlib.crc32(text.encode()), ""
    while number:
        number, rest = divmod(number, 62)
        digits = _BASE62[rest] + digits
    return digits.rjust(6, "0")


def _ends_with_crc32(rest: str) -> bool:
    return len(rest) >= 36 and rest[-6:] == base62_crc32(rest[:-6])


def _checked(rest: str) -> bool:
    return is_varied(rest) or _ends_with_crc32(rest)


def _checked_mixed(rest: str) -> bool:
    return is_mixed(rest) or _ends_with_crc32(rest)


def _gitlab(rest: str) -> bool:
    # Routable tokens end with their length and the CRC-32 of all before it, in base 36.
    if is_mixed(rest):
        return True
    return ".01." in rest and _base36(rest[-7:]) == zlib.crc32(f"glpat-{rest[:-7]}".encode())


def _base36(digits: str) -> int:
    try:
        return int(digits, 36)
    except ValueError:
        return -1


def _grafana(rest: str) -> bool:
    key, _, checksum = rest.rpartition("_")
    if is_varied(rest):
        return True
    return zlib.crc32(f"glsa_{key}".encode()).to_bytes(4, "little").hex() == checksum.lower()


def _is_jwt(rest: str) -> bool:
    # The published form (RFC 7519): base64url JSON with `alg`, then payload, then signature.
    head, _, after = rest.partition(".")
    header = decode("eyJ" + head)
    if header is None or not ('"alg"' in header or '"enc"' in header):
        return False
    payload = decode(after.partition(".")[0]) or ""
    return '"1234567890"' not in payload and '"some"' not in payload  # the samples of every tutorial


ALG_TOKEN_PREFIX = "algt_"  # noqa: S105 - what such a token begins with
"""What the tokens of this hub's clients begin with."""


# --- The table ----------------------------------------------------------------------------------------

_W = "[A-Za-z0-9_-]"
_A = "[A-Za-z0-9]"
_H = "[0-9a-f]"
_HH = "[0-9a-fA-F]"
_END = r"(?![A-Za-z0-9])"
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}" + _END
_UUID_LIKE = r"[0-9a-z]{8}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{4}-[0-9a-z]{12}" + _END

# Kind, prefixes, an expression for what follows (every repetition has a bound), what judges that.
_TABLE: tuple[tuple[str, str, str, _Check], ...] = (
    # Models and their hosts
    ("anthropic-key", "sk-ant-", _W + "{20,200}", is_varied),
    ("openrouter-key", "sk-or-", _W + "{32,120}", is_varied),
    ("openai-key", "sk-proj- sk-svcacct- sk-admin- sk-None- sess-", _W + "{20,250}", is_random),
    ("openai-key", "sk-", _A + r"{20,120}(?![\w-])", is_random),
    ("langfuse-key", "sk-lf-", _W + "{32,60}", is_varied),
    ("helicone-key", "sk-helicone-", _W + "{20,80}", is_mixed),
    ("google-api-key", "AIza", _W + "{33,39}", is_varied),
    ("google-api-key", "AQ.Ab8", _W + "{40,80}", is_mixed),
    ("google-oauth-secret", "GOCSPX-", _W + "{20,40}", is_varied),
    ("google-oauth-token", "ya29.", _W + "{30,1000}", is_mixed),
    ("google-refresh-token", "1//0", _W + "{30,200}", is_random),
    ("hugging-face-token", "hf_ api_org_", _A + "{30,60}", is_mixed),
    ("groq-key", "gsk_", _A + "{40,80}", is_varied),
    ("xai-key", "xai-", _A + "{40,120}", is_random),
    ("perplexity-key", "pplx-", _A + "{32,80}", is_mixed),
    ("replicate-token", "r8_", _A + "{30,50}", is_mixed),
    ("nvidia-key", "nvapi-", _W + "{40,100}", is_mixed),
    ("langsmith-key", "lsv2_pt_ lsv2_sk_", _H + r"{32}(?:_[0-9a-f]{4,16})?", is_varied),
    ("langsmith-key", "ls__", _H + "{32}" + _END, is_varied),
    ("pinecone-key", "pcsk_", r"\w{40,100}", is_mixed),
    ("tavily-key", "tvly-", _W + "{20,60}", is_mixed),
    ("fireworks-key", "fw_", _A + "{20,40}" + _END, is_random),
    ("together-key", "tgp_v1_", _W + "{40,60}", is_mixed),
    ("elevenlabs-key", "sk_", _H + "{48}" + _END, is_random),
    ("voyage-key", "pa-", _W + "{40,60}", is_random),
    ("jina-key", "jina_", _A + r"{40,80}", is_mixed),
    ("cerebras-key", "csk-", r"[a-z0-9]{40,60}" + _END, is_random),
    ("anyscale-key", "esecret_", _A + "{20,60}", is_mixed),
    ("runpod-key", "rpa_", r"[A-Z0-9]{38,60}", is_mixed),
    ("e2b-key", "e2b_", _H + "{40}", is_varied),
    ("firecrawl-key", "fc-", _H + "{32}" + _END, is_random),
    ("browserbase-key", "bb_live_", _W + "{20,50}", is_mixed),
    ("apify-token", "apify_api_ apify_proxy_", _W + "{30,50}", is_mixed),
    ("llamacloud-key", "llx-", _A + "{40,60}", is_mixed),
    ("mem0-key", "m0-", _A + "{38,44}" + _END, is_random),
    ("modal-token", "ak- as-", _A + "{22}" + r"(?![\w-])", is_random),
    ("wandb-key", "wandb_v1_", _W + "{40,120}", is_mixed),
    ("brave-key", "BSA", _W + r"{26,31}(?![\w-])", is_random),
    ("friendli-token", "flp_", _A + "{30,60}", is_mixed),
    ("bedrock-key", "ABSK", r"[A-Za-z0-9+/]{100,300}={0,2}", is_random),
    ("bedrock-key", "bedrock-api-key-", r"[A-Za-z0-9+/]{40,3000}={0,2}", is_mixed),
    ("sourcegraph-token", "sgp_ sgd_ slk_", r"(?:[0-9a-z]{16}_)?[0-9a-f]{40,64}", is_varied),
    ("salad-key", "salad_cloud_user_ salad_cloud_", _A + "{40,80}", is_mixed),
    # Clouds and hosting
    ("aws-access-key-id", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}" + _END, is_varied),
    ("appsync-key", "da2-", r"[a-z0-9]{26}" + _END, is_mixed),
    ("alibaba-access-key", "LTAI", _A + r"{16,26}" + _END, is_mixed),
    ("tencent-access-key", "AKID", _A + r"{32,36}" + _END, is_random),
    ("baidu-access-key", "bce-v3/ALTAK-", _A + r"{21}/[0-9a-f]{40}", is_mixed),
    ("volcengine-access-key", "AKLT", _A + r"{40,60}" + _END, is_random),
    ("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", _H + "{40,64}", is_varied),
    ("databricks-token", "dapi dose dkea", _H + r"{32}(?:-\d)?" + _END, is_varied),
    ("supabase-token", "sbp_ sbp_v0_ sbp_oauth_", _H + "{32,64}", is_varied),
    ("supabase-key", "sb_secret_", _W + "{20,80}", is_mixed),
    ("vercel-token", "vcp_ vci_ vca_ vcr_ vck_", _W + "{20,80}", is_mixed),
    ("vercel-token", "vercel_blob_rw_", r"[A-Za-z0-9]{10,24}_[A-Za-z0-9]{20,60}", is_mixed),
    ("netlify-token", "nfp_ nfc_ nfo_ nfu_ nfb_", _A + "{30,60}", is_mixed),
    ("fly-token", "fm1_ fm1r_ fm1a_ fm2_ fo1_", r"[A-Za-z0-9+/=_-]{40,4000}", is_mixed),
    ("heroku-key", "HRKU-", _W + "{36,80}", is_varied),
    ("render-key", "rnd_", _A + "{20,60}", is_mixed),
    ("deno-token", "ddp_ ddo_ ddc_", _A + "{36}", is_mixed),
    ("neon-key", "napi_", r"[a-z0-9]{50,80}", is_mixed),
    ("cloudflare-origin-key", "v1.0-", r"[0-9a-f]{24}-[0-9a-f]{100,160}", is_varied),
    ("cloudflare-token", "cfk_ cfat_ cfut_", _A + r"{40}[0-9a-f]{8}", is_varied),
    ("planetscale-token", "pscale_tkn_ pscale_pw_ pscale_oauth_", r"[\w=.-]{32,64}", is_mixed),
    ("doppler-token", "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.", r"[\w.-]{40,80}", is_mixed),
    ("pulumi-token", "pul-", _H + "{40}", is_varied),
    ("tailscale-key", "tskey-", _W + "{20,100}", is_mixed),
    ("vault-token", "hvs. hvb. hvr.", _W + "{20,300}", is_mixed),
    ("vault-token", "s.", _A + r"{24}" + r"(?![\w-])", is_random),
    ("onepassword-token", "ops_", r"eyJ[\w=-]{100,1500}", is_varied),
    (
        "onepassword-secret-key",
        "A3-",
        r"[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
        is_mixed,
    ),
    ("infisical-token", "st.", r"[0-9a-f]{24}\.[0-9a-f]{32}\.[0-9a-f]{32}", is_varied),
    ("yandex-key", "AQVN", _W + "{35,38}" + _END, is_random),
    ("yandex-key", "YCM YCN YCO", _W + "{37}" + _END, is_random),
    ("yandex-token", "t1. y0_ y1_ y2_ y3_", r"[A-Za-z0-9_.=-]{50,200}", is_random),
    ("cockroach-key", "CCDB1_", r"[A-Za-z0-9]{22}_[A-Za-z0-9]{40}", is_varied),
    ("aiven-password", "AVNS_", _W + "{14,30}", is_mixed),
    ("mongodb-atlas-secret", "mdb_sa_sk_", _W + "{40}", is_mixed),
    ("clickhouse-key", "4b1d", _A + r"{38}" + _END, is_random),
    ("fauna-key", "fnA", _W + r"{36,40}" + r"(?![\w-])", is_random),
    ("elastic-key", "essu_", r"[A-Za-z0-9+/=]{40,200}", is_mixed),
    ("scalingo-token", "tk-us-", _W + "{48}", is_mixed),
    ("infracost-key", "ico-", _A + "{32}" + _END, is_mixed),
    ("defined-networking-key", "dnkey-", r"[a-z0-9=_-]{26}-[a-z0-9=_-]{52}", is_mixed),
    ("openshift-token", "sha256~", _W + "{43}" + r"(?![\w-])", is_random),
    ("meraki-key", "merakik_", _A + "{30,60}", is_mixed),
    # Code and packages
    ("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", _A + "{30,255}", _checked),
    ("github-token", "github_pat_", r"\w{40,255}", is_varied),
    (
        "gitlab-token",
        "glpat- gldt- glft- glsoat- glrt- glrtr- glcbt- glimt- glptt- glagent- gloas- glffct- glwt-",
        r"[\w.-]{20,300}",
        _gitlab,
    ),
    ("gitlab-session", "_gitlab_session=", _H + "{32}", is_varied),
    ("npm-token", "npm_", _A + "{30,60}", _checked_mixed),
    ("pypi-token", "pypi-", r"Ag[Ee]" + _W + "{40,500}", is_varied),
    ("docker-token", "dckr_pat_ dckr_oat_", _W + "{20,60}", is_varied),
    ("rubygems-key", "rubygems_", _H + "{40,64}", is_varied),
    ("crates-io-token", "cio", _A + r"{32}" + _END, is_random),
    ("nuget-key", "oy2", r"[a-z0-9]{43}" + _END, is_random),
    ("clojars-token", "CLOJARS_", r"[0-9a-z]{50,64}", is_mixed),
    ("packagist-token", "packagist_ort_ packagist_ors_ packagist_uut_ packagist_oat_", _H + "{60,80}", is_varied),
    ("open-vsx-token", "ovsxat_ ovsxp_", _A + r"[\w-]{30,60}", is_mixed),
    ("artifactory-token", "cmVmdGtu", _A + r"{50,60}" + _END, is_random),
    ("atlassian-token", "ATATT3x ATCTT3x ATBB ATOA", r"[\w=-]{24,300}", is_mixed),
    ("bitbucket-token", "BBDC-", r"[A-Za-z0-9+/@_-]{40,50}", is_mixed),
    ("trello-token", "ATTA", _H + r"{64}", is_varied),
    ("postman-key", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}", is_varied),
    ("terraform-token", "atlasv1.", _W + "{40,80}", is_mixed),
    ("sonar-token", "squ_ sqp_ sqa_", _H + "{40}", is_varied),
    ("snyk-token", "snyk_uat. snyk_sat.", r"[0-9a-f]{8}\.[\w.-]{40,300}", is_mixed),
    ("circleci-token", "CCIPAT_ CCIPRJ_", r"[A-Za-z0-9]{10,40}_[0-9a-f]{40}", is_varied),
    ("buildkite-token", "bkua_ bkct_ bkaj_", _A + "{20,60}", is_mixed),
    ("harness-token", "pat. sat.", r"[\w-]{22}\.[0-9a-zA-Z]{20,26}\.[0-9a-zA-Z]{20}" + _END, is_random),
    ("launchdarkly-key", "api- sdk-", _UUID_LIKE, is_random),
    ("octopus-key", "API-", r"[A-Z0-9]{24,31}" + r"(?![\w-])", is_random),
    ("prefect-key", "pnu_ pnb_", _A + "{36}" + _END, is_mixed),
    ("depot-token", "depot_project_ depot_org_ depot_user_", _A + "{40,80}", is_mixed),
    ("spectral-key", "spu-", _H + "{32}" + _END, is_varied),
    ("endor-key", "endr+", _A + "{16}" + _END, is_random),
    ("dbt-token", "dbtc_ dbtu_ dbts_", _W + "{30,80}", is_mixed),
    ("rollout-key", "flp- ser.", _A + "{20,40}" + _END, is_random),
    ("alg-token", ALG_TOKEN_PREFIX, _A + "{36,60}", _checked),  # of this hub's clients
    # Work tools
    (
        "slack-token",
        "xoxb- xoxp- xoxa- xoxo- xoxs- xoxr- xoxc- xoxd- xoxe- xoxe.xoxp- xoxe.xoxb- xwfp-",
        r"[\w%-]{16,400}",
        is_random,
    ),
    ("slack-token", "xapp-", r"\d-[A-Z0-9]{6,20}-\d{6,20}-[a-z0-9]{20,100}", is_varied),
    (
        "slack-webhook",
        "hooks.slack.com/services/ hooks.slack.com/workflows/ hooks.slack.com/triggers/",
        r"[\w/]{30,150}",
        is_random,
    ),
    (
        "discord-webhook",
        "discord.com/api/webhooks/ discordapp.com/api/webhooks/ canary.discord.com/api/webhooks/"
        " ptb.discord.com/api/webhooks/",
        r"\d{15,21}/" + _W + "{40,100}",
        is_varied,
    ),
    ("teams-webhook", "webhook.office.com/webhookb2/", r"[\w@-]{40,100}/IncomingWebhook/[\w/-]{40,150}", is_varied),
    ("zapier-webhook", "hooks.zapier.com/hooks/catch/", r"[\w/]{12,60}", is_varied),
    (
        "larksuite-webhook",
        "open.larksuite.com/open-apis/bot/v2/hook/ open.feishu.cn/open-apis/bot/v2/hook/",
        _UUID,
        is_varied,
    ),
    ("notion-token", "ntn_", _A + "{36,60}", is_mixed),
    ("notion-token", "secret_", _A + r"{43}(?![\w-])", is_random),
    ("linear-key", "lin_api_ lin_oauth_ lin_wh_", _A + "{30,80}", is_varied),
    ("figma-token", "figd_ figu_ figor_ figo_ figoh_", _W + "{30,80}", is_mixed),
    ("airtable-token", "pat", r"[A-Za-z0-9]{14}\.[0-9a-f]{64}", is_varied),
    ("hubspot-token", "pat-na1- pat-na2- pat-eu1-", r"[0-9a-f]{8}-[0-9a-f-]{27}", is_varied),
    ("telegram-webhook", "api.telegram.org/bot", r"\d{8,10}:" + _W + "{30,40}", is_varied),
    ("clickup-token", "pk_", r"\d{6,10}_[A-Z0-9]{32}" + _END, is_varied),
    ("dropbox-token", "sl. sl.u.", r"[\w-]{60,1500}", is_random),
    ("typeform-token", "tfp_", r"[\w.=-]{40,70}", is_mixed),
    ("contentful-token", "CFPAT-", _W + "{43}", is_mixed),
    ("intercom-token", "dG9r", r"[A-Za-z0-9+/]{50,60}={0,2}", is_random),
    ("readme-key", "rdme_", r"[a-z0-9]{60,80}", is_mixed),
    ("frameio-token", "fio-u-", _W + "{60,70}", is_mixed),
    ("nylas-key", "nyk_v0_", _W + "{30,90}", is_mixed),
    ("voiceflow-key", "VF.DM. VF.WS.", r"[0-9a-f]{24}\.[A-Za-z0-9]{16}", is_varied),
    ("asana-token", "1/ 2/", r"\d{10,20}(?:/\d{10,20})?:[0-9a-f]{32}" + _END, is_varied),
    ("salesforce-token", "5Aep861", r"[\w.]{60,100}", is_random),
    ("salesforce-token", "00D", r"[A-Za-z0-9]{12,15}![\w.]{80,120}", is_varied),
    ("close-key", "api_", r"[A-Za-z0-9]{18,24}\.[A-Za-z0-9]{18,24}" + _END, is_random),
    ("close-key", "api_", r"[A-Za-z0-9]{40,46}" + _END, is_random),
    # Watching
    ("grafana-token", "glsa_", _A + "{28,40}_[0-9a-fA-F]{8}", _grafana),
    ("grafana-token", "glc_ glk_", r"[A-Za-z0-9+/=]{32,400}", is_mixed),
    ("grafana-token", "eyJrIjoi", r"[A-Za-z0-9+/]{60,400}={0,2}", is_varied),
    ("sentry-token", "sntrys_", r"[\w+/=-]{40,600}", is_varied),
    ("sentry-token", "sntryu_", _H + "{60,70}", is_varied),
    ("new-relic-key", "NRAK- NRAL- NRII- NRIQ- NRRA- NRJS- NRSP-", _W + "{24,60}", is_mixed),
    ("new-relic-key", "NRBR-", _H + "{19}" + _END, is_varied),
    ("dynatrace-token", "dt0c01. dt0s01. dt0s02. dt0s16.", r"[A-Z0-9]{20,30}\.[A-Z0-9]{60,70}", is_varied),
    ("honeycomb-key", "hcaik_ hcamk_ hcalk_ hcbik_", _A + "{40,70}", is_mixed),
    ("posthog-key", "phx_ phs_ pha_ phr_", _A + "{40,60}", is_mixed),
    ("axiom-token", "xaat- xapt-", _UUID, is_varied),
    ("rootly-token", "rootly_", _H + "{64}", is_varied),
    ("pganalyze-key", "pgar_ pgaw_", _A + "{27,32}", is_mixed),
    ("mapbox-token", "sk. tk.", r"eyJ[\w-]{40,300}\.[\w-]{20,30}" + r"(?![\w-])", is_varied),
    ("uptimerobot-key", "ur", r"\d{6,8}-[0-9a-f]{32}" + _END, is_varied),
    ("adafruit-key", "aio_", _A + r"{28}" + _END, is_random),
    ("ubidots-token", "BBFF- BBUS-", _A + "{30,40}", is_mixed),
    ("besttime-key", "pri_", _H + "{32}" + _END, is_varied),
    # Mail, telephone, money, shops
    ("sendgrid-key", "SG.", r"[\w-]{16,32}\.[\w-]{32,60}", is_varied),
    ("mailgun-key", "key-", r"[0-9a-z]{32}" + _END, is_random),
    ("mandrill-key", "md-", _W + r"{22}(?![\w-])", is_random),
    ("brevo-key", "xkeysib- xsmtpsib-", r"[0-9a-f]{64}-[A-Za-z0-9]{16}", is_varied),
    ("resend-key", "re_", r"[A-Za-z0-9]{8}_[A-Za-z0-9]{24}" + _END, is_random),
    ("twilio-key", "SK", _H + r"{32}" + _END, is_varied),
    ("telnyx-key", "KEY", r"[0-9A-F]{32}_[A-Za-z0-9]{22}", is_varied),
    ("courier-key", "pk_prod_ pk_test_ dk_prod_", r"[A-Z0-9]{28}" + _END, is_random),
    ("stripe-key", "sk_live_ rk_live_ sk_test_ rk_test_ sk_org_ sk_prod_", _W + "{16,250}", is_mixed),
    ("stripe-webhook-secret", "whsec_", r"[A-Za-z0-9+/=]{24,100}", is_mixed),
    ("square-token", "EAAA", _W + r"{58,62}(?![\w-])", is_random),
    ("square-token", "sq0atp- sq0idb-", _W + "{22}", is_mixed),
    ("square-secret", "sq0csp-", _W + "{43}", is_mixed),
    ("razorpay-key", "rzp_live_ rzp_test_", _A + "{14}" + _END, is_mixed),
    ("flutterwave-key", "FLWSECK- FLWSECK_TEST- FLWSECK_LIVE-", _A + r"{12,40}(?:-X)?", is_mixed),
    ("plaid-token", "access-sandbox- access-development- access-production-", _UUID, is_varied),
    ("mollie-key", "live_ test_", _A + r"{30}" + _END, is_random),
    ("lob-key", "live_ test_", _H + r"{35}" + _END, is_random),
    ("gocardless-token", "live_ sandbox_", _W + r"{40}(?![\w-])", is_random),
    ("paddle-key", "pdl_live_ pdl_sdbx_", r"apikey_\w{40,70}", is_varied),
    ("polar-token", "polar_oat_ polar_pat_ polar_rst_", _A + "{30,60}", is_mixed),
    ("duffel-token", "duffel_live_ duffel_test_", _W + "{43}", is_mixed),
    ("easypost-key", "EZAK EZTK", _A + "{54}", is_mixed),
    ("shippo-token", "shippo_live_ shippo_test_", _H + "{40}", is_varied),
    ("paypal-token", "access_token$production$ access_token$sandbox$", r"[0-9a-z]{16}\$[0-9a-f]{32}", is_varied),
    ("shopify-token", "shpat_ shpca_ shppa_ shpss_ shpit_ shpua_", _HH + "{32}", is_varied),
    ("woocommerce-key", "ck_ cs_", _H + "{40}" + _END, is_varied),
    ("ramp-secret", "ramp_sec_", _A + "{40,60}", is_mixed),
    ("lemlist-key", "lmwfy-", _A + "{20,60}", is_random),
    ("convertapi-key", "secret_", _A + r"{16}(?![\w-])", is_random),
    # Signing in, and the rest
    (
        "authress-key",
        "sc_ ext_ scauth_ authress_",
        r"[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[a-z0-9+/_=-]{30,120}",
        is_varied,
    ),
    ("stytch-secret", "secret-live- secret-test-", r"[\w=-]{36,50}", is_mixed),
    ("facebook-token", "EAACEdEose0cBA", _A + "{20,300}", is_varied),
    ("facebook-token", "EAA", _A + r"{100,400}" + _END, is_random),
    ("instagram-token", "IGQV IGAA", _W + "{80,300}", is_random),
    ("linkedin-secret", "WPL_AP1.", r"[A-Za-z0-9]{10,24}\.[A-Za-z0-9+/]{6}={0,2}", is_varied),
    ("pinterest-token", "pina_", _A + "{40,120}", is_mixed),
    ("tiktok-token", "act.", _A + r"{60,80}", is_random),
    ("pubnub-secret", "sec-c-", r"[A-Za-z0-9+/=-]{36,60}", is_mixed),
    ("portainer-token", "ptr_", r"[A-Za-z0-9+/=_-]{40,50}", is_mixed),
    ("settlemint-token", "sm_pat_ sm_aat_ sm_sat_", _A + "{16,40}", is_mixed),
    ("beamer-key", "b_", r"[A-Za-z0-9=_/-]{43,45}(?![\w-])", is_random),
    ("adobe-secret", "p8e-", _A + "{32}" + _END, is_mixed),
    ("adobe-secret", "p8e-", _W + "{32}" + _END, is_mixed),
    ("metabase-key", "mb_", r"[A-Za-z0-9+/]{43}=", is_random),
    ("hex-token", "hxtp_ hxtw_", _H + "{60,140}", is_varied),
    (
        "localstack-token",
        "ls-",
        r"[A-Za-z0-9]{8}-[A-Za-z0-9]{4}-[A-Za-z0-9]{4}-[A-Za-z0-9]{4}-[A-Za-z0-9]{12,20}",
        is_random,
    ),
    ("ngrok-key", "ak_ crt_", r"2[A-Za-z0-9]{26}" + _END, is_random),
    ("jwt", "eyJ", _W + r"{10,4000}\." + _W + r"{4,8000}={0,2}\.[\w-]{16,4000}", _is_jwt),
    ("age-key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,60}", is_varied),
)


@dataclass(frozen=True, slots=True)
class _Format:
    kind: str
    prefix: int  # its length
    rest: str
    check: _Check


def tree(words: list[str]) -> str:
    """One expression for all words, a branch for each letter: the longest that stands at a place is found."""
    branches: dict[str, list[str]] = {}
    for word in words:
        branches.setdefault(word[:1], []).append(word[1:])
    ends = branches.pop("", None) is not None
    parts = [re.escape(first) + tree(rest) for first, rest in sorted(branches.items())]
    if not parts:
        return ""
    if len(parts) == 1 and not ends:
        return parts[0]
    return f"(?:{'|'.join(parts)})" + "?" * ends


@functools.cache
def _formats() -> tuple[re.Pattern[str], dict[str, list[_Format]]]:
    """All prefixes as an expression, and what may follow each: built on first use, for it takes some milliseconds."""
    table: dict[str, list[_Format]] = {}
    for kind, prefixes, rest, check in _TABLE:
        for prefix in prefixes.split():
            table.setdefault(prefix, []).append(_Format(kind, len(prefix), rest, check))
    # What begins with a long prefix may be another format's with a shorter one.
    whole = {
        prefix: [form for end in range(len(prefix), 0, -1) for form in table.get(prefix[:end], ())] for prefix in table
    }
    return re.compile("(?<![A-Za-z0-9])" + tree(list(table)), re.ASCII), whole


def prefixes() -> Iterable[str]:
    """What tokens begin with."""
    return _formats()[1]


@functools.cache
def _compiled(expression: str) -> re.Pattern[str]:
    # On first use: most processes meet a few of these formats, and all of them together take 50 ms to compile.
    return re.compile(expression, re.ASCII)


_LONGEST_PATH = 256  # characters: a longer run of them is data in base64, in which `/` and `+` are letters


def formats(text: str, start: int, end: int) -> list[Match]:
    """Vendors' tokens that begin in `text[start:end]`, a run of token characters."""
    pattern, table = _formats()
    begin = start
    if start and text[start - 1] in "~$=":  # `sha256~`, `access_token$production$`: a sign within the prefix
        begin = max(0, start - 24)
    run = text[begin:end]
    # A prefix begins a run or follows a sign in it. Where there is none, or none that counts, one place is to be seen.
    alone = run.isalnum() and run.isascii()
    if not alone and begin == start and end - start > _LONGEST_PATH:
        alone = "_" not in run and "-" not in run and "." not in run
    found = pattern.match(text, begin, end) if alone else pattern.search(text, begin, end)
    matches: list[Match] = []
    while found is not None:
        at, after = found.span()
        if not (at > begin and end - begin > _LONGEST_PATH and text[at - 1] in "+/"):
            for form in table[found.group()]:
                rest = _compiled(form.rest).match(text, at + form.prefix)
                if rest is not None and form.check(rest.group()):
                    after = rest.end()
                    matches.append(Match(form.kind, at, after, text[at:after], FORMAT))
                    break
        found = pattern.search(text, after, end)
    return matches


# --- Tokens that are known by something within or at their end -----------------------------------------

_WITHIN = {
    **dict.fromkeys(("JQQJ99", "AZDO", "ACDb", "APIM", "AzFu", "AzSe"), "azure-key"),
    **dict.fromkeys(("+ASt", "+ACR", "+AIoT", "+ASb", "+AEh", "+AMC"), "azure-key"),
    **dict.fromkeys(("NRAL", "-NRMA"), "new-relic-key"),
    "_mmk": "maxmind-key",
}
_AT_THE_END = ("NRAL", "-NRMA", "_mmk")
_TOKEN = re.compile(r"[A-Za-z0-9_+/-]{36,100}={0,2}", re.ASCII)
_MAILGUN = re.compile(r"[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}")


def marked(text: str, start: int, end: int) -> Match | None:
    """A token that carries its maker's mark within: of Azure's services, New Relic, MaxMind, Mailgun."""
    run = text[start:end]
    if 50 <= len(run) <= 51 and run[32] == "-":
        found = _MAILGUN.match(run)
        if found is not None and run[50:] in ("", "."):
            return Match("mailgun-key", start, start + 50, found.group(), FORMAT)
    if "A" not in run and "JQQJ99" not in run and "_mmk" not in run:
        return None
    for mark, kind in _WITHIN.items():
        if mark in run:
            found = _TOKEN.match(text, start)
            whole = found is not None and (mark not in _AT_THE_END or found.group().endswith(mark))
            if found is not None and whole and is_random(found.group()):
                return Match(kind, start, found.end(), found.group(), FORMAT)
            return None
    return None


_AZURE_CLIENT = re.compile(r"(?<![\w~.-])[\w~.-]{3}\dQ~[\w~.-]{31,34}(?![\w~-])", re.ASCII)


def azure_client_secrets(text: str) -> Iterator[Match]:
    """Secrets of Microsoft Entra applications: a digit and `Q~` after three characters."""
    at = text.find("Q~")
    while at >= 0:
        found = _AZURE_CLIENT.match(text, at - 4) if at >= 4 else None
        if found is not None and is_mixed(found.group()):
            value = found.group().rstrip(".")
            yield Match("azure-client-secret", found.start(), found.start() + len(value), value, FORMAT)
        at = text.find("Q~", at + 2)
