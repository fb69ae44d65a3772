"""Laws of quantising: llama.cpp's bytes, one file or none, and refusals before anything is written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gguf_convert
from gguf_convert.checking.rounding import largest_errors
from localspec.errors import ConvertError, LocalspecError, ModelFileError, ModelNotFoundError, UsageError
from localspec.gguf.header import read_header
from localspec.gguf.imatrix import Entry, Imatrix, write_imatrix
from localspec.gguf.types import TYPE_NAMES
from localspec.llama.quantized_rows import dequantize_rows, quantize_rows
from tests.helpers import tiny_checkpoint as tiny

#: SHA-256 of the tensors of this type that the program llama-quantize makes of the F32 file of the checkpoint below.
LLAMA_QUANTIZE = {
    "Q4_0": "cd0fa5bea6661d9f3b92a07bf35069fdf161f8b7fc31cab4735c8e332aed3c94",
    "Q8_0": "95d10f3842f27bbf269702b92d27a3edb37f6fa820e912dcd957ca6e4f589fb9",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with rows of 256 in ``in``, and its F32 file ``f32.gguf``."""
    made = tmp_path_factory.mktemp("quantize")
    config = tiny.text_config(hidden_size=256, intermediate_size=256, hidden_size_per_layer_input=256)
    tiny.write(made / "in", config)
    gguf_convert.convert(made / "in", made / "f32.gguf", "F32")
    matrices = [t for t in read_header(made / "f32.gguf").tensors if len(t.shape) > 1 and t.name.startswith("blk.")]
    squares = np.random.default_rng(0).exponential(size=256).astype(np.float32)
    entries = {t.name: Entry(np.resize(squares, (1, t.shape[0])), np.ones(1, np.float32)) for t in matrices}
    write_imatrix(made / "im.gguf", Imatrix(entries, ("text",), 3, 64))
    return made


def types(path: Path) -> dict[str, str]:
    return {tensor.name: TYPE_NAMES[tensor.type] for tensor in read_header(path).tensors}


def tensors(path: Path) -> Iterator[tuple[str, bytes]]:
    header, data = read_header(path), path.read_bytes()
    for tensor in header.tensors:
        start = header.data_start + tensor.offset
        yield tensor.name, data[start : start + (tensor.bytes or 0)]


def digest(path: Path, kind: str) -> str:
    found = hashlib.sha256()
    for name, data in sorted(tensors(path)):
        if types(path)[name] == kind:
            found.update(name.encode() + data)
    return found.hexdigest()


@pytest.mark.parametrize("kind", LLAMA_QUANTIZE)
def test_a_plain_type_is_llama_quantize_s_to_the_byte(folder: Path, tmp_path: Path, kind: str) -> None:
    """Its output was hashed."""
    gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", kind)
    assert digest(tmp_path / "q.gguf", kind) == LLAMA_QUANTIZE[kind]


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0"])
def test_the_converter_and_the_quantiser_make_the_same_bytes(folder: Path, tmp_path: Path, kind: str) -> None:
    """Of every tensor that both make of that type."""
    gguf_convert.convert(folder / "in", tmp_path / "c.gguf", kind)
    gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", kind, pure=True)
    ours, theirs = dict(tensors(tmp_path / "c.gguf")), dict(tensors(tmp_path / "q.gguf"))
    same = [name for name, found in types(tmp_path / "q.gguf").items() if found == types(tmp_path / "c.gguf")[name]]
    assert len(same) == len(ours) - 1  # the quantiser leaves per_layer_model_proj alone
    assert all(ours[name] == theirs[name] for name in same)


@pytest.mark.parametrize("words", [{"exact": True}, {"exact": True, "type": "Q8_0"}, {"role": "drafter"}])
def test_a_recipe_gives_the_same_file_from_a_checkpoint_and_from_its_gguf(
    folder: Path, tmp_path: Path, words: dict[str, Any]
) -> None:
    """The checkpoint is written directly; the file is quantised, with an extra pass for floats."""
    gguf_convert.convert(folder / "in", tmp_path / "c.gguf", **words)
    report = gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", **words)
    assert dict(tensors(tmp_path / "q.gguf")) == dict(tensors(tmp_path / "c.gguf"))
    assert types(tmp_path / "q.gguf") == types(tmp_path / "c.gguf")
    assert report.bytes == (tmp_path / "q.gguf").stat().st_size
    assert read_header(tmp_path / "q.gguf").metadata["general.architecture"] == "gemma4"


