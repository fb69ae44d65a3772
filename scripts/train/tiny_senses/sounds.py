"""Synthesis of sounds: tones and drums in rhythm, with silence behind them."""

from __future__ import annotations

import random

import numpy as np

from scripts.train.tiny_senses.scenes import Sound

RATE = 16000
#: Seconds from the beginning of one sound to that of the next.
INTERVALS = {"fast": (0.16, 0.2), "slow": (0.32, 0.4)}
#: Lowest and highest frequency of a tone.
PITCHES = {"high tone": (900.0, 2400.0), "low tone": (110.0, 280.0)}


def synthesise(sound: Sound, rng: random.Random) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return samples at 16 kHz from -1 to 1, and beginning and end of each sound in seconds."""
    gap = rng.uniform(*INTERVALS[sound.speed])
    lead, length, tail = rng.uniform(0.05, 0.35), rng.uniform(0.08, 0.11), rng.uniform(1.0, 1.3)
    starts = [lead + number * gap for number in range(sound.count)]
    samples = np.random.default_rng(rng.getrandbits(32)).standard_normal(int(RATE * (starts[-1] + length + tail)))
    samples *= rng.uniform(0.0, 0.002)
    pitch, loudness = rng.uniform(*PITCHES.get(sound.kind, (1.0, 2.0))), rng.uniform(0.15, 0.8)
    for start in starts:
        at = np.arange(int(RATE * length)) / RATE
        fade = np.minimum(1, np.minimum(at, length - at) / 0.008)
        if sound.kind == "drum":
            noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(len(at))
            wave = 0.5 * noise * np.exp(-at * rng.uniform(20, 40))
        else:
            wave = np.sin(2 * np.pi * pitch * at) + rng.uniform(0, 0.3) * np.sin(4 * np.pi * pitch * at)
        first = int(RATE * start)
        samples[first : first + len(at)] += loudness * fade * wave
    return np.clip(samples, -1, 1).astype(np.float32), [(start, start + length) for start in starts]
