"""Laws of names on the Hub: what is typed, what it means, and that it reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.errors import ModelNotFoundError
from localspec.models.hub.names import (
    GEMMA_4,
    HubName,
    drafter_repositories,
    gemma_4_size,
    is_drafter_repository,
    names_heads,
    needs_converting,
    parse_name,
)
from localspec.models.recommended import RECOMMENDED, RecommendedPair

FILE = "unsloth/gemma-4-E2B-it-GGUF/MTP/mtp-gemma-4-E2B-it-Q8_0.gguf"
ON_FILE = HubName("unsloth/gemma-4-E2B-it-GGUF", file="MTP/mtp-gemma-4-E2B-it-Q8_0.gguf")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user/repo", HubName("user/repo")),
        ("user/repo:Q4_K_M", HubName("user/repo", "Q4_K_M")),
        ("user/repo:UD-Q4_K_XL", HubName("user/repo", "UD-Q4_K_XL")),
        ("user/repo:latest", HubName("user/repo")),
        ("user/repo:a-Q4_0.gguf", HubName("user/repo", file="a-Q4_0.gguf")),
        ("user/repo/file.GGUF", HubName("user/repo", file="file.GGUF")),
        ("a/b:c.d-e", HubName("a/b", "c.d-e")),
        (FILE, ON_FILE),
        (f"https://huggingface.co/{ON_FILE.repo}/blob/main/{ON_FILE.file}", ON_FILE),
        (f"https://huggingface.co/{ON_FILE.repo}/resolve/main/{ON_FILE.file}?download=true", ON_FILE),
        (f"HTTPS://www.HuggingFace.co/{ON_FILE.repo}/raw/main/{ON_FILE.file}#top", ON_FILE),
        (f"hf.co/{FILE}", ON_FILE),
        (f"hf://{FILE}", ON_FILE),
        ("https://huggingface.co/user/repo", HubName("user/repo")),
        ("https://huggingface.co/user/repo/tree/main", HubName("user/repo")),
        ("https://huggingface.co/user/repo/tree/main/MTP", HubName("user/repo")),
        ("huggingface.co/user/repo/", HubName("user/repo")),
        ("huggingface.co/user/repo/blob/main/", HubName("user/repo")),
        ("hf.co/user/repo:Q8_0", HubName("user/repo", "Q8_0")),
        ("https://hf.co/user/repo/blob/main/a%20b.gguf", HubName("user/repo", file="a b.gguf")),
    ],
)
def test_name_on_the_hub(text: str, name: HubName) -> None:
    """In all the ways that people write one."""
    assert parse_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "", "tiny", "model.gguf", "folder/model.gguf", "./a/b", "../a/b", "./a/b/c.gguf", "/a/b", "/a/b/c.gguf",
        "~/a/b", "a/b/c", "a/b/c.bin", "a/b/../c.gguf", "a/b//c.gguf", "a/b/./c.gguf", "C:/m/x.gguf", "C:\\m\\x.gguf",
        "a\\b\\c.gguf", "a/b:", "a/b:Q4 0", "a/b c", "a b/c", "a/-b", "a/b--c", "a/b..c", "a/" + 97 * "b",
        "a/b\0c/d.gguf", "e2b", "12b:Q4_0", "gemma-4-27b", "gemma-3-12b", "http/", "a/b/c\n.gguf",
    ],
)  # fmt: skip
def test_only_a_path(text: str) -> None:
    """A text that cannot be a repository's name is a path."""
    assert parse_name(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/user/repo", "ftp://huggingface.co/a/b", "https://huggingface.co/", "hf.co/user",
        "hf.co/datasets/user/repo", "https://huggingface.co/spaces/user/demo", "hf.co/a/b/settings",
    ],
)  # fmt: skip
def test_address_of_no_model(text: str) -> None:
    """Is an error with what to give, not a missing file."""
    with pytest.raises(ModelNotFoundError, match="give user/repo"):
        parse_name(text)


def test_address_of_another_revision_is_not_taken_for_the_newest() -> None:
    """With the name that would be."""
    with pytest.raises(ModelNotFoundError, match=r"revision 'v1'.*give a/b/c\.gguf"):
        parse_name("https://huggingface.co/a/b/resolve/v1/c.gguf")


@pytest.mark.parametrize("typed", GEMMA_4)
@pytest.mark.parametrize("form", ["gemma-4-{}", "GEMMA-4-{}", "gemma4-{}", "gemma-4-{}-it"])
def test_short_names_of_the_family(typed: str, form: str) -> None:
    """Each size, in any case, with a quant or none: a repository of that size."""
    short = form.format(typed)
    plain = parse_name(short)
    assert plain is not None
    assert plain.quant is None
    assert gemma_4_size(plain.repo) == GEMMA_4[typed]
    assert parse_name(f"{short}:Q8_0") == HubName(plain.repo, "Q8_0")


@pytest.mark.parametrize("typed", GEMMA_4)
def test_short_names_of_the_weights_trained_for_four_bits(typed: str) -> None:
    """Their quant is named, since the first of the listing would be one of two bits."""
    name = parse_name(f"gemma-4-{typed}-qat")
    assert name is not None
    assert name.quant == "UD-Q4_K_XL"
    assert "-qat-" in name.repo
    assert parse_name(f"gemma-4-{typed}-qat:UD-Q2_K_XL") == HubName(name.repo, "UD-Q2_K_XL")


