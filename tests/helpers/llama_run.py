"""Child process: what llama.cpp computes from converted files. ``python llama_run.py JOB.json OUT.npz``.

The job names a target, optionally an assistant, token ids, whether hidden rows are wanted, prompt lengths to draft
after, and texts to tokenise.
A process of its own, because llama.cpp aborts on what it does not accept.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp.llama_cpp as lib
import llama_cpp.llama_cpp_ext as ext
import numpy as np

F32 = 0
FLASH_OFF = 0
CONTEXT_MTP = 1
SIZE = 512


@lib.llama_log_callback
def silent(level: int, text: bytes, data: Any) -> None:
    pass


def load(path: str) -> Any:
    params = lib.llama_model_default_params()
    params.n_gpu_layers = 0
    model = lib.llama_model_load_from_file(path.encode(), params)
    if not model:
        sys.exit(f"llama.cpp cannot load {path}")
    return model


def context(model: Any, other: Any = None) -> Any:
    params = lib.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = SIZE
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = F32
    params.flash_attn_type = FLASH_OFF
    if other is not None:
        params.ctx_type, params.ctx_other = CONTEXT_MTP, other
    made = lib.llama_init_from_model(model, params)
    if not made:
        sys.exit("llama.cpp cannot create a context")
    return made


def decode(ctx: Any, tokens: list[int], first: int, hidden: np.ndarray | None = None) -> None:
    batch = lib.llama_batch_init(SIZE, 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.logits[i] = token, first + i, 1
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
    if hidden is not None:
        batch.embd = hidden.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    status = lib.llama_decode(ctx, batch)
    batch.embd = None
    lib.llama_batch_free(batch)
    if status != 0:
        sys.exit(f"llama_decode returned {status}")


def row(pointer: Any, width: int) -> np.ndarray:
    return np.ctypeslib.as_array(pointer, (width,)).copy()


def tokenize(vocab: Any, text: str) -> list[int]:
    raw = text.encode()
    buffer = (ctypes.c_int32 * 1024)()
    count = lib.llama_tokenize(vocab, raw, len(raw), buffer, 1024, False, True)
    return list(buffer[:count])


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as stream:
        job = json.load(stream)
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    lib.llama_backend_init()
    model = load(job["target"])
    ctx = context(model)
    drafter = context(load(job["assistant"]), ctx) if "assistant" in job else None
    vocab = lib.llama_model_get_vocab(model)
    n_vocab, width, ids = lib.llama_vocab_n_tokens(vocab), lib.llama_model_n_embd(model), job["ids"]
    hidden_rows = drafter is not None or job.get("hidden", False)
    if hidden_rows:
        ext.llama_set_embeddings_nextn(ctx, True, False)
    results: dict[str, np.ndarray] = {}
    for length in [*job.get("lengths", []), len(ids)]:
        lib.llama_memory_clear(lib.llama_get_memory(ctx), True)
        decode(ctx, ids[:length], 0)
        results["logits"] = np.stack([row(lib.llama_get_logits_ith(ctx, i), n_vocab) for i in range(length)])
        if hidden_rows:
            rows = [row(ext.llama_get_embeddings_nextn_ith(ctx, i), width) for i in range(length)]
            results["hidden"] = np.stack(rows)
        if drafter is None:
            continue
        ext.llama_set_embeddings_nextn(drafter, True, True)
        token, hidden, drafts, logits = int(results["logits"][-1].argmax()), results["hidden"][-1], [], []
        results[f"next_{length}"] = np.array(token)
        for _ in range(job["drafts"]):
            decode(drafter, [token], length, np.ascontiguousarray(hidden))
            logits.append(row(lib.llama_get_logits_ith(drafter, 0), n_vocab))
            hidden = row(ext.llama_get_embeddings_nextn_ith(drafter, 0), width)
            token = int(logits[-1].argmax())
            drafts.append(token)
        results[f"drafts_{length}"], results[f"draft_logits_{length}"] = np.array(drafts), np.stack(logits)
    for number, text in enumerate(job.get("texts", [])):
        results[f"text_{number}"] = np.array(tokenize(vocab, text))
    np.savez(sys.argv[2], **results)


if __name__ == "__main__":
    main()
