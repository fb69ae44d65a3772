"""Laws of the seam to llama.cpp, on the built-in pair: the cache matches its token list, and no call can abort."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localspec.errors import BackendError, InputError, MissingFeatureError, UsageError
from localspec.gguf.header import read_header
from localspec.llama import model as llama_model
from localspec.llama import native
from localspec.llama.binding import devices, system_info
from localspec.llama.context import LlamaContext
from localspec.llama.model import LlamaModel
from localspec.llama.mtp import LlamaMtpContext
from localspec.llama.native import context_options
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.params import ContextParams
from localspec.protocols import Rows
from scripts.check.gpu_check.files import write_target
from scripts.check.gpu_check.shapes import Shape

PARAMS = ContextParams(threads=1, batch=64)
TOKENS = [2, *range(300, 340)]


@pytest.fixture(scope="module")
def model() -> Iterator[LlamaModel]:
    loaded = LlamaModel(read_header(TINY_TARGET), PARAMS)
    yield loaded
    loaded.close()


@pytest.fixture
def context(model: LlamaModel) -> Iterator[LlamaContext]:
    made = LlamaContext(model, PARAMS, 128)
    yield made
    made.close()


def row_after(context: LlamaContext, tokens: list[int]) -> Rows:
    """The row of the last token, decoded alone in an empty context, as a copy."""
    context.rewind(0)
    context.decode(tokens[:-1], "none")
    return context.decode(tokens[-1:])[0].copy()


# Settings.


def test_kernels_are_named_that_the_process_uses(model: LlamaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first decode decides for good: a verdict on other kernels would be remembered for these."""
    native._tiled.cache_clear()
    monkeypatch.delenv("GGML_CPU_TILED_MM", raising=False)
    try:
        for tiled in ("True", "False"):
            made = LlamaContext(model, PARAMS, 128)
            assert f"tiled={tiled}" in made.settings()
            monkeypatch.setenv("GGML_CPU_TILED_MM", "0")
            made.close()
        made = LlamaContext(model, PARAMS, 128)
        made.decode(TOKENS)
        monkeypatch.delenv("GGML_CPU_TILED_MM")
        assert "tiled=False" in made.settings()
        made.close()
    finally:
        native._tiled.cache_clear()


# The model.


