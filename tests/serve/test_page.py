"""Laws of the page: it is complete, it runs nothing but its own files, and it needs no key to be seen."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import localspec.serve.page
from localspec.serve.access import Access
from tests.helpers.server import Running, engine_of, replying, serving

FOLDER = Path(localspec.serve.page.__file__).parent
OURS = [*FOLDER.glob("*.js"), *FOLDER.glob("*.css"), *FOLDER.glob("*.html")]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(engine_of(replying("x")), Access(keys=("key",))) as running:
        yield running


def test_everything_that_it_names_is_served(server: Running) -> None:
    """Scripts as scripts, with a policy that allows no others."""
    page = server.ask("/")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    named = set(re.findall(r'(?:src|href)="(page/[^"]+)"', page.body.decode()))
    for path in FOLDER.glob("*.js"):
        named |= {f"page/{name}" for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8"))}
    assert len(named) > 6
    for name in named:
        answer = server.ask(f"/{name}")
        assert answer.status == 200
        kind = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}[Path(name).suffix]
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert server.ask("/page/../service.py").status == server.ask("/page/vendor/no.js").status == 404


def test_models_stay_behind_the_key(server: Running) -> None:
    """The page asks for it."""
    assert server.ask("/v1/models").status == 401


def test_it_asks_for_paths_that_exist(server: Running) -> None:
    """Relative, so that a proxy may put it anywhere."""
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.js"))
    paths = set(re.findall(r'(?:get|fetch)\([`"]([\w/]+)', text))
    assert paths == {"v1/models", "props", "v1/chat/completions"}
    for path in paths:
        assert server.ask(f"/{path}", Authorization="Bearer key").status in (200, 405)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.name)
def test_nothing_is_inline_or_from_elsewhere(path: Path) -> None:
    """A policy would block it."""
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|<style|<script>|\sstyle=|\son\w+=\"|eval\(", text)


def test_every_element_that_the_script_names_is_there() -> None:
    """By its id."""
    named = set(re.findall(r'\$\("([\w-]+)"\)', (FOLDER / "app.js").read_text(encoding="utf-8")))
    page = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert len(named) > 15
    assert named <= set(re.findall(r'id="([\w-]+)"', page))
