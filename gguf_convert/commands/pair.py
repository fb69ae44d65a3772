"""Check of two checkpoints before they are converted: the drafter must go with the target."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from gguf_convert.conversion import read_checkpoint
from gguf_convert.output.gguf_file import write_header
from localspec.errors import DraftMismatchError
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import TYPE_NUMBERS
from localspec.models.pairing import assistant_mismatch, is_assistant
from localspec.models.vocabulary import vocabulary_mismatch


def check_pair(target_folder: Path, drafter_folder: Path) -> bool:
    """Return True if the drafter is an MTP assistant; DraftMismatchError if it cannot draft for the target."""
    with tempfile.TemporaryDirectory() as folder:
        target = _header(target_folder, Path(folder) / "target.gguf")
        drafter = _header(drafter_folder, Path(folder) / "drafter.gguf")
        if is_assistant(target):
            raise DraftMismatchError(
                f"{target_folder} is an assistant: give the target's checkpoint first, and the assistant's "
                "with --with-draft."
            )
        assistant = is_assistant(drafter)
        reason = assistant_mismatch(target, drafter) if assistant else vocabulary_mismatch(target, drafter)
    if reason:
        raise DraftMismatchError(
            f"{drafter_folder} cannot draft for {target_folder}: {reason}. "
            "Give the checkpoint of a drafter that was made for this target."
        )
    return assistant


def _header(checkpoint: Path, path: Path) -> GgufHeader:
    """Write the metadata of the GGUF file that ``checkpoint`` would become to ``path``.

    Returns its header, with all tensors in F32, but without their data.
    """
    source = read_checkpoint(checkpoint)
    write_header(path, source.model.architecture, source.metadata("F32"))
    kind = TYPE_NUMBERS["F32"]
    tensors = tuple(TensorInfo(t.name, tuple(reversed(t.shape)), kind, 0) for t in source.model.tensors)
    return replace(read_header(path), tensors=tensors)
