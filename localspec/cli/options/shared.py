"""Options that commands share, and the settings they become.

Each decorator takes its options off the command's arguments and passes one frozen object in their place, so that a
command does not repeat them. Making that object checks the values, before any model is opened.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from localspec.cli.options.format import FORMAT_OPTIONS, given_format
from localspec.cli.options.sampling import SAMPLING_OPTIONS, given_sampling
from localspec.cli.settings import define, make_setting, naming_sources
from localspec.params import ContextParams, DraftParams, SamplingParams, StopParams, Wish

_Command = TypeVar("_Command", bound=Callable[..., None])
_Decorator = Callable[[_Command], _Command]

_DEFAULT = SamplingParams()


@dataclass(frozen=True)
class ModelOptions:
    """Which models to open and where. ``chosen``: the model was given, by a flag, the environment or the file."""

    model: str
    draft: str
    ctx_size: int | None
    threads: int | None
    gpu_layers: int | None
    device: str | None
    draft_max: int | None
    exactness: Wish
    verbose: bool
    ngram_file: str | None = None
    offline: bool = False
    chosen: bool = True

    @classmethod
    def of(cls, **values: Any) -> ModelOptions:
        """From the values of the options; click knows where the model comes from."""
        source = click.get_current_context().get_parameter_source("model")
        return cls(**values, chosen=source is not ParameterSource.DEFAULT)

    def __post_init__(self) -> None:
        ContextParams(ctx_size=self.ctx_size, threads=self.threads, gpu_layers=self.gpu_layers, device=self.device)
        DraftParams(max=self.draft_max)


@dataclass(frozen=True)
class AnswerOptions:
    """How tokens are chosen and when an answer ends."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    seed: int | None
    stop: tuple[str, ...]
    max_tokens: int | None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """What was given of the less common settings."""
    format: Mapping[str, Any] = field(default_factory=dict)
    """What the answer must look like, if anything."""

    @classmethod
    def of(cls, **values: Any) -> AnswerOptions:
        """From the values of the options, the common and the less common ones."""
        less_common = {name: values.pop(name) for name in SAMPLING_OPTIONS}
        shape = {name: values.pop(name) for name in FORMAT_OPTIONS}
        if values["stop"] and any(shape.values()):
            raise click.UsageError("--stop would cut a structured answer before its end; leave it out.")
        return cls(**values, sampling=given_sampling(less_common), format=given_format(**shape))

    def __post_init__(self) -> None:
        SamplingParams(self.temperature, self.top_k, self.top_p, self.min_p, self.seed, **self.sampling)
        StopParams(self.max_tokens, self.stop)

    def engine(self) -> dict[str, Any]:
        """The keyword arguments of the engine's verbs; they can be written as JSON."""
        common = {name: value for name, value in vars(self).items() if name not in ("sampling", "format")}
        return {**common, "stop": list(self.stop), **self.sampling, **self.format}


@dataclass(frozen=True)
class PromptOptions:
    """Where the prompt comes from; at most one of ``prompt``, ``file`` and ``messages``."""

    prompt: str | None
    file: str | None
    messages: str | None
    system: str | None

    @classmethod
    def of(cls, **values: Any) -> PromptOptions:
        """From the values of the options. A system message that is only a default gives way where none can be had."""
        context = click.get_current_context()
        given = context.get_parameter_source("system") is ParameterSource.COMMANDLINE
        alone = values["messages"] is not None or context.params.get("raw") or context.params.get("jsonl")
        return cls(**{**values, "system": None}) if alone and not given else cls(**values)


def _offline(context: click.Context, _: click.Parameter, value: bool) -> bool:
    """Said in the environment, where ``huggingface_hub`` and every part of ours look, while the command runs."""
    if value:
        before = os.environ.get("HF_HUB_OFFLINE", "")
        os.environ["HF_HUB_OFFLINE"] = "1"
        context.call_on_close(lambda: os.environ.update(HF_HUB_OFFLINE=before))
    return value


