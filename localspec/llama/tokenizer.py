"""A model's vocabulary without its weights: llama.cpp's own tokenizer for whoever does not run the model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from localspec.errors import ModelFileError
from localspec.gguf.header import GgufHeader
from localspec.llama.binding import bindings
from localspec.llama.vocabulary import LlamaVocabulary


@contextmanager
def tokenizer(header: GgufHeader) -> Iterator[LlamaVocabulary]:
    """The vocabulary of a file, to use inside the block. Raises :class:`ModelFileError` where llama.cpp refuses it."""
    lib = bindings()
    options = lib.llama_model_default_params()
    options.vocab_only = True
    model = lib.llama_model_load_from_file(os.fsencode(header.path), options)
    if not model:
        raise ModelFileError(f"llama.cpp cannot load the vocabulary of {header.path}; download or convert it again.")
    open_ = True
    try:
        yield LlamaVocabulary(lib, lib.llama_model_get_vocab(model), lambda: open_)
    finally:
        open_ = False
        lib.llama_model_free(model)
