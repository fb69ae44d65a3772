"""Choose the files of a model in a repository: a listing and a :class:`HubName` to the parts of one model.

The rules are those of llama.cpp (``common/download.cpp``: ``find_best_model``, ``get_split_files``,
``gguf_filename_is_model``); docstrings name the differences. The choice is by file names; the content is checked from
the header after the download.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from localspec.errors import ModelNotFoundError
from localspec.files import size_text
from localspec.models.hub.names import HubName, gemma_4_size, is_drafter_repository

#: Quants that are taken for a name without one, llama.cpp's; then the first model of the listing.
DEFAULT_QUANTS = ("Q4_K_M", "Q8_0")

_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})", re.IGNORECASE)
_QUANT = re.compile(
    r"(?<![a-z0-9])((?:UD-)?(?:I?Q\d(?:_\w+)?|TQ\d_\d|MXFP4(?:_MOE)?|NVFP4|BF16|FP?16|FP?32))(?![a-z0-9])",
    re.IGNORECASE,
)
_NO_MODEL = re.compile(r"mmproj|imatrix", re.IGNORECASE)
_HEAD = re.compile(r"mtp-|^(?i:mtp-)")
_OTHER_HEAD = re.compile(r"eagle3-|dflash-|dspark-", re.IGNORECASE)
_ASSISTANT = re.compile(r"gemma[-_ ]?4.*(?:assistant|mtp)", re.IGNORECASE)
#: Targets whose drafter is best in Q4_0: few active weights, or trained for 4 bits.
_Q4_DRAFTER = re.compile(r"[-_]a\d+b[-_.]|qat|_q4_0-it", re.IGNORECASE)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: path, size in bytes, and SHA-256 if the Hub gives one."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Chosen:
    """The files of a model, one or all parts of a split in order; ``quant`` is read from their name."""

    files: tuple[HubFile, ...]
    quant: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(file.size for file in self.files)

    @property
    def first(self) -> HubFile:
        """The file to load; llama.cpp finds the other parts beside it."""
        return self.files[0]


def is_model(path: str) -> bool:
    """True if a file of this name may be a main model.

    By llama.cpp's rule it is no projector, importance matrix or head (``mtp-``, ``eagle3-``, ``dflash-``,
    ``dspark-``). Also excluded here: these names in capitals, files in a folder ``MTP``, and Gemma 4 files with
    ``assistant`` or ``MTP`` in the name. ``-MTP-`` in the middle of another name is a model with a head (Qwen).
    """
    *folders, base = path.split("/")
    if not base.lower().endswith(".gguf") or _NO_MODEL.search(base) or _HEAD.search(base) or _OTHER_HEAD.search(base):
        return False
    return not any(folder.lower() == "mtp" for folder in folders) and not _ASSISTANT.search(base)


def is_drafter(path: str) -> bool:
    """True if a file of this name may be an MTP assistant; heads of other kinds are not."""
    base = path.rpartition("/")[2]
    return (
        base.lower().endswith(".gguf")
        and not is_model(path)
        and not _NO_MODEL.search(base)
        and not _OTHER_HEAD.search(base)
    )


def is_projector(path: str) -> bool:
    """True if a file of this name may be a projector, for pictures and sound."""
    base = path.rpartition("/")[2].lower()
    return base.endswith(".gguf") and "mmproj" in base


def quant_of(path: str) -> str | None:
    """The quant in a file's name, in capitals (``UD-Q4_K_XL``), or None.

    llama.cpp takes the last part of the name, which is ``IT`` for Google's ``gemma-4-31B_q4_0-it.gguf``.
    """
    base = _stem(path).rpartition("/")[2]
    found = _QUANT.findall(base)
    return found[-1].upper() if found else None


@dataclass
class _FileSet:
    """The files of one model: a single file, or the parts of a split by number."""

    count: int
    parts: dict[int, HubFile] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.parts[min(self.parts)].path

    @property
    def quant(self) -> str | None:
        return quant_of(self.path)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.parts.values())

    def matches(self, tag: str) -> bool:
        """True if the set is of the quant ``tag``.

        llama.cpp's rule with two differences: llama.cpp does not check the character before the tag, so ``F16`` matches
        ``BF16``; and here a tag does not match elsewhere in the name if the name has another quant."""
        if self.quant and quant_of(f"{tag}.gguf") == tag.upper():
            return f"-{self.quant}".endswith(f"-{tag.upper()}")
        return re.search(rf"(?:^|[./_-]){re.escape(tag)}[./-]", self.path, re.IGNORECASE) is not None

    def chosen(self, name: HubName) -> Chosen:
        missing = [part for part in range(1, self.count + 1) if part not in self.parts]
        if missing:
            raise ModelNotFoundError(
                f"{name.repo} lacks part {missing[0]} of {self.count} of {_stem(self.path)}; choose another quant or "
                "repository."
            )
        return Chosen(tuple(self.parts[part] for part in range(1, self.count + 1)), self.quant)


def choose_model(listing: Sequence[HubFile], name: HubName) -> Chosen:
    """The target with this name, never a drafter, projector or importance matrix.

    Without a quant: Q4_K_M, then Q8_0, then the first model of the listing. Of several models with the quant, the one
    with exactly that quant is taken (``Q4_K_M``, not ``UD-Q4_K_M``), then the one in the fewest folders, then the one
    in fewer parts; llama.cpp takes the first. Raises :class:`ModelNotFoundError`, with a list of the models and sizes,
    if the quant is missing or ambiguous, a part of a split is missing, the file is no model, or there is no GGUF model.
    """
    models = [] if is_drafter_repository(name.repo) else _sets(listing, is_model)
    if name.file is not None:
        return _of_file(_sets(listing, _is_gguf), name, models).chosen(name)
    if not models:
        raise _no_model(listing, name)
    return _of_quant(models, name, DEFAULT_QUANTS).chosen(name)


def complete_models(listing: Iterable[HubFile]) -> list[Chosen]:
    """All models and drafters of a listing whose parts are all there, in the order of the listing."""
    sets = _sets(listing, lambda path: _is_gguf(path) and not _NO_MODEL.search(path.rpartition("/")[2]))
    whole = [found for found in sets if set(found.parts) == set(range(1, found.count + 1))]
    return [found.chosen(HubName("")) for found in whole]


def choose_drafter(listing: Sequence[HubFile], target: Chosen, quant: str | None = None) -> Chosen | None:
    """The MTP assistant for ``target`` in the listing of its own or another repository, or None.

    Without a ``quant`` see :func:`_preference`. Raises :class:`ModelNotFoundError` if no assistant has the quant.
    """
    drafters = _drafters(listing, target)
    if not drafters:
        return None
    name = HubName("the repository", quant)
    best = _of_quant(drafters, name) if quant else min(drafters, key=_preference(target.first.path))
    return best.chosen(name)


def choose_named_drafter(listing: Sequence[HubFile], name: HubName, target: Chosen | None = None) -> Chosen:
    """The drafter of ``--draft NAME``: an assistant if the repository holds one for the target, else a model.

    Raises as :func:`choose_model` does, also if it holds assistants for several targets and ``target`` is None.
    """
    ggufs = _sets(listing, _is_gguf)
    if name.file is not None:
        return _of_file(ggufs, name, [found for found in ggufs if not _NO_MODEL.search(found.path)]).chosen(name)
    drafters = _drafters(listing, target, _is_gguf if is_drafter_repository(name.repo) else is_drafter)
    if not any(found.matches(name.quant) for found in drafters) if name.quant else not drafters:
        return choose_model(listing, name)
    if name.quant:
        return _of_quant(drafters, name).chosen(name)
    if len({gemma_4_size(found.path) for found in drafters}) > 1:
        raise _ambiguous(drafters, name)
    return min(drafters, key=_preference(target.first.path if target else name.repo)).chosen(name)


def choose_projector(listing: Sequence[HubFile], target: Chosen) -> Chosen | None:
    """The projector of a target's repository: F16, then BF16, Q8_0 and F32; None if it has none.

    Files with another size of Gemma 4 in the name are left out. A smaller type saves little beside the target, and
    reads small print in pictures worse.
    """
    order = ["F16", "BF16", "Q8_0", None, "F32"]

    def rank(found: _FileSet) -> tuple[int, int, int, str]:
        quant = found.quant.replace("FP", "F") if found.quant else None
        return order.index(quant) if quant in order else len(order), found.path.count("/"), found.size, found.path

    found = min(_drafters(listing, target, is_projector), key=rank, default=None)
    return Chosen(tuple(found.parts.values()), found.quant) if found and found.count == 1 else None


def _drafters(
    listing: Sequence[HubFile], target: Chosen | None, wanted: Callable[[str], bool] = is_drafter
) -> list[_FileSet]:
    """The files that may be the target's; those with another size of Gemma 4 in the name are left out."""
    size = gemma_4_size(target.first.path) if target else None
    drafters = _sets(listing, wanted)
    return [found for found in drafters if size is None or gemma_4_size(found.path) in (None, size)]


