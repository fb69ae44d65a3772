"""Training of the picture encoder: it writes the codes of a sentence, block by block.

A second task teaches where things are: layer 2 also tells for each patch which thing covers it, and where centres are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from scripts.train.tiny_senses.encoders import make_vision, normalise, see
from scripts.train.tiny_senses.pictures import PATCH, WIDTH, draw, embed, fit, grid
from scripts.train.tiny_senses.scenes import SHAPES, Picture, a_picture
from scripts.train.tiny_senses.spelling import BLOCK, Spelling, places_of_picture
from scripts.train.tiny_senses.training import spelling_loss, train, word_logits

BATCH = 48
THINGS = ("", *SHAPES, *"0123456789")


@dataclass(frozen=True)
class Pictures:
    """Pictures of one size: embedded patches, places of the soft tokens, words, things and centres by patch."""

    scenes: list[Picture]
    patches: torch.Tensor
    across: int
    places: torch.Tensor
    words: torch.Tensor
    things: torch.Tensor
    centres: torch.Tensor


class Eyes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vision = make_vision()
        self.locate = nn.Linear(WIDTH, len(THINGS) + 1)
        self.middle = torch.empty(0)
        self.vision.encoder.layers[1].register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, given: Any, made: Any) -> None:
        self.middle = made[0] if isinstance(made, tuple) else made

    def forward(self, pictures: Pictures) -> torch.Tensor:
        """Return normalised vectors: (pictures, soft tokens, WIDTH)."""
        return normalise(see(self.vision, pictures.patches, pictures.across))


def some_pictures(rng: random.Random, spelling: Spelling, count: int = BATCH) -> Pictures:
    """Draw pictures of one size, most of them small."""
    while True:
        width = rng.randint(96, 320)
        size = (width, int(width * rng.uniform(0.7, 1.45)))
        if rng.random() < 0.1:
            width = rng.randint(200, 560)
            size = (width, int(width * rng.uniform(0.6, 1.7)))
        across, down = grid(size)
        if min(across, down) >= 5 and across * down <= 320:
            break
    scenes, patches, things, centres = [a_picture(rng) for _ in range(count)], [], [], []
    for scene in scenes:
        image, placed = draw(scene, rng, size)
        patches.append(embed(image))
        covered, middle = _located(placed, size, across, down, THINGS.index(scene.thing))
        things.append(covered)
        centres.append(middle)
    places = places_of_picture(across, down)
    words = torch.tensor([spelling.words(scene.sentence, BLOCK) for scene in scenes])[:, places]
    stacked = [torch.from_numpy(np.stack(arrays)) for arrays in (patches, things, centres)]
    return Pictures(scenes, stacked[0], across, places, words, stacked[1], stacked[2])


def _located(
    placed: list[tuple[float, ...]], size: tuple[int, int], across: int, down: int, thing: int
) -> tuple[np.ndarray, np.ndarray]:
    covered, centres = np.zeros((down, across), np.int64), np.zeros((down, across), np.float32)
    scale, _, corner = fit(size)
    x, y = np.arange(across) + 0.5, np.arange(down) + 0.5
    for place in placed:
        at_x, at_y = ((place[axis] * scale + corner[axis]) / PATCH for axis in range(2))
        row, column = min(down - 1, int(at_y)), min(across - 1, int(at_x))
        covered[(x[None] - at_x) ** 2 + (y[:, None] - at_y) ** 2 < (place[2] * scale / PATCH) ** 2] = thing
        covered[row, column], centres[row, column] = thing, 1
    return covered.ravel(), centres.ravel()


def train_eyes(codes: torch.Tensor, spelling: Spelling, minutes: float, seed: int) -> Eyes:
    """Train for ``minutes`` of computing. ``codes``: every word's code at every place of a block."""
    torch.manual_seed(seed)
    eyes = Eyes()
    held_out = [some_pictures(random.Random(seed + 1000 + number), spelling, 32) for number in range(6)]

    def loss(pictures: Pictures, progress: float) -> torch.Tensor:
        encoded = eyes(pictures)
        found = eyes.locate(eyes.middle)
        located = nn.functional.cross_entropy(found[..., :-1].flatten(0, 1), pictures.things.flatten())
        centred = nn.functional.binary_cross_entropy_with_logits(found[..., -1], pictures.centres)
        spelled = spelling_loss(encoded, codes, pictures.places, pictures.words).mean()
        return spelled + 0.5 * (1 - 0.8 * progress) * (located + centred)

    def check() -> str:
        return f"right {right_sentences(eyes, held_out, codes, spelling):.3f}"

    train(eyes, eyes.vision, lambda rng: some_pictures(rng, spelling), loss, check, minutes, seed, kept=260, fresh=0.35)
    return eyes


@torch.no_grad()
def right_sentences(eyes: Eyes, held_out: list[Pictures], codes: torch.Tensor, spelling: Spelling) -> float:
    """Return the share of pictures whose blocks together spell the right sentence."""
    right = []
    for pictures in held_out:
        likely = word_logits(eyes(pictures), codes, pictures.places).log_softmax(-1)
        blocks = torch.zeros(len(pictures.scenes), BLOCK, likely.shape[-1]).index_add_(1, pictures.places, likely)
        wanted = torch.tensor([spelling.words(scene.sentence, BLOCK) for scene in pictures.scenes])
        right.append((blocks.argmax(-1) == wanted).all(1).float().mean().item())
    return sum(right) / len(right)
