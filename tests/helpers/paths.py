"""Folders of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data"
#: Checkpoints with random weights, and what transformers computes from them.
REFERENCE = ROOT / "tests/gguf_convert/reference"
#: Checkpoints of encoders of pictures and sound, and what transformers and llama.cpp make of them.
PROJECTORS = ROOT / "tests/gguf_convert/projectors"
