"""Drawing of pictures, and their way into the encoder: llama.cpp's resize and patches."""

from __future__ import annotations

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from scripts.train.tiny_senses.scenes import COLOURS, Picture

PATCH, WIDTH = 32, 64
#: Horizontal and vertical frequencies of the first layer: 21 waves in 3 colours.
FREQUENCIES = [(u, v) for u in range(6) for v in range(6) if u + v < 6]
FEWEST, MOST = 70, 1120
#: Segments of a digit, as on a pocket calculator: top, middle, bottom, and the four at the sides.
SEGMENTS = {"0": "abcdef", "1": "bc", "2": "abged", "3": "abgcd", "4": "fgbc", "5": "afgcd", "6": "afgedc", "7": "abc",
            "8": "abcdefg", "9": "abcdfg"}  # fmt: skip
LINES = {"a": (0, 0, 1, 0), "b": (1, 0, 1, 1), "c": (1, 1, 1, 2), "d": (0, 2, 1, 2), "e": (0, 1, 0, 2),
         "f": (0, 0, 0, 1), "g": (0, 1, 1, 1)}  # fmt: skip
CENTRES = {"left": (0.2, 0.5), "right": (0.8, 0.5), "top": (0.5, 0.2), "bottom": (0.5, 0.8), "middle": (0.5, 0.5)}


def draw(picture: Picture, rng: random.Random, size: tuple[int, int]) -> tuple[Image.Image, list[tuple[float, ...]]]:
    """Draw a picture of ``size`` (width, height) pixels; also return where each thing stands, and its radius."""
    ground = _ground(picture.colour, rng)
    image = Image.new("RGB", size, ground)
    pen = ImageDraw.Draw(image)
    colour = tuple(min(255, max(0, value + rng.randint(-22, 22))) for value in COLOURS[picture.colour])
    places = _places(picture, rng, size)
    for x, y, radius in places:
        if picture.thing.isdigit():
            _digit(pen, picture.thing, x, y, radius, colour)
        else:
            pen.polygon(outline(picture.thing, x, y, radius, rng), fill=colour)
    return image, places


def _ground(colour: str, rng: random.Random) -> tuple[int, ...]:
    """Return a background that differs from the colour: nearly white, pale, grey or nearly black."""
    while True:
        base = rng.choice([rng.randint(225, 255), rng.randint(60, 255), rng.randint(0, 60)])
        ground = tuple(min(255, max(0, base + rng.randint(-12, 12))) for _ in range(3))
        if sum(abs(a - b) for a, b in zip(ground, COLOURS[colour], strict=True)) > 170:
            return ground


def _places(picture: Picture, rng: random.Random, size: tuple[int, int]) -> list[tuple[float, ...]]:
    width, height = size
    short = min(size)
    if picture.thing.isdigit():
        return [(width * rng.uniform(0.42, 0.58), height * rng.uniform(0.45, 0.55), short * rng.uniform(0.25, 0.4))]
    if picture.count == 1:
        x, y = CENTRES[picture.place]
        radius = short * rng.uniform(0.13, 0.2)
        return [(width * (x + rng.uniform(-0.04, 0.04)), height * (y + rng.uniform(-0.04, 0.04)), radius)]
    radius = short * rng.uniform(0.11, 0.16)
    placed: list[tuple[float, ...]] = []
    while len(placed) < picture.count:
        x, y = rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)
        if all(math.hypot(x - a, y - b) > 2.3 * radius for a, b, _ in placed):
            placed.append((x, y, radius * rng.uniform(0.85, 1.0)))
        elif rng.random() < 0.02:
            placed.clear()
    return placed


def outline(shape: str, x: float, y: float, radius: float, rng: random.Random) -> list[tuple[float, float]]:
    """Return the corners of a shape around (x, y), a little turned."""
    turn = rng.uniform(-0.15, 0.15)
    points: list[tuple[float, float]]
    if shape == "circle":
        points = [_polar(index / 40, 0.95) for index in range(40)]
    elif shape == "square":
        points = [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    elif shape == "triangle":
        points = [_polar(index / 3 - 0.25, 1.05) for index in range(3)]
    elif shape == "star":
        points = [_polar(index / 10 - 0.25, 1.1 if index % 2 == 0 else 0.45) for index in range(10)]
    elif shape == "heart":
        turns = [2 * math.pi * index / 40 for index in range(40)]
        points = [
            (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t)) / 16) for t in turns
        ]
    else:
        arm = 0.3
        points = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm), (arm, 1), (-arm, 1), (-arm, arm),
                  (-1, arm), (-1, -arm), (-arm, -arm)]  # fmt: skip
    cos, sin = math.cos(turn), math.sin(turn)
    return [(x + radius * (a * cos - b * sin), y + radius * (a * sin + b * cos)) for a, b in points]


