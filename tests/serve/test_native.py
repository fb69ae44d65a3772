"""Laws of raw prompts: llama-server's own completions and infill, token ids, echo and suffix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from localspec.engine import Engine
from localspec.errors import InputError
from localspec.generation.prompt import Infill, raw_tokens
from localspec.protocols import FimTokens
from localspec.testing import ScriptedVocabulary, chain_logits, scripted_engine
from tests.helpers.server import Running, engine_of, replying, serving

REPLY = "Once upon a time.\nThe end."
PROMPT = "<assistant>"
ASK: dict[str, Any] = {"prompt": PROMPT, "temperature": 0}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(engine_of(replying(REPLY))) as running:
        yield running


def filling() -> Engine:
    """A model that fills gaps."""
    vocabulary = ScriptedVocabulary(256, ends=[255])
    vocabulary.fim = FimTokens(1, 2, 3, 4, 5)
    return scripted_engine(chain_logits(256, 1), vocabulary=vocabulary, n_ctx=256)


def test_streams_and_whole_answers_say_the_same(server: Running) -> None:
    """With the fields that llama-server's clients read; the last event repeats no text."""
    whole = server.ask("/completion", {**ASK, "return_tokens": True}).json()
    events = [data for _, data in server.ask("/completion", {**ASK, "stream": True}).events]
    assert whole["content"] == "".join(event["content"] for event in events) == REPLY
    assert whole["tokens"] == [token for event in events for token in event["tokens"]] == list(REPLY.encode())
    assert [event["stop"] for event in events] == [False] * (len(events) - 1) + [True]
    for final in (whole, events[-1]):
        assert (final["stop_type"], final["has_new_line"], final["prompt"]) == ("eos", True, PROMPT)
        assert (final["tokens_predicted"], final["tokens_evaluated"]) == (len(REPLY), len(PROMPT))
        assert final["timings"]["draft_n_accepted"] > 0
    assert server.ask("/completion", ASK).json()["tokens"] == []
    assert server.ask("/v1/completion", ASK).json()["content"] == REPLY


def test_the_end_is_told(server: Running) -> None:
    """A word, a limit; nothing is answered where only the prompt is to be read."""
    word = server.ask("/completion", {**ASK, "stop": ["xyz", "upon"]}).json()
    assert (word["content"], word["stop_type"], word["stopping_word"]) == ("Once ", "word", "upon")
    limit = server.ask("/completion", {**ASK, "n_predict": 4}).json()
    assert (limit["content"], limit["stop_type"], limit["generation_settings"]["n_predict"]) == ("Once", "limit", 4)
    for stream in (False, True):
        answer = server.ask("/completion", {**ASK, "n_predict": 0, "stream": stream})
        (nothing,) = [data for _, data in answer.events] if stream else [answer.json()]
        assert (nothing["content"], nothing["tokens_predicted"], nothing["stop"]) == ("", 0, True)


def test_fields_can_be_chosen(server: Running) -> None:
    """Also within others; those that are not there are left out."""
    fields = ["content", "generation_settings/n_predict", "timings/prompt_n", "nothing/at_all"]
    answer = server.ask("/completion", {**ASK, "n_predict": 4, "response_fields": fields}).json()
    assert (answer.pop("content"), answer.pop("generation_settings/n_predict")) == ("Once", 4)
    assert list(answer) == ["timings/prompt_n"]


def test_probabilities_are_those_of_the_other_interfaces(server: Running) -> None:
    """Each with its token's id."""
    own = server.ask("/completion", {**ASK, "n_predict": 4, "n_probs": 2}).json()["completion_probabilities"]
    other = server.ask("/v1/completions", {**ASK, "max_tokens": 4, "logprobs": 2}).json()["choices"][0]["logprobs"]
    assert [one["logprob"] for one in own] == other["token_logprobs"]
    assert [one["id"] for one in own] == list(b"Once")
    assert all(len(one["top_logprobs"]) == 2 for one in own)


@pytest.mark.parametrize("path", ["/completion", "/v1/completions"])
def test_prompts_may_be_token_ids(server: Running, path: str) -> None:
    """One or several, beside texts; ids outside the vocabulary are an error of the request."""
    ids = list(PROMPT.encode())

    def texts(prompt: Any) -> list[str]:
        body = server.ask(path, {"prompt": prompt, "temperature": 0}).json()
        found = body["choices"] if "choices" in body else body if isinstance(body, list) else [body]
        return [one.get("text", one.get("content")) for one in found]

    assert texts(ids) == texts([ids]) == texts([PROMPT]) == [REPLY]
    assert texts([ids, PROMPT]) == [REPLY] * 2
    for wrong in ([], [[]], [-1], [256], [[1, 2], [70000]], [1.5], [[PROMPT]], ["x"] * 65):
        assert server.ask(path, {"prompt": wrong}).status == 400


