"""Laws of all scripts: each can be imported, and nothing edits the module path."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

SCRIPTS = sorted(path.relative_to(ROOT) for path in (ROOT / "scripts").rglob("*.py") if path.name != "__init__.py")
#: Packages that only some scripts need.
OPTIONAL = {"torch", "transformers", "tokenizers", "safetensors", "psutil"}


@pytest.mark.parametrize("path", SCRIPTS, ids=str)
def test_script_can_be_imported(path: Path) -> None:
    """With the names that the packages have now; skipped without an optional package."""
    name = ".".join(path.with_suffix("").parts)
    try:
        assert import_module(name).__doc__
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"needs {error.name}")


def test_nothing_edits_the_module_path() -> None:
    """Scripts are modules; run them with ``python -m`` from the root."""
    files = [ROOT / path for path in SCRIPTS] + list((ROOT / "tests").rglob("*.py"))
    edit = "sys.path" + "."
    assert [path for path in files if edit in path.read_text(encoding="utf-8")] == []
