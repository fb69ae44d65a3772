"""Laws of choosing files of a repository, on the listings in ``listings/``: a model is a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localspec.errors import ModelNotFoundError
from localspec.models.hub.choose import (
    Chosen,
    HubFile,
    choose_drafter,
    choose_model,
    choose_named_drafter,
    is_drafter,
    is_model,
    quant_of,
)
from localspec.models.hub.names import (
    GEMMA_4,
    HubName,
    drafter_repositories,
    gemma_4_size,
    names_heads,
    needs_converting,
    parse_name,
)
from localspec.models.recommended import RECOMMENDED, RecommendedPair
from tests.helpers.listing import LISTINGS

NO_MODEL = re.compile(r"mmproj|imatrix|eagle3-|dflash-|dspark-|assistant|(^|/)mtp|-MTP\.gguf", re.IGNORECASE)


def model(repo: str, quant: str | None = None) -> Chosen:
    return choose_model(LISTINGS[repo], HubName(repo, quant))


def paths(chosen: Chosen | None) -> list[str]:
    return [file.path for file in chosen.files] if chosen else []


def of(*names: str) -> tuple[HubFile, ...]:
    return tuple(HubFile(name, 10 * i) for i, name in enumerate(names, 1))


# For each target and quant, the files.

TABLE = [
    ("ggml-org/gemma-4-E2B-it-GGUF", None, "gemma-4-E2B-it-Q8_0.gguf", "mtp-gemma-4-E2B-it-Q8_0.gguf"),
    ("ggml-org/gemma-4-E4B-it-GGUF", "q4_0", "gemma-4-E4B-it-Q4_0.gguf", "mtp-gemma-4-E4B-it-Q8_0.gguf"),
    ("ggml-org/gemma-4-12B-it-GGUF", "BF16", "gemma-4-12B-it-BF16.gguf", "mtp-gemma-4-12B-it-Q8_0.gguf"),
    ("ggml-org/gemma-4-26B-A4B-it-GGUF", "Q4_0", "gemma-4-26B-A4B-it-Q4_0.gguf", "mtp-gemma-4-26B-A4B-it-Q4_0.gguf"),
    ("ggml-org/gemma-4-31B-it-GGUF", "Q8_0", "gemma-4-31B-it-Q8_0.gguf", "mtp-gemma-4-31B-it-Q8_0.gguf"),
    ("unsloth/gemma-4-E2B-it-GGUF", None, "gemma-4-E2B-it-Q4_K_M.gguf", "MTP/mtp-gemma-4-E2B-it-Q8_0.gguf"),
    ("unsloth/gemma-4-E4B-it-GGUF", "IQ4_XS", "gemma-4-E4B-it-IQ4_XS.gguf", "MTP/mtp-gemma-4-E4B-it-Q8_0.gguf"),
    ("unsloth/gemma-4-12b-it-GGUF", None, "gemma-4-12b-it-Q4_K_M.gguf", "MTP/gemma-4-12b-it-Q8_0-MTP.gguf"),
    ("unsloth/gemma-4-26B-A4B-it-GGUF", None, "gemma-4-26B-A4B-it-UD-Q4_K_M.gguf", "mtp-gemma-4-26B-A4B-it.gguf"),
    ("unsloth/gemma-4-26B-A4B-it-GGUF", "mxfp4_moe", "gemma-4-26B-A4B-it-MXFP4_MOE.gguf",
     "mtp-gemma-4-26B-A4B-it.gguf"),
    ("unsloth/gemma-4-31B-it-GGUF", "Q4_K_XL", "gemma-4-31B-it-UD-Q4_K_XL.gguf", "MTP/mtp-gemma-4-31B-it-Q8_0.gguf"),
    ("unsloth/gemma-4-E4B-it-qat-GGUF", "UD-Q4_K_XL", "gemma-4-E4B-it-qat-UD-Q4_K_XL.gguf",
     "MTP/mtp-gemma-4-E4B-it-Q4_0.gguf"),
    ("unsloth/gemma-4-E4B-it-qat-GGUF", None, "gemma-4-E4B-it-qat-UD-Q2_K_XL.gguf", "MTP/mtp-gemma-4-E4B-it-Q4_0.gguf"),
    ("bartowski/google_gemma-4-31B-it-GGUF", None, "google_gemma-4-31B-it-Q4_K_M.gguf",
     "mtp-google_gemma-4-31B-it-Q8_0.gguf"),
    ("bartowski/google_gemma-4-26B-A4B-it-GGUF", "IQ3_XXS", "google_gemma-4-26B-A4B-it-IQ3_XXS.gguf",
     "mtp-google_gemma-4-26B-A4B-it-Q4_0.gguf"),
    ("google/gemma-4-31B-it-qat-q4_0-gguf", None, "gemma-4-31B_q4_0-it.gguf", None),
    ("google/gemma-4-12B-it-qat-q4_0-gguf", "Q4_0", "gemma-4-12b-it-qat-q4_0.gguf", None),
    ("lmstudio-community/gemma-4-31B-it-GGUF", "Q6_K", "gemma-4-31B-it-Q6_K.gguf", None),
    ("LiquidAI/LFM2.5-VL-3B-GGUF", None, "LFM2.5-VL-3B-Q4_K_M.gguf", None),
    ("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF", None, "qwen2.5-coder-7b-instruct-q4_k_m.gguf", None),
    ("unsloth/Qwen3.6-35B-A3B-MTP-GGUF", None, "Qwen3.6-35B-A3B-Q8_0.gguf", None),
]  # fmt: skip


@pytest.mark.parametrize(("repo", "quant", "file", "drafter"), TABLE, ids=[f"{row[0]}:{row[1]}" for row in TABLE])
def test_files_of_known_repositories(repo: str, quant: str | None, file: str, drafter: str | None) -> None:
    """The model, and the drafter beside it."""
    chosen = model(repo, quant)
    assert paths(chosen) == [file]
    assert paths(choose_drafter(LISTINGS[repo], chosen)) == ([drafter] if drafter else [])


@pytest.mark.parametrize("repo", LISTINGS)
def test_every_quant_of_every_listing(repo: str) -> None:
    """The choice is a whole model of the requested quant; its drafter is a drafter of its size."""
    listing, found = LISTINGS[repo], 0
    for quant in {quant_of(file.path) for file in listing}:
        try:
            chosen = model(repo, quant)
        except ModelNotFoundError:
            continue
        assert not any(NO_MODEL.search(path) for path in paths(chosen))
        assert quant is None or (chosen.quant or "").endswith(quant)
        assert chosen.size == sum(file.size for file in listing if file.path in paths(chosen))
        found += 1
        drafter = choose_drafter(listing, chosen)
        assert drafter is None or all(NO_MODEL.search(path) for path in paths(drafter))
        assert drafter is None or gemma_4_size(drafter.first.path) == gemma_4_size(chosen.first.path)
    assert found or all(NO_MODEL.search(file.path) for file in listing if file.path.endswith(".gguf"))


@pytest.mark.parametrize("size", GEMMA_4.values())
def test_google_file_gets_its_drafter_from_another_repository(size: str) -> None:
    """The first on the list that has one: the drafter that was trained with it."""
    repo = f"google/gemma-4-{size}-it-qat-q4_0-gguf"
    target = model(repo)
    found = [other for other in drafter_repositories(HubName(repo)) if choose_drafter(LISTINGS[other], target)]
    assert found[0] == f"unsloth/gemma-4-{size}-it-qat-GGUF"
    assert paths(choose_drafter(LISTINGS[found[0]], target)) == [f"MTP/mtp-gemma-4-{size}-it-Q4_0.gguf"]


@pytest.mark.parametrize("repo", [repo for repo in LISTINGS if needs_converting(repo)])
def test_safetensors_say_to_convert(repo: str) -> None:
    """Of a drafter or of a target."""
    with pytest.raises(ModelNotFoundError, match=r"safetensors.*localspec convert"):
        model(repo)


@pytest.mark.parametrize("pair", RECOMMENDED[1:], ids=lambda pair: pair.target)
def test_recommended_pairs_are_what_their_names_mean(pair: RecommendedPair) -> None:
    """File by file, and within a per cent of the size. Heads in the target's file are no file of their own."""
    name = parse_name(pair.target)
    assert name is not None
    target = choose_model(LISTINGS[name.repo], name)
    drafter = choose_drafter(LISTINGS[name.repo], target)
    assert (target.first.path, drafter.first.path if drafter else "") == (pair.target_file, pair.drafter_file)
    assert bool(pair.drafter_file) != names_heads(pair.repo)
    assert pair.download == pair.target_size + (pair.drafter_size if drafter else 0)
    assert abs(target.size / pair.target_size - 1) < 0.01