def _bundle(
    name: str, kind: Callable[..., Any], options: dict[str, Callable[..., Any]], one_time: Collection[str] = ()
) -> _Decorator[_Command]:
    """A decorator that adds ``options`` and passes them to the command as ``name=kind(**values)``.

    Those that take one value and are not for ``one_time`` have a default in the settings file and the environment, too.
    """

    def decorate(command: _Command) -> _Command:
        @functools.wraps(command)
        def bundled(**values: Any) -> None:
            own = {key: values.pop(key) for key in options}
            with naming_sources():
                made = kind(**own)
            command(**{name: made}, **values)

        for key, option in reversed(options.items()):
            bundled = option(bundled)
            made = bundled.__click_params__[-1]  # type: ignore[attr-defined]
            if key not in one_time and not made.multiple and not made.hidden:
                make_setting(made)
        return bundled  # type: ignore[return-value]

    return decorate


model_options: _Decorator[Any] = _bundle(
    "models",
    ModelOptions.of,
    {
        "model": click.option(
            "-m",
            "--model",
            metavar="MODEL",
            default="tiny",
            show_default=True,
            help="Target: tiny (built in), a GGUF file, or a Hub name user/repo[:QUANT].",
        ),
        "draft": click.option(
            "-d",
            "-md",
            "--draft",
            "--model-draft",
            "draft",
            metavar="DRAFT",
            default="auto",
            show_default=True,
            help="Drafter: auto (the best there is), none, ngram, a GGUF file, or a Hub name.",
        ),
        "ctx_size": click.option(
            "-c",
            "--ctx-size",
            type=int,
            metavar="N",
            help="Context size in tokens.  [default: the model's own, at most 8192]",
        ),
        "threads": click.option(
            "-t", "--threads", type=int, metavar="N", help="CPU threads.  [default: physical cores]"
        ),
        "gpu_layers": click.option(
            "-ngl",
            "--gpu-layers",
            type=int,
            metavar="N",
            help="Layers to put on the GPU.  [default: as many as fit]",
        ),
        "device": click.option("--device", metavar="NAME", help="Compute on this one of 'localspec devices'."),
        "draft_max": click.option(
            "--draft-max", type=int, metavar="N", help="At most N draft tokens a step.  [default: as far as it pays]"
        ),
        "exactness": click.option(
            "--exactness",
            type=click.Choice(("require", "prefer", "off")),
            default="prefer",
            show_default=True,
            help="The output of decoding without a drafter: proved or refused, proved or guarded, or not looked at.",
        ),
        "ngram_file": click.option(
            "--ngram-file",
            metavar="FILE",
            help="Keep what was said in FILE, as tokens, and draft from it in later conversations too.",
        ),
        "offline": click.option(
            "--offline",
            is_flag=True,
            callback=_offline,
            help="Connect to nothing; what is not on disk is refused. HF_HUB_OFFLINE=1 does the same.",
        ),
        "verbose": click.option("--verbose", is_flag=True, help="Let llama.cpp's own log through."),
    },
)

answer_options: _Decorator[Any] = _bundle(
    "answer",
    AnswerOptions.of,
    {
        "max_tokens": click.option(
            "-n", "--max-tokens", type=int, metavar="N", help="At most N tokens.  [default: until the answer ends]"
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
            help="Choose among the K likeliest; 0 switches it off.",
        ),
        "top_p": click.option(
            "--top-p",
            type=float,
            metavar="P",
            default=_DEFAULT.top_p,
            show_default=True,
            help="Choose among the likeliest that together hold P; 1 switches it off.",
        ),
        "min_p": click.option(
            "--min-p",
            type=float,
            metavar="P",
            default=_DEFAULT.min_p,
            show_default=True,
            help="Leave out what is less than P times as likely as the likeliest; 0 switches it off.",
        ),
        "seed": click.option(
            "--seed", type=int, metavar="N", help="The same seed gives the same answer.  [default: a fresh one]"
        ),
        "stop": click.option("--stop", multiple=True, metavar="TEXT", help="End before this text; may be repeated."),
        **FORMAT_OPTIONS,
        **SAMPLING_OPTIONS,
    },
    one_time=FORMAT_OPTIONS,
)

prompt_options: _Decorator[Any] = _bundle(
    "source",
    PromptOptions.of,
    {
        "prompt": click.option("-p", "--prompt", metavar="TEXT", help="The prompt."),
        "file": click.option("-f", "--file", metavar="FILE", help="Read the prompt from FILE; - is standard input."),
        "messages": click.option(
            "--messages", metavar="FILE", help='Read a JSON list of {"role", "content"} in place of a prompt.'
        ),
        "system": click.option("--system", metavar="TEXT", help="A system message to put first."),
    },
    one_time=("prompt", "file", "messages"),
)

define(model_options, answer_options, prompt_options)
