"""What the secret scanner leaves alone: text that speaks of passwords and keys, and data that only looks like some."""

from __future__ import annotations

import base64
import random
import re
import sysconfig
from pathlib import Path

import pytest

from adaptive_llm_gateway.core import SecretScanner

HEX = "0123456789abcdef"


@pytest.fixture(scope="module")
def scanner() -> SecretScanner:
    return SecretScanner()


def data(seed: int, size: int) -> str:
    """Bytes in base64."""
    return base64.b64encode(random.Random(seed).randbytes(size)).decode()  # noqa: S311 - has to repeat


SPOKEN = """
My password is not working since I changed it on Monday1, can you look?
I forgot my password again; the reset mail of 2024-05-01 never came.
Which password do you mean: the one of the vault, or that of db-3?
Never send a password by mail. Never. Use 1Password or Bitwarden.
Password must be 8-12 characters, with one digit, e.g. a word and 2 signs.
The password field is called `pwd_hash2` and the key is `user_id`.
He said the pass was great, and the secret of it is timing (see p.12).
The API key is rotated every 90 days, the token every 24h.
Add the secret to Vault under kv/v2/shop-prod and restart v2.4.7.
The key is to read RFC7519 first; the token is just base64url.
token: it is what the tokenizer made of the text, 128k of them
The login page is at /v1/login?next=/home and takes user+password.
Please pass timeout=30s to httplib2 and not to requests2.
The default algorithm for newly hashed passwords remains Argon2id in v1.0.
Do not swap uid and gid in putpwent. Closes: Bug#130032, #75791
* Fix a typo in the update-passwd manpage. Closes: Bug#53857,#75791
passwords are compared in constant time (see PR#1234)
Das Passwort ist falsch, sagt der Server seit Montag1.
Le mot de passe est trop court, il faut 12 caractères.
La contraseña es demasiado corta; son 12 letras.
PASSWORD: the name of the variable. USERNAME: another one.
password = getpass()  # asks
password="geheim" is what the docs show
secret: see kv/v2, or ask Ann-Marie2
The pass phrase has its own file: ~/.ssh/pass2.txt
Log in with your GitHub account, then choose SSO (SAML 2.0).
log in as root and run `passwd deploy2`
user / group / other: rwx / r-x / r--
admin / Administrator / root (pick one)
"""
DATA = r"""
"AWS::IAM::AccessKey": "62d91b17309e76c8",
admin_api_keys: AsyncAdminAPIKeys = None
"result_key": "SkillsStoreSkills", "api_key": "batchJobExecutions"
"private_key_id": "49c11c7637e69cb4c9150a0eafb8cf85acfe6ee3",
"KmsKeyId": "arn:aws:kms:us-east-1:123456789012:key/f7bc0f8e-1a3a-4ace-9faa-e8494fa3921a",
"SecretArn": "arn:aws:secretsmanager:us-west-2:123456789123:secret:proxysecret1-Abcd1e",
"SecretAccessKey": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
--next-token eyJhd3NBY2NvdW50SWQiOnsicyI6IjMwMjc3NjAxNjM5OCJ9LCJidWlsZElkIjp7InMi
"nextPageToken": "CAUQAA1b2c3d4e5f6g7h8",
--change-token 12cs345-67cd-890b-1cd2-c3a4567d89f1
self.update_token = "1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d"
"passphrase": "AB1C2defGHijkLMNo3PqQRstUvwxyzaBCDEfghh4ijklMN5opqrStuVWxyzAbCDEfghIJ"
--master-user-password newpassword99
password: SuperSecretPass01
'postgres' user has its password set to \f5\fIpassword123\fR\fR, run:
$ gcloud alpha firestore user\-creds reset\-password creds\-name\-1
The password is locked\&. The remaining characters are not\&.
('http', 'user/name', 'password', 'localhost:22'),
('User:Pass', 'www.python.org:080'))
$PROXY_PASSWORD = $CPAN::Config->{proxy_pass} || "";
http://gebruiker:wachtwoord@server:poort/
password: 'bm90IG15IHJlYWwgcGFzc3dvcmQ=',
machine host.domain.com login log password \xa1\xa2 account acct
<input type="password" name="password" placeholder="Passwort" autocomplete="new-password1">
public_key = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
ssh_host_key: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI83qaMffkdUwtv9BuR6mqyIQQWzJorspWZa/qWC+8zbg deploy@shop
"""

