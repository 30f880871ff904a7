"""Rules of the layout that nobody can see in the files themselves."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAMESPACE = "adaptive_llm_gateway"
MAY_IMPORT = {
    "core": {"core"},
    "memory": {"core", "memory"},
    "compression": {"core", "compression"},
    "handoff": {"core", "memory", "compression", "handoff"},
    "gateway": {"core", "memory", "compression", "gateway"},
    "server": {"core", "memory", "compression", "handoff", "gateway", "server"},
}
COMPONENTS = [name for name in MAY_IMPORT if (ROOT / name).is_dir()]


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return listed.stdout.splitlines()


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module or ""


def portion(component: str) -> Path:
    return ROOT / component / NAMESPACE / component


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_source_root_hides_no_module_and_no_other_portion(component: str) -> None:
    assert not (ROOT / component / "__init__.py").exists()
    assert not (ROOT / component / NAMESPACE / "__init__.py").exists()
    assert (portion(component) / "py.typed").is_file()
    assert [path.name for path in (ROOT / component / NAMESPACE).iterdir() if path.name != "__pycache__"] == [component]


def test_the_tests_are_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_imports_only_what_lies_below_it(component: str) -> None:
    for path in portion(component).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            assert parts[0] not in COMPONENTS, f"{path}: {name} goes through the working directory"
            if parts[0] == NAMESPACE and len(parts) > 1:
                assert parts[1] in MAY_IMPORT[component], f"{path} imports {name}"


@pytest.mark.parametrize("component", COMPONENTS)
def test_a_component_reaches_into_another_only_through_its_public_names(component: str) -> None:
    # The shim's start-up path is the one exception: it takes `_paths` directly, to load nothing else.
    for path in portion(component).rglob("*.py"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] == NAMESPACE and len(parts) > 2 and parts[1] != component:
                assert name == f"{NAMESPACE}.core._paths", f"{path} imports {name}"


@pytest.mark.parametrize("component", ["core", "memory", "compression", "handoff", "gateway"])
def test_every_public_name_can_be_imported(component: str) -> None:
    code = (
        f"import {NAMESPACE}.{component} as part\n"
        "assert list(part.__all__) == sorted(set(part.__all__)) or len(set(part.__all__)) == len(part.__all__)\n"
        "[getattr(part, name) for name in part.__all__]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("component", COMPONENTS)
def test_modules_are_private_and_the_component_says_what_it_may_import(component: str) -> None:
    public = {"__init__.py", "__main__.py", "testing.py"}
    for path in portion(component).rglob("*.py"):
        assert path.name in public or path.name.startswith("_"), path
    doc = ast.get_docstring(ast.parse((portion(component) / "__init__.py").read_text(encoding="utf-8")))
    assert doc is not None
    assert re.search(r"[Ii]mport", doc)


def test_the_shim_loads_the_standard_library_alone() -> None:
    code = (
        "import sys\n"
        f"import {NAMESPACE}.server.__main__, {NAMESPACE}.server._shim\n"
        "own = {name.split('.')[0] for name in sys.modules}\n"
        f"foreign = own - set(sys.stdlib_module_names) - {{'{NAMESPACE}', '__main__'}}\n"
        "assert not [name for name in foreign if not name.startswith(('_', 'sitecustomize'))], foreign\n"
        "heavy = {'asyncio', 'typing', 'pathlib', 'dataclasses', 'subprocess', 'inspect'} & own\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_no_module_is_longer_than_a_thousand_lines() -> None:
    long = {
        name: count
        for name in tracked()
        if name.endswith(".py") and (count := len((ROOT / name).read_text(encoding="utf-8").splitlines())) > 1000
    }
    assert not long


def test_the_tree_names_no_machine_path_and_no_registry_host() -> None:
    # Written in pieces, so that this file does not name them either.
    words = ["/wo" + "rk/", "/ro" + "ot/", "files.python" + "hosted.org", "registry.npm" + "js.org", "/opt/wh" + "eels"]
    found: list[str] = []
    for name in tracked():
        path = ROOT / name
        if not path.is_file() or path.suffix in (".onnx", ".png", ".xz"):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{name}: {word}" for word in words if word in text]
    assert not found


def test_the_lock_files_hold_versions_and_hashes_and_no_address() -> None:
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for address in ("://", "--index", "--find-links"):
            assert address not in text
        for block in re.split(r"\n(?=\S)", text):
            if block.strip() and not block.startswith("#"):
                assert re.match(r"[A-Za-z0-9._-]+==", block), block
                assert "--hash=sha256:" in block, block
