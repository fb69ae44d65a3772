"""Costs of named machines: files of ``localspec tune --save``, and examples that ship.

A file is a JSON object ``{"name", "machine", "verify": {width: ms}, "drafters": {...}, "python": ms}``. Optional:
``widest``, the largest width of a pass, and ``cell``, the ms that each cached token adds to a row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localspec.control.costs import Costs, DraftCosts
from localspec.control.prior import CURVES
from localspec.errors import InputError
from localspec.params import MAX_VERIFY_WIDTH


@dataclass(frozen=True)
class NamedCosts:
    """``costs`` of ``machine``, where passes are at most ``widest`` tokens wide."""

    name: str
    machine: str
    costs: Costs
    widest: int = MAX_VERIFY_WIDTH

    def to_dict(self) -> dict[str, Any]:
        """Return values for JSON, as :meth:`from_dict` reads them."""
        return {"name": self.name, "machine": self.machine, "widest": self.widest, **self.costs.to_dict()}

    @classmethod
    def from_dict(cls, record: object, where: str) -> NamedCosts:
        """Read the values of :meth:`to_dict` in the file ``where``. Raises :class:`InputError`."""
        if not isinstance(record, dict):
            raise InputError(
                f'{where} is not a JSON object; it must be {{"name", "machine", "verify": {{width: ms}}, ...}}.'
            )
        widest = record.get("widest", MAX_VERIFY_WIDTH)
        if isinstance(widest, bool) or not isinstance(widest, int) or not 1 <= widest <= MAX_VERIFY_WIDTH:
            raise InputError(f"{where} has {widest!r:.20} as widest; it must be from 1 to {MAX_VERIFY_WIDTH}.")
        try:
            costs = Costs.from_dict(record)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        return cls(str(record.get("name", where)), str(record.get("machine", "not named")), costs, widest)


def examples() -> list[str]:
    """Return the names of the curves that ship."""
    return sorted(path.stem for path in CURVES.glob("*.json"))


def read_curve(name: str) -> NamedCosts:
    """Read the costs in a file, or the example of that name. Raises :class:`InputError`."""
    path = Path(name)
    if name in examples():
        path = CURVES / f"{name}.json"
    elif not path.exists():
        raise InputError(
            f"there is no curve {name}; give a file of `localspec tune --save`, or one of {', '.join(examples())}."
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the cost curve in {path} cannot be read ({reason:.100}).") from None
    return NamedCosts.from_dict(record, path.name)


@dataclass(frozen=True)
class MatchedCosts:
    """Costs for the drafters of some traces.

    ``sources``: names of the drafters that can be replayed. ``notices``: a sentence for each drafter whose costs are
    scaled or missing.
    """

    costs: Costs
    sources: tuple[str, ...]
    notices: tuple[str, ...]


def match_costs(curve: NamedCosts, recorded: Sequence[str], here: Costs | None) -> MatchedCosts:
    """Complete ``curve`` for the ``recorded`` drafters and n-gram lookup.

    A drafter without costs in the curve gets its costs on this machine (``here``), scaled by the ratio of the two
    passes over one token: memory bandwidth bounds both. Without costs here it is left out.
    """
    drafters, sources, notices = dict(curve.costs.drafters), ["ngram"], []
    for name in recorded:
        if name in drafters:
            sources.append(name)
        elif here is not None and name in here.drafters:
            factor = curve.costs.verify.seconds(1) / here.verify.seconds(1)
            known = here.drafters[name]
            drafters[name] = DraftCosts(known.first.scaled(factor), factor * known.step)
            sources.append(name)
            notices.append(
                f"{curve.name} has no costs of the drafter {name}; those of this machine are used, times {factor:.3g}, "
                "the ratio of the passes over one token."
            )
        else:
            notices.append(
                f'{curve.name} has no costs of the drafter {name}, which is left out; add them under "drafters".'
            )
    return MatchedCosts(replace(curve.costs, drafters=drafters), tuple(sources), tuple(notices))
