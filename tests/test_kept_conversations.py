"""Laws of caches that are kept between conversations: no prompt, however like another, gets what is not its own."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.engine import Engine
from localspec.testing import ScriptedVocabulary, chain_logits, scripted_engine

#: Every token before counts: a cell of another conversation would change the answer.
LOGITS = chain_logits(64, 7, order=10**6)
SHORT: dict[str, Any] = {"temperature": 0, "max_tokens": 4}
TEXT = [token % 61 for token in range(400)]
#: Prompts that are alike: cut at and around the borders of chunks, with another token there, and in another order.
CUTS = st.sampled_from([1, 63, 64, 65, 66, 127, 128, 129, 200, 400])
PROMPTS = st.builds(
    lambda cut, changed, token, tail: [*TEXT[: min(cut, changed)], *([token] if changed < cut else []),
                                       *TEXT[changed + 1 : cut], *tail],
    CUTS, CUTS, st.integers(61, 63), st.lists(st.integers(0, 63), max_size=3),
)  # fmt: skip


def engine(kept: int, parallel: int = 1) -> Engine:
    return scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(64), kept=kept, parallel=parallel)


@given(st.lists(PROMPTS, min_size=2, max_size=9), st.sampled_from([0, 1500, 1 << 20]), st.sampled_from([1, 2]))
@settings(max_examples=40, deadline=None)
def test_prompts_that_are_alike_have_their_own_answers(prompts: list[list[int]], kept: int, parallel: int) -> None:
    """And what is told to be cached was in an earlier prompt or answer, from its first token on."""
    seen = list[list[int]]()
    with engine(kept, parallel) as one:
        for prompt in prompts:
            done = one.generate(prompt, **SHORT)
            with engine(0) as fresh:
                assert fresh.generate(prompt, **SHORT).tokens == done.tokens
            cached = done.stats.cached_tokens
            assert cached < len(prompt)
            assert cached == 0 or any(text[:cached] == prompt[:cached] for text in seen)
            seen.append([*prompt, *done.tokens])


@pytest.mark.parametrize("parallel", [1, 2])
def test_conversations_that_alternate_go_on_from_their_caches(parallel: int) -> None:
    """As those of a coding agent and of the small questions beside it do; without room they are decoded anew."""
    for kept in (0, 1 << 20):
        chats = [[n, *TEXT[: 300 + n]] for n in range(4)]
        with engine(kept, parallel) as one:
            for turn in range(3):
                for n, chat in enumerate(chats):
                    done = one.generate(chat, **SHORT)
                    if turn and kept:
                        assert done.stats.cached_tokens >= len(chat) - 1 - len(SHORT)
                    chats[n] = [*chat, *done.tokens, 5]
            if not kept and parallel == 1:
                assert done.stats.cached_tokens == 0
            one.forget()
            assert one.generate(chats[0], **SHORT).stats.cached_tokens == 0
