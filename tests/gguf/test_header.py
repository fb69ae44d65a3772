"""Laws of the GGUF header reader: every value is read, and no content can break it."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localspec.errors import ModelError, ModelFileError, ModelNotFoundError
from localspec.gguf.header import GgufHeader, TensorInfo, read_header
from localspec.gguf.types import BLOCKS
from tests.helpers.support import (
    ARRAY,
    BOOL,
    F32,
    I32,
    STRING,
    U8,
    U32,
    U64,
    gguf_array,
    gguf_bytes,
    gguf_pair,
    gguf_string,
    gguf_tensor,
)

ARCH = gguf_pair("general.architecture", STRING, "llama")
REUSED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)


@pytest.fixture
def parse(tmp_path: Path) -> Any:
    """Read a file with these bytes."""
    path = tmp_path / "m.gguf"

    def read(data: bytes) -> GgufHeader:
        path.write_bytes(data)
        return read_header(path)

    return read


def whole() -> bytes:
    """A file with every kind of thing in it."""
    pairs = [
        ARCH,
        gguf_pair("llama.embedding_length", U32, 64),
        gguf_pair("big", U64, 2**63),
        gguf_pair("negative", I32, -5),
        gguf_pair("half", F32, 0.5),
        gguf_pair("yes", BOOL, True),
        gguf_pair("byte", U8, 255),
        gguf_pair("text", STRING, "żółć"),
        gguf_pair("numbers", ARRAY, gguf_array(U32, [1, 2, 3])),
        gguf_pair("flags", ARRAY, gguf_array(BOOL, [True, False])),
        gguf_pair("words", ARRAY, gguf_array(STRING, ["a", "", "ccc"])),
        gguf_pair("long", ARRAY, gguf_array(U8, [0] * 1025)),
        gguf_pair("many words", ARRAY, gguf_array(STRING, ["w"] * 17)),
        gguf_pair("nested", ARRAY, gguf_array(ARRAY, [gguf_array(U8, [1]), gguf_array(STRING, ["x"])])),
        gguf_pair("empty", ARRAY, gguf_array(U32, [])),
    ]
    return gguf_bytes(pairs, [gguf_tensor("a", [4, 2]), gguf_tensor("b", [32], 8, 32)], 32 + 34)


# What is read.


def test_whole_file_is_read(parse: Any) -> None:
    """Scalars, short arrays, tensors; long arrays are left out."""
    header = parse(whole())
    assert header.metadata == {
        "general.architecture": "llama", "llama.embedding_length": 64, "big": 2**63, "negative": -5, "half": 0.5,
        "yes": True, "byte": 255, "text": "żółć", "numbers": (1, 2, 3), "flags": (True, False), "empty": (),
        "words": ("a", "", "ccc"),
    }  # fmt: skip
    assert header.tensors == (TensorInfo("a", (4, 2), 0, 0), TensorInfo("b", (32,), 8, 32))
    assert [tensor.bytes for tensor in header.tensors] == [32, 34]


def test_strings_of_an_array_are_read(parse: Any) -> None:
    """For any length; a missing array, or one of another type, gives none."""
    header = parse(whole())
    assert header.strings("many words") == [b"w"] * 17
    assert header.strings("words") == [b"a", b"", b"ccc"]
    assert [header.strings(key) for key in ("numbers", "text", "absent")] == [[], [], []]


def test_numbers_of_an_array_are_read(parse: Any) -> None:
    """Those of 32 bits, signed and unsigned; none of another type."""
    header = parse(whole())
    assert list(header.int32s("numbers")) == [1, 2, 3]
    assert [len(header.int32s(key)) for key in ("flags", "words", "text", "absent", "empty")] == [0] * 5


def test_array_of_a_file_that_was_cut_is_refused(parse: Any, tmp_path: Path) -> None:
    """Also after its header was read."""
    header = parse(whole())
    os.truncate(tmp_path / "m.gguf", header.spans["many words"].start + 40)
    with pytest.raises(ModelFileError, match="damaged or incomplete"):
        header.strings("many words")
    os.truncate(tmp_path / "m.gguf", header.spans["numbers"].start + 14)
    with pytest.raises(ModelFileError, match="damaged or incomplete"):
        header.int32s("numbers")


def test_offsets_are_the_file_s(parse: Any) -> None:
    """The descriptions of the tensors lie between them; the data end with the file."""
    header, size = parse(whole()), len(whole())
    assert header.data_start == size - 32 - 34
    described = sum(8 + len(tensor.name) + 4 + 8 * len(tensor.shape) + 4 + 8 for tensor in header.tensors)
    assert 0 <= header.data_start - (header.metadata_end + described) < 32


def test_number_is_below_the_architecture(parse: Any) -> None:
    """It has a default; a value that is no whole number counts as missing."""
    header = parse(gguf_bytes([ARCH, gguf_pair("llama.n", U32, 7), gguf_pair("llama.x", F32, 0.5)]))
    assert (header.number("n"), header.number("m"), header.number("m", 3), header.number("x", 2)) == (7, None, 3, 2)


def test_file_of_the_gguf_package_is_read(tmp_path: Path) -> None:
    """The writer that everyone uses."""
    writer = GGUFWriter(tmp_path / "w.gguf", "gemma4")
    writer.add_embedding_length(64)
    writer.add_array("gemma4.pattern", [True, False, True])
    writer.add_token_list([f"t{i}" for i in range(3000)])
    writer.add_tensor("w", np.zeros((3, 64), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_header(tmp_path / "w.gguf")
    assert (header.architecture, header.number("embedding_length")) == ("gemma4", 64)
    assert header.metadata["gemma4.pattern"] == (True, False, True)
    assert header.tensors == (TensorInfo("w", (64, 3), 1, 0),)


#: The package gives Q8_1 two floats where ggml's block has two halves.
_WRONG_IN_THE_PACKAGE = {int(GGMLQuantizationType.Q8_1)}


@pytest.mark.parametrize(
    "kind", sorted(set(BLOCKS) & {int(kind) for kind in GGMLQuantizationType} - _WRONG_IN_THE_PACKAGE)
)
def test_block_sizes_are_ggml_s(kind: int) -> None:
    """They equal those of the gguf package."""
    assert BLOCKS[kind] == GGML_QUANT_SIZES[GGMLQuantizationType(kind)]


@pytest.mark.parametrize("version", [2, 3])
def test_versions_that_are_read(parse: Any, version: int) -> None:
    """Two have the same layout."""
    assert parse(gguf_bytes([ARCH], version=version)).architecture == "llama"


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_alignment_of_the_file_is_used(parse: Any, alignment: int) -> None:
    """The data begin at a multiple of it."""
    pairs = [ARCH, gguf_pair("general.alignment", U32, alignment)]
    data = gguf_bytes(pairs, [gguf_tensor("a", [8])], 32, alignment=alignment)
    assert parse(data).tensors[0].bytes == 32
    with pytest.raises(ModelFileError, match="'a' ends at byte"):
        parse(data[:-1])


def test_data_of_unknown_type_need_only_begin_in_the_file(parse: Any) -> None:
    """New types of ggml are not refused."""
    header = parse(gguf_bytes([ARCH], [gguf_tensor("a", [8], 4242)]))
    assert header.tensors[0].bytes is None


# What is refused.


def test_missing_file(tmp_path: Path) -> None:
    """With its name and what to give."""
    with pytest.raises(ModelNotFoundError, match=r"no\.gguf is not there; give the path"):
        read_header(tmp_path / "no.gguf")


def test_folder(tmp_path: Path) -> None:
    """It is called a folder."""
    with pytest.raises(ModelNotFoundError, match="a folder"):
        read_header(tmp_path)


@pytest.mark.parametrize("data", [b"", b"G", b"GGU", b"hello, I am a text", b"GGML\3\0\0\0", b"\0" * 100, b"PK\3\4"])
def test_file_that_is_no_gguf(parse: Any, data: bytes) -> None:
    """The message has the first bytes of the file and the next step."""
    with pytest.raises(ModelFileError, match=r"not a GGUF file.*localspec convert") as caught:
        parse(data)
    assert repr(data[:4]) in str(caught.value)


@pytest.mark.parametrize("version", [0, 1, 4, 3 << 24, 2**32 - 1])
def test_other_versions(parse: Any, version: int) -> None:
    """Old, future and big-endian files are named by their version."""
    with pytest.raises(ModelFileError, match=f"GGUF version {version};"):
        parse(gguf_bytes([ARCH], version=version))


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    """At each single byte: in a count, a key, a string, an array, a tensor's record, the padding, the data."""
    path = tmp_path / "m.gguf"
    path.write_bytes(whole())
    for length in reversed(range(4, path.stat().st_size)):
        os.truncate(path, length)
        with pytest.raises(ModelFileError, match=r"damaged or incomplete.*again"):
            read_header(path)


