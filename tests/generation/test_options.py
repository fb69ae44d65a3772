"""Laws of the options of a generation: None is the default, a number of numpy is Python's."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import localspec
from localspec.errors import UsageError
from localspec.generation.options import ChatOptions, Options, Request

#: Numbers that are no default.
NUMBERS: dict[str, Any] = {
    "max_tokens": 5, "temperature": 0.5, "top_k": 7, "top_p": 0.5, "min_p": 0.25, "typical_p": 0.5, "top_n_sigma": 1.5,
    "xtc_probability": 0.5, "xtc_threshold": 0.25, "dynatemp_range": 0.5, "dynatemp_exponent": 2.0,
    "repeat_penalty": 1.5, "repeat_last_n": 5, "presence_penalty": 0.5, "frequency_penalty": 0.5,
    "dry_multiplier": 0.5, "dry_base": 1.5, "dry_allowed_length": 3, "dry_penalty_last_n": 5, "seed": 9,
    "draft_max": 3, "logprobs": 2,
}  # fmt: skip


def test_none_is_the_default() -> None:
    """For every option, alone and together."""
    default = Request.from_options({"seed": 1})
    for name in Options.__annotations__:
        if name != "seed":
            assert Request.from_options({"seed": 1, name: None}) == default  # type: ignore[misc]
    every: Any = dict.fromkeys(Options.__annotations__)
    assert Request.from_options({**every, "seed": 1}) == default


@pytest.mark.parametrize("value", [0.5, None])
def test_unknown_option_is_refused(value: object) -> None:
    """With None, too: its name may be misspelt."""
    with pytest.raises(UsageError, match="no option 'temprature'"):
        Request.from_options({"temprature": value})  # type: ignore[typeddict-unknown-key]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_of_numpy_are_taken(name: str) -> None:
    """And stored as Python's own."""
    value = NUMBERS[name]
    one = np.int16(value) if isinstance(value, int) else np.float32(value)
    found = Request.from_options({"seed": 1, name: one})  # type: ignore[misc]
    assert found == Request.from_options({"seed": 1, name: value})  # type: ignore[misc]
    parts = (vars(found.sampling), vars(found.stop), found.draft_max, found.logprobs)
    assert json.loads(json.dumps(parts))


def test_every_verb_takes_none_and_numpy() -> None:
    """On the built-in pair; the texts are those of plain options."""
    with localspec.load(None, None, ctx_size=np.int64(256), threads=np.int32(1), exactness=None, draft_max=None) as llm:
        options: Any = {**dict.fromkeys(Options.__annotations__), "seed": np.uint32(3), "max_tokens": np.int64(6)}
        text = llm.generate("Once", seed=3, max_tokens=6).text
        assert llm.generate("Once", **options).text == text
        assert "".join(chunk.text for chunk in llm.stream("Once", **options)) == text
        chat: Any = {**dict.fromkeys(ChatOptions.__annotations__), **options}
        message = [{"role": "user", "content": "Hello"}]
        assert llm.chat(message, **chat).text == llm.chat(message, seed=3, max_tokens=6).text
        assert llm.detokenize(np.array(llm.tokenize("Once"))) == "Once"
        assert llm.n_ctx == 256
        assert "mtp" in llm.drafters
