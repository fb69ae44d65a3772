"""The passes that a cache consists of, so that a new process can fill it again with the same cells. Pure.

A cell may depend on the pass that computed it, so passes are repeated as they were, and what was removed of them is
removed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from localspec.llama.passes import BatchPart
from localspec.machines.jobs import Job

#: End of cells whose number is not known: beyond any.
_ALL = 2**31 - 1


@dataclass(frozen=True)
class _Filled:
    """Cells of a sequence from ``start`` to ``end``, made by a pass over ``tokens`` or taken from a saved ``state``."""

    start: int
    end: int
    tokens: tuple[int, ...] = ()
    state: bytes | None = None

    def replay(self, sequence: int) -> Iterator[tuple[object, ...]]:
        """The requests that make these cells."""
        if self.state is None:
            yield "run", Job(sequence, (BatchPart(self.tokens, self.start, range(0)),))
        else:
            yield "call", "set_state", sequence, self.state
        if self.end < (_ALL if self.state is not None else self.start + len(self.tokens)):
            yield "call", "remove", sequence, self.end


class Cells:
    """The filled cells of every sequence."""

    def __init__(self) -> None:
        self._filled: dict[int, list[_Filled]] = {}

    def add(self, sequence: int, tokens: Sequence[int], start: int) -> None:
        """A pass over ``tokens`` at position ``start`` was computed."""
        made = _Filled(start, start + len(tokens), tuple(tokens))
        self._filled.setdefault(sequence, []).append(made)

    def remove(self, sequence: int, first: int) -> None:
        """Cells from position ``first`` on (−1: all) were removed."""
        kept = [one for one in self._filled.get(sequence, []) if one.start < first]
        self._filled[sequence] = [replace(one, end=min(one.end, first)) for one in kept]

    def clear(self) -> None:
        self._filled.clear()

    def copy(self, source: int, target: int) -> None:
        self._filled[target] = list(self._filled.get(source, []))

    def set_state(self, sequence: int, state: bytes) -> None:
        """The cells of a sequence were replaced by saved ones."""
        self._filled[sequence] = [_Filled(0, _ALL, state=state)]

    def replay(self) -> Iterator[tuple[object, ...]]:
        """The requests that fill an empty cache: verb, then what follows the number of the context."""
        for sequence, filled in sorted(self._filled.items()):
            for one in filled:
                yield from one.replay(sequence)
