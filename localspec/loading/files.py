"""Names → the files of a pair, checked from their headers: nothing is loaded here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from localspec.errors import DraftMismatchError, ModelFileError
from localspec.gguf.header import GgufHeader, is_trimmed, read_header
from localspec.models.eagle import check_eagle, is_eagle
from localspec.models.heads import check_heads, has_heads, is_heads_alone
from localspec.models.pairing import check_assistant, check_vocabulary, find_pairing, is_assistant
from localspec.models.projector import find_projector, is_projector
from localspec.models.resolve import resolve_model


@dataclass(frozen=True)
class PairFiles:
    """Headers of a target and of a drafter's file, if it has one.

    ``kind`` of drafter: ``none``, ``ngram``, ``mtp`` (an assistant), ``heads`` (in the target's file or alone, or
    EAGLE-3) or ``model``. ``named``: the user chose it. ``projector``: that of the target, if it has one. ``late``: the
    drafter's file in place of ``draft``, where it is loaded after the first answer.
    """

    target: GgufHeader
    kind: str
    draft: GgufHeader | None = None
    named: bool = True
    projector: GgufHeader | None = None
    late: GgufHeader | None = None

    @property
    def headers(self) -> tuple[GgufHeader, GgufHeader | None]:
        return self.target, self.draft or self.late

    @property
    def draft_path(self) -> Path | None:
        return self.draft.path if self.draft else None

    @property
    def paths(self) -> list[Path]:
        return [header.path for header in (*self.headers, self.projector) if header]


def find_files(target: str | Path, draft: str | Path | None, projector: str | Path | None = None) -> PairFiles:
    """Find the files of the names that :func:`localspec.load` takes.

    Raises :class:`ModelError` for files that are damaged or not of the right kind, and :class:`DraftMismatchError` for
    a drafter that does not go with the target.
    """
    header = _target_header(resolve_model(target))
    eyes = find_projector(header, None if projector is None else str(projector))
    return replace(_find_drafter(header, draft), projector=eyes)


def _find_drafter(header: GgufHeader, draft: str | Path | None) -> PairFiles:
    name = str(draft or "none")
    if name in ("none", "ngram"):
        return PairFiles(header, name)
    if name in ("auto", "mtp"):
        return _find_best(header, name)
    drafter = read_header(resolve_model(name, drafter=True))
    if is_eagle(drafter) or is_heads_alone(drafter):
        (check_eagle if is_eagle(drafter) else check_heads)(header, drafter)
        return PairFiles(header, "heads", drafter)
    if is_assistant(drafter):
        check_assistant(header, drafter)
        return PairFiles(header, "mtp", drafter)
    check_vocabulary(header, drafter)
    return PairFiles(header, "model", drafter)


def _find_best(header: GgufHeader, name: str) -> PairFiles:
    """The pair for ``auto`` or ``mtp``: with heads in the target's file, else with the best drafter on disk."""
    named = name != "auto"
    if has_heads(header):
        return PairFiles(header, "heads", None, named)
    found = find_pairing(header)
    if named and (found is None or found.kind not in ("mtp", "heads")):
        raise DraftMismatchError(
            f"{header.path.name} has no prediction heads, and no assistant or file of heads was found for it; "
            "give one with -d, or use `-d auto`."
        )
    if found is None:
        return PairFiles(header, "ngram", None, named)
    kind = {"eagle3": "heads", "trimmed": "model"}.get(str(found.kind), str(found.kind))
    return PairFiles(header, kind, found.drafter, named)


def _target_header(path: Path) -> GgufHeader:
    header = read_header(path)
    if is_assistant(header):
        raise ModelFileError(
            f"{path} is an MTP assistant, which only drafts; give it with -d and its Gemma 4 target with -m."
        )
    if is_heads_alone(header):
        raise ModelFileError(
            f"{path} has prediction heads alone, which only draft; give it with -d and its target as -m."
        )
    if is_eagle(header):
        raise ModelFileError(f"{path} is an EAGLE-3 head, which only drafts; give it with -d and its target as -m.")
    if is_projector(header):
        raise ModelFileError(f"{path} is a multimodal projector, not a language model; give the model it belongs to.")
    if is_trimmed(header):
        raise ModelFileError(
            f"{path} is a trimmed drafter, which lacks most tokens; give it with -d and its target with -m."
        )
    return header
