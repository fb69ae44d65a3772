"""Laws of the whole on the built-in pair: real models, real files, llama.cpp."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
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
    PromptTooLongError,
    UsageError,
)
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from tests.helpers.support import load_fixed

PROMPTS = ("Once upon a time", "The little fox was")
SAMPLINGS: tuple[dict[str, Any], ...] = (
    {"temperature": 0},
    {"temperature": 0.8, "seed": 1},
    {"temperature": 0.8, "seed": 2},
    {"temperature": 1.2, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 3},
)
GREEDY = {"temperature": 0, "max_tokens": 24}


def load(target: str | Path = "tiny", draft: str | Path = "none", **options: Any) -> Engine:
    """One thread, so that tests do not fight for the cores; every draft token is proposed, however unsure."""
    return load_fixed(target, draft, **options)


@pytest.fixture(scope="module", params=["none", "ngram", "auto"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The pair with each kind of drafter."""
    with load(draft=request.param) as loaded:
        yield loaded


@pytest.fixture(scope="module")
def plain() -> Iterator[Engine]:
    """The target alone."""
    with load() as loaded:
        yield loaded


# The same output.


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seed 1", "seed 2", "seed 3, open"])
@pytest.mark.parametrize("draft", ["ngram", "auto"])
def test_any_drafter_any_width_same_tokens(plain: Engine, draft: str, sampling: dict[str, Any]) -> None:
    """Greedy and for every seed, with drafts of 1 to 8 tokens."""
    proposed = 0
    with load(draft=draft) as drafting:
        for prompt in PROMPTS:
            expected = plain.generate(prompt, max_tokens=24, **sampling)
            for width in range(1, 9):
                found = drafting.generate(prompt, max_tokens=24, draft_max=width, **sampling)
                assert (found.tokens, found.text) == (expected.tokens, expected.text), f"{prompt!r}, width {width}"
                proposed += found.stats.proposed
    assert proposed or draft == "ngram"


@pytest.mark.parametrize("draft", ["ngram", "auto"])
def test_same_tokens_beyond_the_sliding_window_and_the_batch(plain: Engine, draft: str) -> None:
    """A prompt of several windows and more than one batch, greedy and sampled."""
    prompt = "Once upon a time there was a little fox. The fox had a red ball. " * 36
    with load(draft=draft) as drafting:
        for sampling in SAMPLINGS[:2]:
            expected = plain.generate(prompt, max_tokens=24, **sampling)
            assert expected.stats.prompt_tokens > 600
            for width in (1, 3, 8):
                assert drafting.generate(prompt, max_tokens=24, draft_max=width, **sampling).tokens == expected.tokens


def test_model_as_its_own_drafter_is_always_right(plain: Engine, tmp_path: Path) -> None:
    """With the target's weights every token of the draft model is accepted; n-gram lookup goes before it."""
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(TINY_TARGET.read_bytes())
    with load(draft=copy) as drafting:
        assert drafting.drafters == ("ngram", "model")
        for sampling in SAMPLINGS:
            found = drafting.generate(PROMPTS[0], max_tokens=24, **sampling)
            assert found.tokens == plain.generate(PROMPTS[0], max_tokens=24, **sampling).tokens
            count = found.stats.by_drafter["model"]
            assert count.accepted == count.proposed > 0


def test_automatic_drafter_of_tiny_is_its_assistant() -> None:
    """Found without being named."""
    with load(draft="auto") as drafting:
        assert drafting.drafters == ("ngram", "mtp")


def test_any_past_same_tokens(engine: Engine) -> None:
    """Prompts that share a beginning, in any order, and the same again: the cache changes nothing."""
    prompts = (*PROMPTS, PROMPTS[0] + " there was", PROMPTS[0], PROMPTS[0], PROMPTS[1])
    expected = {}
    for prompt in set(prompts):
        with load() as fresh:
            expected[prompt] = fresh.generate(prompt, **GREEDY).tokens
    for prompt in prompts:
        assert engine.generate(prompt, **GREEDY).tokens == expected[prompt]


