"""Prediction heads in files: in a target's own, behind its layers, or in one of their own."""

from __future__ import annotations

from localspec.errors import DraftMismatchError
from localspec.gguf.header import GgufHeader
from localspec.models.drafter_kinds import HEADS


def has_heads(header: GgufHeader) -> bool:
    """True if the file has prediction heads that llama.cpp can draft with, as a part of the model or alone."""
    heads, layers = header.number("nextn_predict_layers") or 0, header.number("block_count") or 0
    chain = HEADS.get(header.architecture)
    if chain is None or not 0 < heads <= layers or (heads > 1 and not chain):
        return False
    names = {tensor.name for tensor in header.tensors}
    return all(f"blk.{layers - 1 - i}.nextn.eh_proj.weight" in names for i in range(heads))


def is_heads_alone(header: GgufHeader) -> bool:
    """True for a file of prediction heads without the layers before them (``mtp-*.gguf``)."""
    return has_heads(header) and all(tensor.name != "blk.0.attn_norm.weight" for tensor in header.tensors)


def heads_mismatch(target: GgufHeader, heads: GgufHeader) -> str | None:
    """Reason why a file of ``heads`` alone cannot draft for ``target``, None if it can."""
    if target.architecture != heads.architecture:
        return f"its heads are those of {heads.architecture!r}, and the target is {target.architecture!r}"
    wants, has = heads.number("embedding_length"), target.number("embedding_length")
    if wants != has:
        return f"the heads read hidden rows of width {wants}, and the target's are {has} wide"
    a, b = embedding_rows(heads), embedding_rows(target)
    return None if a == b else f"their vocabularies differ in size ({a} and {b})"


def check_heads(target: GgufHeader, heads: GgufHeader) -> None:
    """Raise :class:`DraftMismatchError` if a file of heads cannot draft for the target."""
    if reason := heads_mismatch(target, heads):
        raise DraftMismatchError(
            f"{heads.path.name} cannot draft for {target.path.name}: {reason}. "
            "Give the heads made for this target, or use `-d ngram`."
        )


def embedding_rows(header: GgufHeader) -> int | None:
    """Rows of the token embedding; None where the header lists none."""
    for tensor in header.tensors:
        if tensor.name == "token_embd.weight":
            return tensor.shape[-1]
    return None
