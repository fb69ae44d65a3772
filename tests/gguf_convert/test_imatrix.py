"""Laws of importance matrices: the sums of llama-imatrix, a file that survives, and one sentence for what cannot be.

The references in ``reference/imatrix`` are llama-imatrix's: ``-f TEXT -c 64 -b 64 -ub 64 --chunks 3 --no-ppl`` on the
built-in target and on the checkpoint with experts below.
"""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import gguf_convert
from localspec.cli import cli
from localspec.errors import InputError, ModelFileError, ModelNotFoundError
from localspec.gguf.header import read_header
from localspec.gguf.imatrix import Entry, Imatrix, read_imatrix, write_imatrix
from localspec.llama.imatrix import compute_imatrix
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from tests.helpers import tiny_checkpoint as tiny
from tests.helpers.paths import REFERENCE

STORED = REFERENCE / "imatrix"
TEXT = "".join(f"The {n} small dogs ran to the {n * 7 % 11} trees and said hello to me. " for n in range(40))
ONE_THREAD = ContextParams(threads=1, device="none")


def compute(path: Path, **words: Any) -> Imatrix:
    return compute_imatrix(read_header(path), TEXT, "text", ONE_THREAD, **{"chunk": 64, "chunks": 3, **words})


def same(found: Imatrix, expected: Imatrix) -> None:
    assert (found.chunks, found.chunk_size) == (expected.chunks, expected.chunk_size)
    assert found.entries.keys() == expected.entries.keys()
    for name, entry in expected.entries.items():
        np.testing.assert_array_equal(found.entries[name].counts, entry.counts, name)
        scale = entry.sums.max()
        np.testing.assert_allclose(found.entries[name].sums / scale, entry.sums / scale, atol=1e-3, err_msg=name)


def test_sums_are_llama_imatrix_s() -> None:
    """Of every matrix of the layers, with the same counts."""
    same(compute(TINY_TARGET), read_imatrix(STORED / "tiny.gguf"))


def test_sums_of_experts_are_llama_imatrix_s(tmp_path: Path) -> None:
    """Each expert has its own, of the tokens that were sent to it."""
    config = tiny.text_config(enable_moe_block=True, num_experts=4, top_k_experts=2, moe_intermediate_size=32)
    tiny.write(tmp_path / "in", config)
    gguf_convert.convert(tmp_path / "in", tmp_path / "m.gguf", "F32")
    found = compute(tmp_path / "m.gguf")
    same(found, read_imatrix(STORED / "experts.gguf"))
    experts = found.entries["blk.0.ffn_down_exps.weight"]
    assert experts.sums.shape == (4, 32)
    assert experts.counts.sum() == 3 * 64 * 2


def test_the_whole_text_is_read_unless_told() -> None:
    """In whole pieces; progress counts them."""
    seen: list[tuple[int, int]] = []
    found = compute(TINY_TARGET, chunk=128, chunks=None, progress=lambda *call: seen.append(call))
    assert seen == [(i + 1, found.chunks) for i in range(found.chunks)]
    assert found.chunks > 3
    assert {float(entry.counts[0]) for entry in found.entries.values()} == {128.0 * found.chunks}


def test_a_text_of_less_than_two_pieces_is_refused() -> None:
    """llama-imatrix does the same."""
    with pytest.raises(InputError, match=r"needs at least 4096.*longer text"):
        compute(TINY_TARGET, chunk=2048)


def test_an_interrupt_between_pieces_frees_everything() -> None:
    """The next computation works."""

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(TINY_TARGET, progress=interrupt)
    assert compute(TINY_TARGET, chunks=1).chunks == 1


# Files.

