"""An inspected GGUF file as lines or as JSON."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from localspec.cli.inspect.facts import HEADS, ONLY_DRAFT, Inspection, type_name, weights
from localspec.cli.terminal.style import columns
from localspec.files import size_text

if TYPE_CHECKING:
    from localspec.gguf.header import GgufHeader

#: Columns where there is no terminal.
_DEFAULT_WIDTH = 100


def as_object(found: Inspection) -> dict[str, Any]:
    """The object of ``--json``."""
    header = found.header
    return {
        "file": str(header.path),
        "architecture": header.architecture,
        "role": found.role,
        "bytes": header.path.stat().st_size,
        "parameters": weights(header),
        "exact_rows": found.inexact is None,
        "drafters": [asdict(one) for one in found.drafters],
        "targets": [asdict(one) for one in found.targets],
        "types": {name: {"tensors": count, "bytes": size} for name, (count, size) in found.types.items()},
        "metadata": {key: _plain(value) for key, value in header.metadata.items()},
        "array_lengths": header.lengths,
        "tensors": [
            {"name": t.name, "shape": list(t.shape), "type": type_name(t.type), "bytes": t.bytes}
            for t in header.tensors
        ],
    }


def _plain(value: Any) -> Any:
    """Values as JSON, which has neither infinity nor NaN."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, float) and value - value != 0 else value


def summary(found: Inspection) -> list[str]:
    """Role, size, types, and the files it pairs with."""
    header = found.header
    lines = [
        f"{header.path}",
        f"  {found.role}, {header.architecture}, {_count(weights(header))} weights, "
        f"{size_text(header.path.stat().st_size)}",
    ]
    lines += [f"  {name}: {count} tensors, {size_text(total)}" for name, (count, total) in found.types.items()]
    if found.inexact is None:
        lines.append("  On a CPU, rows of a batch equal single rows, by the tensor types.")
    else:
        kind = next(type_name(t.type) for t in header.tensors if t.name == found.inexact)
        lines.append(f"  On a CPU, rows of a batch may differ from single rows ({found.inexact} is {kind}).")
    if found.heads and found.role != HEADS:
        lines.append("  It has prediction heads, which draft for it (-d mtp).")
    elif found.role not in ONLY_DRAFT and not found.drafters:
        lines.append("  No file beside it can draft for it.")
    lines += [f"  {one.role} for it: {one.file}" for one in found.drafters]
    lines += [f"  {one.role} for: {one.file}" for one in found.targets]
    return lines


def _count(number: int) -> str:
    return f"{number / 1e9:.2f} billion" if number >= 1e9 else f"{number / 1e6:.1f} million"


def metadata(header: GgufHeader) -> list[str]:
    """A line for each key, cut at the width of the terminal."""
    width = max(40, columns(sys.stdout, _DEFAULT_WIDTH) - 1)
    values: dict[str, object] = {key: f"{count} values" for key, count in header.lengths.items()}
    for key, value in header.metadata.items():
        values[key] = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return [_cut(f"{key}: {_one_line(value)}", width) for key, value in sorted(values.items())]


def listing(header: GgufHeader) -> list[str]:
    """A line for each tensor."""
    wide = max((len(tensor.name) for tensor in header.tensors), default=0)
    return ["", *(f"{_one_line(t.name):<{wide}}  {type_name(t.type):<7} {list(t.shape)}" for t in header.tensors)]


def _one_line(value: object) -> str:
    """Replace control characters, which could change the terminal."""
    return re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f]", " ", str(value))


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else line[: width - 3] + "..."
