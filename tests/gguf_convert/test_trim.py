"""Laws of a trimmed file: an ordinary model of fewer tokens, with what is needed to read and write any token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import gguf_convert
from gguf_convert.trimming.kept_tokens import GROUP, Ranking, always_kept, choose, rank
from gguf_convert.trimming.metadata import possible_merges
from localspec.draft.trimmed import TrimmedContext
from localspec.errors import ConvertError, InputError, LocalspecError, ModelFileError, UsageError
from localspec.gguf.header import TRIM_IDS, GgufHeader, is_trimmed, read_header
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.trim_file import read_trim
from localspec.llama.trimmed import LlamaTrimmedContext
from localspec.llama.vocabulary import open_vocabulary
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.params import ContextParams
from localspec.protocols import Outputs
from tests.helpers.trim_models import FAMILIES, KEEP, SIZE, TEXT, whole_model

PARAMS = ContextParams(ctx_size=256, threads=1, device="none")
TOKENS = "tokenizer.ggml.tokens"


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model, and itself trimmed in the tokenizer's own order."""
    folder = tmp_path_factory.mktemp("trim")
    whole = whole_model(folder, request.param)
    gguf_convert.trim(whole, folder / "trimmed.gguf", KEEP)
    return whole, folder / "trimmed.gguf"


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return whole_model(tmp_path_factory.mktemp("qwen"))


def test_logits_are_the_whole_models_bit_for_bit(pair: tuple[Path, Path]) -> None:
    """Of every kept token, whatever was fed; of the text's other tokens as near as the head's input is rounded."""
    whole, trimmed = (LlamaModel(read_header(path), PARAMS) for path in pair)
    trim = read_trim(read_header(pair[1]))
    target = LlamaContext(whole, PARAMS, 256)
    inner = LlamaTrimmedContext(trimmed, PARAMS, 256, trim.embeddings)
    context = TrimmedContext(inner, trim.ids, trim.vocab_size, trim.head.values, trim.softcap)
    ids = whole.vocabulary.tokenize(TEXT, add_special=True)
    rare = sorted(set(ids) - set(trim.ids.tolist()))
    assert rare
    passes: list[tuple[list[int], Outputs]] = [(ids[:-3], "last"), (ids[-3:-1], "last"), (ids[-1:], "all"), (ids, 3)]
    for tokens, outputs in passes:
        expected, found = target.decode(tokens, outputs).copy(), context.decode(tokens, outputs)
        assert found.shape == expected.shape == (len(expected), SIZE)
        assert np.array_equal(found[:, trim.ids], expected[:, trim.ids])
        said = [token for token in rare if token in context.tokens]
        assert np.abs(found[:, said] - expected[:, said]).max(initial=0.0) < 0.02 * np.abs(expected).max()
        assert np.isfinite(found).sum() == len(found) * (len(trim.ids) + len(said))
    assert context.tokens == target.tokens
    for each in (target, inner, whole, trimmed):
        each.close()


def test_it_is_a_model_of_its_own(pair: tuple[Path, Path]) -> None:
    """llama.cpp loads it and reads text with its tokens, which are the kept ones; byte tokens write the rest."""
    trim, model = read_trim(read_header(pair[1])), LlamaModel(read_header(pair[1]), PARAMS)
    with open_vocabulary(read_header(pair[0])) as whole:
        assert [whole.raw_text(i) for i in trim.ids.tolist()] == read_header(pair[1]).strings(TOKENS)
        assert whole.bos < 0 or trim.ids[model.vocabulary.bos] == whole.bos
        assert trim.ids[model.vocabulary.eos] == whole.eos
    found = model.vocabulary.tokenize(TEXT, add_special=False)
    assert b"".join(map(model.vocabulary.piece, found)).decode().strip() == TEXT
    model.close()


def test_what_it_keeps_whatever_the_text(qwen: Path) -> None:
    """Special tokens, end tokens, and enough for each byte."""
    header = read_header(qwen)
    first = always_kept(header)
    kept = set(first.tolist())
    texts = header.strings(TOKENS)
    special = {i for i, kind in enumerate(header.int32s("tokenizer.ggml.token_type")) if kind in (3, 4)}
    assert special <= kept
    assert sum(len(texts[i].decode()) == 1 for i in kept) == 256
    counts = np.zeros(SIZE, np.int64)
    counts[-200:] = 5
    assert kept <= set(choose(header, first, KEEP, Ranking(counts, 1, 1)).tolist())


@given(st.integers(0, 99), st.integers(1, 50), st.integers(300, SIZE - GROUP))
def test_the_most_frequent_are_kept(seed: int, most: int, keep: int) -> None:
    """No token left out occurs more often than one that is kept without need; ties go by id."""
    counts = np.random.default_rng(seed).integers(0, most, SIZE)
    header, first = _QWEN[0]
    found = choose(header, first, keep, Ranking(counts, 1, 1))
    assert len(found) % GROUP == 0
    assert keep <= len(found) < keep + GROUP
    assert (np.diff(found) > 0).all()
    chosen = set(found.tolist()) - set(first.tolist())
    left = set(range(SIZE)) - set(found.tolist())
    assert chosen | left == set(range(SIZE)) - set(first.tolist())
    assert max((counts[i], -i) for i in left) < min((counts[i], -i) for i in chosen)


