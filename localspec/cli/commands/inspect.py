"""``localspec inspect``: what a GGUF file holds, what it is for, and what on disk goes with it."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from localspec.gguf.header import GgufHeader

#: Files looked at beside the one that is inspected.
_MOST_BESIDE = 64
_MAX_VOCAB_DIFFERENCE, _FIRST_COMPARED = 128, 5
_TOKENS = "tokenizer.ggml.tokens"
_SHOWN = 100
_TRIMMED = "trimmed drafter"


@dataclass(frozen=True)
class Pairing:
    """A file beside the inspected one that would draft for it, or that it would draft for."""

    file: str
    role: str


@dataclass(frozen=True)
class Inspection:
    """``role``: "assistant", "draft model" (smaller than a model beside it, and of its vocabulary), "trimmed drafter",
    or "target".

    ``inexact`` is the first matrix whose rows a CPU may compute differently in a batch, by its type.
    """

    header: GgufHeader
    role: str
    drafters: tuple[Pairing, ...]
    targets: tuple[Pairing, ...]
    inexact: str | None

    @property
    def types(self) -> dict[str, tuple[int, int]]:
        """Type → number of tensors and their bytes, largest first."""
        counts, sizes = Counter[str](), Counter[str]()
        for tensor in self.header.tensors:
            counts[type_name(tensor.type)] += 1
            sizes[type_name(tensor.type)] += tensor.bytes or 0
        return {name: (counts[name], size) for name, size in sizes.most_common()}


@click.command(short_help="Show what a GGUF file holds.")
@click.argument("name", metavar="FILE")
@click.option("--tensors", is_flag=True, help="Also list the tensors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object in place of text.")
def inspect(name: str, tensors: bool, as_json: bool) -> None:
    """Show metadata, tensors by type, and role of the GGUF file FILE, and which drafters beside it would go with it.

    Reads the header only, and does not load the model.
    """
    from localspec.gguf.header import read_header
    from localspec.models.resolve import resolve_model

    found = look_at(read_header(resolve_model(name)))
    if as_json:
        click.echo(json.dumps(as_object(found)))
        return
    click.echo("\n".join([*summary(found), "", *metadata(found.header), *(listing(found.header) if tensors else [])]))


def look_at(header: GgufHeader) -> Inspection:
    """Everything about a file that headers tell."""
    from localspec.gguf.header import is_trimmed
    from localspec.models.pairing import is_assistant

    drafters, targets = [], []
    for other in beside(header.path):
        if role := drafts_for(other, header):
            drafters.append(Pairing(str(other.path), role))
        elif role := drafts_for(header, other):
            targets.append(Pairing(str(other.path), role))
    role = "draft model" if targets else "target"
    if is_assistant(header) or is_trimmed(header):
        role = "assistant" if is_assistant(header) else _TRIMMED
    return Inspection(header, role, tuple(drafters), tuple(targets), inexact_tensor(header))


def beside(path: Path) -> Iterator[GgufHeader]:
    """The readable GGUF files in the folder of ``path`` and its ``MTP``; for a file in ``MTP`` in the one above too."""
    from localspec.errors import LocalspecError
    from localspec.gguf.header import read_header

    folder = path.resolve().parent
    patterns = [(folder, "*.gguf"), (folder, "MTP/*.gguf")]
    if folder.name == "MTP":
        patterns.append((folder.parent, "*.gguf"))
    found = sorted(file for place, pattern in patterns for file in place.glob(pattern))
    for file in islice((file for file in found if file != path.resolve()), _MOST_BESIDE):
        try:
            yield read_header(file)
        except LocalspecError:
            continue


def drafts_for(drafter: GgufHeader, target: GgufHeader) -> str | None:
    """What ``drafter`` would be to ``target``: an assistant, a draft model, a trimmed one, or nothing."""
    from localspec.errors import ModelFileError
    from localspec.gguf.header import is_trimmed
    from localspec.models.pairing import assistant_mismatch, is_assistant, pairing

    try:
        if is_assistant(drafter):
            return None if assistant_mismatch(target, drafter) else "assistant"
        if is_assistant(target) or is_trimmed(target):
            return None
        if is_trimmed(drafter):
            return _TRIMMED if pairing(target, drafter).kind else None
    except ModelFileError:
        return None
    smaller = _weights(drafter) * 10 < _weights(target) * 8  # another quantisation of the same model is no drafter
    return "draft model" if smaller and _same_vocabulary(drafter, target) else None


def _weights(header: GgufHeader) -> int:
    return sum(tensor.elements for tensor in header.tensors)


def _same_vocabulary(a: GgufHeader, b: GgufHeader) -> bool:
    """llama.cpp's rule, from the files."""
    sizes = [header.lengths.get(_TOKENS, 0) for header in (a, b)]
    if not all(sizes) or abs(sizes[0] - sizes[1]) > _MAX_VOCAB_DIFFERENCE:
        return False
    for key in ("model", "bos_token_id", "add_bos_token"):
        if a.metadata.get(f"tokenizer.ggml.{key}") != b.metadata.get(f"tokenizer.ggml.{key}"):
            return False
    texts = [header.strings(_TOKENS)[_FIRST_COMPARED : min(sizes)] for header in (a, b)]
    return texts[0] == texts[1]


