"""Configurations of Gemma 4 targets and their assistants at real widths, as transformers writes them.

Depth and vocabulary can be cut: which kernels run depends on the widths, not on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tests.helpers import tiny_checkpoint as tiny

SLIDING, FULL = "sliding_attention", "full_attention"
VOCAB = 262_144


@dataclass(frozen=True)
class Shape:
    """One size. ``period``: layers from one full-attention layer to the next. ``shared``: last layers without K/V.

    ``global_kv``: K/V heads of full layers, whose V is K; 0: full layers are like the others. ``draft_width`` and
    ``draft_forward`` are the assistant's widths.
    """

    name: str
    width: int
    forward: int
    layers: int
    period: int
    heads: int
    kv: int
    window: int
    shared: int = 0
    wide: bool = False
    per_layer: int = 0
    global_kv: int = 0
    experts: int = 0
    draft_width: int = 1024
    draft_forward: int = 8192
    draft_heads: int = 16
    vocab: int = VOCAB

    def cut(self, layers: int, vocab: int = VOCAB) -> Shape:
        """The same widths with fewer layers, in whole periods, the same share of them without K/V, and fewer tokens."""
        least = 2 if self.shared else 1
        depth = max(least * self.period, min(self.layers, layers) // self.period * self.period)
        own = max(1, depth * (self.layers - self.shared) // (self.layers * self.period)) * self.period
        return replace(self, layers=depth, shared=depth - own if self.shared else 0, vocab=min(vocab, self.vocab))

    def narrow(self) -> Shape:
        """The same kinds of layers at small widths, for a device as slow as lavapipe."""
        return replace(
            self, width=256, forward=512, heads=4, kv=2, global_kv=min(1, self.global_kv),
            per_layer=min(32, self.per_layer), experts=min(8, self.experts), draft_width=64, draft_forward=128,
            draft_heads=2,
        )  # fmt: skip


#: The dense sizes and the one with experts, smallest first.
SHAPES = {
    shape.name: shape
    for shape in (
        Shape("E2B", 1536, 6144, 35, 5, 8, 1, 512, 20, True, 256, draft_width=256, draft_forward=2048, draft_heads=4),
        Shape("E4B", 2560, 10240, 42, 6, 8, 2, 512, 18, False, 256, draft_width=256, draft_forward=2048, draft_heads=4),
        Shape("12B", 3840, 15360, 48, 6, 16, 8, 1024, global_kv=1),
        Shape("26B-A4B", 2816, 2112, 30, 6, 16, 8, 1024, global_kv=2, experts=128),
    )
}


def target_config(shape: Shape) -> dict[str, Any]:
    """``config.json`` of the target."""
    kinds = ([SLIDING] * (shape.period - 1) + [FULL]) * (shape.layers // shape.period)
    return tiny.text_config(
        **_common(shape, kinds),
        hidden_size=shape.width,
        intermediate_size=shape.forward,
        num_attention_heads=shape.heads,
        num_kv_shared_layers=shape.shared,
        use_double_wide_mlp=shape.wide,
        hidden_size_per_layer_input=shape.per_layer,
        vocab_size_per_layer_input=shape.vocab if shape.per_layer else 0,
        enable_moe_block=bool(shape.experts),
        num_experts=shape.experts or None,
        top_k_experts=min(8, shape.experts) or None,
        moe_intermediate_size=704 if shape.experts else None,
    )


def assistant_config(shape: Shape) -> dict[str, Any]:
    """``config.json`` of the assistant, which reads the K/V of the target's last sliding and full layer."""
    text = tiny.text_config(
        **_common(shape, [SLIDING] * 3 + [FULL]),
        hidden_size=shape.draft_width,
        intermediate_size=shape.draft_forward,
        num_attention_heads=shape.draft_heads,
        num_kv_shared_layers=4,
        use_double_wide_mlp=False,
        hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0,
    )
    text["final_logit_softcapping"] = None
    del text["architectures"], text["tie_word_embeddings"]
    return {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "backbone_hidden_size": shape.width,
        "tie_word_embeddings": True,
        "text_config": text,
    }


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor of a checkpoint."""
    text = config.get("text_config", config)
    width, count, inner = text["hidden_size"], text["num_hidden_layers"], text["hidden_size_per_layer_input"]
    found: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (text["vocab_size"], width),
        "model.norm.weight": (width,),
    }
    if inner:
        found["model.embed_tokens_per_layer.weight"] = (text["vocab_size"], count * inner)
        found["model.per_layer_model_projection.weight"] = (count * inner, width)
        found["model.per_layer_projection_norm.weight"] = (inner,)
    if backbone := config.get("backbone_hidden_size"):
        found["pre_projection.weight"] = (width, 2 * backbone)
        found["post_projection.weight"] = (backbone, width)
    for index in range(count):
        layer = tiny._layer_shapes(text, index)
        found |= {f"model.layers.{index}.{name}": shape for name, shape in layer.items()}
    return found


def _common(shape: Shape, kinds: list[str]) -> dict[str, Any]:
    same = not shape.global_kv
    return {
        "vocab_size": shape.vocab,
        "num_hidden_layers": len(kinds),
        "layer_types": kinds,
        "num_key_value_heads": shape.kv,
        "num_global_key_value_heads": None if same else shape.global_kv,
        "attention_k_eq_v": not same,
        "head_dim": 256,
        "global_head_dim": 512,
        "sliding_window": shape.window,
        "max_position_embeddings": 131_072,
    }
