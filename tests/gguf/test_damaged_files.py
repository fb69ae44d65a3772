"""Damaged model files end in one clear error or a valid load; ``scripts/check/fuzz_files.py`` tries thousands."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from pathlib import Path
from random import Random

import pytest

import gguf_convert
import localspec
from localspec.errors import LocalspecError
from localspec.gguf.header import read_header
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers.mutations import gguf_fields, mutate_gguf, mutate_json, mutate_safetensors
from tests.helpers.paths import REFERENCE

E2B = REFERENCE / "gemma4_e2b"
#: For Python's own objects: what a header of a few hundred keys and names takes.
FIXED = 2 * 2**20


def a_sentence(error: LocalspecError) -> None:
    assert str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 1500


def test_damaged_header_is_read_or_refused(tmp_path: Path) -> None:
    """150 files: in a sentence, and within twice the file's size. Some of each, or the mutations miss their aim."""
    path = tmp_path / "m.gguf"
    outcomes: Counter[str] = Counter()
    for source, seeds in ((TINY_TARGET, range(60)), (TINY_ASSISTANT, range(60, 150))):
        data = source.read_bytes()
        fields, end = gguf_fields(data)
        for seed in seeds:
            damaged, told = mutate_gguf(data, Random(seed), fields, end)
            path.write_bytes(damaged)
            tracemalloc.start()
            try:
                read_header(path)
                outcomes["read"] += 1
            except LocalspecError as error:
                outcomes["refused"] += 1
                a_sentence(error)
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
            assert peak < 2 * len(damaged) + FIXED, told
    assert min(outcomes["read"], outcomes["refused"]) > 20


@pytest.mark.parametrize("seed", [1, 4, 5, 16, 21])
def test_damaged_file_loads_or_is_refused(tmp_path: Path, seed: int) -> None:
    """Damage that a header does not show, through the trial, the load and a generation."""
    data = TINY_TARGET.read_bytes()
    fields, end = gguf_fields(data)
    random = Random(seed)
    path = tmp_path / "m.gguf"
    while True:
        path.write_bytes(mutate_gguf(data, random, fields, end)[0])
        try:
            read_header(path)
            break
        except LocalspecError:
            continue
    try:
        with localspec.load(path, "ngram", ctx_size=64, exactness="off") as llm:
            llm.generate("Once", max_tokens=4, temperature=0)
    except LocalspecError as error:
        a_sentence(error)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_damaged_checkpoint_converts_or_is_refused(tmp_path: Path, name: str) -> None:
    """A refusal leaves nothing, and takes no more memory than twice the checkpoint and what the sound one takes."""
    folder, out = tmp_path / "in", tmp_path / "out.gguf"
    folder.mkdir()
    for file in E2B.iterdir():
        if file.name != name and file.suffix != ".npz":
            (folder / file.name).symlink_to(file)
    data = (E2B / name).read_bytes()
    (folder / name).write_bytes(data)
    sound = _converted(folder, out)
    refused = 0
    for seed in range(6):
        mutated = mutate_safetensors if name.endswith("safetensors") else _mutate_text
        damaged, told = mutated(data, Random(seed))
        (folder / name).write_bytes(damaged)
        out.unlink(missing_ok=True)
        assert _converted(folder, out) < sound + 2 * len(damaged) + FIXED, told
        refused += not out.exists()
    assert refused


def _mutate_text(data: bytes, random: Random) -> tuple[bytes, str]:
    json.loads(data)
    return mutate_json(data.decode(), random)


def _converted(folder: Path, out: Path) -> int:
    """Convert, if it can be; the peak of Python's memory."""
    tracemalloc.start()
    try:
        gguf_convert.convert(folder, out, "Q8_0", force=True)
        read_header(out)
    except LocalspecError as error:
        a_sentence(error)
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak


def test_check_refuses_a_vector_in_blocks(tmp_path: Path) -> None:
    """llama.cpp cannot use one."""
    reference = REFERENCE / "qwen2_5_7b"
    path = tmp_path / "m.gguf"
    gguf_convert.convert(reference, path, "F32")
    data = bytearray(path.read_bytes())
    fields = gguf_fields(data)[0]
    at = next(field.at for field in fields if (field.what, field.of) == ("type of tensor", "blk.1.attn_q.bias"))
    data[at] = 2
    path.write_bytes(data)
    with pytest.raises(LocalspecError, match=r"blk\.1\.attn_q\.bias is Q4_0"):
        gguf_convert.check(reference, path)
