"""The unified Gemma 4's embedders, which have no transformer → projectors ``gemma4uv`` and ``gemma4ua``.

Reference: llama.cpp, ``Gemma4UnifiedVisionAudioModel`` in ``conversion/gemma.py``, ``models/gemma4uv.cpp`` and
``gemma4ua.cpp``. Patches are rows of RGB pixels in the checkpoint and three planes in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator

from gguf_convert.arch import MetadataValue
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields
from gguf_convert.projector.gemma4 import POOLING, vision_keys
from gguf_convert.projector.sources import Reordered, Swapped, colours_first
from gguf_convert.projector.towers import Projector, TowerTensors, picture_keys, text_width
from gguf_convert.tensors import ModelTensor
from localspec.errors import ConvertError

#: Samples in a frame of sound, by which llama.cpp cuts it.
_FRAME = 640
#: Number of mel bins that llama.cpp's converter writes, and llama.cpp does not use.
_UNUSED_MELS = 128


def map_towers(checkpoint: Checkpoint) -> Projector:
    """Map the embedders of a ``Gemma4UnifiedForConditionalGeneration`` checkpoint."""
    towers, vision = TowerTensors(checkpoint), checkpoint.config.object("vision_config")
    text, width = text_width(checkpoint.config), vision.integer("mm_embed_dim", 3840)
    keys = {**vision_keys(vision, text, "gemma4uv"), "vision.embedding_length": width, **_no_transformer("vision")}
    keys |= picture_keys(checkpoint, 0.0, 1.0)
    tensors = [*_vision_tensors(towers, vision, text, width)]
    if "audio_config" in checkpoint.config:
        audio = checkpoint.config.object("audio_config")
        if (frame := audio.integer("audio_embed_dim", _FRAME)) != _FRAME:
            raise ConvertError(f'{audio.where}: "audio_embed_dim" is {frame}, but llama.cpp cuts frames of {_FRAME}.')
        keys |= _audio_keys(audio, text)
        name = "embed_audio.embedding_projection.weight"
        tensors.append(ModelTensor("mm.a.input_projection.weight", towers.take(name, text, _FRAME)))
    towers.refuse_leftovers()
    return Projector(keys, tuple(tensors), {"v.position_embd.weight": "F32"})


def _audio_keys(audio: Fields, text: int) -> dict[str, MetadataValue]:
    return {
        "has_audio_encoder": True,
        "audio.projector_type": "gemma4ua",
        "audio.projection_dim": text,
        "audio.embedding_length": _FRAME,
        **_no_transformer("audio"),
        "audio.num_mel_bins": _UNUSED_MELS,
        "audio.attention.layer_norm_epsilon": audio.number("rms_norm_eps", 1e-6),
    }


def _no_transformer(part: str) -> dict[str, MetadataValue]:
    return {f"{part}.feed_forward_length": 0, f"{part}.block_count": 0, f"{part}.attention.head_count": 0}


def _vision_tensors(towers: TowerTensors, vision: Fields, text: int, width: int) -> Iterator[ModelTensor]:
    patch = vision.integer("patch_size", 16) * vision.integer("pooling_kernel_size", POOLING)
    pixels, order, prefix = 3 * patch * patch, colours_first(patch), "vision_embedder."
    yield ModelTensor(
        "v.patch_embd.weight", Reordered(towers.take(f"{prefix}patch_dense.weight", width, pixels), order)
    )
    yield ModelTensor("v.patch_embd.bias", towers.take(f"{prefix}patch_dense.bias", width))
    for end in ("weight", "bias"):
        first = towers.take(f"{prefix}patch_ln1.{end}", pixels)
        yield ModelTensor(f"v.patch_norm.1.{end}", Reordered(first, order))
        yield ModelTensor(f"v.patch_norm.2.{end}", towers.take(f"{prefix}patch_ln2.{end}", width))
        yield ModelTensor(f"v.patch_norm.3.{end}", towers.take(f"{prefix}pos_norm.{end}", width))
    rows = vision.integer("mm_posemb_size", 1120)
    positions = towers.take(f"{prefix}pos_embedding", rows, 2, width)
    yield ModelTensor("v.position_embd.weight", Swapped(positions))
    yield ModelTensor(
        "mm.input_projection.weight", towers.take("embed_vision.embedding_projection.weight", text, width)
    )
