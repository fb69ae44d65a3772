"""The seam to llama.cpp, on the built-in pair."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from localspec.backends import llama_cpp as seam
from localspec.config import ContextParams
from localspec.errors import BackendError, InputError, MissingFeatureError, UsageError
from localspec.gguf_header import read_header
from localspec.hub.resolve import TINY_ASSISTANT, TINY_TARGET

PARAMS = ContextParams(threads=1)
TEXT = "Once upon a time there was a small cat who lived by the sea. " * 12


@pytest.fixture(scope="module")
def model() -> Iterator[seam.LlamaModel]:
    found = seam.LlamaModel(read_header(TINY_TARGET), PARAMS)
    yield found
    found.close()


@pytest.fixture
def context(model: seam.LlamaModel) -> Iterator[seam.LlamaContext]:
    found = seam.LlamaContext(model, PARAMS, 1024)
    yield found
    found.close()


@pytest.mark.parametrize("length", [20, 150, 600])
def test_rows_of_a_batch_equal_single_rows(model: seam.LlamaModel, context: seam.LlamaContext, length: int) -> None:
    """The first promise on the CPU: bit for bit, for every verify width, within and beyond the sliding window."""
    tokens = model.vocabulary.tokenize(TEXT * 4, add_special=True)[: length + 16]
    assert len(tokens) == length + 16
    for at in range(0, length, PARAMS.batch):
        context.decode(tokens[at : min(at + PARAMS.batch, length)], "none")
    single = np.concatenate([context.decode([token]).copy() for token in tokens[length:]])
    for width in range(1, 17):
        context.rewind(length)
        np.testing.assert_array_equal(context.decode(tokens[length : length + width]), single[:width])


def test_rewound_cache_equals_a_fresh_one(model: seam.LlamaModel, context: seam.LlamaContext) -> None:
    """What was rewound leaves no trace in later rows."""
    tokens = model.vocabulary.tokenize(TEXT, add_special=True)[:200]
    expected = context.decode(tokens, "last").copy()
    context.rewind(0)
    context.decode(tokens[:150], "none")
    context.decode(tokens[:40], "none")
    context.rewind(150)
    assert context.tokens == tokens[:150]
    np.testing.assert_array_equal(context.decode(tokens[150:], "last"), expected)


def test_state_continues_in_another_context(model: seam.LlamaModel, context: seam.LlamaContext) -> None:
    """A saved cache goes on where it stood; a damaged one is refused and leaves a usable context."""
    tokens = model.vocabulary.tokenize(TEXT, add_special=True)[:100]
    context.decode(tokens, "none")
    state, expected = context.state(), context.decode([tokens[5]]).copy()
    other = seam.LlamaContext(model, PARAMS, 1024)
    other.restore(state, tokens)
    np.testing.assert_array_equal(other.decode([tokens[5]]), expected)
    with pytest.raises(BackendError, match="does not fit"):
        other.restore(state[:200], tokens)
    other.decode(tokens, "none")
    np.testing.assert_array_equal(other.decode([tokens[5]]), expected)
    other.close()


def test_interrupted_decode_leaves_nothing(
    model: seam.LlamaModel, context: seam.LlamaContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt between llama.cpp's return and the bookkeeping does not poison the cache."""
    tokens = model.vocabulary.tokenize(TEXT, add_special=True)[:60]
    context.decode(tokens[:50], "none")
    expected = context.decode(tokens[50:]).copy()
    context.rewind(50)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(context._core.logits, "rows", interrupt)
        with pytest.raises(KeyboardInterrupt):
            context.decode(tokens[20:30])
    assert context.tokens == tokens[:50]
    np.testing.assert_array_equal(context.decode(tokens[50:]), expected)


def test_refuses_what_llama_cpp_would_abort_on(context: seam.LlamaContext) -> None:
    """Too many tokens, too many rows, a full cache and no tokens are errors of ours."""
    for tokens, outputs in ((range(PARAMS.batch + 1), "none"), (range(65), "all"), ([], "last")):
        with pytest.raises(BackendError):
            context.decode(list(tokens), outputs)  # type: ignore[arg-type]
    for _ in range(2):
        context.decode([5] * 512, "none")
    with pytest.raises(BackendError, match="cells"):
        context.decode([5] * 512, "none")
    with pytest.raises(BackendError, match="decode"):
        context.decode([10**6])
    context.rewind(1024)
    assert context.decode([5]).shape == (1, context.model.n_vocab)


