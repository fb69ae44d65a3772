"""Write raw results as JSON lines, run by run, so that a later measurement continues an interrupted one.

A line is ``{"kind": "meta", "setting": KEY, ...}`` (what was measured, where and when) or ``{"kind": "run",
"setting": KEY, "unit": {...}, "mode": NAME, ...}``. A unit is what all modes are tried on before the next: a prompt in
a pass, with a category. Only runs of one setting are compared, and only units that every mode of the setting finished.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Run:
    """One answer. ``generated`` counts the end token; ``generate_s`` is the time from the first token to the last.

    ``first_s`` is the time to the first token, ``wall_s`` what the caller waited for the whole answer, ``digest`` names
    the tokens. Counts of drafts and shares of time are None where the mode does not tell.
    """

    generated: int
    generate_s: float
    prompt_tokens: int
    prompt_s: float
    first_s: float
    wall_s: float
    digest: str = ""
    proposed: int | None = None
    accepted: int | None = None
    steps: int | None = None
    target_s: float | None = None
    draft_s: float | None = None
    python_s: float | None = None

    @property
    def rate(self) -> float:
        """Tokens a second after the first token, which the prefill gives; 0 for answers of one token."""
        return (self.generated - 1) / self.generate_s if self.generated > 1 and self.generate_s > 0 else 0.0

    @property
    def whole(self) -> float:
        """Tokens a second of the whole answer, prompt included."""
        return self.generated / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def prefill(self) -> float:
        """Prompt tokens a second."""
        return self.prompt_tokens / self.prompt_s if self.prompt_s > 0 else 0.0


@dataclass(frozen=True)
class Unit:
    """A ``prompt`` of a ``category`` in pass ``turn``, under ``more`` conditions: run by all modes before the next."""

    prompt: str
    category: str
    turn: int = 0
    more: tuple[tuple[str, int | str], ...] = ()

    def to_dict(self) -> dict[str, int | str]:
        return {"prompt": self.prompt, "category": self.category, "turn": self.turn, **dict(self.more)}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Unit:
        own = ("prompt", "category", "turn")
        more = tuple(sorted((key, value) for key, value in record.items() if key not in own))
        return cls(record["prompt"], record["category"], record.get("turn", 0), more)


@dataclass
class Study:
    """All complete units of one setting: unit → mode's name → run. ``extra``: other lines of the file."""

    setting: dict[str, Any]
    metas: list[dict[str, Any]] = field(default_factory=list)
    units: dict[Unit, dict[str, Run]] = field(default_factory=dict)
    extra: list[dict[str, Any]] = field(default_factory=list)

    @property
    def modes(self) -> list[str]:
        return [mode["name"] for mode in self.setting["modes"]]

    def of_side(self, side: str) -> list[str]:
        """Return the names of the modes of ``ours`` or ``peer``."""
        return [mode["name"] for mode in self.setting["modes"] if mode["side"] == side]

    @property
    def categories(self) -> list[str]:
        return list(dict.fromkeys(unit.category for unit in self.units))


def setting_key(setting: Mapping[str, Any]) -> str:
    """Hash a setting: runs are comparable if it is equal."""
    return hashlib.sha256(json.dumps(setting, sort_keys=True).encode()).hexdigest()[:12]


class RunFile:
    """Appends runs to a file of JSON lines, and finds the units that the file has complete."""

    def __init__(self, path: Path, setting: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        """Open a file. ``setting``: equal for runs that are comparable. ``about``: machine, date, versions."""
        self.path, self._key = path, setting_key(setting)
        self.earlier = next((s for s in read(path) if setting_key(s.setting) == self._key), Study(dict(setting)))
        path.parent.mkdir(parents=True, exist_ok=True)
        _mend_end(path)
        self._write({"kind": "meta", "setting": self._key, "of": dict(setting), "about": dict(about)})

    def has(self, unit: Unit) -> bool:
        """Return True if every mode has finished ``unit``."""
        return unit in self.earlier.units

    def add(self, unit: Unit, mode: str, run: Run) -> None:
        values = {key: value for key, value in asdict(run).items() if value is not None}
        self._write({"kind": "run", "setting": self._key, "unit": unit.to_dict(), "mode": mode, **_short(values)})

    def note(self, kind: str, **values: Any) -> None:
        """Append a line of another kind, for :attr:`Study.extra`."""
        self._write({"kind": kind, "setting": self._key, **values})

    def study(self) -> Study:
        """Return the runs of this setting in the file."""
        return next(study for study in read(self.path) if setting_key(study.setting) == self._key)

    def _write(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _short(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}


def _mend_end(path: Path) -> None:
    """End a line that an interrupted run has left unfinished."""
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("a", encoding="utf-8") as stream:
            stream.write("\n")


def read(*paths: Path) -> list[Study]:
    """Read studies from files of JSON lines (``.gz`` too). Incomplete units and broken lines are left out."""
    studies: dict[str, Study] = {}
    found: dict[str, dict[Unit, dict[str, Run]]] = {}
    for line in (line for path in paths for line in _lines(path)):
        key, kind = str(line.get("setting")), line.get("kind")
        if kind == "meta":
            studies.setdefault(key, Study(line["of"])).metas.append(line["about"])
        elif key not in studies:
            continue
        elif kind == "run":
            runs = found.setdefault(key, {}).setdefault(Unit.from_dict(line["unit"]), {})
            runs[line["mode"]] = Run(**{f.name: line[f.name] for f in fields(Run) if f.name in line})
        else:
            studies[key].extra.append(line)
    for key, study in studies.items():
        for unit, runs in found.get(key, {}).items():
            if all(mode in runs for mode in study.modes):
                study.units[unit] = runs
    return list(studies.values())


def _lines(path: Path) -> Sequence[dict[str, Any]]:
    if not path.exists():
        return []
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    lines = []
    for text in data.decode("utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # an interrupted write
        if isinstance(line, dict):
            lines.append(line)
    return lines