HUGE = 2**64 - 1
LIES: dict[str, bytes] = {
    "count of pairs": gguf_bytes([ARCH], n_pairs=HUGE),
    "one pair too many": gguf_bytes([ARCH], n_pairs=2, alignment=1),
    "count of tensors": gguf_bytes([ARCH], n_tensors=HUGE),
    "one tensor too many": gguf_bytes([ARCH], [gguf_tensor("a", [8])], n_tensors=2),
    "length of a key": gguf_bytes([ARCH, gguf_string("key", HUGE)]),
    "length of a key, just too long": gguf_bytes([gguf_string(b"k" * 40, 2**20)]),
    "length of a string": gguf_bytes([ARCH, gguf_string("k") + struct.pack("<I", STRING) + gguf_string("x", HUGE)]),
    "length of a string of 2^63": gguf_bytes([gguf_string("k") + struct.pack("<I", STRING) + gguf_string("", 2**63)]),
    "count of an array": gguf_bytes([ARCH, gguf_pair("k", ARRAY, gguf_array(U8, [1], HUGE))]),
    "count of an array of strings": gguf_bytes([ARCH, gguf_pair("k", ARRAY, gguf_array(STRING, ["a"], HUGE))]),
    "length in an array of strings": gguf_bytes(
        [ARCH, gguf_pair("k", ARRAY, struct.pack("<IQ", STRING, 2) + gguf_string("x", HUGE - 8))]
    ),
    "count of an array of arrays": gguf_bytes(
        [ARCH, gguf_pair("k", ARRAY, gguf_array(ARRAY, [gguf_array(U8, [])], HUGE))]
    ),
    "type of a value": gguf_bytes([ARCH, gguf_pair("k", 13, b"\0" * 8)]),
    "type of an array": gguf_bytes([ARCH, gguf_pair("k", ARRAY, gguf_array(99, []))]),
    "arrays too deep": gguf_bytes(
        [ARCH, gguf_pair("k", ARRAY, gguf_array(ARRAY, [struct.pack("<IQ", ARRAY, 1) * 500]))]
    ),
    "dimensions": gguf_bytes([ARCH], [gguf_string("a") + struct.pack("<I", 2**32 - 1)]),
    "shape": gguf_bytes([ARCH], [gguf_tensor("a", [HUGE, HUGE, HUGE, HUGE])]),
    "offset": gguf_bytes([ARCH], [gguf_tensor("a", [1], 0, HUGE)], 64),
    "offset just past the end": gguf_bytes([ARCH], [gguf_tensor("a", [8], 0, 1)], 32),
    "alignment of 0": gguf_bytes([ARCH, gguf_pair("general.alignment", U32, 0)]),
    "alignment of 2^31": gguf_bytes([ARCH, gguf_pair("general.alignment", U32, 2**31)]),
    "alignment in words": gguf_bytes([ARCH, gguf_pair("general.alignment", STRING, "32")]),
    "no architecture": gguf_bytes([gguf_pair("k", U32, 1)]),
    "empty architecture": gguf_bytes([gguf_pair("general.architecture", STRING, "")]),
    "nothing": gguf_bytes([]),
}


