"""Counters of the server in Prometheus's text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from localspec.generation.stats import Stats
from localspec.serve.problem import RequestError
from localspec.serve.scheduler import Job


class Metrics:
    """Sums over all requests since the start."""

    def __init__(self) -> None:
        self._stats = Stats()
        self._ends = Counter[str]()

    def add(self, job: Job, problem: RequestError | None) -> None:
        """Count a request that ended."""
        self._stats.add(job.stats)
        self._ends["done" if problem is None else "cancelled" if problem.status == 499 else "failed"] += 1

    def text(self, running: int, waiting: int) -> str:
        """All of them. ``running`` and ``waiting``: requests now."""
        stats, ends = self._stats, [(f'end="{end}"', count) for end, count in self._ends.items()]
        return "".join(
            [
                _metric("prompt_tokens_total", "Prompt tokens decoded.", [("", stats.prefilled_tokens)]),
                _metric("prompt_tokens_cached_total", "Prompt tokens reused.", [("", stats.cached_tokens)]),
                _metric("prompt_seconds_total", "Seconds of prefill.", [("", stats.prompt_s)]),
                _metric("tokens_predicted_total", "Tokens generated.", [("", stats.generated_tokens)]),
                _metric("tokens_predicted_seconds_total", "Seconds of generation.", [("", stats.generate_s)]),
                _metric("decode_total", "Passes of the target after the prompt.", [("", stats.steps)]),
                _metric("requests_total", "Requests by their end.", ends),
                _metric("requests_processing", "Requests that run.", [("", running)], "gauge"),
                _metric("requests_deferred", "Requests that wait.", [("", waiting)], "gauge"),
                *self._drafts(),
            ]
        )

    def _drafts(self) -> list[str]:
        by = [(f'drafter="{name}"', count) for name, count in self._stats.by_drafter.items()]
        at = [(f'position="{i}"', count) for i, count in enumerate(self._stats.per_position)]
        drafted, accepted = [(label, c.proposed) for label, c in at], [(label, c.accepted) for label, c in at]
        return [
            _metric("spec_decode_num_drafts_total", "Drafts.", [(label, c.steps) for label, c in by]),
            _metric("spec_decode_num_draft_tokens_total", "Draft tokens.", [(label, c.proposed) for label, c in by]),
            _metric("spec_decode_num_accepted_tokens_total", "Accepted.", [(label, c.accepted) for label, c in by]),
            _metric("spec_decode_num_draft_tokens_per_pos_total", "Drafted.", drafted),
            _metric("spec_decode_num_accepted_tokens_per_pos_total", "Accepted.", accepted),
        ]


def _metric(name: str, text: str, found: Sequence[tuple[str, float]], kind: str = "counter") -> str:
    full = f"localspec:{name}"
    lines = [f"# HELP {full} {text}", f"# TYPE {full} {kind}"]
    for labels, value in found:
        shown = f"{{{labels}}}" if labels else ""
        lines.append(f"{full}{shown} {round(value, 6)}")
    return "\n".join(lines) + "\n"
