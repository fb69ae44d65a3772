"""Laws of answers to pictures and sounds, on the built-in pair with a small random projector."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localspec import Audio, Image, load
from localspec.control.base import FixedDepth
from localspec.engine import Engine
from localspec.errors import InputError, ModelFileError
from localspec.models.resolve import TINY_TARGET
from tests.helpers.media_files import flac, mp3_frames, png, tone, wav
from tests.helpers.projectors import write_projector

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 32}
SAMPLED: dict[str, Any] = {"temperature": 1.0, "seed": 5, "max_tokens": 32}
TOLD = "Tell me a story about a little owl and the moon."


@pytest.fixture(scope="module")
def projector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projector(tmp_path_factory.mktemp("projector") / "mmproj.gguf", scale=0.5)


@pytest.fixture(scope="module")
def plain(projector: Path) -> Iterator[Engine]:
    with load("tiny", "none", mmproj=projector, device="none") as engine:
        yield engine


def drafting(draft: str, projector: Path, **options: Any) -> Engine:
    """An engine that drafts three tokens whether or not that pays."""
    engine = load("tiny", draft, mmproj=projector, device="none", **options)
    engine.control = FixedDepth(3)
    return engine


def ask(*parts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


def conversation(engine: Engine, options: dict[str, Any]) -> list[tuple[int, ...]]:
    """Tokens of the answers to a picture, then to a question, then to a sound and another picture."""
    messages, found = ask(Image(png(1)), TOLD), []
    for more in ("Again!", [Audio(wav()), "And this?", Image(png(2))], ""):
        done = engine.chat(messages, **options)
        found.append(done.tokens)
        messages = [*messages, {"role": "assistant", "content": done.text}, {"role": "user", "content": more}]
    return found


@pytest.mark.parametrize("draft", ["auto", "ngram", str(TINY_TARGET)])
@pytest.mark.parametrize("options", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_any_drafter_same_tokens(draft: str, options: dict[str, Any], projector: Path, plain: Engine) -> None:
    """Behind pictures and sounds, in every turn: the assistant, lookup, a separate model that sees the text alone."""
    plain.forget()
    with drafting(draft, projector) as engine:
        expected = conversation(plain, options)
        assert conversation(engine, options) == expected
        done = engine.chat(ask(Image(png(1)), TOLD), **options)
        assert done.tokens == expected[0]
        assert draft == "ngram" or done.stats.accepted > 0


def test_a_picture_changes_the_answer_and_not_by_its_place_in_a_cache(plain: Engine) -> None:
    """Another picture with as many cells is another prompt; the first one again is the first prompt again."""
    answers = [plain.chat(ask(Image(png(seed)), "Hello!"), **SAMPLED, logprobs=3) for seed in (1, 2, 1)]
    rows = [[token.logprob for token in done.logprobs or ()] for done in answers]
    assert rows[0] == rows[2] != rows[1]
    assert answers[1].stats.cached_tokens < 20


def test_a_second_question_encodes_nothing(plain: Engine) -> None:
    """Nor does the same picture in another conversation; its cells are decoded anew there."""
    plain.forget()
    reader = plain._reader
    assert reader is not None
    messages = ask(Image(png(7)), "What is it?")
    done = plain.chat(messages, **GREEDY)
    before = reader.encoded
    messages += [{"role": "assistant", "content": done.text}, {"role": "user", "content": "Why?"}]
    done = plain.chat(messages, **GREEDY)
    assert done.stats.cached_tokens > 80
    plain.chat([{"role": "user", "content": "Hello!"}], **GREEDY)
    plain.chat(ask("Another beginning.", Image(png(7))), **GREEDY)
    assert reader.encoded == before


def test_a_projector_is_loaded_by_the_first_picture_and_freed_on_request(projector: Path) -> None:
    """Text needs none; a freed one comes back."""
    with load("tiny", "none", mmproj=projector, device="none") as engine:
        assert engine.media == {"picture", "sound"}
        engine.generate("Hello!", **GREEDY)
        assert not engine._reader.loaded  # type: ignore[union-attr]
        first = engine.chat(ask(Image(png(1)), "Hello!"), **GREEDY)
        assert engine._reader.loaded  # type: ignore[union-attr]
        engine.free_media()
        assert not engine._reader.loaded  # type: ignore[union-attr]
        engine.forget()
        assert engine.chat(ask(Image(png(1)), "Hello!"), **GREEDY).tokens == first.tokens


def test_schemas_tools_and_log_probabilities_work(projector: Path, plain: Engine) -> None:
    """With a drafter on, with the tokens of plain decoding."""
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"schema": schema}}
    messages = ask(Image(png(1)), "How many?")
    with drafting("auto", projector) as engine:
        for options in ({"response_format": form}, {"logprobs": 2}, {"repeat_penalty": 1.5, "dry_multiplier": 0.8}):
            done, expected = (one.chat(messages, **SAMPLED, **options) for one in (engine, plain))
            assert (done.tokens, done.text) == (expected.tokens, expected.text)
        assert "How many?" in engine.detokenize(engine.prompt_tokens(messages))


def test_a_saved_state_holds_pictures(tmp_path: Path, projector: Path) -> None:
    """The next turn prefills what is new, encodes nothing, and answers as without the way through a file."""
    messages = ask(Image(png(1)), TOLD)
    with drafting("auto", projector) as engine:
        done = engine.chat(messages, **GREEDY)
        engine.save_state(tmp_path / "state")
        messages += [{"role": "assistant", "content": done.text}, {"role": "user", "content": "Go on."}]
        expected = engine.chat(messages, **SAMPLED)
    with drafting("auto", projector) as engine:
        assert engine.load_state(tmp_path / "state") > 80
        found = engine.chat(messages, **SAMPLED)
        assert engine._reader.encoded == 0  # type: ignore[union-attr]
    assert found.tokens == expected.tokens
    assert found.stats.cached_tokens == expected.stats.cached_tokens > 80


def test_several_conversations_at_once(projector: Path, plain: Engine) -> None:
    """Each with a picture: the tokens that each has alone."""
    prompts = [ask(Image(png(seed)), TOLD) for seed in (1, 2, 3)]
    plain.forget()
    expected = [plain.chat(prompt, **SAMPLED).tokens for prompt in prompts]
    with drafting("auto", projector, parallel=3) as engine:
        streams = [engine.stream_chat(prompt, **SAMPLED) for prompt in prompts]
        assert [[*stream][-1].completion.tokens for stream in streams] == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(("least", "most"), [(4, 4), (1, 9), (30, 36)])
def test_the_cells_of_a_picture_can_be_chosen(least: int, most: int, projector: Path) -> None:
    """Within the limits; the pixels and the shape decide."""
    with load("tiny", "none", mmproj=projector, image_tokens=(least, most), device="none") as engine:
        tokens = engine.prompt_tokens(ask(Image(png(1, 300, 300))))
        assert least <= sum(token < 0 for token in tokens) <= most
        engine.chat(ask(Image(png(1, 300, 300))), max_tokens=1)


def test_what_cannot_be_read_is_said(projector: Path, tmp_path: Path, plain: Engine) -> None:
    """Before anything is decoded: a broken file, a short sound, a narrow picture, a model or projector without eyes."""
    with pytest.raises(InputError, match="too short"):
        plain.check(ask(Audio(wav(tone(seconds=0.02)))))
    with pytest.raises(InputError, match="damaged"):
        plain.check(ask(Image(png()[:70])))
    with load("tiny", "none", mmproj="none", device="none") as engine, pytest.raises(InputError, match="--mmproj"):
        engine.chat(ask(Image(png())))
    deaf = write_projector(tmp_path / "deaf.gguf", audio=False, positions=60)
    with load("tiny", "none", mmproj=deaf, device="none") as engine:
        with pytest.raises(InputError, match="reads no sounds"):
            engine.chat(ask(Audio(wav())))
        with pytest.raises(InputError, match="too narrow"):
            engine.chat(ask(Image(png(1, 900, 10))))
        for size in ((90, 60), (2000, 2000), (1200, 300)):  # as many cells as its table of positions has room for
            engine.chat(ask(Image(png(1, *size))), max_tokens=1)
    with pytest.raises(ModelFileError, match="64 wide, and the target's are 192"):
        load("tiny", mmproj=write_projector(tmp_path / "narrow.gguf", width=64))
    with pytest.raises(ModelFileError, match="no projector"):
        load("tiny", mmproj=TINY_TARGET)


def test_a_sound_of_half_a_minute_and_a_little_is_no_problem(plain: Engine) -> None:
    """Encoders take 30 seconds at a time, and no rest that is too short for them."""
    for seconds in (0.11, 29.99, 30.05, 30.2):
        tokens = plain.prompt_tokens(ask(Audio(wav(tone(seconds=seconds)))))
        assert sum(token < 0 for token in tokens) == pytest.approx(25 * seconds, abs=4)


def test_every_format_of_a_sound_is_heard(plain: Engine) -> None:
    """The same samples in another format take as many cells; several channels become one."""
    counts = {}
    samples = tone(seconds=1.0)
    for name, data in (
        ("wav", wav(samples)),
        ("flac", flac(samples)),
        ("stereo", wav(samples, channels=2)),
        ("fast", wav(tone(seconds=1.0, rate=48_000), 48_000)),
        ("mp3", mp3_frames(38)),
    ):
        counts[name] = sum(token < 0 for token in plain.prompt_tokens(ask(Audio(data))))
    assert set(counts.values()) == {25}
