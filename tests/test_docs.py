"""Laws of the pages: commands, flags and links exist; Python and shell examples run.

``scripts/check/docs.py`` runs every command of every page, with a Hub on this machine; what takes long is left to it.
"""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from localspec.cli import COMMANDS, cli
from localspec.cli.chat.slash_commands import COMMANDS as IN_CHAT
from localspec.models import drafter_kinds
from scripts.check import drafters
from tests.helpers import pages

_LINES = [(page, line) for page in pages.PAGES for line in pages.lines(page)]
_PROGRAMS = {"localspec", "pip", "cat", "echo", "python3", ".", "scripts/demo", "scripts/test"}
_QUICK = {"chat", "generate", "inspect", "devices", "config"}
_NOT_OURS = {"--install", "--extra-index-url", "--only-binary", "--no-index", "--find-links"}
ids = [f"{Path(page).stem}: {line}" for page, line in _LINES]


def program() -> click.Context:
    return click.Context(cli, info_name="localspec", **cli.context_settings)


def command(name: str) -> click.Command:
    found = cli.get_command(program(), name)
    assert found is not None, f"there is no command {name}"
    return found


@pytest.mark.parametrize(("page", "line"), _LINES, ids=ids)
def test_line_is_made_of_known_programs(page: str, line: str) -> None:
    """Ours, pip, and a few that every system has; scripts are files that can be run."""
    calls = pages.calls(line)
    assert calls
    for call in calls:
        assert call.words[0] in _PROGRAMS
        if call.words[0].startswith("scripts/"):
            assert os.access(pages.ROOT / call.words[0], os.X_OK)


@pytest.mark.parametrize(("page", "line"), [pair for pair in _LINES if pages.of_localspec(pair[1])])
def test_commands_parse(page: str, line: str) -> None:
    """By the program's own parser: commands, options and the number of arguments."""
    for call in pages.of_localspec(line):
        parse(cli, "localspec", call.words[1:])


def parse(group: click.Command, name: str, words: list[str], parent: click.Context | None = None) -> None:
    """Parse the words of a command, down through its groups."""
    if isinstance(group, click.Group) and words and not words[0].startswith("-"):
        context = click.Context(group, parent, info_name=name, **group.context_settings)
        sub = group.get_command(context, words[0])
        assert sub is not None, f"there is no command {words[0]}"
        parse(sub, words[0], words[1:], context)
    else:
        group.make_context(name, words, parent).close()


def run(call: pages.Call) -> str:
    """Return the output of a command on the built-in pair."""
    typed = pages.TYPED.get(call.words[1], "")
    if call.reads is not None:
        typed = Path(call.reads).read_text(encoding="utf-8")
    if call.source is not None:
        kind, *words = call.source.words
        typed = " ".join(words) + "\n" if kind == "echo" else Path(words[0]).read_text(encoding="utf-8")
    done = CliRunner().invoke(cli, call.words[1:], input=typed, env=call.environment)
    assert done.exit_code == 0, f"{call.words}: {done.output} {done.exception!r}"
    return done.stdout


@pytest.mark.parametrize("page", ["README.md", "docs/chat.md"])
def test_commands_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, in a folder where every file that they name is there."""
    pages.furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("LOCALSPEC_MAX_TOKENS", "16")
    calls = [call for line in pages.lines(page) for call in pages.of_localspec(pages.smaller(line))]
    quick = [call for call in calls if call.words[1] in _QUICK and not pages.on_the_hub(call)]
    assert quick
    for call in quick:
        assert run(call) or call.words[1:3] in (["config", "set"], ["config", "unset"]), call.words


@pytest.mark.parametrize("page", [page for page in pages.PAGES if pages.blocks(page, "python")])
def test_python_blocks_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each on its own, as it stands; what prints shows something."""
    pages.furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    for code in pages.blocks(page, "python"):
        exec(code, {})
        assert capsys.readouterr().out.strip() or not re.search(r"^print\(", code, re.MULTILINE)


def flags() -> set[str]:
    found = {"-h", "--version", "--debug", *_NOT_OURS}
    for name in COMMANDS:
        for parameter in command(name).params:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return found


@pytest.mark.parametrize("page", pages.PAGES)
def test_flags_in_the_text_exist(page: str) -> None:
    """Not only those of whole commands."""
    named = re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", pages.text_of(page))
    assert set(named) <= flags()


@pytest.mark.parametrize("page", [*pages.PAGES, "CHANGELOG.md", "docs/architecture.md", "docs/decisions.md"])
def test_paths_in_the_text_exist(page: str) -> None:
    """Of scripts, tests and the packages."""
    named = re.findall(r"`((?:scripts|tests|localspec|gguf_convert)/[\w./-]+)", pages.text_of(page))
    assert [path for path in named if "NAME" not in path and not (pages.ROOT / path).exists()] == []


@pytest.mark.parametrize("page", [*pages.PAGES, "CHANGELOG.md", "docs/architecture.md", "docs/decisions.md"])
def test_modules_in_the_text_exist(page: str) -> None:
    """Those that ``python -m`` runs."""
    named = re.findall(r"python3? -m ((?:scripts|localspec|gguf_convert)[\w.]*)", pages.text_of(page))
    assert [name for name in named if find_spec(name) is None] == []


def test_slash_commands_are_those_of_the_chat() -> None:
    """All of them are on the page, and no others."""
    named = set(re.findall(r"`(/[a-z]+)", pages.text_of("docs/chat.md")))
    assert named | {"/quit"} == set(IN_CHAT)


def anchors(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", pages.text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", pages.ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """To files of this repository, and to headings that they have."""
    for target in re.findall(r"\]\(([^)]+)\)", pages.text_of(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (pages.ROOT / page).parent / path if path else pages.ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(os.path.relpath(file, pages.ROOT)), target


def test_recommended_pairs_are_those_of_the_program() -> None:
    """Sizes and memory on the page are the ones that the first run shows."""
    table = "\n".join(pages.recommended_rows())
    assert table in pages.text_of("docs/pull.md"), f"the table of docs/pull.md should be\n{table}"


def test_architecture_names_every_room() -> None:
    """Each folder and file at the root of the package."""
    text = pages.text_of("docs/architecture.md")
    for path in (pages.ROOT / "localspec").iterdir():
        name = f"`{path.name}/`" if path.is_dir() else f"`{path.stem}`"
        assert path.name[0] in "_." or path.suffix == ".typed" or name in text, name


def test_every_page_is_linked_from_the_readme() -> None:
    """The README is the index."""
    readme = pages.text_of("README.md")
    assert all(f"({page})" in readme for page in pages.PAGES[1:])


@pytest.mark.parametrize("page", pages.ALL_PAGES)
def test_tests_in_the_text_exist(page: str) -> None:
    """Each that is named as `tests/file.py::test_name`."""
    for path, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", pages.text_of(page)):
        assert re.search(rf"^(?:async )?def {name}\(", pages.text_of(path), re.MULTILINE), f"{path}::{name}"


def test_every_report_of_a_user_has_a_law() -> None:
    """Twenty-five kinds."""
    rows = [line for line in pages.text_of("docs/data/user_reports.md").splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 25
    assert all("::test_" in row.rsplit("|", 2)[1] for row in rows)


def test_table_of_drafters_is_that_of_the_registry() -> None:
    """Each architecture is in the list of what llama.cpp can do with it once."""
    page = drafters.FILE.read_text(encoding="utf-8")
    assert drafters.render(page) == page
    assert not {*drafter_kinds.TAKES_BACK} & {*drafter_kinds.CHECKPOINTS_ONLY}
