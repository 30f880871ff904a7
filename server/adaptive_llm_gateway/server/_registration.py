"""What to type so that a client program starts the shim."""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from collections.abc import Mapping, Sequence

NAME = "alg"
"""The server's name in a client's configuration."""


def alg_command() -> tuple[str, ...]:
    """The command that runs `alg` from anywhere: the console script's absolute path, where there is one."""
    # The folder of `sys.executable`, with the links of a virtual environment left alone, is where its scripts are.
    for folder in (os.path.dirname(sys.executable), sysconfig.get_path("scripts")):  # noqa: PTH120
        script = os.path.join(os.path.abspath(folder), NAME)  # noqa: PTH100, PTH118 - links stay
        if os.access(script, os.X_OK):
            return (script,)
    return this_installation()


def this_installation() -> tuple[str, ...]:
    """The command that runs `alg` for git, from any folder."""
    return (sys.executable, "-P", "-m", "adaptive_llm_gateway.server")


def serve_command(alg: Sequence[str], root: str, *, default_root: str) -> tuple[str, ...]:
    """What a client has to run.

    Args:
        alg: the command of `alg_command`.
        root: the home; it is named only where it is not `default_root`, also when it came from the environment,
            which a client need not share.
    """
    return (*alg, "serve", *(("--home", root) if root != default_root else ()))


def registration_lines(serve: Sequence[str]) -> Mapping[str, str]:
    """One shell line for each client program, by its name."""
    command = shlex.join(serve)
    return {
        "claude-code": f"claude mcp add --scope user {NAME} -- {command}",
        "codex": f"codex mcp add {NAME} -- {command}",
    }


def registration(root: str) -> Mapping[str, str]:
    """The lines for the home at `root`."""
    default = os.path.abspath(os.path.expanduser("~/.adaptive-llm-gateway"))  # noqa: PTH100, PTH111
    return registration_lines(serve_command(alg_command(), root, default_root=default))


TOKEN_VARIABLE = "ALG_TOKEN"  # noqa: S105 - a variable's name
"""In which variable the lines below look for a client's token, so that it stands in no history of a shell."""


def http_registration_lines(url: str) -> Mapping[str, str]:
    """One shell line for each client program that is to come by HTTP, by its name; the token is in `$ALG_TOKEN`."""
    where = shlex.quote(url)
    return {
        "claude-code": f"claude mcp add --scope user --transport http {NAME} {where} "
        f'--header "Authorization: Bearer ${TOKEN_VARIABLE}"',
        "codex": f"codex mcp add {NAME} --url {where} --bearer-token-env-var {TOKEN_VARIABLE}",
    }
