"""Laws of the engine on the scripted backend: generation, chat, interruption, limits, closing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.draft.ngram import NgramDrafter
from localspec.engine import Engine, Request
from localspec.errors import BackendError, InputError, PromptTooLongError, TemplateError, UsageError
from localspec.generation.result import Completion
from localspec.params import SamplingParams, StopParams
from localspec.testing import (
    Logits,
    ScriptedDrafter,
    ScriptedVocabulary,
    chain_logits,
    script_logits,
    scripted_engine,
)
from tests.helpers.support import SAMPLINGS, options_of, plain_tokens

END = 255
N = 256
LOGITS = chain_logits(N, 0, scale=6.0)
PROMPT = "Once upon"
GREEDY_OPTIONS = {"temperature": 0, "max_tokens": 20}
Chat = list[dict[str, str]]


def right(tokens: Sequence[int]) -> list[int]:
    return plain_tokens(LOGITS, tokens, SamplingParams(0.0), 8)


def engine_of(
    logits: Logits = LOGITS, script: Callable[[list[int]], Sequence[int]] | None = right, **options: Any
) -> Engine:
    drafters = [ScriptedDrafter(script)] if script else []
    options.setdefault("vocabulary", ScriptedVocabulary(N, ends=[END]))
    return scripted_engine(logits, drafters, **options)


def target_of(engine: Engine) -> Any:
    return engine._target


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


@pytest.mark.parametrize("stop", [None, 5])
def test_stop_of_another_kind_is_wrong_usage(stop: Any) -> None:
    """Not a TypeError about iteration."""
    with engine_of() as engine, pytest.raises(UsageError, match="stop"):
        engine.generate(PROMPT, stop=stop)


def test_unknown_option_is_wrong_usage() -> None:
    """With the options that there are."""
    with engine_of() as engine, pytest.raises(UsageError, match=r"'temprature'; there are max_tokens, temperature"):
        engine.generate(PROMPT, temprature=0)  # type: ignore[call-arg]


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


class Interrupting:
    """Logits that raise once, at a given call."""

    def __init__(self, at: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.left, self.error = at, error

    def __call__(self, tokens: tuple[int, ...]) -> Any:
        self.left -= 1
        if self.left == 0:
            raise self.error()
        return LOGITS(tokens)


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


# Chat.


def chat_engine(reply: str = "Hello there", stop: bool = True) -> Engine:
    """Answers every message with ``reply`` and an end token."""

    def next_token(tokens: tuple[int, ...]) -> int:
        said = bytes(tokens).rpartition(b"<assistant>")[2]
        return reply.encode()[len(said)] if len(said) < len(reply) else END

    def logits(tokens: tuple[int, ...]) -> Any:
        return script_logits([next_token(tokens)], N, len(tokens))(tokens)

    def script(tokens: list[int]) -> list[int]:
        draft: list[int] = []
        while not draft or draft[-1] != END:
            draft.append(next_token((*tokens, *draft)))
        return draft

    return engine_of(logits, script)


def converse(engine: Engine, turns: int, **options: Any) -> tuple[list[Completion], Chat]:
    messages: Chat = []
    done: list[Completion] = []
    for k in range(turns):
        messages.append({"role": "user", "content": f"Question {k}?"})
        done.append(engine.chat(messages, temperature=0, **options))
        messages.append({"role": "assistant", "content": done[-1].text})
    return done, messages


def test_each_turn_prefills_only_what_is_new() -> None:
    """Over six turns: what the template puts after the reply, and nothing of the past."""
    with chat_engine() as engine:
        done, _ = converse(engine, 6)
    assert {d.text for d in done} == {"Hello there"}
    new = len("</><user>Question 1?</><assistant>")
    assert [d.stats.prefilled_tokens for d in done[1:]] == [new] * 5
    assert [d.stats.cached_tokens for d in done[1:]] == [d.stats.prompt_tokens - new for d in done[1:]]


def test_reply_that_ran_out_of_budget_is_continued_from() -> None:
    """Its last token was not in the cache; all before it was."""
    with chat_engine() as engine:
        done, _ = converse(engine, 3, max_tokens=4)
    assert [d.stats.prefilled_tokens for d in done[1:]] == [len("</><user>Question 1?</><assistant>") + 1] * 2


def test_reply_with_text_held_back_at_its_end_is_continued_from() -> None:
    """A held beginning of a stop string belongs to the reply."""
    with chat_engine("Hello ST") as engine:
        done, _ = converse(engine, 3, stop=["STOP"])
    assert done[0].text == "Hello ST"
    assert [d.stats.prefilled_tokens for d in done[1:]] == [len("</><user>Question 1?</><assistant>")] * 2


def test_stop_string_is_not_in_the_next_prompt() -> None:
    """The reply in the history is the message's text, without what was cut off."""
    with chat_engine("Hello STOP") as engine:
        done, messages = converse(engine, 1, stop=["STOP"])
        assert done[0].text == "Hello "
        prompt = engine.prompt_tokens([*messages, {"role": "user", "content": "x"}])
    assert bytes(prompt) == b"<user>Question 0?</><assistant>Hello </><user>x</><assistant>"


