"""Laws of wrong files and wrong options of a load: one error, and llama.cpp never aborts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.engine import Engine
from localspec.errors import (
    BackendError,
    DraftMismatchError,
    InputError,
    ModelError,
    ModelFileError,
    ModelNotFoundError,
    UsageError,
)
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers.child import child
from tests.helpers.support import load_fixed as load


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    """The target alone."""
    with load() as loaded:
        yield loaded


def value_at(data: bytes, key: str) -> int:
    """Offset of the value of ``key``."""
    return data.index(struct.pack("<Q", len(key)) + key.encode()) + 8 + len(key) + 4


def changed(source: Path, to: Path, key: str, value: bytes) -> Path:
    """A copy with other bytes for the value of ``key``."""
    data = bytearray(source.read_bytes())
    at = value_at(data, key)
    data[at : at + len(value)] = value
    to.write_bytes(data)
    return to


def test_missing_file_is_named(tmp_path: Path) -> None:
    """For a target and for a drafter."""
    missing = tmp_path / "no.gguf"
    for pair in ((missing, "none"), ("tiny", missing)):
        with pytest.raises(ModelNotFoundError, match=r"no\.gguf"):
            load(*pair)


def test_text_named_gguf_is_no_model(tmp_path: Path) -> None:
    """For a target and for a drafter."""
    text = tmp_path / "text.gguf"
    text.write_text("Once upon a time")
    for pair in ((text, "none"), ("tiny", text)):
        with pytest.raises(ModelFileError, match="not a GGUF file"):
            load(*pair)


@pytest.mark.parametrize("source", [TINY_TARGET, TINY_ASSISTANT], ids=["target", "assistant"])
@pytest.mark.parametrize("kept", [3, 10, 100, 5000, 0.1, 0.5, 0.9, -1])
def test_truncated_file_is_damaged(tmp_path: Path, source: Path, kept: float) -> None:
    """For any length; llama.cpp does not get the file."""
    data = source.read_bytes()
    part = tmp_path / "part.gguf"
    part.write_bytes(data[: int(len(data) * kept)] if isinstance(kept, float) else data[:kept])
    with pytest.raises(ModelFileError, match=r"damaged or incomplete|not a GGUF file"):
        load(*((part, "none") if source == TINY_TARGET else ("tiny", part)))


@pytest.mark.parametrize("name", ["gemma9", "qwen99", "......"])
def test_unknown_architecture_is_named(tmp_path: Path, name: str) -> None:
    """The message has the file and llama.cpp's message."""
    value = struct.pack("<Q", 6) + name.encode()
    file = changed(TINY_TARGET, tmp_path / "odd.gguf", "general.architecture", value)
    with pytest.raises(ModelFileError, match=r"odd\.gguf") as caught:
        load(file)
    assert name in str(caught.value)


@pytest.mark.parametrize("draft", ["none", "auto", TINY_ASSISTANT])
def test_assistant_is_no_target(draft: str | Path) -> None:
    """The message names the target to use it with."""
    with pytest.raises(ModelFileError, match=r"only drafts.*-d.*-m"):
        load(TINY_ASSISTANT, draft)


def test_assistant_of_another_width_is_refused(tmp_path: Path) -> None:
    """For a wrong width in either file, before llama.cpp would abort."""
    width = struct.pack("<I", 512)
    target = changed(TINY_TARGET, tmp_path / "wide.gguf", "gemma4.embedding_length", width)
    drafter = changed(TINY_ASSISTANT, tmp_path / "other.gguf", "gemma4-assistant.embedding_length_out", width)
    for pair in ((target, TINY_ASSISTANT), ("tiny", drafter)):
        with pytest.raises(DraftMismatchError, match=r"cannot draft for .*512.*-d ngram"):
            load(*pair)


def test_assistant_that_does_not_fit_is_not_found_automatically(tmp_path: Path) -> None:
    """Beside the target lies one of another width: n-gram lookup drafts."""
    target = tmp_path / "model.gguf"
    target.write_bytes(TINY_TARGET.read_bytes())
    width = struct.pack("<I", 512)
    changed(TINY_ASSISTANT, tmp_path / "other.gguf", "gemma4-assistant.embedding_length_out", width)
    with load(target, "auto") as engine:
        assert engine.drafters == ("ngram",)


