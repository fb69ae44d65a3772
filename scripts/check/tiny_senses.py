#!/usr/bin/env python3
"""Ask the built-in pair about pictures and sounds that it was not trained on, and count the right answers by kind.

    python -m scripts.check.tiny_senses [--count 200] [--show DIR] [--mmproj FILE]

Each answer goes the whole way: a PNG or WAV file in memory, the projector in llama.cpp, the target with its assistant.
A part of an answer is right if it has that word, and no other of its kind. Needs Pillow and numpy.
"""

from __future__ import annotations

import argparse
import io
import random
import re
import wave
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import localspec
from scripts.train.tiny_senses import scenes
from scripts.train.tiny_senses.pictures import draw
from scripts.train.tiny_senses.sounds import RATE, synthesise

#: Words of each kind, the way they stand in a sentence.
KINDS = {
    "colour": list(scenes.COLOURS),
    "shape": list(scenes.SHAPES),
    "count": ["a", "two", "three", "four"],
    "place": ["left", "right", "top", "bottom", "middle"],
    "digit": [str(digit) for digit in range(10)],
    "sound": ["high", "low", "drum"],
    "speed": list(scenes.SPEEDS),
}


def png(scene: scenes.Picture, rng: random.Random) -> bytes:
    width = rng.randint(100, 400)
    image, _ = draw(scene, rng, (width, int(width * rng.uniform(0.7, 1.4))))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def wav(scene: scenes.Sound, rng: random.Random) -> bytes:
    samples, _ = synthesise(scene, rng)
    out = io.BytesIO()
    with wave.open(out, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE)
        stream.writeframes(np.round(samples * 32767).astype("<i2").tobytes())
    return out.getvalue()


def words_of(text: str, kind: str) -> set[str]:
    """Return the words of a kind in a sentence, without plural endings."""
    found = re.findall(r"[a-z]+|\d", text.lower().replace("an ", "a "))
    singular = {word.removesuffix("es") if word == "crosses" else word.removesuffix("s") for word in found}
    return {word for word in KINDS[kind] if word in found or word in singular}


def tell(wanted: str, said: str, tally: Counter[tuple[str, bool]]) -> None:
    for kind in KINDS:
        if expected := words_of(wanted, kind):
            tally[kind, words_of(said, kind) == expected] += 1
    tally["sentence", said.strip() == wanted] += 1


def scenes_to_ask(count: int, rng: random.Random) -> Iterator[scenes.Picture | scenes.Sound]:
    for number in range(count):
        yield scenes.a_sound(rng) if number % 4 == 3 else scenes.a_picture(rng)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="pictures and sounds; a quarter are sounds")
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--show", type=Path, help="folder for the files whose answers are wrong")
    parser.add_argument("--mmproj", type=Path, help="projector (default: that of tiny)")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    tallies: dict[str, Counter[tuple[str, bool]]] = {"pictures": Counter(), "sounds": Counter()}
    with localspec.load("tiny", mmproj=str(options.mmproj) if options.mmproj else None) as llm:
        for number, scene in enumerate(scenes_to_ask(options.count, rng)):
            picture = isinstance(scene, scenes.Picture)
            data = png(scene, rng) if isinstance(scene, scenes.Picture) else wav(scene, rng)
            part = localspec.Image(data) if picture else localspec.Audio(data)
            question = "What is in the picture?" if picture else "What do you hear?"
            said = llm.chat([{"role": "user", "content": [part, question]}], temperature=0, max_tokens=40).text
            tell(scene.sentence, said, tallies["pictures" if picture else "sounds"])
            if said.strip() != scene.sentence:
                print(f"{number}: {scene.sentence!r}, but it said {said!r}")
                if options.show:
                    options.show.mkdir(parents=True, exist_ok=True)
                    (options.show / f"{number}.{'png' if picture else 'wav'}").write_bytes(data)
    for name, tally in tallies.items():
        for kind in dict.fromkeys(kind for kind, _ in tally):
            right, every = tally[kind, True], tally[kind, True] + tally[kind, False]
            print(f"{name}: {kind} right {right} of {every} ({right / every:.1%})")


if __name__ == "__main__":
    main()
