"""Laws of the settings file: what is read is what was written, and a change leaves the rest alone."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from localspec.cli import cli
from localspec.cli.settings_file import (
    FIRST_LINE,
    as_text,
    changed,
    line_of,
    parse,
    read_settings,
    settings_path,
    write,
)
from localspec.errors import InputError

HERE = Path("config.toml")
KEYS = st.sampled_from(["model", "temp", "top-k", "offline", "system", "ctx-size"])
VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
)


@given(st.lists(st.tuples(KEYS, st.none() | VALUES)))
def test_any_changes_read_back(changes):
    text, wanted = "", {}
    for key, value in changes:
        text = changed(text, key, value, HERE)
        wanted[key] = value
    assert parse(text, HERE) == {key: value for key, value in wanted.items() if value is not None}


MIXED = """\
# mine
model = "a # b"   # not '#'
top_k = 40\t# few

'temp' = 0.5
# end"""


@pytest.mark.parametrize(
    ("key", "value", "before", "after"),
    [
        ("model", "c", "model = \"a # b\"   # not '#'", "model = \"c\"   # not '#'"),
        ("top-k", 3, "top_k = 40\t# few", "top_k = 3\t# few"),
        ("top-k", None, "top_k = 40\t# few\n", ""),
        ("temp", 0.0, "'temp' = 0.5", "'temp' = 0.0"),
        ("seed", 7, "# end", "# end\nseed = 7\n"),
        ("seed", None, "", ""),
    ],
)
def test_a_change_keeps_comments_and_order(key, value, before, after):
    assert changed(MIXED, key, value, HERE) == MIXED.replace(before, after, 1)


def test_line_ends_stay():
    assert changed("a = 1\r\nb = 2 # c\r\n", "b", 3, HERE) == "a = 1\r\nb = 3 # c\r\n"


def test_a_new_file_says_what_it_is():
    assert changed("", "temp", 1.5, HERE) == f"{FIRST_LINE}\ntemp = 1.5\n"


def test_a_value_of_several_lines_is_changed_whole():
    text = 'system = """\ntemp = 1\n"""\nmodel = """x\ny"""\n'
    assert changed(text, "model", "z", HERE) == 'system = """\ntemp = 1\n"""\nmodel = "z"\n'
    assert changed(text, "temp", 2, HERE) == f"{text}temp = 2\n"


def test_a_line_inside_a_text_is_no_setting():
    assert line_of('system = """\ntemp = 1\n"""\n\n# more\ntemp = 2\n', "temp") == 6


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("temp = \n", 1),
        ("a = 1\na = 2\n", 2),
        ("a = 1\n\nb", 3),
        ('a = 1\n"""', 2),
        ("a = 1\n[table]\nb = 1\n", 2),
        ("a = 1\nb = [1]\n", 2),
        ("\nday = 2020-01-01\n", 2),
        ("top-k = 1\ntop_k = 2\n", 1),
        ("a = 1\nb = [[[1,\n\n", 2),
    ],
)
def test_damage_is_one_sentence_with_the_line(text, line):
    with pytest.raises(InputError, match=rf"config.toml is damaged at line {line}: [^\n]*; mend it with `localspec"):
        parse(text, HERE)


def test_deep_nesting_is_damage():
    with pytest.raises(InputError, match="damaged at line 1"):
        parse("a = " + "[" * 100_000, HERE)


def test_bytes_that_are_no_utf8_are_damage(tmp_path):
    file = tmp_path / "config.toml"
    file.write_bytes(b"a = 1\nb = '\xe9'\n")
    with pytest.raises(InputError, match="damaged at line 2: it is not valid UTF-8"):
        read_settings(file)


def test_what_cannot_be_a_settings_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_settings(tmp_path)
    (tmp_path / "large").write_bytes(b"#" * (2 << 20))
    with pytest.raises(InputError, match="more than 64 KiB"):
        read_settings(tmp_path / "large")


def test_no_file_and_a_byte_order_mark_are_no_text(tmp_path):
    assert read_settings(tmp_path / "none") == ""
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbftemp = 1")
    assert parse(read_settings(tmp_path / "bom"), HERE) == {"temp": 1}


def test_settings_in_a_folder_that_may_not_be_entered_are_none(tmp_path, monkeypatch):
    """A service may run as another user than the one whose home it has."""
    real = os.stat

    def refuse(path, *args, **options):
        if str(path).startswith(str(tmp_path / "home")):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(tmp_path / "home" / "config.toml"))
    assert read_settings(tmp_path / "home" / "config.toml") == ""
    done = CliRunner().invoke(cli, ["config"])
    assert done.exit_code == 0, done.output
    assert "does not exist yet" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="links and permissions differ there")
def test_writing_keeps_links_and_permissions(tmp_path):
    real, link = tmp_path / "dotfiles" / "config.toml", tmp_path / "config.toml"
    real.parent.mkdir()
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    write(link, "new")
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "config.toml"
    write(file, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(file, "new")
    assert (file.read_text(), os.listdir(tmp_path)) == ("old", ["config.toml"])


def test_the_place_is_the_platform_s_or_the_one_named(monkeypatch, tmp_path):
    monkeypatch.setenv("LOCALSPEC_CONFIG", str(tmp_path / "mine.toml"))
    assert settings_path() == tmp_path / "mine.toml"
    monkeypatch.delenv("LOCALSPEC_CONFIG")
    assert settings_path().parts[-2:] == ("localspec", "config.toml")


def test_lines_are_found_whatever_the_spelling():
    assert [line_of(MIXED, key) for key in ("model", "top-k", "temp", "seed")] == [2, 3, 5, 1]


@pytest.mark.parametrize(("value", "text"), [(True, "true"), (False, "false"), (1.5, "1.5"), (3, "3"), ("x", "x")])
def test_text_is_what_a_flag_takes(value, text):
    assert as_text(value) == text
