"""Measure the costs of a loaded pair on this machine: within a second or two at first use, or at length. Remembered.

Passes of an exactness probe just before count as samples. The contexts are empty afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import median
from time import perf_counter

import numpy as np

from localspec.control.costs import WIDTHS, Costs, Curve, DraftCosts
from localspec.control.prior import PairSize, prior_costs
from localspec.errors import BackendError, InputError
from localspec.llama.binding import build_id
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.mtp import LlamaMtpContext
from localspec.probe import cache
from localspec.probe.batch_invariance import TEXT, extend_cache
from localspec.protocols import UNBOUNDED

#: Kind of the remembered facts. The number grows when they mean something else.
_KIND = "costs-5"
#: Names of the parts that are timed after the passes of the target.
_PARTS = ("drafter", "cell")
#: Kind of the remembered passes of a measurement that was interrupted.
_PASSES_KIND = "passes-1"
#: Order in which widths are measured while time lasts.
_ORDER = (1, 4, 2, 3, 8, 16, 5, 32, 6, 12, 7, 24, 10, 20, 64, 48, 40)
#: Seconds for the target's passes, for those over a link, and for a draft model's.
_BUDGET_S, _LINKED_BUDGET_S, _DRAFT_BUDGET_S = 1.5, 5.0, 0.5
#: Seconds within which all widths are measured again, and at most this often, because other programs may have slowed
#: down the first passes.
_REPEAT_S, _ROUNDS = 0.15, 6
#: Runs in which a disturbed measurement is repeated. The fastest passes of all runs count.
_MAX_RUNS = 3
#: Kernels work in groups of rows, so a width may take this many times the time of a wider one.
_STEP_FACTOR = 1.35
#: A width that took this many times what others imply was disturbed by other programs.
_DISTURBED_FACTOR = 1.4
#: Tokens in the cache before the measured passes.
_HELD = 32
#: Single-token passes in a row, as plain decoding has them: they share a graph, where other widths build their own.
_SINGLES = 3
#: Rounds of a thorough measurement, and steps of an assistant.
_THOROUGH_ROUNDS, _MTP_STEPS = 5, 8
#: Tokens that prediction heads read in turn: mostly what a verification accepted, and parts of prompts.
_HEAD_WIDTHS = (1, 1, 1, 2, 3, 4, 1, 8, 1, 2, 3, 64, 1)
#: Widths of a draft model's passes in turn: the first pages the file in, few are always made.
_MODEL_WIDTHS, _LEAST_MODEL_PASSES = (1, 1, 1, 2, 4, 8, 16, 3, 32, 64) * 3, 5
#: Multiple of the held tokens in a long cache, and the widths of the passes there.
_LONG, _LONG_WIDTHS = 20, (1, 4, 1, 4, 1, 4)
#: Checkpoints that are timed.
_CHECKPOINTS = 3
#: Shortest time of a pass that is believed, in seconds.
_SHORTEST_S = 1e-7
#: Tokens and seconds of a pass.
Sample = tuple[int, float]


def curve_from_samples(samples: Iterable[Sample], *, linked: bool = False) -> Curve:
    """The fastest pass of each width, since other programs only ever slow a pass down.

    No width costs much more than a wider one, nor than two passes that are as wide together, unless they are
    ``linked``: a change of the width then has a price of its own.
    """
    times = fastest_passes(samples)
    least = float("inf")
    for width in sorted(times, reverse=True):
        times[width] = min(times[width], _STEP_FACTOR * least)
        least = min(least, times[width])
    for width in () if linked else sorted(times):
        parts = (times[a] + times[width - a] for a in times if width - a in times)
        times[width] = min([times[width], *parts])
    widths = tuple(sorted(times))
    return Curve(widths, tuple(times[width] for width in widths))


def fastest_passes(samples: Iterable[Sample]) -> dict[int, float]:
    """Width → least seconds."""
    times: dict[int, float] = {}
    for width, seconds in samples:
        times[width] = max(_SHORTEST_S, min(seconds, times.get(width, seconds)))
    return times


def were_disturbed(samples: Sequence[Sample], *, linked: bool = False) -> bool:
    """True if all passes of some width took far longer than other widths imply: other programs were busy."""
    curve = curve_from_samples(samples, linked=linked)
    return any(seconds > _DISTURBED_FACTOR * curve.seconds(n) for n, seconds in fastest_passes(samples).items())


def measure_passes(
    context: LlamaContext,
    tokens: Sequence[int],
    widest: int,
    *,
    thorough: bool,
    earlier: Iterable[Sample] = (),
    progress: Callable[[float], None] | None = None,
) -> list[Sample]:
    """Time passes behind a few tokens: widths in turn while a budget lasts, or every width several times.

    Without ``thorough`` the context's last passes and ``earlier`` ones count, and their widths come last. Over a link
    they do not: see :func:`_over_link`.
    """
    linked = _linked(context)
    budget = _LINKED_BUDGET_S if linked else _BUDGET_S
    wanted = [width for width in (sorted(WIDTHS) if thorough else _ORDER) if width <= widest]
    samples = [] if thorough or linked else [(n, s) for n, s in (*earlier, *context.passes) if n <= widest]
    known = {width for width, _ in samples}
    rounds, spent = _THOROUGH_ROUNDS if thorough else _ROUNDS, 0.0
    context.rewind(0)
    context.decode(tokens[:_HELD], "last")  # pages the file in, the head too
    context.mark()
    for i in range(rounds * len(wanted)):
        width, complete = wanted[i % len(wanted)], known.issuperset(wanted)
        if not thorough and spent > (_REPEAT_S if complete else budget) and len(known) > 1:
            break
        if not thorough and width in known and not complete:
            continue
        times = [_pass_s(context, tokens, n) for n in _widths_in_turn(width, linked=linked)]
        spent += sum(times)
        if linked and width > 1:
            samples.append((width, _over_link(times[-2:], fastest_passes(samples)[1])))
        else:
            samples += [(width, seconds) for seconds in times]
        known.add(width)
        if progress is not None:
            progress((i + 1) / (rounds * len(wanted)))
    context.rewind(0)
    return samples


def _linked(context: LlamaContext) -> bool:
    """True if layers are on other machines."""
    return context.model.placement.split is not None


def _widths_in_turn(width: int, *, linked: bool) -> tuple[int, ...]:
    """Widths of the passes that time ``width``. A link's first pass of a width asks each worker for sizes it keeps."""
    if width == 1:
        return (1,) * _SINGLES
    return (width, 1, width) if linked else (width,)


