"""Laws of log probabilities: those of the target's own distribution, whatever drafts, samples or was cached."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.engine import Engine
from localspec.errors import UsageError
from localspec.generation.logprobs import token_logprobs
from localspec.testing import ScriptedDrafter, ScriptedVocabulary, chain_logits, scripted_engine
from tests.helpers.support import continue_tokens, load_fixed

N = 64
LOGITS = chain_logits(N, 3, scale=3.0)
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.8, "seed": 1},
    {"temperature": 1.5, "seed": 2, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
)


def load(draft: str) -> Engine:
    return load_fixed("tiny", draft)


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    with load("none") as loaded:
        yield loaded


def softmax(row: Any) -> Any:
    """In double precision, the plain way."""
    exact = np.asarray(row, np.float64)
    return exact - exact.max() - np.log(np.exp(exact - exact.max()).sum())


@given(st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=300), st.integers(0, 12), st.integers(0, 299))
def test_as_a_softmax_in_double_precision(values: list[float], n: int, at: int) -> None:
    """The token's and the likeliest ones', in order, the lower id first among equals."""
    row = np.array(values, np.float32)
    token = at % len(row)
    found, expected = token_logprobs(row, token, n), softmax(row)
    assert found.logprob == pytest.approx(expected[token], abs=2e-5)
    order = np.argsort(-row, kind="stable")[:n]
    assert [token for token, _ in found.top] == order.tolist()
    assert [value for _, value in found.top] == pytest.approx(expected[order].tolist(), abs=2e-5)


def test_forbidden_tokens_are_not_among_the_likeliest() -> None:
    """They have no probability, and JSON has no minus infinity."""
    row = np.array([0.0, -np.inf, 1.0], np.float32)
    assert [token for token, _ in token_logprobs(row, 0, 3).top] == [2, 0]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_token_has_its_own_from_the_target_s_rows(sampling: dict[str, Any]) -> None:
    """For accepted, recovered and bonus tokens: the target's log softmax before temperature and truncation."""
    drafter = ScriptedDrafter(lambda tokens: [(tokens[-1] * 7 + i) % N for i in range(3)])
    right = ScriptedDrafter(lambda tokens: [int(LOGITS(tuple(tokens)).argmax())])
    for drafters in ([], [drafter], [right]):
        with scripted_engine(LOGITS, drafters, vocabulary=ScriptedVocabulary(N)) as engine:
            done = engine.generate("abc", max_tokens=20, logprobs=3, **sampling)
        before = [byte % N for byte in b"abc"]
        assert done.logprobs is not None
        assert [one.token for one in done.logprobs] == list(done.tokens) != []
        for one in done.logprobs:
            expected = softmax(LOGITS(tuple(before)))
            assert one.logprob == pytest.approx(expected[one.token], abs=1e-5)
            assert [token for token, _ in one.top] == np.argsort(-expected, kind="stable")[:3].tolist()
            before.append(one.token)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("draft", ["ngram", "auto"])
def test_equal_with_and_without_a_drafter(plain: Engine, draft: str, sampling: dict[str, Any]) -> None:
    """To the last bit, on the built-in pair, also in a chat turn that goes on from the cache: as a fresh prefill's."""
    options: dict[str, Any] = {"max_tokens": 20, "logprobs": 5, **sampling}
    accepted = 0
    with load(draft) as drafting:
        messages: list[dict[str, Any]] = [{"role": "user", "content": "The fox saw the fox and the fox saw the"}]
        for turn in range(2):
            plain.forget()
            expected = continue_tokens(plain, drafting.prompt_tokens(messages), **options)
            for width in (1, 4, 8):
                found = drafting.chat(messages, draft_max=width, **options)
                assert (found.tokens, found.logprobs) == (expected.tokens, expected.logprobs)
                assert found.stats.cached_tokens > 0 or (turn, width) == (0, 1)
                accepted += found.stats.accepted
            messages += [found.message, {"role": "user", "content": "And then?"}]
    assert accepted or draft == "ngram"


def test_chunks_carry_them_beside_their_tokens() -> None:
    """They are equal and in order; requesting them changes no token, and without a request there are none."""
    with scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N, ends=[1])) as engine:
        options: dict[str, Any] = {"max_tokens": 30, "temperature": 1.0, "seed": 4}
        chunks = list(engine.stream("abc", logprobs=0, **options))
        done = chunks[-1].completion
        assert done is not None
        assert done.logprobs == tuple(one for chunk in chunks for one in chunk.logprobs)
        for chunk in chunks:
            assert [one.token for one in chunk.logprobs] == list(chunk.tokens)
            assert all(one.top == () for one in chunk.logprobs)
        unasked = list(engine.stream("abc", **options))
        assert [chunk.tokens for chunk in unasked] == [chunk.tokens for chunk in chunks]
        assert not any(chunk.logprobs for chunk in unasked)


@pytest.mark.parametrize("stop", [{"stop": "("}, {"max_tokens": 3}])
def test_as_many_as_tokens_however_the_answer_ends(stop: dict[str, Any]) -> None:
    """Tokens of a step that are behind the end have none."""
    drafter = ScriptedDrafter(lambda tokens: [int(LOGITS(tuple(tokens)).argmax())] * 3)
    with scripted_engine(LOGITS, [drafter], vocabulary=ScriptedVocabulary(N)) as engine:
        done = engine.generate("abc", logprobs=1, **{"max_tokens": 200, "temperature": 0.9, "seed": 1, **stop})
    assert done.logprobs is not None
    assert [one.token for one in done.logprobs] == list(done.tokens)


@pytest.mark.parametrize("count", [-1, 1.5, "3", True, float("nan")])
def test_count_is_checked(count: Any) -> None:
    """Before anything is decoded."""
    with scripted_engine(LOGITS) as engine, pytest.raises(UsageError, match="logprobs is"):
        engine.stream("abc", logprobs=count)


def test_more_than_the_vocabulary_gives_all_of_it() -> None:
    """The probabilities sum to 1."""
    with scripted_engine(LOGITS, vocabulary=ScriptedVocabulary(N)) as engine:
        done = engine.generate("abc", max_tokens=2, temperature=0, logprobs=10**9)
    assert done.logprobs is not None
    for one in done.logprobs:
        assert len(one.top) == N
        assert sum(np.exp(value) for _, value in one.top) == pytest.approx(1.0)
