"""Where a secret of each kind is made invalid and renewed: by its issuer's page, in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Rotation:
    """What makes a secret worthless, and the issuer's page on it, where there is one."""

    how: str
    page: str | None = None


_GENERIC: Final = Rotation(
    "Find out what it gives access to. Have that issue a new one, put the new one where the old one is used, and "
    "revoke the old one there; then look at that service's log for uses that were not yours."
)

# Kinds, or how they begin: the longest that fits counts.
_BY_KIND: Final[Mapping[str, Rotation]] = {
    "age-key": Rotation("Make a new age key, encrypt again for it what the old one can read, and drop the old one."),
    "anthropic-": Rotation(
        "In the Claude Console, under API keys: create a new key, then delete this one.",
        "https://support.claude.com/en/articles/8384961-what-should-i-do-if-i-suspect-my-api-key-has-been-compromised",
    ),
    "atlassian-": Rotation(
        "In the Atlassian account, under Security, API tokens: create a new one, then revoke this one.",
        "https://support.atlassian.com/atlassian-account/docs/manage-api-tokens-for-your-atlassian-account/",
    ),
    "aws-": Rotation(
        "In IAM: create a second access key for the user, switch to it, make this one inactive, then delete it. Keys "
        "of a role end by themselves; revoke the role's sessions.",
        "https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html",
    ),
    "azure-": Rotation(
        "In the Azure portal: regenerate the key of the resource, or add a new client secret and remove this one.",
        "https://learn.microsoft.com/en-us/azure/storage/common/storage-account-keys-manage",
    ),
    "basic-authorization": Rotation("Change the password of that user where it signs in, and end the user's sessions."),
    "cloudflare-": Rotation(
        "In the Cloudflare dashboard, under API Tokens: roll this token, or delete it and create a new one.",
        "https://developers.cloudflare.com/fundamentals/api/how-to/roll-token/",
    ),
    "databricks-": Rotation(
        "In the workspace's user settings, under Developer, Access tokens: generate a new one, then revoke this one.",
        "https://docs.databricks.com/aws/en/dev-tools/auth/pat",
    ),
    "datadog-": Rotation(
        "Under Organization Settings, API Keys or Application Keys: make a new one, then revoke this one.",
        "https://docs.datadoghq.com/account_management/api-app-keys/",
    ),
    "digitalocean-": Rotation(
        "In the control panel, under API, Tokens: regenerate this one, or make a new one and delete this one.",
        "https://docs.digitalocean.com/reference/api/create-personal-access-token/",
    ),
    "discord-": Rotation(
        "In the Developer Portal: reset the bot's token; a webhook is deleted in the settings of its channel.",
        "https://discord.com/developers/docs/topics/oauth2",
    ),
    "docker-": Rotation(
        "In Docker Hub's account settings, under Personal access tokens: make a new one, then delete this one.",
        "https://docs.docker.com/security/access-tokens/",
    ),
    "figma-": Rotation(
        "In Figma's settings, under Security, Personal access tokens: make a new one, then revoke this one.",
        "https://www.figma.com/developers/api#access-tokens",
    ),
    "fly-": Rotation("Revoke it with `fly tokens revoke`, and create another.", "https://fly.io/docs/security/tokens/"),
    "github-": Rotation(
        "On GitHub, under Settings, Developer settings: make a new token, then delete this one. One of an app or of a "
        "workflow ends by itself.",
        "https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/token-expiration-and-revocation",
    ),
    "gitlab-": Rotation(
        "In GitLab, where it was made (user, project or group), under Access tokens: rotate it, or revoke it and make "
        "a new one.",
        "https://docs.gitlab.com/security/tokens/",
    ),
    "google-": Rotation(
        "In the Google Cloud console, under APIs & Services, Credentials: rotate the key or the client's secret, then "
        "delete the old one. A token for access ends after an hour; revoke what it was given by.",
        "https://cloud.google.com/docs/authentication/api-keys",
    ),
    "grafana-": Rotation(
        "In Grafana, under Service accounts: add a new token, then delete this one.",
        "https://grafana.com/docs/grafana/latest/administration/service-accounts/",
    ),
    "groq-": Rotation(
        "In the Groq console, under API Keys: create a new key, then delete this one.", "https://console.groq.com/keys"
    ),
    "heroku-": Rotation(
        "In the account's settings: regenerate the API key, or revoke the authorization.",
        "https://devcenter.heroku.com/articles/authentication",
    ),
    "hugging-face-": Rotation(
        "In the settings, under Access Tokens: refresh this token, or delete it and make a new one.",
        "https://huggingface.co/docs/hub/security-tokens",
    ),
    "jwt": Rotation(
        "Whoever issued it decides how long it holds: end the session it belongs to. If the key that signs may be "
        "known, change that key."
    ),
    "linear-": Rotation(
        "In Linear's settings, under Security & access: make a new API key, then revoke this one.",
        "https://linear.app/docs/api-and-webhooks",
    ),
    "mistral-": Rotation(
        "In the console, under API keys: create a new key, then delete this one.", "https://console.mistral.ai/api-keys"
    ),
    "netlify-": Rotation(
        "In the user settings, under Applications, Personal access tokens: make a new one, then delete this one.",
        "https://docs.netlify.com/api/get-started/",
    ),
    "notion-": Rotation(
        "In the integration's settings: refresh its secret.", "https://developers.notion.com/docs/authorization"
    ),
    "npm-": Rotation(
        "On npmjs.com, under Access Tokens: make a new one, then revoke this one.",
        "https://docs.npmjs.com/revoking-access-tokens",
    ),
    "openai-": Rotation(
        "On the platform's page of API keys: create a new key, then revoke this one.",
        "https://help.openai.com/en/articles/5112595-best-practices-for-api-key-safety",
    ),
    "openrouter-": Rotation(
        "In the settings, under Keys: create a new key, then delete this one.", "https://openrouter.ai/settings/keys"
    ),
    "password": Rotation(
        "Change it wherever it is used, end the sessions that were begun with it, and use it nowhere again."
    ),
    "private-key": Rotation(
        "Make a new pair of keys, put the new public key where the old one is trusted, and take the old one out there. "
        "A certificate of this key is to be revoked by its authority."
    ),
    "putty-": Rotation(
        "Make a new pair of keys, put the new public key where the old one is trusted, and take the old one out there."
    ),
    "pypi-": Rotation(
        "On PyPI, under Account settings, API tokens: add a new token, then remove this one.",
        "https://pypi.org/help/#apitoken",
    ),
    "sendgrid-": Rotation(
        "In SendGrid's settings, under API Keys: create a new key, then delete this one.",
        "https://www.twilio.com/docs/sendgrid/ui/account-and-settings/api-keys",
    ),
    "sentry-": Rotation(
        "In Sentry's settings, under Auth Tokens: create a new one, then revoke this one.",
        "https://docs.sentry.io/account/auth-tokens/",
    ),
    "shopify-": Rotation(
        "In the app's settings: rotate its credentials, or uninstall it and install it again.",
        "https://shopify.dev/docs/apps/build/authentication-authorization/client-secrets/rotate-revoke-client-credentials",
    ),
    "slack-": Rotation(
        "In the app's settings: revoke its tokens and install it again; a webhook's address is removed there, too.",
        "https://api.slack.com/methods/auth.revoke",
    ),
    "stripe-": Rotation(
        "In the Dashboard, under Developers, API keys: roll this key; a webhook's secret is rolled at its endpoint.",
        "https://docs.stripe.com/keys",
    ),
    "supabase-": Rotation(
        "In the project's settings, under API Keys: create a new secret key, then delete this one.",
        "https://supabase.com/docs/guides/api/api-keys",
    ),
    "telegram-": Rotation("Ask BotFather for a new token; the old one ends.", "https://core.telegram.org/bots"),
    "twilio-": Rotation(
        "In the console, under API keys & tokens: create a new key, then delete this one.",
        "https://www.twilio.com/docs/iam/api-keys",
    ),
    "url-password": Rotation(
        "Change that user's password in the database, broker or service that the address leads to, and end its "
        "sessions."
    ),
    "vault-": Rotation(
        "Revoke it with `vault token revoke`, and sign in again.",
        "https://developer.hashicorp.com/vault/docs/commands/token/revoke",
    ),
    "vercel-": Rotation(
        "In the account's settings, under Tokens: create a new one, then delete this one.",
        "https://vercel.com/docs/rest-api",
    ),
}


def rotation_of(kind: str) -> Rotation:
    """How a secret of this kind is made worthless."""
    fitting = [start for start in _BY_KIND if kind.startswith(start)]
    return _BY_KIND[max(fitting, key=len)] if fitting else _GENERIC
