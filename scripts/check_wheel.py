"""Build the wheel, install it into an environment of its own, and use it there: nothing of the checkout may be needed.

The pinned requirements are installed by hash first; the wheel must then need nothing more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_WANTED = (
    "adaptive_llm_gateway/core/py.typed",
    "adaptive_llm_gateway/memory/py.typed",
    "adaptive_llm_gateway/compression/py.typed",
    "adaptive_llm_gateway/handoff/py.typed",
    "adaptive_llm_gateway/gateway/py.typed",
    "adaptive_llm_gateway/compression/ranks/o200k_base.xz",
    "adaptive_llm_gateway/compression/ranks/cl100k_base.xz",
    "adaptive_llm_gateway/compression/ranks/LICENSE",
    "adaptive_llm_gateway/server/py.typed",
    "adaptive_llm_gateway/memory/models/all-MiniLM-L6-v2/model.onnx",
    "adaptive_llm_gateway/memory/models/all-MiniLM-L6-v2/LICENSE",
)


def main() -> None:
    """Build, install, use; exits non-zero with the failing command's output."""
    with tempfile.TemporaryDirectory(prefix="alg-wheel-") as name:
        folder = Path(name)
        _run(
            [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "--quiet",
                "--no-deps",
                "--no-build-isolation",
                "-w",
                name,
                str(ROOT),
            ]
        )
        (wheel,) = folder.glob("*.whl")
        _check_content(wheel)
        _run([sys.executable, "-m", "venv", str(folder / "venv")])
        python = folder / "venv" / "bin" / "python"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _run([*pip, "--require-hashes", "-r", str(ROOT / "requirements.txt")])
        _run([*pip, "--no-deps", str(wheel)])
        _run([str(python), "-m", "pip", "check"])
        _use(folder)
    print(f"the wheel works: {wheel.name}")


def _check_content(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = [name for name in _WANTED if name not in names]
    stray = [name for name in names if name == "adaptive_llm_gateway/__init__.py" or name.startswith("tests/")]
    if missing or stray:
        sys.exit(f"the wheel lacks {missing} and should not have {stray}")


def _use(folder: Path) -> None:
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "ALG_"))},
        "HOME": str(folder / "user"),
        "ADAPTIVE_LLM_GATEWAY_HOME": str(folder / "home"),
    }
    (folder / "user").mkdir()
    alg = str(folder / "venv" / "bin" / "alg")

    def use(*arguments: str) -> dict[str, object]:
        return json.loads(_run([alg, *arguments, "--json"], env=environment, cwd=folder))

    use("init", "--yes")
    try:
        written = use("memory", "write", "--title", "The wheel works", "--reason", "smoke test", "Said by the wheel.")
        found = use("memory", "search", "what does the wheel say")
        hits = found["hits"]
        if not isinstance(hits, list) or not hits or hits[0]["id"] != written["id"]:
            sys.exit(f"the wheel did not find what it wrote: {found}")
    finally:
        _run([alg, "hub", "stop"], env=environment, cwd=folder)


def _run(command: list[str], *, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=cwd, timeout=900, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