# A quant.


@pytest.mark.parametrize("tag", ["Q4_K_M", "q4_k_m", "Q4_K_m"])
def test_quant_in_any_case(tag: str) -> None:
    """llama.cpp does the same."""
    assert paths(choose_model(of("a-Q8_0.gguf", "a.q4_k_m.gguf"), HubName("u/r", tag))) == ["a.q4_k_m.gguf"]


@pytest.mark.parametrize(("tag", "file"), [("F16", "a-F16.gguf"), ("Q4_K", "a-Q4_K.gguf"), ("Q2_K", "a-Q2_K.gguf")])
def test_quant_is_not_part_of_another(tag: str, file: str) -> None:
    """On its left as on its right: ``F16`` is not ``BF16``."""
    listing = of("a-BF16.gguf", "a-IQ2_K.gguf", "a-Q4_K_M.gguf", file)
    assert paths(choose_model(listing, HubName("u/r", tag))) == [file]


def test_exact_quant_goes_before_one_that_holds_it() -> None:
    """In either order."""
    for listing in (of("a-UD-Q4_K_M.gguf", "a-Q4_K_M.gguf"), of("a-Q4_K_M.gguf", "a-UD-Q4_K_M.gguf")):
        assert paths(choose_model(listing, HubName("u/r", "Q4_K_M"))) == ["a-Q4_K_M.gguf"]
        assert paths(choose_model(listing, HubName("u/r", "UD-Q4_K_M"))) == ["a-UD-Q4_K_M.gguf"]


