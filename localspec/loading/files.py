"""Names → the files of a pair, checked from their headers: nothing is loaded here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from localspec.errors import ModelFileError
from localspec.gguf.header import GgufHeader, is_trimmed, read_header
from localspec.models.pairing import check_assistant, check_vocabulary, find_drafter, is_assistant
from localspec.models.resolve import resolve_model


@dataclass(frozen=True)
class PairFiles:
    """Headers of a target and of a drafter's file, if it has one.

    ``kind`` of drafter: ``none``, ``ngram``, ``mtp`` or ``model``. ``named``: the user chose it.
    """

    target: GgufHeader
    kind: str
    draft: GgufHeader | None = None
    named: bool = True

    @property
    def headers(self) -> tuple[GgufHeader, GgufHeader | None]:
        return self.target, self.draft

    @property
    def draft_path(self) -> Path | None:
        return self.draft.path if self.draft else None

    @property
    def paths(self) -> list[Path]:
        return [header.path for header in self.headers if header]


def find_files(target: str | Path, draft: str | Path | None) -> PairFiles:
    """Find the files of the names that :func:`localspec.load` takes.

    Raises :class:`ModelError` for files that are damaged or not of the right kind, and :class:`DraftMismatchError` for
    a drafter that does not go with the target.
    """
    header, name = _target_header(resolve_model(target)), str(draft or "none")
    if name in ("none", "ngram"):
        return PairFiles(header, name)
    named = name != "auto"
    path = resolve_model(name, drafter=True) if named else find_drafter(header)
    if path is None:
        return PairFiles(header, "ngram", None, named)
    drafter = read_header(path)
    if is_assistant(drafter):
        check_assistant(header, drafter)
        return PairFiles(header, "mtp", drafter, named)
    check_vocabulary(header, drafter)
    return PairFiles(header, "model", drafter, named)


def _target_header(path: Path) -> GgufHeader:
    header = read_header(path)
    if is_assistant(header):
        raise ModelFileError(
            f"{path} is an MTP assistant, which only drafts; give it with -d and its Gemma 4 target with -m."
        )
    if header.architecture in ("clip", "mmproj") or header.metadata.get("general.type") == "mmproj":
        raise ModelFileError(f"{path} is a multimodal projector, not a language model; give the model it belongs to.")
    if is_trimmed(header):
        raise ModelFileError(
            f"{path} is a trimmed drafter, which lacks most tokens; give it with -d and its target with -m."
        )
    return header