@pytest.mark.parametrize("kind", ["Q4_K_M", "IQ4_XS", "TQ2_0", "Q2_0", "Q5_1"])
def test_every_kind_of_type_passes_the_check(folder: Path, tmp_path: Path, kind: str) -> None:
    """Converted through a file of floats that is gone afterwards."""
    gguf_convert.convert(folder / "in", tmp_path / "q.gguf", kind)
    assert [path.name for path in tmp_path.iterdir()] == ["q.gguf"]
    assert max(gguf_convert.check(folder / "in", tmp_path / "q.gguf").worst.values()) <= 1.0


def test_types_that_need_an_importance_matrix_take_it(folder: Path, tmp_path: Path) -> None:
    """The file records where it came from, in llama-quantize's keys."""
    gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", "Q2_K_S", imatrix=folder / "im.gguf")
    gguf_convert.check(folder / "in", tmp_path / "q.gguf")
    metadata = read_header(tmp_path / "q.gguf").metadata
    assert metadata["quantize.imatrix.file"] == str(folder / "im.gguf")[:127]
    assert (metadata["quantize.imatrix.dataset"], metadata["quantize.imatrix.chunks_count"]) == ("text", 3)
    assert types(tmp_path / "q.gguf")["blk.0.attn_q.weight"] == "Q2_K"


def test_exact_rows_stay_exact_with_an_importance_matrix(folder: Path, tmp_path: Path) -> None:
    """llama.cpp would make the first ffn_down of a Q4_0 file Q4_1."""
    gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", exact=True, imatrix=folder / "im.gguf")
    assert set(types(tmp_path / "q.gguf").values()) == {"F32", "Q4_0", "Q8_0", "Q6_K"}


def test_progress_counts_bytes_and_tensors_to_the_end(folder: Path, tmp_path: Path) -> None:
    """In order, once it begins."""
    steps: list[gguf_convert.QuantizeProgress] = []
    report = gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", "Q4_K_M", progress=steps.append)
    assert steps[-1].bytes == steps[-1].all_bytes > 0
    assert steps[-1].tensors == steps[-1].all_tensors == report.tensors
    assert [step.bytes for step in steps] == sorted(step.bytes for step in steps)


def refused(error: type[LocalspecError], sentence: str, source: Path, out: Path, *args: Any, **words: Any) -> None:
    before = sorted(out.parent.iterdir())
    with pytest.raises(error, match=sentence):
        gguf_convert.quantize(source, out, *args, **words)
    assert sorted(out.parent.iterdir()) == before


def test_what_cannot_work_is_refused_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """Each in a sentence with the next step."""
    f32, out = folder / "f32.gguf", tmp_path / "q.gguf"
    refused(ConvertError, r"IQ2_XS makes blk\.0.*noise without an importance matrix.*--imatrix", f32, out, "IQ2_XS")
    refused(ConvertError, "already is F32", f32, out, "F32")
    refused(UsageError, "threads is 0", f32, out, "Q8_0", threads=0)
    refused(ConvertError, "no importance matrix.*localspec imatrix", f32, out, "Q8_0", imatrix=tmp_path / "none.gguf")
    refused(ModelNotFoundError, "is not there", tmp_path / "gone.gguf", out, "Q8_0")
    (tmp_path / "text.gguf").write_text("no model")
    refused(ModelFileError, "not a GGUF file", tmp_path / "text.gguf", out, "Q8_0")


def test_quantised_files_are_quantised_again_only_when_told(folder: Path, tmp_path: Path) -> None:
    """It loses more than quantising once."""
    gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q8.gguf", "Q8_0")
    refused(ConvertError, "quantised already.*--requantize", tmp_path / "q8.gguf", tmp_path / "q4.gguf", "Q4_0")
    gguf_convert.quantize(tmp_path / "q8.gguf", tmp_path / "q4.gguf", "Q4_0", requantize=True)
    assert "Q4_0" in types(tmp_path / "q4.gguf").values()
    refused(ConvertError, "already is Q8_0", tmp_path / "q8.gguf", tmp_path / "again.gguf", "Q8_0")