def test_drafter_of_another_vocabulary_is_refused(tmp_path: Path, plain: Engine) -> None:
    """One token with another text is enough, and it is named."""
    token = plain.tokenize(" there")[0]
    data = TINY_TARGET.read_bytes()
    entry = struct.pack("<Q", 6) + "▁the".encode()
    at = data.index(entry, value_at(data, "tokenizer.ggml.tokens"))
    other = tmp_path / "other.gguf"
    other.write_bytes(data[:at] + entry[:-1] + b"q" + data[at + len(entry) :])
    assert token >= 0
    with pytest.raises(DraftMismatchError, match=r"token \d+ is .*the.* in one and .*thq.* in the other.*-d ngram"):
        load(draft=other)


def without_bos(to: Path) -> Path:
    """A copy without the id of the BOS token that it requires."""
    data = TINY_TARGET.read_bytes()
    to.write_bytes(data.replace(b"tokenizer.ggml.bos_token_id", b"tokenizer.ggml.xos_token_id"))
    return to


U32_LIES = {
    "no layers": ("gemma4.block_count", 0),
    "too many layers": ("gemma4.block_count", 1000),
    "BOS outside the vocabulary": ("tokenizer.ggml.bos_token_id", 2**31),
    "odd rotation": ("gemma4.rope.dimension_count", 7),
}


@pytest.mark.parametrize("lie", [*U32_LIES, "BOS not named"])
def test_file_that_llama_cpp_would_abort_on_is_refused(tmp_path: Path, lie: str) -> None:
    """A whole file with a value that cannot be: a ModelError, not the end of the process."""
    to = tmp_path / "odd.gguf"
    if lie in U32_LIES:
        key, value = U32_LIES[lie]
        changed(TINY_TARGET, to, key, struct.pack("<I", value))
    else:
        without_bos(to)
    done = child("llm.generate('Once', max_tokens=2)", to, "none")
    assert done.returncode == 1, done.stderr[-300:]
    assert "localspec.errors.ModelFileError" in done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("gemma4.rope.dimension_count", struct.pack("<I", 1000)),
        ("gemma4.rope.dimension_count_swa", struct.pack("<I", 1000)),
        ("gemma4.attention.layer_norm_rms_epsilon", struct.pack("<f", -1.0)),
    ],
)
def test_number_that_llama_cpp_would_abort_on_is_refused(tmp_path: Path, key: str, value: bytes) -> None:
    """A rotation wider than a head, an epsilon below 0."""
    odd = changed(TINY_TARGET, tmp_path / "odd.gguf", key, value)
    done = child("llm.generate('Once', max_tokens=2)", odd, "none")
    assert done.returncode == 1, done.stderr[-300:]
    assert "localspec.errors.ModelFileError" in done.stderr


@pytest.mark.parametrize(
    "key", ["attention.value_length", "attention.head_count_kv", "nextn_predict_layers", "rope.dimension_count"]
)
def test_assistant_that_llama_cpp_would_abort_on_is_refused(tmp_path: Path, key: str) -> None:
    """An assistant whose cache is of another shape than the target's."""
    value = struct.pack("<I", 1000)
    odd = changed(TINY_ASSISTANT, tmp_path / "odd.gguf", f"gemma4-assistant.{key}", value)
    done = child("llm.generate('Once', max_tokens=8)", draft=str(odd))
    assert done.returncode == 1, done.stderr[-300:]
    assert "localspec.errors." in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        {"ctx_size": 0}, {"threads": 0}, {"gpu_layers": -2}, {"draft_max": -1}, {"draft_max": 64}, {"device": "CUDA99"},
    ],
)  # fmt: skip
def test_wrong_option_of_load_is_wrong_usage(options: dict[str, Any]) -> None:
    """With the value."""
    with pytest.raises(UsageError, match=str(next(iter(options.values())))):
        load(**options)


def test_text_that_is_no_unicode_is_refused(plain: Engine) -> None:
    """A lone surrogate has no UTF-8."""
    with pytest.raises(InputError, match="surrogate"):
        plain.generate("a\ud800b")


@pytest.mark.parametrize("token", [-1, 10**6])
def test_token_outside_the_vocabulary_is_refused(plain: Engine, token: int) -> None:
    """With the range."""
    with pytest.raises(UsageError, match=f"token {token} .*from 0 to"):
        plain.detokenize([token])


def test_text_with_a_nul_is_text(plain: Engine) -> None:
    """C strings do not cut it off."""
    assert plain.detokenize(plain.tokenize("a\0b")) in ("a\0b", "a�b")


def test_errors_are_one_family() -> None:
    """A caller needs two names."""
    assert issubclass(ModelError, localspec.LocalspecError)
    assert issubclass(BackendError, localspec.LocalspecError)
