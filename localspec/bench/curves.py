"""Costs of named machines: files of ``localspec tune --save``, and examples that ship.

A file is a JSON object ``{"name", "machine", "verify": {width: ms}, "drafters": {...}, "python": ms}``, with ``widest``
where passes must not be wider, and ``cell``, the ms that each token in the cache adds to a row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localspec.control.costs import Costs, DraftCosts
from localspec.errors import InputError
from localspec.params import MAX_VERIFY_WIDTH

_SHIPPED = Path(__file__).parent / "curves"


@dataclass(frozen=True)
class NamedCosts:
    """``costs`` of ``machine``; passes there are at most ``widest`` wide."""

    name: str
    machine: str
    costs: Costs
    widest: int = MAX_VERIFY_WIDTH

    def record(self) -> dict[str, Any]:
        """What JSON can say, for :meth:`of`."""
        return {"name": self.name, "machine": self.machine, "widest": self.widest, **self.costs.to_dict()}

    @classmethod
    def of(cls, record: object, where: str) -> NamedCosts:
        """What :meth:`record` gave, read from ``where``. Raises :class:`InputError` where it is not that."""
        if not isinstance(record, dict):
            raise InputError(
                f'{where} holds no object; it must be {{"name", "machine", "verify": {{width: ms}}, ...}}.'
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
    """Names of the curves that ship."""
    return sorted(path.stem for path in _SHIPPED.glob("*.json"))


def read_curve(name: str) -> NamedCosts:
    """The costs in a file, or the example of that name. Raises :class:`InputError`."""
    path = Path(name)
    if name in examples():
        path = _SHIPPED / f"{name}.json"
    elif not path.exists():
        raise InputError(
            f"there is no curve {name}; give a file of `localspec tune --save`, or one of {', '.join(examples())}."
        )
    try:
        record = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"the cost curve in {path} cannot be read ({reason:.100}).") from None
    return NamedCosts.of(record, path.name)


@dataclass(frozen=True)
class Fit:
    """Costs for the drafters that traces have: ``sources`` can be replayed; ``notices`` say what was done for it."""

    costs: Costs
    sources: tuple[str, ...]
    notices: tuple[str, ...]


def fitted(curve: NamedCosts, recorded: Sequence[str], here: Costs | None) -> Fit:
    """``curve`` for traces that have ``recorded`` drafters, n-gram lookup besides.

    A drafter that the curve does not have costs what it costs ``here``, scaled as a pass over one token differs: both
    are bound by memory there. It is left out where nothing is known of it.
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
                f"{curve.name} has no costs of the drafter {name}: those of here are taken, {factor:.3g} times as "
                "long, as a pass over one token is."
            )
        else:
            notices.append(
                f'{curve.name} has no costs of the drafter {name}, which is left out; add them under "drafters".'
            )
    costs = replace(curve.costs, drafters=drafters)
    return Fit(costs, tuple(sources), tuple(notices))