def _over_link(times: Sequence[float], single: float) -> float:
    """The price of a wide pass among single-token ones, from the seconds of one of each behind the other width.

    A pass of another width than the last one sends its graph again, so the single-token pass behind a wide one is
    slower than a ``single`` one in a row, too.
    """
    behind, wide = times
    return wide + max(0.0, behind - single)


def _pass_s(context: LlamaContext, tokens: Sequence[int], width: int) -> float:
    """Seconds of a pass behind the held tokens."""
    context.rewind(_HELD)
    context.decode(tokens[_HELD : _HELD + width])
    return context.passes[-1][1]


def measure_cell(context: LlamaContext, tokens: Sequence[int], curve: Curve) -> float:
    """Seconds that each token in the cache adds to each row; 0 where the context is too small to measure it."""
    if context.n_ctx < _HELD * (_LONG + 1):
        return 0.0
    passes = list[Sample]()
    try:
        context.rewind(0)
        context.decode(tokens[:_HELD], "none")
        length = extend_cache(context, tokens[:_HELD], _LONG)
        for width in (min(n, curve.widths[-1]) for n in _LONG_WIDTHS):
            context.decode(tokens[_HELD : _HELD + width])
            passes.append(context.passes[-1])
            context.rewind(length)
    except BackendError:  # a cache that cannot be saved cannot be extended
        return 0.0
    finally:
        context.rewind(0)
    added = [(seconds - curve.seconds(n)) / (n * (length - _HELD)) for n, seconds in fastest_passes(passes).items()]
    return max(0.0, sum(added) / len(added))


def measure_checkpoint(context: LlamaContext, tokens: Sequence[int]) -> float:
    """Time a checkpoint of a recurrent state and the way back to it; 0 where every token can be taken back."""
    if context.rollback == UNBOUNDED:
        return 0.0
    times = []
    for length in range(_HELD, _HELD + _CHECKPOINTS):
        context.rewind(0)
        context.decode(tokens[:length], "none")
        began = perf_counter()
        context.mark(brief=True)
        made = perf_counter() - began
        context.decode(tokens[:1], "none")
        began = perf_counter()
        context.rewind(length)
        times.append(made + perf_counter() - began)
    context.rewind(0)
    return max(_SHORTEST_S, min(times))