def test_stopped_reply_is_continued_with_what_the_user_saw() -> None:
    """A stream that was closed after some chunks: a history with that text reads as the template renders it."""
    with chat_engine("Hello there, this is long") as engine:
        question = {"role": "user", "content": "Hi"}
        chunks = engine.stream_chat([question], temperature=0, draft_max=2)
        seen = "".join(next(chunks).text for _ in range(3))
        chunks.close()  # type: ignore[attr-defined]
        history = [question, {"role": "assistant", "content": seen}, {"role": "user", "content": "Go on"}]
        prompt = engine.prompt_tokens(history)
        assert bytes(prompt).decode() == f"<user>Hi</><assistant>{seen}</><user>Go on</><assistant>"
        assert engine.chat(history, temperature=0).stats.prefilled_tokens <= len("</><user>Go on</><assistant>") + 1


@pytest.mark.parametrize("at", [1, 10, 45, 60])
def test_chat_after_an_interrupted_decode_is_a_new_chat_s(at: int) -> None:
    """The conversation survives, and its next reply is right."""
    messages = [{"role": "user", "content": "Hi"}]
    with engine_of(Interrupting(at)) as engine, engine_of() as fresh:
        with pytest.raises(KeyboardInterrupt):
            engine.chat(messages, **{**GREEDY_OPTIONS, "max_tokens": 60})
        for history in (messages, [*messages, {"role": "assistant", "content": "x"}, *messages]):
            assert engine.chat(history, **GREEDY_OPTIONS).tokens == fresh.chat(history, **GREEDY_OPTIONS).tokens


def test_forget_drops_the_cache() -> None:
    """The next generation prefills its whole prompt."""
    with chat_engine() as engine:
        _, messages = converse(engine, 2)
        engine.forget()
        done = engine.chat([*messages, {"role": "user", "content": "x"}], temperature=0)
    assert (done.stats.cached_tokens, done.text) == (0, "Hello there")


def test_prompt_tokens_are_what_chat_decodes() -> None:
    """Their number is equal, and the call changes nothing."""
    with chat_engine() as engine:
        _, messages = converse(engine, 1)
        messages.append({"role": "user", "content": "x"})
        tokens = engine.prompt_tokens(messages)
        assert engine.prompt_tokens(messages) == tokens
        assert engine.chat(messages, temperature=0).stats.prompt_tokens == len(tokens)


def test_model_without_a_template_says_so() -> None:
    """Chat is refused, generation works."""
    with engine_of() as engine:
        engine._conversation = None
        with pytest.raises(TemplateError, match="--raw"):
            engine.chat([{"role": "user", "content": "Hi"}])
        assert engine.generate(PROMPT, **GREEDY_OPTIONS).tokens


@pytest.mark.parametrize("messages", [[], "Hi", [{"role": "user"}], None])
def test_wrong_messages_are_refused(messages: Any) -> None:
    """Before anything is decoded."""
    with engine_of() as engine:
        with pytest.raises(InputError, match="message"):
            engine.stream_chat(messages)
        assert target_of(engine).decoded == []


# Closing.


def test_close_frees_everything_once() -> None:
    """Drafters, target, then what was given to be closed; a second time does nothing."""
    closed: list[str] = []
    engine = engine_of()
    engine._close = lambda: closed.append("model")
    drafter = engine._pair.drafters[0]
    engine.close()
    engine.close()
    assert closed == ["model"]
    assert target_of(engine).closed
    assert drafter.closed  # type: ignore[attr-defined]


def test_with_closes() -> None:
    """Also when its block raises."""
    engine = engine_of()
    with pytest.raises(ZeroDivisionError), engine:
        _ = 1 / 0
    assert target_of(engine).closed


@pytest.mark.parametrize("verb", ["generate", "stream", "chat", "stream_chat"])
def test_use_after_close_is_refused(verb: str) -> None:
    """When called, with what to do."""
    engine = engine_of()
    engine.close()
    what: Any = PROMPT if verb in ("generate", "stream") else [{"role": "user", "content": "Hi"}]
    with pytest.raises(BackendError, match="closed; load it again"):
        getattr(engine, verb)(what)


@pytest.mark.parametrize("taken", [0, 1, 3])
def test_stream_of_a_closed_engine_is_refused(taken: int) -> None:
    """A stream that was begun before it was closed cannot go on."""
    engine = engine_of()
    chunks = engine.stream(PROMPT, temperature=0)
    for _ in range(taken):
        next(chunks)
    engine.close()
    with pytest.raises(BackendError, match="closed"):
        list(chunks)


def test_names_of_the_loaded_drafters() -> None:
    """In the order of their calls."""
    with engine_of() as engine, engine_of(script=None) as plain:
        assert (engine.drafters, plain.drafters) == (("scripted",), ())
