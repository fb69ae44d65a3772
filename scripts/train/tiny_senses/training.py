"""A training of encoders: two optimizers, a schedule, batches that are shown more than once, and a time budget."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from scripts.train.tiny_pair.optimizer import Muon

#: Sharpness of the choice of a word by the likeness of its code.
SHARPNESS = 12.0
#: Weight of the distance to the right code, beside the choice of a word.
DISTANCE = 2.0


def word_logits(encoded: torch.Tensor, codes: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Likeness of normalised vectors (things, tokens, WIDTH) with every word's code at the place of the token.

    ``places`` are those of the tokens, one row for all things or one for each.
    """
    chosen = codes[places]
    form = "bnd,nwd->bnw" if places.ndim == 1 else "bnd,bnwd->bnw"
    return torch.einsum(form, encoded, chosen) * (SHARPNESS / encoded.shape[-1])


def spelling_loss(
    encoded: torch.Tensor, codes: torch.Tensor, places: torch.Tensor, words: torch.Tensor
) -> torch.Tensor:
    """Return the loss of each token, (things, tokens): of the choice of its word, and of the distance to its code.

    The target reads the vector itself, so the nearest code is not enough.
    """
    logits = word_logits(encoded, codes, places)
    chosen = nn.functional.cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none").view_as(words)
    return chosen + DISTANCE * (1 - (encoded * codes[places.expand_as(words), words]).mean(-1))


def train(
    model: nn.Module, encoder: nn.Module, make: Callable[[random.Random], Any], loss_of: Callable[[Any, float], Any],
    check: Callable[[], str], minutes: float, seed: int, *, kept: int, fresh: float,
) -> None:  # fmt: skip
    """Train for ``minutes`` of this process; ``fresh``: share of new batches beside ``kept`` earlier ones."""
    ours = {id(values) for values in encoder.parameters()}
    learned = [values for values in model.parameters() if values.requires_grad]
    matrices = [values for values in learned if values.ndim == 2 and id(values) in ours]
    rest = [values for values in learned if values.ndim != 2 or id(values) not in ours]
    optimizers = [Muon(matrices), torch.optim.AdamW(rest, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)]
    batches: list[Any] = []
    rng, step, begun = random.Random(seed), 0, time.process_time()
    while True:
        progress = (time.process_time() - begun) / 60 / minutes
        if step % 100 == 0 or progress >= 1:
            print(f"step {step} progress {progress:.2f} {check()}", flush=True)
        if progress >= 1:
            return
        if len(batches) < kept // 2 or rng.random() < fresh:
            batches = [*batches, make(rng)][-kept:]
        loss_of(batches[-1] if rng.random() < fresh else rng.choice(batches), progress).backward()
        share = max(progress, 0.002) / 0.02 if progress < 0.02 else min(1.0, max(0.02, (1 - progress) / 0.6))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group.setdefault("full_lr", group["lr"])
                group["lr"] = group["full_lr"] * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
