"""Laws of the settings: a wrong value is refused when it is made, with the value and what is allowed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.errors import UsageError
from localspec.params import (
    MAX_DRAFT,
    MAX_SEED,
    MAX_VERIFY_WIDTH,
    ContextParams,
    DraftParams,
    SamplingParams,
    StopParams,
)

#: kind, field, a value just outside, the bound that the message must name.
OUTSIDE = [
    (SamplingParams, "temperature", -0.1, "0"),
    (SamplingParams, "top_k", -1, "0"),
    (SamplingParams, "top_p", -0.01, "0.0 to 1.0"),
    (SamplingParams, "top_p", 1.01, "0.0 to 1.0"),
    (SamplingParams, "min_p", -0.01, "0.0 to 1.0"),
    (SamplingParams, "min_p", 1.01, "0.0 to 1.0"),
    (SamplingParams, "seed", -1, "0"),
    (StopParams, "max_tokens", 0, "1"),
    (StopParams, "max_tokens", -5, "1"),
    (DraftParams, "max", -1, f"0 to {MAX_DRAFT}"),
    (DraftParams, "max", MAX_DRAFT + 1, f"0 to {MAX_DRAFT}"),
    (ContextParams, "ctx_size", 0, "1"),
    (ContextParams, "threads", 0, "1 to 512"),
    (ContextParams, "threads", 513, "1 to 512"),
    (ContextParams, "gpu_layers", -2, "-1"),
    (ContextParams, "batch", MAX_VERIFY_WIDTH - 1, f"{MAX_VERIFY_WIDTH} to 65536"),
    (ContextParams, "batch", 65537, f"{MAX_VERIFY_WIDTH} to 65536"),
    (ContextParams, "verify_width", 0, f"1 to {MAX_VERIFY_WIDTH}"),
    (ContextParams, "verify_width", MAX_VERIFY_WIDTH + 1, f"1 to {MAX_VERIFY_WIDTH}"),
]
#: The same beyond an upper bound that is not small.
ABOVE = [
    (SamplingParams, "top_k", 2**31, str(2**31 - 1)),
    (SamplingParams, "seed", MAX_SEED + 1, str(MAX_SEED)),
    (StopParams, "max_tokens", 2**31, str(2**31 - 1)),
    (ContextParams, "ctx_size", 2**31, str(2**31 - 1)),
    (ContextParams, "gpu_layers", 2**31, str(2**31 - 1)),
]
NUMBERS = sorted({(kind, name) for kind, name, *_ in OUTSIDE}, key=str)
WHOLE = {"top_k", "seed", "max_tokens", "max", "ctx_size", "threads", "gpu_layers", "batch", "verify_width"}


@pytest.mark.parametrize(("kind", "name", "value", "bound"), OUTSIDE)
def test_value_outside_names_itself_and_the_range(kind: Any, name: str, value: Any, bound: str) -> None:
    """One sentence has the setting, the value and what would be right."""
    with pytest.raises(UsageError) as caught:
        kind(**{name: value})
    assert name in str(caught.value)
    assert str(value) in str(caught.value)
    assert bound in str(caught.value)


@pytest.mark.parametrize(("kind", "name", "value", "bound"), ABOVE)
def test_value_above_is_refused(kind: Any, name: str, value: Any, bound: str) -> None:
    """Upper bounds hold as well."""
    with pytest.raises(UsageError, match=str(value)):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name", "value", "bound"), ABOVE)
def test_value_above_names_the_bound_that_it_crossed(kind: Any, name: str, value: Any, bound: str) -> None:
    """The message of a value that is too large does not name the lower bound."""
    with pytest.raises(UsageError) as caught:
        kind(**{name: value})
    assert bound in str(caught.value)


@pytest.mark.parametrize("value", [True, False, math.nan, math.inf, -math.inf, "1", [1], 1j, b"1"])
@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_rejects_what_is_no_number(kind: Any, name: str, value: Any) -> None:
    """A bool, NaN, infinity or text is not a number."""
    with pytest.raises(UsageError, match=name):
        kind(**{name: value})


@pytest.mark.parametrize("value", [1.0, 1.5])
@pytest.mark.parametrize(("kind", "name"), [pair for pair in NUMBERS if pair[1] in WHOLE])
def test_rejects_fraction_for_whole_number(kind: Any, name: str, value: float) -> None:
    """Counts are whole."""
    with pytest.raises(UsageError, match="whole number"):
        kind(**{name: value})


@pytest.mark.parametrize("name", ["temperature", "top_k", "top_p", "seed"])
def test_rejects_number_of_any_size(name: str) -> None:
    """A number of 400 digits is out of range, not a crash."""
    with pytest.raises(UsageError, match=name):
        SamplingParams(**{name: -(10**400)})


@given(
    st.floats(0, 1e6), st.integers(0, 2**31 - 1), st.floats(0, 1), st.floats(0, 1), st.none() | st.integers(0, MAX_SEED)
)
def test_every_value_inside_is_accepted(t: float, k: int, p: float, m: float, seed: int | None) -> None:
    """The bounds themselves belong to the range."""
    params = SamplingParams(t, k, p, m, seed)
    assert params.greedy == (t == 0)
    assert params.seeded().seed is not None
    assert params.seeded() == params or seed is None


@pytest.mark.parametrize("kind", [SamplingParams, StopParams, DraftParams, ContextParams])
def test_settings_are_frozen(kind: Any) -> None:
    """Checked values cannot change."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), dataclasses.fields(kind)[0].name, 1)