def measure_model(context: LlamaContext, tokens: Sequence[int], *, thorough: bool) -> DraftCosts:
    """Time a draft model's passes over tokens that it has not read, and its single steps, which give one row each."""
    samples, spent = list[Sample](), 0.0
    context.rewind(0)
    context.decode(tokens[:_HELD], "none")
    context.mark()
    for i, width in enumerate(_MODEL_WIDTHS):
        if i >= _LEAST_MODEL_PASSES and spent > _DRAFT_BUDGET_S and not thorough:
            break
        context.rewind(_HELD)
        before = context.decode_s
        context.decode(tokens[_HELD : _HELD + width], "last")
        samples.append((width, context.decode_s - before))
        spent += samples[-1][1]
    context.rewind(0)
    curve = curve_from_samples(samples[1:])
    return DraftCosts(curve, curve.seconds(1))


def measure_mtp(context: LlamaMtpContext, target: LlamaContext, tokens: Sequence[int]) -> DraftCosts:
    """Time an assistant's single steps on the target's cache."""
    target.rewind(0)
    target.decode(tokens[:_HELD], "none")
    hidden, times = np.zeros(target.model.n_embd, np.float32), []
    for i in range(_MTP_STEPS):
        if i % 3 == 0:  # as in use, where the target's passes come between
            target.rewind(_HELD)
            target.decode(tokens[_HELD : _HELD + 2])
            target.rewind(_HELD)
        before = context.decode_s
        context.step(tokens[_HELD], _HELD, hidden)
        times.append(context.decode_s - before)
    target.rewind(0)
    step = max(median(times), _SHORTEST_S)
    return DraftCosts(Curve((1,), (step,)), step)


def measure_heads(context: LlamaHeadContext, target: LlamaContext, tokens: Sequence[int]) -> DraftCosts:
    """Time prediction heads that read tokens and make a guess, and their further guesses."""
    target.rewind(0)
    target.decode(tokens[: _HELD + max(_HEAD_WIDTHS)], "none")
    samples, steps = list[Sample](), list[float]()
    context.read(tokens[:_HELD], 0, goes_on=False)
    for width in _HEAD_WIDTHS:
        before = context.decode_s
        context.read(tokens[_HELD : _HELD + width], _HELD)
        samples.append((width, context.decode_s - before))
        if context.heads != 1 or width == 1:
            drafted, hidden = [tokens[_HELD + width - 1], tokens[0]], context.hidden().copy()
            before = context.decode_s
            context.step(drafted, hidden)
            steps.append(context.decode_s - before)
    target.rewind(0)
    return DraftCosts(curve_from_samples(samples[1:]), max(median(steps), _SHORTEST_S))


