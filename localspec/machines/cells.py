"""The passes that a cache consists of, so that a new process can fill it again with the same cells. Pure.

A cell may depend on the pass that computed it. Then passes are repeated as they were, and what was removed of them is
removed again; elsewhere few wide passes make the same cells sooner.
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

    def replay(self, widest: int = 0) -> Iterator[tuple[object, ...]]:
        """The requests that fill an empty cache: verb, then what follows the number of the context.

        ``widest``: most tokens of a pass where cells do not depend on passes, 0 where they do.
        """
        for sequence, filled in sorted(self._filled.items()):
            for one in _merged(filled, widest) if widest else filled:
                yield from one.replay(sequence)


def _merged(filled: Sequence[_Filled], widest: int) -> Iterator[_Filled]:
    """The same cells by passes of up to ``widest`` tokens. Saved states stay."""
    tokens, start = list[int](), 0
    for one in [*filled, None]:
        if one is not None and one.state is None:
            start = start if tokens else one.start
            tokens += one.tokens[: one.end - one.start]
            continue
        for at in range(0, len(tokens), widest):
            part = tuple(tokens[at : at + widest])
            yield _Filled(start + at, start + at + len(part), part)
        tokens.clear()
        if one is not None:
            yield one