def test_seeds_are_drawn_afresh() -> None:
    """No seed means a new one each time."""
    assert len({SamplingParams().seeded().seed for _ in range(8)}) > 1


@pytest.mark.parametrize("stop", ["text", b"text", 5, {"a"}, None])
def test_stop_is_a_list(stop: Any) -> None:
    """A lone string would mean each of its characters."""
    with pytest.raises(UsageError, match="stop"):
        StopParams(stop=stop)


@pytest.mark.parametrize("text", ["", 5, None, b"x"])
def test_stop_string_is_text_of_at_least_one_character(text: Any) -> None:
    """The empty string would stop everything."""
    with pytest.raises(UsageError, match="at least one character"):
        StopParams(stop=("fine", text))


def test_stop_strings_cannot_change_afterwards() -> None:
    """A list that the caller goes on using is copied."""
    stops = ["a"]
    params = StopParams(stop=stops)  # type: ignore[arg-type]
    stops.append("")
    assert params.stop == ("a",)


@pytest.mark.parametrize(("kind", "name"), NUMBERS)
def test_numbers_of_numpy_are_pythons(kind: Any, name: str) -> None:
    """They are stored as Python's own, so that settings are equal, hashed and written as JSON alike."""
    whole = name in WHOLE
    value = 64 if name in ("batch", "verify_width") else 1
    for one in (np.int64(value), np.uint8(value), np.array(value), *([] if whole else [np.float32(value)])):
        params = kind(**{name: one})
        assert type(getattr(params, name)) is (float if isinstance(one, np.floating) else int)
        assert params == kind(**{name: value})
        assert hash(params) == hash(kind(**{name: value}))
    for wrong in (np.bool_(True), np.array([value]), *([np.float64(1.5)] if whole else [np.float64("nan")])):
        with pytest.raises(UsageError, match="max" if name == "max" else name):
            kind(**{name: wrong})


def test_biases_of_numpy_are_pythons() -> None:
    """Tokens and numbers both."""
    biases = SamplingParams(logit_bias={np.int32(7): np.float32(1.5), 3: np.bool_(False)}).logit_bias  # type: ignore[dict-item]
    assert biases == ((3, -math.inf), (7, 1.5))
    assert [type(part) for pair in biases for part in pair] == [int, float, int, float]