@pytest.mark.parametrize("lie", LIES)
def test_lying_header_is_damaged(parse: Any, lie: str) -> None:
    """A size that the file cannot hold is refused, without reading or allocating it."""
    with pytest.raises(ModelFileError, match="damaged or incomplete"):
        parse(LIES[lie])


TOKENS = gguf_pair("tokenizer.ggml.tokens", ARRAY, gguf_array(STRING, ["a"] * 2000))


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("llama.block_count", U32, 0), ("llama.block_count", U32, 513), ("tokenizer.ggml.bos_token_id", U32, 2000),
        ("tokenizer.ggml.eot_token_id", U32, 2**31), ("llama.rope.dimension_count", U32, 7),
        ("llama.rope.dimension_count_swa", U32, 18), ("llama.attention.layer_norm_rms_epsilon", F32, -0.5),
        ("llama.attention.layer_norm_epsilon", F32, float("nan")),
    ],
)  # fmt: skip
def test_value_that_llama_cpp_would_abort_on_is_refused(parse: Any, key: str, kind: int, value: Any) -> None:
    """With the value."""
    head = gguf_pair("llama.attention.key_length_swa", U32, 16)
    with pytest.raises(ModelFileError, match="damaged or incomplete") as caught:
        parse(gguf_bytes([ARCH, TOKENS, head, gguf_pair(key, kind, value)]))
    assert str(value)[:6] in str(caught.value)


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("llama.block_count", U32, 1), ("llama.block_count", U32, 512), ("tokenizer.ggml.bos_token_id", U32, 1999),
        ("tokenizer.ggml.bos_token_id", U32, 0), ("tokenizer.ggml.unknown_token_id", U32, 2**32 - 1),
        ("llama.rope.dimension_count", U32, 64), ("llama.rope.dimension_count_swa", U32, 16),
        ("llama.attention.layer_norm_rms_epsilon", F32, 0.0), ("llama.attention.layer_norm_rms_epsilon", F32, 1e-6),
    ],
)  # fmt: skip
def test_value_that_llama_cpp_takes_is_taken(parse: Any, key: str, kind: int, value: Any) -> None:
    """The bounds, and the number that stands for no token."""
    head = gguf_pair("llama.attention.key_length_swa", U32, 16)
    header = parse(gguf_bytes([ARCH, TOKENS, head, gguf_pair(key, kind, value)]))
    assert header.metadata[key] == pytest.approx(value)


