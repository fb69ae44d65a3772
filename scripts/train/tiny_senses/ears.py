"""Training of the sound encoder: it writes the codes of a sentence into the silence behind a sound.

Two more tasks: layer 2 tells for each soft token which sound there is, layer 3 how many have begun.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor

from scripts.train.tiny_senses.encoders import MELS, make_audio, normalise
from scripts.train.tiny_senses.pictures import WIDTH
from scripts.train.tiny_senses.scenes import SOUNDS, Sound, a_sound
from scripts.train.tiny_senses.sounds import RATE, synthesise
from scripts.train.tiny_senses.spelling import TAIL, Spelling
from scripts.train.tiny_senses.training import spelling_loss, train, word_logits

BATCH = 32
#: Soft tokens a second, and those of silence before the sentence begins.
TOKENS, DELAY = 25, 10
MOST = 4
#: Energy below which llama.cpp cuts a band; transformers adds it instead.
FLOOR = 1e-3


@dataclass(frozen=True)
class Sounds:
    """Sounds of one length: mel bands; place, word, sound and number of sounds begun, by soft token."""

    scenes: list[Sound]
    mels: torch.Tensor
    places: torch.Tensor
    words: torch.Tensor
    kinds: torch.Tensor
    begun: torch.Tensor


class Ears(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.audio = make_audio()
        self.kind, self.count = nn.Linear(WIDTH, len(SOUNDS) + 1), nn.Linear(WIDTH, MOST + 1)
        self.middle: dict[int, torch.Tensor] = {}
        for layer in (1, 2):
            self.audio.layers[layer].register_forward_hook(self._keeper(layer))

    def _keeper(self, layer: int) -> Any:
        def keep(module: nn.Module, given: Any, made: Any) -> None:
            self.middle[layer] = made[0] if isinstance(made, tuple) else made

        return keep

    def forward(self, sounds: Sounds) -> torch.Tensor:
        """Return normalised vectors: (sounds, soft tokens, WIDTH)."""
        valid = torch.ones(sounds.mels.shape[:2], dtype=torch.bool)
        return normalise(self.audio(sounds.mels, valid).last_hidden_state)


_extract = Gemma4AudioFeatureExtractor(feature_size=MELS)


def mel_bands(samples: np.ndarray) -> np.ndarray:
    """Return the logarithm of the energy of each band, as llama.cpp computes it: (frames, MELS)."""
    found = _extract([samples], sampling_rate=RATE, return_tensors="np", padding=False, pad_to_multiple_of=None)
    energy = np.exp(found["input_features"][0].astype(np.float64)) - FLOOR
    return np.log(np.maximum(energy, FLOOR)).astype(np.float32)


def some_sounds(rng: random.Random, spelling: Spelling, count: int = BATCH) -> Sounds:
    made = []
    for _ in range(count):
        scene = a_sound(rng)
        made.append((scene, *synthesise(scene, rng)))
    length = max(int((spans[-1][1] + 0.92) * RATE) for _, _, spans in made)
    length = max(length, min(len(samples) for _, samples, _ in made))
    mels = [mel_bands(np.pad(samples, (0, max(0, length - len(samples))))[:length]) for _, samples, _ in made]
    tokens = (len(mels[0]) + 3) // 4
    rows = [_labels(scene, spans, tokens, spelling) for scene, _, spans in made]
    columns = [torch.tensor([row[part] for row in rows]) for part in range(4)]
    return Sounds([scene for scene, _, _ in made], torch.from_numpy(np.stack(mels)), *columns)


def _labels(scene: Sound, spans: list[tuple[float, float]], tokens: int, spelling: Spelling) -> list[list[int]]:
    """Return place, word, sound and number of sounds begun for each soft token."""
    first, sentence = int(spans[-1][1] * TOKENS) + DELAY, spelling.words(scene.sentence, TAIL)
    inside = [first <= at < first + TAIL for at in range(tokens)]
    places = [at - first if inside[at] else TAIL for at in range(tokens)]
    words = [sentence[at - first] if inside[at] else spelling.nothing for at in range(tokens)]
    kinds, begun = [0] * tokens, [0] * tokens
    for number, (start, stop) in enumerate(spans, 1):
        for at in range(tokens):
            if start <= at / TOKENS + 0.02 < stop:
                kinds[at] = 1 + SOUNDS.index(scene.kind)
            if at / TOKENS >= start + 0.04:
                begun[at] = number
    return [places, words, kinds, begun]


def train_ears(codes: torch.Tensor, spelling: Spelling, minutes: float, seed: int) -> Ears:
    """Train for ``minutes`` of computing. ``codes``: every word's code at every place behind a sound."""
    torch.manual_seed(seed)
    ears = Ears()
    held_out = [some_sounds(random.Random(seed + 1000 + number), spelling) for number in range(3)]

    def loss(sounds: Sounds, progress: float) -> torch.Tensor:
        words = spelling_loss(ears(sounds), codes, sounds.places, sounds.words)
        weights = torch.where(sounds.places == TAIL, 0.5, 1.0)
        kinds = nn.functional.cross_entropy(ears.kind(ears.middle[1]).flatten(0, 1), sounds.kinds.flatten())
        begun = nn.functional.cross_entropy(ears.count(ears.middle[2]).flatten(0, 1), sounds.begun.flatten())
        return (words * weights).mean() + 0.4 * (kinds + begun)

    @torch.no_grad()
    def check() -> str:
        right = []
        for sounds in held_out:
            chosen = word_logits(ears(sounds), codes, sounds.places).argmax(-1)
            right.append(((chosen == sounds.words) | (sounds.places == TAIL)).all(1).float().mean())
        return f"right {sum(map(float, right)) / len(right):.3f}"

    train(ears, ears.audio, lambda rng: some_sounds(rng, spelling), loss, check, minutes, seed, kept=120, fresh=0.4)
    return ears
