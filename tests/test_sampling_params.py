"""Laws of the sampling settings: ranges, what is refused with a reason, and the command line's way to them."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import Any

import click
import pytest
from click.testing import CliRunner

from localspec.cli.options.answer import AnswerOptions, answer_options
from localspec.cli.options.help import HeadedCommand
from localspec.engine import Options
from localspec.errors import UsageError
from localspec.params import SAMPLING_RANGES, SamplingParams


@pytest.mark.parametrize("name", SAMPLING_RANGES)
def test_every_number_has_its_range(name: str) -> None:
    """The ends are accepted; beyond them the message has the field, the value and what is right."""
    low, high, _ = SAMPLING_RANGES[name]
    for value in (low, high if math.isfinite(high) else 1e300):
        assert getattr(SamplingParams(**{name: value}), name) == value
    for wrong in (low - 1, math.inf if math.isinf(high) else high + 1):
        with pytest.raises(UsageError, match=name):
            SamplingParams(**{name: wrong})
    for odd in (math.nan, True, "1", None):
        with pytest.raises(UsageError, match=f"{name} is"):
            SamplingParams(**{name: odd})


@pytest.mark.parametrize("value", [1, 2, -1, True, "2"])
def test_mirostat_is_refused_with_a_reason(value: Any) -> None:
    """Its state depends on more than a row and the tokens before it."""
    with pytest.raises(UsageError, match=r"only 0 .* no longer be a function of its logits"):
        SamplingParams(mirostat=value)


def test_biases_may_be_written_in_every_usual_way() -> None:
    """A mapping, pairs, llama-server's false; kept as pairs by id, so that settings can be compared and hashed."""
    kept = ((3, -math.inf), (7, 1.5))
    for given in ({7: 1.5, 3: -math.inf}, [(7, 1.5), (3, False)], [[3, False], [7, 1.5]], kept):
        params = SamplingParams(logit_bias=given)  # type: ignore[arg-type]
        assert params.logit_bias == kept
        assert hash(params) == hash(SamplingParams(logit_bias=kept))


@pytest.mark.parametrize(
    "wrong", [5, "1+2", {"a": 1}, {1: math.inf}, {1: math.nan}, {-1: 0.0}, [(1, 2), (1, 3)], [(1,)], ["12"], {1: True}]
)
def test_biases_that_mean_nothing_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match=r"logit_bias|bias of token"):
        SamplingParams(logit_bias=wrong)


@pytest.mark.parametrize("wrong", ["text", 5, [""], [5], ["\ud800"]])
def test_breakers_are_texts(wrong: Any) -> None:
    with pytest.raises(UsageError, match="dry_sequence_breakers"):
        SamplingParams(dry_sequence_breakers=wrong)


def test_the_engine_s_options_are_the_settings() -> None:
    """Every setting but mirostat, which has one value, is a typed keyword of the engine's verbs."""
    assert {item.name for item in fields(SamplingParams)} - {"mirostat"} <= set(Options.__annotations__)


@click.command(cls=HeadedCommand)
@answer_options
def show(answer: AnswerOptions) -> None:
    """Prints what it was given."""
    click.echo(json.dumps(answer.keywords(), allow_nan=False))


def shown(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(show, arguments)
    if result.exception:
        raise result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


FLAGS: list[tuple[str, str, Any]] = [
    ("--typical 0.9", "typical_p", 0.9),
    ("--top-nsigma -1", "top_n_sigma", -1.0),
    ("--xtc-probability 0.5", "xtc_probability", 0.5),
    ("--xtc-threshold 0.2", "xtc_threshold", 0.2),
    ("--dynatemp-range 0.5", "dynatemp_range", 0.5),
    ("--dynatemp-exp 2", "dynatemp_exponent", 2.0),
    ("--repeat-penalty 1.1", "repeat_penalty", 1.1),
    ("--repeat-last-n 0", "repeat_last_n", 0),
    ("--presence-penalty -0.5", "presence_penalty", -0.5),
    ("--frequency-penalty 0.5", "frequency_penalty", 0.5),
    ("--dry-multiplier 0.8", "dry_multiplier", 0.8),
    ("--dry-base 2", "dry_base", 2.0),
    ("--dry-allowed-length 3", "dry_allowed_length", 3),
    ("--dry-penalty-last-n 512", "dry_penalty_last_n", 512),
    ("--dry-sequence-breaker \\n --dry-sequence-breaker ;", "dry_sequence_breakers", ["\n", ";"]),
    ("--dry-sequence-breaker none", "dry_sequence_breakers", []),
    ("-l 5+1.5 -l 7-inf", "logit_bias", [[5, 1.5], [7, False]]),
]


@pytest.mark.parametrize(("line", "name", "value"), FLAGS)
def test_a_flag_sets_its_field(line: str, name: str, value: Any) -> None:
    """The value is JSON, as written by /save, and valid for the engine again."""
    found = shown(*line.split(" "))
    assert found[name] == value
    own = {item.name for item in fields(SamplingParams)}
    SamplingParams(**{key: item for key, item in found.items() if key in own})


def test_what_is_not_given_is_left_to_the_engine() -> None:
    """The less common settings are not among the arguments unless they are given."""
    assert set(shown()) == {"temperature", "top_k", "top_p", "min_p", "seed", "stop", "max_tokens"}


@pytest.mark.parametrize("line", ["-l 5", "-l x+1", "-l 5+nan", "-l 5+inf", "--mirostat 1", "--dry-base 0", "-l 5+1e9"])
def test_wrong_flags_are_refused(line: str) -> None:
    with pytest.raises(UsageError):
        shown(*line.split(" "))


def test_the_help_has_a_short_list_first() -> None:
    """The less common options stand below a heading of their own."""
    page = CliRunner().invoke(show, ["--help"]).stdout
    common, rest = page.split("More sampling:")
    assert "--temp" in common
    assert "--dry-base" in rest
    assert "--dry-base" not in common
    assert "mirostat" not in page
