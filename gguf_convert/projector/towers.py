"""Tensors and settings of a checkpoint's encoders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gguf_convert.arch import MetadataValue
from gguf_convert.arch.text_tensors import TextTensors
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields, read_json_object
from gguf_convert.checkpoint.safetensors import CheckpointTensor
from gguf_convert.projector.sources import Reshaped
from gguf_convert.tensors import ModelTensor

_TOWERS = ("vision_", "audio_", "embed_vision.", "embed_audio.", "multi_modal_projector.")
_SETTINGS = (("preprocessor_config.json", "media_proc_cfg"), ("processor_config.json", "image_processor"))


@dataclass(frozen=True)
class Projector:
    """A projector as GGUF. Keys of ``metadata`` come without ``clip.``; ``fixed``: types that no recipe changes."""

    metadata: Mapping[str, MetadataValue]
    tensors: tuple[ModelTensor, ...]
    fixed: Mapping[str, str]


class TowerTensors(TextTensors):
    """The tensors of the encoders and of their projections, by name without ``model.``."""

    def _sort(self, name: str, tensor: CheckpointTensor) -> None:
        short = name.removeprefix("model.").replace("vision_tower.vision_model.", "vision_tower.", 1)
        if short.startswith(_TOWERS):
            self.left[short] = tensor

    def named(self, names: Mapping[str, tuple[str, tuple[int, ...]]], prefix: str, block: str) -> Iterator[ModelTensor]:
        """Take tensors by (name in the file, shape); names of both sides get their prefix."""
        for name, (short, shape) in names.items():
            yield ModelTensor(block + short, self.take(prefix + name, *shape))

    def limited(self, name: str, short: str, shape: tuple[int, int], limits: bool) -> Iterator[ModelTensor]:
        """Take a matrix, with ``limits`` also the least and greatest value of its input and output."""
        yield ModelTensor(f"{short}.weight", self.take(f"{name}.linear.weight", *shape))
        for limit in ("input_min", "input_max", "output_min", "output_max") if limits else ():
            yield ModelTensor(f"{short}.{limit}", Reshaped(self.take(f"{name}.{limit}"), (1,)))


def text_width(config: Fields) -> int:
    """Return the width of the text model, which the projection writes."""
    return (config.object("text_config") if "text_config" in config else config).integer("hidden_size")


def picture_keys(checkpoint: Checkpoint, mean: float, deviation: float) -> dict[str, MetadataValue]:
    """Return mean and standard deviation of each colour, from the settings of the processor or these defaults."""
    found = {"image_mean": [mean] * 3, "image_std": [deviation] * 3}
    for file, part in _SETTINGS:
        if (checkpoint.path / file).is_file():
            fields = read_json_object(checkpoint.path / file)
            for settings in (fields, fields.object(part, required=False)):
                found |= {key: _colours(settings, key) for key in found if key in settings}
    return {f"vision.{key}": values for key, values in found.items()}


def _colours(settings: Fields, key: str) -> list[float]:
    values = settings.values[key]
    numbers = isinstance(values, list) and all(type(value) in (int, float) and abs(value) < 1e6 for value in values)
    if not numbers or len(values) != 3:
        raise settings.fail(key, "three numbers")
    return [float(value) for value in values]