PART = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,20}[A-Za-z0-9_])?", fullmatch=True).filter(
    lambda part: "--" not in part and ".." not in part
)
REPO = (
    st.tuples(PART, PART)
    .map("/".join)
    .filter(
        lambda repo: not repo.lower().endswith(".gguf") and not repo.lower().startswith(("hf.co/", "huggingface.co/"))
    )
)
QUANT = st.from_regex(r"[A-Za-z0-9_]{1,12}", fullmatch=True).filter(lambda quant: quant.lower() != "latest")
FOLDER = st.from_regex(r"[A-Za-z0-9 _.-]{1,10}", fullmatch=True).filter(lambda part: part not in (".", ".."))
NAMES = st.one_of(
    st.builds(HubName, REPO),
    st.builds(HubName, REPO, QUANT),
    st.builds(
        lambda repo, folders, base: HubName(repo, file="/".join([*folders, f"{base}.gguf"])),
        REPO, st.lists(FOLDER, max_size=2), FOLDER,
    ),
)  # fmt: skip


@given(NAMES)
def test_canonical_name_reads_back(name: HubName) -> None:
    """It parses to the same name, also as a URL."""
    assert parse_name(str(name)) == name
    assert parse_name(f"https://hf.co/{name}") == name


@given(st.text(max_size=60))
def test_any_text_is_a_name_a_path_or_one_sentence(text: str) -> None:
    """Never another error; what is a name reads back."""
    try:
        name = parse_name(text)
    except ModelNotFoundError:
        return
    assert name is None or parse_name(str(name)) == name


# Where else a drafter may be.


@pytest.mark.parametrize("size", GEMMA_4.values())
def test_drafter_repositories_are_of_the_size_and_convert_last(size: str) -> None:
    """Prebuilt ones first; never the target's own; none of another size."""
    own = HubName(f"lmstudio-community/gemma-4-{size}-it-GGUF")
    found = drafter_repositories(own)
    assert own.repo not in found
    assert {gemma_4_size(repo) for repo in found} == {size}
    assert [needs_converting(repo) for repo in found] == [False] * (len(found) - 1) + [True]
    assert found[-1] == f"google/gemma-4-{size}-it-assistant"
    assert HubName(found[0]).repo not in drafter_repositories(HubName(found[0]))


def test_drafter_of_weights_trained_for_four_bits_was_trained_with_them() -> None:
    """Google's file has no drafter beside it; the one that was trained so comes first, to convert it last."""
    found = drafter_repositories(HubName("google/gemma-4-31B-it-qat-q4_0-gguf", file="gemma-4-31B_q4_0-it.gguf"))
    assert found[0] == "unsloth/gemma-4-31B-it-qat-GGUF"
    assert found[-1] == "google/gemma-4-31B-it-qat-q4_0-unquantized-assistant"
    assert needs_converting(found[-1])


@pytest.mark.parametrize("repo", ["Qwen/Qwen2.5-7B-GGUF", "user/gemma-3-12b-GGUF", "user/gemma-4-27b"])
def test_other_models_have_no_assistants(repo: str) -> None:
    """None is guessed."""
    assert drafter_repositories(HubName(repo)) == ()


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("google_gemma-4-26B-A4B-it", "26B-A4B"), ("gemma-4-26B_q4_0-it.gguf", "26B-A4B"),
        ("gemma-4-E4B_q4_0-it", "E4B"), ("Gemma4-12b-coder", "12B"), ("gemma-4-31B", "31B"),
        ("gemma-4-e2bx", None), ("gemma-3-12b", None), ("qwen-31b", None),
    ],
)  # fmt: skip
def test_size_in_a_name(text: str, size: str | None) -> None:
    """In every spelling."""
    assert gemma_4_size(text) == size


def test_repositories_of_assistants_are_known_by_their_name() -> None:
    """Of Gemma 4: others' assistants are chat models."""
    assert is_drafter_repository("AtomicChat/gemma-4-E4B-it-assistant-GGUF")
    assert not is_drafter_repository("OpenAssistant/llama-assistant-GGUF")
    assert not is_drafter_repository("unsloth/gemma-4-E4B-it-GGUF")


@pytest.mark.parametrize("pair", RECOMMENDED[1:], ids=lambda pair: pair.target)
def test_recommended_names_are_names(pair: RecommendedPair) -> None:
    """They parse to the repository of the table."""
    name = parse_name(pair.target)
    assert name is not None
    assert name.repo == pair.repo


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("unsloth/Qwen3.5-4B-MTP-GGUF", True),
        ("Qwen3.6-27B-MTP-Q4_K_M.gguf", True),
        ("unsloth/Qwen3.5-4B-GGUF", False),
        ("mtp-Qwen3.5-4B-Q8_0.gguf", False),
        ("user/attempt-GGUF", False),
    ],
)
def test_names_of_models_with_heads(name: str, found: bool) -> None:
    """``-MTP-`` behind the model's name; in front of it stand files of heads alone."""
    assert names_heads(name) is found


def test_heads_are_looked_for_beside_the_repository() -> None:
    """Those of Qwen in the repository with ``-MTP-`` in its name; a model that has heads needs none."""
    assert drafter_repositories(HubName("unsloth/Qwen3.6-27B-GGUF")) == ("unsloth/Qwen3.6-27B-MTP-GGUF",)
    for other in ("unsloth/Qwen3.6-27B-MTP-GGUF", "unsloth/Qwen3-8B-GGUF", "Qwen/Qwen3.5-4B"):
        assert drafter_repositories(HubName(other)) == ()
