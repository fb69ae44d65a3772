"""Options of the models and the devices: ``-m``, ``-d``, ``-c`` and so on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from localspec.cli.options.bundle import bundle
from localspec.cli.options.values import DraftName, FileName, LayerCount, ModelName, TokenRange
from localspec.errors import UsageError
from localspec.params import (
    CACHE_TYPES,
    FIXED_WIDTHS,
    ContextParams,
    DraftParams,
    ExactnessMode,
    check_image_tokens,
    check_pass_width,
)

#: llama.cpp's words for numbers of layers: -1 is all, None as many as fit.
_LAYERS = {"all": -1, "auto": None}


@dataclass(frozen=True)
class ModelOptions:
    """The models to load, and the devices.

    ``ctx_size``: 0 is the model's own. ``chosen``: a flag, the environment or the settings file names the model.
    ``template``: name or file of a chat template.
    """

    model: str
    draft: str
    ctx_size: int | None
    threads: int | None
    gpu_layers: int | None
    device: str | None
    draft_max: int | None
    exactness: ExactnessMode
    pass_width: int | None
    verbose: bool
    cache_type_k: str | None = None
    cache_type_v: str | None = None
    ngram_file: str | None = None
    offline: bool = False
    chosen: bool = True
    template: str | Path | None = None
    rpc: str | None = None
    mmproj: str | None = None
    image_tokens: tuple[int, int] | None = None

    @classmethod
    def from_flags(cls, **values: Any) -> ModelOptions:
        """From the values of the options and click's source of the model."""
        source = click.get_current_context().get_parameter_source("model")
        layers, width = values.pop("gpu_layers"), values.pop("pass_width")
        template = _template(values.pop("chat_template"), values.pop("chat_template_file"))
        return cls(
            **values,
            gpu_layers=_LAYERS.get(layers, layers),
            pass_width=None if width == "auto" else int(width),
            chosen=source is not ParameterSource.DEFAULT,
            template=template,
        )

    def __post_init__(self) -> None:
        ContextParams(
            ctx_size=self.ctx_size or None, threads=self.threads, gpu_layers=self.gpu_layers, device=self.device
        )
        DraftParams(max=self.draft_max)
        check_pass_width(self.pass_width, self.exactness)
        if self.rpc is not None:
            from localspec.machines.address import parse_workers

            parse_workers(self.rpc)
        check_image_tokens(self.image_tokens)


def _template(name: str | None, file: str | None) -> str | Path | None:
    """The chosen chat template. A flag overrides the setting of the other option."""
    if name is not None and file is not None:
        context = click.get_current_context()
        typed = [context.get_parameter_source(key) for key in ("chat_template", "chat_template_file")]
        on_line = [source is ParameterSource.COMMANDLINE for source in typed]
        if all(on_line) or not any(on_line):
            raise UsageError("--chat-template and --chat-template-file both give a template; keep one.")
        name, file = (name, None) if on_line[0] else (None, file)
    return name if file is None else Path(file)


def _offline(context: click.Context, _: click.Parameter, value: bool) -> bool:
    """Set HF_HUB_OFFLINE while the command runs: ``huggingface_hub`` and localspec read it."""
    if value:
        before = os.environ.get("HF_HUB_OFFLINE", "")
        os.environ["HF_HUB_OFFLINE"] = "1"
        context.call_on_close(lambda: os.environ.update(HF_HUB_OFFLINE=before))
    return value


model_options = bundle(
    "models",
    ModelOptions.from_flags,
    {
        "model": click.option(
            "-m",
            "-hf",
            "--model",
            "model",
            type=ModelName(),
            metavar="MODEL",
            default="tiny",
            show_default=True,
            help="Target: tiny (built in), a GGUF file, a Hub name user/repo[:QUANT], or a name of localspec list.",
        ),
        "draft": click.option(
            "-d",
            "-md",
            "--draft",
            "--model-draft",
            "draft",
            type=DraftName(),
            metavar="DRAFT",
            default="auto",
            show_default=True,
            help="Drafter: auto (the best available), none, ngram, mtp, a GGUF file, or a Hub name.",
        ),
        "ctx_size": click.option(
            "-c",
            "--ctx-size",
            type=int,
            metavar="N",
            help="Context size in tokens; 0: the model's own.  [default: the model's own, at most 8192]",
        ),
        "threads": click.option(
            "-t",
            "--threads",
            type=int,
            metavar="N",
            help="CPU threads.  [default: physical cores, fewer under load]",
        ),
        "gpu_layers": click.option(
            "-ngl",
            "--gpu-layers",
            type=LayerCount(),
            metavar="N",
            help="Layers to put on the GPU; all: every layer.  [default: as many as fit]",
        ),
        "device": click.option(
            "--device", metavar="NAME", help="Device to compute on; 'localspec devices' lists them."
        ),
        "rpc": click.option(
            "--rpc",
            metavar="HOST:PORT,...",
            help="Workers that may hold layers of the model: machines that run localspec worker. HOST:PORT=N gives one "
            "N layers.",
        ),
        "draft_max": click.option(
            "--draft-max", type=int, metavar="N", help="At most N draft tokens a step.  [default: as many as pay]"
        ),
        "exactness": click.option(
            "--exactness",
            type=click.Choice(("require", "prefer", "off")),
            default="prefer",
            show_default=True,
            help="Same output as without a drafter: require (proved, else an error), prefer (proved where possible, "
            "else approximate), off (not checked; llama-server's cache types and passes).",
        ),
        "pass_width": click.option(
            "--pass-width",
            type=click.Choice(("auto", "1", *map(str, FIXED_WIDTHS))),
            default="auto",
            show_default=True,
            help="Pad every pass to N rows, which makes more files and devices exact; 1: never; auto: where that "
            "costs less than 5%.",
        ),
        "ngram_file": click.option(
            "--ngram-file",
            type=FileName(),
            metavar="FILE",
            help="Keep the tokens of this conversation in FILE, and draft from it in later ones.",
        ),
        "chat_template": click.option(
            "--chat-template",
            type=click.Choice(("gemma", "chatml", "llama3")),
            help="A built-in chat template in place of the model's.  [default: the model's]",
        ),
        "chat_template_file": click.option(
            "--chat-template-file",
            type=FileName(),
            metavar="FILE",
            help="A Jinja chat template in place of the model's.",
        ),
        "mmproj": click.option(
            "--mmproj",
            type=FileName(),
            metavar="FILE",
            help="The model's projector, which reads pictures and sounds; none: no pictures.  [default: the one beside "
            "the model or pulled with it]",
        ),
        "image_tokens": click.option(
            "--image-tokens",
            type=TokenRange(),
            metavar="MIN-MAX",
            help="Fewest and most tokens of a picture: more read small text, fewer are faster.  [default: the "
            "projector's]",
        ),
        "offline": click.option(
            "--offline",
            is_flag=True,
            callback=_offline,
            help="Never connect; a model that is not on disk is an error. HF_HUB_OFFLINE=1 does the same.",
        ),
        "verbose": click.option("--verbose", is_flag=True, help="Show llama.cpp's own log."),
        "cache_type_k": click.option(
            "-ctk",
            "--cache-type-k",
            type=click.Choice(CACHE_TYPES),
            metavar="TYPE",
            help=f"Type of the cache's keys: {', '.join(CACHE_TYPES)}.  [default: q8_0 on a CPU, f16 on a GPU]",
        ),
        "cache_type_v": click.option(
            "-ctv",
            "--cache-type-v",
            type=click.Choice(CACHE_TYPES),
            metavar="TYPE",
            help="Type of the cache's values.  [default: f16]",
        ),
    },
)