class CostMeasurement:
    """Measures the costs of one loaded pair, or recalls them. ``drafter``: the draft model's context, if there is one.

    ``widest``: most tokens of a verification. What is measured is remembered for the layouts of the two files, so that
    a copy or another fine-tune is not measured again.
    """

    def __init__(
        self, target: LlamaContext, drafter: LlamaContext | LlamaMtpContext | LlamaHeadContext | None, widest: int
    ) -> None:
        self._target, self._drafter, self._widest = target, drafter, widest

    def costs(self) -> Costs:
        """Recall the costs, or measure them within a second or two."""
        return self.known() or self._measure()

    def known(self) -> Costs | None:
        """Recall the costs; None if they are not measured, or if a measurement should be repeated."""
        costs, left, disturbed = self._recall()
        return None if left or 0 < disturbed < _MAX_RUNS else costs

    def estimate(self) -> Costs:
        """The costs as far as they are known: a shipped curve, scaled to the passes that were remembered."""
        costs, left, _ = self._recall()
        if costs is not None and not left:
            return costs
        prior = prior_costs(self._size(), fastest_passes(self._earlier()))
        return replace(prior, drafters=costs.drafters) if costs is not None and costs.drafters else prior

    def remember_passes(self) -> None:
        """Remember the passes that the target's context has made, for :meth:`estimate` and a later measurement."""
        passes = fastest_passes([*self._earlier(), *self._target.passes])
        cache.remember(_PASSES_KIND, self._passes_key(), {str(width): seconds for width, seconds in passes.items()})

    def tune(self, progress: Callable[[float], None] | None = None) -> Costs:
        """Measure the costs at length, and remember them."""
        return self._measure(thorough=True, progress=progress)

    def _measure(self, *, thorough: bool = False, progress: Callable[[float], None] | None = None) -> Costs:
        """Measure in parts, each of which is remembered, so that short gaps are enough."""
        tokens = self._target.model.vocabulary.tokenize(TEXT, add_special=False)
        tokens = (tokens * (1 + 2 * (_HELD + max(WIDTHS)) // max(1, len(tokens))))[: _HELD + max(WIDTHS)]
        costs, left, runs = self._recall()
        if costs is None or thorough or not left:
            passes = self._passes(tokens, thorough=thorough, progress=progress)
            linked = _linked(self._target)
            costs, left = Costs(curve_from_samples(passes, linked=linked)), _PARTS
            runs = runs + 1 if not thorough and were_disturbed(passes, linked=linked) else 0
        if not thorough:  # there, what was known stays until all of it is replaced
            self._remember(costs, left, runs)
        if "drafter" in left:
            costs = replace(costs, drafters=self._measure_drafter(tokens, thorough=thorough))
        if not thorough:
            self._remember(costs, ("cell",), runs)
        cell = measure_cell(self._target, tokens, costs.verify)
        costs = replace(costs, verify=replace(costs.verify, cell=cell))
        costs = replace(costs, checkpoint=measure_checkpoint(self._target, tokens))
        self._remember(costs, (), runs)
        return costs

    def _passes(
        self, tokens: Sequence[int], *, thorough: bool, progress: Callable[[float], None] | None
    ) -> list[Sample]:
        """Time the target's passes. Those that were made are remembered, also where it is interrupted."""
        earlier = self._earlier()
        try:
            return measure_passes(
                self._target, tokens, self._widest, thorough=thorough, earlier=earlier, progress=progress
            )
        finally:
            self.remember_passes()

    def _measure_drafter(self, tokens: Sequence[int], *, thorough: bool) -> dict[str, DraftCosts]:
        """Time the drafter, by its name; nothing where it does not decode."""
        if isinstance(self._drafter, LlamaMtpContext):
            return {"mtp": measure_mtp(self._drafter, self._target, tokens)}
        if isinstance(self._drafter, LlamaHeadContext):
            return {self._drafter.name: measure_heads(self._drafter, self._target, tokens)}
        if self._drafter is None:
            return {}
        own = [token % self._drafter.model.n_vocab for token in tokens]
        return {"model": measure_model(self._drafter, own, thorough=thorough)}

    def _recall(self) -> tuple[Costs | None, tuple[str, ...], int]:
        """The remembered costs (None without), the parts that are not timed yet, and how many runs were disturbed."""
        found = cache.recall(_KIND, self._key()) or {}
        left, runs = found.get("left"), found.get("disturbed", 0)
        parts = tuple(part for part in _PARTS if isinstance(left, list) and part in left)
        try:
            return Costs.from_dict(found), parts, runs if isinstance(runs, int) else 0
        except InputError:
            return None, _PARTS, 0

    def _remember(self, costs: Costs, left: Sequence[str], disturbed: int) -> None:
        """Remember costs of which the parts ``left`` are not timed yet, after so many ``disturbed`` runs."""
        cache.remember(_KIND, self._key(), {**costs.to_dict(), "disturbed": disturbed, "left": list(left)})

    def _earlier(self) -> list[Sample]:
        """Remembered passes."""
        found = cache.recall(_PASSES_KIND, self._passes_key()) or {}
        try:
            return [(int(width), float(seconds)) for width, seconds in found.items() if float(seconds) > 0.0]
        except (TypeError, ValueError):
            return []

    def _size(self) -> PairSize:
        model, drafter = self._target.model, self._drafter
        name = None if drafter is None else "mtp" if isinstance(drafter, LlamaMtpContext) else "model"
        if isinstance(drafter, LlamaHeadContext):
            name = drafter.name
        size = drafter.n_bytes if isinstance(drafter, LlamaHeadContext) else drafter.model.n_bytes if drafter else 0
        return PairSize(model.n_bytes, model.placement.gpu, name, size)

    def _passes_key(self) -> str:
        return f"{build_id()} {self._target.model.header.layout} {self._target.settings()}"

    def _key(self) -> str:
        own = f"{self._passes_key()} widest={self._widest}"
        heads = " heads" if isinstance(self._drafter, LlamaHeadContext) else ""
        return own if self._drafter is None else f"{own} {self._drafter.model.header.layout}{heads}"
