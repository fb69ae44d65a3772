"""Laws of chat templates that the user chooses: built-in ones are what families publish, bad files are told of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import localspec
from localspec.chat.builtin_templates import BUILTIN
from localspec.chat.choose_template import choose_template
from localspec.chat.template import ChatTemplate
from localspec.errors import InputError, LocalspecError, TemplateError, UsageError
from localspec.loading.models import load_template
from tests.helpers.paths import DATA
from tests.helpers.support import MarkerVocabulary

TURNS = [
    {"role": "system", "content": "Be brief. "},
    {"role": "user", "content": " Hi"},
    {"role": "assistant", "content": "Hello.\n"},
    {"role": "user", "content": "And?"},
]
GEMMA_4, GEMMA_3 = (template.source for template in BUILTIN["gemma"])


class Vocabulary(MarkerVocabulary):
    """The tokens of one family."""

    eos = -1

    def __init__(self, *markers: str) -> None:
        self.markers = ("<bos>", *markers)
        super().__init__(add_bos=False)


def render(source: str, messages: Any, **options: Any) -> str:
    return ChatTemplate(source, bos="<bos>").render(messages, **options)


contents = st.text("ab \n", max_size=6) | st.sampled_from(["<|channel>thought\nHm.<channel|>So", "a<channel|>b", "é"])


@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), contents), min_size=1, max_size=5),
    st.sampled_from(["", "system", "developer"]),
    st.booleans(),
)
def test_gemma_4_is_what_is_published(reply: bool, turns: list[tuple[str, str]], first: str, thinking: bool) -> None:
    """For a system message and turns in order, with thinking and without, as a prompt and as a history."""
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, (_, text) in zip(roles, turns, strict=False)]
    messages = [{"role": first, "content": "Be brief. "}, *messages] if first else messages
    published = (DATA / "gemma-4.jinja").read_text(encoding="utf-8")
    options: dict[str, Any] = {"reply": reply, "thinking": thinking}
    assert render(GEMMA_4, messages, **options) == render(published, messages, **options)


def test_the_others_write_their_turns() -> None:
    """Gemma 3 puts the system message before the first question; ChatML keeps blanks, the others trim them."""
    assert render(GEMMA_3, TURNS) == (
        "<bos><start_of_turn>user\nBe brief. \n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nAnd?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert render(BUILTIN["chatml"][0].source, TURNS) == (
        "<|im_start|>system\nBe brief. <|im_end|>\n<|im_start|>user\n Hi<|im_end|>\n"
        "<|im_start|>assistant\nHello.\n<|im_end|>\n<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
    )
    head = "<|start_header_id|>{}<|end_header_id|>\n\n".format
    assert render(BUILTIN["llama3"][0].source, TURNS) == (
        f"<bos>{head('system')}Be brief.<|eot_id|>{head('user')}Hi<|eot_id|>{head('assistant')}Hello.<|eot_id|>"
        f"{head('user')}And?<|eot_id|>{head('assistant')}"
    )
    for templates in BUILTIN.values():
        for template in templates:
            assert not render(template.source, TURNS, reply=False).endswith("model\n")
            assert render(template.source, TURNS).startswith(render(template.source, TURNS, reply=False))


@pytest.mark.parametrize(
    ("name", "marker", "source"),
    [
        ("gemma", "<|turn>", GEMMA_4),
        ("gemma", "<start_of_turn>", GEMMA_3),
        ("chatml", "<|im_start|>", BUILTIN["chatml"][0].source),
        ("llama3", "<|start_header_id|>", BUILTIN["llama3"][0].source),
    ],
)
def test_template_goes_with_the_tokens_of_the_model(name: str, marker: str, source: str) -> None:
    """Gemma's is that of the model's generation; a model without the token gets a notice."""
    chosen = choose_template(name)
    assert chosen is not None
    assert chosen.pick(Vocabulary(marker)) == (source, None)
    found, notice = chosen.pick(Vocabulary("<other>"))
    assert found == BUILTIN[name][-1].source
    assert notice
    assert f"chat template {name}" in notice


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"{% if %}", r"Expected an expression.*\(line 1\)"),
        (b"{{ messages }", r"\(line 1\)"),
        (b"{% for m in messages %}\n{{ m.content }}", r"Unexpected end of template \(line 2\);"),
        (b"{{ nosuch | filter }}", "filter"),
        (b"", "does not write the messages"),
        (b"# A page\n", "does not write the messages"),
        (b'{"bos_token": "<s>"}', "does not write the messages"),
        (b"\xff\xfe{", "not valid UTF-8 at byte 0"),
        (b"x" * (1 << 20) + b"y", "no chat template"),
    ],
)
def test_bad_file_is_one_sentence_that_names_it(tmp_path: Path, content: bytes, told: str) -> None:
    """Before the model is loaded."""
    path = tmp_path / "own.jinja"
    path.write_bytes(content)
    with pytest.raises((InputError, TemplateError), match=told) as error:
        localspec.load("no-such-model.gguf", chat_template=path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("choice", "kind", "told"),
    [
        (
            "chatmll",
            InputError,
            "there is no chat template chatmll; give a Jinja file, or choose gemma, chatml, llama3",
        ),
        (Path("gemma"), InputError, "there is no chat template gemma"),
        (".", InputError, "cannot be read"),
        ("a\0b", InputError, "cannot be read"),
        ("", InputError, "cannot be read"),
        ("{% if %}", TemplateError, "cannot be parsed"),
        (7, UsageError, "must be gemma, chatml, llama3 or a path"),
        (b"chatml", UsageError, "must be gemma"),
    ],
)
def test_other_choices_are_refused(choice: Any, kind: type[LocalspecError], told: str) -> None:
    """With the names that there are."""
    with pytest.raises(kind, match=told) as error:
        choose_template(choice)
    assert "\n" not in str(error.value)


def test_template_that_refuses_a_lone_question_may_be_chosen() -> None:
    """It is told of with the messages that it refuses."""
    chosen = choose_template("{{ raise_exception('no') }}{{ messages }}")
    assert chosen is not None
    assert choose_template(None) is None


def test_chosen_template_takes_the_place_of_the_models(tmp_path: Path) -> None:
    """By name, as a file and as a text; the answer is made from its prompt."""
    own = "{% for m in messages %}[{{ m.role }}: {{ m.content }}]\n{% endfor %}Answer:"
    (tmp_path / "own.jinja").write_text(own)
    messages = [{"role": "user", "content": "Hi"}]
    for choice, told in (
        (own, 0),
        (tmp_path / "own.jinja", 0),
        (str(tmp_path / "own.jinja"), 0),
        ("gemma", 0),
        ("chatml", 1),
    ):
        with localspec.load("tiny", "none", threads=1, chat_template=choice) as llm:
            text = llm.detokenize(llm.prompt_tokens(messages))
            assert llm.chat(messages, max_tokens=2, temperature=0).tokens
            assert sum("chat template" in notice for notice in llm.notices) == told
        if "own" in str(choice) or choice == own:
            assert text == "[user: Hi]\nAnswer:"


class NoTemplate:
    """Model with the attributes that :func:`load_template` reads."""

    def __init__(self, source: str | None) -> None:
        self.chat_template, self.vocabulary = source, Vocabulary()
        self.vocabulary.bos = self.vocabulary.eos = -1


def test_model_without_a_template_names_the_option() -> None:
    """A template of the file that cannot be parsed is a notice, because the model can be used without it."""
    assert load_template(NoTemplate(None), None) == (None, [])  # type: ignore[arg-type]
    template, (notice,) = load_template(NoTemplate("{% if %}"), None)  # type: ignore[arg-type]
    assert template is None
    assert "cannot be parsed" in notice
    found, _ = load_template(NoTemplate("{% if %}"), choose_template("chatml"))  # type: ignore[arg-type]
    assert found is not None
