"""Laws of chat and of closing, on the scripted backend."""

from __future__ import annotations

from typing import Any

import pytest

from localspec.engine import Engine
from localspec.errors import BackendError, InputError, TemplateError
from localspec.generation.result import Completion
from localspec.testing import (
    script_logits,
)
from tests.helpers.engines import END, Interrupting, N, engine_of, target_of

PROMPT = "Once upon"
GREEDY_OPTIONS = {"temperature": 0, "max_tokens": 20}
Chat = list[dict[str, str]]


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
        engine._tasks.conversation = None
        with pytest.raises(TemplateError, match=r"--chat-template or --chat-template-file.*--raw"):
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
    with engine_of() as scripted:
        pair, model = scripted._pair, scripted.model
    engine = Engine(pair, model=model, close=lambda: closed.append("model"))
    target_of(engine).closed = False
    drafter: Any = pair.drafters[0]
    drafter.closed = False
    engine.close()
    engine.close()
    assert closed == ["model"]
    assert target_of(engine).closed
    assert drafter.closed


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
