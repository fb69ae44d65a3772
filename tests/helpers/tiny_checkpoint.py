"""Writes tiny Gemma 4 checkpoints with numpy alone: configuration, tokenizer and safetensors made by hand."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "<|turn>", "<turn|>")
VISIBLE = ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>')
MERGES = (("h", "e"), ("l", "l"), ("he", "ll"), ("▁", "w"), ("hell", "o"), ("\n", "\n"))
VOCAB = 320
LAYERS = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]


def text_config(**changes: Any) -> dict[str, Any]:
    """Two layers with K/V, two that share it, per-layer inputs, a doubled MLP in the latter."""
    config: dict[str, Any] = {
        "architectures": ["Gemma4ForCausalLM"],
        "model_type": "gemma4_text",
        "vocab_size": VOCAB,
        "vocab_size_per_layer_input": VOCAB,
        "hidden_size": 64,
        "hidden_size_per_layer_input": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "global_head_dim": 64,
        "layer_types": LAYERS,
        "num_kv_shared_layers": 2,
        "use_double_wide_mlp": True,
        "sliding_window": 16,
        "max_position_embeddings": 256,
        "rms_norm_eps": 1e-6,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "full_attention": {"rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        },
    }
    return {**config, **changes}


def v_is_k_config(**changes: Any) -> dict[str, Any]:
    """Full layers without a V of their own and with fewer K/V heads; no per-layer inputs."""
    return text_config(
        attention_k_eq_v=True,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_global_key_value_heads=1,
        num_kv_shared_layers=0,
        hidden_size_per_layer_input=0,
        use_double_wide_mlp=False,
        **changes,
    )


def expert_config(**changes: Any) -> dict[str, Any]:
    """The same with four experts in each layer."""
    return v_is_k_config(
        **{"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32, **changes}
    )


def assistant_config(**changes: Any) -> dict[str, Any]:
    text = text_config(
        hidden_size=32,
        num_hidden_layers=2,
        layer_types=LAYERS[:2],
        num_kv_shared_layers=2,
        use_double_wide_mlp=False,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
        final_logit_softcapping=None,
    )
    del text["architectures"], text["tie_word_embeddings"]
    config = {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "backbone_hidden_size": 64,
        "tie_word_embeddings": True,
        "text_config": text,
    }
    return {**config, **changes}


def tensors(config: dict[str, Any], seed: int = 0) -> dict[str, Array]:
    """Random float32 tensors under the names of transformers, with the shapes that ``config`` implies."""
    text = config.get("text_config", config)
    random = np.random.default_rng(seed)
    width, count, ple = text["hidden_size"], text["num_hidden_layers"], text["hidden_size_per_layer_input"]
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (text["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if ple:
        shapes["model.embed_tokens_per_layer.weight"] = (text["vocab_size_per_layer_input"], count * ple)
        shapes["model.per_layer_model_projection.weight"] = (count * ple, width)
        shapes["model.per_layer_projection_norm.weight"] = (ple,)
    if backbone := config.get("backbone_hidden_size"):
        shapes["pre_projection.weight"] = (width, 2 * backbone)
        shapes["post_projection.weight"] = (backbone, width)
    for index in range(count):
        layer = _layer_shapes(text, index)
        shapes.update({f"model.layers.{index}.{name}": shape for name, shape in layer.items()})
    return {name: _values(name, random.standard_normal(shape)).astype("f4") for name, shape in shapes.items()}


def _values(name: str, noise: Array) -> Array:
    """Around one where one is neutral; routers wide, lest rounding decide which experts compute."""
    neutral = 1.0 if "norm" in name or "scal" in name else 0.0
    return neutral + (1.0 if "router.proj" in name else 0.1) * noise


def _layer_shapes(text: dict[str, Any], index: int) -> dict[str, tuple[int, ...]]:
    width, ple, full = text["hidden_size"], text["hidden_size_per_layer_input"], text["layer_types"][index][0] == "f"
    head = text["global_head_dim"] if full else text["head_dim"]
    shared = index >= text["num_hidden_layers"] - text["num_kv_shared_layers"]
    inner = text["num_attention_heads"] * head
    mlp = text["intermediate_size"] * (2 if shared and text["use_double_wide_mlp"] else 1)
    k_is_v = text.get("attention_k_eq_v", False) and full
    kv = head * (text["num_global_key_value_heads"] if k_is_v else text["num_key_value_heads"])
    shapes: dict[str, tuple[int, ...]] = {
        "self_attn.q_proj.weight": (inner, width),
        "self_attn.o_proj.weight": (width, inner),
        "self_attn.q_norm.weight": (head,),
        "mlp.gate_proj.weight": (mlp, width),
        "mlp.up_proj.weight": (mlp, width),
        "mlp.down_proj.weight": (width, mlp),
        "layer_scalar": (1,),
    }
    for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
        shapes[f"{norm}_layernorm.weight"] = (width,)
    if not shared:
        shapes |= {"self_attn.k_proj.weight": (kv, width), "self_attn.k_norm.weight": (head,)}
        if not k_is_v:
            shapes["self_attn.v_proj.weight"] = (kv, width)
    if text.get("enable_moe_block"):
        shapes |= _expert_shapes(text)
    if ple:
        shapes |= {
            "per_layer_input_gate.weight": (ple, width),
            "per_layer_projection.weight": (width, ple),
            "post_per_layer_input_norm.weight": (width,),
        }
    return shapes


def _expert_shapes(text: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    width, inner, count = text["hidden_size"], text["moe_intermediate_size"], text["num_experts"]
    return {
        "router.proj.weight": (count, width),
        "router.scale": (width,),
        "router.per_expert_scale": (count,),
        "experts.gate_up_proj": (count, 2 * inner, width),
        "experts.down_proj": (count, width, inner),
        "pre_feedforward_layernorm_2.weight": (width,),
        "post_feedforward_layernorm_1.weight": (width,),
        "post_feedforward_layernorm_2.weight": (width,),
    }


def tokenizer(**changes: Any) -> dict[str, Any]:
    """A BPE tokenizer of Gemma 4's kind with ids 0… in order of appearance."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    merged = [left + right for left, right in MERGES]
    texts = [*SPECIAL, *VISIBLE, *(f"<0x{i:02X}>" for i in range(256)), "▁", "\n", *letters, *merged, "added"]
    vocab = {text: index for index, text in enumerate(texts)}
    added = [{"id": vocab[text], "content": text, "special": True} for text in (*SPECIAL, *VISIBLE)]
    added.append({"id": vocab["added"], "content": "added", "special": False})
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "unk_token": "<unk>",
        "vocab": vocab,
        "merges": [list(merge) for merge in MERGES],
    }
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    return {"added_tokens": added, "normalizer": normalizer, "model": {**model, **changes}}


