"""The feed-forward of a Qwen3.5 layer → GGUF: dense, or experts that a router chooses and one for every token."""

from __future__ import annotations

from gguf_convert.arch import MetadataValue
from gguf_convert.arch.decoder import Decoder, Part, layer_parts
from gguf_convert.arch.reordered import OnlyRow
from gguf_convert.checkpoint.folder import Checkpoint


def is_joint(checkpoint: Checkpoint, layer: str) -> bool:
    """True if the experts of a layer are in one tensor."""
    return any(name.endswith(f"{layer}.mlp.experts.gate_up_proj") for name in checkpoint.tensors)


def forward(decoder: Decoder, joint: bool) -> dict[str, Part]:
    """The feed-forward of a layer, whose experts are in ``joint`` tensors or not."""
    if "num_experts" in decoder.fields:
        return _experts(decoder, joint)
    return {name: part for name, part in layer_parts(decoder).items() if name.startswith("mlp.")}


def expert_numbers(decoder: Decoder) -> dict[str, MetadataValue]:
    fields = decoder.fields
    return {
        "expert_count": fields.integer("num_experts"),
        "expert_used_count": fields.integer("num_experts_per_tok"),
        "expert_feed_forward_length": fields.integer("moe_intermediate_size"),
        "expert_shared_feed_forward_length": fields.integer("shared_expert_intermediate_size"),
    }


def _experts(decoder: Decoder, joint: bool) -> dict[str, Part]:
    """Experts that a router chooses, and one that computes for every token, by its gate."""
    width = decoder.hidden_size
    count, _, inner, shared = (int(str(number)) for number in expert_numbers(decoder).values())
    shapes = {"gate": (count, inner, width), "up": (count, inner, width), "down": (count, width, inner)}
    matrices = {f"mlp.experts.{{}}.{n}_proj.weight": Part(f"ffn_{n}_exps.weight", shapes[n]) for n in shapes}
    if joint:
        matrices = {
            "mlp.experts.gate_up_proj": Part("ffn_gate_up_exps.weight", (count, 2 * inner, width)),
            "mlp.experts.down_proj": Part("ffn_down_exps.weight", (count, width, inner)),
        }
    return {
        "mlp.gate.weight": Part("ffn_gate_inp.weight", (count, width)),
        **matrices,
        "mlp.shared_expert.gate_proj.weight": Part("ffn_gate_shexp.weight", (shared, width)),
        "mlp.shared_expert.up_proj.weight": Part("ffn_up_shexp.weight", (shared, width)),
        "mlp.shared_expert.down_proj.weight": Part("ffn_down_shexp.weight", (width, shared)),
        "mlp.shared_expert_gate.weight": Part("ffn_gate_inp_shexp.weight", (1, width), OnlyRow),
    }