def inexact_tensor(header: GgufHeader) -> str | None:
    """The first matrix that is multiplied in another type than Q4_0 or Q8_0, or None."""
    others = (tensor.name for tensor in header.multiplied if type_name(tensor.type) not in ("Q4_0", "Q8_0"))
    return next(others, None)


def type_name(number: int) -> str:
    from localspec.gguf.types import TYPE_NAMES

    return TYPE_NAMES.get(number, f"type {number}")


def as_object(found: Inspection) -> dict[str, Any]:
    """What ``--json`` prints."""
    header = found.header
    return {
        "file": str(header.path),
        "architecture": header.architecture,
        "role": found.role,
        "bytes": header.path.stat().st_size,
        "parameters": _weights(header),
        "exact_rows": found.inexact is None,
        "drafters": [asdict(pairing) for pairing in found.drafters],
        "targets": [asdict(pairing) for pairing in found.targets],
        "types": {name: {"tensors": count, "bytes": size} for name, (count, size) in found.types.items()},
        "metadata": {key: _plain(value) for key, value in header.metadata.items()},
        "array_lengths": header.lengths,
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "type": type_name(t.type), "bytes": t.bytes}
            for t in header.tensors
        ],
    }


def _plain(value: Any) -> Any:
    """JSON has neither infinity nor NaN."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def summary(found: Inspection) -> list[str]:
    """What it is, how large, and what goes with it."""
    from localspec.files import size_text

    header = found.header
    lines = [
        f"{header.path}",
        f"  {found.role}, {header.architecture}, {_count(_weights(header))} weights, "
        f"{size_text(header.path.stat().st_size)}",
    ]
    lines += [f"  {name}: {count} tensors, {size_text(total)}" for name, (count, total) in found.types.items()]
    if found.inexact is None:
        lines.append("  On a CPU rows of a batch equal single rows, by the types.")
    else:
        kind = next(type_name(t.type) for t in header.tensors if t.name == found.inexact)
        lines.append(f"  On a CPU rows of a batch may differ from single rows ({found.inexact} is {kind}).")
    if found.role not in ("assistant", _TRIMMED) and not found.drafters:
        lines.append("  No file beside it would draft for it.")
    lines += [f"  {pairing.role} for it: {pairing.file}" for pairing in found.drafters]
    lines += [f"  {pairing.role} for: {pairing.file}" for pairing in found.targets]
    return lines


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def metadata(header: GgufHeader) -> list[str]:
    """A line for each key."""
    from localspec.cli.terminal.style import columns

    room = max(40, columns(sys.stdout, _SHOWN) - 1)
    values: dict[str, object] = {key: f"{count} values" for key, count in header.lengths.items()}
    for key, value in header.metadata.items():
        values[key] = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return [_cut(f"{key}: {_one_line(value)}", room) for key, value in sorted(values.items())]


def listing(header: GgufHeader) -> list[str]:
    """A line for each tensor."""
    wide = max((len(tensor.name) for tensor in header.tensors), default=0)
    return ["", *(f"{_one_line(t.name):<{wide}}  {type_name(t.type):<7} {list(t.shape)}" for t in header.tensors)]


def _one_line(value: object) -> str:
    """Without what would move the cursor: a file's texts are not the terminal's."""
    return re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f]", " ", str(value))


def _cut(line: str, room: int) -> str:
    return line if len(line) <= room else line[: room - 3] + "..."
