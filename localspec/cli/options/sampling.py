"""The less common sampling options, below a heading of their own in the help. Names and meanings are llama.cpp's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import click

from localspec.cli.options.help import HeadedOption
from localspec.errors import UsageError
from localspec.params import DRY_BREAKERS, SamplingParams

_DEFAULT = SamplingParams()
_HEADING = "More sampling"
#: Escape sequences in a sequence breaker of DRY.
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r", "\\\\": "\\", '\\"': '"', "\\'": "'"}


def _number(name: str, *flags: str, metavar: str = "N", help: str) -> Callable[..., Any]:
    """An option for the field ``name`` of :class:`SamplingParams`; None where it is not given."""
    default = getattr(_DEFAULT, name)
    return click.option(
        *flags,
        name,
        cls=HeadedOption,
        heading=_HEADING,
        type=type(default),
        metavar=metavar,
        help=f"{help}  [default: {default:g}]",
    )


def _many(name: str, *flags: str, metavar: str, help: str) -> Callable[..., Any]:
    return click.option(*flags, name, cls=HeadedOption, heading=_HEADING, multiple=True, metavar=metavar, help=help)


#: Field of :class:`SamplingParams` → its option.
SAMPLING_OPTIONS: dict[str, Callable[..., Any]] = {
    "typical_p": _number(
        "typical_p",
        "--typical",
        "--typical-p",
        metavar="P",
        help="Sample from tokens of the most typical surprise, of total probability P; 1: off.",
    ),
    "top_n_sigma": _number(
        "top_n_sigma",
        "--top-nsigma",
        "--top-n-sigma",
        help="Sample from logits at most N standard deviations below the largest; 0 or less: off.",
    ),
    "xtc_probability": _number(
        "xtc_probability", "--xtc-probability", metavar="P", help="Probability that XTC applies at a token; 0: off."
    ),
    "xtc_threshold": _number(
        "xtc_threshold",
        "--xtc-threshold",
        metavar="P",
        help="XTC leaves out tokens of at least probability P, except the least likely of them.",
    ),
    "dynatemp_range": _number(
        "dynatemp_range", "--dynatemp-range", help="Lower or raise the temperature by up to N, by entropy; 0: off."
    ),
    "dynatemp_exponent": _number(
        "dynatemp_exponent",
        "--dynatemp-exp",
        "--dynatemp-exponent",
        help="Exponent of the map from entropy to temperature.",
    ),
    "repeat_penalty": _number(
        "repeat_penalty", "--repeat-penalty", help="Divide the logits of earlier tokens by N; 1: off."
    ),
    "repeat_last_n": _number(
        "repeat_last_n", "--repeat-last-n", help="Number of earlier tokens that are penalised; 0: off."
    ),
    "presence_penalty": _number(
        "presence_penalty", "--presence-penalty", help="Subtract N from the logit of every earlier token; 0: off."
    ),
    "frequency_penalty": _number(
        "frequency_penalty", "--frequency-penalty", help="Subtract N for every occurrence of an earlier token; 0: off."
    ),
    "dry_multiplier": _number(
        "dry_multiplier", "--dry-multiplier", help="DRY: penalty for extending a repetition; 0: off."
    ),
    "dry_base": _number("dry_base", "--dry-base", help="DRY: growth of the penalty with each repeated token."),
    "dry_allowed_length": _number(
        "dry_allowed_length", "--dry-allowed-length", help="DRY: shortest repetition that is penalised."
    ),
    "dry_penalty_last_n": _number(
        "dry_penalty_last_n", "--dry-penalty-last-n", help="DRY: number of earlier tokens that are searched; 0: off."
    ),
    "dry_sequence_breakers": _many(
        "dry_sequence_breakers",
        "--dry-sequence-breaker",
        metavar="TEXT",
        help="DRY: text that ends a repetition; none: no such text. May be repeated.  "
        f"[default: {' '.join(text.replace(chr(10), chr(92) + 'n') for text in DRY_BREAKERS)}]",
    ),
    "logit_bias": _many(
        "logit_bias",
        "-l",
        "--logit-bias",
        metavar="TOKEN_ID(+/-)BIAS",
        help="Add to a token's logit: 15043+1, or 15043-inf for never. May be repeated.",
    ),
    "mirostat": click.option("--mirostat", "mirostat", type=int, metavar="N", hidden=True),
}


def given_sampling(values: dict[str, Any]) -> dict[str, Any]:
    """The options that were given (neither None nor empty), as keyword arguments of the engine's verbs."""
    found = {name: value for name, value in values.items() if value not in (None, ())}
    if "dry_sequence_breakers" in found:
        texts = [re.sub(r"\\.", lambda m: _ESCAPES.get(m[0], m[0]), text) for text in found["dry_sequence_breakers"]]
        found["dry_sequence_breakers"] = [] if texts == ["none"] else texts
    if "logit_bias" in found:
        found["logit_bias"] = [_bias(text) for text in found["logit_bias"]]
    return found


def _bias(text: str) -> list[Any]:
    """``15043+1.5`` → [15043, 1.5]; −inf is False, as in llama-server, so that it can be written as JSON."""
    match = re.fullmatch(r"\s*(\d{1,10})\s*([+-])\s*(\d+\.?\d*|\.\d+|inf)\s*", text, re.IGNORECASE)
    if match is None:
        raise UsageError(f"--logit-bias is {text!r}; it must be a token id, + or -, and a number, such as 15043-1.5.")
    bias = float(match[2] + match[3])
    return [int(match[1]), False if bias == -math.inf else bias]
