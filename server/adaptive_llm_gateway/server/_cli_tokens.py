"""`alg tokens`: how many tokens files have for a model. Needs no home and no hub."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from adaptive_llm_gateway.compression import counter_for
from adaptive_llm_gateway.core import InvalidInput, NotFound, StorageError, TooLarge
from adaptive_llm_gateway.server._cli_output import Json, Paint, harmless, talk

MAX_BYTES = 64 * 1024 * 1024
_STDIN = "-"


def count_files(paths: Sequence[str], model: str | None) -> Json:
    """The tokens of each file and of all together, with what they were counted by.

    Args:
        paths: files, each read whole; `-` is what comes on stdin.

    Raises:
        InvalidInput: `-` more than once, a folder, or a model without a name.
        NotFound: no such file.
        StorageError: a file cannot be read, or the tokenizer's own is damaged.
        TooLarge: more than 64 MiB.
    """
    if list(paths).count(_STDIN) > 1:
        raise InvalidInput("'-' stands for stdin, which can be read once.")
    if model is not None and not model.strip():
        raise InvalidInput(f"The model's name is empty: {model!r}.", hint="Leave --model out to count in o200k_base.")
    counter = counter_for(model)
    files: list[Json] = []
    for path in paths:
        data = _read(path)
        try:
            text, utf8 = data.decode("utf-8"), True
        except UnicodeDecodeError:
            text, utf8 = data.decode("utf-8", "replace"), False
        files.append({"path": path, "tokens": counter.count(text), "bytes": len(data), "utf8": utf8})
    return {
        "counter": counter.name,
        "exact": counter.exact,
        "tokens": sum(file["tokens"] for file in files),
        "files": files,
    }


def _read(path: str) -> bytes:
    try:
        if path == _STDIN:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path!r}.", path=path) from error
    except IsADirectoryError as error:
        raise InvalidInput(f"{path!r} is a folder.", hint="Name files.", path=path) from error
    except OSError as error:
        raise StorageError(f"{path!r} cannot be read: {error.strerror or error}.", path=path) from error
    if len(data) > MAX_BYTES:
        raise TooLarge(f"{path!r} is larger than {MAX_BYTES:,} bytes.", hint="Count its parts.", path=path)
    return data


def as_text(counted: Json, paint: Paint) -> str:
    """A line for each file, and one for all where there are several."""
    rows = [(file["tokens"], file["path"]) for file in counted["files"]]
    if len(rows) > 1:
        rows.append((counted["tokens"], "total"))
    width = max(len(f"{tokens:,}") for tokens, _ in rows)
    return "\n".join(f"{paint(f'{tokens:>{width},}', 'bold')}  {harmless(path)}" for tokens, path in rows)


def talk_about(counted: Json) -> None:
    """What the numbers are: exact, or an estimate."""
    if counted["exact"]:
        talk(f"tokens of {counted['counter']}, exact")
    else:
        model = counted["counter"].removeprefix("estimate:")
        talk(f"at most, an estimate: the tokenizer of {harmless(model)!r} is not here; bounded from o200k_base")
    for file in counted["files"]:
        if not file["utf8"]:
            talk(f"{harmless(file['path'])} is not UTF-8: each part that is not was counted as U+FFFD")
