"""Work that is done one thing after another under a progress bar, and of which Ctrl-C leaves what was finished."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from localspec.cli.errors import tell
from localspec.cli.terminal.interrupt import listening, silent_keys
from localspec.cli.terminal.progress import Progress

_Item = TypeVar("_Item")


def collect(
    label: str,
    make: Callable[[Callable[[], None]], Iterator[_Item]],
    total: int,
    what: str,
    told: Callable[[int, _Item], str] | None = None,
) -> tuple[list[_Item], bool]:
    """All of ``total`` items that ``make(check)`` yields, and whether it came to its end.

    ``check`` raises where Ctrl-C was pressed; ``what`` names the items. Where there is no terminal to show a bar,
    ``told`` gives a line for each.
    """
    found: list[_Item] = []
    with silent_keys(), Progress(label, sys.stderr) as bar, listening() as stop:
        try:
            for item in make(stop.check):
                found.append(item)
                bar.count(len(found), total)
                if told is not None and not sys.stderr.isatty():
                    tell(told(len(found), item))
                stop.check()
        except KeyboardInterrupt:
            bar.end()
            tell(f"interrupted after {len(found)} of {total} {what}.")
            return found, False
    return found, True
