"""Pictures and sounds of the references of projectors, drawn from seeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Width and height of the pictures: within llama.cpp's bounds, so that none of them is resized.
SIZES = ((480, 336), (336, 624), (432, 432))
SECONDS = (1.0, 1.73)


def pictures(count: int, sizes: tuple[tuple[int, int], ...], seed: int) -> list[NDArray[np.uint8]]:
    """Return pictures of smooth colours with some edges, (height, width, 3)."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        width, height = sizes[index % len(sizes)]
        y, x = np.mgrid[0:height, 0:width] / 40.0
        waves = [np.sin(x * rng.uniform(0.2, 2) + y * rng.uniform(-2, 2) + rng.uniform(0, 6)) for _ in range(3)]
        edges = (np.sin(x * rng.uniform(1, 4)) > rng.uniform(-0.5, 0.5))[..., None] * rng.uniform(-60, 60, 3)
        made.append(np.clip(128 + 90 * np.stack(waves, -1) + edges, 0, 255).astype(np.uint8))
    return made


def sounds(seconds: tuple[float, ...], seed: int) -> list[NDArray[np.float32]]:
    """Return tones with noise, at 16 kHz from -1 to 1, in steps of 16 bits."""
    rng = np.random.default_rng(seed)
    made = []
    for length in seconds:
        at = np.arange(int(16000 * length)) / 16000
        tone = 0.3 * np.sin(2 * np.pi * rng.uniform(200, 3000) * at * (1 + 0.3 * at))
        noisy = tone + 0.05 * rng.standard_normal(len(at))
        made.append((np.round(noisy * 32768) / 32768).astype(np.float32))
    return made
