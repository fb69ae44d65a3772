"""Laws of what goes with what: decided by the files' headers, with the reason where it does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from localspec.errors import DraftMismatchError, ModelFileError
from localspec.gguf.header import GgufHeader, read_header
from localspec.models import store
from localspec.models.pairing import (
    ASSISTANT,
    assistant_mismatch,
    check_assistant,
    check_pairing,
    drafter_candidates,
    find_drafter,
    is_assistant,
)
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers.support import gguf_file, gguf_tensor
from tests.helpers.vocabularies import WORDS, model_file, trimmed_file

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
    """The check passes."""
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
    """For any sizes."""
    reason = assistant_mismatch(make("t.gguf", architecture), make("d.gguf", ASSISTANT))
    assert reason is not None
    assert repr(architecture) in reason


def test_missing_width_is_a_mismatch(make: Make, tmp_path: Path) -> None:
    """An assistant without the width of its input is not used."""
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
    assert find_drafter(target) == expected.path


def test_assistant_in_the_mtp_folder_is_found(make: Make, tmp_path: Path) -> None:
    """unsloth's repositories have this folder."""
    (tmp_path / "MTP").mkdir()
    expected = make("MTP/mtp-x.gguf", ASSISTANT)
    assert find_drafter(make("model.gguf", "gemma4")) == expected.path


def test_nothing_is_found_where_nothing_fits(make: Make) -> None:
    """An assistant does not fit another kind of model."""
    assert find_drafter(make("model.gguf", "gemma4")) is None
    make("d.gguf", ASSISTANT)
    assert find_drafter(make("qwen.gguf", "qwen2")) is None


def test_built_in_target_has_the_built_in_assistant() -> None:
    """By whatever path it is reached."""
    header = GgufHeader(TINY_TARGET.parent / ".." / "builtin" / TINY_TARGET.name, {}, {}, ())
    assert find_drafter(header) == TINY_ASSISTANT


# The best drafter.


def target_file(folder: Path, weight: int = 8000, **keys: Any) -> GgufHeader:
    return model_file(folder / "target.gguf", weight, **keys)


def kinds(target: GgufHeader, others: list[GgufHeader]) -> list[tuple[str, str | None]]:
    """Names and kinds of those that are found, best first: each is found when the better ones are gone."""
    left, ranked = [header.path for header in others], []
    while best := find_drafter(target, left):
        left.remove(best)
        ranked.append((best.stem, check_pairing(target, read_header(best)).kind))
    return ranked