@pytest.mark.parametrize("kind", [2, 8, 24, 26, 28, 4242])
def test_norm_has_a_float_type(parse: Any, kind: int) -> None:
    """llama.cpp multiplies with it in F32, and aborts on integers."""
    tensors = [gguf_tensor("blk.0.attn_norm.weight", [32], kind)]
    with pytest.raises(ModelFileError, match=f"'blk.0.attn_norm.weight' has type {kind}; a norm has a float type"):
        parse(gguf_bytes([ARCH], tensors, 256))


@pytest.mark.parametrize("text", ["llama.block\0count", "a\nb", "\x1b[2J", "a\u202eb"])
def test_keys_and_names_can_be_printed(parse: Any, text: str) -> None:
    """They appear in messages and on screens."""
    for data in (gguf_bytes([ARCH, gguf_pair(text, U32, 1)]), gguf_bytes([ARCH], [gguf_tensor(text, [1])], 4)):
        with pytest.raises(ModelFileError, match="damaged or incomplete") as caught:
            parse(data)
        assert str(caught.value).isprintable()


@pytest.mark.parametrize(("kind", "row"), [(8, 31), (2, 16), (12, 128), (41, 48)])
def test_rows_are_whole_blocks(parse: Any, kind: int, row: int) -> None:
    with pytest.raises(ModelFileError, match=f"'a' has rows of {row} in blocks of"):
        parse(gguf_bytes([ARCH], [gguf_tensor("a", [row, 4], kind)], 4096))