def _preference(target: str) -> Callable[[_FileSet], tuple[int, int, int, str]]:
    """Sort key of assistants: Q8_0, then Q4_0, then no quant in the name (the publisher's choice), then by size.

    A draft step in Q8_0 reads about 3% of the bytes that its target reads for a token, so a smaller type saves little,
    and each rejected draft token costs a step. Q4_0 comes first where the share is larger (26B-A4B, whose experts read
    a tenth of its weights: 460 MB beside about 2 GB) and for weights trained for 4 bits (``qat``).
    """
    order = ["Q4_0", None, "Q8_0"] if _Q4_DRAFTER.search(target) else ["Q8_0", "Q4_0", None]

    def rank(found: _FileSet) -> tuple[int, int, int, str]:
        place = order.index(found.quant) if found.quant in order else len(order)
        return place, found.path.count("/"), found.size, found.path

    return rank


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


def _stem(path: str) -> str:
    """The path without ``.gguf`` and without the number of a part."""
    stem = path[: -len(".gguf")] if _is_gguf(path) else path
    split = _SPLIT.fullmatch(stem)
    return split[1] if split and int(split[3]) > 1 else stem


def _sets(listing: Iterable[HubFile], wanted: Callable[[str], bool]) -> list[_FileSet]:
    """Files whose path is ``wanted``, parts of a split together, in the order of the listing."""
    sets: dict[tuple[str, int], _FileSet] = {}
    for file in listing:
        if not wanted(file.path):
            continue
        split = _SPLIT.fullmatch(file.path[: -len(".gguf")])
        part, count = (int(split[2]), int(split[3])) if split and int(split[3]) > 1 else (1, 1)
        sets.setdefault((_stem(file.path), count), _FileSet(count)).parts[part] = file
    return list(sets.values())


