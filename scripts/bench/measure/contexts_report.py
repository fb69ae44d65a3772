"""Tabulate ratios by length of context and number of threads."""

from __future__ import annotations

from scripts.bench.measure.peers_report import OURS_AUTO, OURS_PLAIN, short
from scripts.bench.measure.records import Study
from scripts.bench.measure.statistics import best_peer, chosen, interval, median_of, ratios
from scripts.bench.measure.tables import Table, number, percent


def conditions(study: Study) -> list[tuple[int, int]]:
    """Return the units' (threads, tokens before the question), threads falling, lengths rising."""
    found = {(int(dict(unit.more)["threads"]), int(dict(unit.more)["context"])) for unit in study.units}
    return sorted(found, key=lambda pair: (-pair[0], pair[1]))


def table(study: Study, auto: str = OURS_AUTO) -> Table:
    """Return a row for each condition: rates of plain and automatic, their ratio, and the ratio to the best peer."""
    rows = []
    for threads, length in conditions(study):
        units = chosen(study, None, threads=threads, context=length)
        own = ratios(study, units, auto, OURS_PLAIN)
        peer = best_peer(study, None, threads=threads, context=length)
        row = [
            f"{threads} thread{'s' if threads > 1 else ''}, {length} tokens",
            str(len(own)),
            number(median_of(study, OURS_PLAIN, units), 1),
            number(median_of(study, auto, units), 1),
            str(interval(own) or "–"),
            percent(min(own) if own else None),
        ]
        if study.of_side("peer"):
            against = interval(ratios(study, units, auto, peer)) if peer else None
            row += [str(against or "–"), short(peer) if peer else "–"]
        rows.append(tuple(row))
    header = ["context", "prompts", "plain, tok/s", "auto, tok/s", "auto / plain", "slowest prompt"]
    header += ["auto / best peer", "that mode"] if study.of_side("peer") else []
    note = "Medians of per-prompt ratios with 95% bootstrap intervals; generation only."
    return Table("Context and threads", tuple(header), tuple(rows), note)