def test_root_goes_before_a_folder() -> None:
    """An older upload that was moved there."""
    listing = of("old/a-Q4_0.gguf", "a-v2-Q4_0.gguf", "old/b-Q8_0.gguf")
    assert paths(choose_model(listing, HubName("u/r", "Q4_0"))) == ["a-v2-Q4_0.gguf"]
    assert paths(choose_model(listing, HubName("u/r", "Q8_0"))) == ["old/b-Q8_0.gguf"]


def test_other_tags_match_between_boundaries() -> None:
    """llama.cpp checks the right boundary only."""
    assert paths(choose_model(of("a-bit.gguf", "b-it.gguf", "c-itx.gguf"), HubName("u/r", "IT"))) == ["b-it.gguf"]


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["b-Q8_0.gguf", "a-Q4_K_M.gguf"], "a-Q4_K_M.gguf"),
        (["c-Q2_K.gguf", "b-Q8_0.gguf"], "b-Q8_0.gguf"),
        (["c-Q2_K.gguf", "a-Q6_K.gguf"], "c-Q2_K.gguf"),
        (["mmproj-F16.gguf", "mtp-Q8_0.gguf", "z.gguf"], "z.gguf"),
    ],
)
def test_no_quant_is_q4_k_m_then_q8_0_then_the_first(names: list[str], first: str) -> None:
    """llama.cpp has the same order."""
    assert paths(choose_model(of(*names), HubName("u/r"))) == [first]


def test_missing_quant_lists_what_there_is_with_sizes() -> None:
    """Smallest first, with a name to give."""
    with pytest.raises(ModelNotFoundError) as caught:
        model("ggml-org/gemma-4-E2B-it-GGUF", "Q5_K_M")
    assert str(caught.value) == (
        "ggml-org/gemma-4-E2B-it-GGUF has no quant Q5_K_M. It has Q4_0 (2.8 GB), Q8_0 (5.0 GB), BF16 (9.3 GB); "
        "give ggml-org/gemma-4-E2B-it-GGUF:Q4_0, for example."
    )


