"""The commands `alg`, `adaptive-llm-gateway` and `memory`.

`alg serve` is told apart here, before anything heavy is imported, because clients wait for it at every start; and so
is what git runs for every file that it merges.
"""

from __future__ import annotations

import sys


def _plain_serve(arguments: list[str]) -> tuple[bool, str | None]:
    """Whether the arguments are `[--home H] serve [--home H]` and nothing else, and H."""
    home: str | None = None
    words: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--home":
            home = next(rest, None)
            if home is None:
                return False, None
        elif argument.startswith("--home="):
            home = argument[len("--home=") :]
        else:
            words.append(argument)
    return words == ["serve"], home


def main() -> None:
    """Entry point of `alg`."""
    plain, home = _plain_serve(sys.argv[1:])
    if plain and sys.platform != "win32":
        from adaptive_llm_gateway.core._paths import home_root  # noqa: PLC0415 - the lean way
        from adaptive_llm_gateway.server._shim import run  # noqa: PLC0415

        sys.exit(run(home_root(home)))
    match sys.argv[1:]:
        case ["merge-driver", "--keep" | "--inner" as kind, base, ours, theirs, path]:
            from adaptive_llm_gateway.memory import run_merge_driver  # noqa: PLC0415 - the lean way

            sys.exit(run_merge_driver(base, ours, theirs, path, keep=kind == "--keep"))
        case _:
            pass
    from adaptive_llm_gateway.server._cli import run_cli  # noqa: PLC0415 - not on the shim's path

    run_cli(sys.argv[1:])


def main_memory() -> None:
    """Entry point of `memory`, which is `alg memory`."""
    sys.argv[1:1] = ["memory"]
    main()


if __name__ == "__main__":
    main()
