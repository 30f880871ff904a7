"""One POST to an endpoint of models: the key, what leaves the machine, what comes back, and why nothing does."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import urlsplit

from adaptive_llm_gateway.core import ConfigError, Unavailable, is_here, is_offline
from adaptive_llm_gateway.memory._offline import BACK

if TYPE_CHECKING:
    import httpx2

MAX_CHARACTERS = 8_000  # of one text: within 8,192 tokens in any script
_RETRIED = {408, 429, 500, 502, 503, 504}
_MAX_ERROR = 65_536

Failed = TypeVar("Failed", bound=Unavailable)


class BadAnswerError(Exception):
    """The answer is not what the API promises; the text completes 'the endpoint ...'."""


@dataclass(frozen=True, slots=True)
class Refusal(Generic[Failed]):
    """Why there is no answer; whether asking again may help, and what the endpoint said of when (`Retry-After`)."""

    error: Failed
    again: bool = False
    retry_after: str | None = None


class Endpoint(Generic[Failed]):
    """An address that JSON is posted to.

    The key is read from the environment for each request and goes to the configured URL alone: redirects are not
    followed, a proxy from the environment is used for https to elsewhere only, and no message carries it. In offline
    mode only an endpoint of the loopback is asked.

    Args:
        section: of the settings, for messages.
        url: base URL, without user, query or fragment.
        path: what is appended, as in `/embeddings`.
        noun: what the endpoint is called in messages.
        api_key_env: environment variable with the key; without it, no key is sent.
        timeout: seconds to connect, to wait for each part of the answer, and for the answer's body altogether.
        error: makes the error from a message, a hint and details, `reason` among them.
        meanwhile: what holds until the endpoint answers, a sentence for hints.

    Raises:
        ConfigError: the URL is not one that can be used, or `api_key_env` is no name of a variable.
    """

    def __init__(
        self,
        section: Literal["embedder", "reranker"],
        url: str,
        *,
        path: str,
        noun: str,
        api_key_env: str | None,
        timeout: float,
        error: Callable[..., Failed],
        meanwhile: str,
    ) -> None:
        self.base, self.local = checked_url(section, url)
        if api_key_env is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", api_key_env):
            raise ConfigError(
                f"{section}.api_key_env is not the name of an environment variable",  # not shown: it may be the key
                hint="Put the key into an environment variable, and that variable's name here.",
                key=f"{section}.api_key_env",
            )
        self.closed = threading.Event()
        self._section = section
        self._path = path
        self._noun = noun
        self._api_key_env = api_key_env
        self._timeout = timeout
        self._error = error
        self._meanwhile = meanwhile
        self._client: httpx2.Client | None = None
        self._lock = threading.Lock()

    def post(self, body: Mapping[str, Any], *, limit: int, timeout: float | None = None) -> bytes | Refusal[Failed]:
        """The answer's body, or why there is none.

        Args:
            limit: most bytes that the answer may have.
            timeout: instead of the endpoint's own.

        Raises:
            Failed: reason `key_missing`; nothing was sent.
        """
        import httpx2  # noqa: PLC0415 - loaded with the first request

        if is_offline() and not self.local:
            hint = f"{BACK} {self._meanwhile}"
            return Refusal(
                self.failure("offline", "is held back in offline mode: it is not on this machine", hint=hint)
            )
        timeout = self._timeout if timeout is None else timeout
        key = self._key()
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        # The library's own errors are not chained: they carry the request, and that carries the key.
        try:
            with self._connected().stream(
                "POST", self.base + self._path, content=json.dumps(body).encode(), headers=headers, timeout=timeout
            ) as response:
                answer = _read(response, limit if response.status_code == 200 else _MAX_ERROR, timeout)
        except httpx2.TimeoutException:
            return Refusal(self.failure("timeout", f"did not answer within {timeout:g} s"), again=True)
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            text = _without(key, f"{type(error).__name__}: {error}")
            return Refusal(self.failure("unreachable", f"cannot be reached ({text})"), again=True)
        except BadAnswerError as error:
            return Refusal(self.failure("answer", str(error)))
        except RuntimeError:  # the client was closed under us
            return Refusal(self.failure("closed", "is closed"))
        return answer if response.status_code == 200 else self._refused(response, answer, key)

    def _refused(self, response: httpx2.Response, answer: bytes, key: str | None) -> Refusal[Failed]:
        status = response.status_code
        if status in (401, 403):
            return Refusal(
                self.failure(
                    "refused",
                    f"refuses us (HTTP {status})",
                    hint=f"Check the key in the environment variable {self._api_key_env!r}."
                    if self._api_key_env
                    else f"Name the environment variable that holds the key in {self._section}.api_key_env.",
                    status=status,
                )
            )
        if 300 <= status < 400:
            return Refusal(
                self.failure(
                    "status",
                    f"answered with a redirect (HTTP {status}), which is not followed",
                    hint=f"Set {self._section}.url to the address that answers by itself.",
                    status=status,
                )
            )
        said = f"answered HTTP {status}{_said(answer, key)}"
        if status in _RETRIED:
            return Refusal(
                self.failure("status", said, status=status), again=True, retry_after=response.headers.get("retry-after")
            )
        return Refusal(
            self.failure(
                "status",
                said,
                hint=f"Check {self._section}.url (it ends before {self._path!r}) and {self._section}.model.",
                status=status,
            )
        )

    def failure(self, reason: str, what: str, *, hint: str | None = None, **details: Any) -> Failed:
        """An error that says `what` of this endpoint."""
        return self._error(
            f"the {self._noun} endpoint {self.base!r} {what}",
            hint=hint or f"Check that the endpoint runs. {self._meanwhile}",
            reason=reason,
            url=self.base,
            **details,
        )

    def close(self) -> None:
        """Close the connections; harmless when repeated."""
        self.closed.set()
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _connected(self) -> httpx2.Client:
        import httpx2  # noqa: PLC0415

        with self._lock:
            if self.closed.is_set():
                raise RuntimeError("closed")
            if self._client is None:
                # A proxy of an https request sees neither text nor key; of an http request it would see both.
                proxies = self.base.startswith("https:") and not self.local
                self._client = httpx2.Client(follow_redirects=False, trust_env=proxies, timeout=self._timeout)
            return self._client

    def _key(self) -> str | None:
        if self._api_key_env is None:
            return None
        key = os.environ.get(self._api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            what = "carries what no key does" if key else "is not set"
            raise self._error(
                f"the environment variable {self._api_key_env!r} with the {self._noun} endpoint's key {what}",
                hint=f"Set {self._api_key_env} where the hub starts, and restart it.",
                reason="key_missing",
            )
        return key


def sendable(text: str) -> str:
    """The text as an endpoint takes it: cut, without lone surrogates, and never blank, which some refuse."""
    cut = text[:MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
    return cut if cut.strip() else "."


def parsed(answer: bytes) -> object:
    """The JSON of an answer.

    Raises:
        BadAnswerError: it is none.
    """
    try:
        return json.loads(answer)
    except (ValueError, RecursionError):
        raise BadAnswerError("answered something that is no JSON") from None


def checked_url(section: str, url: str, *, example: str = "https://host/v1") -> tuple[str, bool]:
    """The base URL without a trailing slash, and whether its host is the loopback.

    Raises:
        ConfigError: it is not one that can be used.
    """
    key = f"{section}.url"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"{key} is not a URL", hint=f"Write it as {example!r}.", key=key) from None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise ConfigError(
            f"{key} carries a user, a query or a fragment",  # not shown: there may be a key in it
            hint=f"Leave them out, and name the environment variable that holds the key in {section}.api_key_env.",
            key=key,
        )
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise ConfigError(f"{key} is {url!r}, which is no http or https URL", hint=f"Write it as {example!r}.", key=key)
    return url.rstrip("/?#"), is_here(host)


def _read(response: httpx2.Response, limit: int, timeout: float) -> bytes:
    """The body, never more than `limit` bytes of it in memory nor longer than `timeout` seconds under way."""
    import httpx2  # noqa: PLC0415

    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadAnswerError("answered compressed, which was not asked for")
    deadline = time.monotonic() + timeout
    read = bytearray()
    for block in response.iter_raw():
        read += block
        if len(read) > limit:
            raise BadAnswerError(f"answered more than the {limit!r} bytes that fit the question")
        if time.monotonic() > deadline:
            raise httpx2.ReadTimeout("the body took too long")
    return bytes(read)


def _said(answer: bytes, key: str | None) -> str:
    """What an endpoint gave as its reason: one short, quoted line without the key; empty where there is none."""
    try:
        error = json.loads(answer)["error"]
        text = error if isinstance(error, str) else error["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f" and said {_without(key, text)[:200]!r}" if isinstance(text, str) else ""


def _without(key: str | None, text: str) -> str:
    return text.replace(key, "***") if key else text
