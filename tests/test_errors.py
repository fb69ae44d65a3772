"""Laws of the exception tree."""

from __future__ import annotations

import inspect
import re

import pytest

import localspec
from localspec import errors

CLASSES = {name: kind for name, kind in vars(errors).items() if inspect.isclass(kind)}


def _drawn() -> dict[str, str]:
    """Class → parent, as the module's docstring draws them."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            depth = len(found[1]) // 4
            path = [*path[:depth], found[2]]
            parents[found[2]] = path[depth - 1] if depth else "Exception"
    return parents


def test_tree_is_as_drawn() -> None:
    """The docstring's tree names every class below its base, and no other."""
    assert _drawn() == {name: kind.__mro__[1].__name__ for name, kind in CLASSES.items()}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_exit_code_is_two_for_wrong_usage_and_one_for_the_rest(name: str) -> None:
    """Only a value that nothing could make right is wrong usage."""
    assert CLASSES[name].exit_code == (2 if name == "UsageError" else 1)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_error_is_public_and_documented(name: str) -> None:
    """A caller can catch each by its name in the package."""
    assert getattr(localspec, name) is CLASSES[name]
    assert CLASSES[name].__doc__


def test_usage_error_is_a_value_error() -> None:
    """Code without an import of localspec can catch it."""
    assert issubclass(errors.UsageError, ValueError)
