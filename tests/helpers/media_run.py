"""llama.cpp on a prompt of texts, pictures and sounds: what it computes behind them, from converted checkpoints.

Without flash attention, and with F32 caches: what differs from transformers is arithmetic.
"""

from __future__ import annotations

import io
import itertools
import wave
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import gguf_convert
from localspec.gguf.header import read_header
from localspec.llama import native
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtmd import LlamaPiece, LlamaProjector
from localspec.llama.mtp import LlamaMtpContext
from localspec.params import ContextParams
from tests.helpers import media_prompt
from tests.helpers.media_prompt import PICTURE, TARGETS
from tests.helpers.parity import Parity, Results, compare
from tests.helpers.paths import PROJECTORS, REFERENCE

#: Draft tokens behind a prompt.
DRAFTS = 4
#: Models whose pictures are causal. mtmd knows them by their widths, which the stored ones do not have.
CAUSAL = ("gemma4_e2b", "gemma4_e4b")
_PARAMS = ContextParams(threads=1, device="none", cache_type_k="f32", cache_type_v="f32", media_cells=256)


def wav(samples: NDArray[np.float32]) -> bytes:
    """A file of samples at 16 kHz from −1 to 1, in 16 bits."""
    out = io.BytesIO()
    with wave.open(out, "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(16_000)
        stream.writeframes(np.round(samples * 32768).clip(-32768, 32767).astype("<i2").tobytes())
    return out.getvalue()


def expected(name: str) -> Results:
    with np.load(PROJECTORS / "behind" / f"{name}.npz") as stored:
        return dict(stored)


def parity(name: str, folder: Path, *, flash: bool = False) -> tuple[Parity, Parity | None]:
    """The rows behind media compared, and the drafts."""
    wanted = expected(name)
    found = run(name, folder, wanted, flash=flash)
    rows = found["logits"][wanted["positions"]]
    forbidden = np.isneginf(rows).all(0)  # by the model's file
    for key in ("logits", "logits_ggml"):
        wanted[key] = wanted[key][:, ~forbidden]
    targets = compare({"logits": found["logits"][:, ~forbidden]}, wanted, "gemma4")
    if "drafts" not in wanted:
        return targets, None
    return targets, compare(found, wanted | {"target": name, "lengths": np.array([len(wanted["tokens"])])}, "assistant")


def run(name: str, folder: Path, wanted: Results, *, flash: bool) -> Results:
    """Convert target, assistant and encoders into ``folder``, decode the prompt, and draft behind it."""
    gguf_convert.convert(REFERENCE / name, folder / "target.gguf", "F32")
    gguf_convert.convert_projector(PROJECTORS / TARGETS[name], folder / "mmproj.gguf", "F32")
    model = LlamaModel(read_header(folder / "target.gguf"), _PARAMS)
    projector = LlamaProjector(
        folder / "mmproj.gguf", model, threads=1, image_tokens=None if "gemma3" in name else media_prompt.LIMITS
    )
    drafts = "drafts" in wanted
    with patch.object(native, "_FLASH_ON", int(flash)):
        context = LlamaContext(model, _PARAMS, 512, hidden=drafts)
        assistant = _assistant(name, folder, context) if drafts else None
    try:
        found = _decode(context, projector, wanted["tokens"], name)
        return found | (_draft(assistant, found["logits"][-1], context, len(wanted["tokens"])) if assistant else {})
    finally:
        for one in (assistant, assistant and assistant.model, context, projector, model):
            if one is not None:
                one.close()


def _assistant(name: str, folder: Path, context: LlamaContext) -> LlamaMtpContext:
    gguf_convert.convert(REFERENCE / f"{name}_assistant", folder / "assistant.gguf", "F32")
    return LlamaMtpContext(LlamaModel(read_header(folder / "assistant.gguf"), _PARAMS), _PARAMS, context)


def _decode(context: LlamaContext, projector: LlamaProjector, tokens: NDArray[Any], name: str) -> Results:
    """Logits of every entry; NaN where it is a cell."""
    seen, heard = media_prompt.media(square="gemma3" in name)
    waiting, logits = iter(seen), np.full((len(tokens), context.model.n_vocab), np.nan, np.float32)
    starts = [0, *(np.flatnonzero(np.diff(np.minimum(tokens, 0))) + 1).tolist(), len(tokens)]
    for start, end in itertools.pairwise(starts):
        if tokens[start] >= 0:
            logits[start:end] = context.decode(tokens[start:end].tolist())
            continue
        pieces = projector.picture(next(waiting)) if tokens[start] == PICTURE else projector.sound(wav(heard))
        cells: list[LlamaPiece] = [piece for piece in pieces if piece.cells]
        assert sum(piece.cells for piece in cells) == end - start
        for piece in cells:
            context.decode_media([-1] * piece.cells, piece.encode(), causal=piece.causal or name in CAUSAL)
    return {"logits": logits}


def _draft(assistant: LlamaMtpContext, row: NDArray[Any], context: LlamaContext, length: int) -> Results:
    """Draft greedily behind the prompt, whose last token has a ``row`` of logits."""
    token, hidden, drafts, logits = int(row.argmax()), context.hidden()[-1].copy(), list[int](), []
    for _ in range(DRAFTS):
        logits.append(assistant.step(token, length, hidden)[0].copy())
        hidden, token = assistant.hidden()[0].copy(), int(logits[-1].argmax())
        drafts.append(token)
    return {f"drafts_{length}": np.array(drafts), f"draft_logits_{length}": np.stack(logits)}
