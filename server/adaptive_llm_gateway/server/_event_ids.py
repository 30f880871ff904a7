"""Ids of events: places in the histories of the memory repos, sealed with a key of this home.

An id says nothing to whoever has it: not how many commits there are, nor whether there was one between two events, for
each is sealed anew. A hub with the same key takes it, and so does one that was started again; others do not know it.

It is written in hexadecimal: in 32 or 64 characters chance writes what the keys of services look like, and an id would
be taken for a secret where it is told again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adaptive_llm_gateway.memory import ChangePlace

LONGEST_ID: Final = 16_384
"""Characters; enough for 100 repos."""
_FORM: Final = b"\1"
_NONCE: Final = 12
_NAME: Final = 4


class EventIds:
    """Makes ids, and reads those that it made.

    Args:
        key: of the home's marks, from which the key of the ids is derived; None: ids count until this process ends.
    """

    def __init__(self, key: bytes | None) -> None:
        self._seal = AESGCM(blake2b(b"event ids", key=key or os.urandom(32), digest_size=32).digest())

    def of(self, places: Mapping[str, ChangePlace]) -> str:
        """An id for how far somebody was told, by the names of the repos; another one each time."""
        text = b"".join(_short(name) + place.as_bytes() for name, place in places.items())
        nonce = os.urandom(_NONCE)
        return (_FORM + nonce + self._seal.encrypt(nonce, text, _FORM)).hex()

    def places(self, id: str, names: Iterable[str]) -> dict[str, ChangePlace] | None:
        """How far somebody was told who has this id.

        Args:
            names: of the repos that there are.

        Returns:
            None where it is no id of ours, or is about a repo that there is not any more.
        """
        if len(id) > LONGEST_ID or not id.isascii():
            return None
        try:
            data = bytes.fromhex(id)
            if data[:1] != _FORM or data.hex() != id:  # an id has one form alone
                return None
            nonce = data[1 : 1 + _NONCE]
            text = self._seal.decrypt(nonce, data[1 + _NONCE :], _FORM)
        except (ValueError, InvalidTag):
            return None
        known = {_short(name): name for name in names}
        size = _NAME + ChangePlace.LENGTH
        if len(text) % size:
            return None
        found: dict[str, ChangePlace] = {}
        for start in range(0, len(text), size):
            name = known.get(text[start : start + _NAME])
            if name is None:
                return None
            found[name] = ChangePlace.from_bytes(text[start + _NAME : start + size])
        return found


def _short(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=_NAME).digest()
