"""Compute a Gemma 4 target and its assistant with transformers, as it is and with llama.cpp's details."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers.activations import GELUTanh

from scripts.convert.reference.gemma4_models import WINDOW

DRAFTS = 4
LENGTHS = (50, 200)
POSITIONS = [0, 5, 40, 62, 63, 64, 65, 66, 80, 100, 127, 128, 129, 150, 175, 199]

Arrays = dict[str, np.ndarray]


class GeluOfGgml(torch.nn.Module):
    """tanh GELU as ggml computes it on a CPU: looked up in a table of half-precision values (ggml_vec_gelu_f32)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rounded = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, rounded))


def use_gelu_of_ggml(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(getattr(module, "act_fn", None), GELUTanh):
            module.act_fn = GeluOfGgml()


def shake(model: torch.nn.Module, damping: float) -> None:
    """Randomise what initialises to one, and round everything to bfloat16, the type of the checkpoint.

    ``damping`` scales what layers add to the residual: an undamped random assistant, fed its own output, makes
    rounding errors grow fivefold with each draft. Routers get weights of size one, so that experts differ.
    """
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if "norm" in name or "layer_scalar" in name or name.endswith(("router.scale", "per_expert_scale")):
            tensor.data = (1 + 0.2 * torch.randn_like(tensor)) * (damping if ".post_" in name else 1.0)
        if name.endswith("router.proj.weight"):
            tensor.data = torch.randn_like(tensor)
        if tensor.is_floating_point() and "inv_freq" not in name and "embed_scale" not in name:
            tensor.data = tensor.data.to(torch.bfloat16).to(torch.float32)


@torch.no_grad()
def separate_experts(model: torch.nn.Module, tokens: list[int], tries: int = 200) -> float:
    """Choose router weights so that no token is close to taking another expert, and return the smallest gap.

    The gap is between the logits of the last expert taken and the first one left. Below the rounding of two
    implementations it decides by chance which expert computes, and outputs differ without any fault.
    """
    routers = [module for module in model.modules() if type(module).__name__.endswith("TextRouter")]
    if not routers:
        return float("inf")
    gaps: list[float] = []

    def watch(router: Any, _: Any, output: Any) -> None:
        top = output[0].topk(router.config.top_k_experts + 1, dim=-1).values.log()
        gaps.append(float((top[:, -2] - top[:, -1]).min()))

    hooks = [router.register_forward_hook(watch) for router in routers]
    best, kept = -1.0, [router.proj.weight.data for router in routers]
    for seed in range(tries):
        generator = torch.Generator().manual_seed(seed)
        for router in routers:
            drawn = torch.randn(router.proj.weight.shape, generator=generator)
            router.proj.weight.data = drawn.to(torch.bfloat16).to(torch.float32)
        gaps.clear()
        model(torch.tensor([tokens]))
        if min(gaps) > best:
            best, kept = min(gaps), [router.proj.weight.data for router in routers]
    for hook in hooks:
        hook.remove()
    for router, weight in zip(routers, kept, strict=True):
        router.proj.weight.data = weight
    return best


@torch.no_grad()
def target_rows(target: torch.nn.Module, tokens: list[int], positions: list[int]) -> Arrays:
    out = target(torch.tensor([tokens]), output_hidden_states=True)
    return {
        "logits": out.logits[0, positions].numpy(),
        "hidden": out.hidden_states[-1][0, positions].numpy(),
    }


@torch.no_grad()
def draft_rows(target: torch.nn.Module, assistant: torch.nn.Module, tokens: list[int], trim: bool) -> Arrays:
    """Greedy drafts as ``SinglePositionMultiTokenCandidateGenerator`` makes them, behind prompts of ``LENGTHS``.

    transformers lets a sliding layer of an assistant see keys up to ``WINDOW + 1`` positions back, two more than
    one of the target (``sliding_window_bidirectional_overlay`` counts ``<=``, from the position before).
    llama.cpp uses one rule for both; ``trim`` does so here.
    """
    results: dict[str, list[Any]] = {"next": [], "drafts": [], "draft_logits": []}
    for length in LENGTHS:
        out = target(torch.tensor([tokens[:length]]), output_hidden_states=True, return_shared_kv_states=True)
        for key, value in zip(results, draft(target, assistant, out, length, trim), strict=True):
            results[key].append(value)
    return {key: np.array(value) for key, value in results.items()}


@torch.no_grad()
def draft(
    target: torch.nn.Module, assistant: torch.nn.Module, out: Any, length: int, trim: bool
) -> tuple[int, list[int], np.ndarray]:
    """The target's next token behind the ``length`` tokens of its output, the drafts behind that, and their logits."""
    token, hidden = out.logits[:, -1:].argmax(-1), out.hidden_states[-1][:, -1:]
    shared = dict(out.shared_kv_states)
    if trim:
        shared["sliding_attention"] = tuple(x[:, :, 1 - WINDOW :] for x in shared["sliding_attention"])
    first, drafts, logits = int(token), list[int](), []
    for _ in range(DRAFTS):
        step = assistant(
            inputs_embeds=torch.cat([target.get_input_embeddings()(token), hidden], dim=-1),
            attention_mask=torch.ones(1, length + 1, dtype=torch.long),
            position_ids=torch.tensor([[length]]),
            shared_kv_states=shared,
            use_cache=False,
        )
        token, hidden = step.logits.argmax(-1), step.last_hidden_state
        drafts.append(int(token))
        logits.append(step.logits[0, 0].numpy())
    return first, drafts, np.stack(logits)
