"""Which files of a repository a name means: a listing and a :class:`HubName` → the parts of one model. Pure.

The rules are those of llama.cpp (``common/download.cpp``: ``find_best_model``, ``get_split_files``,
``gguf_filename_is_model``); where they differ, the docstrings say so. Names are all there is before a download: what a
file really holds is checked afterwards, from its header.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from localspec.errors import ModelNotFoundError
from localspec.files import size_text
from localspec.models.hub.names import HubName, gemma_4_size, is_drafter_repository

#: With no quant asked for, as llama.cpp has it; then the first model of the listing.
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
_READS_LITTLE = re.compile(r"[-_]a\d+b[-_.]|qat|_q4_0-it", re.IGNORECASE)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository: its path there, bytes, and the SHA-256 of its contents where the Hub has one."""

    path: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Chosen:
    """A model: one file, or every part of a split in order; ``quant`` is what its name says it is."""

    files: tuple[HubFile, ...]
    quant: str | None = None

    @property
    def size(self) -> int:
        """Bytes of all parts."""
        return sum(file.size for file in self.files)

    @property
    def first(self) -> HubFile:
        """What is loaded: llama.cpp finds the other parts beside it."""
        return self.files[0]


def is_model(path: str) -> bool:
    """Whether a file of that name may be a main model.

    As llama.cpp has it, no projector, importance matrix or head (``mtp-``, ``eagle3-``, ``dflash-``, ``dspark-``).
    Beyond it, these in capitals too, nothing in a folder ``MTP``, and no Gemma 4 file that says ``assistant`` or
    ``MTP``. Only ``-MTP-`` in the middle of another name is of a model with a head inside (Qwen).
    """
    *folders, base = path.split("/")
    if not base.lower().endswith(".gguf") or _NO_MODEL.search(base) or _HEAD.search(base) or _OTHER_HEAD.search(base):
        return False
    return not any(folder.lower() == "mtp" for folder in folders) and not _ASSISTANT.search(base)


def is_drafter(path: str) -> bool:
    """Whether a file of that name may be an MTP assistant; heads of other kinds are none."""
    base = path.rpartition("/")[2]
    return (
        base.lower().endswith(".gguf")
        and not is_model(path)
        and not _NO_MODEL.search(base)
        and not _OTHER_HEAD.search(base)
    )


def quant_of(path: str) -> str | None:
    """The quant that a file's name tells, in capitals (``UD-Q4_K_XL``), or None.

    llama.cpp takes what stands last; Google's ``gemma-4-31B_q4_0-it.gguf`` would be ``IT``.
    """
    base = _stem(path).rpartition("/")[2]
    found = _QUANT.findall(base)
    return found[-1].upper() if found else None


@dataclass
class _Set:
    """What belongs together: a file, or the parts of a split by number."""

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
        """llama.cpp's rule, but for two things: on the left of the tag it has none, so that ``F16`` is also ``BF16``;
        and here a quant does not match elsewhere in the name of a file that tells its own."""
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
    """The target that ``name`` means: never a drafter, projector or importance matrix.

    With no quant Q4_K_M, then Q8_0, then the first model of the listing. A quant that several sets have is settled by
    the one whose quant is just that (``Q4_K_M``, not ``UD-Q4_K_M``), then by the one in the fewest folders, then by the
    one in fewer parts; llama.cpp takes the first. Raises :class:`ModelNotFoundError`, which lists what there is with
    sizes, when the quant is missing or ambiguous, a part of a split is missing, the file is no model, or there is no
    GGUF model at all.
    """
    models = [] if is_drafter_repository(name.repo) else _sets(listing, is_model)
    if name.file is not None:
        return _of_file(_sets(listing, _is_gguf), name, models).chosen(name)
    if not models:
        raise _no_model(listing, name)
    return _of_quant(models, name, DEFAULT_QUANTS).chosen(name)


def choose_drafter(listing: Sequence[HubFile], target: Chosen, quant: str | None = None) -> Chosen | None:
    """The MTP assistant for ``target`` in the listing of its own or another repository, or None.

    ``quant`` is what the user asks for; :class:`ModelNotFoundError` where there are assistants, but none of it.
    Without, see :func:`_preference`.
    """
    drafters = _drafters(listing, target)
    if not drafters:
        return None
    name = HubName("the repository", quant)
    best = _of_quant(drafters, name) if quant else min(drafters, key=_preference(target.first.path))
    return best.chosen(name)


