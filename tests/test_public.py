"""Laws of what the package gives to the outside."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest

import localspec

NAMES = [
    "Audio", "BackendError", "Chunk", "Completion", "ContextParams", "ConvertError", "DraftMismatchError",
    "DraftParams", "Engine", "HubError", "Image", "InputError", "LocalspecError", "MissingFeatureError", "ModelError",
    "ModelFileError", "ModelInfo", "ModelNotFoundError", "PromptTooLongError", "SamplingParams", "Stats",
    "StopParams", "TemplateError", "UsageError", "WorkerError", "__version__", "load",
]  # fmt: skip


def test_public_names() -> None:
    """A name that is added or lost is a decision."""
    assert localspec.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_resolves_and_is_documented(name: str) -> None:
    """Lazily, to the thing of that name."""
    value = getattr(localspec, name)
    if name != "__version__":
        assert value.__name__ == name
        assert inspect.getdoc(value)


def test_unknown_name_is_an_attribute_error() -> None:
    """Tab completion and hasattr rely on it."""
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = localspec.nothing
    assert not hasattr(localspec, "_nothing")


def test_star_import_gives_all() -> None:
    """Every name, and nothing else."""
    space: dict[str, object] = {}
    exec("from localspec import *", space)
    assert set(NAMES) <= space.keys() | {"__version__"}


VERBS = [
    "generate", "stream", "chat", "stream_chat", "agenerate", "astream", "achat", "astream_chat", "stop", "tokenize",
    "detokenize", "prompt_tokens", "save_state", "load_state", "forget", "tune", "close",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_engine_has_the_contract_s_verbs(verb: str) -> None:
    """With a docstring each."""
    assert inspect.getdoc(getattr(localspec.Engine, verb))


def test_load_takes_the_contract_s_options() -> None:
    """Target and drafter by place, the rest by name."""
    options = inspect.signature(localspec.load).parameters
    assert list(options)[:2] == ["target", "draft"]
    assert {"ctx_size", "threads", "gpu_layers", "device", "draft_max"} <= options.keys()
    assert all(options[name].kind is inspect.Parameter.KEYWORD_ONLY for name in list(options)[2:])


def test_completion_and_stats_have_the_contract_s_fields() -> None:
    """Programs read them."""
    fields = {"text", "tokens", "finish_reason", "seed", "exactness", "stats"}
    assert fields <= localspec.Completion.__dataclass_fields__.keys()
    assert {"text", "tokens", "sources"} <= localspec.Chunk.__dataclass_fields__.keys()
    assert isinstance(localspec.Stats.acceptance, property)


@pytest.mark.parametrize("module", ["localspec", "gguf_convert"])
def test_packages_are_typed(module: str) -> None:
    """Each has its marker."""
    file = import_module(module).__file__
    assert file is not None
    assert (import_module("pathlib").Path(file).parent / "py.typed").exists()