def test_a_file_is_not_quantised_onto_itself(folder: Path, tmp_path: Path) -> None:
    """An existing file is replaced only with ``force``."""
    (tmp_path / "f.gguf").write_bytes((folder / "f32.gguf").read_bytes())
    refused(ConvertError, "exists.*--force", tmp_path / "f.gguf", tmp_path / "f.gguf", "Q8_0")
    refused(ConvertError, "is the file to read", tmp_path / "f.gguf", tmp_path / "f.gguf", "Q8_0", force=True)


def test_a_file_that_llama_cpp_refuses_or_dies_of_is_an_error(folder: Path, tmp_path: Path) -> None:
    """With llama.cpp's own words where it has some."""
    data = (folder / "f32.gguf").read_bytes()
    (tmp_path / "odd.gguf").write_bytes(data.replace(b"gemma4", b"gemmaX"))
    refused(ConvertError, "llama.cpp cannot quantise odd.gguf", tmp_path / "odd.gguf", tmp_path / "q", "Q8_0")


def test_a_quantiser_that_dies_is_an_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has its last line of standard error."""
    monkeypatch.setattr(
        "gguf_convert.quantization.child._CHILD",
        "import os, sys; sys.stderr.write('GGML_ASSERT(x) failed\\n'); os.abort()",
    )
    refused(ConvertError, r"failed on f32.gguf.*GGML_ASSERT\(x\) failed", folder / "f32.gguf", tmp_path / "q", "Q8_0")


SLOW = """
import sys, gguf_convert
print("begun", flush=True)
gguf_convert.quantize({source!r}, {out!r}, "IQ4_XS", threads=1, progress=lambda step: print(step.bytes, flush=True))
"""


@pytest.mark.skipif(os.name == "nt", reason="signals differ there")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_quantisation_leaves_no_file_and_no_process(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C also takes the unfinished file away; a killed program leaves that at most."""
    code = SLOW.format(source=str(folder / "f32.gguf"), out=str(tmp_path / "q.gguf"))
    run = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stdout.readline() == "begun\n"
    time.sleep(0.3)
    run.send_signal(number)
    run.communicate(timeout=20)
    assert run.returncode != 0
    assert not (tmp_path / "q.gguf").exists()
    if number == signal.SIGINT:
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q6_K", "Q4_K", "Q5_0", "Q2_K"])
@pytest.mark.parametrize("shape", [(3, 256), (1, 512), (40, 768)])
def test_packed_rows_unpack_to_what_they_were(kind: str, shape: tuple[int, int]) -> None:
    """Within the bound of the type."""
    values = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    packed = quantize_rows(values, kind)
    assert (np.abs(dequantize_rows(packed, kind, shape[1]) - values) <= largest_errors(values, kind)).all()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_floats_are_read_as_they_are(kind: str) -> None:
    """Powers of two are exact in all of them."""
    values = np.array([[1.0, -0.5], [2.0, 0.0]], np.float32)
    raw = {"F32": values.view(np.uint8), "F16": values.astype("<f2").view(np.uint8)}
    packed = raw.get(kind, tiny.to_bfloat16(values).view(np.uint8))
    assert (dequantize_rows(packed, kind, 2) == values).all()


@pytest.mark.parametrize("kind", ["Q4_K_M", "Q2_K"])
def test_the_check_tells_one_matrix_from_another(folder: Path, tmp_path: Path, kind: str) -> None:
    """Even in types of few bits."""
    gguf_convert.quantize(folder / "f32.gguf", tmp_path / "q.gguf", kind)
    config = tiny.text_config(hidden_size=256, intermediate_size=256, hidden_size_per_layer_input=256)
    weights = tiny.tensors(config)
    weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.2.mlp.up_proj.weight"][:256]
    tiny.write(tmp_path / "other", config, weights=weights)
    with pytest.raises(ConvertError, match=r"blk\.1\.ffn_up\.weight differs"):
        gguf_convert.check(tmp_path / "other", tmp_path / "q.gguf")
