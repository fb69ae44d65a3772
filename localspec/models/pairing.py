"""Find the drafter for a target from the headers of files, not from their names.

Prediction heads and an MTP assistant are preferred: they read the target's hidden rows, and a draft step costs a few
per cent of a target step. Then comes a trimmed drafter, which was made for drafting, then a smaller model of the same
vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from localspec.errors import DraftMismatchError, LocalspecError, ModelFileError
from localspec.files import parts
from localspec.gguf.header import GgufHeader, is_trimmed, read_header
from localspec.gguf.types import FILE_TYPES, FLOATS
from localspec.models.drafter_kinds import ASSISTED
from localspec.models.eagle import eagle_mismatch, is_eagle, read_layers
from localspec.models.heads import embedding_rows, heads_mismatch, is_heads_alone
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.models.vocabulary import MAX_SIZE_DIFFERENCE, TOKENS, may_share_vocabulary, vocabulary_mismatch

Kind = Literal["heads", "mtp", "eagle3", "trimmed", "model"]
_ORDER: tuple[Kind, ...] = ("heads", "mtp", "eagle3", "trimmed", "model")

#: Architecture of an MTP assistant.
ASSISTANT = "gemma4-assistant"
#: Architecture of assistants that an older fork of llama.cpp wrote.
_OLD_ASSISTANT = "gemma4_assistant"
#: Largest ratio of the bytes that drafter and target read for a token. At 1/2 and an acceptance rate of 80% speed is
#: at most (1 + 0.8) / (1 + 0.5) = 1.2 times; verification and the second model's memory use up this gain.
LARGEST_SHARE = 1 / 2
#: Best ratio. A smaller drafter loses more acceptance than time: with acceptance rates of 0.6 at 1/30, 0.65 at 1/15 and
#: 0.75 at 1/4 (estimates), three draft tokens a step are 2.0, 2.0 and 1.6 times as fast as plain decoding.
BEST_SHARE = 1 / 16
#: Rank of assistants by ``general.file_type``: Q8_0, Q4_0, others (2), floats.
_TYPE_RANKS = {FILE_TYPES["Q8_0"]: 0, FILE_TYPES["Q4_0"]: 1, **{FILE_TYPES[name]: 3 for name in FLOATS}}
#: Keys of the shape of the cache, which an assistant shares with its target.
_CACHE_SHAPE = tuple(f"attention.{what}_length{kind}" for what in ("key", "value") for kind in ("", "_swa"))


def is_assistant(header: GgufHeader) -> bool:
    """True for an MTP assistant. Raises :class:`ModelFileError` for files of older forks, unreadable by llama.cpp."""
    if header.architecture == _OLD_ASSISTANT:
        raise ModelFileError(
            f"{header.path} was converted by an older fork (architecture {_OLD_ASSISTANT!r}); "
            "convert the assistant's checkpoint again with `localspec convert`."
        )
    return header.architecture == ASSISTANT


def assistant_mismatch(target: GgufHeader, assistant: GgufHeader) -> str | None:
    """Reason why ``assistant`` cannot draft for ``target``, None if it can.

    llama.cpp aborts the process in these cases, so they are checked before a context is made.
    """
    if target.architecture not in ASSISTED:
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
    a, b = embedding_rows(assistant), embedding_rows(target)
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
    """Key/value heads of the last sliding-window and the last full layer, whose caches an assistant reads."""
    heads = header.metadata.get(f"{header.architecture}.attention.head_count_kv")
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    if not isinstance(heads, tuple) or not isinstance(pattern, tuple):
        return heads, heads
    last = {bool(sliding): count for sliding, count in zip(pattern, heads, strict=False)}
    return last.get(True), last.get(False)


def only_drafts(header: GgufHeader) -> bool:
    """True for an assistant, prediction heads alone and an EAGLE-3 head."""
    return is_assistant(header) or is_heads_alone(header) or is_eagle(header)


def check_assistant(target: GgufHeader, assistant: GgufHeader) -> None:
    """Raise :class:`DraftMismatchError` if the assistant cannot draft for the target."""
    reason = assistant_mismatch(target, assistant)
    if reason:
        raise DraftMismatchError(
            f"{assistant.path.name} cannot draft for {target.path.name}: {reason}. "
            "Give the assistant made for this target, or use `-d ngram`."
        )


def check_vocabulary(target: GgufHeader, drafter: GgufHeader) -> None:
    """Raise :class:`DraftMismatchError` unless each token id stands for one text in both files."""
    reason = vocabulary_mismatch(target, drafter)
    if reason:
        raise DraftMismatchError(
            f"{drafter.path.name} cannot draft for {target.path.name}: {reason}. "
            "Give a smaller model of the same family, or use `-d ngram`."
        )


@dataclass(frozen=True)
class Pairing:
    """A candidate and its kind as a drafter for the target. If ``kind`` is None it cannot draft, for ``reason``."""

    drafter: GgufHeader
    kind: Kind | None
    reason: str | None = None


def check_pairing(target: GgufHeader, other: GgufHeader) -> Pairing:
    """The kind of drafter that ``other`` is for ``target``. Reads the tokens of both files if it is a model."""
    kind: Kind
    try:
        if is_assistant(other):
            reason, kind = assistant_mismatch(target, other), "mtp"
        elif is_heads_alone(other):
            reason, kind = heads_mismatch(target, other), "heads"
        elif is_eagle(other):
            reason, kind = eagle_mismatch(target, other), "eagle3"
        else:
            kind = "trimmed" if is_trimmed(other) else "model"
            reason = _model_mismatch(target, other) or vocabulary_mismatch(target, other)
    except LocalspecError as error:
        return Pairing(other, None, str(error))
    return Pairing(other, None if reason else kind, reason)


def find_drafter(target: GgufHeader, candidates: Iterable[Path] | None = None) -> Path | None:
    """The file of the best drafter; see :func:`find_pairing`."""
    found = find_pairing(target, candidates)
    return found.drafter.path if found else None


def find_pairing(target: GgufHeader, candidates: Iterable[Path] | None = None) -> Pairing | None:
    """The best of ``candidates`` for ``target``, or None. Without candidates: those of :func:`drafter_candidates`.

    Of two equal ones the one in the earlier folder is taken. Damaged files are skipped. Only the start of most files is
    read: fifty take less than 0.1 s, and the chosen one takes the time of reading its header.
    """
    if target.path.resolve() == TINY_TARGET.resolve():
        return Pairing(read_header(TINY_ASSISTANT), "mtp")
    size, folders = _file_size(target.path), dict[Path, int]()
    plausible = []
    for path in dict.fromkeys(drafter_candidates(target) if candidates is None else candidates):
        place = folders.setdefault(path.parent, len(folders))
        try:
            start = read_header(path, start_only=True)
            share = _file_size(path) / max(size, 1)
            kind = _likely_kind(target, start, share)
        except (LocalspecError, OSError):
            continue
        if kind and path.resolve() != target.path.resolve():
            plausible.append(((_ORDER.index(kind), place, *_rank(kind, start, share)), path))
    for _, path in sorted(plausible):
        try:
            found = check_pairing(target, read_header(path))
        except LocalspecError:
            continue
        if found.kind:
            return found
    return None


def drafter_candidates(target: GgufHeader) -> list[Path]:
    """Files on disk that may draft for ``target``: pulled for it, in its folder and ``MTP/``, then all other models."""
    from localspec.models import store
    from localspec.models.found.search import found_models

    stored = store.stored_models()
    own = [model.name for model in stored if model.path.resolve() == target.path.resolve()]
    pulled_for = [drafter.path for name in own for drafter in store.drafters_for(name)]
    others = [*(model.path for model in stored), *(model.path for model in found_models())]
    return list(dict.fromkeys([*pulled_for, *_beside(target), *others]))


def _beside(target: GgufHeader) -> list[Path]:
    folder = target.path.parent
    return [*sorted(folder.glob("*.gguf")), *sorted(folder.glob("MTP/*.gguf"))]


def _likely_kind(target: GgufHeader, start: GgufHeader, share: float) -> Kind | None:
    """The possible kind of a drafter of which only the ``start`` was read. ``share`` is the ratio of file sizes."""
    if is_assistant(start):
        known = start.number("embedding_length_out") is not None
        return None if known and assistant_mismatch(target, start) else "mtp"
    if is_eagle(start):
        return "eagle3" if read_layers(start) else None  # the end of the file tells
    if not may_share_vocabulary(target, start) or _no_drafter(start):
        return None
    if start.architecture == target.architecture and start.number("nextn_predict_layers"):
        return "heads"  # or a smaller model: the end of the file tells
    sizes = target.lengths.get(TOKENS, 0), start.lengths.get(TOKENS, 0)
    if 0 < sizes[1] < sizes[0] - MAX_SIZE_DIFFERENCE:
        return "trimmed"  # the end of the file tells
    return "model" if share < LARGEST_SHARE or start.number("expert_count") else None


def _rank(kind: Kind, header: GgufHeader, share: float) -> tuple[float, float, str]:
    """Sort key of drafters of one kind, best first."""
    file_type = header.metadata.get("general.file_type")
    type_rank = _TYPE_RANKS.get(file_type, 2) if isinstance(file_type, int) else 2
    distance = type_rank if kind == "mtp" else abs(math.log(max(share, 1e-9) / BEST_SHARE))
    return distance, share, header.path.name


def _model_mismatch(target: GgufHeader, other: GgufHeader) -> str | None:
    if other.path.resolve() == target.path.resolve():
        return "it is the target itself"
    share = _share(target, other)
    if may_share_vocabulary(target, other) and share >= LARGEST_SHARE:  # else the vocabulary is the better reason
        return (
            f"it reads {share:.0%} of the bytes that the target reads for a token; a drafter must read less than "
            f"{LARGEST_SHARE:.0%}"
        )
    return _no_drafter(other)


def _no_drafter(header: GgufHeader) -> str | None:
    """Reason in the metadata why a file can draft for no target, None if there is none."""
    architecture = header.architecture
    if header.metadata.get("general.type", "model") != "model" or architecture == "clip":
        return "it is no language model"
    if header.number("pooling_type") or header.metadata.get(f"{architecture}.attention.causal") is False:
        return "it makes embeddings, not text"
    if header.metadata.get("split.no", 0) != 0:
        return "it is a later part of a model in several files"
    return None


def _share(target: GgufHeader, drafter: GgufHeader) -> float:
    """Bytes that the drafter reads for a token over those of the target."""
    return read_per_token(drafter) / max(read_per_token(target), 1)


def read_per_token(header: GgufHeader) -> float:
    """Bytes of the matrices that are read for one token; of a mixture of experts, those of the active experts."""
    experts, used = header.number("expert_count") or 1, header.number("expert_used_count") or 1
    whole = part = 0.0
    for tensor in header.multiplied:
        size = tensor.bytes or tensor.elements
        whole += size
        part += size * used / experts if "_exps." in tensor.name else size
    if header.metadata.get("split.count", 1) != 1 and whole:  # the header lacks the tensors of the other parts
        return _file_size(header.path) * part / whole
    return part


def _file_size(path: Path) -> int:
    """Bytes of a file, or of all parts of a split if it is the first."""
    return sum(part.stat().st_size for part in parts(path))
