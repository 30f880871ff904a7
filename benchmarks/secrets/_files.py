"""Configuration and credential files as people have them lying about, with what is secret in them made from a seed.

`files.txt` has them, each after a line `=== name`: `${name}` there is a credential, `${~name}` a random value that is
none. Every file is of our own writing and stands for its kind.
"""

from __future__ import annotations

import base64
import json
import random
import re
from pathlib import Path

import _formats as f
from _planting import Planted, plant


def _base64_of(make: f.Make) -> f.Make:
    return lambda rng: base64.b64encode(make(rng).encode()).decode()


def _docker_auth(rng: random.Random) -> str:
    return base64.b64encode(f"shopbot:{f.password(rng)}".encode()).decode()


def _service_key(rng: random.Random) -> str:
    return json.dumps(f.pem_lines("", 24)(rng) + "\n")[1:-1]


def _weak(rng: random.Random) -> str:
    """A word with a digit or without one, as people choose them."""
    return rng.choice(f.WORDS) + rng.choice(["", "", str(rng.randrange(1, 99))])


_BY_NAME = {form.name: form.make for form in f.FORMATS}
MAKERS: dict[str, f.Make] = {
    **_BY_NAME,
    "plain": f.plain_password,
    "short": f.of(f.LOWER, 8),
    "hex32": f.of(f.HEX, 32),
    "hex40": f.of(f.HEX, 40),
    "hex64": f.of(f.HEX, 64),
    "hex128": f.of(f.HEX, 128),
    "alnum20": f.of(f.ALNUM, 20),
    "alnum32": f.of(f.ALNUM, 32),
    "alnum40": f.of(f.ALNUM, 40),
    "salt": f.of(f.ALNUM + "!@#%^&*()-_[]{}<>~`+=,.;:/?|", 64),
    "laravel": f.glued(f.fixed("base64:"), _base64_of(f.of(f.ALNUM, 32))),
    "password64": _base64_of(f.password),
    "token64": _base64_of(f.of(f.ALNUM, 32)),
    "docker-auth": _docker_auth,
    "service-key": _service_key,
    "bcrypt": f.glued(f.fixed("$2y", "$10$"), f.of(f.ALNUM + "./", 53)),
    "apr1": f.glued(f.fixed("$ap", "r1$"), f.of(f.ALNUM, 8), f.fixed("$"), f.of(f.ALNUM + "./", 22)),
    "sha512": f.glued(f.fixed("$", "6$"), f.of(f.ALNUM, 16), f.fixed("$"), f.of(f.ALNUM + "./", 86)),
    "md5crypt": f.glued(f.fixed("$", "1$"), f.of(f.ALNUM, 4), f.fixed("$"), f.of(f.ALNUM + "./", 22)),
    "descrypt": f.glued(f.of(f.ALNUM + "./", 10), f.of(f.DIGITS, 2), f.fixed("Q")),
    "type7": f.glued(f.fixed("0"), f.of(f.DIGITS, 2), f.of("0123456789ABCDEF", 7)),
    "weak": _weak,
    "weak64": _base64_of(_weak),
    "nss": f.glued(f.fixed("MDIEEPg", "A" * 22, "EwFAYIKoZIhvcNAwcECF"), f.of(f.ALNUM, 28)),
    "sealed": f.glued(f.fixed("{AQAAABAAAAAQ"), f.of(f.ALNUM, 43), f.fixed("=}")),
    "pin": f.of(f.DIGITS, 6),
    "uuid": f.uuid,
    "rsa": f.pem_lines("RSA ", 24),
    "openssh": f.pem_lines("OPENSSH ", 6),
}

_FILE = Path(__file__).with_name("files.txt")


def _templates() -> dict[str, str]:
    parts = re.split(r"^=== (.+)\n", _FILE.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


FILES = _templates()


def files(seed: int) -> list[Planted]:
    """Every file, with values of this seed."""
    rng = random.Random(f"files {seed}")
    return [
        plant(name, name, template, lambda kind: MAKERS[kind](rng), file=name.rpartition("/")[2].replace(" ", "-"))
        for name, template in FILES.items()
    ]
