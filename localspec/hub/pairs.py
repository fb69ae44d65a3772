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
_CACHE_SHAPE = tuple(f"attention.{what}_length{kind}" for what in ("key", "value") for kind in ("", "_swa"))


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
    reason = _cache_mismatch(target, assistant)
    if reason:
        return f"their {reason}, so it cannot read the target's cache"
    layers, predicting = assistant.number("block_count"), assistant.number("nextn_predict_layers")
    if layers != predicting:
        return f"it has {layers} layers, of which {predicting} predict; an assistant predicts with all"
    a, b = _vocabulary_size(assistant), _vocabulary_size(target)
    if a is not None and b is not None and a != b:
        return f"their vocabularies differ in size ({a} and {b})"
    return None


def _cache_mismatch(target: GgufHeader, assistant: GgufHeader) -> str | None:
    for key in _CACHE_SHAPE:
        shape, other = assistant.number(key), target.number(key)
        if shape != other:
            return f"{key} differ ({shape} and {other})"
    heads, others = _cache_heads(assistant), _cache_heads(target)
    return None if heads == others else f"attention.head_count_kv differ ({heads} and {others})"


def _cache_heads(header: GgufHeader) -> tuple[object, object]:
    """Key/value heads of the last sliding and the last full layer: the two whose cache an assistant reads."""
    heads = header.metadata.get(f"{header.architecture}.attention.head_count_kv")
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    if not isinstance(heads, tuple) or not isinstance(pattern, tuple):
        return heads, heads
    last = {bool(sliding): count for sliding, count in zip(pattern, heads, strict=False)}
    return last.get(True), last.get(False)


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
