"""The loop: draft → verify → accept → rewind."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from localspec.control.base import Budget, Control, LazyConfidence
from localspec.draft.base import Draft, Drafter, Prefix, common_length
from localspec.generation.accept import Accepted, accept
from localspec.generation.guard import NO_GUARD, Guard
from localspec.generation.logprobs import TokenLogprobs, token_logprobs
from localspec.params import MAX_DRAFT
from localspec.protocols import Context, Rows
from localspec.sampling import Sampler
from localspec.types import Progress


@dataclass(frozen=True)
class Step:
    """What one pass of the loop added: ``tokens``.

    It begins with the first ``accepted`` tokens of the ``draft``, and ends with ``forced`` tokens that a grammar left
    no choice about. ``near_tie``: a row of its own decided one. ``logprobs`` go with them, where asked for.
    """

    tokens: tuple[int, ...]
    accepted: int
    draft: Draft
    forced: int = 0
    near_tie: bool = False
    logprobs: tuple[TokenLogprobs, ...] = ()

    @property
    def proposed(self) -> int:
        """Draft tokens that somebody proposed."""
        return len(self.draft.tokens) - self.draft.padding


@dataclass(frozen=True)
class Rules:
    """What does not change from step to step.

    ``left`` says how many tokens the answer may still have, ``draft_max`` how many may be drafted in a step.
    """

    is_end: Callable[[int], bool]
    left: Callable[[], int]
    control: Control
    draft_max: int = MAX_DRAFT
    reads_hidden: bool = False
    guard: Guard = NO_GUARD
    logprobs: int | None = None


def prefill(target: Context, prefix: Prefix, batch: int, progress: Progress | None = None) -> tuple[Rows, int]:
    """Decode what the cache lacks of ``prefix``; returns the last token's logits (1, n_vocab) and the tokens reused.

    The last token is always decoded, for its logits.
    """
    tokens = prefix.tokens
    target.rewind(min(common_length(target.tokens, tokens), len(tokens) - 1))
    cached = len(target.tokens)
    for at in range(cached, len(tokens), batch):
        if progress is not None:
            progress(at - cached, len(tokens) - cached)
        end = min(at + batch, len(tokens))
        rows = target.decode(tokens[at:end], "last" if end == len(tokens) else "none")
    return rows, cached


def decode(
    target: Context, prefix: Prefix, rows: Rows, drafters: Sequence[Drafter], rules: Rules
) -> Generator[Step, None, None]:
    """Yield steps for ever, from the logits ``rows`` of a prefilled ``prefix``; the caller stops when it has enough."""
    draft, noise, sampler, control = Draft(), 0.0, prefix.sampler, rules.control
    budget, took = None, 0.0
    while True:
        found = accept(draft.tokens, rows, sampler, prefix.tokens, rules.is_end, noise=noise, logprobs=rules.logprobs)
        if found.near_tie:
            found = decide_alone(target, prefix, draft, found, rules.logprobs)
        if rules.reads_hidden:
            prefix.hidden = target.hidden()[0 if found.near_tie else len(found.tokens) - 1].copy()
        prefix.tokens.extend(found.tokens)
        target.rewind(len(prefix.tokens) - 1)
        forced = forced_run(prefix, rules)
        prefix.tokens.extend(forced)
        if budget is not None:
            control.learn(
                draft, found.count, budget, took, None if found.near_tie else lazy_confidence(sampler, rows, found)
            )
        yield Step((*found.tokens, *forced), found.count, draft, len(forced), found.near_tie, found.logprobs)
        budget = budget_after(target, prefix, rules)
        draft = control.draft(prefix, drafters, budget) if budget.max_draft > 0 and drafters else Draft()
        noise = rules.guard.noise_of(budget.pending + len(draft.tokens), sampler.params.greedy)
        before = target.decode_s
        rows = verify(target, prefix, draft)
        took = target.decode_s - before


def verify(target: Context, prefix: Prefix, draft: Draft) -> Rows:
    """Logits (k + 1, n_vocab) for ``[last, *draft]``, k draft tokens: row *i* is what follows the first *i*."""
    missing = prefix.tokens[len(target.tokens) :]
    return target.decode((*missing, *draft.tokens), 1 + len(draft.tokens))


def lazy_confidence(sampler: Sampler, rows: Rows, found: Accepted) -> LazyConfidence:
    """How likely the first of the ``found`` tokens was to the target, to be asked before the next pass."""
    return lambda: sampler.confidence(rows[0], found.tokens[0])


def budget_after(target: Context, prefix: Prefix, rules: Rules) -> Budget:
    """What the next pass may hold: within the budget, the guard and the user's limit."""
    cached, left = len(target.tokens), rules.left()
    missing = len(prefix.tokens) - cached
    return Budget(missing, min(rules.draft_max, rules.guard.widest - missing, left - 1), left, cached)


def forced_run(prefix: Prefix, rules: Rules) -> tuple[int, ...]:
    """Tokens that the grammar leaves no choice about: the next pass decodes them along with what follows.

    None where log probabilities are asked for, which need a row for every token.
    """
    constraint = prefix.sampler.constraint
    if constraint is None or rules.logprobs is not None or rules.is_end(prefix.tokens[-1]):
        return ()
    forced = constraint.forced(prefix.tokens)[: rules.guard.widest - 1]
    if forced:
        prefix.hidden = None  # the row before the last token is not decoded yet
    return forced


def decide_alone(target: Context, prefix: Prefix, draft: Draft, found: Accepted, logprobs: int | None) -> Accepted:
    """``found`` and the token after it, decided by a pass over one token: the row that plain decoding would look at."""
    before = [*prefix.tokens, *found.tokens]
    target.rewind(len(before) - 1)
    row = target.decode(before[-1:])[0]
    token = prefix.sampler.pick(row, prefix.tokens, found.tokens)
    right = found.count < len(draft.tokens) and draft.tokens[found.count] == token
    report = () if logprobs is None else (token_logprobs(row, token, logprobs),)
    return Accepted((*found.tokens, token), found.count + right, True, (*found.logprobs, *report))
