"""Laws of what goes with what: decided by the files' headers, with the reason where it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import gguf_file, gguf_tensor

from localspec.errors import DraftMismatchError, ModelFileError
from localspec.gguf_header import GgufHeader, read_header
from localspec.hub.pairs import ASSISTANT, assistant_mismatch, check_assistant, find_assistant, is_assistant
from localspec.hub.resolve import TINY_ASSISTANT, TINY_TARGET

Make = Callable[..., GgufHeader]
CACHE = {
    "attention.key_length": 32,
    "attention.key_length_swa": 16,
    "attention.value_length": 32,
    "attention.value_length_swa": 16,
    "attention.head_count_kv": 2,
}
TARGET = {"embedding_length": 64, **CACHE}
DRAFTER = {"embedding_length_out": 64, **CACHE}


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A file of an architecture, with changed numbers and a vocabulary of a size."""

    def header(name: str, architecture: str, n_vocab: int | None = 100, **changed: Any) -> GgufHeader:
        numbers: dict[str, Any] = dict(TARGET if architecture != ASSISTANT else DRAFTER)
        numbers |= {key.replace("__", "."): value for key, value in changed.items()}
        tensors = [] if n_vocab is None else [gguf_tensor("token_embd.weight", [4, n_vocab])]
        return read_header(gguf_file(tmp_path / name, architecture, numbers, tensors, 16 * (n_vocab or 0)))

    return header


def test_matching_pair_has_no_mismatch(make: Make) -> None:
    """And the check says nothing."""
    target, drafter = make("t.gguf", "gemma4"), make("d.gguf", ASSISTANT)
    assert assistant_mismatch(target, drafter) is None
    check_assistant(target, drafter)


@pytest.mark.parametrize(
    ("side", "changed", "reason"),
    [
        ("drafter", {"embedding_length_out": 128}, "width 128, and the target's are 64 wide"),
        ("target", {"embedding_length": 96}, "width 64, and the target's are 96 wide"),
        ("drafter", {"attention__key_length": 64}, r"attention.key_length differ \(64 and 32\)"),
        ("target", {"attention__key_length_swa": 8}, r"attention.key_length_swa differ \(16 and 8\)"),
        ("drafter", {"n_vocab": 90}, r"vocabularies differ in size \(90 and 100\)"),
    ],
)
def test_mismatch_names_both_numbers(make: Make, side: str, changed: dict[str, int], reason: str) -> None:
    """The sentence has both files, the reason and what to do."""
    target = make("t.gguf", "gemma4", **(changed if side == "target" else {}))
    drafter = make("d.gguf", ASSISTANT, **(changed if side == "drafter" else {}))
    with pytest.raises(DraftMismatchError, match=rf"d\.gguf cannot draft for t\.gguf: .*{reason}.*-d ngram"):
        check_assistant(target, drafter)


@pytest.mark.parametrize("key", ["attention.value_length", "attention.value_length_swa", "attention.head_count_kv"])
def test_cache_of_another_shape_is_a_mismatch(make: Make, key: str) -> None:
    """The assistant reads the target's keys and values: their sizes and heads must be its own."""
    drafter = make("d.gguf", ASSISTANT, **{key.replace(".", "__"): 8})
    reason = assistant_mismatch(make("t.gguf", "gemma4"), drafter)
    assert reason is not None
    assert key in reason


@pytest.mark.parametrize(
    ("heads", "fits"), [([4, 1], True), ([4, 2], False), ([2, 1], False), ([1, 4], False), (4, False), (1, False)]
)
def test_heads_are_those_of_the_layers_that_are_read(make: Make, heads: Any, fits: bool) -> None:
    """The last sliding and the last full layer of the target, whatever the others have."""
    target = make(
        "t.gguf",
        "gemma4",
        attention__head_count_kv=[8, 8, 8, 4, 4, 1],
        attention__sliding_window_pattern=[True, True, False, True, True, False],
    )
    drafter = make("d.gguf", ASSISTANT, attention__head_count_kv=heads, attention__sliding_window_pattern=[True, False])
    assert (assistant_mismatch(target, drafter) is None) == fits


