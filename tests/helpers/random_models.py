"""Random small models of architectures that the converter does not write, made from their shapes alone.

Recurrent and hybrid ones, and targets with prediction heads. They have the vocabulary and the chat template of the
built-in pair, 64 to 128 wide, in Q8_0 with float vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
from gguf.quants import quantize
from numpy.typing import NDArray

from localspec.gguf.header import read_header
from localspec.models.resolve import TINY_TARGET

#: Width, layers without heads, tokens, width of the feed-forward.
WIDTH, LAYERS, TOKENS, FORWARD = 64, 4, 2048, 96
#: Heads of attention, those of keys, elements of a head.
HEADS, KV_HEADS, HEAD = 2, 1, 32
_Q8_0 = gguf.GGMLQuantizationType.Q8_0
Shape = tuple[int, ...]
Shapes = dict[str, Shape]


class Family(NamedTuple):
    """Metadata without the prefix of the architecture, and tensors (outermost dimension first)."""

    metadata: dict[str, Any]
    tensors: Shapes


def random_model(path: Path, architecture: str, *, heads: int = 0, seed: int = 0, part: str = "all") -> Path:
    """Write a model of ``architecture`` with ``heads`` prediction heads behind its layers.

    ``part``: ``all``, ``trunk`` (heads are named in the metadata, their tensors are missing) or ``heads`` alone.
    """
    family = FAMILIES[architecture](heads)
    path.parent.mkdir(exist_ok=True)
    shapes = {"token_embd.weight": (TOKENS, WIDTH), **family.tensors}
    last = {f"blk.{LAYERS + i}." for i in range(heads)}
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in {**_COMMON, **family.metadata}.items():
        _add(writer, f"{architecture}.{key}", value)
    if heads:
        writer.add_uint32(f"{architecture}.nextn_predict_layers", heads)
    writer.add_uint32(f"{architecture}.block_count", LAYERS + heads)
    _add_vocabulary(writer)
    dice = np.random.default_rng(seed)
    for name, shape in shapes.items():
        values = _values(name, shape, dice)
        head, layer = any(name.startswith(start) for start in last), name.startswith("blk.")
        if (part == "trunk" and head) or (part == "heads" and layer and not head):
            continue
        _add_tensor(writer, name, values)
    return _written(writer, path)


def _add_tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float32]) -> None:
    """Add a matrix in Q8_0, and anything else in float."""
    if values.ndim > 1 and values.shape[-1] % 32 == 0 and name.endswith("weight") and not name.endswith(_FLOATS):
        writer.add_tensor(name, quantize(values, _Q8_0), raw_dtype=_Q8_0)
    else:
        writer.add_tensor(name, values)


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def random_eagle(path: Path, target: Path, *, draft_tokens: int | None = None, seed: int = 0, **changed: Any) -> Path:
    """Write an EAGLE-3 head for a ``target`` with the built-in pair's vocabulary.

    ``draft_tokens``: it predicts so few tokens (``d2t``). ``changed``: metadata without the prefix, None to leave out.
    """
    header = read_header(target)
    wide, layers = header.number("embedding_length") or 0, header.number("block_count") or 0
    read = {"target_layers": (1, layers // 2, layers - 1), "target_hidden_size": wide, "block_count": 1}
    metadata = {**_COMMON, **read, **changed}
    shapes: Shapes = {
        "fc.weight": (WIDTH, 3 * wide), "token_embd.weight": (TOKENS, WIDTH), "output_norm.weight": (WIDTH,),
        "output.weight": (draft_tokens or TOKENS, WIDTH), "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.attn_norm_2.weight": (WIDTH,), "blk.0.attn_q.weight": (HEADS * HEAD, 2 * WIDTH),
        "blk.0.attn_k.weight": (KV_HEADS * HEAD, 2 * WIDTH), "blk.0.attn_v.weight": (KV_HEADS * HEAD, 2 * WIDTH),
        "blk.0.attn_output.weight": (WIDTH, HEADS * HEAD), "blk.0.ffn_norm.weight": (WIDTH,),
        "blk.0.ffn_gate.weight": (FORWARD, WIDTH), "blk.0.ffn_up.weight": (FORWARD, WIDTH),
        "blk.0.ffn_down.weight": (WIDTH, FORWARD),
    }  # fmt: skip
    writer = gguf.GGUFWriter(path, "eagle3")
    for key, value in metadata.items():
        if value is not None:
            _add(writer, f"eagle3.{key}", value)
    _add_vocabulary(writer)
    dice = np.random.default_rng(seed)
    if draft_tokens:
        ids = np.sort(dice.choice(TOKENS, draft_tokens, replace=False)).astype(np.int64)
        writer.add_tensor("d2t", ids, raw_dtype=gguf.GGMLQuantizationType.I64)
    for name, shape in shapes.items():
        _add_tensor(writer, name, _values(name, shape, dice))
    return _written(writer, path)


#: Tensors that stay in float. Routers, which llama-quantize leaves in float too, are in Q8_0, so that rows are exact.
_FLOATS = ("ssm_norm.weight", "ssm_conv1d.weight", "shortconv.conv.weight")
_COMMON = {
    "context_length": 4096, "embedding_length": WIDTH, "feed_forward_length": FORWARD, "attention.head_count": HEADS,
    "attention.head_count_kv": KV_HEADS, "attention.key_length": HEAD, "attention.value_length": HEAD,
    "attention.layer_norm_rms_epsilon": 1e-6, "attention.layer_norm_epsilon": 1e-6, "rope.freq_base": 10000.0,
    "rope.dimension_count": HEAD, "vocab_size": TOKENS,
}  # fmt: skip


def _values(name: str, shape: Shape, dice: np.random.Generator) -> NDArray[np.float32]:
    """Normal values: around one in norms, negative decays, and matrices that keep the size of their inputs."""
    noise = dice.standard_normal(shape)
    if "norm" in name or name.endswith("ssm_d"):
        noise = 1.0 + 0.1 * noise
    elif name.endswith("ssm_a"):
        noise = -np.exp(0.3 * noise)
    elif len(shape) > 1:
        noise = noise * 1.5 / np.sqrt(shape[-1])
    return noise.astype(np.float32)


def _attention(gate: int = 1) -> Shapes:
    """Attention with normalised queries and keys; with ``gate`` 2 the queries have a gate beside them."""
    return {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (gate * HEADS * HEAD, WIDTH),
        "attn_k.weight": (KV_HEADS * HEAD, WIDTH),
        "attn_v.weight": (KV_HEADS * HEAD, WIDTH),
        "attn_output.weight": (WIDTH, HEADS * HEAD),
        "attn_q_norm.weight": (HEAD,),
        "attn_k_norm.weight": (HEAD,),
    }


def _dense() -> Shapes:
    return {
        "ffn_gate.weight": (FORWARD, WIDTH),
        "ffn_up.weight": (FORWARD, WIDTH),
        "ffn_down.weight": (WIDTH, FORWARD),
    }


def _experts() -> Shapes:
    """Four experts and a shared one, each half as wide as a dense layer."""
    half = FORWARD // 3 * 2
    return {
        "ffn_gate_inp.weight": (4, WIDTH),
        "ffn_gate_exps.weight": (4, half, WIDTH),
        "ffn_up_exps.weight": (4, half, WIDTH),
        "ffn_down_exps.weight": (4, WIDTH, half),
        "ffn_gate_shexp.weight": (half, WIDTH),
        "ffn_up_shexp.weight": (half, WIDTH),
        "ffn_down_shexp.weight": (WIDTH, half),
    }


_EXPERTS = {
    "expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": FORWARD // 3 * 2,
    "expert_shared_feed_forward_length": FORWARD // 3 * 2, "expert_shared_count": 1,
}  # fmt: skip


def _head() -> Shapes:
    return {
        "nextn.eh_proj.weight": (WIDTH, 2 * WIDTH),
        "nextn.enorm.weight": (WIDTH,),
        "nextn.hnorm.weight": (WIDTH,),
        "nextn.shared_head_norm.weight": (WIDTH,),
    }


def _layers(layers: list[Shapes], output_norm: str = "output_norm") -> Shapes:
    named = ((f"blk.{i}.{name}", shape) for i, layer in enumerate(layers) for name, shape in layer.items())
    return {f"{output_norm}.weight": (WIDTH,), **dict(named)}


#: Heads of the gated delta net, groups of its keys, elements of a head: those are those of its state.
_DELTA_HEADS, _DELTA_GROUPS, _DELTA_STATE = 4, 2, 32


def _delta() -> Shapes:
    keys, values = _DELTA_GROUPS * _DELTA_STATE, _DELTA_HEADS * _DELTA_STATE
    return {
        "attn_norm.weight": (WIDTH,),
        "attn_qkv.weight": (2 * keys + values, WIDTH),
        "attn_gate.weight": (values, WIDTH),
        "ssm_conv1d.weight": (2 * keys + values, 4),
        "ssm_dt.bias": (_DELTA_HEADS,),
        "ssm_a": (_DELTA_HEADS,),
        "ssm_norm.weight": (_DELTA_STATE,),
        "ssm_out.weight": (WIDTH, values),
    }


def _qwen(heads: int, forward: Shapes, gates: Shapes, extra: dict[str, Any]) -> Family:
    """Three layers of gated delta nets and one of attention, as in Qwen3-Next and Qwen3.5."""
    after = {"post_attention_norm.weight": (WIDTH,), **forward}
    full = {**_attention(gate=2), **after}
    layers = [{**_delta(), **gates, **after}] * (LAYERS - 1) + [full] + [{**full, **_head()}] * heads
    metadata = {
        "ssm.conv_kernel": 4, "ssm.inner_size": _DELTA_HEADS * _DELTA_STATE, "ssm.state_size": _DELTA_STATE,
        "ssm.time_step_rank": _DELTA_HEADS, "ssm.group_count": _DELTA_GROUPS, "full_attention_interval": LAYERS,
        **extra,
    }  # fmt: skip
    return Family(metadata, _layers(layers))


_SECTIONS = {"rope.dimension_sections": [6, 5, 5, 0]}
_SPLIT_GATES: Shapes = {"ssm_beta.weight": (_DELTA_HEADS, WIDTH), "ssm_alpha.weight": (_DELTA_HEADS, WIDTH)}
_SHARED_GATE: Shapes = {"ffn_gate_inp_shexp.weight": (WIDTH,)}


def _qwen35(heads: int) -> Family:
    return _qwen(heads, _dense(), _SPLIT_GATES, _SECTIONS)


def _qwen35moe(heads: int) -> Family:
    return _qwen(heads, {**_experts(), **_SHARED_GATE}, _SPLIT_GATES, {**_SECTIONS, **_EXPERTS})


def _qwen3next(heads: int) -> Family:
    joint: Shapes = {"ssm_ba.weight": (2 * _DELTA_HEADS, WIDTH)}
    return _qwen(heads, {**_experts(), **_SHARED_GATE}, joint, _EXPERTS)


def _lfm2(heads: int) -> Family:
    """Three layers of short convolutions and one of attention."""
    del heads
    convolution: Shapes = {
        "attn_norm.weight": (WIDTH,),
        "shortconv.conv.weight": (WIDTH, 3),
        "shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
        "shortconv.out_proj.weight": (WIDTH, WIDTH),
    }
    forward = {"ffn_norm.weight": (WIDTH,), **_dense()}
    layers = [{**convolution, **forward}] * (LAYERS - 1) + [{**_attention(), **forward}]
    kv_heads = [0] * (LAYERS - 1) + [KV_HEADS]
    return Family({"shortconv.l_cache": 3, "attention.head_count_kv": kv_heads}, _layers(layers, "token_embd_norm"))


_SSM = {"ssm.conv_kernel": 4, "ssm.inner_size": 128, "ssm.state_size": 32, "ssm.time_step_rank": 4,
        "ssm.group_count": 1}  # fmt: skip


def _mamba_layer() -> Shapes:
    inner, state, ranks = 128, 32, 4
    convolved = inner + 2 * state
    return {
        "attn_norm.weight": (WIDTH,),
        "ssm_in.weight": (inner + convolved + ranks, WIDTH),
        "ssm_conv1d.weight": (convolved, 4),
        "ssm_conv1d.bias": (convolved,),
        "ssm_dt.bias": (ranks,),
        "ssm_a": (ranks, 1),
        "ssm_d": (ranks, 1),
        "ssm_norm.weight": (1, inner),
        "ssm_out.weight": (WIDTH, inner),
    }


def _mamba2(heads: int) -> Family:
    """Recurrent layers alone."""
    del heads
    return Family(_SSM, _layers([_mamba_layer()] * LAYERS))


def _nemotron_h(heads: int) -> Family:
    """Two recurrent layers, one of attention, one feed-forward."""
    del heads
    normalised = ("attn_q_norm.weight", "attn_k_norm.weight")
    attention = {name: shape for name, shape in _attention().items() if name not in normalised}
    forward: Shapes = {
        "attn_norm.weight": (WIDTH,),
        "ffn_up.weight": (FORWARD, WIDTH),
        "ffn_down.weight": (WIDTH, FORWARD),
    }
    metadata = {**_SSM, "attention.head_count_kv": [0, 0, KV_HEADS, 0], "feed_forward_length": [0, 0, 0, FORWARD]}
    return Family(metadata, _layers([_mamba_layer(), _mamba_layer(), attention, forward]))


def _glm4moe(heads: int) -> Family:
    """Attention in every layer; the first is dense."""
    after: Shapes = {"post_attention_norm.weight": (WIDTH,)}
    attention = {**_attention(), **after}
    experts = {**attention, **_experts(), "exp_probs_b.bias": (4,)}
    layers = [{**attention, **_dense()}, *[experts] * (LAYERS - 1), *[{**experts, **_head()}] * heads]
    metadata = {**_EXPERTS, "leading_dense_block_count": 1, "expert_weights_scale": 1.0, "expert_weights_norm": True}
    return Family(metadata, _layers(layers))


def _step35(heads: int) -> Family:
    """Attention in every layer, of which two slide; several heads make a chain."""
    layer = {**_attention(), "ffn_norm.weight": (WIDTH,), **_dense()}
    layers = [layer] * LAYERS + [{**layer, **_head()}] * heads
    metadata = {
        **_EXPERTS, "attention.sliding_window": 64, "rope.freq_base_swa": 10000.0, "rope.dimension_count": HEAD,
        "attention.sliding_window_pattern": [True, False] * (LAYERS // 2) + [True] * heads,
        "attention.key_length_swa": HEAD, "attention.value_length_swa": HEAD, "rope.dimension_count_swa": HEAD,
    }  # fmt: skip
    return Family(metadata, {"output.weight": (TOKENS, WIDTH), **_layers(layers)})


FAMILIES: dict[str, Callable[[int], Family]] = {
    "qwen35": _qwen35, "qwen35moe": _qwen35moe, "qwen3next": _qwen3next, "lfm2": _lfm2, "mamba2": _mamba2,
    "nemotron_h": _nemotron_h, "glm4moe": _glm4moe, "step35": _step35,
}  # fmt: skip


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    for key, kinds, value in _tiny_vocabulary():
        if kinds[0] == gguf.GGUFValueType.ARRAY:
            writer.add_key_value(key, value, kinds[0], sub_type=kinds[-1])
        else:
            writer.add_key_value(key, value, kinds[0])


def _tiny_vocabulary() -> Iterator[tuple[str, list[gguf.GGUFValueType], Any]]:
    for key, field in gguf.GGUFReader(TINY_TARGET).fields.items():
        if key.startswith("tokenizer."):
            yield key, field.types, field.contents()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_array(key, value)
