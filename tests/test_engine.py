"""Laws of the engine on the scripted backend: generation, wrong input, limits, interruption."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.draft.ngram import NgramDrafter
from localspec.errors import BackendError, InputError, PromptTooLongError, UsageError
from localspec.generation.options import Request
from localspec.params import SamplingParams, StopParams
from localspec.testing import (
    ScriptedVocabulary,
    chain_logits,
    script_logits,
    scripted_engine,
)
from tests.helpers.engines import END, Interrupting, N, engine_of, right, target_of
from tests.helpers.support import SAMPLINGS, MarkerVocabulary, options_of, plain_tokens

PROMPT = "Once upon"
GREEDY_OPTIONS = {"temperature": 0, "max_tokens": 20}


# Generating.


@pytest.mark.parametrize("params", SAMPLINGS)
@pytest.mark.parametrize("draft_max", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 63])
def test_any_draft_length_same_completion(params: SamplingParams, draft_max: int | None) -> None:
    """Text, tokens and reason of the end are those without a drafter."""
    options = {**options_of(params), "max_tokens": 40}
    with engine_of(script=None) as plain, engine_of() as drafting:
        expected, found = plain.generate(PROMPT, **options), drafting.generate(PROMPT, draft_max=draft_max, **options)
    assert (found.text, found.tokens, found.finish_reason) == (expected.text, expected.tokens, expected.finish_reason)
    assert (found.stats.proposed == 0) == (draft_max == 0)


@given(
    st.text(min_size=1, max_size=20), st.integers(1, 30), st.sampled_from(SAMPLINGS), st.integers(0, 9), st.booleans()
)
@settings(max_examples=40)
def test_any_prompt_same_tokens_as_the_plain_rule(
    prompt: str, budget: int, params: SamplingParams, seed: int, lookup: bool
) -> None:
    """Sampling by hand, one token at a time, gives what the engine gives."""
    logits = chain_logits(N, seed, order=1, scale=5.0)
    drafters = [NgramDrafter(min_match=1)] if lookup else []
    with scripted_engine(logits, drafters, vocabulary=ScriptedVocabulary(N, ends=[END])) as engine:
        done = engine.generate(prompt, max_tokens=budget, **options_of(params))
    expected = plain_tokens(logits, list(prompt.encode()), params, budget)
    ended = expected.index(END) if END in expected else budget
    assert list(done.tokens) == expected[:ended]
    assert done.finish_reason == ("stop" if ended < budget else "length")


def test_chunks_say_what_the_completion_says() -> None:
    """Texts and tokens join, and only the last chunk has the completion."""
    with engine_of() as engine:
        *chunks, last = list(engine.stream(PROMPT, **GREEDY_OPTIONS))
    assert last.completion is not None
    assert all(chunk.completion is None for chunk in chunks)
    assert "".join(chunk.text for chunk in [*chunks, last]) == last.completion.text
    assert tuple(token for chunk in chunks for token in chunk.tokens) == last.completion.tokens


@pytest.mark.parametrize("budget", range(1, 12))
def test_budget_is_never_exceeded(budget: int) -> None:
    """Not by a token, and no pass of the target is wider than what is left."""
    with engine_of() as engine:
        done = engine.generate(PROMPT, max_tokens=budget, temperature=0)
        assert len(done.tokens) == budget
        assert done.stats.generated_tokens == budget
        assert sum(target_of(engine).decoded) <= len(PROMPT) + budget
    assert (done.finish_reason, done.notice) == ("length", None)


def test_counters_fit_the_chunks() -> None:
    """The accepted tokens are those marked as drafted; every step adds one more."""
    with engine_of() as engine:
        chunks = list(engine.stream(PROMPT, **GREEDY_OPTIONS))
    done = chunks[-1].completion
    assert done is not None
    sources = [source for chunk in chunks for source in chunk.sources]
    assert done.stats.accepted == sources.count("drafted")
    assert done.stats.steps == sources.count("target")
    assert (done.stats.prompt_tokens, done.stats.cached_tokens) == (len(PROMPT), 0)


def test_times_are_of_this_generation() -> None:
    """Seconds, and not since the epoch or the start of the process."""
    with engine_of() as engine:
        stats = engine.generate(PROMPT, **GREEDY_OPTIONS).stats
    assert 0 < stats.prompt_s < 30
    assert 0 < stats.generate_s < 30


def test_without_options_the_defaults_hold() -> None:
    """Those of the settings."""
    found = Request.from_options({"seed": 1})
    assert (found.sampling, found.stop) == (SamplingParams(seed=1), StopParams())


def test_seed_that_was_drawn_gives_the_same_text_again() -> None:
    """The completion has the seed."""
    with engine_of() as engine:
        first = engine.generate(PROMPT, max_tokens=20)
        again = engine.generate(PROMPT, max_tokens=20, seed=first.seed)
        other = engine.generate(PROMPT, max_tokens=20, seed=first.seed + 1)
    assert again.tokens == first.tokens
    assert other.tokens != first.tokens


def test_stop_may_be_one_string_or_several() -> None:
    """Both end the text before it."""
    logits = script_logits(list(b"one two three"), N, len(PROMPT))
    with engine_of(logits, lambda tokens: list(b"one two three")[len(tokens) - len(PROMPT) :]) as engine:
        for stop in ("two", ["three", "two"], ("tw",)):
            done = engine.generate(PROMPT, stop=stop, temperature=0)
            assert (done.text, done.finish_reason) == ("one ", "stop")


def test_drafting_can_be_switched_off() -> None:
    """The text stays, nothing is drafted, and what is not drafted is exact."""
    with engine_of() as engine:
        expected = engine.generate(PROMPT, **GREEDY_OPTIONS)
        engine.drafting = False
        found = engine.generate(PROMPT, **GREEDY_OPTIONS)
        engine.drafting = True
        again = engine.generate(PROMPT, **GREEDY_OPTIONS)
    assert expected.tokens == found.tokens == again.tokens
    assert (found.stats.proposed, found.exactness) == (0, "exact")
    assert again.stats.proposed > 0


def test_progress_goes_from_nothing_to_all() -> None:
    """In tokens of the prompt that need a prefill."""
    reports: list[tuple[int, int]] = []
    with engine_of() as engine:
        engine.generate("x" * 1000, max_tokens=1, progress=lambda done, total: reports.append((done, total)))
    assert (reports[0], reports[-1]) == ((0, 1000), (1000, 1000))
    assert reports == sorted(reports)


def test_same_prompt_again_prefills_its_last_token_only() -> None:
    """The cache holds the rest."""
    with engine_of() as engine:
        first = engine.generate(PROMPT, **GREEDY_OPTIONS)
        again = engine.generate(PROMPT, **GREEDY_OPTIONS)
    assert again.stats.prefilled_tokens == 1
    assert again.tokens == first.tokens


def test_tokenize_and_detokenize_are_inverse() -> None:
    """For text; end tokens have none."""
    with engine_of() as engine:
        assert engine.detokenize(engine.tokenize("Zażółć 😀")) == "Zażółć 😀"
        assert engine.detokenize([65, END, 66]) == "AB"


# Wrong input.

BAD_OPTIONS: list[dict[str, Any]] = [
    {"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": 1.5}, {"temperature": -0.5}, {"temperature": "hot"},
    {"temperature": float("nan")}, {"top_k": -1}, {"top_k": 1.0}, {"top_p": 1.5}, {"min_p": -1}, {"seed": -1},
    {"seed": 2**64}, {"seed": True}, {"draft_max": -1}, {"draft_max": 64}, {"stop": [""]}, {"stop": ""}, {"stop": [3]},
]  # fmt: skip


@pytest.mark.parametrize("options", BAD_OPTIONS)
def test_options_are_checked_before_the_first_chunk(options: dict[str, Any]) -> None:
    """The call itself raises, and nothing was decoded."""
    name = next(iter(options)).replace("draft_max", "draft max")
    with engine_of() as engine:
        for verb in (engine.generate, engine.stream):
            with pytest.raises(UsageError, match=name):
                verb(PROMPT, **options)
        for chat in (engine.chat, engine.stream_chat):
            with pytest.raises(UsageError, match=name):
                chat([{"role": "user", "content": "Hi"}], **options)
        assert target_of(engine).decoded == []


@pytest.mark.parametrize("stop", [5, 0.5])
def test_stop_of_another_kind_is_wrong_usage(stop: Any) -> None:
    """Not a TypeError about iteration."""
    with engine_of() as engine, pytest.raises(UsageError, match="stop"):
        engine.generate(PROMPT, stop=stop)


def test_unknown_option_is_wrong_usage() -> None:
    """With the options that there are."""
    with engine_of() as engine, pytest.raises(UsageError, match=r"'temprature'; there are max_tokens, temperature"):
        engine.generate(PROMPT, temprature=0)  # type: ignore[call-arg]


@pytest.mark.parametrize(("parse", "count"), [(True, 2), (False, 2 - 1 + len("<turn|>"))])
def test_control_tokens_of_a_prompt_are_text_on_demand(parse: bool, count: int) -> None:
    """They are recognised unless the caller says otherwise."""
    vocabulary = MarkerVocabulary(add_bos=False)
    with scripted_engine(chain_logits(vocabulary.n_tokens, 1), vocabulary=vocabulary) as engine:
        done = engine.generate("x<turn|>", max_tokens=1, parse_special=parse)
        assert done.stats.prompt_tokens == count
        assert engine.generate("x<turn|>", max_tokens=1).stats.prompt_tokens == 2
        with pytest.raises(UsageError, match="parse_special is 'no'"):
            engine.generate("x", parse_special="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("prompt", ["", b"bytes", None, 5, ["a"]])
def test_prompt_must_be_text(prompt: Any) -> None:
    """Of at least one token."""
    with engine_of() as engine, pytest.raises(InputError, match="prompt"):
        engine.stream(prompt)


@pytest.mark.parametrize("over", [0, 1, 500])
def test_prompt_too_long_is_refused_before_anything_is_decoded(over: int) -> None:
    """With both numbers and what to do; the engine goes on working."""
    with engine_of(n_ctx=20) as engine:
        with pytest.raises(PromptTooLongError, match=rf"{20 + over} tokens.*20.*--ctx-size"):
            engine.stream("x" * (20 + over))
        assert target_of(engine).decoded == []
        assert engine.generate("x" * 19, temperature=0).tokens


@pytest.mark.parametrize("room", [1, 2, 5, 12])
@pytest.mark.parametrize("script", [None, right])
def test_full_context_ends_the_answer(room: int, script: Any) -> None:
    """The answer has every token that fits, a notice, and the tokens of a larger context."""
    prompt = "x" * (40 - room)
    with engine_of(n_ctx=40, script=script) as engine, engine_of() as roomy:
        done = engine.generate(prompt, temperature=0)
        assert list(done.tokens) == list(roomy.generate(prompt, temperature=0, max_tokens=room).tokens)
        assert len(target_of(engine).tokens) <= 40
    assert (done.finish_reason, len(done.tokens)) == ("length", room)
    assert done.notice is not None
    assert "40" in done.notice
    assert "--ctx-size" in done.notice


def test_used_up_budget_is_no_full_context() -> None:
    """There is no notice."""
    with engine_of(n_ctx=40) as engine:
        done = engine.generate(PROMPT, max_tokens=5, temperature=0)
    assert (done.finish_reason, done.notice) == ("length", None)


# Interruption.


@pytest.mark.parametrize("error", [KeyboardInterrupt, BackendError])
@pytest.mark.parametrize("at", [1, 5, len(PROMPT), len(PROMPT) + 1, len(PROMPT) + 2, 15, 20])
def test_interrupted_decode_leaves_the_engine_usable(at: int, error: type[BaseException]) -> None:
    """In the prefill, in a verification, anywhere: the next result is a new engine's."""
    with engine_of() as fresh, engine_of(Interrupting(at, error)) as engine:
        expected = fresh.generate(PROMPT, **GREEDY_OPTIONS)
        with pytest.raises(error):
            engine.generate(PROMPT, **GREEDY_OPTIONS)
        assert engine.generate(PROMPT, **GREEDY_OPTIONS).tokens == expected.tokens