def test_hidden_rows_only_where_asked_for(model: seam.LlamaModel, context: seam.LlamaContext) -> None:
    """A context with hidden rows gives one for each output, of the model's width."""
    with pytest.raises(BackendError, match="hidden=True"):
        context.hidden()
    other = seam.LlamaContext(model, PARAMS, 512, hidden=True)
    other.decode([5, 6, 7])
    assert other.hidden().shape == (3, model.n_embd)
    assert np.isfinite(other.hidden()).all()
    other.close()


def test_assistant_leaves_the_target_alone(model: seam.LlamaModel) -> None:
    """Drafting reads the target's cache and does not change its rows."""
    tokens = model.vocabulary.tokenize(TEXT, add_special=True)[:120]
    target = seam.LlamaContext(model, PARAMS, 512, hidden=True)
    assistant = seam.LlamaModel(read_header(TINY_ASSISTANT), PARAMS)
    drafter = seam.LlamaMtpContext(assistant, PARAMS, target)
    target.decode(tokens, "last")
    hidden = target.hidden()[0].copy()
    expected = target.decode([9]).copy()
    target.rewind(len(tokens))
    for token in (9, 10, 11):
        assert drafter.step(token, len(tokens), hidden).shape == (1, model.n_vocab)
        hidden = drafter.hidden()[0].copy()
    np.testing.assert_array_equal(target.decode([9]), expected)
    for thing in (drafter, assistant, target):
        thing.close()
        thing.close()


def test_missing_feature_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A staging function or field that this build lacks is named, with the way out."""
    with pytest.raises(MissingFeatureError, match=r"llama_teleport.*install llama-cpp-python"):
        seam._staging("llama_teleport")
    with pytest.raises(MissingFeatureError, match="type_vv"):
        seam._fill(seam.lib.llama_context_default_params(), type_vv=8)


def test_closed_things_say_so(model: seam.LlamaModel) -> None:
    """Using a closed context or model is an error, not a crash."""
    other = seam.LlamaContext(model, PARAMS, 256)
    other.close()
    with pytest.raises(BackendError, match="closed"):
        other.decode([5])
    gone = seam.LlamaModel(read_header(TINY_TARGET), PARAMS)
    gone.close()
    with pytest.raises(BackendError, match="closed"):
        _ = gone.description


def test_load_can_be_interrupted() -> None:
    """An exception in the progress callback ends the load and reaches the caller."""

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seam.LlamaModel(read_header(TINY_TARGET), PARAMS, progress=stop)


def test_vocabulary_round_trip(model: seam.LlamaModel) -> None:
    """Any Unicode comes back from its tokens; what is no Unicode, or no token, is refused."""
    text = "A cat, a «σκύλος», a 猫 and a 🐈\n\tdone."
    vocabulary = model.vocabulary
    pieces = b"".join(vocabulary.piece(token) for token in vocabulary.tokenize(text, add_special=False))
    assert pieces.decode() == text
    assert vocabulary.tokenize("<bos>hello", add_special=True).count(vocabulary.bos) == 1
    with pytest.raises(InputError, match="character 1"):
        vocabulary.tokenize("a\udc80", add_special=False)
    with pytest.raises(UsageError, match="ids go from 0"):
        vocabulary.piece(model.n_vocab)


def test_log_is_silent_unless_asked(capfd: pytest.CaptureFixture[str]) -> None:
    """llama.cpp prints nothing by default, and its log with verbose."""
    seam.LlamaModel(read_header(TINY_TARGET), PARAMS).close()
    assert capfd.readouterr() == ("", "")
    seam.LlamaModel(read_header(TINY_TARGET), PARAMS, verbose=True).close()
    assert "llama" in capfd.readouterr().err
    seam._start(False)