@pytest.mark.parametrize("stream", [False, True])
def test_an_echo_is_the_prompt(server: Running, stream: bool) -> None:
    """Before every answer, of text and of token ids."""
    for prompt in (PROMPT, list(PROMPT.encode())):
        answer = server.ask(
            "/v1/completions", {"prompt": [PROMPT] * 2, "echo": True, "stream": stream, "temperature": 0}
        )
        chunks = [data for _, data in answer.events if data != "[DONE]"] if stream else [answer.json()]
        for index in range(2):
            choices = [one for chunk in chunks for one in chunk["choices"] if one["index"] == index]
            assert "".join(one["text"] for one in choices) == PROMPT + REPLY
        assert prompt


def test_a_gap_is_filled_with_the_tokens_of_the_model() -> None:
    """By every interface that can ask for it, and by Python."""
    with filling() as engine:
        expected = engine.generate([1, *b"ab", 2, *b"cd", 3], max_tokens=5, temperature=0)
        assert engine.generate(Infill("ab", "cd"), max_tokens=5, temperature=0).tokens == expected.tokens
    with serving(filling()) as server:
        options = {"max_tokens": 5, "temperature": 0}
        infill = server.ask("/infill", {"input_prefix": "a", "prompt": "b", "input_suffix": "cd", **options}).json()
        choice = server.ask("/v1/completions", {"prompt": "ab", "suffix": "cd", "echo": True, **options}).json()[
            "choices"
        ][0]
        assert infill["content"] == expected.text
        assert choice["text"] == "ab" + expected.text
        extra = [{"filename": "x.py", "text": "1"}, {"text": "2"}]
        answer = server.ask("/infill", {"input_prefix": "a", "input_suffix": "b", "input_extra": extra, **options})
        assert answer.json()["tokens_evaluated"] == len(b"\4myproject\n\5x.py\n1\5tmp\n2\5filename\n\1a\2b\3")
        for wrong in ({}, {"filename": 1, "text": "x"}, "x"):
            body = {"input_prefix": "a", "input_suffix": "b", "input_extra": [wrong]}
            assert server.ask("/infill", body).status == 400


def test_a_model_without_such_tokens_says_so(server: Running) -> None:
    """And so does an infill without its texts."""
    refused = server.ask("/infill", {"input_prefix": "a", "input_suffix": "b"})
    assert (refused.status, "tokens to fill a gap" in refused.json()["error"]["message"]) == (400, True)
    assert server.ask("/infill", {"input_prefix": "a"}).status == 400
    assert server.ask("/v1/completions", {"prompt": "a", "suffix": "b"}).status == 400


@pytest.mark.parametrize(
    ("before", "behind", "extra"), [(10, 10, 0), (500, 10, 9), (10, 500, 9), (500, 500, 9), (5, 5, 500)]
)
def test_a_long_gap_keeps_what_is_near(before: int, behind: int, extra: int) -> None:
    """The ends of the texts next to it; other files fill the room that is left."""
    vocabulary = ScriptedVocabulary(256)
    vocabulary.fim = FimTokens(1, 2, 3, 4, 5)
    infill = Infill("a" * before + "P", "S" + "b" * behind, "x", (("f", "c" * extra),) if extra else ())
    found = bytes(raw_tokens(vocabulary, infill, 100, parse_special=True))
    assert len(found) <= 100
    assert b"Px\2S" in found
    assert found.endswith(b"\3")
    text = len(found) - found.index(b"\1")
    assert text == min(before + behind + 6, 100)


def test_tokens_of_python_are_checked() -> None:
    """With the one that is wrong."""
    with filling() as engine:
        for wrong, match in (
            ([300], "300"),
            ([True], "True"),
            (["a"], "'a'"),
            (b"x", "bytes"),
            (5, "int"),
            ("", "empty"),
        ):
            with pytest.raises(InputError, match=match):
                engine.generate(wrong)  # type: ignore[arg-type]
        prepared = engine.prepare([7, 8])
        assert engine.generate(prepared, max_tokens=3, temperature=0).tokens
        assert engine.check([7, 8]) == 2


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_is_tokenized_once(stream: bool) -> None:
    """However many answers it has, streamed or not, raw or of a chat."""
    seen = list[str]()

    class Counting(ScriptedVocabulary):
        def tokenize(self, text: str, **options: Any) -> list[int]:
            seen.append(text)
            return super().tokenize(text, **options)

    engine = scripted_engine(chain_logits(256, 1), vocabulary=Counting(256, ends=[255]))
    more = {"n": 3, "max_tokens": 2, "stream": stream}
    with serving(engine) as server:
        assert server.ask("/v1/completions", {"prompt": "some words", **more}).status == 200
        messages = [{"role": "user", "content": "other words"}]
        assert server.ask("/v1/chat/completions", {"messages": messages, **more}).status == 200
    assert [text for text in seen if "words" in text] == ["some words", "<user>other words</><assistant>"]