ENTRIES = {
    "blk.0.a.weight": Entry(np.array([[1.0, 4.0]], np.float32), np.array([2.0], np.float32)),
    "blk.0.b.weight": Entry(np.array([[1.0, 4.0], [0.0, 0.0]], np.float32), np.array([4.0, 0.0], np.float32)),
}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """No other file is left."""
    write_imatrix(tmp_path / "m.gguf", Imatrix(ENTRIES, ("one", "two"), 3, 64))
    found = read_imatrix(tmp_path / "m.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (("one", "two"), 3, 64)
    assert found.entries.keys() == ENTRIES.keys()
    assert all((found.entries[name].sums == entry.sums).all() for name, entry in ENTRIES.items())
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def test_means_are_by_expert_and_1_where_nothing_was_seen() -> None:
    """llama-quantize fills them the same way."""
    means = Imatrix(ENTRIES, (), 1, 1).mean_squares()
    assert means["blk.0.a.weight"].tolist() == [0.5, 2.0]
    assert means["blk.0.b.weight"].tolist() == [0.25, 1.0, 1.0, 1.0]


def legacy(entries: dict[str, list[float]], calls: int = 2) -> bytes:
    data = struct.pack("<i", len(entries))
    for name, values in entries.items():
        data += struct.pack(f"<i{len(name)}sii{len(values)}f", len(name), name.encode(), calls, len(values), *values)
    return data


@pytest.mark.parametrize(("tail", "chunks"), [(b"", 0), (struct.pack("<ii4s", 7, 4, b"text"), 7)])
def test_the_older_kind_of_file_is_read(tmp_path: Path, tail: bytes, chunks: int) -> None:
    """With and without what later versions append."""
    (tmp_path / "m.dat").write_bytes(legacy({"blk.0.a.weight": [1.0, 3.0]}) + tail)
    found = read_imatrix(tmp_path / "m.dat")
    assert found.mean_squares()["blk.0.a.weight"].tolist() == [0.5, 1.5]
    assert (found.chunks, found.datasets) == (chunks, ("text",) if tail else ())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"abc", struct.pack("<i", 0), struct.pack("<i", -1), struct.pack("<ii", 1, 2**31 - 1),
        struct.pack("<ii", 1, -5), legacy({"a": []}), legacy({"a": [1.0]})[:-1], legacy({"a": [float("nan")]}),
        b"just some text, and quite a lot of it", b"GGUF", TINY_TARGET.read_bytes(),
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    """Never a traceback, nor memory that the file does not have."""
    (tmp_path / "m").write_bytes(data)
    with pytest.raises(ModelFileError):
        read_imatrix(tmp_path / "m")


@pytest.mark.parametrize("seed", range(60))
def test_a_mutated_file_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Cut off, or with bytes changed."""
    write_imatrix(tmp_path / "m", Imatrix(ENTRIES, ("one",), 3, 64))
    random = np.random.default_rng(seed)
    data = bytearray((tmp_path / "m").read_bytes())
    for at in random.integers(0, len(data), 3):
        data[at] = random.integers(256)
    (tmp_path / "m").write_bytes(data[: random.integers(1, 2 * len(data))])
    with suppress(ModelFileError):
        assert read_imatrix(tmp_path / "m").mean_squares()


def test_no_file_says_how_to_make_one(tmp_path: Path) -> None:
    """The next step."""
    with pytest.raises(ModelNotFoundError, match="localspec imatrix"):
        read_imatrix(tmp_path / "none")


# The command.


def run(*args: object) -> Result:
    return CliRunner().invoke(cli, ["imatrix", *map(str, args)])


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    """The quantiser accepts it."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    out = tmp_path / "im.gguf"
    result = run("tiny", tmp_path / "text.txt", "-o", out, "--chunk", 64, "--chunks", 2, "-t", 1)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == f"Wrote {out} ({len(read_imatrix(out).entries)} matrices, 2 pieces of 64 tokens).\n"
    gguf_convert.quantize(TINY_TARGET, tmp_path / "q.gguf", "Q4_0", imatrix=out, requantize=True)


@pytest.mark.parametrize(
    ("model", "text", "sentence"),
    [
        ("tiny", None, "cannot be read"),
        ("tiny", b"\xff\xfe", "is not UTF-8 text"),
        ("tiny", b"short", "needs at least 1024"),
        ("none.gguf", b"text", "there is no file none.gguf"),
        (str(TINY_TARGET.with_name("tiny-assistant.gguf")), b"text", "give the target"),
    ],
)
def test_what_cannot_be_measured_is_one_sentence(tmp_path: Path, model: str, text: bytes | None, sentence: str) -> None:
    """No file is written."""
    if text is not None:
        (tmp_path / "text").write_bytes(text)
    result = run(model, tmp_path / "text", "-o", tmp_path / "im.gguf")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert sentence in result.stderr
    assert not (tmp_path / "im.gguf").exists()
