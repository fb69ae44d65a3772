"""Laws of chat templates: they render what the model was trained on, and a hostile one gets nowhere."""

from __future__ import annotations

import datetime
import json
import time
from contextlib import suppress
from typing import Any

import pytest

from localspec.chat.template import ChatTemplate, check_messages
from localspec.errors import InputError, TemplateError
from tests.helpers.paths import DATA

HELLO = [{"role": "user", "content": "Hello"}]
TURNS = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Hi "},
    {"role": "assistant", "content": "Hello.\n"},
    {"role": "user", "content": "Ünïcode? 😀"},
]


def gemma() -> ChatTemplate:
    return ChatTemplate((DATA / "gemma-4.jinja").read_text(), bos="<bos>", eos="<eos>")


def qwen() -> ChatTemplate:
    return ChatTemplate((DATA / "qwen2.5.jinja").read_text(), eos="<|im_end|>")


def render(source: str, messages: Any = HELLO, **options: Any) -> str:
    return ChatTemplate(source, bos="<s>", eos="</s>").render(messages, **options)


# The real templates.


def test_gemma_4_prompt() -> None:
    """Turns, trimmed contents, and an empty thought where the model shall not think."""
    assert gemma().render(HELLO) == ("<bos><|turn>user\nHello<turn|>\n<|turn>model\n<|channel>thought\n<channel|>")
    assert gemma().render(TURNS) == (
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\nHello.<turn|>\n"
        "<|turn>user\nÜnïcode? 😀<turn|>\n<|turn>model\n<|channel>thought\n<channel|>"
    )


def test_gemma_4_prompt_with_thinking() -> None:
    """The switch is in the system turn, and the reply may begin with a thought."""
    assert gemma().render(HELLO, thinking=True) == (
        "<bos><|turn>system\n<|think|>\n<turn|>\n<|turn>user\nHello<turn|>\n<|turn>model\n"
    )


def test_gemma_4_leaves_thoughts_out_of_the_history() -> None:
    """A reply that holds its thought is shown without."""
    said = {"role": "assistant", "content": "<|channel>thought\nHm.<channel|>Hello."}
    text = gemma().render([HELLO[0], said, HELLO[0]], reply=False)
    assert text == ("<bos><|turn>user\nHello<turn|>\n<|turn>model\nHello.<turn|>\n<|turn>user\nHello<turn|>\n")


def test_qwen_2_5_prompt() -> None:
    """ChatML with Qwen's own system message where none is given, contents as they are."""
    system = "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
    assert qwen().render(HELLO) == (system + "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n")
    assert qwen().render(TURNS, reply=False) == (
        "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
        "<|im_start|>assistant\nHello.\n<|im_end|>\n<|im_start|>user\nÜnïcode? 😀<|im_end|>\n"
    )


@pytest.mark.parametrize("template", [gemma, qwen], ids=["gemma-4", "qwen2.5"])
def test_reply_begins_where_the_prompt_ends(template: Any) -> None:
    """The text after the reply is the rest of the rendering that contains it."""
    found = template().split_at_reply(TURNS, 2, thinking=False)
    assert found is not None
    head, tail = found
    assert template().render(TURNS[:2]).startswith(head)
    assert template().render(TURNS).endswith("Hello." + tail) or template().render(TURNS).endswith("Hello.\n" + tail)
    assert "Hello" not in tail


def test_there_is_no_split_where_the_reply_is_not_simply_put_in() -> None:
    """Left out, put in twice, or changed."""
    for content in ("", "{{ m.content }}{{ m.content }}", "{{ m.content | upper }}", "{{ m.content | length }}"):
        template = ChatTemplate("{% for m in messages %}" + content + "{% endfor %}")
        assert template.split_at_reply(TURNS, 2, thinking=False) is None


def test_messages_are_left_as_they_were() -> None:
    """Rendering and looking for the tail work on copies."""
    before = json.dumps(TURNS)
    gemma().render(TURNS)
    gemma().split_at_reply(TURNS, 2, thinking=False)
    assert json.dumps(TURNS) == before


# What templates may use.


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}|{{ eos_token }}", "<s>|</s>"),
        ("{% for m in messages %}{{ m['role'] }}:{{ m.content }}{% endfor %}", "user:Hello"),
        ("{{ messages | tojson }}", '[{"role": "user", "content": "Hello"}]'),
        ("{{ 'é' | tojson }}{{ [1] | tojson(indent=1) }}", '"é"[\n 1\n]'),
        ("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01"),
        ("{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "02"),
        ("{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}", "2"),
        ("{{ ' x '.strip() }}{{ 'a,b'.split(',')[-1] }}{{ 'x' * 3 }}", "xbxxx"),
        ("{% if add_generation_prompt %}yes{% endif %}{{ enable_thinking }}", "yesFalse"),
        ("{%- if true %}\n  a\n  {%- endif %}\nb", "  ab"),
        ("{{ tools is defined }}{{ nothing }}", "False"),
        ("", ""),
    ],
)
def test_templates_have_what_they_expect(source: str, text: str) -> None:
    """Filters and functions give what Hugging Face and llama.cpp give."""
    assert render(source) == text