def choose_named_drafter(listing: Sequence[HubFile], name: HubName, target: Chosen | None = None) -> Chosen:
    """What ``--draft NAME`` means: an assistant if the repository holds any for the target, else a model.

    Raises as :func:`choose_model` does, also where it holds assistants for several targets and ``target`` is None.
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


def _drafters(
    listing: Sequence[HubFile], target: Chosen | None, wanted: Callable[[str], bool] = is_drafter
) -> list[_Set]:
    """The assistants that may be the target's: none that names another size of Gemma 4."""
    size = gemma_4_size(target.first.path) if target else None
    drafters = _sets(listing, wanted)
    return [found for found in drafters if size is None or gemma_4_size(found.path) in (None, size)]


def _preference(target: str) -> Callable[[_Set], tuple[int, int, int, str]]:
    """Which quant of an assistant: Q8_0, then Q4_0, what names none (its publisher's choice), the smallest.

    A draft that is refused costs a step, and a draft step in Q8_0 reads some 3 % of what its target reads for a token:
    there is little to save. Q4_0 comes first where it is more than that, a mixture of experts that reads a tenth of its
    weights (26B-A4B: 460 MB beside some 2 GB), and where the weights were trained for it (``qat``).
    """
    order = ["Q4_0", None, "Q8_0"] if _READS_LITTLE.search(target) else ["Q8_0", "Q4_0", None]

    def rank(found: _Set) -> tuple[int, int, int, str]:
        place = order.index(found.quant) if found.quant in order else len(order)
        return place, found.path.count("/"), found.size, found.path

    return rank


def _is_gguf(path: str) -> bool:
    return path.lower().endswith(".gguf")


def _stem(path: str) -> str:
    """The path without ``.gguf`` and without a part's number."""
    stem = path[: -len(".gguf")] if _is_gguf(path) else path
    split = _SPLIT.fullmatch(stem)
    return split[1] if split and int(split[3]) > 1 else stem


def _sets(listing: Iterable[HubFile], wanted: Callable[[str], bool]) -> list[_Set]:
    """The wanted files, parts of a split together, in the order of the listing."""
    sets: dict[tuple[str, int], _Set] = {}
    for file in listing:
        if not wanted(file.path):
            continue
        split = _SPLIT.fullmatch(file.path[: -len(".gguf")])
        part, count = (int(split[2]), int(split[3])) if split and int(split[3]) > 1 else (1, 1)
        sets.setdefault((_stem(file.path), count), _Set(count)).parts[part] = file
    return list(sets.values())


def _of_file(ggufs: list[_Set], name: HubName, allowed: list[_Set]) -> _Set:
    """The set that a named file belongs to; its folder may be left out where that says as much."""
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


def _of_quant(sets: list[_Set], name: HubName, defaults: Sequence[str] = ()) -> _Set:
    """The set of the quant that is asked for, else of the first default that there is, else the first."""
    for tag in [name.quant] if name.quant else defaults:
        found = [candidate for candidate in sets if candidate.matches(tag)]
        found = [candidate for candidate in found if candidate.quant == tag.upper()] or found
        least = min((candidate.path.count("/") for candidate in found), default=0)
        found = [candidate for candidate in found if candidate.path.count("/") == least]
        if len({_stem(candidate.path) for candidate in found}) == 1:  # whole, and in parts for old programs
            return min(found, key=lambda candidate: candidate.count)
        if len(found) > 1:
            raise _ambiguous(found, name)
    if name.quant:
        raise ModelNotFoundError(f"{name.repo} has no quant {name.quant}. {_offer(sets, name)}")
    return sets[0]


def _ambiguous(found: list[_Set], name: HubName) -> ModelNotFoundError:
    return ModelNotFoundError(f"{name} may be one of several. {_offer(found, name)}")


def _offer(sets: list[_Set], name: HubName) -> str:
    """A sentence with what there is, smallest first: by quant where that tells them apart, else by path."""
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
