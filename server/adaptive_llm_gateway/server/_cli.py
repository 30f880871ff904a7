"""The command line `alg`: its commands, and how a command line becomes an exit code.

What is slow to import (pydantic, rich, git, SQLite, the model) is imported where it is needed, and what a commit or
the start of a hub waits for is told apart before typer is imported.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import NoReturn

from adaptive_llm_gateway.core import AlgError, StorageError
from adaptive_llm_gateway.core._paths import home_root
from adaptive_llm_gateway.server._cli_output import HubRefused, exit_code, print_error, set_up_streams, talk, wants_json


def run_cli(arguments: list[str]) -> NoReturn:
    """Carry out a command line and exit with its code.

    Args:
        arguments: without the program's name.
    """
    set_up_streams()
    hook = hook_words(arguments)
    if hook is not None:
        from adaptive_llm_gateway.server import _cli_hook  # noqa: PLC0415

        sys.exit(_cli_hook.run(*hook))
    refused = False
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        code = 141
    except OSError as error:
        if not _of_stdout(error):
            raise
        print(f"error: stdout takes no more: {error.strerror}\nhint: What was written is a part.", file=sys.stderr)
        code = StorageError.exit_code
        refused = True
    if refused or code in (130, 141):  # what is left in the buffer has no reader, or no meaning
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    as_json = wants_json(arguments)
    try:
        home, rest = take_home(arguments)
        root = home_root(home)
        quick = _quick(rest, root)
        return _typed(rest, root, as_json=as_json) if quick is None else quick
    except HubRefused as error:
        print_error(error.error, as_json=as_json)
        return exit_code(error.error["code"])
    except AlgError as error:
        print_error(error.as_dict(), as_json=as_json)
        return error.exit_code
    except BrokenPipeError:
        raise
    except Exception as error:  # also of what nobody foresaw there is one answer, and its trace
        if isinstance(error, OSError) and _of_stdout(error):
            raise
        import traceback  # noqa: PLC0415

        from adaptive_llm_gateway.server._gate import without_secrets  # noqa: PLC0415

        print(without_secrets(traceback.format_exc()), file=sys.stderr, end="")
        message = f"{type(error).__name__}: {error}"
        print_error({"code": "error", "message": message, "hint": "This should not happen."}, as_json=as_json)
        return 1


def _of_stdout(error: OSError) -> bool:
    """Whether stdout is a file whose disk refused; files of ours have a name in their errors."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def take_home(arguments: list[str]) -> tuple[str | None, list[str]]:
    """`--home DIR`, which may stand anywhere before `--`, and the arguments without it; the last one counts.

    Raises:
        InvalidInput: `--home` without a folder.
    """
    home: str | None = None
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return home, [*rest, word, *words]
        if word == "--home" or word.startswith("--home="):
            home = next(words, "") if word == "--home" else word.removeprefix("--home=")
            if not home or home.startswith("--"):
                from adaptive_llm_gateway.core import InvalidInput  # noqa: PLC0415

                raise InvalidInput("'--home' needs a folder", hint="For example: --home ~/.adaptive-llm-gateway")
        else:
            rest.append(word)
    return home, rest


def hook_words(arguments: list[str]) -> tuple[str | None, list[str]] | None:
    """Of `alg handoff checkpoint --hook`: the home and what stands behind `checkpoint`; None for all other commands."""
    if "--hook" not in arguments:
        return None
    with contextlib.suppress(AlgError):
        home, rest = take_home(arguments)
        if rest[:2] == ["handoff", "checkpoint"] and "--help" not in rest:
            return home, rest[2:]
    return None


def _quick(rest: list[str], root: str) -> int | None:
    """Carry out what must not wait for typer; None for everything else."""
    match rest:
        case ["hub", "run", "--ready-fd", number] if number.isdecimal():
            from adaptive_llm_gateway.server import _cli_hub  # noqa: PLC0415

            return _cli_hub.run(root, int(number))
        case ["hub", "look-at-objects", repo, state]:
            from adaptive_llm_gateway.server import _objects_seen  # noqa: PLC0415

            return _objects_seen.serve_slices(repo, state)
        case ["secrets", "scan", "--staged"] | ["secrets", "scan", "--staged", "--json"]:
            from adaptive_llm_gateway.server import _cli_secrets  # noqa: PLC0415

            return _cli_secrets.run_staged(as_json=len(rest) == 4)
        case ["secrets", "scan", "--message", file]:
            from adaptive_llm_gateway.server import _cli_secrets  # noqa: PLC0415

            return _cli_secrets.run_message(file)
        case ["--version"]:
            from importlib.metadata import version  # noqa: PLC0415

            print(f"alg {version('adaptive-llm-gateway')}")
            return 0
        case _:
            return None


def _typed(rest: list[str], root: str, *, as_json: bool) -> int:
    import typer  # noqa: PLC0415 - 80 ms

    from adaptive_llm_gateway.server._cli_app import build_command  # noqa: PLC0415

    command = build_command(rest)
    try:
        with command.make_context("alg", list(rest), obj=root) as context:
            command.invoke(context)
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        return 130
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "alg"
        message = error.format_message().replace("Value error, ", "")
        if type(error).__name__ == "NoArgsIsHelpError" and not as_json:
            talk(message)
        else:
            failure = {"code": "usage", "message": message.rstrip("."), "hint": f"`{path} --help` shows the usage."}
            print_error(failure, as_json=as_json)
        return 2
    return 0