@pytest.mark.parametrize("taken", range(5))
def test_closing_a_stream_early_leaves_the_engine_usable(taken: int) -> None:
    """After any number of chunks."""
    with engine_of() as fresh, engine_of() as engine:
        expected = fresh.generate(PROMPT, **GREEDY_OPTIONS)
        chunks = engine.stream("Something else", **GREEDY_OPTIONS)
        for _ in range(taken):
            next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        assert engine.generate(PROMPT, **GREEDY_OPTIONS).tokens == expected.tokens


@given(st.lists(st.tuples(st.sampled_from(["a", "ab", "abc", "b", "Once"]), st.integers(0, 6)), max_size=6))
@settings(max_examples=25)
def test_any_past_same_tokens(past: list[tuple[str, int]]) -> None:
    """Prompts that share beginnings, each left after some chunks: the next result is a new engine's."""
    with engine_of() as engine, engine_of(script=None) as fresh:
        for prompt, taken in past:
            chunks = engine.stream(prompt, **GREEDY_OPTIONS)
            for _, _ in zip(range(taken), chunks, strict=False):
                pass
        assert engine.generate("abx", **GREEDY_OPTIONS).tokens == fresh.generate("abx", **GREEDY_OPTIONS).tokens


def test_second_stream_ends_the_first() -> None:
    """Both need the one cache: the first raises an error, the second gives its own text."""
    with engine_of() as engine, engine_of() as fresh:
        expected = fresh.generate("Other", **GREEDY_OPTIONS)
        first, second = engine.stream(PROMPT, **GREEDY_OPTIONS), engine.stream("Other", **GREEDY_OPTIONS)
        next(first)
        tokens = [*next(second).tokens]
        with pytest.raises(BackendError, match="another generation"):
            for _ in first:
                pass
        tokens += [token for chunk in second for token in chunk.tokens]
    assert tuple(tokens) == expected.tokens


def test_stream_that_was_not_begun_waits() -> None:
    """It takes the cache at its first chunk."""
    with engine_of() as engine, engine_of() as fresh:
        expected = fresh.generate(PROMPT, **GREEDY_OPTIONS)
        waiting = engine.stream(PROMPT, **GREEDY_OPTIONS)
        engine.generate("Other", **GREEDY_OPTIONS)
        assert tuple(token for chunk in waiting for token in chunk.tokens) == expected.tokens
