"""The hub's logs: what it does, and what is asked of it by HTTP. For people, or an object of JSON on each line."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

from adaptive_llm_gateway.core import Home
from adaptive_llm_gateway.server._gate import CleanFormatter

REQUESTS: Final = "adaptive_llm_gateway.requests"
"""The logger of requests; each record has its `fields`, every one of them a word of ours, a number or an address."""
_LOG_BYTES: Final = 5 * 1024 * 1024
_OLDER: Final = 2
_PLAIN = re.compile(r"[\w.:/{}@,+-]+", re.ASCII)
_LOUD: Final = ("mcp", "httpx2", "watchdog", "asyncio", "fastapi", "opentelemetry")


class TurnedOver(logging.handlers.RotatingFileHandler):
    """A log's file. Python's own makes each line twice and asks the system three things before it writes one, and with
    each it lets go of the interpreter, which searches in other threads then have.

    This process alone writes the file, so what was written is counted.
    """

    _length: int | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, into a fresh file where this one is full."""
        try:
            line = self.format(record) + self.terminator
            size = len(line.encode(self.encoding or "utf-8", "replace"))
            stream = self.stream
            if stream is None:  # it was closed
                stream = self.stream = self._open()
                self._length = None
            if self._length is None:
                self._length = stream.seek(0, os.SEEK_END)
            if self._length and self._length + size >= self.maxBytes and Path(self.baseFilename).is_file():
                self.doRollover()
                stream = self.stream = self.stream or self._open()
                self._length = stream.seek(0, os.SEEK_END)
            stream.write(line)
            stream.flush()
            self._length += size
        except Exception:  # noqa: BLE001 - as logging does: what fails here must not fail who logs
            self.handleError(record)


class TextFormatter(CleanFormatter):
    """A line for people; one that a request made ends with its id."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line without what an exception adds."""
        line = super().formatMessage(record)
        request = _request_id()
        return line if request is None else f"{line} [request {request}]"


class JsonFormatter(CleanFormatter):
    """A line that is an object: `time`, `level`, `logger`, `message`, and `request` and `exception` where there are."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        told: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request = _request_id()
        if request is not None:
            told["request"] = request
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(self.cleaned(record, told), ensure_ascii=False)


class RequestFormatter(logging.Formatter):
    """A line of the log of requests."""

    def __init__(self, form: Literal["text", "json"]) -> None:
        super().__init__()
        self._as_json = form == "json"

    def format(self, record: logging.LogRecord) -> str:
        """The line: `name=value` each, or an object."""
        fields = cast("Mapping[str, Any]", record.__dict__.get("fields", {}))
        there = {name: value for name, value in fields.items() if value is not None}
        if self._as_json:
            return json.dumps({"time": _time(record), **there}, ensure_ascii=False)
        return f"{_time(record)} " + " ".join(f"{name}={_quoted(str(value))}" for name, value in there.items())


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _request_id() -> str | None:
    from adaptive_llm_gateway.server._call import request_id  # noqa: PLC0415 - the hub listens first

    return request_id()


def set_up_logging(home: Home, level: str, form: Literal["text", "json"], *, requests: bool) -> None:
    """Log to files in the home that are turned over at 5 MB, for this user alone.

    Args:
        requests: also those by HTTP, to a file of their own: many of them must not push out what the hub has to say.

    Raises:
        OSError: the hub's own file cannot be written.
    """
    home.hub_log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handler = _file(home.hub_log)
    handler.setFormatter(
        JsonFormatter() if form == "json" else TextFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _LOUD:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # what of a request fails is logged where it is answered
    logging.getLogger("mcp.server.streamable_http_manager").setLevel(logging.ERROR)  # its warnings anybody can cause
    logger = logging.getLogger(REQUESTS)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.handlers[:] = []
    if requests:
        try:
            lines = _file(home.requests_log)
        except OSError as error:  # nobody at the socket is to go without a hub for it
            root.warning("requests are not logged: %r cannot be written: %s", str(home.requests_log), error.strerror)
            return
        lines.setFormatter(RequestFormatter(form))
        logger.handlers[:] = [lines]


def _file(path: Path) -> logging.Handler:
    return TurnedOver(path, maxBytes=_LOG_BYTES, backupCount=_OLDER, encoding="utf-8")
