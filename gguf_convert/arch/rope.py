"""Rotary position embeddings: from the configuration to llama.cpp's metadata.

Formulas: transformers, ``modeling_rope_utils.py``; llama.cpp, ``conversion/base.py`` and ``llama-context.cpp``.
A scaling that llama.cpp would compute differently is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from gguf_convert.arch import MetadataValue
from gguf_convert.arch.decoder import positive
from gguf_convert.checkpoint.json_fields import Fields, shorten
from gguf_convert.tensors import ArraySource, ModelTensor
from localspec.errors import ConvertError

#: Values of YaRN that llama.cpp always uses for these families.
_BETA_FAST, _BETA_SLOW = 32.0, 1.0


def read_rope(text: Fields, theta: float) -> Fields:
    """Return the rope settings as one object with ``rope_theta`` and ``rope_type``.

    Old spelling: ``rope_theta`` beside ``rope_scaling`` with ``type`` or ``rope_type``. New spelling: all of it in
    ``rope_parameters``. ``theta`` is the default of ``rope_theta``.
    """
    key = "rope_scaling" if text.values.get("rope_scaling") else "rope_parameters"
    found = text.object(key, required=False)
    values = {name: value for name, value in found.values.items() if value is not None}
    values.setdefault("rope_theta", text.number("rope_theta", theta))
    values.setdefault("rope_type", values.get("type", "default"))
    if "original_max_position_embeddings" in text:  # takes precedence, as in transformers
        values["original_max_position_embeddings"] = text.values["original_max_position_embeddings"]
    values.setdefault("original_max_position_embeddings", text.values.get("max_position_embeddings"))
    return Fields(values, found.where)


def rope_metadata(rope: Fields, types: Collection[str], model: str) -> dict[str, MetadataValue]:
    """Return the ``rope.*`` keys; ``types`` are the scalings that llama.cpp supports for this model."""
    kind = rope.text("rope_type")
    if kind != "default" and kind not in types:
        known = ", ".join(("default", *sorted(types)))
        raise ConvertError(
            f'{rope.where}: "rope_type" {shorten(kind)} is not one that llama.cpp\'s {model} computes ({known}).'
        )
    if rope.number("partial_rotary_factor", 1.0) != 1.0:
        raise ConvertError(
            f'{rope.where}: "partial_rotary_factor" is {shorten(rope.values["partial_rotary_factor"])}, but '
            f"llama.cpp's {model} rotates whole heads."
        )
    keys: dict[str, MetadataValue] = {"rope.freq_base": positive(rope, "rope_theta")}
    if kind in ("linear", "yarn"):
        keys["rope.scaling.type"] = kind
        keys["rope.scaling.factor"] = positive(rope, "factor")
    if kind == "yarn":
        keys |= _yarn(rope)
    return keys


def _yarn(rope: Fields) -> dict[str, MetadataValue]:
    fixed = rope.number("beta_fast", _BETA_FAST) == _BETA_FAST and rope.number("beta_slow", _BETA_SLOW) == _BETA_SLOW
    if not fixed or not rope.boolean("truncate", True):
        raise ConvertError(
            f'{rope.where}: llama.cpp computes yarn with "beta_fast" {_BETA_FAST:g}, "beta_slow" {_BETA_SLOW:g} '
            'and "truncate" true, and this model was made with others.'
        )
    keys: dict[str, MetadataValue] = {
        "rope.scaling.original_context_length": rope.integer("original_max_position_embeddings")
    }
    factor = rope.number("factor")
    usual = _attention_scale(factor, 1.0)
    scale, all_dims = rope.number("mscale", 0.0), rope.number("mscale_all_dim", 0.0)
    if scale and all_dims:
        wanted = _attention_scale(factor, scale) / (_attention_scale(factor, all_dims) or math.inf)
    else:
        wanted = usual
    wanted = rope.number("attention_factor", wanted)
    if not math.isclose(wanted, usual, rel_tol=1e-6):
        keys["rope.scaling.attn_factor"] = wanted / usual  # llama.cpp multiplies its own scale by this
    return keys


def _attention_scale(factor: float, scale: float) -> float:
    """Return YaRN's temperature as a factor of cos and sin (Peng et al. 2023, arXiv 2309.00071, eq. 22)."""
    return 1.0 if factor <= 1.0 else 0.1 * scale * math.log(factor) + 1.0


def llama3_factors(rope: Fields, head_dim: int) -> tuple[ModelTensor, ...]:
    """Return Llama 3.1's scaling of long wavelengths, if it is used, as ``rope_freqs.weight``, shape (head_dim / 2,).

    The factors divide the angles. They are computed in float32 in the order of llama.cpp. Only the power is computed in
    float64, because float32 versions differ between systems.
    """
    if rope.text("rope_type") != "llama3":
        return ()
    one = np.float32(1.0)
    factor = np.float32(positive(rope, "factor"))
    low, high = np.float32(positive(rope, "low_freq_factor")), np.float32(positive(rope, "high_freq_factor"))
    context = np.float32(rope.integer("original_max_position_embeddings"))
    if not low < high:
        raise ConvertError(f'{rope.where}: "low_freq_factor" {low:g} must be below "high_freq_factor" {high:g}.')
    exponents = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    powers = positive(rope, "rope_theta") ** exponents.astype(np.float64)
    wavelengths = np.float32(2 * math.pi) / (one / powers.astype(np.float32))
    smooth = (context / wavelengths - low) / (high - low)
    factors = one / ((one - smooth) / factor + smooth)
    factors[wavelengths < context / high] = one
    factors[wavelengths > context / low] = factor
    return (ModelTensor("rope_freqs.weight", ArraySource(factors.astype(np.float32))),)
