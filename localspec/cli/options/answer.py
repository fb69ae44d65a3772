"""Options of an answer: sampling, length, stop strings and format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import click

from localspec.cli.options.bundle import bundle
from localspec.cli.options.format import FORMAT_OPTIONS, given_format
from localspec.cli.options.sampling import SAMPLING_OPTIONS, given_sampling
from localspec.params import SamplingParams, StopParams

_DEFAULT = SamplingParams()
#: llama.cpp's values of ``-n`` for an answer of any length, and of ``--seed`` for a random seed.
_UNLIMITED, _RANDOM = (-1, -2), -1


@dataclass(frozen=True)
class AnswerOptions:
    """Sampling, length, stop strings and format of an answer."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: tuple[str, ...]
    max_tokens: int | None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """The less common sampling options that were given."""
    format: Mapping[str, Any] = field(default_factory=dict)
    """``response_format`` or ``grammar``, if one was given."""

    @classmethod
    def from_flags(cls, **values: Any) -> AnswerOptions:
        """From the values of the options."""
        less_common = {name: values.pop(name) for name in SAMPLING_OPTIONS}
        formats = {name: values.pop(name) for name in FORMAT_OPTIONS}
        if values["stop"] and any(formats.values()):
            raise click.UsageError("--stop would cut a structured answer before its end; leave it out.")
        if values["max_tokens"] in _UNLIMITED:
            values["max_tokens"] = None
        if values["seed"] == _RANDOM:
            values["seed"] = None
        return cls(**values, sampling=given_sampling(less_common), format=given_format(**formats))

    def __post_init__(self) -> None:
        SamplingParams(self.temperature, self.top_k, self.top_p, self.min_p, self.seed, **self.sampling)
        StopParams(self.max_tokens, self.stop)

    def keywords(self) -> dict[str, Any]:
        """The keyword arguments of the engine's verbs; they can be written as JSON."""
        common = {name: value for name, value in vars(self).items() if name not in ("sampling", "format")}
        return {**common, "stop": list(self.stop), **self.sampling, **self.format}


answer_options = bundle(
    "answer",
    AnswerOptions.from_flags,
    {
        "max_tokens": click.option(
            "-n",
            "--max-tokens",
            type=int,
            metavar="N",
            help="At most N tokens; -1: no limit.  [default: until the answer ends]",
        ),
        "temperature": click.option(
            "--temp",
            "temperature",
            type=float,
            metavar="T",
            default=_DEFAULT.temperature,
            show_default=True,
            help="Temperature; 0 is greedy.",
        ),
        "top_k": click.option(
            "--top-k",
            type=int,
            metavar="K",
            default=_DEFAULT.top_k,
            show_default=True,
            help="Sample from the K likeliest tokens; 0: off.",
        ),
        "top_p": click.option(
            "--top-p",
            type=float,
            metavar="P",
            default=_DEFAULT.top_p,
            show_default=True,
            help="Sample from the likeliest tokens of total probability P; 1: off.",
        ),
        "min_p": click.option(
            "--min-p",
            type=float,
            metavar="P",
            default=_DEFAULT.min_p,
            show_default=True,
            help="Leave out tokens less than P times as likely as the likeliest; 0: off.",
        ),
        "seed": click.option(
            "--seed",
            type=int,
            metavar="N",
            help="Seed of the answer; -1: random.  [default: random]",
        ),
        "stop": click.option("--stop", multiple=True, metavar="TEXT", help="End before this text. May be repeated."),
        **FORMAT_OPTIONS,
        **SAMPLING_OPTIONS,
    },
    not_settings=FORMAT_OPTIONS,
)
