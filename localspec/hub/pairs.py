"""What goes with what, decided from the files' headers, not their names."""

from __future__ import annotations

from pathlib import Path

from localspec.errors import DraftMismatchError, LocalspecError, ModelFileError
from localspec.gguf_header import GgufHeader, read_header
from localspec.hub.resolve import TINY_ASSISTANT, TINY_TARGET

ASSISTANT = "gemma4-assistant"
_OLD_ASSISTANT = "gemma4_assistant"
#: Assistants for these target architectures.
_TARGETS = ("gemma4",)


def is_assistant(header: GgufHeader) -> bool:
    """Whether the file is an MTP assistant. Raises for files of older forks, which llama.cpp cannot read."""
    if header.architecture == _OLD_ASSISTANT:
        raise ModelFileError(
            f"{header.path} was converted by an older fork (architecture {_OLD_ASSISTANT!r}); "
            "convert the assistant's checkpoint again with `localspec convert`."
        )
    return header.architecture == ASSISTANT


def assistant_mismatch(target: GgufHeader, assistant: GgufHeader) -> str | None:
    """Why ``assistant`` cannot draft for ``target``, or None when it can.

    llama.cpp aborts the process on these, so they are checked before a context is made.
    """
    if target.architecture not in _TARGETS:
        return f"an assistant drafts for Gemma 4 targets, and the target is {target.architecture!r}"
    wants, has = assistant.number("embedding_length_out"), target.number("embedding_length")
    if wants != has:
        return f"the assistant reads hidden rows of width {wants}, and the target's are {has} wide"
    for key in ("attention.key_length", "attention.key_length_swa"):
        wants, has = assistant.number(key), target.number(key)
        if wants != has:
            return f"their {key} differ ({wants} and {has}), so it cannot read the target's cache"
    a, b = _vocabulary_size(assistant), _vocabulary_size(target)
    if a is not None and b is not None and a != b:
        return f"their vocabularies differ in size ({a} and {b})"
    return None


def check_assistant(target: GgufHeader, assistant: GgufHeader) -> None:
    """Raise :class:`DraftMismatchError` unless the assistant goes with the target."""
    reason = assistant_mismatch(target, assistant)
    if reason:
        raise DraftMismatchError(
            f"{assistant.path.name} cannot draft for {target.path.name}: {reason}. "
            "Give the assistant made for this target, or use `-d ngram`."
        )


def find_assistant(target: GgufHeader) -> Path | None:
    """An assistant for ``target`` among the files beside it (and in ``MTP/``), the built-in one for ``tiny``."""
    if target.path.resolve() == TINY_TARGET.resolve():
        return TINY_ASSISTANT
    if target.architecture not in _TARGETS:
        return None
    folder = target.path.parent
    for path in sorted([*folder.glob("*.gguf"), *folder.glob("MTP/*.gguf")]):
        try:
            header = read_header(path)
            if is_assistant(header) and assistant_mismatch(target, header) is None:
                return path
        except LocalspecError:
            continue
    return None


def _vocabulary_size(header: GgufHeader) -> int | None:
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight":
            return tensor.shape[-1]
    return None
