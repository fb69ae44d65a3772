"""Items made one after another under a progress bar; Ctrl-C keeps the finished ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from localspec.cli.terminal.interrupt import catching_interrupts, silent_keys
from localspec.cli.terminal.notes import notice
from localspec.cli.terminal.progress import ProgressBar

_Item = TypeVar("_Item")


def collect(
    label: str,
    make: Callable[[Callable[[], None]], Iterator[_Item]],
    total: int,
    noun: str,
    line: Callable[[int, _Item], str] | None = None,
) -> tuple[list[_Item], bool]:
    """Collect the ``total`` items that ``make(check)`` yields, and return them and True if none is missing.

    ``check`` raises KeyboardInterrupt after Ctrl-C; ``noun`` names the items. Without a terminal for the bar,
    ``line(number, item)`` is printed for each item.
    """
    found: list[_Item] = []
    with silent_keys(), ProgressBar(label, sys.stderr) as bar, catching_interrupts() as interrupt:
        try:
            for item in make(interrupt.check):
                found.append(item)
                bar.count(len(found), total)
                if line is not None and not sys.stderr.isatty():
                    notice(line(len(found), item))
                interrupt.check()
        except KeyboardInterrupt:
            bar.end()
            notice(f"interrupted after {len(found)} of {total} {noun}.")
            return found, False
    return found, True
