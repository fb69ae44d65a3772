"""The loop: draft → verify → accept → rewind.

It is a coroutine: it yields a :class:`Pass` where the target has to decode and is sent the rows. So the same loop
serves one sequence (:func:`drive`) and a scheduler of many.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from localspec.control.base import Budget, Control, LazyConfidence
from localspec.draft.base import Draft, Drafter, Prefix
from localspec.generation.accept import Accepted, accept
from localspec.generation.guard import NO_GUARD, Guard
from localspec.generation.logprobs import TokenLogprobs, token_logprobs
from localspec.params import MAX_DRAFT
from localspec.protocols import Context, Outputs, Rows
from localspec.sampling import Sampler

T = TypeVar("T")


class Cancelled(Exception):  # noqa: N818 - not an error
    """Thrown into a coroutine in place of the rows of a pass, to end it."""


class Pass(NamedTuple):
    """Request to decode ``tokens`` in one pass of the target, answered with the logits that ``outputs`` selects."""

    tokens: Sequence[int]
    outputs: Outputs


class Step(NamedTuple):
    """Result of one round of the loop.

    ``tokens``: the first ``accepted`` tokens of the ``draft``, one recovered or bonus token, then ``forced`` tokens
    that the grammar allows no alternative to. ``near_tie``: a single-row pass decided one of them. ``logprobs`` run
    parallel to the tokens before the forced ones, where requested.
    """

    tokens: tuple[int, ...]
    accepted: int
    draft: Draft
    forced: int = 0
    near_tie: bool = False
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def proposed(self) -> int:
        """Draft tokens without padding."""
        return len(self.draft.tokens) - self.draft.padding


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
    guard: Guard = NO_GUARD
    logprobs: int | None = None


def decode(
    target: Context, prefix: Prefix, rows: Rows, drafters: Sequence[Drafter], rules: Rules
) -> Generator[Pass | Step, Rows, None]:
    """Yield steps without end, from the logits ``rows`` of a prefilled ``prefix``. The caller stops it."""
    control, sampler = rules.control, prefix.sampler
    draft, budget, noise, seconds = Draft(), None, 0.0, 0.0
    while True:
        found = accept(draft.tokens, rows, sampler, prefix.tokens, rules.is_end, noise=noise, logprobs=rules.logprobs)
        if found.near_tie:
            found = yield from decide_alone(target, prefix, draft, found, rules.logprobs)
        if rules.reads_hidden:
            prefix.hidden = target.hidden()[0 if found.near_tie else len(found.tokens) - 1].copy()
        prefix.tokens.extend(found.tokens)
        target.rewind(len(prefix.tokens) - 1)
        forced = forced_run(prefix, rules)
        prefix.tokens.extend(forced)
        if budget is not None:
            confidence = None if found.near_tie else lazy_confidence(sampler, rows, found)
            control.learn(draft, found.accepted, budget, seconds, confidence)
        yield Step((*found.tokens, *forced), found.accepted, draft, len(forced), found.near_tie, found.logprobs)
        budget = budget_after(target, prefix, rules)
        draft = control.draft(prefix, drafters, budget) if budget.max_draft > 0 and drafters else Draft()
        noise = rules.guard.noise_of(budget.pending + len(draft.tokens), sampler.params.greedy)
        before = target.decode_s
        rows = yield verify(target, prefix, draft)
        seconds = target.decode_s - before


def verify(target: Context, prefix: Prefix, draft: Draft) -> Pass:
    """Pass over ``[last, *draft]``, k draft tokens. Row *i* of its logits (k + 1, n_vocab) follows the first *i*."""
    pending = prefix.tokens[len(target.tokens) :]
    return Pass((*pending, *draft.tokens), 1 + len(draft.tokens))


def lazy_confidence(sampler: Sampler, rows: Rows, found: Accepted) -> LazyConfidence:
    """Confidence of the target in the first token of a step, computed when called, before the next pass."""
    return lambda: sampler.confidence(rows[0], found.tokens[0])


def budget_after(target: Context, prefix: Prefix, rules: Rules) -> Budget:
    """Limits of the next pass: the answer's budget, the guard and the user's ``draft_max``."""
    cached, left = len(target.tokens), rules.left()
    pending = len(prefix.tokens) - cached
    return Budget(pending, min(rules.draft_max, rules.guard.widest - pending, left - 1), left, cached)


def forced_run(prefix: Prefix, rules: Rules) -> tuple[int, ...]:
    """Tokens that the grammar allows no alternative to. The next pass decodes them with what follows.

    None where log probabilities are requested, which need a row for every token.
    """
    constraint = prefix.sampler.constraint
    if constraint is None or rules.logprobs is not None or rules.is_end(prefix.tokens[-1]):
        return ()
    forced = constraint.forced(prefix.tokens)[: rules.guard.widest - 1]
    if forced:
        prefix.hidden = None  # the row before the last token is not decoded yet
    return forced


def decide_alone(
    target: Context, prefix: Prefix, draft: Draft, found: Accepted, logprobs: int | None
) -> Generator[Pass, Rows, Accepted]:
    """``found`` and the token after it, chosen from the row of a single-token pass, as plain decoding would."""
    before = [*prefix.tokens, *found.tokens]
    target.rewind(len(before) - 1)
    rows = yield Pass(before[-1:], "all")
    token = prefix.sampler.pick(rows[0], prefix.tokens, found.tokens)
    right = found.accepted < len(draft.tokens) and draft.tokens[found.accepted] == token
    report = () if logprobs is None else (token_logprobs(rows[0], token, logprobs),)
    return Accepted((*found.tokens, token), found.accepted + right, True, (*found.logprobs, *report))


def advance(coroutine: Generator[Pass | T, Rows, None]) -> Generator[Pass, Rows, T]:
    """Run an endless ``coroutine`` to its next result, which is returned; its passes are yielded."""
    item = next(coroutine)
    while isinstance(item, Pass):
        item = coroutine.send((yield item))
    return item


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
        rows = target.decode(item.tokens, item.outputs) if isinstance(item, Pass) else None
        item = next(coroutine, None) if rows is None else coroutine.send(rows)
    else:
        return
    rest: Pass | T | None = coroutine.throw(Cancelled)
    while rest is not None and not isinstance(rest, Pass):
        yield rest
        rest = next(coroutine, None)