def _of_file(ggufs: list[_FileSet], name: HubName, allowed: list[_FileSet]) -> _FileSet:
    """The set of a named file, whose folder may be left out if its name is unique."""
    wanted = name.file or ""
    paths = {file.path for found in ggufs for file in found.parts.values()}
    same = {wanted} & paths or {path for path in paths if path.rpartition("/")[2] == wanted}
    for found in allowed:
        if len(same) == 1 and same & {file.path for file in found.parts.values()}:
            return found
    if len(same) == 1:
        kind = "no model but a drafter; give it with -d" if is_drafter(wanted) else "no language model"
        raise ModelNotFoundError(f"{name} is {kind}. {_offer(allowed, name)}")
    raise ModelNotFoundError(f"{name.repo} has no file {wanted}. {_offer(allowed, name)}")


def _of_quant(sets: list[_FileSet], name: HubName, defaults: Sequence[str] = ()) -> _FileSet:
    """The set with the quant of the name, else with the first default that exists, else the first set."""
    for tag in [name.quant] if name.quant else defaults:
        found = [candidate for candidate in sets if candidate.matches(tag)]
        found = [candidate for candidate in found if candidate.quant == tag.upper()] or found
        least = min((candidate.path.count("/") for candidate in found), default=0)
        found = [candidate for candidate in found if candidate.path.count("/") == least]
        if len({_stem(candidate.path) for candidate in found}) == 1:  # one file, and the same in parts
            return min(found, key=lambda candidate: candidate.count)
        if len(found) > 1:
            raise _ambiguous(found, name)
    if name.quant:
        raise ModelNotFoundError(f"{name.repo} has no quant {name.quant}. {_offer(sets, name)}")
    return sets[0]


def _ambiguous(found: list[_FileSet], name: HubName) -> ModelNotFoundError:
    return ModelNotFoundError(f"{name} may be one of several. {_offer(found, name)}")


def _offer(sets: list[_FileSet], name: HubName) -> str:
    """A sentence that lists the models, smallest first: by quant if quants are distinct, else by path."""
    if not sets:
        return "It has no GGUF model."
    sets = sorted(sets, key=lambda found: found.size)
    quants = [found.quant for found in sets if found.quant]
    by_quant = len(set(quants)) == len(sets)
    labels = quants if by_quant else [found.path for found in sets]
    listed = ", ".join(f"{label} ({size_text(found.size)})" for label, found in zip(labels, sets, strict=True))
    example = next((label for label in labels if label and "q4" in label.lower()), labels[-1])
    return f"It has {listed}; give {name.repo}{':' if by_quant else '/'}{example}, for example."


def _no_model(listing: Sequence[HubFile], name: HubName) -> ModelNotFoundError:
    if any(_is_gguf(file.path) and not _NO_MODEL.search(file.path) for file in listing):
        return ModelNotFoundError(f"{name.repo} holds only drafters; give it with -d, and its target with -m.")
    if any(file.path.endswith(".safetensors") for file in listing):
        return ModelNotFoundError(
            f"{name.repo} holds safetensors, no GGUF model; download it and make one with `localspec convert`, or look "
            "for a repository whose name ends in -GGUF."
        )
    return ModelNotFoundError(f"{name.repo} holds no GGUF model; choose another repository.")
