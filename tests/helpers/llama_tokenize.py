"""Child process: llama.cpp's tokens for texts, given converted files. ``python llama_tokenize.py JOB.json OUT.npz``.

The job maps a name to a file, the texts to tokenise, and one to tokenise with what the file says to add. Pieces are
those of the ids of all texts, joined. A process of its own, because llama.cpp aborts on what it does not accept.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

import llama_cpp.llama_cpp as lib
import numpy as np


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


def tokenize(vocab: Any, text: str, *, add: bool = False) -> list[int]:
    raw = text.encode()
    room = len(raw) + 8
    buffer = (ctypes.c_int32 * room)()
    count = lib.llama_tokenize(vocab, raw, len(raw), buffer, room, add, True)
    return list(buffer[:count])


def piece(vocab: Any, token: int) -> bytes:
    buffer = ctypes.create_string_buffer(256)
    count = lib.llama_token_to_piece(vocab, token, buffer, 256, 0, True)
    return buffer.raw[:count]


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as stream:
        job = json.load(stream)
    lib.llama_log_set(silent, ctypes.c_void_p(0))
    lib.llama_backend_init()
    results: dict[str, np.ndarray] = {}
    for name, task in job.items():
        model = load(task["file"])
        vocab = lib.llama_model_get_vocab(model)
        found = [tokenize(vocab, text) for text in task["texts"]]
        flat = [token for ids in found for token in ids]
        pieces = {token: piece(vocab, token) for token in set(flat)}
        ends = [token for token in range(lib.llama_vocab_n_tokens(vocab)) if lib.llama_vocab_is_eog(vocab, token)]
        results |= {
            f"{name}.ids": np.array(flat),
            f"{name}.lengths": np.array([len(ids) for ids in found]),
            f"{name}.framed": np.array(tokenize(vocab, task["framed"], add=True)),
            f"{name}.pieces": np.frombuffer(b"".join(pieces[token] for token in flat), dtype=np.uint8),
            f"{name}.ends": np.array(ends),
        }
        lib.llama_model_free(model)
    np.savez(sys.argv[2], **results)


if __name__ == "__main__":
    main()
