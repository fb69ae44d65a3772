"""Types of a cache that the user chose: which are possible for a model, and which keep drafting exact. Pure."""

from __future__ import annotations

from dataclasses import replace

from localspec.errors import UsageError
from localspec.gguf.header import GgufHeader
from localspec.gguf.types import BLOCKS, TYPE_NUMBERS
from localspec.memory.estimate import head_sizes
from localspec.params import ContextParams

#: Types in which llama.cpp's CPU kernel splits the sums of a single row over a long cache, if keys and values both
#: have one (``use_split_kv_path`` of ``ggml-cpu/ops.cpp``).
_SPLIT = ("f16", "f32")


def check_cache_types(header: GgufHeader, params: ContextParams) -> None:
    """Raise :class:`UsageError` for a type whose blocks do not divide a head, which llama.cpp refuses or aborts on."""
    keys, values = head_sizes(header)
    for option, sizes, what in (("cache_type_k", keys, "key"), ("cache_type_v", values, "value")):
        kind = getattr(params, option)
        block = BLOCKS[TYPE_NUMBERS[kind.upper()]][0] if kind else 1
        odd = next((size for size in sizes if size % block), None)
        if odd is not None:
            raise UsageError(
                f"{option} is {kind}, which stores {block} numbers at a time, and a {what} of {header.path.name} has "
                f"{odd}; use f16, bf16 or f32."
            )


def split_cache_types(header: GgufHeader, params: ContextParams) -> ContextParams:
    """``params`` with types that every worker can compute: equal ones, because some abort on others (llama.cpp #27905).

    Q8_0, in which rows are exact on CPUs, or F16 where its blocks do not divide a head. Raises :class:`UsageError` for
    other types of the user.
    """
    given = params.cache_type_k or params.cache_type_v
    if given is None:
        keys, values = head_sizes(header)
        block = BLOCKS[TYPE_NUMBERS["Q8_0"]][0]
        given = "f16" if any(size % block for size in (*keys, *values)) else "q8_0"
    chosen = (params.cache_type_k or given, params.cache_type_v or given)
    if chosen not in (("q8_0", "q8_0"), ("f16", "f16")):
        raise UsageError(
            f"with --rpc keys and values must both be q8_0 or both f16, and not {chosen[0]} and {chosen[1]}: some "
            "workers abort on other types. Leave out -ctk and -ctv."
        )
    return replace(params, cache_type_k=chosen[0], cache_type_v=chosen[1])


def cache_notice(params: ContextParams, *, gpu: bool) -> str | None:
    """A sentence where the chosen types cost exactness on a CPU, None elsewhere.

    Measured for all 81 pairs of types (docs/decisions.md). A GPU's kernels are probed like those of its default types.
    """
    if gpu or params.cache_type_k not in _SPLIT or params.cache_type_v not in (None, *_SPLIT):
        return None
    return (
        f"With keys in {params.cache_type_k} and values in {params.cache_type_v or 'f16'} drafting is not exact beyond "
        "512 tokens on a CPU; leave out -ctk, or add -ctv bf16."
    )
