#!/usr/bin/env python3
"""Write the Hugging Face checkpoints of the built-in pair ``tiny`` back from its GGUF files.

    python -m scripts.train.checkpoint_of_tiny --work tiny-work [--models localspec/models/builtin]

Makes the folders ``target`` and ``assistant`` that scripts.train.train_tiny_pair writes and that
scripts.bench.transformers_pair, scripts.train.compare_transformers and tiny_pair/report.py read. Configurations,
tokenizer settings and class names are those of tiny_pair/model.py, checked against the metadata of the files;
vocabulary, merges, chat template and weights come from the files. The weights are the dequantised values in F32, not
the ones that training ended with. Needs torch, transformers==5.12.1, tokenizers and gguf in one Python.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import Gemma4AssistantForCausalLM, PreTrainedTokenizerFast
from transformers.models.gemma4 import Gemma4ForCausalLM

from scripts.train.tiny_pair.model import assistant_config, finish_configs, make_tokenizer, target_config

MODELS = Path(__file__).resolve().parents[2] / "localspec/models/builtin"


@dataclass(frozen=True)
class Original:
    """A GGUF file: its values by key, and its tensors by name, in F32."""

    values: dict[str, Any]
    tensors: dict[str, np.ndarray]


def read(path: Path) -> Original:
    reader = gguf.GGUFReader(path)
    values = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        floats = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        tensors[tensor.name] = np.ascontiguousarray(floats).reshape(shape)
    return Original(values, tensors)


def tokenizer_of(original: Original) -> PreTrainedTokenizerFast:
    """The tokenizer of training, with the vocabulary, the merges and the chat template of the file."""
    tokens = original.values["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in original.values["tokenizer.ggml.merges"]]
    made = make_tokenizer(["any text"])
    backend = Tokenizer.from_str(made.backend_tokenizer.to_str())
    vocab = {text: i for i, text in enumerate(tokens)}
    backend.model = models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    settings = {name: made.init_kwargs[name] for name in made.init_kwargs if name != "tokenizer_object"}
    settings["chat_template"] = original.values["tokenizer.chat_template"]
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def write(original: Original, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """``model`` as a checkpoint with the weights of the file, found by the names that the converter gives them."""
    from gguf_convert.arch import map_checkpoint
    from gguf_convert.checkpoint.folder import open_checkpoint
    from gguf_convert.checkpoint.safetensors import CheckpointTensor

    finish_configs(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    mapped = map_checkpoint(open_checkpoint(folder))
    for key, value in mapped.metadata.items():
        check_same(f"{mapped.architecture}.{key}", value, original.values.get(f"{mapped.architecture}.{key}"))
    check_same("names of the tensors", {tensor.name for tensor in mapped.tensors}, set(original.tensors))
    weights = {}
    for tensor in mapped.tensors:
        values = original.tensors[tensor.name]
        check_same(f"shape of {tensor.name}", tensor.shape, values.shape)
        if isinstance(tensor.source, CheckpointTensor):
            weights[tensor.source.name] = torch.from_numpy(values)
        else:  # made up by the converter from the configuration
            check_same(tensor.name, tensor.source.rows(0, len(values)).tolist(), values.tolist())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def check_same(what: str, expected: Any, found: Any) -> None:
    near = isinstance(expected, float) and isinstance(found, float) and math.isclose(expected, found, rel_tol=1e-6)
    if expected != found and not near:
        raise SystemExit(f"{what}: tiny_pair/model.py gives {expected}, the GGUF file has {found}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("tiny-work"), help="folder for the two checkpoints")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of tiny.gguf and tiny-assistant.gguf")
    arguments = parser.parse_args()
    target, assistant = read(arguments.models / "tiny.gguf"), read(arguments.models / "tiny-assistant.gguf")
    tokenizer, config = tokenizer_of(target), target_config()
    write(target, Gemma4ForCausalLM(config), tokenizer, arguments.work / "target")
    write(assistant, Gemma4AssistantForCausalLM(assistant_config(config)), tokenizer, arguments.work / "assistant")


if __name__ == "__main__":
    main()