def test_tensor_is_there_once(parse: Any) -> None:
    with pytest.raises(ModelFileError, match="'a' is there twice"):
        parse(gguf_bytes([ARCH], [gguf_tensor("a", [8]), gguf_tensor("a", [8])], 32))


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (gguf_bytes([ARCH, gguf_pair("k" * 65536, U8, 1)]), "a key of 65536 bytes"),
        (gguf_bytes([ARCH], [gguf_tensor("n" * 128, [1])], 4), "name of 128 bytes"),
        (gguf_bytes([ARCH], n_pairs=65537), "65537 keys; at most 65536"),
        (gguf_bytes([ARCH], n_tensors=10**9), "1000000000 tensors and 1 keys"),
    ],
)
def test_more_than_any_model_has_is_refused(parse: Any, data: bytes, match: str) -> None:
    """Before it fills the memory, and in a sentence that can be read."""
    with pytest.raises(ModelFileError, match=match) as caught:
        parse(data)
    assert len(str(caught.value)) < 500


def test_long_texts_and_too_many_numbers_are_left_out(parse: Any) -> None:
    """They are not needed and would take several times their size."""
    numbers = [gguf_pair(f"n{i}", ARRAY, gguf_array(U8, [7] * 1000)) for i in range(70)]
    text = gguf_pair("long", STRING, "é" * 2**19 + "x")
    header = parse(gguf_bytes([ARCH, text, *numbers, gguf_pair("last", STRING, "x" * 2**20)]))
    assert "long" not in header.metadata
    assert len(str(header.metadata["last"])) == 2**20
    assert sum(key.startswith("n") for key in header.metadata) == 65
    assert header.lengths["n69"] == 1000


def test_file_may_end_with_its_header(parse: Any) -> None:
    """Without tensors there is nothing to pad for."""
    assert parse(gguf_bytes([ARCH, gguf_pair("k", STRING, "last")], alignment=1)).metadata["k"] == "last"


@given(data=st.data())
@REUSED
def test_mutated_file_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes that are changed, cut, doubled or inserted give a header or a ModelError."""
    found = bytearray(whole())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, max(0, len(found) - 1)))
        match data.draw(st.sampled_from(["byte", "word", "cut", "double", "insert"])):
            case "byte":
                found[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            case "word":
                found[at : at + 8] = struct.pack("<Q", data.draw(st.sampled_from([0, 1, 2**31, 2**32, 2**63, HUGE])))
            case "cut":
                del found[at : at + data.draw(st.integers(1, 20))]
            case "double":
                found[at:at] = found[at : at + 30]
            case "insert":
                found[at:at] = data.draw(st.binary(max_size=9))
    path = tmp_path / "m.gguf"
    path.write_bytes(found)
    try:
        assert isinstance(read_header(path), GgufHeader)
    except ModelError as error:
        assert str(path) in str(error)  # noqa: PT017 - the law is for both outcomes


@given(rest=st.binary(max_size=200))
@REUSED
def test_noise_after_the_magic_is_read_or_refused(tmp_path: Path, rest: bytes) -> None:
    """Random bytes that begin as a GGUF file does."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + rest)
    with pytest.raises(ModelError):
        read_header(path)


def test_keys_and_names_that_are_no_text_are_read(parse: Any) -> None:
    """Bytes that are no UTF-8 become U+FFFD."""
    header = parse(gguf_bytes([ARCH, gguf_string(b"\xff") + struct.pack("<IB", U8, 1)]))
    assert header.metadata["�"] == 1


@pytest.mark.skipif(os.name != "posix", reason="a pipe in the file system")
def test_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    """Opening it would block for ever."""
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelNotFoundError):
        read_header(tmp_path / "pipe.gguf")
