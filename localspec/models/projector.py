"""Find the projector of a target, and check that the two go together, from their headers alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from localspec.errors import LocalspecError, ModelFileError
from localspec.files import BUILT_IN
from localspec.gguf.header import GgufHeader, read_header
from localspec.gguf.types import FILE_TYPES

#: Architecture of a projector's file.
PROJECTOR = "clip"
#: Kinds of projectors that only one family of targets has.
_FAMILIES = {
    "gemma4v": "gemma4", "gemma4uv": "gemma4", "gemma4a": "gemma4", "gemma4ua": "gemma4", "gemma3": "gemma3",
}  # fmt: skip
#: Most cells of a picture (``clip.cpp``, load_hparams) of the kinds whose pictures are decoded in one pass.
_ONE_PASS = {"gemma4v": 1120, "gemma4uv": 1120, "gemma3": 256}
#: Fewest cells of a picture of Gemma 4, and the ratio of sides for which a small table of positions has room.
_FEWEST, _SIDES = 70, 4
#: Widths of the targets whose pictures are causal nevertheless: Gemma 4 E2B and E4B (``mtmd_decode_use_non_causal``).
_CAUSAL_WIDTHS = (1536, 2560)
#: Rank of the same projector in several types, by ``general.file_type``.
_TYPE_RANKS = {FILE_TYPES[name]: rank for rank, name in enumerate(("F16", "BF16", "Q8_0", "F32")) if name in FILE_TYPES}


def is_projector(header: GgufHeader) -> bool:
    """True for a multimodal projector (mmproj)."""
    return header.architecture in (PROJECTOR, "mmproj") or header.metadata.get("general.type") == "mmproj"


def projector_kinds(header: GgufHeader) -> frozenset[str]:
    """Kinds of media that a projector reads: ``picture``, ``sound``."""
    found = {"picture": "vision", "sound": "audio"}
    return frozenset(kind for kind, what in found.items() if header.metadata.get(f"clip.has_{what}_encoder") is True)


def projector_mismatch(target: GgufHeader, projector: GgufHeader) -> str | None:
    """Reason why ``projector`` does not go with ``target``, None if it does."""
    kinds = projector_kinds(projector)
    if not kinds:
        return "it has neither a vision nor an audio encoder"
    width = target.number("embedding_length")
    for what in ("vision", "audio"):
        made = projector.metadata.get(f"clip.{what}.projection_dim")
        if projector.metadata.get(f"clip.has_{what}_encoder") is True and made != width:
            return f"it makes embeddings {made} wide, and the target's are {width} wide"
        family = _FAMILIES.get(_type(projector, what) or "")
        if family is not None and family != target.architecture:
            return f"it is of {family}, and the target of {target.architecture}"
    return None


def find_projector(target: GgufHeader, named: str | None = None) -> GgufHeader | None:
    """The projector of that path; without one (or ``auto``), that of the target on disk, if any. ``none``: None.

    Raises :class:`ModelError` for a named file that cannot be used.
    """
    if named == "none":
        return None
    if named not in (None, "auto"):
        header = read_header(Path(str(named)).expanduser(), model=False)
        if not is_projector(header):
            raise ModelFileError(f"{header.path} is no projector; give the mmproj file of the model (--mmproj).")
        if reason := projector_mismatch(target, header):
            raise ModelFileError(f"{header.path.name} does not go with {target.path.name}: {reason}. Give another one.")
        return header
    found = []
    for place, path in enumerate(dict.fromkeys(_candidates(target))):
        try:
            header = read_header(path, model=False)
        except (LocalspecError, OSError):
            continue
        if is_projector(header) and projector_mismatch(target, header) is None:
            file_type = header.metadata.get("general.file_type")
            rank = _TYPE_RANKS.get(file_type, 9) if isinstance(file_type, int) else 9
            found.append((rank, place, header))
    return min(found, key=lambda one: one[:2])[2] if found else None


def one_pass_cells(target: GgufHeader, projector: GgufHeader, image_tokens: tuple[int, int] | None = None) -> int:
    """Most cells of a picture that must be decoded in one pass; 0 where its parts may be decoded one by one."""
    kind = _type(projector, "vision")
    if kind not in _ONE_PASS or (kind == "gemma4v" and target.number("embedding_length") in _CAUSAL_WIDTHS):
        return 0
    return image_tokens[1] if image_tokens and kind != "gemma3" else _ONE_PASS[kind]


def places_in_a_row(projector: GgufHeader) -> int | None:
    """Most cells of a picture beside or below one another, by the table of positions; None without a table for each."""
    kind = _type(projector, "vision")
    if kind not in ("gemma4v", "gemma4uv"):
        return None
    rows = next((tensor.shape[1] for tensor in projector.tensors if tensor.name == "v.position_embd.weight"), 0)
    merged = projector.metadata.get("clip.vision.projector.scale_factor", 3) if kind == "gemma4v" else 1
    return rows // merged if isinstance(merged, int) and merged > 0 else 0


def picture_cells(projector: GgufHeader, wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    """Fewest and most cells of a picture: those ``wanted``, else what a small table of positions has room for.

    Then pictures of up to 4:1 fit in any size. None: the projector's own limits.
    """
    places = places_in_a_row(projector)
    room = _ONE_PASS["gemma4v"] if places is None else max(1, (places - 1) ** 2 // _SIDES)
    return wanted if wanted or room >= _ONE_PASS["gemma4v"] else (min(_FEWEST, room), room)


def _type(header: GgufHeader, what: str) -> str | None:
    found = header.metadata.get("clip.projector_type") or header.metadata.get(f"clip.{what}.projector_type")
    return found if isinstance(found, str) else None


def _candidates(target: GgufHeader) -> Iterable[Path]:
    """Files that may be the target's projector: beside it, in ``mmproj/`` there, and pulled for it."""
    folder = target.path.parent
    if folder.resolve() == BUILT_IN.resolve():
        return sorted(folder.glob("*mmproj*.gguf"))
    from localspec.models import store

    beside = [*sorted(folder.glob("*mmproj*.gguf")), *sorted(folder.glob("mmproj*/*.gguf"))]
    stored = store.stored_models()
    own = [model for model in stored if model.path.resolve() == target.path.resolve()]
    names = {model.name for model in own}
    pulled = [model.path for model in stored if model.role == "projector" and names & set(model.draft_of)]
    return [*pulled, *beside]
