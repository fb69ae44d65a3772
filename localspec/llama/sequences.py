"""Several sequences in one cache of llama.cpp, and passes of several of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import numpy as np

from localspec.errors import BackendError
from localspec.llama.context import LlamaContext
from localspec.llama.passes import BatchPart
from localspec.protocols import Outputs, Rows, output_rows


class LlamaSequences:
    """The sequences of a cache; see :class:`localspec.protocols.Sequences`.

    llama.cpp computes rows of several sequences in one pass only if the sequences are consecutive and have equally many
    rows. Recurrent states cannot lose the padding of such a pass, so they are decoded alone.
    """

    def __init__(self, contexts: Sequence[LlamaContext]) -> None:
        """``contexts``: one that was made for several sequences, and its neighbours in order."""
        self.contexts = contexts

    def decode(self, first: int, width: int, passes: Sequence[tuple[Sequence[int], Outputs] | None]) -> list[Rows]:
        contexts = self.contexts[first : first + len(passes)]
        parts = [_part(context, width, item) for context, item in zip(contexts, passes, strict=True)]
        _check(contexts[0], width * len(parts))
        began = perf_counter()
        for context in contexts:
            context._unfinished = True
        native, n_out = contexts[0]._native, sum(len(part.outputs) for part in parts)
        native.run(native.fill_neighbours(first, parts))
        rows = native.rows(n_out)
        suppressed = contexts[0].model.vocabulary.suppressed
        if suppressed.size:  # tokens that the model's file forbids
            rows[:, suppressed] = -np.inf
        seconds, found, at, at_row = perf_counter() - began, list[Rows](), 0, 0
        for context, part, item in zip(contexts, parts, passes, strict=True):
            n = len(part.outputs)
            if item is not None:
                found.append(rows[at : at + n])
                context._first_out, context._n_out = at, n
                context.decode_s += seconds
                context._keep_rows(len(item[0]), at_row)
                context.tokens.extend(item[0])
            context.rewind(len(context.tokens))  # the padding
            at, at_row = at + n, at_row + width
        return found

    def copy(self, source: int, target: int, length: int) -> None:
        given, taken = self.contexts[source], self.contexts[target]
        given._settle()
        taken._unfinished = True
        taken.tokens.clear()
        taken.kept_rows.cut(0)
        given._native.copy(given.sequence, taken.sequence)
        if taken._recurrent is not None and given._recurrent is not None:
            taken._recurrent.copy_from(given._recurrent, len(given.tokens))
            taken._unfinished = False
        taken.tokens.extend(given.tokens)
        taken._shortest = given._shortest
        taken.rewind(length)


def _part(context: LlamaContext, width: int, item: tuple[Sequence[int], Outputs] | None) -> BatchPart:
    """Rows of one sequence, padded to ``width``. No row sees the padding behind it."""
    context._settle()
    start = len(context.tokens)
    if start + width > context._native.cells:
        raise BackendError(f"cannot decode {width} tokens at {start}: cells {context._native.cells}.")
    tokens, outputs = item or ((), 0)
    n = len(tokens)
    filler = tokens[-1] if tokens else 0
    return BatchPart([*tokens, *[filler] * (width - n)], start, range(n - output_rows(outputs, n), n))


def _check(context: LlamaContext, rows: int) -> None:
    most = min(context.batch, context._width, context.pass_width)
    if rows > most:
        raise BackendError(f"cannot decode {rows} rows of several sequences at once; the most is {most}.")
