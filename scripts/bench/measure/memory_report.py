"""Tabulate peak memory, and localspec's over llama-server's with the same models."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.bench.measure.peers_report import MEMORY, Aim
from scripts.bench.measure.tables import Table


@dataclass
class Peaks:
    """Measurements of one pair with one context: mode → a line of bytes for each process."""

    pair: str
    ctx: int
    about: dict[str, Any]
    of: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def median(self, mode: str, what: str = "peak") -> float:
        return float(statistics.median(line[what] for line in self.of[mode]))


def read_peaks(path: Path) -> list[Peaks]:
    """Read a file of scripts.bench.memory, by pair and context."""
    found: dict[tuple[str, int], Peaks] = {}
    for text in path.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        pair = f"{line['model']} with {line['draft']}"
        peaks = found.setdefault((pair, line["ctx"]), Peaks(pair, line["ctx"], line["about"]))
        peaks.of.setdefault(line["mode"], []).append(line)
    return list(found.values())


def counterpart(mode: str, modes: Sequence[str]) -> str | None:
    """Return the mode of llama-server that loads the same models as ``mode``."""
    if not mode.startswith("localspec"):
        return None
    plain = mode in ("localspec none", "localspec ngram")
    peers = [one for one in modes if one.startswith("llama-server")]
    return next((one for one in peers if ("draft" not in one) == plain), None)


def table(peaks: Peaks) -> Table:
    """Return the peaks of each mode, and localspec's over llama-server's with the same models."""
    rows = []
    for mode in peaks.of:
        base = counterpart(mode, list(peaks.of))
        ratio = f"{peaks.median(mode) / peaks.median(base):.2f}" if base else "–"
        cells = [f"{peaks.median(mode, what) / 2**20:.0f} MiB" for what in ("peak", "anonymous")]
        rows.append((mode, *cells, ratio))
    title = f"Peak memory: {peaks.pair}, context of {peaks.ctx} tokens"
    return Table(title, ("mode", "peak", "not backed by a file", "to llama-server's"), tuple(rows))


def aims(peaks: Peaks) -> list[Aim]:
    """Return the aim for peak memory with the pair."""
    found = []
    for mode in peaks.of:
        base = counterpart(mode, list(peaks.of))
        if base and mode == "localspec auto":
            value = peaks.median(mode) / peaks.median(base)
            found.append(Aim("peak memory over llama-server's", peaks.pair, MEMORY, value, most=True))
    return found
