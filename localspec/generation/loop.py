"""The loop: draft → verify → accept → rewind.

It is a coroutine: it yields a :class:`Pass` where the target has to decode and is sent the rows. So the same loop
serves one sequence (:func:`drive`) and a scheduler of many.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np

from localspec.control.base import Budget, Control, LazyConfidence
from localspec.draft.base import Draft, Drafter, Prefix
from localspec.errors import BackendError
from localspec.generation.accept import Accepted, accept
from localspec.generation.logprobs import TokenLogprobs
from localspec.generation.passes import UNPADDED, PassShape
from localspec.params import MAX_DRAFT
from localspec.protocols import Context, MediaContext, Outputs, Piece, Rows, output_rows
from localspec.sampling import Sampler

T = TypeVar("T")
_NO_ROWS = np.empty((0, 0), np.float32)


class Cancelled(Exception):  # noqa: N818 - not an error
    """Thrown into a coroutine in place of the rows of a pass, to end it."""


class Pass(NamedTuple):
    """Request to decode ``tokens`` in one pass of the target, answered with the logits that ``outputs`` selects.

    The pass is padded to ``width`` rows, see :func:`execute`. ``piece``: what ``tokens`` are the cells of, if they are
    a picture or a sound; it has no rows. ``gains``: the seconds that each of the last tokens is expected to save. These
    may be left out, and their rows then.
    """

    tokens: Sequence[int]
    outputs: Outputs
    width: int = 1
    piece: Piece | None = None
    gains: Sequence[float] = ()

    def cut(self, rows: int) -> Pass:
        """Return the same without the tokens from row ``rows`` on, of which there are ``outputs``."""
        cut = len(self.tokens) - rows
        if cut <= 0 or not isinstance(self.outputs, int):
            return self
        return self._replace(tokens=self.tokens[:rows], outputs=self.outputs - cut, gains=self.gains[:-cut])


class Step(NamedTuple):
    """Result of one round of the loop.

    ``tokens``: the first ``accepted`` tokens of the ``draft``, one recovered or bonus token, then ``forced`` tokens
    that the grammar allows no alternative to. ``logprobs`` run parallel to the tokens before the forced ones, where
    requested.
    """

    tokens: tuple[int, ...]
    accepted: int
    draft: Draft
    forced: int = 0
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def proposed(self) -> int:
        """Draft tokens without padding."""
        return len(self.draft.tokens) - self.draft.padding


class Load:
    """Rows of other sequences in the passes of this one: none. A scheduler has its own."""

    #: In the last pass.
    last = 0

    def coming(self) -> tuple[int, Callable[[int], float] | None]:
        """Return how many the next pass is expected to have, and the price of rows; see :class:`Budget`."""
        return 0, None


ALONE = Load()


@dataclass(frozen=True)
class Rules:
    """Settings that hold for all steps of an answer.

    ``left`` returns how many tokens the answer may still have. ``draft_max``: most draft tokens of a step.
    """

    is_end: Callable[[int], bool]
    left: Callable[[], int]
    control: Control
    draft_max: int = MAX_DRAFT
    reads_hidden: bool = False
    passes: PassShape = UNPADDED
    logprobs: int | None = None
    load: Load = ALONE


def decode(
    target: Context, prefix: Prefix, rows: Rows, drafters: Sequence[Drafter], rules: Rules
) -> Generator[Pass | Step, Rows, None]:
    """Yield steps without end, from the logits ``rows`` of a prefilled ``prefix``. The caller stops it."""
    control, sampler = rules.control, prefix.sampler
    draft, budget, seconds, before_rows = Draft(), None, 0.0, 0
    while True:
        found = accept(draft.tokens, rows, sampler, prefix.tokens, rules.is_end, rules.logprobs)
        if rules.reads_hidden:
            prefix.hidden = target.hidden()[before_rows + len(found.tokens) - 1].copy()
        prefix.tokens.extend(found.tokens)
        target.rewind(len(prefix.tokens) - 1)
        forced = forced_run(prefix, rules)
        prefix.tokens.extend(forced)
        if budget is not None:
            control.learn(draft, found.accepted, budget, seconds, lazy_confidence(sampler, rows, found))
        yield Step((*found.tokens, *forced), found.accepted, draft, len(forced), found.logprobs)
        budget = budget_after(target, prefix, rules)
        draft = control.draft(prefix, drafters, budget) if budget.max_draft > 0 and drafters else Draft()
        if len(draft.tokens) > target.rollback:
            target.mark(brief=True)
        before = target.decode_s
        rows = yield verify(target, prefix, draft, rules)
        draft = draft.cut(len(rows) - 1)
        seconds = target.decode_s - before
        before_rows = budget.pending - 1 if rules.passes.width > 1 else 0
        if rules.load.last != budget.others:
            budget = replace(budget, others=rules.load.last)


def verify(target: Context, prefix: Prefix, draft: Draft, rules: Rules) -> Pass:
    """Pass over ``[last, *draft]``, k draft tokens. Row *i* of its logits (k + 1, n_vocab) follows the first *i*."""
    pending = prefix.tokens[len(target.tokens) :]
    return Pass((*pending, *draft.tokens), 1 + len(draft.tokens), rules.passes.width, gains=draft.gains)


def lazy_confidence(sampler: Sampler, rows: Rows, found: Accepted) -> LazyConfidence:
    """Confidence of the target in the first token of a step, computed when called, before the next pass."""
    return lambda: sampler.confidence(rows[0], found.tokens[0])


def budget_after(target: Context, prefix: Prefix, rules: Rules) -> Budget:
    """Limits of the next pass: the answer's budget, the widest pass and the user's ``draft_max``."""
    cached, left = len(target.tokens), rules.left()
    pending = len(prefix.tokens) - cached
    most = min(rules.draft_max, rules.passes.room(cached) - pending, left - 1)
    return Budget(pending, most, left, cached, *rules.load.coming(), rollback=target.rollback)


def forced_run(prefix: Prefix, rules: Rules) -> tuple[int, ...]:
    """Tokens that the grammar allows no alternative to. The next pass decodes them with what follows.

    None where log probabilities are requested, which need a row for every token.
    """
    constraint = prefix.sampler.constraint
    if constraint is None or rules.logprobs is not None or rules.is_end(prefix.tokens[-1]):
        return ()
    forced = constraint.forced(prefix.tokens)[: rules.passes.room(len(prefix.tokens) - 1) - 1]
    if forced:
        prefix.hidden = None  # the row before the last token is not decoded yet
    return forced


def advance(coroutine: Generator[Pass | T, Rows, None]) -> Generator[Pass, Rows, T]:
    """Run an endless ``coroutine`` to its next result, which is returned; its passes are yielded."""
    item = next(coroutine)
    while isinstance(item, Pass):
        item = coroutine.send((yield item))
    return item


def execute(target: Context, item: Pass) -> Rows:
    """Decode a pass. One with a ``width`` has exactly so many rows: dummy tokens fill it, and do not stay cached.

    All its rows are computed, also those that ``outputs`` leaves out: the head's kernels depend on their number, too.
    """
    tokens, outputs, width, piece, _ = item
    if piece is not None:
        if not isinstance(target, MediaContext):
            raise BackendError("this kind of context cannot decode pictures or sounds.")
        target.decode_media(tokens, piece.encode(), causal=piece.causal)
        return _NO_ROWS
    if width == 1:
        return target.decode(tokens, outputs)
    start, count = len(target.tokens), len(tokens)
    rows = target.decode([*tokens, *[tokens[-1]] * (width - count)], "all")
    target.rewind(start + count)
    return rows[count - output_rows(outputs, count) : count]


def drive(
    target: Context, coroutine: Generator[Pass | T, Rows, None], cancelled: Callable[[], bool] = lambda: False
) -> Generator[T, None, None]:
    """Run a ``coroutine`` on a context of its own: decode its passes, yield its results. It ends after a result.

    Once ``cancelled()`` it throws :class:`Cancelled` into the coroutine, which requests no pass any more.
    """
    item = next(coroutine, None)
    while item is not None:
        if not isinstance(item, Pass):
            yield item
        if cancelled():
            break
        rows = execute(target, item) if isinstance(item, Pass) else None
        item = next(coroutine, None) if rows is None else coroutine.send(rows)
    else:
        return
    rest: Pass | T | None = coroutine.throw(Cancelled)
    while rest is not None and not isinstance(rest, Pass):
        yield rest
        rest = next(coroutine, None)
