"""A prompt of texts, pictures and sounds, for what two programs compute behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.helpers.media_samples import pictures, sounds

#: Stored text model → the stored encoders that it is given.
TARGETS = {
    "gemma4_e2b": "gemma4_e2b",
    "gemma4_e4b": "gemma4_e2b",
    "gemma4_12b": "gemma4_12b",
    "gemma4_26b_a4b": "gemma4_31b",
    "gemma4_31b": "gemma4_31b",
    "gemma3_4b": "gemma3_4b",
}
#: Entries of a prompt that stand for cells of a picture and of a sound.
PICTURE, SOUND = -1, -2
#: Width and height of the pictures. The second has more cells (81) than the sliding window of the text models.
SIZES = ((288, 240), (432, 432))
#: Fewest and most cells of a picture.
LIMITS = (20, 280)
#: Pixels for a cell in each direction.
_CELL = 48


def media(*, square: bool = False) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """The pictures and the sound. ``square``: as Gemma 3 reads them, which transformers stretches and llama.cpp not."""
    seen = pictures(len(SIZES), SIZES, 11)
    return [np.ascontiguousarray(one[:, : len(one)]) if square else one for one in seen], sounds((0.9,), 12)[0]


def make_prompt(
    vocabulary: int, sizes: Mapping[int, Callable[[Any], int]], *, hears: bool, seed: int
) -> tuple[NDArray[np.int64], list[int], list[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return entries, text positions behind media, pictures and the sound.

    ``sizes``: cells of a picture or a sound, if they are not one for 48 × 48 pixels.
    """
    seen, heard = media(square=PICTURE in sizes)
    draw = np.random.default_rng(seed)

    def text(count: int) -> list[int]:
        return [int(token) for token in draw.integers(10, vocabulary, count)]

    def of(kind: int, one: Any) -> list[int]:
        cells = one.shape[0] * one.shape[1] // _CELL**2 if kind == PICTURE else 0
        return [kind] * (sizes[kind](one) if kind in sizes else cells)

    parts = [text(21), of(PICTURE, seen[0]), text(9), of(SOUND, heard) if hears else [], text(12)]
    parts += [of(PICTURE, seen[1]), text(14)]
    entries, ends = np.concatenate(parts).astype(np.int64), np.cumsum([len(part) for part in parts]).tolist()
    return entries, [ends[1], ends[2] - 1, ends[3], ends[4] - 1, ends[5], ends[5] + 6, ends[6] - 1], seen, heard
