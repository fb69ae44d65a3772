"""Laws of the memory of a projector."""

from __future__ import annotations

from pathlib import Path

import pytest

from localspec.errors import UsageError
from localspec.gguf.header import read_header
from localspec.loading import load
from localspec.memory import fit
from localspec.memory.projector import projector_bytes
from localspec.models.projector import find_projector, one_pass_cells
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from tests.helpers.projectors import write_projector


def test_weights_and_buffers_count(tmp_path: Path) -> None:
    """More cells take more; sound alone has buffers of its own."""
    both = read_header(write_projector(tmp_path / "both.gguf"), model=False)
    size = both.path.stat().st_size
    eyes = read_header(write_projector(tmp_path / "eyes.gguf", audio=False), model=False)
    assert projector_bytes(eyes, (1, 10)) < projector_bytes(eyes) < projector_bytes(eyes, (1, 9999))
    assert size < projector_bytes(both) < projector_bytes(both, (1, 9999))
    ears = read_header(write_projector(tmp_path / "ears.gguf", vision=False), model=False)
    assert 2**20 < projector_bytes(ears) < 16 * 2**20


def test_a_picture_of_one_pass_has_buffers(tmp_path: Path) -> None:
    """Of its width: the built-in target's pictures are not causal. Those of E2B and E4B are."""
    header, target = read_header(write_projector(tmp_path / "m.gguf"), model=False), read_header(TINY_TARGET)
    assert one_pass_cells(target, header) == 1120
    assert one_pass_cells(target, header, (70, 280)) == 280
    assert ContextParams(media_cells=1120).rows(gpu=False) == 1120
    assert ContextParams().rows(gpu=False) == 256
    target.metadata["gemma4.embedding_length"] = 1536
    assert one_pass_cells(target, header) == 0


def test_a_load_counts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that the user has not named is left out where it does not fit."""
    named = write_projector(tmp_path / "m.gguf")
    assert find_projector(read_header(TINY_TARGET), "none") is None
    machine = fit.Machine(130 * 2**20, 130 * 2**20, (), {})
    monkeypatch.setattr("localspec.memory.machine.read_machine", lambda: machine)
    with pytest.raises(UsageError, match="this machine has"):
        load("tiny", "none", mmproj=named, image_tokens=(16000, 16000), device="none")
    monkeypatch.setattr("localspec.loading.find_files", lambda *_: _beside(named))
    with load("tiny", "none", image_tokens=(16000, 16000), device="none") as engine:
        assert not engine.media
        assert any("no pictures and sounds" in sentence for sentence in engine.notices)


def _beside(projector: Path) -> object:
    from localspec.loading.files import PairFiles

    return PairFiles(read_header(TINY_TARGET), "none", projector=read_header(projector, model=False))
