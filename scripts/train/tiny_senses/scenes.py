"""Scenes: what a picture or a sound holds, and the sentence that describes it."""

from __future__ import annotations

import random
from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 30, 40), "blue": (30, 70, 215), "green": (30, 155, 60), "yellow": (245, 215, 30),
    "orange": (245, 130, 20), "purple": (135, 45, 160), "black": (20, 20, 20), "white": (250, 250, 250),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
NUMBERS = ("a", "two", "three", "four")
PLACES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
          "middle": "in the middle"}  # fmt: skip
SOUNDS = ("high tone", "low tone", "drum")
SPEEDS = ("slow", "fast")
PICTURE_QUESTIONS = ("What is in the picture?", "What do you see?", "What is this?", "Describe the picture.")
SOUND_QUESTIONS = ("What do you hear?", "What is in the sound?", "What is this sound?", "Describe the sound.")


@dataclass(frozen=True)
class Picture:
    """``count`` things of one colour: a shape, or one digit. ``place`` is where a single shape stands."""

    colour: str
    thing: str
    count: int = 1
    place: str = ""

    @property
    def sentence(self) -> str:
        number = NUMBERS[self.count - 1] if self.count > 1 else "an" if self.colour[0] in "aeiou" else "a"
        ending = "" if self.count == 1 else "es" if self.thing.endswith("s") else "s"
        place = f" {PLACES[self.place]}" if self.place else ""
        return f"I see {number} {self.colour} {self.thing}{ending}{place}."


@dataclass(frozen=True)
class Sound:
    """``count`` equal sounds, one after another; ``speed`` of more than one."""

    kind: str
    count: int = 1
    speed: str = ""

    @property
    def sentence(self) -> str:
        speed = f" {self.speed}" if self.count > 1 else ""
        return f"I hear {NUMBERS[self.count - 1]}{speed} {self.kind}{'' if self.count == 1 else 's'}."


def a_picture(rng: random.Random) -> Picture:
    """Return one of three kinds: a single shape at a place, several shapes, a digit."""
    colour, kind = rng.choice(list(COLOURS)), rng.random()
    if kind < 0.35:
        return Picture(colour, rng.choice(SHAPES), 1, rng.choice(list(PLACES)))
    if kind < 0.75:
        return Picture(colour, rng.choice(SHAPES), rng.randint(2, len(NUMBERS)))
    return Picture(colour, str(rng.randrange(10)))


def a_sound(rng: random.Random) -> Sound:
    return Sound(rng.choice(SOUNDS), rng.randint(1, 4), rng.choice(SPEEDS))


def all_sentences() -> tuple[list[str], list[str]]:
    """Return every sentence about pictures, and every one about sounds."""
    shapes = [Picture(c, s, 1, p) for c in COLOURS for s in SHAPES for p in PLACES]
    several = [Picture(c, s, n) for c in COLOURS for s in SHAPES for n in range(2, len(NUMBERS) + 1)]
    digits = [Picture(c, str(d)) for c in COLOURS for d in range(10)]
    sounds = [Sound(kind, count, speed) for kind in SOUNDS for count in range(1, 5) for speed in SPEEDS]
    pictures = [picture.sentence for picture in (*shapes, *several, *digits)]
    return pictures, sorted({sound.sentence for sound in sounds})