def test_stream_says_what_generate_says(engine: Engine) -> None:
    """Chunk by chunk, and the text is that of the tokens."""
    done = engine.generate(PROMPTS[0], **GREEDY)
    *chunks, last = list(engine.stream(PROMPTS[0], **GREEDY))
    assert last.completion is not None
    assert last.completion.tokens == done.tokens == tuple(t for chunk in chunks for t in chunk.tokens)
    assert "".join(chunk.text for chunk in [*chunks, last]) == done.text == engine.detokenize(done.tokens)


@pytest.mark.parametrize("text", ["Hello, world!", "Zażółć gęślą jaźń 😀", " two  spaces\n\ttab", "<|turn>x<turn|>"])
def test_detokenize_undoes_tokenize(plain: Engine, text: str) -> None:
    """Control tokens have no text; all other text comes back."""
    assert plain.detokenize(plain.tokenize(text)) == text.replace("<|turn>", "").replace("<turn|>", "")


# Chat.


def converse(engine: Engine, turns: int, **options: Any) -> list[localspec.Completion]:
    messages: list[dict[str, str]] = []
    done = []
    for k in range(turns):
        messages.append({"role": "user", "content": f"Tell me story number {k}."})
        done.append(engine.chat(messages, **options))
        messages.append({"role": "assistant", "content": done[-1].text})
    return done


@pytest.mark.parametrize("budget", [12, 60])
def test_each_turn_prefills_only_what_is_new(engine: Engine, budget: int) -> None:
    """Over six turns: of the past at most the last token, whose row is not kept."""
    engine.forget()
    done = converse(engine, 6, temperature=0, max_tokens=budget)
    for last, now in pairwise(done):
        new = now.stats.prompt_tokens - last.stats.prompt_tokens - len(last.tokens)
        assert 0 < new < 40
        assert now.stats.prefilled_tokens <= new + 1


def test_chat_is_the_same_with_any_drafter(engine: Engine, plain: Engine) -> None:
    """Turn after turn, greedy and sampled."""
    for options in ({"temperature": 0}, {"temperature": 0.9, "seed": 5}):
        engine.forget()
        plain.forget()
        found, expected = (converse(each, 4, max_tokens=30, **options) for each in (engine, plain))
        assert [done.tokens for done in found] == [done.tokens for done in expected]


def test_forget_prefills_everything_again(engine: Engine) -> None:
    """The tokens are the same."""
    first = converse(engine, 1, **GREEDY)[0]
    engine.forget()
    again = converse(engine, 1, **GREEDY)[0]
    assert again.stats.cached_tokens == 0
    assert again.tokens == first.tokens


# Limits.


@pytest.mark.parametrize("draft", ["none", "ngram", "auto"])
@pytest.mark.parametrize("size", [16, 48])
def test_full_context_ends_the_answer(draft: str, size: int) -> None:
    """The answer has every token that fits, a notice, and the tokens of a larger context."""
    with load(draft=draft, ctx_size=size) as small, load() as roomy:
        prompt = PROMPTS[0]
        done = small.generate(prompt, temperature=0.8, seed=1, min_p=0.2)
        room = size - done.stats.prompt_tokens
        assert done.tokens == roomy.generate(prompt, temperature=0.8, seed=1, min_p=0.2, max_tokens=room).tokens
        full = len(done.tokens) == room
        assert full or size > 16
        assert (done.finish_reason == "length", "--ctx-size" in (done.notice or "")) == (full, full)
        with pytest.raises(PromptTooLongError, match=f"context holds {size}"):
            small.generate("word " * size)
        assert small.generate(prompt, temperature=0.8, seed=1, min_p=0.2).tokens == done.tokens


def test_smallest_context_works() -> None:
    """Two tokens: the BOS and one more hold no prompt, which is an error."""
    with load(ctx_size=2) as small, pytest.raises(PromptTooLongError):
        small.generate(PROMPTS[0])


# Interruption.


