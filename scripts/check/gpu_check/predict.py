"""Expected speed of drafting at measured costs: at published acceptance rates, and on recorded traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from localspec.bench.curves import NamedCosts, match_costs
from localspec.bench.simulation import compare_categories, compare_traces
from localspec.bench.trace import read_traces
from localspec.bench.tuning import best_depth, draft_seconds, expected_tokens
from localspec.control.costs import Costs

#: Published: what, draft tokens a step, share of them accepted. llama.cpp counts all draft tokens, also those after a
#: wrong one. Sources: ggml-org/llama.cpp#23398, ikawrakow/ik_llama.cpp#1744, and reports on a 12B Q6_K.
PUBLISHED = (
    ("31B, code and extraction", 1, 0.961),
    ("31B, a story", 1, 0.745),
    ("31B Q4_0, questions", 3, 0.701),
    ("31B Q4_0, Python code", 3, 0.582),
    ("31B Q4_0, creative text", 2, 0.538),
    ("12B, JSON", 3, 0.97),
    ("12B, code", 3, 0.77),
)
#: Widest pass, in tokens, and multiples of a single pass that rows of a fixed width are shown for.
_WIDEST, _FIXED = 32, (2, 3, 4, 6, 8)


def conditional(depth: int, share: float) -> float:
    """The chance a that a draft token is right if those before it were, from the share of ``depth`` tokens accepted.

    Solves (a + a² + … + a^depth) / depth = share by bisection.
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_tokens(middle, depth) - 1 < share * depth else (low, middle)
    return (low + high) / 2


def gains(costs: Costs) -> list[dict[str, Any]]:
    """Best depth and speed over plain decoding at each published rate, with variable and with fixed widths."""
    name = "mtp" if "mtp" in costs.drafters else None
    found = []
    for what, depth, share in PUBLISHED:
        rate = conditional(depth, share)
        best = best_depth(costs, name, rate, _WIDEST)
        fixed = {str(width): fixed_ratio(costs, name, rate, width) for width in _FIXED}
        found.append({"text": what, "rate": rate, "depth": best.depth, "ratio": best.ratio, "fixed": fixed})
    return found


def fixed_ratio(costs: Costs, name: str | None, rate: float, width: int) -> float:
    """Speed over unpadded plain decoding where every pass has ``width`` rows, at the best depth that they hold."""
    plain, padded = costs.verify.seconds(1) + costs.python, costs.verify.seconds(width) + costs.python
    speeds = (expected_tokens(rate, n) / (padded + draft_seconds(costs, name, n)) for n in range(width))
    return max(speeds) * plain


def simulate(costs: Costs, machine: str, traces: Path) -> dict[str, Any]:
    """Replay recorded traces at ``costs``; drafters without costs are left out, with a sentence."""
    recorded = read_traces(traces)
    names = dict.fromkeys(name for trace in recorded for name in trace.guesses)
    matched = match_costs(NamedCosts(machine, machine, costs), list(names), None)
    replayed = list(compare_traces(recorded, matched.costs, matched.sources, _WIDEST))
    categories = [one.to_dict() for one in compare_categories(replayed)]
    return {"sources": list(matched.sources), "notices": list(matched.notices), "categories": categories}