def test_ambiguous_quant_lists_the_files() -> None:
    """By path, because their quants are equal; a name from that list is found."""
    listing = of("x-Q4_0.gguf", "y-Q4_0.gguf", "z-Q8_0.gguf")
    with pytest.raises(ModelNotFoundError, match=r"one of several.*x-Q4_0\.gguf \(0 kB\), y-Q4_0.*give u/r/") as caught:
        choose_model(listing, HubName("u/r", "Q4_0"))
    name = parse_name(re.findall(r"give (\S+),", str(caught.value))[0])
    assert name is not None
    assert paths(choose_model(listing, name)) == [name.file]


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("gemma-4-31B_q4_0-it.gguf", "Q4_0"), ("a-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"), ("a.i1-IQ3_XXS.gguf", "IQ3_XXS"),
        ("BF16/a-BF16-00001-of-00002.gguf", "BF16"), ("a-MXFP4_MOE.gguf", "MXFP4_MOE"), ("a-fp16.gguf", "FP16"),
        ("Q8_0/a.gguf", None), ("model.gguf", None), ("qwen2.5-q8_0.gguf", "Q8_0"), ("mtp-gemma-4-E2B-it.gguf", None),
        ("Gemma-4-E2B-it-qat-assistant-MTP-Q8_0.gguf", "Q8_0"), ("gemma-4-12b-it-Q8_0-MTP.gguf", "Q8_0"),
    ],
)  # fmt: skip
def test_quant_of_a_name(path: str, quant: str | None) -> None:
    """At any place in it."""
    assert quant_of(path) == quant


# What is a model.


@pytest.mark.parametrize(
    "path",
    [
        "mmproj-F16.gguf", "a-mmproj-Q8_0.gguf", "qwen.BF16-mmproj.gguf", "MMPROJ-a.gguf", "a-imatrix.gguf",
        "imatrix_unsloth.gguf", "mtp-a-Q8_0.gguf", "MTP-a.gguf", "MTP/a.gguf", "x/mtp/a-Q4_0.gguf", "a-mtp-b.gguf",
        "eagle3-a.gguf", "a-EAGLE3-b.gguf", "dflash-a.gguf", "LFM2.5-VL-3B-DSpark-F16.gguf", "dspark-a.gguf",
        "gemma-4-E4B-it-assistant.Q4_K_M.gguf", "Gemma-4-12B-it-qat-assistant-MTP-Q8_0.gguf", "a.safetensors",
        "gemma-4-12b-it-MTP-Q8_0.gguf", "gguf", "README.md",
    ],
)  # fmt: skip
def test_never_a_model(path: str) -> None:
    """Projectors, importance matrices, heads; a name alone is not enough to make one a drafter either."""
    assert not is_model(path)
    with pytest.raises(ModelNotFoundError):
        choose_model(of(path), HubName("u/r"))
    with pytest.raises(ModelNotFoundError):
        choose_model(of(path), HubName("u/r", file=path))


@pytest.mark.parametrize(
    "path",
    [
        "Qwen3.6-35B-A3B-MTP-UD-Q4_K_XL.gguf", "Qwen3.8-27B-NVFP4-MTP-HIGHEST.gguf", "smtp/model.gguf", "a.GGUF",
        "open-assistant-7b-Q4_0.gguf", "gemma-3-4b-it-Q4_0.gguf", "BF16/gemma-4-31B-it-BF16-00001-of-00001.gguf",
    ],
)  # fmt: skip
def test_always_a_model(path: str) -> None:
    """A filter that ate one would be worse."""
    assert is_model(path)
    assert not is_drafter(path)
    assert paths(choose_model(of(path), HubName("u/r"))) == [path]


def test_repository_of_drafters_has_no_model() -> None:
    """For any file names; the message names the target's repository."""
    for repo in ("AtomicChat/gemma-4-E4B-it-assistant-GGUF", "boxwrench/gemma-4-qat-mtp-assistant-heads"):
        with pytest.raises(ModelNotFoundError, match="holds only drafters; give it with -d"):
            model(repo)
    with pytest.raises(ModelNotFoundError, match="only drafters"):
        choose_model(of("model-Q8_0.gguf"), HubName("u/gemma-4-12B-assistant-GGUF"))


# Splits.

PARTS = ["a-Q8_0-00001-of-00003.gguf", "a-Q8_0-00002-of-00003.gguf", "a-Q8_0-00003-of-00003.gguf"]