def test_huge_pages_are_asked_for_once_and_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that was already written stays where it is."""
    events: list[object] = []

    class Pages:
        def request(self) -> None:
            events.append("asked")

    monkeypatch.setattr(llama_model, "HugePages", Pages)
    LlamaModel(read_header(TINY_TARGET), PARAMS, progress=events.append).close()
    assert events[:2] == ["asked", 0.0]
    assert events.count("asked") == 1
    assert events[-1] == 1.0


# The context.


def test_outputs_are_all_last_or_none(context: LlamaContext) -> None:
    """Views with a row for each output, and a cache that grows by each token."""
    shapes = [context.decode(TOKENS[:5], outputs).shape for outputs in ("all", "last", "none")]  # type: ignore[arg-type]
    n = context.model.n_vocab
    assert shapes == [(5, n), (1, n), (0, n)]
    assert context.tokens == TOKENS[:5] * 3


def test_last_of_all_rows_is_the_last_row(context: LlamaContext) -> None:
    """Asking for fewer rows does not change them."""
    every = context.decode(TOKENS[:8])[-1].copy()
    context.rewind(0)
    assert np.allclose(context.decode(TOKENS[:8], "last")[0], every, atol=1e-4)


@pytest.mark.parametrize("kept", [0, 1, 20, 40])
def test_rewinding_forgets(context: LlamaContext, kept: int) -> None:
    """After other tokens were taken back, the same pass gives the same bits."""
    expected = row_after(context, TOKENS)
    context.rewind(kept)
    context.decode([400] * 10)
    context.rewind(kept)
    assert context.tokens == TOKENS[:kept]
    if kept < len(TOKENS) - 1:
        context.decode(TOKENS[kept:-1], "none")
    found = context.decode(TOKENS[-1:])[0]
    # the tokens before were in a pass of another width, whose last bits may differ
    assert np.allclose(found, expected, atol=0.25)
    assert int(found.argmax()) == int(expected.argmax())


def test_rewinding_past_the_end_is_nothing(context: LlamaContext) -> None:
    """There is nothing to forget."""
    context.decode(TOKENS)
    context.rewind(1000)
    assert context.tokens == TOKENS


def test_saved_cache_goes_on_as_if_never_left(context: LlamaContext) -> None:
    """In the same context, after something else was in it: the next row has the same bits."""
    context.decode(TOKENS, "none")
    state = context.state()
    expected = context.decode([350])[0].copy()
    context.rewind(3)
    context.decode([400] * 20)
    context.restore(state, TOKENS)
    assert context.tokens == TOKENS
    assert (context.decode([350])[0] == expected).all()


def test_saved_cache_that_does_not_fit_is_refused(context: LlamaContext) -> None:
    """Bytes that are no cache, or more tokens than the context has; it can be used afterwards."""
    context.decode(TOKENS, "none")
    state = context.state()
    for bad, tokens in ((b"", [1]), (b"nonsense" * 10, [1]), (state, [1] * 1000)):
        with pytest.raises(BackendError, match="does not fit"):
            context.restore(bad, tokens)
        assert context.tokens == []
        context.decode(TOKENS, "none")
        context.rewind(0)


@pytest.mark.parametrize("count", [0, 65])
def test_batch_that_llama_cpp_would_abort_on_is_refused(context: LlamaContext, count: int) -> None:
    """Empty, or more than the batch size."""
    with pytest.raises(BackendError, match=f"cannot decode {count} tokens"):
        context.decode([300] * count, "none")
    assert context.tokens == []


def test_full_cache_is_refused(context: LlamaContext) -> None:
    """One token more than there are cells; what is in it stays."""
    while len(context.tokens) + 64 <= 128 + 64:
        context.decode([300] * 64, "none")
    room = context._native.cells - len(context.tokens)
    with pytest.raises(BackendError, match="cannot decode"):
        context.decode([300] * (room + 1), "none")
    context.decode([300] * room, "none") if room else None
    assert len(context.tokens) == context._native.cells


def test_more_rows_than_the_verify_width_are_refused(model: LlamaModel) -> None:
    """llama.cpp would abort."""
    narrow = LlamaContext(model, ContextParams(threads=1, batch=64, verify_width=4), 128)
    with pytest.raises(BackendError, match="cannot give 5 rows at once; the verify width is 4"):
        narrow.decode(TOKENS[:5])
    assert narrow.decode(TOKENS[:4]).shape[0] == 4
    narrow.close()


def test_hidden_rows_must_be_asked_for(context: LlamaContext) -> None:
    """When the context is made."""
    context.decode([300])
    with pytest.raises(BackendError, match="hidden=True"):
        context.hidden()


def test_hidden_rows_are_of_the_outputs(model: LlamaModel) -> None:
    """One for each row of logits, and that of a single pass."""
    hidden = LlamaContext(model, PARAMS, 128, hidden=True)
    hidden.decode(TOKENS[:6])
    every = hidden.hidden().copy()
    assert every.shape == (6, model.n_embd)
    hidden.rewind(0)
    hidden.decode(TOKENS[:6], "last")
    assert np.allclose(hidden.hidden(), every[-1:], atol=1e-3)
    hidden.close()


@pytest.mark.parametrize("use", ["decode", "hidden", "rewind", "state"])
def test_closed_context_is_refused(model: LlamaModel, use: str) -> None:
    """For every call; closing twice is allowed."""
    closed = LlamaContext(model, PARAMS, 64, hidden=True)
    closed.decode(TOKENS[:3])
    closed.close()
    closed.close()
    arguments: dict[str, tuple[Any, ...]] = {"decode": ([300],), "rewind": (1,)}
    with pytest.raises(BackendError, match="closed"):
        getattr(closed, use)(*arguments.get(use, ()))


def test_closed_model_makes_no_context() -> None:
    """It raises an error."""
    closed = LlamaModel(read_header(TINY_TARGET), PARAMS)
    closed.close()
    closed.close()
    with pytest.raises(BackendError, match=r"tiny\.gguf was closed"):
        LlamaContext(closed, PARAMS, 64)


def test_context_has_the_settings_whose_rows_are_exact(model: LlamaModel) -> None:
    """On a CPU: keys in Q8_0, values in F16, flash attention on, and room for the widest verification."""
    if model.placement.gpu:
        pytest.skip("a GPU has its own settings")
    options = context_options(model, PARAMS, 100)
    assert (options.type_k, options.type_v, options.flash_attn_type) == (8, 1, 1)
    assert (options.n_ctx, options.n_outputs_max, options.n_seq_max) == (164, 64, 1)
    assert (options.n_batch, options.n_ubatch, options.n_threads, options.swa_full) == (64, 64, 1, True)


def test_a_prompt_is_read_in_passes_of_256_on_a_cpu(model: LlamaModel) -> None:
    """On a GPU a pass is a whole batch; a narrower batch is a pass everywhere."""
    options = context_options(model, ContextParams(threads=1), 100)
    assert (options.n_batch, options.n_ubatch) == (512, 512 if model.placement.gpu else 256)
    assert [ContextParams(batch=n).pass_width(gpu=gpu) for n, gpu in ((64, False), (512, True))] == [64, 512]


# The assistant.


def test_drafting_leaves_the_target_s_cache_alone(model: LlamaModel) -> None:
    """After any number of the assistant's steps, the target's next row has the same bits."""
    assistant = LlamaModel(read_header(TINY_ASSISTANT), PARAMS)
    target = LlamaContext(model, PARAMS, 128, hidden=True)
    drafter = LlamaMtpContext(assistant, PARAMS, target)
    target.decode(TOKENS, "last")
    hidden = target.hidden()[0].copy()
    expected = target.decode([350])[0].copy()
    target.rewind(len(TOKENS))
    first = drafter.step(350, len(TOKENS), hidden)[0].copy()
    for _ in range(5):
        drafter.step(351, len(TOKENS), drafter.hidden()[0].copy())
    assert target.tokens == TOKENS
    assert (target.decode([350])[0] == expected).all()
    target.rewind(len(TOKENS))
    assert (drafter.step(350, len(TOKENS), hidden)[0] == first).all()
    drafter.close()
    target.close()
    with pytest.raises(BackendError, match="closed"):
        drafter.step(350, len(TOKENS), hidden)
    assistant.close()


def test_assistant_without_its_functions_says_what_to_install(
    model: LlamaModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A llama-cpp-python that lacks the staging API is named, with the way round."""
    import llama_cpp.llama_cpp_ext as ext

    monkeypatch.delattr(ext, "llama_get_embeddings_nextn")
    with pytest.raises(MissingFeatureError, match=r"lacks llama_get_embeddings_nextn.*-d ngram"):
        LlamaContext(model, PARAMS, 64, hidden=True)


