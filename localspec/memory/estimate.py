"""Memory that a model and its context take, in bytes, from the file's header and the settings alone. Pure.

The formulas follow llama.cpp's loader (``llama-model-loader.cpp``), cache (``llama-kv-cache.cpp``) and CPU kernels
(``ggml-cpu/repack.cpp``). The sizes of compute buffers and vocabulary are fitted to measurements
(``scripts/bench/memory_estimates.py``, ``docs/decisions.md``).

The file is mapped. The system may drop its pages and read them again, so weights larger than the memory run, slowly.
*Private* bytes cannot be dropped: cache, compute buffers, rows of logits, vocabulary, and the second copy of matrices
that the CPU's kernels read in another order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from localspec.gguf.header import GgufHeader, TensorInfo
from localspec.gguf.types import BLOCKS, TYPE_NUMBERS
from localspec.params import MAX_VERIFY_WIDTH, PROBE_CTX, ContextParams

MIB, _GIB = 1 << 20, 1 << 30
#: Python, numpy, the libraries of llama.cpp and localspec itself, before any model, in bytes; measured.
BASE = 48 * MIB
#: llama.cpp rounds the cells of a cache up to a multiple of this.
_CELLS = 256
#: Bytes that llama.cpp keeps for a token's text and for a merge; measured on vocabularies of 152k and 262k tokens.
_PER_TOKEN, _PER_MERGE = 164, 158
_LAYER = re.compile(r"blk\.(\d+)\.(.+)")
#: Most layers that a header is believed to have.
_MAX_LAYERS = 1 << 12
#: Copies of a recurrent state that a sequence keeps as checkpoints.
STATE_COPIES = 5
#: Tokens of a batch of an assistant's context, which reads the target's cache.
ASSISTANT_BATCH = 32


@dataclass(frozen=True)
class ModelMemory:
    """Bytes of one model and its context in the process.

    ``file`` is mapped while the model is loaded, and ``mapped`` of it afterwards. ``repacked`` is the second copy of
    matrices. ``rows`` holds the logits of a verification, and hidden rows. ``measuring``: of the small context in which
    a new pair is measured between answers.
    """

    file: int
    mapped: int
    repacked: int
    cache: int
    compute: int
    rows: int
    vocabulary: int
    measuring: int = 0

    @property
    def private(self) -> int:
        """Bytes that the system cannot drop."""
        return self.repacked + self.cache + self.compute + self.rows + self.vocabulary + self.measuring

    @property
    def resident(self) -> int:
        """Bytes in use, with every page of the mapped weights touched."""
        return self.mapped + self.private

    @property
    def loading(self) -> int:
        """Bytes while the file is read, before there is a context."""
        return self.file + self.repacked + self.vocabulary


def peak(target: ModelMemory, drafter: ModelMemory | None = None) -> int:
    """Most bytes that the process has resident at once, while either file is read or both are in use.

    Compute buffers count from their first use on, so not while the drafter is read.
    """
    if drafter is None:
        return BASE + max(target.loading, target.resident)
    waiting = target.resident - target.compute - target.measuring
    return BASE + max(target.loading, waiting + drafter.loading, target.resident + drafter.resident)


def private(target: ModelMemory, drafter: ModelMemory | None = None) -> int:
    """Bytes of the whole process that the system cannot drop."""
    return BASE + target.private + (drafter.private if drafter else 0)


def model_memory(
    parts: Sequence[GgufHeader],
    params: ContextParams,
    n_ctx: int,
    repacks: Mapping[int, int],
    *,
    gpu: bool = False,
    rows: int = MAX_VERIFY_WIDTH,
    assistant: bool = False,
    probed: int = 1,
    keeps_rows: int = 0,
) -> ModelMemory:
    """Memory of a model with everything on the CPU, or with the cache settings of a ``gpu``.

    ``parts``: the header, or those of all parts of a split file. ``repacks``: see :func:`repacked_types`. ``rows``:
    rows of logits of one verification. An ``assistant`` has no cache of its own. ``probed``: rows of the widest pass
    that is measured. ``keeps_rows``: hidden rows that are kept for each token, for prediction heads.
    """
    header = parts[0]
    states = recurrent_state(parts) * (1 + params.rollback + STATE_COPIES)
    kept = 4 * (header.number("embedding_length") or 0) * keeps_rows
    doubled = [[t for t in part.multiplied if _is_repacked(t, repacks)] for part in parts]
    batch = ASSISTANT_BATCH if assistant else params.rows(gpu=gpu)
    wide = (header.number("embedding_length_out") or header.number("embedding_length") or 0) if assistant else 0
    row = (n_vocab(parts) + wide) * 4

    def context(tokens: int, sequences: int, rows: int) -> tuple[int, int, int]:
        """Bytes of cache, buffers and rows of logits."""
        cells = n_cells(tokens, params)
        caches = 0 if assistant else sequences * (sum(layer_caches(parts, cells, gpu=gpu, params=params)) + states)
        compute = compute_bytes(parts, cells, min(batch, cells), rows, cpu=not gpu)
        return caches, compute, rows * row + sequences * cells * kept

    cache, compute, logits = context(n_ctx, params.sequences, rows)
    return ModelMemory(
        file=sum(_end(part) for part in parts),
        mapped=sum(_mapped(part, {t.name for t in copies}) for part, copies in zip(parts, doubled, strict=True)),
        repacked=sum(t.bytes or 0 for copies in doubled for t in copies),
        cache=cache,
        compute=compute,
        rows=logits,
        vocabulary=_vocabulary(header),
        measuring=sum(context(PROBE_CTX, 1, max(rows, probed))),
    )


def n_cells(n_ctx: int, params: ContextParams) -> int:
    """Cells of a cache for ``n_ctx`` tokens and a last draft, rounded up."""
    return -(-(n_ctx + params.verify_width) // _CELLS) * _CELLS


def n_vocab(parts: Sequence[GgufHeader]) -> int:
    """Logits of a row: the rows of the output matrix, or the tokens of the vocabulary."""
    for name in ("output.weight", "token_embd.weight"):
        for tensor in _tensors(parts):
            if tensor.name == name and len(tensor.shape) > 1:
                return tensor.shape[1]
    return parts[0].lengths.get("tokenizer.ggml.tokens", 0)


def layer_caches(
    parts: Sequence[GgufHeader], cells: int, *, gpu: bool = False, params: ContextParams | None = None
) -> list[int]:
    """Bytes of keys and values of ``cells`` tokens, layer by layer.

    Unless ``params`` name types, keys are Q8_0 and values F16 on the CPU; both are F16 on a GPU, and with ``fast``.
    Sliding-window layers are kept in full, so that they can be rewound. The last ``shared_kv_layers`` read other
    layers' caches. Of recurrent layers see :func:`recurrent_state`.
    """
    header, count = parts[0], _layers(parts[0])
    own = count - max(0, header.number("attention.shared_kv_layers") or 0)
    attending = _attending(parts)
    heads = _per_layer(header, "attention.head_count_kv", header.number("attention.head_count") or 1)
    key, value = head_sizes(header)
    float_keys = gpu or (params is not None and params.fast)
    default_key = "F16" if float_keys or any(size % BLOCKS[TYPE_NUMBERS["Q8_0"]][0] for size in key) else "Q8_0"
    names = (params.cache_type_k, params.cache_type_v) if params else (None, None)
    types = [BLOCKS[TYPE_NUMBERS[(names[0] or default_key).upper()]], BLOCKS[TYPE_NUMBERS[(names[1] or "F16").upper()]]]
    latent = header.number("attention.key_length_mla") is not None  # such a cache has keys alone
    sizes = []
    for layer in range(count):
        if layer >= own or (attending and layer not in attending):
            sizes.append(0)
            continue
        keys, values = (
            heads[layer] * size[layer] * number // per for size, (per, number) in zip((key, value), types, strict=True)
        )
        sizes.append(cells * (keys + (0 if latent else values)))
    return sizes


def recurrent_state(parts: Sequence[GgufHeader]) -> int:
    """Bytes of the recurrent state of one sequence: for each such layer the last inputs of a convolution, and a matrix.

    As in llama.cpp's ``llama_hparams::n_embd_r`` and ``n_embd_s``; 0 for models without such layers.
    """
    header = parts[0]
    inner, state, groups, kernel, reach, width = (
        max(0, header.number(key) or 0)
        for key in ("ssm.inner_size", "ssm.state_size", "ssm.group_count", "ssm.conv_kernel", "shortconv.l_cache",
                    "embedding_length")
    )  # fmt: skip
    names = (block for tensor in _tensors(parts) if (block := _LAYER.fullmatch(tensor.name)))
    layers = {block[1] for block in names if block[2].startswith(("ssm_out", "shortconv.out"))}
    convolved = max(0, kernel - 1) * (inner + 2 * groups * state) + max(0, reach - 1) * width
    return 4 * len(layers) * (convolved + inner * state)


def compute_bytes(parts: Sequence[GgufHeader], cells: int, batch: int, rows: int, *, cpu: bool = True) -> int:
    """Bytes of the buffers for a batch: those of a layer, or those of the logits of ``rows``, whichever is larger.

    Each token of a batch has three rows as wide as the layer's feed-forward or attention at once, and four as wide as
    the model. Masks are F16, one for every kind of layer. On the CPU the inputs of a product are also quantised.
    """
    header = parts[0]
    width = max(0, header.number("embedding_length") or 0)
    experts = max(0, header.number("expert_used_count") or 0)
    narrow = max(0, header.number("expert_feed_forward_length") or 0) * experts
    shared = max(0, header.number("expert_shared_feed_forward_length") or 0)
    forward = max(*_per_layer(header, "feed_forward_length", 0), narrow + shared)
    attention = max(_per_layer(header, "attention.head_count", 1)) * max(head_sizes(header)[0])
    inner = max(forward, attention)
    extra = 2 * max(0, header.number("embedding_length_per_layer_input") or 0) * _layers(header)
    sliding = bool(header.number("attention.sliding_window"))
    mask = cells * batch * 2 * (2 if sliding else 1)
    layer = batch * 4 * (3 * inner + 4 * width + extra) + mask
    out = rows * n_vocab(parts) * 4 + batch * 4 * width + mask // (2 if sliding else 1)
    return max(layer, out) + (batch * inner * 34 // 32 if cpu else 0)


def layer_weights(parts: Sequence[GgufHeader]) -> list[int]:
    """Bytes of weights layer by layer, and the output last. llama.cpp moves them to a GPU from the end on.

    The token embedding stays in the host's memory. Where it is the output too, the output is a copy.
    """
    count = _layers(parts[0])
    sizes = [0] * (count + 1)
    tied = all(tensor.name != "output.weight" for tensor in _tensors(parts))
    for tensor in _tensors(parts):
        block, size = _LAYER.fullmatch(tensor.name), tensor.bytes or 0
        if block:
            sizes[min(int(block[1]), count - 1)] += size
        elif tensor.name.startswith("output") or (tied and tensor.name == "token_embd.weight"):
            sizes[count] += size
        elif "token_embd" not in tensor.name:
            sizes[0] += size
    return sizes


def repacked_types(system_info: str) -> dict[int, int]:
    """ggml type number → the rows of a matrix must be a multiple of this for a second copy in the kernels' order.

    From llama.cpp's line about its build (``AVX2 = 1 | REPACK = 1 | …``), by the rules of
    ``ggml_repack_get_optimal_repack_type``. Empty where the build makes no copies.
    """
    on = set(re.findall(r"(\w+) = (?!0\b)\d+", system_info))
    if "REPACK" not in on:
        return {}
    multiples: dict[str, int] = {}
    if "AVX2" in on:
        multiples = {"Q4_0": 8, "Q4_K": 8, "IQ4_NL": 8, "MXFP4": 8} | ({"Q2_K": 8} if "AVX512" in on else {})
    elif "NEON" in on and "DOTPROD" in on:
        multiples = {"Q4_0": 4, "Q8_0": 4, "Q4_K": 8, "Q5_K": 8, "Q6_K": 8, "IQ4_NL": 4, "MXFP4": 4}
        multiples |= {"Q1_0": 4} if "MATMUL_INT8" in on else {}
    elif "VXE" in on:
        multiples = {"Q4_0": 4}
    return {TYPE_NUMBERS[name]: rows for name, rows in multiples.items()}


def _is_repacked(tensor: TensorInfo, repacks: Mapping[int, int]) -> bool:
    rows = repacks.get(tensor.type)
    return rows is not None and len(tensor.shape) in (2, 3) and tensor.shape[1] % rows == 0


def _end(part: GgufHeader) -> int:
    return part.data_start + max((t.offset + (t.bytes or 0) for t in part.tensors), default=0)


def _mapped(part: GgufHeader, copied: set[str]) -> int:
    """Bytes of the file that stay mapped: from the first to the last tensor that is used in place.

    A token embedding that is the output too is looked up in place, and copied for the output.
    """
    used = [t for t in part.tensors if t.name not in copied or t.name == "token_embd.weight"]
    if not used:
        return 0
    return max(t.offset + (t.bytes or 0) for t in used) - min(t.offset for t in used)


def _tensors(parts: Sequence[GgufHeader]) -> list[TensorInfo]:
    return [tensor for part in parts for tensor in part.tensors]


def _attending(parts: Sequence[GgufHeader]) -> set[int]:
    """Layers with keys of their own; empty where the tensors' names do not show it."""
    names: dict[int, set[str]] = {}
    for tensor in _tensors(parts):
        if block := _LAYER.fullmatch(tensor.name):
            names.setdefault(int(block[1]), set()).add(block[2])
    return {
        layer
        for layer, found in names.items()
        if found & {"attn_k.weight", "attn_kv_a_mqa.weight"}
        or ("attn_qkv.weight" in found and not any(name.startswith("ssm_") for name in found))
    }


