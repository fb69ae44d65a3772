"""Laws of the built-in pair's projector: it tells what drawn pictures show and what made sounds are."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

import localspec
from localspec.engine import Engine
from localspec.models.resolve import TINY_TARGET
from scripts.check.tiny_senses import png, wav
from scripts.train.tiny_senses.scenes import Picture, Sound

SCENES = [
    *(Picture(colour, "circle", 1, "middle") for colour in ("red", "blue", "green")),
    Picture("black", "square", 2),
    Picture("red", "star", 3),
    Picture("blue", "7"),
]
SOUNDS = [Sound("high tone", 2, "slow"), Sound("low tone", 1, "slow"), Sound("drum", 3, "slow")]


@pytest.fixture(scope="module")
def tiny() -> Iterator[Engine]:
    with localspec.load("tiny", gpu_layers=0) as found:
        yield found


def answers(engine: Engine, seed: int) -> int:
    """Return how many scenes are named right."""
    rng, right = random.Random(seed), 0
    for scene in (*SCENES, *SOUNDS):
        heard = isinstance(scene, Sound)
        part = localspec.Audio(wav(scene, rng)) if heard else localspec.Image(png(scene, rng))
        question = "What do you hear?" if heard else "What is in the picture?"
        said = engine.chat([{"role": "user", "content": [part, question]}], temperature=0, max_tokens=30).text
        right += said.strip() == scene.sentence
    return right


def test_tiny_sees_and_hears_without_being_told_of_its_projector(tiny: Engine) -> None:
    """Its file is found beside the target and is small."""
    assert tiny.media == {"picture", "sound"}
    assert TINY_TARGET.with_name("tiny-mmproj.gguf").stat().st_size <= 2_000_000


def test_tiny_names_what_it_sees_and_hears(tiny: Engine) -> None:
    """Nine of ten, on drawings that training has not had."""
    seeds = (1, 2, 3)
    assert sum(answers(tiny, seed) for seed in seeds) >= 0.9 * len(seeds) * len((*SCENES, *SOUNDS))
