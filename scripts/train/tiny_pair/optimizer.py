"""Muon for the matrices of the blocks, AdamW for embeddings and norms (Jordan et al., 2024, https://kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

import torch

MUON_RATE = 0.02
ADAM_RATE = 4e-3


def orthogonalise(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Quintic Newton-Schulz iteration towards the nearest semi-orthogonal matrix; (rows, columns) float32."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, parameters: list[torch.nn.Parameter], lr: float = MUON_RATE, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonalise(parameter.grad.lerp(buffer, group["momentum"]))
                scale = max(1.0, parameter.shape[0] / parameter.shape[1]) ** 0.5
                parameter.mul_(1 - group["lr"] * 0.1).add_(update, alpha=-group["lr"] * scale)


def optimizers(model: torch.nn.Module) -> list[torch.optim.Optimizer]:
    """The two optimizers of a model; each parameter belongs to one."""
    matrices: list[torch.nn.Parameter] = []
    rest: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed_tokens" not in name else rest).append(parameter)
    return [Muon(matrices), torch.optim.AdamW(rest, lr=ADAM_RATE, betas=(0.9, 0.95), weight_decay=0.0)]


def rate(progress: float) -> float:
    """Share of the full learning rate: 2% warm-up, constant to 50%, then linear to 2%."""
    if progress < 0.02:
        return max(progress, 0.001) / 0.02
    return 1.0 if progress < 0.5 else 1.0 - 0.98 * (min(progress, 1.0) - 0.5) / 0.5
