"""Pictures and sounds of all kinds, made here."""

from __future__ import annotations

import io
import struct
import wave
from typing import Any

import numpy as np
from PIL import Image


def pixels(seed: int = 0, width: int = 60, height: int = 40) -> Any:
    """Coloured squares, shape (height, width, 3)."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (-(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))[:height, :width]


def saved(image: Any, form: str = "PNG", **options: Any) -> bytes:
    """The file of an image of Pillow, or of pixels."""
    stream = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(stream, form, **options)
    return stream.getvalue()


def png(seed: int = 0, width: int = 60, height: int = 40) -> bytes:
    return saved(pixels(seed, width, height))


def tone(hertz: float = 440.0, seconds: float = 0.5, rate: int = 16_000) -> Any:
    """Samples from −1 to 1."""
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def wav(samples: Any = None, rate: int = 16_000, channels: int = 1) -> bytes:
    """A WAV file with 16 bits."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        found = tone() if samples is None else samples
        file.writeframes((np.repeat(found, channels) * 32767).astype("<i2").tobytes())
    return stream.getvalue()


def raw_wav(kind: int, channels: int, rate: int, bits: int, data: bytes, size: int | None = None) -> bytes:
    """A WAV file whose header says these things; ``size`` of the samples."""
    frame = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, min(rate * frame, 2**32 - 1), frame & 0xFFFF, bits)
    length = len(data) if size is None else size
    return b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0" + head + b"data" + struct.pack("<I", length) + data


def flac_head(rate: int, channels: int, samples: int) -> bytes:
    """The first block of a FLAC file, and nothing else."""
    packed = rate << 44 | (channels - 1) << 41 | 15 << 36 | samples
    return b"fLaC\x80\0\0\x22" + b"\x10\0\x10\0" + b"\0" * 6 + packed.to_bytes(8, "big") + b"\0" * 16


def mp3_frames(count: int, *, claimed: int | None = None) -> bytes:
    """Silent frames of MPEG 1, layer 3 (128 kbit/s, 44.1 kHz, stereo); the first may claim a number of frames."""
    frame = b"\xff\xfb\x90\x00" + b"\0" * 413
    if claimed is None:
        return frame * count
    return frame[:36] + b"Info\0\0\0\x01" + claimed.to_bytes(4, "big") + frame[48:] + frame * count


def flac(samples: Any = None, rate: int = 16_000) -> bytes:
    """A FLAC file of one channel with 16 bits, in verbatim frames of 256 samples (RFC 9639)."""
    numbers = ((tone() if samples is None else samples) * 32767).astype(np.int16)
    packed = rate << 44 | 15 << 36 | len(numbers)
    info = struct.pack(">HH", 256, 256) + b"\0" * 6 + packed.to_bytes(8, "big") + b"\0" * 16
    found = b"fLaC\x80\0\0\x22" + info
    for number, at in enumerate(range(0, len(numbers), 256)):
        block = numbers[at : at + 256]
        # Sync code, a block size that follows in 16 bits, the first block's rate, mono, 16 bits, the frame's number.
        head = b"\xff\xf8\x70\x08" + chr(number).encode() + struct.pack(">H", len(block) - 1)
        frame = head + bytes([_crc(head, 8, 0x07)]) + b"\x02" + block.astype(">i2").tobytes()
        found += frame + _crc(frame, 16, 0x8005).to_bytes(2, "big")
    return found


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    value, top, mask = 0, 1 << (bits - 1), (1 << bits) - 1
    for byte in data:
        value ^= byte << (bits - 8)
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value & top else 0)) & mask
    return value
