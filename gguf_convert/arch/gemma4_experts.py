"""The mixture-of-experts tensors of a Gemma 4 layer (26B-A4B) → GGUF.

Beside the dense MLP such a layer has a router, and experts with separate norms. Reference: llama.cpp,
``conversion/gemma.py`` (Gemma4Model) and ``src/models/gemma4.cpp``; transformers, ``Gemma4TextRouter`` and
``Gemma4TextExperts``. Matrices of experts have the shape ``(experts, rows, columns)``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator

from gguf_convert.arch.gemma4_config import Experts
from gguf_convert.checkpoint.safetensors import CheckpointTensor
from gguf_convert.tensors import ModelTensor, Stacked, TensorSource

Take = Callable[..., CheckpointTensor]
"""Called with the name of a tensor and its shape."""

_NORMS = {
    "pre_feedforward_layernorm_2.weight": "pre_ffw_norm_2.weight",
    "post_feedforward_layernorm_1.weight": "post_ffw_norm_1.weight",
    "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
}


def expert_tensors(
    take: Take, names: Container[str], prefix: str, block: str, width: int, experts: Experts
) -> Iterator[ModelTensor]:
    """Yield router, experts and norms of the layer whose tensors begin with ``prefix``, named ``block`` in GGUF.

    ``names`` are the existing tensors: gate and up may be one tensor (as transformers saves them), two, or two for each
    expert.
    """
    for norm, name in _NORMS.items():
        yield ModelTensor(block + name, take(prefix + norm, width))
    yield ModelTensor(block + "ffn_gate_inp.weight", take(prefix + "router.proj.weight", experts.count, width))
    yield ModelTensor(block + "ffn_gate_inp.scale", take(prefix + "router.scale", width))
    # scaling the weight of an expert equals scaling its output
    yield ModelTensor(block + "ffn_down_exps.scale", take(prefix + "router.per_expert_scale", experts.count))
    inner = experts.feed_forward
    if _present(names, prefix + "experts.gate_up_proj"):
        matrices = {"gate_up": (2 * inner, width), "down": (width, inner)}
    else:
        matrices = {"gate": (inner, width), "up": (inner, width), "down": (width, inner)}
    for part, (rows, columns) in matrices.items():
        source = _matrices(take, names, f"{prefix}experts.", f"{part}_proj", experts.count, rows, columns)
        yield ModelTensor(f"{block}ffn_{part}_exps.weight", source)


def _present(names: Container[str], name: str) -> str | None:
    return next((found for found in (name, name + ".weight") if found in names), None)


def _matrices(
    take: Take, names: Container[str], prefix: str, part: str, count: int, rows: int, columns: int
) -> TensorSource:
    if f"{prefix}0.{part}.weight" in names:
        return Stacked(tuple(take(f"{prefix}{index}.{part}.weight", rows, columns) for index in range(count)))
    return take(_present(names, prefix + part) or prefix + part, count, rows, columns)