# Ids, versions and names beside words for credentials, as notes of a working day have them.
EVERYDAY = """
The memory about API keys is 01KAQXNB96KPYY6QH9N54M126E.
The decision on the master key is 01KAQXNB96KPYY6QH9N54M126E, version 3.
The bug with the deploy key is 7e405e988447e50fdbb6cd6fa225c931aaf27259.
we moved the passphrase to kv/v2/shop-prod.
The secret of db2 moved, see the license key in GHSA-xr7r-f8xq-vfvv
| master key | CVE-2026-21626 |
| license key | ubuntu-22.04 |
| signing key | SHA256:zyLDTG_ki4ofOKaCGno4K9PMxTN6LpOlyNxi8gF-EwU |
| encryption key | PBKDF2-HMAC-SHA256 |
ticket for deploy key: p95=552ms
deploy key: src/auth/token2.py:6405
checksum/secret: 1e193656ac80d306fe78669e6e8f96aa4a7330b5d9abf34195c50885b77875df
checksum/secret-api-key: "1e193656ac80d306fe78669e6e8f96aa4a7330b5d9abf34195c50885b77875df"
[Bearer token](8a12c57407f5e92b763397b6f2203c18d0c3fab9)
The key of the map is `user:a5cef8df-7178-40e5-a217-c9d0b5f3c829`, the value the session.
kubectl get secret shop-api-key-q7xtn -o yaml
MountVolume.SetUp failed for volume "db" : secret "shop-db-password-6d4cf56db6-x2k9f" not found
sub: auth0|d49a9f7ee71b6edf87c0e84c
Sec-WebSocket-Key: wakTl293dLge4P6RErqjyw==
password: ENC[AES256_GCM,data:WF7KPfLkE/kEmG6jSVvzYg==,iv:3TTjbSPFK/CocXvCuBrHgA==,type:str]
password request_id=db-prod-2
OBJECT:32:_ZTIPw@@CXXABI_1.3
OBJECT:4:_ZNSt8ios_base6skipwsE@@GLIBCXX_3.4
assert count_tokens("\\ud83d\\ude00", "o200k_base") == 1
$pass = '-anonymous@'
"access_token":"2YotnFZFEjr1zCsicMWpAA", "refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA"
Authorization: Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW
load_keys(xmlSecKeysMngrPtr mngr, xmlSecKeyDataPtr data);
xmlSecAdoptSecKey  (xmlSecKeysMngrPtr mngr,
"""


@pytest.mark.parametrize("line", EVERYDAY.strip().split("\n"))
def test_what_names_a_thing_beside_a_word_for_a_credential_is_no_secret(scanner: SecretScanner, line: str) -> None:
    for text in (line, f"# Notes\n\n{line}\n\nAnd then we went on with it.\n", f"> {line}", f"- {line}"):
        assert scanner.scan(text) == ()


def test_a_sentence_on_a_page_of_markup_gives_no_weak_password(scanner: SecretScanner) -> None:
    head = "<nav>\n" + '<li><a href="tls.html">TLS</a></li>\n' * 500 + "</nav>\nport: 443\n"
    assert scanner.scan(f"{head}<p>PSK ciphers are disabled by default, and using them requires a setting.</p>\n") == ()


@pytest.mark.parametrize(
    "text",
    [
        "The decision: the API key is 8a12c57407f5e92b763397b6f2203c18d0c3fab9.",
        "master key: 01khr6zjp3kq84bx0vw2ntf5ya9d7c",
        "api_key=8a12c57407f5e92b763397b6f2203c18d0c3fab9",
        "password: kV7/mQ2xLp9Zr",
        "login admin, pw Xy7#pwLm2q",
    ],
)
def test_what_only_resembles_such_a_name_is_still_a_secret(scanner: SecretScanner, text: str) -> None:
    assert len(scanner.scan(text)) == 1


@pytest.mark.parametrize("line", [*SPOKEN.strip().split("\n"), *DATA.strip().split("\n")])
def test_a_line_that_only_speaks_of_credentials_is_no_secret(scanner: SecretScanner, line: str) -> None:
    for text in (line, f"# Notes\n\n{line}\n\nAnd then we went on with it.\n", f"> {line}", f"- {line}"):
        assert scanner.scan(text) == ()


@pytest.mark.parametrize("seed", range(40))
def test_base64_over_many_lines_is_no_secret(scanner: SecretScanner, seed: int) -> None:
    # The words that the scanner looks for come up in it by chance: `pw` once in a few kilobytes.
    body = data(seed, 6_000)
    lines = "\n".join(body[at : at + 76] for at in range(0, len(body), 76))
    assert scanner.scan(f"Content-Transfer-Encoding: base64\n\n{lines}\n") == ()


@pytest.mark.parametrize("seed", range(200))
def test_a_public_key_is_no_secret(scanner: SecretScanner, seed: int) -> None:
    assert scanner.scan(f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{data(seed, 32)[:43]} plan@shop.test") == ()
    assert scanner.scan(f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQAB{data(seed, 270)} login@shop.test") == ()


@pytest.mark.parametrize("seed", range(20))
def test_hashes_and_ids_are_no_secrets(scanner: SecretScanner, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - has to repeat
    lines = [
        f"{''.join(rng.choices(HEX, k=length))}{end}"
        for length, end in [(40, " pass the token on"), (64, "  secrets.tar.gz"), (32, " *login.iso"), (8, " password")]
        * 20
    ]
    assert scanner.scan("\n".join(lines)) == ()


def test_the_standard_library_is_no_secret(scanner: SecretScanner) -> None:
    flagged = lines = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines += text.count("\n")
        flagged += len({finding.line for finding in scanner.scan(text)})
    assert lines > 50_000
    assert flagged * 10_000 <= lines  # 0.1 of 1,000


def test_this_repositorys_documentation_is_no_secret(scanner: SecretScanner) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    paths = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    assert len(paths) > 20
    for path in paths:
        text = path.read_text(encoding="utf-8")
        # The quickstart shows how a password is refused.
        spans = [
            span for span in scanner.spans(text) if not re.search(r"\$ memory write .*$", text[: span.start][-80:])
        ]
        assert spans == [], path


@pytest.mark.parametrize("length", [32, 40, 64, 128])
def test_a_text_that_is_nothing_but_a_hash_is_no_secret(length: int) -> None:
    draw = random.Random(length)  # noqa: S311
    for _ in range(20):
        digest = "".join(draw.choices("0123456789abcdef", k=length))
        for text in (digest, f"{digest}\n", f"  {digest.upper()}  "):
            assert SecretScanner().scan(text) == ()
