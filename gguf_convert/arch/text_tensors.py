"""Tensors of a checkpoint's text model. They are taken one by one, so that unmapped tensors are detected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar

from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.safetensors import CheckpointTensor
from localspec.errors import ConvertError

_PREFIXES = ("model.language_model.", "language_model.model.", "language_model.", "model.")


class TextTensors:
    """Tensors that are not taken yet (``left``), by name without the text model's prefix, and counts for the notes.

    ``modalities``: prefixes of other parts of the model. ``recomputed``: suffixes of buffers that are not needed.
    """

    modalities: ClassVar[Mapping[str, str]] = {
        "vision_": "vision",
        "multi_modal_projector.": "vision",
        "audio_": "audio",
    }
    recomputed: ClassVar[tuple[str, ...]] = ()

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.left: dict[str, CheckpointTensor] = {}
        self.left_out: Counter[str] = Counter()
        self.remarks: list[str] = []
        for name, tensor in checkpoint.tensors.items():
            self._sort(name, tensor)

    def _sort(self, name: str, tensor: CheckpointTensor) -> None:
        short = name.removeprefix(next((prefix for prefix in _PREFIXES if name.startswith(prefix)), ""))
        other = next((kind for start, kind in self.modalities.items() if short.startswith(start)), None)
        if other is not None:
            self.left_out[f"of the {other} part"] += 1
        elif short in self.left:
            raise ConvertError(
                f"Tensors {self.left[short].name} and {name} are both {short}: the checkpoint is ambiguous."
            )
        elif not short.endswith(self.recomputed):
            self.left[short] = tensor

    def take(self, name: str, *shape: int) -> CheckpointTensor:
        """Take a tensor; ConvertError if it is missing or has another shape."""
        tensor = self.left.pop(name, None)
        if tensor is None:
            raise ConvertError(f"The checkpoint has no tensor {name}: download it again.")
        if tensor.shape != shape:
            raise ConvertError(
                f"Tensor {tensor.name} has shape {list(tensor.shape)} but config.json implies {list(shape)}: "
                "they do not belong together."
            )
        return tensor

    def leave_out(self, name: str, reason: str) -> None:
        """Leave out a tensor, if it exists, with a note."""
        if self.left.pop(name, None) is not None:
            self.left_out[reason] += 1

    def notes(self) -> tuple[str, ...]:
        """Return a sentence for each kind of tensor that was left out, and the remarks."""
        left_out = (
            f"Left out: {count} {'tensor' if count == 1 else 'tensors'} {reason}."
            for reason, count in self.left_out.items()
        )
        return (*left_out, *self.remarks)

    def refuse_leftovers(self) -> None:
        """Raise ConvertError if a tensor of the text model has no place in the GGUF file."""
        if self.left:
            names = sorted(self.left)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ConvertError(
                f"The checkpoint has tensors that this architecture does not: {', '.join(names[:3])}{more}."
            )
