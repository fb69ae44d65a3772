"""Laws of a conversation's prompts: the next turn begins with the tokens of the turn before."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.chat.conversation import ChatPrompt, Conversation
from localspec.chat.template import ChatTemplate
from localspec.errors import InputError
from tests.helpers.paths import DATA
from tests.helpers.support import MarkerVocabulary

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)
VOCABULARY = MarkerVocabulary()
TEMPLATES = {
    "chatml": CHATML,
    "qwen": (DATA / "qwen2.5.jinja").read_text(),
    "gemma": (DATA / "gemma-4.jinja").read_text(),
}


def conversation(source: str = CHATML, *, add_bos: bool = False) -> Conversation:
    return Conversation(ChatTemplate(source, bos="<bos>"), MarkerVocabulary(add_bos=add_bos))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def letters(text: str) -> list[int]:
    """Tokens of a reply that are not the ones its text would be tokenized to: no merged pairs."""
    return list(text.encode())


def talk(
    chat: Conversation, replies: list[str], *, thought: str = ""
) -> tuple[list[ChatPrompt], list[list[int]], list[dict[str, Any]]]:
    """One turn for each reply, each a continuation of the last, and the prompt after them all."""
    messages, prompts, generated = [user("say hello")], [], []
    for reply in replies:
        prompts.append(chat.prompt(messages))
        generated.append(letters(reply))
        chat.add_reply(prompts[-1], reply, generated[-1], reusable=not thought)
        messages += [assistant(reply), user("then?")]
    return [*prompts, chat.prompt(messages)], generated, messages


def text_of(prompt: ChatPrompt) -> str:
    data = "".join(VOCABULARY.text(token) for token in prompt.tokens)
    return data.encode("latin-1").decode()


def test_reply_is_kept_as_it_was_generated() -> None:
    """Not as its text would be tokenized again."""
    prompts, generated, _ = talk(conversation(), ["hello there"])
    n = len(prompts[0].tokens)
    assert list(prompts[1].tokens[n : n + len(generated[0])]) == generated[0]
    assert generated[0] != VOCABULARY.tokenize("hello there", add_special=False)


@pytest.mark.parametrize("turns", [1, 2, 6])
@pytest.mark.parametrize("source", ["chatml", "qwen"])
def test_each_turn_begins_with_the_turn_before(source: str, turns: int) -> None:
    """Its prompt and what was generated, over any number of turns."""
    prompts, generated, _ = talk(conversation(TEMPLATES[source]), ["hello", "in the", "lo"] * 2)
    for k in range(turns):
        before = [*prompts[k].tokens, *generated[k]]
        assert list(prompts[k + 1].tokens[: len(before)]) == before


@pytest.mark.parametrize("source", ["chatml", "qwen"])
def test_continued_prompt_is_what_the_template_renders(source: str) -> None:
    """The tokens spell the text that a fresh rendering has."""
    prompts, _, messages = talk(conversation(TEMPLATES[source]), ["hello", "in the", "lo"])
    assert text_of(prompts[-1]) == ChatTemplate(TEMPLATES[source]).render(messages)
    assert prompts[-1].text == text_of(prompts[-1])


def test_gemma_continues_past_the_empty_thought() -> None:
    """The reply followed an empty thought that the history does not show: the second turn still continues it."""
    prompts, generated, _ = talk(conversation(TEMPLATES["gemma"], add_bos=True), ["hello"])
    before = [*prompts[0].tokens, *generated[0]]
    assert list(prompts[1].tokens[: len(before)]) == before
    assert text_of(prompts[1]).endswith(
        "hello<turn|>\n<|turn>user\nthen?<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )


def test_gemma_continues_turn_after_turn() -> None:
    """Every turn, not only the second."""
    prompts, generated, _ = talk(conversation(TEMPLATES["gemma"], add_bos=True), ["hello", "in the", "lo"])
    for k in range(3):
        before = [*prompts[k].tokens, *generated[k]]
        assert list(prompts[k + 1].tokens[: len(before)]) == before


def test_blanks_about_a_reply_do_not_end_the_reuse() -> None:
    """A template that trims contents (Gemma's does) is followed for more than two turns."""
    trimming = CHATML.replace("m.content", "m.content | trim")
    prompts, generated, _ = talk(conversation(trimming), ["hello\n", " in", "lo"])
    for k in range(3):
        before = [*prompts[k].tokens, *generated[k]]
        assert list(prompts[k + 1].tokens[: len(before)]) == before


@given(st.lists(st.text("hel o\n.", max_size=8), min_size=1, max_size=5), st.sampled_from(sorted(TEMPLATES)))
@settings(max_examples=25)
def test_any_replies_give_a_prompt_that_reads_as_rendered(replies: list[str], source: str) -> None:
    """The continued prompt has the text of a fresh rendering, except for blanks and empty thoughts."""
    prompts, _, messages = talk(conversation(TEMPLATES[source], add_bos=source == "gemma"), replies)
    rendered = ChatTemplate(TEMPLATES[source], bos="<bos>").render(messages)

    def plain(text: str) -> str:
        return "".join(text.replace("<|channel>thought\n<channel|>", "").split())

    assert plain(text_of(prompts[-1])) == plain(rendered)


@pytest.mark.parametrize(
    "change",
    [
        lambda messages: messages[1].update(content="hallo"),
        lambda messages: messages[0].update(content="say hallo"),
        lambda messages: messages.insert(0, {"role": "system", "content": "x"}),
        lambda messages: messages.pop(0),
        lambda messages: messages[1].update(role="user"),
        lambda messages: messages[1].update(name="x"),
    ],
)
def test_edited_history_is_rendered_afresh(change: Any) -> None:
    """A reply or question that is not as it was is not the cache's."""
    chat = conversation()
    _, _, messages = talk(chat, ["hello"])
    change(messages)
    prompt = chat.prompt(messages)
    assert list(prompt.tokens) == VOCABULARY.tokenize(ChatTemplate(CHATML).render(messages), add_special=False)


def test_same_messages_again_are_rendered_afresh() -> None:
    """Asking for another reply to the same question does not continue the first."""
    chat = conversation()
    first = chat.prompt([user("hello")])
    chat.add_reply(first, "lo", letters("lo"))
    assert chat.prompt([user("hello")]) == first


def test_reply_with_a_thought_is_rendered_afresh() -> None:
    """Templates leave thoughts out of the history, so the tokens cannot be kept."""
    prompts, _, messages = talk(conversation(), ["hello"], thought="hm")
    assert list(prompts[1].tokens) == VOCABULARY.tokenize(ChatTemplate(CHATML).render(messages), add_special=False)


def test_switching_thinking_is_rendered_afresh() -> None:
    """The template may put the switch at the very beginning."""
    chat = conversation(TEMPLATES["gemma"])
    _, _, messages = talk(chat, ["hello"])
    prompt = chat.prompt(messages, thinking=True)
    assert prompt.text == ChatTemplate(TEMPLATES["gemma"], bos="<bos>").render(messages, thinking=True)


def test_template_that_rewrites_the_past_is_rendered_afresh() -> None:
    """A later turn changes the text of an earlier one, so its tokens cannot be reused."""
    numbered = "{{ messages | length }}:" + CHATML
    prompts, _, messages = talk(conversation(numbered), ["hello"])
    assert prompts[1].text == ChatTemplate(numbered).render(messages)
    assert list(prompts[1].tokens) == VOCABULARY.tokenize(prompts[1].text, add_special=False)


def test_cleared_conversation_is_rendered_afresh() -> None:
    """Nothing is left of the last turn."""
    chat = conversation()
    _, _, messages = talk(chat, ["hello"])
    chat.clear()
    prompt = chat.prompt(messages)
    assert list(prompt.tokens) == VOCABULARY.tokenize(prompt.text, add_special=False)


@pytest.mark.parametrize("source", [CHATML, "{{ bos_token }}" + CHATML])
def test_prompt_has_one_bos(source: str) -> None:
    """A model with a BOS token gets one, whether or not the template writes it."""
    prompt = conversation(source, add_bos=True).prompt([user("hello")])
    assert prompt.tokens[0] == VOCABULARY.bos
    assert prompt.tokens.count(VOCABULARY.bos) == 1


def test_model_without_bos_gets_none() -> None:
    """Qwen's prompts have none."""
    assert VOCABULARY.bos not in conversation(TEMPLATES["qwen"]).prompt([user("hello")]).tokens


def test_messages_are_checked() -> None:
    """Before the template runs."""
    with pytest.raises(InputError, match="message"):
        conversation().prompt([])


def test_caller_may_go_on_changing_its_list() -> None:
    """The conversation keeps a copy."""
    chat, messages = conversation(), [user("hello")]
    prompt = chat.prompt(messages)
    messages[0]["content"] = "changed"
    chat.add_reply(prompt, "lo", letters("lo"))
    continued = chat.prompt([user("hello"), assistant("lo"), user("in")])
    assert continued.tokens[: len(prompt.tokens) + 2] == (*prompt.tokens, *letters("lo"))
