"""Decoders of the common families: sizes, names and shapes of tensors, tied output heads.

A family lists the parts of a layer. Every tensor of the text model is then written with the shape that the
configuration implies, or refused; notes name the tensors that are left out. Reference: llama.cpp,
``conversion/base.py`` (TextModel).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from gguf_convert.arch import MetadataValue, ModelMap
from gguf_convert.arch.text_tensors import TextTensors
from gguf_convert.checkpoint.folder import Checkpoint
from gguf_convert.checkpoint.json_fields import Fields, shorten
from gguf_convert.checkpoint.safetensors import CheckpointTensor
from gguf_convert.tensors import BLOCK_ELEMENTS, ModelTensor, Stacked, TensorSource
from localspec.errors import ConvertError

#: Most layers (llama.cpp, LLAMA_MAX_LAYERS).
MAX_LAYERS = 512
#: Largest size of a head. Far above any model; it prevents a damaged file from needing gigabytes of rope factors.
MAX_HEAD = 1 << 16

_HEAD, _EMBEDDING = "lm_head.weight", "embed_tokens.weight"


@dataclass(frozen=True)
class Decoder:
    """Sizes of the text model, named as in transformers; ``fields`` is its configuration with defaults filled in."""

    fields: Fields
    layers: int
    hidden_size: int
    vocab_size: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    tied: bool


@dataclass(frozen=True)
class Part:
    """A tensor of a layer: its name in the GGUF file, its shape, and the change of its values.

    Where its name in the checkpoint has ``{}``, it is made of tensors with a number there.
    """

    name: str
    shape: tuple[int, ...]
    change: Callable[[TensorSource], TensorSource] | None = None


LayerParts = Mapping[str, Part]
"""Parts of a layer by their name in the checkpoint, without ``layers.N.``."""


def read_decoder(config: Fields, defaults: Mapping[str, object]) -> Decoder:
    """Read the configuration of a text model (its ``text_config`` where there is one).

    ``defaults`` are transformers' values for absent keys. Raises ConvertError for values out of range and for encoders.
    """
    text = config.object("text_config") if "text_config" in config else config
    text = Fields({**defaults, **{key: value for key, value in text.values.items() if value is not None}}, text.where)
    if text.values.get("use_bidirectional_attention") or not text.boolean("is_causal", True):
        raise ConvertError("This model attends in both directions (an encoder): it cannot generate text.")
    hidden_size, heads = text.integer("hidden_size"), text.integer("num_attention_heads")
    decoder = Decoder(
        fields=text,
        layers=text.integer("num_hidden_layers", high=MAX_LAYERS),
        hidden_size=hidden_size,
        vocab_size=text.integer("vocab_size"),
        heads=heads,
        kv_heads=text.integer("num_key_value_heads", heads),
        head_dim=text.integer("head_dim", max(1, hidden_size // heads), high=MAX_HEAD),
        feed_forward=text.integer("intermediate_size"),
        tied=config.boolean("tie_word_embeddings", text.boolean("tie_word_embeddings", False)),
    )
    if decoder.head_dim % 2 or heads % decoder.kv_heads:
        raise ConvertError(
            f"{text.where} has {heads} heads of {decoder.head_dim} values and {decoder.kv_heads} K/V heads: "
            "head sizes must be even, and heads a multiple of K/V heads."
        )
    return decoder


def require(fields: Fields, key: str, expected: str, model: str) -> None:
    """Raise ConvertError unless the text at ``key`` is the only one that llama.cpp supports for this model."""
    if (found := fields.text(key, expected)) != expected:
        raise ConvertError(f'"{key}" is {shorten(found)}, but llama.cpp\'s {model} computes {expected}.')


def refuse(fields: Fields, key: str, model: str) -> None:
    """Raise ConvertError if the switch ``key`` is on, which llama.cpp does not support for this model."""
    if fields.boolean(key, False):
        raise ConvertError(f'"{key}" is true, but llama.cpp\'s {model} does not compute it.')


def positive(fields: Fields, key: str) -> float:
    """Return a positive number in the range of float32 arithmetic; ConvertError otherwise."""
    value = fields.number(key)
    if not 1e-15 < value < 1e15:
        raise fields.fail(key, "a number from 1e-15 to 1e15")
    return value


def refuse_window(decoder: Decoder, model: str) -> None:
    """Raise ConvertError if Qwen's or SmolLM3's sliding window is on and smaller than the context.

    ``layer_types`` lists the layers with the window; without it they are those from ``max_window_layers`` on.
    """
    fields = decoder.fields
    if not fields.boolean("use_sliding_window", False) or "sliding_window" not in fields:
        return
    if "layer_types" in fields:
        slides = "sliding_attention" in fields.texts("layer_types")
    else:
        slides = fields.integer("max_window_layers", 0, low=0) < decoder.layers
    window = fields.integer("sliding_window")
    if slides and window < fields.integer("max_position_embeddings"):
        raise ConvertError(
            f'"use_sliding_window" is true with a window of {window} tokens, but llama.cpp\'s {model} has no window.'
        )


def sizes(decoder: Decoder) -> dict[str, MetadataValue]:
    """Return the hyper-parameters that every family writes."""
    return {
        "block_count": decoder.layers,
        "context_length": decoder.fields.integer("max_position_embeddings"),
        "embedding_length": decoder.hidden_size,
        "feed_forward_length": decoder.feed_forward,
        "attention.head_count": decoder.heads,
        "attention.head_count_kv": decoder.kv_heads,
        "attention.layer_norm_rms_epsilon": positive(decoder.fields, "rms_norm_eps"),
    }


def head_lengths(decoder: Decoder) -> dict[str, MetadataValue]:
    """Return the sizes of a head. Without them llama.cpp divides the width by the number of heads."""
    return {"attention.key_length": decoder.head_dim, "attention.value_length": decoder.head_dim}


def layer_parts(decoder: Decoder) -> dict[str, Part]:
    """Return the parts of pre-norm attention and a gated MLP, used by all families but Gemma."""
    width, inner, kv = decoder.hidden_size, decoder.heads * decoder.head_dim, decoder.kv_heads * decoder.head_dim
    return {
        "input_layernorm.weight": Part("attn_norm.weight", (width,)),
        "self_attn.q_proj.weight": Part("attn_q.weight", (inner, width)),
        "self_attn.k_proj.weight": Part("attn_k.weight", (kv, width)),
        "self_attn.v_proj.weight": Part("attn_v.weight", (kv, width)),
        "self_attn.o_proj.weight": Part("attn_output.weight", (width, inner)),
        "post_attention_layernorm.weight": Part("ffn_norm.weight", (width,)),
        "mlp.gate_proj.weight": Part("ffn_gate.weight", (decoder.feed_forward, width)),
        "mlp.up_proj.weight": Part("ffn_up.weight", (decoder.feed_forward, width)),
        "mlp.down_proj.weight": Part("ffn_down.weight", (width, decoder.feed_forward)),
    }


def biases(layer: LayerParts, *names: str) -> dict[str, Part]:
    """Return the biases of some matrices of a layer, with the change of their matrices."""
    parts = {name: layer[f"{name}.weight"] for name in names}
    return {
        f"{name}.bias": Part(part.name.replace(".weight", ".bias"), part.shape[:1], part.change)
        for name, part in parts.items()
    }


def map_decoder(
    checkpoint: Checkpoint,
    decoder: Decoder,
    architecture: str,
    metadata: Mapping[str, MetadataValue],
    layer: LayerParts | Sequence[LayerParts],
    *,
    extra: tuple[ModelTensor, ...] = (),
    behind: LayerParts | None = None,
    change_norm: Callable[[TensorSource], TensorSource] | None = None,
) -> ModelMap:
    """Map the tensors of a checkpoint; ConvertError for a tensor that has no place.

    ``layer``: the parts of every layer, or of each. ``extra`` are tensors that the checkpoint does not hold, ``behind``
    tensors outside its layers by their whole name; ``change_norm`` applies to the last norm.
    """
    text = _Tensors(checkpoint)
    tensors = [*text.embedding(decoder), *extra]
    layers = [layer] * decoder.layers if isinstance(layer, Mapping) else layer
    parts = {f"layers.{i}.{name}": _in_layer(i, part) for i, one in enumerate(layers) for name, part in one.items()}
    for name, part in {**parts, **(behind or {})}.items():
        source = _source(text, name, part)
        tensors.append(ModelTensor(part.name, part.change(source) if part.change else source))
    norm = text.take("norm.weight", decoder.hidden_size)
    tensors.append(ModelTensor("output_norm.weight", change_norm(norm) if change_norm else norm))
    tensors.extend(text.output(decoder))
    text.refuse_leftovers()
    return ModelMap(architecture, metadata, tuple(tensors), decoder.vocab_size, text.notes())


def _source(text: TextTensors, name: str, part: Part) -> TensorSource:
    count, *shape = part.shape
    if "{}" in name:
        return Stacked(tuple(text.take(name.format(index), *shape) for index in range(count)))
    return text.take(name, *part.shape)


def _in_layer(index: int, part: Part) -> Part:
    return replace(part, name=f"blk.{index}.{part.name}")


class _Tensors(TextTensors):
    """Tensors of a decoder, with an embedding and an output head, which may be the same tensor."""

    recomputed: ClassVar[tuple[str, ...]] = (".rotary_emb.inv_freq",)  # a buffer in old checkpoints of Llama

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint)
        self.tied_to: CheckpointTensor | None = None

    def embedding(self, decoder: Decoder) -> Iterator[ModelTensor]:
        """Yield the embedding; a checkpoint with tied weights may hold it under the name of the head."""
        name = _HEAD if decoder.tied and _EMBEDDING not in self.left and _HEAD in self.left else _EMBEDDING
        self.tied_to = self.take(name, decoder.vocab_size, decoder.hidden_size)
        yield ModelTensor("token_embd.weight", self.tied_to)

    def output(self, decoder: Decoder) -> Iterator[ModelTensor]:
        """Yield the head unless it equals the embedding. Values decide, not the setting, as in transformers."""
        if decoder.tied and _HEAD not in self.left:
            return
        head = self.take(_HEAD, decoder.vocab_size, decoder.hidden_size)
        if decoder.tied and self.tied_to is not None and _equal(head, self.tied_to):
            self.left_out["of the output head, which equals the embedding"] += 1
            return
        if decoder.tied:
            self.remarks.append(
                "The output head is kept: it differs from the embedding, although the configuration ties them."
            )
        yield ModelTensor("output.weight", head)


def _equal(one: CheckpointTensor, other: CheckpointTensor) -> bool:
    steps = range(0, one.data.size, BLOCK_ELEMENTS)
    return one.dtype == other.dtype and all(
        np.array_equal(one.data[at : at + BLOCK_ELEMENTS], other.data[at : at + BLOCK_ELEMENTS]) for at in steps
    )
