"""Models that can be trimmed: the converter's reference checkpoints with a larger vocabulary, converted to Q8_0."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase
from typing import Any

import numpy as np

import gguf_convert
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.paths import REFERENCE

SIZE, KEEP = 768, 448
#: One of each way in which tokens go in and logits come out: tied, untied, embeddings that are scaled.
FAMILIES = ("qwen2_5_0_5b", "qwen2_5_7b", "llama_3_2_1b", "smollm3_3b", "qwen3_0_6b", "gemma3_270m")
#: Words that are kept, and pairs of letters of which some are not.
TEXT = "def return self fz fq hl jx kr ls mq nx the gt hd and 你好 \n\tend fs kw"


def whole_model(folder: Path, name: str = "qwen2_5_0_5b", seed: int = 0) -> Path:
    """``folder/NAME.gguf``, a model of ``SIZE`` tokens with random weights where the reference has none."""
    source, checkpoint = REFERENCE / name, folder / f"{name}-{seed}"
    weights = {key: _grown(key, values, seed) for key, values in tiny.read(source).items()}
    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    inner = "text_config" if "text_config" in config else None
    changes = {inner: {**config[inner], "vocab_size": SIZE}} if inner else {"vocab_size": SIZE}
    tiny.copy(source, checkpoint, weights, **changes)
    tiny.write_json(checkpoint / "tokenizer.json", _tokenizer(source))
    out = folder / f"{name}-{seed}.gguf"
    gguf_convert.convert(checkpoint, out, "Q8_0")
    return out


def _grown(key: str, values: Any, seed: int) -> Any:
    if not key.endswith(("embed_tokens.weight", "lm_head.weight")):
        return values
    more = np.random.default_rng(seed).normal(0.0, float(values.std()), (SIZE - len(values), values.shape[1]))
    return np.concatenate((values, more.astype(np.float32)))


def _tokenizer(source: Path) -> dict[str, Any]:
    """The reference's with pairs of letters, until there are ``SIZE`` tokens; from f on they are not among ``KEEP``."""
    made: dict[str, Any] = json.loads((source / "tokenizer.json").read_text(encoding="utf-8"))
    vocab, merges = made["model"]["vocab"], made["model"]["merges"]
    ids = {*vocab.values(), *(token["id"] for token in made["added_tokens"])}
    free = iter([i for i in range(SIZE) if i not in ids])
    letters = [letter for letter in ascii_lowercase + ascii_uppercase if letter in vocab]
    lower = [letter for letter in letters if letter.islower()]
    for left, right in [*product(lower, reversed(lower)), *product(letters, letters)]:
        at = None if left + right in vocab else next(free, None)
        if at is not None:
            vocab[left + right] = at
            merges.append([left, right])
    return made