# The vocabulary.


def test_bos_is_put_in_front_once(model: LlamaModel) -> None:
    """Also where the text begins with it."""
    vocabulary = model.vocabulary
    bos = vocabulary.text(vocabulary.bos).decode()
    for text in ("Hello", f"{bos}Hello"):
        tokens = vocabulary.tokenize(text, add_special=True)
        assert tokens[0] == vocabulary.bos
        assert tokens.count(vocabulary.bos) == 1


def test_every_token_has_a_piece(model: LlamaModel) -> None:
    """No id is refused, none is longer than its buffer, and end tokens have no text."""
    vocabulary = model.vocabulary
    ends = [token for token in range(vocabulary.n_tokens) if vocabulary.is_end(token)]
    pieces = [vocabulary.piece(token) for token in range(vocabulary.n_tokens)]
    assert ends
    assert all(pieces[token] == b"" for token in ends)
    assert sum(1 for piece in pieces if piece) > vocabulary.n_tokens * 0.9


@pytest.mark.parametrize("text", ["", "a" * 100_000, "\0", "😀" * 50, "\n\n\n", "<|turn>", "a\u0301"])
def test_any_text_is_tokenized_and_comes_back(model: LlamaModel, text: str) -> None:
    """Empty, long, with a NUL, emoji, markers."""
    vocabulary = model.vocabulary
    tokens = vocabulary.tokenize(text, add_special=False)
    assert b"".join(vocabulary.text(token) for token in tokens).decode() == text


def test_markers_in_a_text_can_be_plain_text(model: LlamaModel) -> None:
    """``parse_special`` False spells them out."""
    marked = model.vocabulary.tokenize("<|turn>", add_special=False)
    plain = model.vocabulary.tokenize("<|turn>", add_special=False, parse_special=False)
    assert (len(marked), len(plain) > 1) == (1, True)


def test_text_that_is_no_unicode_is_refused(model: LlamaModel) -> None:
    """With the place of the lone surrogate."""
    with pytest.raises(InputError, match="surrogate at character 2"):
        model.vocabulary.tokenize("ab\udc00", add_special=False)


@pytest.mark.parametrize("token", [-1, 2**31 - 1])
def test_piece_of_no_token_is_refused(model: LlamaModel, token: int) -> None:
    """llama.cpp would read outside its array."""
    with pytest.raises(UsageError, match=f"token {token} is not .* from 0 to {model.n_vocab - 1}"):
        model.vocabulary.piece(token)


def test_machine_has_a_cpu() -> None:
    """A line describes it."""
    assert "cpu" in {device.kind for device in devices()}
    assert "CPU" in system_info()


# Files whose rows depend on the width of a pass.


def test_a_prompt_has_the_same_row_with_an_assistant(tmp_path: Path) -> None:
    """Contexts with hidden rows compute the last layer for as many rows as contexts without: kernels depend on it."""
    shape = Shape("small", 256, 512, 4, 2, 2, 1, 64, 2, True, 32, vocab=1024)
    write_target(tmp_path / "small.gguf", shape, "F16")
    model = LlamaModel(read_header(tmp_path / "small.gguf"), PARAMS)
    found = []
    for hidden in (False, True):
        made = LlamaContext(model, PARAMS, 128, hidden=hidden)
        found.append([])
        for n in (3, 20, 36, 60):
            made.rewind(0)
            found[-1].append(made.decode(range(300, 300 + n), "last")[0].tolist())
        made.close()
    model.close()
    assert found[0] == found[1]
