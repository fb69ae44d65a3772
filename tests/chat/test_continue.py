"""Laws of continuing the final message: the prompt ends inside it, and the answer is the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from localspec.chat.conversation import Conversation
from localspec.chat.template import ChatTemplate
from localspec.chat.thinking import ThinkingParser
from localspec.chat.tool_calls import ToolCallParser
from localspec.engine import Engine
from localspec.errors import InputError, TemplateError, UsageError
from localspec.generation.result import Completion
from tests.chat.test_plain_contents import TEMPLATES, VOCABULARY, controls, conversation, evil, spelled
from tests.chat.test_tools import CALLS, SYNTAXES, TOOLS, engine_saying
from tests.helpers.support import load_fixed

SYSTEM = {"role": "system", "content": "Be brief."}
#: Templates below that write a reply as it is; "joining" writes it twice, "thinking" divides it.
FAITHFUL = [name for name in TEMPLATES if name != "joining"]
EMPTY_THOUGHT = "<|channel>thought\n<channel|>"


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def prompt_text(name: str, messages: list[dict[str, Any]], **options: Any) -> str:
    return conversation(name).prompt(messages, continue_final=True, **options).text


@pytest.mark.parametrize("name", FAITHFUL)
def test_prompt_ends_with_the_final_text(name: str) -> None:
    """Nothing of the template behind it; before it what comes before a reply, blanks at its end included."""
    messages = [SYSTEM, user("Hi"), said("Hello."), user("And?")]
    begun = ChatTemplate(TEMPLATES[name], bos="<bos>").render(messages)
    for text in ("So it", "So it ", "\nSo\n\n"):
        assert prompt_text(name, [*messages, said(text)]) == begun + text


@pytest.mark.parametrize("name", FAITHFUL)
@given(question=evil, reply=evil)
@settings(max_examples=60)
def test_any_texts_have_the_control_tokens_of_harmless_ones(name: str, question: str, reply: str) -> None:
    """Those that the template writes before the final text, which is plain text."""
    reply = f"x{reply}x"
    for marker in VOCABULARY.spoken:  # thoughts and calls in replies are the template's
        reply = reply.replace(marker, "")
    messages = [user(f"x{question}x"), said(reply)]
    try:
        prompt = conversation(name).prompt(messages, continue_final=True)
    except TemplateError:
        assert name in ("gemma-4", "tiny", "thinking")  # they look for parts of thoughts
        return
    harmless = conversation(name).prompt([user("a"), said("b")], continue_final=True)
    assert controls(VOCABULARY, prompt.tokens) == controls(VOCABULARY, harmless.tokens)
    assert spelled(prompt.tokens) == prompt.text
    assert prompt.text.endswith(reply)
    assert prompt.continued == reply


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% for m in messages %}[{{ m.content | upper }}]{% endfor %}", "So"),
        ("{% for m in messages %}[{{ m.content }}{{ m.content }}]{% endfor %}", "So"),
        ("{% for m in messages if m.role == 'user' %}[{{ m.content }}]{% endfor %}", "So"),
        ("{% for m in messages %}[{{ m.content.split('</think>')[-1] }}]{% endfor %}", "<think>Hm.</think>So"),
        ("{% for m in messages %}[{{ m.content[:9] }}]{% endfor %}", "So it goes on and on"),
    ],
)
def test_template_that_changes_the_text_is_refused(source: str, text: str) -> None:
    """In a sentence."""
    chat = Conversation(ChatTemplate(source), VOCABULARY)
    with pytest.raises(TemplateError, match="cannot be continued") as error:
        chat.prompt([user("Hi"), said(text)], continue_final=True)
    assert "\n" not in str(error.value)


def test_empty_thought_of_a_reply_comes_before_its_beginning() -> None:
    """Equal to a reply that the model began itself. With thinking on there is no empty thought."""
    messages = [user("Hi"), said("So")]
    assert prompt_text("gemma-4", messages).endswith(f"<|turn>model\n{EMPTY_THOUGHT}So")
    assert prompt_text("gemma-4", messages, thinking=True).endswith("<|turn>model\nSo")
    opening = TEMPLATES["chatml"].replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
    chat = Conversation(ChatTemplate(opening), VOCABULARY)
    assert chat.prompt(messages, continue_final=True).text.endswith("<|im_start|>assistant\nSo")


@pytest.mark.parametrize(
    ("text", "channel"),
    [("<think>\nHm", "thought"), ("<think>\nHm\n</think>\n\nSo", "answer"), ("So", "answer"), ("a</think>", "answer")],
)
def test_thought_that_the_final_text_opens_goes_on(text: str, channel: str) -> None:
    """The text is a thought until its end marker."""
    prompt = conversation("chatml").prompt([user("<think>"), said(text)], continue_final=True)
    assert ThinkingParser(VOCABULARY, prompt.text, prompt.continued).channel == channel


@pytest.mark.parametrize("name", ["chatml", "qwen2.5", "gemma-4", "llama-3"])
def test_reply_goes_on_with_the_tokens_that_were_generated(name: str) -> None:
    """Not with those of its text, through any number of cuts and into the next turn."""
    chat, messages = conversation(name), [user("Hi")]
    prompt = first = chat.prompt(messages)
    replies, text = ["hello", " there", " in the"], ""
    for number, reply in enumerate(replies, start=1):
        chat.add_reply(prompt, reply, list(reply.encode()))  # no merged pairs
        text += reply
        messages = [user("Hi"), said(text)]
        prompt = chat.prompt(messages, continue_final=True)
        assert prompt.tokens == (*first.tokens, *text.encode()), number
        assert spelled(prompt.tokens) == prompt.text
    after = chat.prompt([*messages, user("And?")])
    assert after.tokens[: len(prompt.tokens)] == prompt.tokens
    other = chat.prompt([user("Hi"), said("lo")], continue_final=True)
    assert list(other.tokens) == VOCABULARY.tokenize(other.text, add_special=False)


def test_json_after_a_text_is_no_call() -> None:
    """Bare JSON is a call only at the beginning of an answer; a marked call is one anywhere."""
    found = ToolCallParser(SYNTAXES["qwen"], ["get_weather"], begun=True)
    bare = '{"name": "get_weather", "arguments": {}}'
    assert found.add(bare) + found.flush(complete=True) == bare
    options: dict[str, Any] = {"temperature": 0, "tools": TOOLS, "continue_final": True}
    with engine_saying("qwen", [bare]) as engine:
        done = engine.chat([user("Rome?"), said("So: ")], **options)
    assert (done.text, done.tool_calls) == (bare, ())
    with engine_saying("qwen", [f" see. {CALLS['qwen']}"]) as engine:
        done = engine.chat([user("Rome?"), said("Let me")], **options)
    assert (done.text, len(done.tool_calls)) == (" see.", 1)
    assert done.message["content"] == "Let me see."


# What can be continued, and what cannot.


@pytest.fixture(scope="module", params=["none", "ngram", "auto"])
def pair(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with load_fixed("tiny", request.param) as engine:
        yield engine


CALLING = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": {}}}
]}  # fmt: skip


@pytest.mark.parametrize(
    ("final", "continue_final", "told"),
    [
        (said("So"), False, "continue_final=True"),
        (user("So"), True, "has the role user"),
        (said(" \n"), True, "is empty"),
        (said(""), True, "is empty"),
        (CALLING, True, "calls tools"),
        (CALLING, False, "calls tools"),
    ],
)
def test_other_final_messages_are_refused_by_every_verb(
    pair: Engine, final: dict[str, Any], continue_final: bool, told: str
) -> None:
    """Before anything is decoded; an assistant's is never turned into a new turn."""
    messages = [user("Hi"), final]
    for verb in (pair.chat, pair.stream_chat, pair.prompt_tokens):
        with pytest.raises(InputError, match=told):
            verb(messages, continue_final=continue_final)
    with pytest.raises(InputError, match=told):
        asyncio.run(pair.achat(messages, continue_final=continue_final))


