"""A model file loaded by llama.cpp."""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable
from typing import Any

from localspec.errors import BackendError, ModelFileError
from localspec.gguf.header import GgufHeader
from localspec.llama.binding import clear_errors, devices, first_error, free_with, initialise, lib, set_fields
from localspec.llama.devices import Placement, Split, place
from localspec.llama.huge_pages import HugePages
from localspec.llama.passes import OpensContexts
from localspec.llama.split import local_gpu, place_split, shell_options
from localspec.llama.vocabulary import LlamaVocabulary
from localspec.params import ContextParams

#: llama.cpp's type of a missing vocabulary.
_VOCAB_NONE = 0


class LlamaModel:
    """A GGUF model in memory. Free it after every context made from it.

    ``remote``: the model is loaded in another process, which makes its contexts, and here without its weights.
    """

    def __init__(
        self,
        header: GgufHeader,
        params: ContextParams,
        *,
        heads: bool = False,
        verbose: bool = False,
        progress: Callable[[float], None] | None = None,
        split: Split | None = None,
        remote: OpensContexts | None = None,
    ) -> None:
        """``heads``: load prediction heads as well, which take memory.

        ``split``: its layers on other machines, of which those with ``remote`` are in another process.
        """
        self.remote = remote
        self.header, self.path = header, header.path
        self._raised: BaseException | None = None
        initialise(verbose)
        self.placement: Placement = place(devices(), params)
        if split is not None:
            self.placement = Placement(local_gpu(params) is not None, -1, split=split)
        self._handle = self._load(params, progress, heads=heads)
        self._free = free_with(self, lib.llama_model_free, self._handle)
        vocab = lib.llama_model_get_vocab(self._handle)
        if lib.llama_vocab_type(vocab) == _VOCAB_NONE:
            raise ModelFileError(f"{self.path} has no vocabulary; give a language model, or convert it again.")
        me = weakref.ref(self)  # the vocabulary must not keep the model alive
        self.vocabulary = LlamaVocabulary(vocab, lambda: (model := me()) is not None and model.loaded)
        if self.vocabulary.add_bos and not 0 <= self.vocabulary.bos < self.vocabulary.n_tokens:
            raise ModelFileError(f"{self.path} asks for a BOS token and does not name one; convert it again.")
        self.n_vocab = self.vocabulary.n_tokens

    def _load(self, params: ContextParams, progress: Callable[[float], None] | None, *, heads: bool) -> Any:
        options = set_fields(lib.llama_model_default_params(), n_gpu_layers=self.placement.layers)
        if heads:
            set_fields(options, load_mtp=True)
        if self.remote is not None:
            self._arrays = shell_options(options)
        elif self.placement.split is not None:
            self._arrays = place_split(options, self.placement.split, params)
        elif self.placement.handles is not None:
            set_fields(options, devices=ctypes.cast(self.placement.handles, ctypes.c_void_p))
        if not params.tiled:
            os.environ["GGML_CPU_TILED_MM"] = "0"  # llama.cpp reads it once, at the first decode
        if not params.repack:
            set_fields(options, use_extra_bufts=False)
        set_fields(options, progress_callback=self._progress(progress))
        clear_errors()
        handle = lib.llama_model_load_from_file(os.fsencode(self.path), options)
        if self._raised is not None:
            if handle:
                lib.llama_model_free(handle)
            raise self._raised
        if not handle:
            reason = first_error()
            raise ModelFileError(f"llama.cpp cannot load {self.path}: {reason}. Check the file, or run with --verbose.")
        return handle

    def _progress(self, report: Callable[[float], None] | None) -> Any:
        """The callback before each tensor is read. At its first call, with 0, the memory of all of them is there."""
        pages = HugePages()

        def callback(fraction: float, _: Any) -> bool:
            try:
                if fraction == 0.0:
                    pages.request()
                if report is not None:
                    report(fraction)
            except BaseException as error:
                self._raised = error
            return self._raised is None

        self._callback = lib.llama_progress_callback(callback)
        return self._callback

    @property
    def loaded(self) -> bool:
        return bool(self._handle)

    @property
    def handle(self) -> Any:
        if not self._handle:
            raise BackendError(f"{self.path} was closed; load it again.")
        return self._handle

    @property
    def description(self) -> str:
        buffer = ctypes.create_string_buffer(256)
        lib.llama_model_desc(self.handle, buffer, len(buffer))
        return buffer.value.decode("utf-8", errors="replace")

    @property
    def n_params(self) -> int:
        return int(lib.llama_model_n_params(self.handle))

    @property
    def n_bytes(self) -> int:
        return int(lib.llama_model_size(self.handle))

    @property
    def n_ctx_train(self) -> int:
        return int(lib.llama_model_n_ctx_train(self.handle))

    @property
    def n_embd(self) -> int:
        return int(lib.llama_model_n_embd(self.handle))

    @property
    def key_lengths(self) -> list[int]:
        """Elements of a head's key, one number for each kind of layer."""
        header = self.header
        derived = (header.number("embedding_length") or 0) // max(1, header.number("attention.head_count") or 1)
        sizes = [header.number("attention.key_length", derived), header.number("attention.key_length_swa")]
        return [size for size in sizes if size]

    @property
    def can_rewind(self) -> bool:
        """True if tokens can be removed from the end of the cache (not with recurrent layers)."""
        return not (lib.llama_model_is_recurrent(self.handle) or lib.llama_model_is_hybrid(self.handle))

    @property
    def can_generate(self) -> bool:
        """True for a decoder; embedding and encoder models are none."""
        return bool(
            lib.llama_model_has_decoder(self.handle)
            and not lib.llama_model_has_encoder(self.handle)
            and not self.header.metadata.get(f"{self.header.architecture}.pooling_type")
        )

    @property
    def chat_template(self) -> str | None:
        text = lib.llama_model_chat_template(self.handle, None)
        return text.decode("utf-8", errors="replace") if text else None

    def close(self) -> None:
        """Free the model. May be called twice."""
        self._handle = None
        self._free()