@given(st.permutations([*PARTS, "a-Q4_0.gguf", "b-Q8_0-00001-of-00002.gguf"]))
def test_split_is_a_set_in_order(names: Sequence[str]) -> None:
    """For any order of the listing and any named part."""
    listing = tuple(HubFile(name, len(name)) for name in names)
    for part in PARTS:
        chosen = choose_model(listing, HubName("u/r", file=part))
        assert paths(chosen) == PARTS
        assert chosen.size == sum(map(len, PARTS))


@pytest.mark.parametrize("gone", range(3))
def test_split_that_lacks_a_part_is_refused(gone: int) -> None:
    """By the number of the part."""
    listing = of(*(part for i, part in enumerate(PARTS) if i != gone))
    with pytest.raises(ModelNotFoundError, match=rf"lacks part {gone + 1} of 3 of a-Q8_0"):
        choose_model(listing, HubName("u/r"))


def test_splits_of_another_count_are_others() -> None:
    """An old and a new upload side by side."""
    listing = of("a-Q8_0-00001-of-00002.gguf", *PARTS, "a-Q8_0-00002-of-00002.gguf")
    assert len(choose_model(listing, HubName("u/r")).files) == 2


# A named file.


def test_named_file_is_found_in_its_folder_or_by_its_name() -> None:
    """If the name has that much."""
    listing = of("x/a.gguf", "x/b.gguf", "y/b.gguf")
    assert paths(choose_model(listing, HubName("u/r", file="a.gguf"))) == ["x/a.gguf"]
    assert paths(choose_model(listing, HubName("u/r", file="y/b.gguf"))) == ["y/b.gguf"]
    with pytest.raises(ModelNotFoundError, match=r"u/r has no file b\.gguf\. It has x/a\.gguf"):
        choose_model(listing, HubName("u/r", file="b.gguf"))


# Drafters.


def test_asked_for_quant_of_a_drafter() -> None:
    """Or what there is."""
    repo = "unsloth/gemma-4-E2B-it-GGUF"
    target = model(repo)
    assert paths(choose_drafter(LISTINGS[repo], target, "bf16")) == ["MTP/mtp-gemma-4-E2B-it-BF16.gguf"]
    with pytest.raises(ModelNotFoundError, match=r"no quant Q2_K.*Q8_0"):
        choose_drafter(LISTINGS[repo], target, "Q2_K")


def test_drafter_of_another_size_is_not_taken() -> None:
    """A head of another kind is not taken either."""
    target = Chosen(of("gemma-4-31B-it-Q4_0.gguf"))
    listing = of("mtp-gemma-4-E2B-it-Q8_0.gguf", "eagle3-gemma-4-31B.gguf", "dspark-gemma-4-31B.gguf")
    assert choose_drafter(listing, target) is None
    heads = LISTINGS["boxwrench/gemma-4-qat-mtp-assistant-heads"]
    assert paths(choose_drafter(heads, target)) == ["gemma-4-31B-it-qat-assistant-Q8_0.gguf"]


@pytest.mark.parametrize(
    ("repo", "quant", "file"),
    [
        ("AtomicChat/gemma-4-E4B-it-assistant-GGUF", None, "gemma-4-E4B-it-assistant.Q8_0.gguf"),
        ("AtomicChat/gemma-4-E4B-it-assistant-GGUF", "Q4_K_M", "gemma-4-E4B-it-assistant.Q4_K_M.gguf"),
        ("ggml-org/gemma-4-E2B-it-GGUF", None, "mtp-gemma-4-E2B-it-Q8_0.gguf"),
        ("unsloth/gemma-4-12B-it-qat-GGUF", None, "MTP/mtp-gemma-4-12B-it-Q4_0.gguf"),
        ("unsloth/gemma-4-E2B-it-GGUF", "Q4_K_M", "gemma-4-E2B-it-Q4_K_M.gguf"),
        ("Qwen/Qwen2.5-Coder-7B-Instruct-GGUF", "q4_0", "qwen2.5-coder-7b-instruct-q4_0.gguf"),
    ],
)
def test_named_drafter_is_an_assistant_or_a_model(repo: str, quant: str | None, file: str) -> None:
    """An assistant if there is one of that quant; a file by its name."""
    assert paths(choose_named_drafter(LISTINGS[repo], HubName(repo, quant))) == [file]
    assert paths(choose_named_drafter(LISTINGS[repo], HubName(repo, file=file))) == [file]