def test_template_knows_the_date() -> None:
    """``strftime_now`` is today's."""
    assert render("{{ strftime_now('%Y') }}") == datetime.datetime.now().strftime("%Y")


# What goes wrong.


def test_raise_exception_is_the_user_s_message() -> None:
    """The template's own words, and the next step."""
    with pytest.raises(TemplateError, match=r"roles must alternate.*--raw"):
        render("{{ raise_exception('roles must alternate') }}")


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ 1 + }}", "{% for x in y %}", "{{ a | nosuchfilter }}", "{% nope %}"]
)
def test_broken_template_is_refused_when_it_is_loaded(source: str) -> None:
    """Before any message is rendered."""
    with pytest.raises(TemplateError, match="cannot be parsed"):
        ChatTemplate(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ messages[7].content.x }}",
        "{{ messages + 1 }}",
        "{{ nothing.at_all }}",
        "{{ undefined_function() }}",
        "{{ {}['a']['b'] }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ nothing | tojson }}",
        "{% include 'x' %}",
        "{% import 'os' as os %}",
        "{{ strftime_now(3) }}",
    ],
)
def test_failing_template_is_one_sentence(source: str) -> None:
    """Any exception in a template becomes a TemplateError that names a next step."""
    with pytest.raises(TemplateError, match="--raw"):
        render(source)


ESCAPES = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ [].__class__.__base__.__subclasses__()[0] }}",
    "{{ messages.__class__.__mro__ }}",
    "{{ raise_exception.__globals__['__builtins__'] }}",
    "{{ strftime_now.__globals__ }}",
    "{{ strftime_now.__code__.co_consts }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].system('id') }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__['os'] }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment.globals }}",
    "{{ '{0.__class__.__mro__}'.format('') }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}",
    "{{ '%s'.__mod__.__self__.__class__.__mro__ }}",
    "{{ ('{0.__cl' ~ 'ass__.__mro__}').format(1) }}",
    "{{ '{x.__class__.__mro__}'.format_map({'x': 1}) }}",
    "{{ ''['__cl' ~ 'ass__']['__mro__'] }}",
    "{{ (''|attr('__class__')).__mro__ }}",
    "{{ messages | map(attribute='__class__') | map(attribute='__mro__') | list }}",
    "{{ (messages | map('attr', '__class__') | first).__mro__ }}",
    "{{ dict.mro() }}",
    "{{ range.__self__ }}",
    "{{ ().__class__.__bases__[0] }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(x=1) }}",
    "{{ messages[0].__setitem__('role', 'x') }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_sandbox_holds(source: str) -> None:
    """Internals and mutation are refused, or come out as nothing: no class, module or file is reached."""
    with suppress(TemplateError):
        text = render(source)
        assert not any(leak in text for leak in ("class", "module", "object", "built-in", "uid=", "function")), text


def test_leaving_the_sandbox_is_called_by_its_name() -> None:
    """The message warns not to trust the file."""
    with pytest.raises(TemplateError, match=r"leave its sandbox.*Do not trust"):
        render("{{ ''.__class__.__mro__[1].__subclasses__() }}")


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(-10**9, 10**9) %}x{% endfor %}",
        "{{ range(999999999) | list }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 99999 }}{% endfor %}{% endfor %}",
    ],
)
def test_endless_template_ends(source: str) -> None:
    """Ranges are limited, and so is what a template may write."""
    began = time.process_time()
    with pytest.raises(TemplateError):
        render(source)
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in [] %}" * 30 + "{% endfor %}" * 30,
        "{% if true %}" * 120 + "{% endif %}" * 120,
    ],
    ids=["loops", "conditions"],
)
def test_template_nested_too_deep_is_refused(source: str) -> None:
    """Python cannot compile more than some nested blocks: a sentence, not a traceback."""
    with pytest.raises(TemplateError):
        ChatTemplate(source)


# Messages.


@pytest.mark.parametrize(
    "messages",
    [
        [], (), "Hello", b"Hello", None, {"role": "user", "content": "x"}, ["Hello"], [None], [{}], [{"role": "user"}],
        [{"content": "x"}], [{"role": 1, "content": "x"}], [{"role": "user", "content": None}],
        [{"role": "user", "content": 5}], [*HELLO, {"role": "user", "content": ["x"]}], 7,
    ],
)  # fmt: skip
def test_messages_that_are_none_are_refused(messages: Any) -> None:
    """With the place and what it should be."""
    with pytest.raises(InputError, match="message"):
        check_messages(messages)


def test_message_with_more_keys_is_fine() -> None:
    """Templates may use them."""
    check_messages([{"role": "user", "content": "", "name": "x"}])
