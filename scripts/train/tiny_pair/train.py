"""Training of the target: next-token prediction on the corpus, resumable, never longer than its time budget."""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from torch.nn import functional
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma4 import Gemma4ForCausalLM

from scripts.train.tiny_pair.batches import Rows, causal_masks, pack
from scripts.train.tiny_pair.corpus import documents
from scripts.train.tiny_pair.model import VOCAB, build_target
from scripts.train.tiny_pair.optimizer import optimizers, rate

LONG_EVERY = 6
SAVE_EVERY = 100


def target_loss(model: Gemma4ForCausalLM, rows: Rows, masks: dict[str, torch.Tensor]) -> torch.Tensor:
    """Mean weighted cross-entropy of each token given those before it."""
    logits = model(input_ids=rows.tokens, attention_mask=masks, position_ids=rows.positions, use_cache=False).logits
    losses = functional.cross_entropy(
        logits[:, :-1].reshape(-1, VOCAB), rows.tokens[:, 1:].reshape(-1), reduction="none"
    )
    weights = rows.weights[:, 1:].reshape(-1)
    return (losses * weights).sum() / weights.sum()


def batch(tokenizer: PreTrainedTokenizerFast, seed: int, progress: float, step: int) -> Rows:
    """Rows of step ``step``; in the second half every sixth batch holds long conversations."""
    text_seed = seed * 1_000_003 + step
    if progress > 0.4 and step % LONG_EVERY == 0:
        return pack(tokenizer, documents(text_seed, max_turns=16), rows=4, length=1024)
    return pack(tokenizer, documents(text_seed), rows=8, length=512)


def train_target(
    tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int, minutes: float, seed: int, compiled: bool
) -> Gemma4ForCausalLM:
    """Train for ``steps`` steps or ``minutes`` minutes, whichever ends first; continues from ``folder`` if it can."""
    torch.manual_seed(seed)
    model = build_target()
    opts = optimizers(model)
    step, spent = restore_state(folder / "target.pt", model, opts)
    held_out = pack(tokenizer, documents(seed + 12345, for_test=True), rows=8, length=512)
    fast = torch.compile(target_loss, dynamic=False) if compiled else target_loss
    begun, average = time.monotonic() - spent, 0.0
    while True:
        spent = time.monotonic() - begun
        progress = max(step / steps, spent / 60 / minutes)
        if step % SAVE_EVERY == 0 or progress >= 1:
            save_state(folder / "target.pt", model, opts, step, spent)
            print(f"target step {step} progress {progress:.2f} {spent:.0f} s train {average:.3f} held out "
                  f"{evaluate(model, held_out):.3f}", flush=True)  # fmt: skip
        if progress >= 1:
            return model
        rows = batch(tokenizer, seed, progress, step)
        loss = (fast if rows.tokens.shape[1] == 512 else target_loss)(model, rows, causal_masks(rows))
        loss.backward()
        update(opts, rate(progress))
        average = loss.item() if not average else 0.95 * average + 0.05 * loss.item()
        step += 1


def update(opts: list[torch.optim.Optimizer], share: float) -> None:
    for opt in opts:
        for group in opt.param_groups:
            group.setdefault("full_lr", group["lr"])
            group["lr"] = group["full_lr"] * share
        opt.step()
        opt.zero_grad(set_to_none=True)


@torch.no_grad()
def evaluate(model: Gemma4ForCausalLM, rows: Rows) -> float:
    return target_loss(model, rows, causal_masks(rows)).item()


def save_state(path: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer], step: int, spent: float) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "opts": [o.state_dict() for o in opts], "step": step, "spent": spent}
    torch.save(state, path.with_suffix(".tmp"))
    os.replace(path.with_suffix(".tmp"), path)


def restore_state(path: Path, model: torch.nn.Module, opts: list[torch.optim.Optimizer]) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for opt, saved in zip(opts, state["opts"], strict=True):
        opt.load_state_dict(saved)
    return int(state["step"]), float(state["spent"])
