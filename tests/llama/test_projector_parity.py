"""Laws of media: with converted files, llama.cpp makes of pictures and sounds what transformers makes.

So are the logits behind them, and the first drafts of assistants. The stored references are those of
``scripts/convert/make_projector_references.py``, which draws the same pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import gguf_convert
from localspec.gguf.header import read_header
from localspec.llama.model import LlamaModel
from localspec.llama.mtmd import LlamaPiece, LlamaProjector
from localspec.params import ContextParams
from tests.helpers import media_run
from tests.helpers.media_prompt import TARGETS
from tests.helpers.media_run import parity, wav
from tests.helpers.media_samples import SECONDS, SIZES, pictures, sounds
from tests.helpers.paths import PROJECTORS, REFERENCE

#: Largest error of the embeddings, as a share of their size: of pictures, and of sounds.
BOUNDS = {
    "gemma4_e2b": (2e-3, 1e-3),
    "gemma4_31b": (2e-3, None),
    "gemma4_12b": (1e-5, 2e-4),
    "gemma3_4b": (1e-3, None),
}
#: Largest error of a row of logits behind media, as a share of its size.
RELATIVE = 0.03
#: Gemma 3's pictures are squares: transformers stretches others, llama.cpp does not.
SQUARE = 2


def error(pieces: list[LlamaPiece], expected: NDArray[np.float32]) -> float:
    """Root of the mean square of the differences, over that of the expected values."""
    found = np.concatenate([piece.encode() for piece in pieces if piece.cells])
    assert found.shape == expected.shape
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))


@pytest.mark.parametrize("kind", BOUNDS)
def test_embeddings_equal_transformers(tmp_path: Path, kind: str) -> None:
    expected = np.load(PROJECTORS / kind / "expected.npz")
    gguf_convert.convert(REFERENCE / kind, tmp_path / "model.gguf", "F32")
    gguf_convert.convert_projector(PROJECTORS / kind, tmp_path / "mmproj.gguf", "F32")
    model = LlamaModel(read_header(tmp_path / "model.gguf"), ContextParams())
    projector = LlamaProjector(tmp_path / "mmproj.gguf", model, threads=1)
    seen, heard = BOUNDS[kind]
    try:
        for index, pixels in enumerate(pictures(len(SIZES), SIZES, 7)):
            if kind != "gemma3_4b" or index == SQUARE:
                assert error(projector.picture(pixels), expected[f"picture_{index}"]) < seen
        assert ("sound" in projector.kinds) == (heard is not None)
        for index, samples in enumerate(sounds(SECONDS, 8) if heard else ()):
            assert error(projector.sound(wav(samples)), expected[f"sound_{index}_cut"]) < heard
    finally:
        projector.close()
        model.close()


@pytest.mark.parametrize("name", TARGETS)
def test_logits_and_first_drafts_behind_media_are_transformers(tmp_path: Path, name: str) -> None:
    """Spans that see themselves, per-layer embeddings of cells, and assistants that read the cells of pictures.

    With GELU, mel bands and masks as llama.cpp has them: transformers also lets pictures see themselves in full layers.
    """
    targets, drafts = parity(name, tmp_path)
    assert targets.rows == 7
    assert targets.same.relative < RELATIVE
    if drafts is not None:
        assert drafts.drafts_same == (4, 4)
        assert drafts.same.relative < 3 * RELATIVE


def test_a_picture_that_is_cut_would_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded causally, a picture of the large models is another."""
    monkeypatch.setattr(media_run, "CAUSAL", ("gemma4_31b",))
    targets, _ = parity("gemma4_31b", tmp_path)
    assert targets.same.relative > 5 * RELATIVE