_QWEN: list[tuple[GgufHeader, NDArray[np.int64]]] = []


@pytest.fixture(autouse=True, scope="module")
def _for_hypothesis(qwen: Path) -> None:
    header = read_header(qwen)
    _QWEN[:] = [(header, always_kept(header))]


def test_a_text_decides_what_is_kept(qwen: Path, tmp_path: Path) -> None:
    """Its words are among the kept tokens, and the report has the share of the text that they cover."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("fqfqfq jxjx " * 50, encoding="utf-8")
    (tmp_path / "text" / "b.bin").write_bytes(b"\0mq" * 50)
    (tmp_path / "text" / ".hidden").write_text("nxnx", encoding="utf-8")
    report = gguf_convert.trim(qwen, tmp_path / "t.gguf", KEEP, [tmp_path / "text"])
    texts = read_header(tmp_path / "t.gguf").strings(TOKENS)
    assert {b"fq", b"jx"} <= set(texts)
    assert b"fq" not in _in_own_order(qwen, tmp_path)
    assert (report.kept, report.vocabulary, report.covered) == (KEEP, SIZE, 1.0)
    assert report.ranking is not None
    assert (report.ranking.files, report.ranking.bytes) == (1, 600)
    assert report.step_bytes[0] < report.step_bytes[1]


def _in_own_order(qwen: Path, folder: Path) -> list[bytes]:
    gguf_convert.trim(qwen, folder / "own.gguf", KEEP)
    return read_header(folder / "own.gguf").strings(TOKENS)


@pytest.mark.parametrize("limit", [100, 5000])
def test_a_long_text_is_read_in_parts(qwen: Path, tmp_path: Path, limit: int) -> None:
    """At most the limit, a share of each file, and every token is counted once."""
    for name in ("a", "b"):
        (tmp_path / name).write_text("the end\n" * 200, encoding="utf-8")
    heard: list[tuple[int, int]] = []
    header = read_header(qwen)
    found = rank(header, [tmp_path], limit, lambda done, total: heard.append((done, total)))
    assert found.bytes <= limit + 2
    with open_vocabulary(header) as vocabulary:
        ids = vocabulary.tokenize("the end\n" * 200, add_special=False)
    if limit == 5000:
        assert found.counts.tolist() == (2 * np.bincount(ids, minlength=SIZE)).tolist()
    assert heard[-1][0] == heard[-1][1]


def test_merges_are_kept_while_they_are_possible() -> None:
    """Parts and result must be there; a part may itself be a space."""
    tokens = [b"a", b"b", b"ab", b" ", b"  ", b"c"]
    assert possible_merges([b"a b", b"b c", b"   ", b"ab c"], tokens) == [b"a b", b"   "]


def test_what_cannot_be_trimmed_is_one_sentence(qwen: Path, tmp_path: Path) -> None:
    """No file is left."""
    gguf_convert.trim(qwen, tmp_path / "t.gguf", KEEP)
    (tmp_path / "none.txt").write_bytes(b"")
    (tmp_path / "bin").write_bytes(b"\0\1")
    out = tmp_path / "x.gguf"
    cases: list[tuple[type[LocalspecError], str, tuple[object, ...]]] = [
        (ConvertError, "trimmed already", (tmp_path / "t.gguf", out)),
        (ConvertError, "100 tokens are too few", (qwen, out, 100)),
        (ConvertError, "nothing to trim", (qwen, out, SIZE)),
        (UsageError, "at least 1", (qwen, out, 0)),
        (ConvertError, "MTP assistant", (TINY_ASSISTANT, out)),
        (ConvertError, "cannot be fed", (TINY_TARGET, out)),
        (ConvertError, "exists", (qwen, qwen, KEEP)),
        (ModelFileError, "not a GGUF", (tmp_path / "bin", out)),
        (InputError, "no text", (qwen, out, KEEP, [tmp_path / "none.txt"])),
        (InputError, "not a text file", (qwen, out, KEEP, [tmp_path / "bin"])),
        (InputError, "cannot be read", (qwen, out, KEEP, [tmp_path / "missing"])),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for kind, sentence, arguments in cases:
        with pytest.raises(kind, match=sentence) as caught:
            gguf_convert.trim(*arguments)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
    with pytest.raises(ConvertError, match="file to read"):
        gguf_convert.trim(qwen, qwen, KEEP, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_file_changed_since_is_refused(qwen: Path, tmp_path: Path) -> None:
    """Cut off behind its tensors, or with a map that is none."""
    out = tmp_path / "t.gguf"
    gguf_convert.trim(qwen, out, KEEP)
    data = out.read_bytes()
    assert is_trimmed(read_header(out))
    out.write_bytes(data[:-100])
    with pytest.raises(ModelFileError, match="trim-draft"):
        read_trim(read_header(out))
    at = data.index(TRIM_IDS.encode()) + len(TRIM_IDS) + 4 + 12
    out.write_bytes(data[:at] + (2**31 - 1).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(ModelFileError, match="map of tokens"):
        read_trim(read_header(out))