def _layers(header: GgufHeader) -> int:
    return max(1, min(header.number("block_count") or 1, _MAX_LAYERS))


def _per_layer(header: GgufHeader, key: str, default: int) -> list[int]:
    """A number of every layer, from one for all or one for each in the file."""
    count = _layers(header)
    found = header.metadata.get(f"{header.architecture}.{key}", default)
    given = found if isinstance(found, tuple) else (found,) * count
    numbers = [max(0, int(n)) if isinstance(n, (int, bool)) else default for n in given[:count]]
    return numbers + [default] * (count - len(numbers))


def head_sizes(header: GgufHeader) -> tuple[list[int], list[int]]:
    """Elements of a head's key and value, layer by layer."""
    derived = (header.number("embedding_length") or 0) // max(1, *_per_layer(header, "attention.head_count", 1))
    sliding = _per_layer(header, "attention.sliding_window_pattern", 0)
    found = []
    for what in ("key", "value"):
        full = max(0, header.number(f"attention.{what}_length", derived) or derived)
        window = max(0, header.number(f"attention.{what}_length_swa", full) or full)
        found.append([window if slides else full for slides in sliding])
    return found[0], found[1]


def _vocabulary(header: GgufHeader) -> int:
    tokens, merges = (header.lengths.get(f"tokenizer.ggml.{what}", 0) for what in ("tokens", "merges"))
    return tokens * _PER_TOKEN + merges * _PER_MERGE


def memory_text(size: int) -> str:
    """Format bytes in binary units: ``4.6 GiB``, ``98 MiB``."""
    return f"{size / _GIB:.1f} GiB" if size >= _GIB // 10 else f"{max(1, round(size / MIB))} MiB"
