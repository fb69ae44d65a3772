"""Laws of what imports what: the arrows of the design point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Rooms of localspec from the bottom to the top. A module imports from its own room and from rooms to the left of it.
ROOMS = [
    *("_version", "types", "errors", "files", "params", "protocols", "media", "gguf", "models", "sampling", "llama"),
    *("memory", "machines"),
    *("chat", "draft", "control", "grammar", "generation", "probe", "engine", "loading", "testing", "bench"),
    *("serve", "cli", "__main__"),
]
#: Rooms of the command line from the bottom to the top, likewise.
CLI_ROOMS = [
    *("terminal", "input", "options", "settings_file", "settings", "errors", "invoke"),
    *("model", "bench", "chat", "doctor", "inspect", "commands"),
]
#: What the converter imports of localspec. Its commands, which are part of the command line, import anything.
CONVERTER_IMPORTS = {"types", "errors", "files", "gguf", "llama"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """Dotted name below the package, and file."""
    for path in sorted((ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at any depth and for types alone as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                is_module = _is_module(node.module, alias.name)
                found.add(f"{node.module}.{alias.name}" if is_module else str(node.module))
    return found


def _is_module(package: str | None, name: str) -> bool:
    base = ROOT / (package or "").replace(".", "/") / name
    return base.is_dir() or base.with_suffix(".py").exists()


LOCALSPEC = [(name, path) for name, path in modules("localspec") if name]
CONVERTER = [(name, path) for name, path in modules("gguf_convert")]
EVERYTHING = [path for _, path in (*LOCALSPEC, *CONVERTER)]


def rooms(path: Path) -> set[str]:
    """Rooms of localspec that a file imports."""
    return {name.split(".")[1] for name in imports(path) if name.startswith("localspec.")}


@pytest.mark.parametrize(("module", "path"), LOCALSPEC, ids=[name for name, _ in LOCALSPEC])
def test_imports_run_down(module: str, path: Path) -> None:
    """From the command line to the engine, the loop, sampling, the settings, the errors; the converter from above."""
    allowed = ROOMS[: ROOMS.index(module.split(".", maxsplit=1)[0]) + 1]
    assert rooms(path) <= set(allowed)
    assert not any(name.startswith("gguf_convert") for name in imports(path))


def test_every_file_of_the_command_line_has_a_room() -> None:
    """No file lies outside the arrows."""
    assert {name.split(".")[1] for name, _ in LOCALSPEC if name.startswith("cli.")} == set(CLI_ROOMS)


@pytest.mark.parametrize("room", CLI_ROOMS)
def test_imports_of_the_command_line_run_down(room: str) -> None:
    """From the commands to the terminal."""
    paths = [path for name, path in LOCALSPEC if name.split(".")[:2] == ["cli", room]]
    found = {name.split(".")[2] for path in paths for name in imports(path) if name.startswith("localspec.cli.")}
    assert paths
    assert found <= set(CLI_ROOMS[: CLI_ROOMS.index(room) + 1])


@pytest.mark.parametrize(("module", "path"), CONVERTER, ids=[name or "gguf_convert" for name, _ in CONVERTER])
def test_converter_imports_run_down(module: str, path: Path) -> None:
    """Without an engine."""
    assert module.startswith("commands") or rooms(path) <= CONVERTER_IMPORTS


def test_no_circles() -> None:
    """No file imports, directly or through others, a file that imports it."""
    known = {f"{package}.{name}": path for package in ("localspec", "gguf_convert") for name, path in modules(package)}
    arrows = {name: imports(path) & known.keys() - {name} for name, path in known.items()}
    while leaves := {name for name, below in arrows.items() if not below & arrows.keys()}:
        arrows = {name: below for name, below in arrows.items() if name not in leaves}
    assert not arrows


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_module_imports_llama_cpp(path: Path) -> None:
    """The seam."""
    seam = path == ROOT / "localspec/llama/binding.py"
    assert any(name.partition(".")[0] == "llama_cpp" for name in imports(path)) == seam


def test_errors_import_nothing() -> None:
    """Not even from the standard library."""
    assert imports(ROOT / "localspec/errors.py") == {"__future__"}


def test_settings_import_errors_only() -> None:
    """Of localspec."""
    found = imports(ROOT / "localspec/params.py")
    assert {name for name in found if name.startswith("localspec")} == {"localspec.errors"}


@pytest.mark.parametrize(
    "module",
    ["sampling", "generation.accept", "generation.stop", "generation.detokenize", "generation.stats", "params"],
)
def test_pure_parts_know_no_model(module: str) -> None:
    """No file, no process, no thread, no clock."""
    forbidden = {"os", "pathlib", "subprocess", "threading", "time", "ctypes", "random", "jinja2"}
    own = [path for name, path in LOCALSPEC if name == module or name.startswith(f"{module}.")]
    assert own
    found = {name.partition(".")[0] for path in own for name in imports(path)}
    assert not found & forbidden


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import localspec", {"numpy", "llama_cpp", "jinja2", "click", "localspec.engine"}),
        ("import localspec.errors", {"numpy", "llama_cpp", "jinja2", "click", "localspec.params"}),
        ("from localspec import SamplingParams", {"numpy", "llama_cpp", "jinja2"}),
        ("import localspec.cli", {"numpy", "llama_cpp", "jinja2", "prompt_toolkit"}),
        ("import localspec.sampling", {"llama_cpp", "jinja2"}),
        ("import localspec.probe.load_test_child", {"jinja2", "llama_cpp.llama", "asyncio"}),
        ("import localspec.loading", {"numpy", "llama_cpp", "jinja2"}),
        ("import localspec.testing", {"llama_cpp"}),
        ("import gguf_convert", {"numpy", "torch", "llama_cpp", "localspec.engine"}),
    ],
)
def test_import_is_light(statement: str, absent: set[str]) -> None:
    """Nothing heavy is loaded before it is needed."""
    assert not loaded_by(statement) & absent


def test_bare_package_is_whole_for_others() -> None:
    """Before and after localspec, with its modules and its own names."""
    code = "import localspec.llama.binding as b, llama_cpp; from llama_cpp import *; import llama_cpp; Llama"
    assert "llama_cpp.llama" in loaded_by(code)
    assert "llama_cpp.llama" in loaded_by(f"import llama_cpp; {code}; assert b.lib is llama_cpp.llama_cpp")
    loaded_by(f"{code}; assert b.lib is llama_cpp.llama_cpp; assert b._version() == llama_cpp.__version__")
    loaded_by(f"{code}; assert not hasattr(llama_cpp, 'no_such_name')")