def test_named_repository_of_several_targets_heads() -> None:
    """Is settled by the target, else by the user."""
    repo = "boxwrench/gemma-4-qat-mtp-assistant-heads"
    with pytest.raises(ModelNotFoundError, match="one of several"):
        choose_named_drafter(LISTINGS[repo], HubName(repo))
    target = Chosen(of("gemma-4-26B_q4_0-it.gguf"))
    chosen = choose_named_drafter(LISTINGS[repo], HubName(repo), target)
    assert paths(chosen) == ["gemma-4-26B-A4B-it-qat-assistant-Q8_0.gguf"]


def test_projector_is_no_drafter() -> None:
    """Even by its name."""
    with pytest.raises(ModelNotFoundError, match="no language model"):
        choose_named_drafter(of("mmproj-F16.gguf", "a.gguf"), HubName("u/r", file="mmproj-F16.gguf"))


# Any mixture.

STEM = st.sampled_from(["gemma-4-E2B-it", "google_gemma-4-31B-it", "qwen2.5-7b", "m", "gemma-4-12b-it-qat", "Phi-4"])
QUANTS = ["Q4_K_M", "Q8_0", "UD-Q4_K_M", "BF16", "q4_0", "MXFP4_MOE", "IQ2_XXS"]
MARK = st.sampled_from(
    ["mmproj-{}", "{}-mmproj", "mtp-{}", "MTP/{}", "MTP/mtp-{}", "eagle3-{}", "dflash-{}", "dspark-{}", "{}-DSpark-x",
     "{}-imatrix", "imatrix_{}", "gemma-4-{}-assistant", "Mtp-{}"]
)  # fmt: skip
PLAIN = st.builds(lambda stem, sep, quant: stem + sep + quant, STEM, st.sampled_from("-."), st.sampled_from(QUANTS))
MODELS = st.one_of(
    PLAIN.map(lambda name: [f"{name}.gguf"]),
    PLAIN.map(lambda name: [f"BF16/{name}-{i:05d}-of-00003.gguf" for i in (1, 2, 3)]),
    PLAIN.map(lambda name: [f"{name}-00002-of-00002.gguf"]),
)
OTHERS = st.builds(lambda mark, name: [f"{mark.format(name)}.gguf"], MARK, PLAIN)


@settings(max_examples=200)
@given(
    st.lists(MODELS, max_size=5),
    st.lists(OTHERS, max_size=6),
    st.sampled_from([None, *QUANTS, "F16"]),
    st.randoms(),
)
def test_no_mixture_gives_a_drafter_for_a_model(
    models: list[list[str]], others: list[list[str]], quant: str | None, random: Random
) -> None:
    """The choice is one of the models, whole and in order, of the quant; or an error of one sentence."""
    names = sorted({name for group in [*models, *others] for name in group})
    random.shuffle(names)
    listing = tuple(HubFile(name, 1) for name in names)
    try:
        chosen = choose_model(listing, HubName("u/r", quant))
    except ModelNotFoundError:
        return
    assert sorted(paths(chosen)) in [sorted(group) for group in models]
    assert paths(chosen) == sorted(paths(chosen))
    assert quant is None or (chosen.quant or "").upper().endswith(quant.upper())
    drafter = choose_drafter(listing, chosen)
    assert drafter is None or [*paths(drafter)] in others


@given(st.lists(PLAIN.map(lambda name: f"{name}.gguf"), min_size=1, unique=True))
def test_what_is_offered_can_be_had(names: list[str]) -> None:
    """The name at the end of the sentence means a file of the listing."""
    listing = tuple(HubFile(name, 1) for name in names)
    with pytest.raises(ModelNotFoundError) as caught:
        choose_model(listing, HubName("u/r", "NONE"))
    name = parse_name(re.findall(r"give (\S+), for example", str(caught.value))[0])
    assert name is not None
    assert set(paths(choose_model(listing, name))) <= set(names)
