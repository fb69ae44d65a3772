"""Memory that a projector takes while it encodes, in bytes, from its header alone. Pure.

Its file is read into memory, not mapped. The buffers hold the activations of one picture of the largest size: 3 rows of
the feed-forward network and 3 of the model for each patch, and the pixels (measured with random projectors of five
shapes, within 15%); or those of the convolutions over 30 seconds of sound.
"""

from __future__ import annotations

from localspec.gguf.header import GgufHeader

#: Frames of 30 seconds of sound behind the first convolution. The second halves them, and the bins of a frame, again.
_FRAMES = 1500
#: Cells of a picture where neither the user nor the kind of projector says more.
_CELLS = 1120
_MERGED = 3


def projector_bytes(header: GgufHeader, image_tokens: tuple[int, int] | None = None) -> int:
    """Bytes of the weights and of the largest buffers."""
    weights = sum(tensor.bytes or 0 for tensor in header.tensors)
    found = [0]
    if header.metadata.get("clip.has_vision_encoder") is True:
        patch, merged = (
            _number(header, "vision.patch_size", 16),
            _number(header, "vision.projector.scale_factor", _MERGED),
        )
        row = 3 * (_number(header, "vision.feed_forward_length") + _number(header, "vision.embedding_length"))
        patches = (image_tokens[1] if image_tokens else _CELLS) * merged**2
        found.append(patches * 4 * (row + 3 * patch**2))
    if header.metadata.get("clip.has_audio_encoder") is True:
        channels = next((t.shape[-1] for t in header.tensors if t.name == "a.conv1d.0.weight"), 0)
        bins, forward = _number(header, "audio.num_mel_bins"), _number(header, "audio.feed_forward_length")
        convolved = bins // 2 * channels + bins // 4 * channels * 9 // 2
        found.append(_FRAMES * 4 * (convolved + 2 * forward))
    return weights + max(found)


def _number(header: GgufHeader, key: str, default: int = 0) -> int:
    """The whole number at ``clip.{key}``, within reason."""
    found = header.metadata.get(f"clip.{key}", default)
    return found if isinstance(found, int) and 0 <= found < 1 << 16 else default