def test_assistant_predicts_with_all_of_its_layers(make: Make) -> None:
    """llama.cpp would abort."""
    drafter = make("d.gguf", ASSISTANT, block_count=4, nextn_predict_layers=3)
    reason = assistant_mismatch(make("t.gguf", "gemma4"), drafter)
    assert reason is not None
    assert "4 layers" in reason


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "gemma3", ASSISTANT])
def test_assistant_needs_a_gemma_4_target(make: Make, architecture: str) -> None:
    """Whatever its numbers say."""
    reason = assistant_mismatch(make("t.gguf", architecture), make("d.gguf", ASSISTANT))
    assert reason is not None
    assert repr(architecture) in reason


def test_missing_width_is_a_mismatch(make: Make, tmp_path: Path) -> None:
    """An assistant that does not say what it reads is not used."""
    drafter = read_header(gguf_file(tmp_path / "d.gguf", ASSISTANT, {"attention.key_length": 32}))
    assert assistant_mismatch(make("t.gguf", "gemma4"), drafter) is not None


def test_vocabulary_of_unknown_size_is_no_reason(make: Make) -> None:
    """A file without that tensor is left to llama.cpp."""
    assert assistant_mismatch(make("t.gguf", "gemma4", None), make("d.gguf", ASSISTANT)) is None


@pytest.mark.parametrize(("architecture", "found"), [(ASSISTANT, True), ("gemma4", False), ("llama", False)])
def test_assistant_is_known_by_its_architecture(make: Make, architecture: str, found: bool) -> None:
    """Not by its name."""
    assert is_assistant(make("mtp-gemma-4.gguf", architecture)) is found


def test_file_of_an_older_fork_says_so(make: Make) -> None:
    """An underscore in its architecture: it must be converted again."""
    with pytest.raises(ModelFileError, match=r"older fork.*gemma4_assistant.*localspec convert"):
        is_assistant(make("old.gguf", "gemma4_assistant"))


# Finding one on disk.


def test_assistant_beside_the_target_is_found(make: Make) -> None:
    """The first by name that goes with it; files that do not, or are broken, are passed over."""
    target = make("model.gguf", "gemma4")
    make("a-other.gguf", ASSISTANT, embedding_length_out=32)
    make("b-model.gguf", "llama")
    make("b-old.gguf", "gemma4_assistant")
    (target.path.parent / "c-broken.gguf").write_bytes(b"GGUF\3\0\0\0")
    (target.path.parent / "c-text.gguf").write_text("hello")
    (target.path.parent / "c-folder.gguf").mkdir()
    expected = make("d.gguf", ASSISTANT)
    make("e.gguf", ASSISTANT)
    assert find_assistant(target) == expected.path


def test_assistant_in_the_mtp_folder_is_found(make: Make, tmp_path: Path) -> None:
    """Where unsloth puts them."""
    (tmp_path / "MTP").mkdir()
    expected = make("MTP/mtp-x.gguf", ASSISTANT)
    assert find_assistant(make("model.gguf", "gemma4")) == expected.path


def test_nothing_is_found_where_nothing_fits(make: Make) -> None:
    """Nor is an assistant offered to another kind of model."""
    assert find_assistant(make("model.gguf", "gemma4")) is None
    make("d.gguf", ASSISTANT)
    assert find_assistant(make("qwen.gguf", "qwen2")) is None


def test_built_in_target_has_the_built_in_assistant() -> None:
    """By whatever path it is reached."""
    header = GgufHeader(TINY_TARGET.parent / ".." / "models" / TINY_TARGET.name, {}, {}, ())
    assert find_assistant(header) == TINY_ASSISTANT