def to_bfloat16(values: Array) -> Array:
    """float32 → the two bytes of bfloat16 (truncated), as uint16."""
    return (np.ascontiguousarray(values, dtype="<f4").view("<u4") >> 16).astype("<u2")


def safetensors_bytes(items: dict[str, Array], dtype: str = "F32") -> bytes:
    """A safetensors file of these tensors stored as F32, F16 or BF16."""
    encode = {"F32": lambda v: v.astype("<f4"), "F16": lambda v: v.astype("<f2"), "BF16": to_bfloat16}[dtype]
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, values in items.items():
        raw = encode(values).tobytes()
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    return raw_safetensors(header, data)


def raw_safetensors(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def write(
    folder: Path,
    config: dict[str, Any] | None = None,
    *,
    weights: dict[str, Array] | None = None,
    dtype: str = "F32",
    vocabulary: dict[str, Any] | None = None,
    template: str | None = "{{ bos_token }}",
) -> dict[str, Array]:
    """Write a checkpoint folder and return its tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = text_config() if config is None else config
    weights = tensors(config) if weights is None else weights
    write_json(folder / "config.json", config)
    write_json(folder / "tokenizer.json", tokenizer() if vocabulary is None else vocabulary)
    write_json(folder / "tokenizer_config.json", {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}})
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "model.safetensors").write_bytes(safetensors_bytes(weights, dtype))
    return weights


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def read(folder: Path) -> dict[str, Array]:
    """The tensors of a checkpoint in BF16 (and what else it has as it is), single or sharded, as float32."""
    found: dict[str, Array] = {}
    for path in sorted(folder.glob("*.safetensors")):
        raw = path.read_bytes()
        start = 8 + struct.unpack("<Q", raw[:8])[0]
        for name, entry in json.loads(raw[8:start]).items():
            if name == "__metadata__":
                continue
            first, last = entry["data_offsets"]
            data = raw[start + first : start + last]
            if entry["dtype"] == "BF16":
                values = (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
            else:
                values = np.frombuffer(data, {"I64": "<i8", "F32": "<f4"}[entry["dtype"]])
            found[name] = values.reshape(entry["shape"])
    return found


def copy(source: Path, folder: Path, weights: dict[str, Array], dtype: str = "F32", **changes: Any) -> None:
    """A checkpoint like that in ``source`` with other tensors and changes at the top of its configuration."""
    folder.mkdir()
    for path in source.iterdir():
        if path.suffix in (".json", ".jinja") and not path.name.endswith(".index.json"):
            (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    write_json(folder / "config.json", {**config, **changes})
    (folder / "model.safetensors").write_bytes(safetensors_bytes(weights, dtype))
