"""Laws of what imports what: the arrows of the design point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: A module imports from its own package and from rows above its own; nothing else of localspec.
ROWS = (
    ("errors", "files", "_version", "gguf_values"),
    ("plot",),
    ("config", "settings", "gguf_header", "memo", "stats", "constraint", "call_values", "tools"),
    ("memory", "tool_calls", "state"),
    ("backends.saved_cells", "backends.symbols", "backends.huge_pages"),
    ("backends.base", "backends.devices", "backends.imatrix_file", "sampling", "template", "trial", "hub"),
    ("backends.llama_vocabulary", "backends.rows", "logprobs", "exact", "offload"),
    ("output", "fit"),
    ("backends.llama_cpp", "detokenize", "stop", "channels", "conversation", "accept", "draft", "grammar"),
    ("control", "backends.llama_model"),
    ("backends.llama_context",),
    ("verify", "backends.llama_quantize", "backends.llama_imatrix", "backends.llama_tokenizer", "_trial_child"),
    ("this_machine",),
    ("decode", "measure", "backends.trim_file", "backends.llama_trimmed"),
    ("stream", "request", "trace"),
    ("engine", "replay"),
    ("assurance",),
    ("assemble", "backends.scripted"),
    ("bench",),
    ("doctor",),
    ("cli",),
    ("__main__",),
)
#: Empty but for a docstring, or lazy.
ANYWHERE = ("", "backends")


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
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if _is_module(node.module, alias.name)}
    return found


def _is_module(package: str | None, name: str) -> bool:
    base = ROOT / (package or "").replace(".", "/") / name
    return base.is_dir() or base.with_suffix(".py").exists()


def row_of(module: str) -> int:
    """The row of a module, or of the package that stands for it."""
    for name in (module, module.partition(".")[0]):
        for i, row in enumerate(ROWS):
            if name in row:
                return i
    raise AssertionError(f"localspec.{module} has no row: say in this file what may import it")


LOCALSPEC = [(name, path) for name, path in modules("localspec") if name not in ANYWHERE]
EVERYTHING = [path for package in ("localspec", "gguf_convert") for _, path in modules(package)]


@pytest.mark.parametrize(("module", "path"), LOCALSPEC, ids=[name for name, _ in LOCALSPEC])
def test_arrows_point_one_way(module: str, path: Path) -> None:
    """From the command line to the engine, the loop, sampling, the settings, the errors: never back."""
    for imported in imports(path):
        package, _, name = imported.partition(".")
        if package != "localspec" or name in ANYWHERE:
            continue
        same_package = module.partition(".")[0] == name.partition(".")[0] and module.partition(".")[0] != "backends"
        assert same_package or row_of(name) < row_of(module), f"localspec.{module} imports localspec.{name}"


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_module_imports_llama_cpp(path: Path) -> None:
    """The seam."""
    seam = path == ROOT / "localspec/backends/llama_cpp.py"
    assert any(name.partition(".")[0] == "llama_cpp" for name in imports(path)) == seam


@pytest.mark.parametrize("path", [path for _, path in modules("gguf_convert")], ids=lambda path: path.name)
def test_converter_knows_errors_and_the_seam_only(path: Path) -> None:
    """It works without an engine."""
    ours = {name for name in imports(path) if name.partition(".")[0] == "localspec"}
    allowed = {"localspec", "localspec.errors", "localspec.gguf_header"}
    assert {name for name in ours if not name.startswith("localspec.backends")} <= allowed


def test_errors_import_nothing() -> None:
    """Not even from the standard library."""
    assert imports(ROOT / "localspec/errors.py") == {"__future__"}


def test_settings_import_errors_only() -> None:
    """Of localspec."""
    found = imports(ROOT / "localspec/config.py")
    assert {name for name in found if name.startswith("localspec")} == {"localspec.errors"}


@pytest.mark.parametrize("module", ["sampling", "accept", "stop", "detokenize", "stats", "config"])
def test_pure_parts_know_no_model(module: str) -> None:
    """No file, no process, no thread, no clock."""
    forbidden = {"os", "pathlib", "subprocess", "threading", "time", "ctypes", "random", "jinja2"}
    own = [path for name, path in LOCALSPEC if name.partition(".")[0] == module]
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
        ("import localspec.errors", {"numpy", "llama_cpp", "jinja2", "click", "localspec.config"}),
        ("from localspec import SamplingParams", {"numpy", "llama_cpp", "jinja2"}),
        ("import localspec.cli", {"numpy", "llama_cpp", "jinja2", "prompt_toolkit"}),
        ("import localspec.sampling", {"llama_cpp", "jinja2"}),
        ("import localspec.backends.scripted", {"llama_cpp"}),
        ("import gguf_convert", {"numpy", "torch", "llama_cpp", "localspec.engine"}),
    ],
)
def test_import_is_light(statement: str, absent: set[str]) -> None:
    """Nothing heavy is loaded before it is needed."""
    assert not loaded_by(statement) & absent
