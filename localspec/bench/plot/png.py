"""Writes pictures as PNG, with numpy and zlib alone: every shape is strokes, drawn by their distance to each pixel."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from localspec.bench.plot.letters import Point, strokes, text_width
from localspec.bench.plot.shapes import Dot, Line, Picture, Words

#: Pixels of the file for one of the picture: sharp on dense screens.
SCALE = 2
_PEN = 0.095  # width of a letter's stroke, as a share of its size

_Stroke = list[Point]
_Canvas = NDArray[np.float32]


def png(picture: Picture) -> bytes:
    """The picture as a PNG file of 8-bit RGB, :data:`SCALE` times as many pixels each way."""
    canvas = np.full((picture.height * SCALE, picture.width * SCALE, 3), 255.0, np.float32)
    for shape in picture.shapes:
        if isinstance(shape, Line):
            _draw(canvas, [list(shape.points)], shape.width / 2, shape.colour)
        elif isinstance(shape, Dot):
            _draw(canvas, [[(shape.x, shape.y)]], shape.radius, shape.colour)
        else:
            _draw(canvas, _letters(shape), _PEN * shape.size / 2, shape.colour)
    return encode(np.rint(canvas).astype(np.uint8))


def _letters(words: Words) -> list[_Stroke]:
    before = {"start": 0.0, "middle": 0.5, "end": 1.0}[words.anchor] * text_width(words.text, words.size)

    def place(x: float, y: float) -> Point:
        return (words.x - y, words.y - x + before) if words.turned else (words.x + x - before, words.y - y)

    return [[place(*point) for point in line] for line in strokes(words.text, words.size)]


def _draw(canvas: _Canvas, lines: list[_Stroke], radius: float, colour: str) -> None:
    """Strokes of a pen of ``radius`` pixels. Each is laid on once, so that its joints are no darker."""
    ink = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.float32)
    for line in lines:
        ends = [(x * SCALE, y * SCALE) for x, y in line]
        box = _box(ends, radius * SCALE, canvas)
        part = canvas[box]
        share = np.zeros(part.shape[:2], np.float32)
        for a, b in zip(ends, ends[1:] or ends, strict=False):
            rows, columns = _box([a, b], radius * SCALE, canvas)
            inside = np.s_[rows.start - box[0].start : rows.stop - box[0].start,
                           columns.start - box[1].start : columns.stop - box[1].start]  # fmt: skip
            y, x = np.mgrid[rows, columns].astype(np.float32) + 0.5
            covered = np.clip(radius * SCALE + 0.5 - _distance(x, y, a, b), 0.0, 1.0)
            share[inside] = np.maximum(share[inside], covered)
        part += share[:, :, None] * (ink - part)


def _box(ends: list[Point], reach: float, canvas: _Canvas) -> tuple[slice, slice]:
    """The rows and columns of the canvas that a pen at ``ends`` may touch; empty beyond its edges."""

    def span(values: list[float], size: int) -> slice:
        low = min(size, max(0, int(min(values) - reach - 1)))
        return slice(low, max(low, min(size, int(max(values) + reach + 2))))

    return span([y for _, y in ends], canvas.shape[0]), span([x for x, _ in ends], canvas.shape[1])


def _distance(x: _Canvas, y: _Canvas, a: Point, b: Point) -> _Canvas:
    """Of each pixel to the segment from a to b."""
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = dx * dx + dy * dy
    along = np.clip(((x - a[0]) * dx + (y - a[1]) * dy) / length, 0.0, 1.0) if length else 0.0
    away: _Canvas = np.hypot(x - a[0] - along * dx, y - a[1] - along * dy)
    return away


def encode(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels (height, width, 3) as a PNG file (W3C, PNG specification, third edition)."""
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), pixels.reshape(height, 3 * width)], axis=1)
    parts = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