def test_interrupt_at_any_moment_leaves_the_engine_usable(engine: Engine) -> None:
    """A KeyboardInterrupt from a signal, wherever it strikes: the next text is right."""
    engine.forget()
    expected = engine.generate(PROMPTS[1], **GREEDY).tokens

    armed = struck = 0

    def interrupt(*_: object) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for k in range(25):
            try:
                armed = 1
                signal.setitimer(signal.ITIMER_REAL, 0.0005 + 0.0013 * k)
                engine.generate(PROMPTS[0] * (1 + k % 3), temperature=0, max_tokens=400)
                armed = 0
            except KeyboardInterrupt:
                armed, struck = 0, struck + 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            assert engine.generate(PROMPTS[1], **GREEDY).tokens == expected
        assert struck
    finally:
        signal.signal(signal.SIGALRM, before)


def test_interrupt_while_loading_ends_the_load() -> None:
    """An exception of the progress callback is raised, and nothing stays loaded."""

    def stop(fraction: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(progress=stop)


def test_interrupt_while_prefilling_leaves_the_engine_usable(engine: Engine) -> None:
    """The same through the progress of the prompt."""

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    expected = engine.generate(PROMPTS[1], **GREEDY).tokens
    with pytest.raises(KeyboardInterrupt):
        engine.generate(PROMPTS[0] * 3, progress=stop)
    assert engine.generate(PROMPTS[1], **GREEDY).tokens == expected


def test_progress_of_loading_goes_to_one() -> None:
    """From 0 up."""
    seen: list[float] = []
    load(progress=seen.append).close()
    assert seen == sorted(seen)
    assert (seen[0] < 0.5, seen[-1]) == (True, 1.0)


# Memory and closing.


def resident() -> float:
    """Resident memory in MB (where /proc is missing, the most there ever was)."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def test_memory_is_flat_over_200_loads() -> None:
    """Target, assistant and contexts are all freed: a leak of 0.1 MB a cycle would show."""

    def cycle() -> None:
        with load(draft="auto", ctx_size=128) as engine:
            engine.generate("Once", max_tokens=3, temperature=0)

    for _ in range(20):
        cycle()
    before = resident()
    for _ in range(180):
        cycle()
    assert resident() - before < 18


def child(code: str, target: str | Path = "tiny", draft: str = "auto") -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, because llama.cpp may abort it."""
    start = f"import localspec; llm = localspec.load({str(target)!r}, {draft!r}, threads=1)\n"
    return subprocess.run(
        [sys.executable, "-c", start + code],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "GGML_NO_BACKTRACE": "1"},
    )


USES = [
    "llm.generate('x')", "list(llm.stream('x'))", "llm.chat([{'role': 'user', 'content': 'x'}])", "llm.tokenize('x')",
    "llm.prompt_tokens([{'role': 'user', 'content': 'x'}])", "llm.detokenize([300])",
]  # fmt: skip


@pytest.mark.parametrize("use", USES)
def test_use_after_close_is_refused(use: str) -> None:
    """An error in Python, not the end of the process."""
    code = f"llm.close()\ntry:\n    {use}\nexcept localspec.BackendError as error:\n    print('refused', error)"
    done = child(code)
    assert done.returncode == 0, done.stderr[-300:]
    assert done.stdout.startswith("refused")


@pytest.mark.parametrize("taken", [0, 1])
def test_stream_of_a_closed_engine_is_refused(taken: int) -> None:
    """Before its first chunk or after."""
    code = "chunks = llm.stream('Once', temperature=0)\n" + "next(chunks)\n" * taken
    code += "llm.close()\ntry:\n    list(chunks)\nexcept localspec.BackendError:\n    print('refused')"
    done = child(code)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr[-300:]


@pytest.mark.parametrize(
    "end", ["", "del llm", "llm.close(); llm.close()", "next(llm.stream('Once'))", "x = llm.stream('Once'); next(x)"]
)
def test_process_ends_well_however_it_leaves_the_engine(end: str) -> None:
    """Open, dropped, closed twice, in the middle of a stream: no crash, and nothing on stderr."""
    done = child(end)
    assert (done.returncode, done.stderr) == (0, "")


# Wrong files.


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
