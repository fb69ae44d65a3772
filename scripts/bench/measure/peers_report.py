"""Tabulate runs against llama-server: rates, ratios, drafts, and the project's aims."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench.measure.records import Study
from scripts.bench.measure.statistics import (
    Ratio,
    against_best,
    against_unseen,
    best_peer,
    chosen,
    first,
    interval,
    median_of,
    prefill,
    ratio,
    same_answers,
    share,
    whole,
)
from scripts.bench.measure.tables import Table, number, percent

PEER_PLAIN = "llama-server plain"
OURS_PLAIN, OURS_AUTO = "localspec none", "localspec auto"
#: Aims against the best mode of llama-server, by category.
AGAINST_BEST = {"code": 1.10, "edit": 1.10}
AGAINST_BEST_ELSE, NEVER_SLOWER, PLAIN, PREFILL, PYTHON, MEMORY = 1.0, 0.98, 0.99, 0.98, 0.02, 1.1


@dataclass(frozen=True)
class Aim:
    """One aim in one category: ``value`` should be ``aim`` or more; with ``most`` it should be ``aim`` or less."""

    what: str
    where: str
    aim: float
    value: float
    ratio: Ratio | None = None
    most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.aim if self.most else self.value >= self.aim

    @property
    def certain(self) -> bool:
        """True if the interval excludes the aim."""
        if self.ratio is None:
            return True
        edge = self.ratio.low if self.met != self.most else self.ratio.high
        return edge <= self.aim if self.met == self.most else edge >= self.aim

    def sentence(self) -> str:
        sign = "≤" if self.most else "≥"
        span = f" [{self.ratio.low:.2f}, {self.ratio.high:.2f}]" if self.ratio else ""
        doubt = "" if self.certain else ", and the interval has the aim within it"
        return f"{self.what}, {self.where}: {self.value:.3f}{span}, aim {sign} {self.aim:g}{doubt}"


def rates(study: Study) -> Table:
    """Return the median tokens a second of each mode in each category."""
    rows = []
    for category in study.categories:
        units = chosen(study, category)
        rows.append((category, *(number(median_of(study, mode, units), 1) for mode in study.modes)))
    return Table("Tokens a second (median)", ("category", *map(short, study.modes)), tuple(rows))


def comparison(study: Study, auto: str = OURS_AUTO) -> Table:
    """Return the ratios that the aims are about, a row for each category and one for all."""
    rows = []
    for category in [*study.categories, None]:
        best = best_peer(study, category) if category else None
        row = [
            category or "all",
            str(len({unit.prompt for unit in chosen(study, category)})),
            _cell(ratio(study, auto, OURS_PLAIN, category)),
            _cell(interval(against_best(study, auto, category))),
            short(best) if best else "–",
            _cell(interval(against_unseen(study, auto, category))),
            _cell(ratio(study, auto, None, category)),
            _cell(ratio(study, OURS_PLAIN, PEER_PLAIN, category) if PEER_PLAIN in study.modes else None),
        ]
        rows.append(tuple(row))
    header = (
        "category", "prompts", "auto / plain", "auto / best peer", "that mode", "auto / best of the others",
        "auto / best per prompt", "plain / peer's plain",
    )  # fmt: skip
    note = (
        "Medians of per-prompt ratios with 95% bootstrap intervals. The best peer is the mode with the highest median "
        "rate in the category, chosen from these very runs, which favours it: of modes that draft nothing the luckiest "
        "is taken. Best of the others: chosen for each prompt from the category's other prompts. Best per prompt: the "
        "fastest peer on each prompt in hindsight."
    )
    return Table("Ratios of generation rates", header, tuple(rows), note)


def pooled(study: Study, auto: str = OURS_AUTO) -> Table:
    """Return ratios of all tokens over all seconds, which weigh long answers more."""
    rows = []
    for category in [*study.categories, None]:
        units = chosen(study, category)
        rate = {mode: share(study, mode, units, "generated", "generate_s") for mode in study.modes}
        peers = {mode: rate[mode] or 0.0 for mode in study.of_side("peer")}
        best = max(peers, key=lambda mode: peers[mode]) if peers else None
        rows.append(
            (
                category or "all",
                _quotient(rate[auto], rate[OURS_PLAIN]),
                _quotient(rate[auto], rate[best]) if best else "–",
                short(best) if best else "–",
                _quotient(rate[OURS_PLAIN], rate.get(PEER_PLAIN)),
            )
        )
    header = ("category", "auto / plain", "auto / best peer", "that mode", "plain / peer's plain")
    return Table("Ratios of all tokens over all seconds", header, tuple(rows))


def _quotient(a: float | None, b: float | None) -> str:
    return number(a / b) if a and b else "–"


def each(study: Study, auto: str = OURS_AUTO) -> list[Table]:
    """Return the ratio of automatic drafting to each mode of llama-server; nothing if there is none."""
    peers = study.of_side("peer")
    rows = [
        (category or "all", *(_cell(ratio(study, auto, mode, category)) for mode in peers))
        for category in [*study.categories, None]
    ]
    header = ("category", *(short(mode).removeprefix("peer: ") for mode in peers))
    return [Table("Ratio of auto to each mode of llama-server", header, tuple(rows))] if peers else []


def answers(study: Study, auto: str = OURS_AUTO) -> Table:
    """Return ratios of whole answers, first tokens and prefill."""
    rows = []
    for category in [*study.categories, None]:
        peer = PEER_PLAIN if PEER_PLAIN in study.modes else None
        rows.append(
            (
                category or "all",
                _cell(ratio(study, auto, OURS_PLAIN, category, whole)),
                _cell(interval(against_best(study, auto, category, whole))),
                _cell(ratio(study, auto, peer, category, first) if peer else None),
                _cell(ratio(study, OURS_PLAIN, peer, category, prefill) if peer else None),
            )
        )
    header = (
        "category", "auto / plain", "auto / best peer", "first token: auto / peer's plain", "prefill: plain / peer's",
    )  # fmt: skip
    note = (
        "Whole answers, prompt included, in tokens a second, the best peer by the same measure; seconds to the first "
        "token (less is better)."
    )
    return Table("Ratios of whole answers", header, tuple(rows), note)


def drafting(study: Study) -> Table:
    """Return acceptance, tokens a step, shares of time and equal answers of each mode."""
    rows = []
    for category in study.categories:
        units = chosen(study, category)
        for mode in study.modes:
            if share(study, mode, units, "accepted", "proposed") is None and not mode.startswith("localspec"):
                continue
            rows.append(
                (
                    f"{category}, {short(mode)}",
                    percent(share(study, mode, units, "accepted", "proposed")),
                    number(share(study, mode, units, "generated", "steps")),
                    percent(share(study, mode, units, "draft_s", "generate_s")),
                    percent(share(study, mode, units, "python_s", "generate_s"), 1),
                    f"{same_answers(study, study.modes[0], mode, units)}/{len(units)}",
                )
            )
    header = ("category, mode", "accepted", "tokens a step", "time drafting", "time in Python", "same tokens")
    note = f"Same tokens: answers that equal those of {study.modes[0]}."
    return Table("Drafts", header, tuple(rows), note)


def others(study: Study, auto: str = OURS_AUTO) -> list[Table]:
    """Return ratios of further modes of localspec (another drafter, a fixed depth); nothing if there are none."""
    further = [mode for mode in study.of_side("ours") if mode not in (auto, OURS_PLAIN)]
    rows = [
        (
            f"{category or 'all'}, {short(mode)}",
            _cell(ratio(study, mode, OURS_PLAIN, category)),
            _cell(ratio(study, mode, auto, category)),
        )
        for category in [*study.categories, None]
        for mode in further
    ]
    header = ("category, mode", "to plain", "to auto")
    return [Table("Further modes of localspec", header, tuple(rows))] if rows else []


def aims(study: Study, auto: str = OURS_AUTO) -> list[Aim]:
    """Return every aim that these runs measure."""
    found: list[Aim] = []

    def add(what: str, where: str, aim: float, value: Ratio | None) -> None:
        if value is not None:
            found.append(Aim(what, where, aim, value.median, value))

    if not {auto, OURS_PLAIN} <= set(study.modes):
        return []
    greedy = study.setting.get("temperature", 0) == 0
    for category in study.categories:
        best = best_peer(study, category)
        if best and greedy:
            aim = AGAINST_BEST.get(category, AGAINST_BEST_ELSE)
            add("drafting over llama-server's best", category, aim, ratio(study, auto, best, category))
        add("drafting over plain", category, NEVER_SLOWER, ratio(study, auto, OURS_PLAIN, category))
        if PEER_PLAIN in study.modes:
            add("plain over llama-server's plain", category, PLAIN, ratio(study, OURS_PLAIN, PEER_PLAIN, category))
    if PEER_PLAIN in study.modes:
        add("prefill over llama-server's", "all", PREFILL, ratio(study, OURS_PLAIN, PEER_PLAIN, None, prefill))
    python = share(study, auto, chosen(study, None), "python_s", "generate_s")
    if python is not None:
        found.append(Aim("Python's share of the time", "all", PYTHON, python, most=True))
    return found


def aims_table(found: Sequence[Aim]) -> Table:
    """Return the aims as a table."""
    rows = [
        (
            f"{one.what}, {one.where}",
            f"{'≤' if one.most else '≥'} {one.aim:g}",
            number(one.value, 3),
            f"{one.ratio.low:.2f} to {one.ratio.high:.2f}" if one.ratio else "–",
            ("met" if one.met else "missed") + ("" if one.certain else ", the interval includes the aim"),
        )
        for one in found
    ]
    return Table("Aims", ("what", "aim", "measured", "interval", ""), tuple(rows))


def tables(study: Study, auto: str = OURS_AUTO) -> list[Table]:
    """Return all tables of a study; without ``auto`` or plain decoding rates and drafts alone."""
    if not {auto, OURS_PLAIN} <= set(study.modes):
        return [rates(study), drafting(study)]
    met = aims_table(aims(study, auto))
    found = [rates(study), comparison(study, auto), pooled(study, auto), *each(study, auto), answers(study, auto)]
    return [*found, *others(study, auto), drafting(study), met]


def short(mode: str) -> str:
    """Shorten a mode's name for the head of a column."""
    words = mode.replace("llama-server ", "peer: ").replace("localspec ", "")
    kind, _, file = words.partition("@")
    return f"{kind}@{Path(file).stem}" if file else words


def _cell(value: Ratio | None) -> str:
    return "–" if value is None else str(value)
