"""The loop: draft → verify → accept → rewind."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from localspec.accept import accept
from localspec.backends.base import Context, Rows
from localspec.draft.base import Draft, Drafter, Prefix, common_length
from localspec.verify import verify

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Step:
    """What one pass of the loop added: ``tokens``, of which the first ``accepted`` of ``proposed`` were drafted."""

    tokens: tuple[int, ...]
    accepted: int
    proposed: int
    drafter: str


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
    target: Context,
    prefix: Prefix,
    rows: Rows,
    drafters: Sequence[Drafter],
    is_end: Callable[[int], bool],
    limit: Callable[[Drafter], int],
    reads_hidden: bool,
) -> Generator[Step, None, None]:
    """Yield steps for ever, from the logits ``rows`` of a prefilled ``prefix``; the caller stops when it has enough.

    ``limit`` says how far a drafter may draft now. The first drafter with a proposal drafts.
    """
    draft = Draft()
    while True:
        found = accept(draft.tokens, rows, prefix.sampler, len(prefix.tokens), is_end)
        if reads_hidden:
            prefix.hidden = target.hidden()[len(found.tokens) - 1].copy()
        prefix.tokens.extend(found.tokens)
        target.rewind(len(prefix.tokens) - 1)
        yield Step(found.tokens, found.count, len(draft.tokens), draft.drafter)
        for drafter in drafters:
            drafter.observe(prefix)
        draft = propose(prefix, drafters, limit)
        rows = verify(target, prefix, draft)


def propose(prefix: Prefix, drafters: Sequence[Drafter], limit: Callable[[Drafter], int]) -> Draft:
    """The first non-empty draft."""
    for drafter in drafters:
        room = limit(drafter)
        draft = drafter.propose(prefix, room) if room > 0 else Draft()
        if draft.tokens:
            return draft
    return Draft()
