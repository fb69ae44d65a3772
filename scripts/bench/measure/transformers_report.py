"""Tabulate drafting on the built-in pair, in localspec and in transformers' assisted generation."""

from __future__ import annotations

from scripts.bench.measure.peers_report import OURS_PLAIN
from scripts.bench.measure.records import Study
from scripts.bench.measure.statistics import chosen, interval, median_of, ratios, share, whole
from scripts.bench.measure.tables import Table, number, percent

THEIR_PLAIN = "transformers plain"


def table(study: Study, auto: str = "localspec auto") -> Table:
    """Return a row for each mode and category: rate, ratio to its side's plain decoding, ratio of localspec to it."""
    rows = []
    for category in study.categories:
        units = chosen(study, category)
        for mode in study.modes:
            base = OURS_PLAIN if mode in study.of_side("ours") else THEIR_PLAIN
            rows.append(
                (
                    f"{category}, {mode}",
                    number(median_of(study, mode, units), 0),
                    "–" if mode == base else str(interval(ratios(study, units, mode, base)) or "–"),
                    "–" if mode == base else str(interval(ratios(study, units, mode, base, whole)) or "–"),
                    percent(share(study, mode, units, "accepted", "proposed")),
                    "–" if mode == auto else str(interval(ratios(study, units, auto, mode, whole)) or "–"),
                )
            )
    header = (
        "category, mode", "tok/s", "to its own plain", "the same, whole answer", "accepted", "auto to it, whole answer",
    )  # fmt: skip
    note = "Medians of per-prompt ratios with 95% bootstrap intervals."
    return Table("The built-in pair and transformers", header, tuple(rows), note)