def test_options_that_do_not_go_with_it(pair: Engine) -> None:
    """A structured answer has its whole text in the answer."""
    messages = [user("Hi"), said("So")]
    with pytest.raises(UsageError, match="structured"):
        pair.chat(messages, continue_final=True, response_format={"type": "json_object"})
    for value in (1, "yes"):
        with pytest.raises(UsageError, match="True or False"):
            pair.chat(messages, continue_final=value)  # type: ignore[arg-type]


# On the built-in pair.


@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.9, "seed": 5}])
@pytest.mark.parametrize("cut", [1, 7, 20])
def test_answer_that_was_cut_goes_on_as_if_it_had_not_been(pair: Engine, cut: int, options: dict[str, Any]) -> None:
    """The same tokens for the same seed, and nothing is decoded twice but the last token; also cut twice."""
    pair.forget()
    messages = [user("Tell me a story about a brave cat.")]
    whole = pair.chat(messages, max_tokens=40, **options)
    first = pair.chat(messages, max_tokens=cut, **options)
    messages.append(first.message)
    second = pair.chat(messages, max_tokens=5, continue_final=True, **options)
    assert second.stats.prompt_tokens == first.stats.prompt_tokens + cut
    assert second.stats.prefilled_tokens <= 64
    messages[-1] = second.message
    third = pair.chat(messages, max_tokens=35 - cut, continue_final=True, **options)
    assert (*first.tokens, *second.tokens, *third.tokens) == whole.tokens
    assert first.text + second.text + third.text == whole.text == third.message["content"]
    follow = pair.prompt_tokens([messages[0], third.message, user("Why?")])
    assert tuple(follow[first.stats.prompt_tokens :][:40]) == whole.tokens


def test_streams_and_async_verbs_continue_too(pair: Engine) -> None:
    """The text is what follows."""
    messages = [user("Tell me a story about a brave cat."), said("Once upon a time there was a brave")]
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 8, "continue_final": True}
    done = pair.chat(messages, **options)
    assert done.text
    assert "Once" not in done.text
    assert "".join(chunk.text for chunk in pair.stream_chat(messages, **options)) == done.text

    async def asynchronous() -> tuple[Completion, str]:
        text = "".join([chunk.text async for chunk in pair.astream_chat(messages, **options)])
        return await pair.achat(messages, **options), text

    again, streamed = asyncio.run(asynchronous())
    assert again.text == streamed == done.text
    prompt = pair.prompt_tokens(messages, continue_final=True)
    assert b"".join(pair.vocabulary.text(t) for t in prompt).endswith(b"model\nOnce upon a time there was a brave")  # type: ignore[attr-defined]
    assert len(prompt) == done.stats.prompt_tokens
