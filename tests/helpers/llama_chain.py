"""llama.cpp's own sampler chain over arrays of candidates: the reference of the sampling tests."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from localspec.llama.binding import bindings
from localspec.params import SamplingParams

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LlamaChain:
    """``common_sampler_init``'s default chain up to the draw, for ``params``; ``vocab`` only where DRY needs it.

    XTC acts always or, with ``excluding`` false, never: its coin is llama.cpp's own generator.
    """

    def __init__(self, params: SamplingParams, n_vocab: int, vocab: Any = None, *, excluding: bool = True) -> None:
        self._lib = lib = bindings()
        self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        stages = []
        if params.logit_bias:
            pairs = (lib.llama_logit_bias * len(params.logit_bias))(*params.logit_bias)
            stages.append(lib.llama_sampler_init_logit_bias(n_vocab, len(pairs), pairs))
        stages.append(
            lib.llama_sampler_init_penalties(
                n_vocab, params.repeat_last_n, params.repeat_penalty, params.frequency_penalty, params.presence_penalty
            )
        )
        if vocab is not None:
            texts = [text.encode() for text in params.dry_sequence_breakers]
            breakers = (ctypes.c_char_p * len(texts))(*texts)
            stages.append(
                lib.llama_sampler_init_dry(
                    vocab, params.dry_multiplier, params.dry_base, params.dry_allowed_length,
                    params.dry_penalty_last_n, breakers, len(texts),
                )
            )  # fmt: skip
        stages += [
            lib.llama_sampler_init_top_n_sigma(params.top_n_sigma),
            lib.llama_sampler_init_top_k(params.top_k),
            lib.llama_sampler_init_typical(params.typical_p, 0),
            lib.llama_sampler_init_top_p(params.top_p, 0),
            lib.llama_sampler_init_min_p(params.min_p, 0),
            lib.llama_sampler_init_xtc(float(excluding and params.xtc_probability > 0), params.xtc_threshold, 0, 1),
            lib.llama_sampler_init_temp_ext(params.temperature, params.dynatemp_range, params.dynatemp_exponent),
        ]
        for stage in stages:
            lib.llama_sampler_chain_add(self._chain, stage)

    def accept(self, tokens: Sequence[int]) -> None:
        for token in tokens:
            self._lib.llama_sampler_accept(self._chain, token)

    def apply(self, row: Sequence[float] | NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Ids and logits that are left, in llama.cpp's order; those without probability too."""
        data = np.zeros(len(row), _CANDIDATE)
        data["id"], data["logit"] = np.arange(len(row)), row
        array = self._lib.llama_token_data_array(
            ctypes.cast(data.ctypes.data, ctypes.POINTER(self._lib.llama_token_data)), len(row), -1, False
        )
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        at = (ctypes.cast(array.data, ctypes.c_void_p).value or 0) - data.ctypes.data
        left = data[at // _CANDIDATE.itemsize :][: array.size]
        return left["id"].astype(np.int64), left["logit"].astype(np.float64)

    def __enter__(self) -> LlamaChain:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lib.llama_sampler_free(self._chain)
