#!/usr/bin/env python3
"""Write the references of projectors: encoders of every kind with random weights, and what two programs make of them.

    python -m scripts.convert.make_projector_references --llama-cpp DIR    # needs torch==2.13.0, transformers==5.12.1

For each kind: the checkpoint with the encoders alone, ``expected.npz`` with transformers' embeddings of some pictures
and sounds, and ``llama_cpp.json`` with the SHA-256 of every tensor that llama.cpp's own converter (in DIR) writes.
``--whole OUT`` also writes the checkpoints with their text models. Then, or alone with ``--behind``: logits of the
stored text models behind pictures and sounds, and the first drafts of their assistants.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from scripts.convert.reference.behind_media import behind_media
from scripts.convert.reference.files import save_arrays
from scripts.convert.reference.projector_models import MODELS, enliven
from scripts.convert.reference.projector_run import embed_picture, embed_sound
from tests.helpers.media_prompt import TARGETS
from tests.helpers.media_samples import SECONDS, SIZES, pictures, sounds

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "gguf_convert" / "projectors"
TYPES = ("f16", "q8_0")


def save(model: torch.nn.Module, folder: Path, *, towers: bool) -> None:
    """Write the checkpoint in BF16 under the names of the official ones; ``towers``: without the text model."""
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    tensors = {_official(name): values for name, values in load_file(folder / "model.safetensors").items()}
    kept = {name: values for name, values in tensors.items() if not towers or "language_model" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "generation_config.json").unlink(missing_ok=True)
    gemma3 = type(model).__name__.startswith("Gemma3")
    colours = {"image_mean": [0.5 if gemma3 else 0.0] * 3, "image_std": [0.5 if gemma3 else 1.0] * 3}
    if gemma3:
        colours["image_seq_length"] = model.config.mm_tokens_per_image
    (folder / "preprocessor_config.json").write_text(json.dumps(colours) + "\n")


def _official(name: str) -> str:
    return name.replace("vision_tower.", "vision_tower.vision_model.") if name.startswith("vision_tower.") else name


def llama_cpp_tensors(checkpoint: Path, kind: str, source: Path) -> dict[str, list[Any]]:
    """Return type, shape and SHA-256 of every tensor that llama.cpp's converter writes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "mmproj.gguf"
        line = [
            sys.executable,
            str(source / "convert_hf_to_gguf.py"),
            str(checkpoint),
            "--mmproj",
            "--outfile",
            str(out),
        ]
        path = os.pathsep.join([str(source), str(source / "gguf-py")])
        subprocess.run(
            [*line, "--outtype", kind], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": path}
        )
        return {
            tensor.name: [
                tensor.tensor_type.name, tensor.shape.tolist(), hashlib.sha256(tensor.data.tobytes()).hexdigest()
            ]
            for tensor in gguf.GGUFReader(out).tensors
        }  # fmt: skip


def expected(model: Any) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for index, picture in enumerate(pictures(len(SIZES), SIZES, 7)):
        arrays |= {f"picture_{index}": embed_picture(model, picture)}
    for index, sound in enumerate(sounds(SECONDS, 8)) if getattr(model.config, "audio_config", None) else ():
        arrays |= {
            f"sound_{index}": embed_sound(model, sound),
            f"sound_{index}_cut": embed_sound(model, sound, cut=True),
        }
    return arrays


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--llama-cpp", type=Path, help="source tree of llama.cpp; without it its tensors stay as stored"
    )
    parser.add_argument("--whole", type=Path, help="folder for checkpoints with their text models")
    parser.add_argument("--behind", action="store_true", help="only logits and drafts behind pictures and sounds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.behind:
        write_encoders(options)
    (FOLDER / "behind").mkdir(exist_ok=True)
    for name in TARGETS:
        save_arrays(FOLDER / "behind" / f"{name}.npz", **behind_media(name))
        print(f"behind media: {name}", flush=True)


def write_encoders(options: argparse.Namespace) -> None:
    for name, make in MODELS.items():
        torch.manual_seed(1)
        model = make().eval()
        enliven(model)
        model.load_state_dict({key: value.to(torch.bfloat16).float() for key, value in model.state_dict().items()})
        save(model, FOLDER / name, towers=True)
        if options.whole:
            save(model, options.whole / name, towers=False)
        np.savez_compressed(FOLDER / name / "expected.npz", **expected(model))  # type: ignore[arg-type]
        if options.llama_cpp:
            found = {kind: llama_cpp_tensors(FOLDER / name, kind, options.llama_cpp) for kind in TYPES}
            (FOLDER / name / "llama_cpp.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")
        print(name, flush=True)


if __name__ == "__main__":
    main()