def test_assistant_goes_before_a_trimmed_drafter_and_that_before_a_model(make: Make, tmp_path: Path) -> None:
    """For any order of the candidates; those that do not fit are not found."""
    keys = {f"{{}}.{key}": value for key, value in TARGET.items()}
    target = target_file(tmp_path, architecture="gemma4", keys=keys, tensor="token_embd.weight")
    assistant = make("assistant.gguf", ASSISTANT, n_vocab=8000)
    other = make("other.gguf", ASSISTANT, n_vocab=8000, embedding_length_out=32)
    small = model_file(tmp_path / "small.gguf", 500)
    trimmed = trimmed_file(tmp_path / "trimmed.gguf", range(5, 900))
    headers = [other, small, trimmed, assistant]
    expected = [("assistant", "mtp"), ("trimmed", "trimmed"), ("small", "model")]
    for order in itertools.permutations(headers):
        assert kinds(target, list(order)) == expected
        assert find_drafter(target, [header.path for header in order]) == assistant.path
    assert find_drafter(target, [small.path, trimmed.path]) == trimmed.path
    assert find_drafter(target, [other.path, small.path]) == small.path
    assert find_drafter(target, [other.path]) is None


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"weight": 4000}, "it reads 50% of the bytes that the target reads"),
        ({"weight": 9000}, "it reads 112% of the bytes"),
        ({"tokens": WORDS[:100]}, "vocabularies have 1500 and 100 tokens"),
        ({"keys": {"model": "llama"}}, "different types"),
        ({"keys": {"{}.pooling_type": 3}}, "embeddings"),
        ({"keys": {"{}.attention.causal": False}}, "embeddings"),
        ({"keys": {".general.type": "mmproj"}}, "no language model"),
        ({"keys": {".general.type": "adapter"}}, "no language model"),
        ({"architecture": "clip"}, "no language model"),
        ({"keys": {".split.no": 1, ".split.count": 2}}, "later part"),
    ],
)
def test_refused_candidate_says_why(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    """It is not found on disk."""
    target = target_file(tmp_path)
    other = model_file(tmp_path / "other.gguf", **{"weight": 500, **changed})
    one = check_pairing(target, other)
    assert one.kind is None
    assert reason in (one.reason or "")
    assert find_drafter(target, [other.path]) is None


def test_target_is_not_its_own_drafter(tmp_path: Path) -> None:
    """By whatever path."""
    target = target_file(tmp_path)
    again = tmp_path / "link.gguf"
    again.symlink_to(target.path)
    reasons = [check_pairing(target, other).reason for other in (target, read_header(again))]
    assert reasons == ["it is the target itself"] * 2
    assert find_drafter(target, [target.path, again]) is None


def test_file_of_an_older_fork_is_refused_with_its_reason(make: Make, tmp_path: Path) -> None:
    """The message says to convert it again; the search skips it."""
    one = check_pairing(make("t.gguf", "gemma4"), old := make("old.gguf", "gemma4_assistant"))
    assert "older fork" in (one.reason or "")
    assert find_drafter(make("t.gguf", "gemma4"), [old.path]) is None


def test_model_of_a_sixteenth_is_the_best(tmp_path: Path) -> None:
    """Nearer to it goes first, on either side; half of the target is none."""
    target = target_file(tmp_path, 16000)
    others = [model_file(tmp_path / f"{weight}.gguf", weight) for weight in (3000, 1100, 1000, 50, 8000)]
    assert kinds(target, others) == [
        ("1000", "model"),
        ("1100", "model"),
        ("3000", "model"),
        ("50", "model"),
    ]
    assert find_drafter(target, [other.path for other in others]) == tmp_path / "1000.gguf"


def test_mixture_reads_the_experts_it_uses(tmp_path: Path) -> None:
    """Such a target reads an eighth of its weights, so a large draft model costs it more."""
    keys = {"{}.expert_count": 8, "{}.expert_used_count": 1}
    target = target_file(tmp_path, keys=keys, tensor="blk.0.ffn_up_exps.weight")
    one = check_pairing(target, model_file(tmp_path / "a.gguf", 500))
    assert "reads 50%" in (one.reason or "")
    assert kinds(target, [model_file(tmp_path / "b.gguf", 100)]) == [("b", "model")]


def test_quants_of_one_assistant(make: Make, tmp_path: Path) -> None:
    """Q8_0, then Q4_0, then others, floats last; the same in the search."""
    target = target_file(tmp_path, architecture="gemma4", keys={f"{{}}.{key}": value for key, value in TARGET.items()})
    others = []
    for name, file_type in (("bf16", 32), ("q4_0", 2), ("q8_0", 7), ("q6_k", 18)):
        keys = {f"{{}}.{key}": value for key, value in DRAFTER.items()} | {".general.file_type": file_type}
        others.append(model_file(tmp_path / f"{name}.gguf", 10, architecture=ASSISTANT, keys=keys))
    assert [name for name, _ in kinds(target, others)] == ["q8_0", "q4_0", "q6_k", "bf16"]
    assert find_drafter(target, [other.path for other in others]) == tmp_path / "q8_0.gguf"


def test_folder_that_comes_first_goes_first(tmp_path: Path) -> None:
    """A drafter beside its target has priority."""
    target = target_file(tmp_path)
    far, near = model_file(tmp_path / "far" / "best.gguf", 500), model_file(tmp_path / "near" / "worse.gguf", 1500)
    assert find_drafter(target, [near.path, far.path]) == near.path
    assert find_drafter(target, [far.path, near.path]) == far.path


def test_damaged_candidates_are_passed_over(tmp_path: Path) -> None:
    """Also one whose damage only the whole header shows."""
    target = target_file(tmp_path)
    whole = model_file(tmp_path / "z.gguf", 700)
    short = model_file(tmp_path / "a.gguf", 500)
    short.path.write_bytes(short.path.read_bytes()[:-100])
    (tmp_path / "b.gguf").write_text("hello")
    (tmp_path / "c.gguf").mkdir()
    candidates = [short.path, tmp_path / "b.gguf", tmp_path / "c.gguf", tmp_path / "gone.gguf", whole.path]
    assert find_drafter(target, candidates) == whole.path


def test_target_in_parts_counts_all_of_them(tmp_path: Path) -> None:
    """Its first part alone is smaller than a good drafter."""
    keys = {".split.count": 2, ".split.no": 0}
    target = model_file(tmp_path / "t-00001-of-00002.gguf", 500, keys=keys)
    later = model_file(tmp_path / "t-00002-of-00002.gguf", 9000, keys={".split.count": 2, ".split.no": 1})
    drafter = model_file(tmp_path / "d.gguf", 600)
    assert kinds(target, [drafter, later]) == [("d", "model")]
    assert find_drafter(target, [later.path, drafter.path]) == drafter.path


def test_most_files_are_hardly_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fifty files, whole headers only of those that are likely, until one fits."""
    read: list[Path] = []

    def recording(path: Path, *, start_only: bool = False) -> GgufHeader:
        read.extend([] if start_only else [path])
        return read_header(path, start_only=start_only)

    monkeypatch.setattr("localspec.models.pairing.read_header", recording)
    target = target_file(tmp_path)
    big = [model_file(tmp_path / f"big{i}.gguf", 5000).path for i in range(20)]
    foreign = [model_file(tmp_path / f"foreign{i}.gguf", 500, keys={"model": "llama"}).path for i in range(20)]
    small = [model_file(tmp_path / f"small{i}.gguf", 500 + 10 * i).path for i in range(10)]
    assert find_drafter(target, [*big, *foreign, *small]) == small[0]
    assert read == [small[0]]
    read.clear()
    embeds = model_file(tmp_path / "embeds.gguf", 500, keys={"{}.pooling_type": 1}).path
    assert find_drafter(target, [*big, *foreign, embeds, target.path]) is None
    assert read == []


def test_candidates_are_what_was_pulled_for_it_then_beside_it_then_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each once."""
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path / "data"))
    target = target_file(tmp_path / "t")
    beside = model_file(tmp_path / "t" / "beside.gguf")
    mtp = model_file(tmp_path / "t" / "MTP" / "mtp.gguf")
    drafter, other = model_file(tmp_path / "d" / "d.gguf"), model_file(tmp_path / "o" / "o.gguf")

    def listed(repo: str, header: GgufHeader, **more: Any) -> None:
        size = header.path.stat().st_size
        store.add(store.StoredModel(repo, None, (store.StoredFile("f.gguf", header.path, size, "0" * 64),), **more))

    listed("u/target", target)
    listed("u/drafter", drafter, role="drafter", draft_of=("u/target",))
    listed("a/other", other)
    found = drafter_candidates(target)
    assert found == [drafter.path, beside.path, target.path, mtp.path, other.path]


def test_built_in_target_finds_the_built_in_assistant() -> None:
    """Before any other candidate."""
    assert find_drafter(read_header(TINY_TARGET), []) == TINY_ASSISTANT
    assert check_pairing(read_header(TINY_TARGET), read_header(TINY_ASSISTANT)).kind == "mtp"