def _polar(turn: float, radius: float) -> tuple[float, float]:
    return radius * math.cos(2 * math.pi * turn), radius * math.sin(2 * math.pi * turn)


def _digit(pen: ImageDraw.ImageDraw, digit: str, x: float, y: float, radius: float, colour: tuple[int, ...]) -> None:
    thick = max(2, round(radius * 0.3))
    for segment in SEGMENTS[digit]:
        x0, y0, x1, y1 = (value - (0.5 if index % 2 == 0 else 1) for index, value in enumerate(LINES[segment]))
        ends = [(x + x0 * radius, y + y0 * radius), (x + x1 * radius, y + y1 * radius)]
        pen.line(ends, fill=colour, width=thick)
        for a, b in ends:
            pen.ellipse((a - thick / 2, b - thick / 2, a + thick / 2, b + thick / 2), fill=colour)


def grid(size: tuple[int, int], fewest: int = FEWEST, most: int = MOST) -> tuple[int, int]:
    """Return the patches (across, down) of a picture, as llama.cpp's ``calc_size_preserved_ratio`` chooses them."""
    width, height = size
    across, down = (max(1, math.floor(side / PATCH + 0.5)) for side in size)
    area = PATCH * PATCH
    if across * down > most:
        scale = math.sqrt(width * height / (most * area))
        across, down = (max(1, math.floor(side / scale / PATCH)) for side in size)
    elif across * down < fewest:
        scale = math.sqrt(fewest * area / (width * height))
        across, down = (math.ceil(side * scale / PATCH) for side in size)
    return across, down


def fit(size: tuple[int, int]) -> tuple[float, tuple[int, int], tuple[int, int]]:
    """Return scale, size and corner of a picture of ``size`` inside its patches; around it llama.cpp paints black."""
    across, down = grid(size)
    inside = across * PATCH, down * PATCH
    scale = min(inside[0] / size[0], inside[1] / size[1])
    fitted = tuple(min(math.ceil(side * scale - 1e-6), most) for side, most in zip(size, inside, strict=True))
    return scale, (fitted[0], fitted[1]), ((inside[0] - fitted[0]) // 2, (inside[1] - fitted[1]) // 2)


def waves() -> np.ndarray:
    """Return the fixed first layer, (WIDTH, PATCH, PATCH, 3): the slowest cosine waves of each colour in a patch."""
    filters = np.zeros((WIDTH, PATCH, PATCH, 3), np.float32)
    for number, (u, v) in enumerate(FREQUENCIES):
        wave = np.outer(_cosine(v), _cosine(u)) / (PATCH * PATCH)
        for colour in range(3):
            filters[3 * number + colour, :, :, colour] = wave * (1 if u + v == 0 else 3)
    return filters


def _cosine(frequency: int) -> np.ndarray:
    return np.cos(math.pi * frequency * (np.arange(PATCH) + 0.5) / PATCH) * (1 if frequency == 0 else 2**0.5)


def embed(image: Image.Image) -> np.ndarray:
    """Resize a picture as llama.cpp does, and apply the first layer: (patches, WIDTH)."""
    across, down = grid(image.size)
    _, fitted, corner = fit(image.size)
    canvas = Image.new("RGB", (across * PATCH, down * PATCH))
    canvas.paste(image.resize(fitted, Image.Resampling.BICUBIC), corner)
    pixels = np.asarray(canvas, np.float32).reshape(down, PATCH, across, PATCH, 3) * (2 / 255) - 1
    basis = np.stack([_cosine(frequency) for frequency in range(6)]).astype(np.float32) / PATCH
    turned = np.einsum("vy,dyaxc->dvaxc", basis, pixels, optimize=True)
    turned = np.einsum("ux,dvaxc->davuc", basis, turned, optimize=True).reshape(across * down, 6, 6, 3)
    found = np.zeros((across * down, WIDTH), np.float32)
    for number, (u, v) in enumerate(FREQUENCIES):
        found[:, 3 * number : 3 * number + 3] = turned[:, v, u] * (1 if u + v == 0 else 3)
    return found
