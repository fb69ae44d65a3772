"""What a loaded pair costs on this machine: measured at first use in a second or two and remembered, or at length.

Passes that a probe of exactness has just made are samples too. What contexts held is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from localspec.control.costs import WIDTHS, Costs, Curve, DraftCosts
from localspec.errors import BackendError, InputError
from localspec.files import file_identity
from localspec.llama.binding import build_id
from localspec.llama.context import LlamaContext
from localspec.llama.mtp import LlamaMtpContext
from localspec.probe import cache
from localspec.probe.batch_invariance import TEXT, lengthen

_KIND = "costs-3"  # of remembered facts
#: The order in which widths are measured while time lasts.
_ORDER = (1, 4, 2, 3, 8, 16, 5, 32, 6, 12, 7, 24, 10, 20, 64, 48, 40)
_BUDGET_S, _DRAFT_BUDGET_S = 1.5, 0.5
#: Once all widths are known they are measured again, where that is quick: a pass may be disturbed by other programs.
_ROUNDS, _AGAIN_S = 6, 0.15
#: Runs in which a disturbed measurement is made again, the quickest passes of all counting.
_TRIES = 3
#: Kernels work in groups of rows, so that a width may cost this much more than a wider one; beyond, it was disturbed.
_STEPPED, _DISTURBED = 1.35, 1.4
_HELD = 32
#: Plain decoding is one single row after another, which use one graph; a pass of another width builds its own.
_SINGLES = 3
#: Passes of each width when there is time, and draft steps.
_OFTEN, _STEPS = 5, 8
#: A long cache is so many times the first one; its passes, and how often.
_LONGER, _LONG_PASSES = 20, (1, 4, 1, 4, 1, 4)
Progress = Callable[[float], None]


def curve_of(samples: Iterable[tuple[int, float]]) -> Curve:
    """The quickest pass of each width (tokens, seconds): other programs only ever make one slower.

    So no width costs more than two passes that are as wide together, nor much more than a wider one.
    """
    times = quickest(samples)
    least = float("inf")
    for width in sorted(times, reverse=True):
        times[width] = min(times[width], _STEPPED * least)
        least = min(least, times[width])
    for width in sorted(times):
        parts = (times[a] + times[width - a] for a in times if width - a in times)
        times[width] = min([times[width], *parts])
    widths = tuple(sorted(times))
    return Curve(widths, tuple(times[width] for width in widths))


def quickest(samples: Iterable[tuple[int, float]]) -> dict[int, float]:
    """The least seconds of each width."""
    times: dict[int, float] = {}
    for width, seconds in samples:
        times[width] = max(1e-7, min(seconds, times.get(width, seconds)))
    return times


def disturbed(samples: Sequence[tuple[int, float]]) -> bool:
    """Whether some width never had a pass as quick as it must have been: other programs were busy all the time."""
    curve = curve_of(samples)
    return any(seconds > _DISTURBED * curve.seconds(width) for width, seconds in quickest(samples).items())


def measure_passes(
    context: LlamaContext, tokens: Sequence[int], widest: int, *, thorough: bool, progress: Progress | None = None
) -> list[tuple[int, float]]:
    """Passes (tokens, seconds) after a few tokens: widths in turn while a budget lasts, or every width many times."""
    wanted = [width for width in (sorted(WIDTHS) if thorough else _ORDER) if width <= widest]
    samples = [] if thorough else [(n, s) for n, s in context.passes if n <= widest]
    known = {width for width, _ in samples}
    rounds, spent = _OFTEN if thorough else _ROUNDS, 0.0
    context.rewind(0)
    context.decode(tokens[:_HELD], "last")  # pages the file in, the head too
    for i in range(rounds * len(wanted)):
        width = wanted[i % len(wanted)]
        if not thorough and spent > (_AGAIN_S if known.issuperset(wanted) else _BUDGET_S) and len(known) > 1:
            break
        if not thorough and width in known and not known.issuperset(wanted):
            continue
        for _ in range(_SINGLES if width == 1 else 1):
            context.rewind(_HELD)
            context.decode(tokens[_HELD : _HELD + width])
            samples.append(context.passes[-1])
            spent += samples[-1][1]
        known.add(width)
        if progress is not None:
            progress((i + 1) / (rounds * len(wanted)))
    context.rewind(0)
    return samples


def measure_cell(context: LlamaContext, tokens: Sequence[int], curve: Curve) -> float:
    """Seconds that each token in the cache adds to each row; 0 where the context is too small to tell."""
    if context.n_ctx < _HELD * (_LONGER + 1):
        return 0.0
    passes = list[tuple[int, float]]()
    try:
        context.rewind(0)
        context.decode(tokens[:_HELD], "none")
        length = lengthen(context, tokens[:_HELD], _LONGER)
        for width in (min(n, curve.widths[-1]) for n in _LONG_PASSES):
            context.decode(tokens[_HELD : _HELD + width])
            passes.append(context.passes[-1])
            context.rewind(length)
    except BackendError:  # a cache that cannot be saved cannot be made longer so
        return 0.0
    finally:
        context.rewind(0)
    added = [(seconds - curve.seconds(n)) / (n * (length - _HELD)) for n, seconds in quickest(passes).items()]
    return max(0.0, sum(added) / len(added))


def measure_model(context: LlamaContext, tokens: Sequence[int], *, thorough: bool) -> DraftCosts:
    """Of a draft model: passes over what it has not read, and single steps, which give one row each."""
    samples, spent = list[tuple[int, float]](), 0.0
    context.rewind(0)
    context.decode(tokens[:_HELD], "none")
    for i, width in enumerate((1, 1, 1, 2, 4, 8, 16, 3, 32, 64) * 3):
        if i > 4 and spent > _DRAFT_BUDGET_S and not thorough:
            break
        context.rewind(_HELD)
        before = context.decode_s
        context.decode(tokens[_HELD : _HELD + width], "last")
        samples.append((width, context.decode_s - before))
        spent += samples[-1][1]
    context.rewind(0)
    curve = curve_of(samples[1:])  # the first pass pages the file in
    return DraftCosts(curve, curve.seconds(1))


def measure_mtp(context: LlamaMtpContext, target: LlamaContext, tokens: Sequence[int]) -> DraftCosts:
    """Of an assistant: single steps on the target's cache."""
    target.rewind(0)
    target.decode(tokens[:_HELD], "none")
    hidden, times = np.zeros(target.model.n_embd, np.float32), []
    for i in range(_STEPS):
        if i % 3 == 0:  # as in use, where the target's passes come between
            target.rewind(_HELD)
            target.decode(tokens[_HELD : _HELD + 2])
            target.rewind(_HELD)
        before = context.decode_s
        context.step(tokens[_HELD], _HELD, hidden)
        times.append(context.decode_s - before)
    target.rewind(0)
    step = max(median(times), 1e-7)
    return DraftCosts(Curve((1,), (step,)), step)


class Meter:
    """Measures one loaded pair, or recalls what it measured. ``drafter`` is the drafter's context, if it has one."""

    def __init__(self, target: LlamaContext, drafter: LlamaContext | LlamaMtpContext | None, widest: int) -> None:
        self._target, self._drafter, self._widest = target, drafter, widest

    def costs(self) -> Costs:
        """Remembered, else measured within a second or two."""
        known = cache.recall(_KIND, self._key()) or {}
        try:
            costs = Costs.from_dict(known)
        except InputError:
            return self._measure(thorough=False, progress=None)
        tries = known.get("disturbed", 0)
        if not isinstance(tries, int) or not 0 < tries < _TRIES:
            return costs
        return self._measure(thorough=False, progress=None, before=costs, tries=tries)

    def tune(self, progress: Progress | None = None) -> Costs:
        """Measured at length, and remembered."""
        return self._measure(thorough=True, progress=progress)

    def _measure(
        self, *, thorough: bool, progress: Progress | None, before: Costs | None = None, tries: int = 0
    ) -> Costs:
        tokens = self._target.model.vocabulary.tokenize(TEXT, add_special=False)
        tokens = (tokens * (1 + 2 * (_HELD + max(WIDTHS)) // max(1, len(tokens))))[: _HELD + max(WIDTHS)]
        passes = measure_passes(self._target, tokens, self._widest, thorough=thorough, progress=progress)
        drafters = {}
        if isinstance(self._drafter, LlamaMtpContext):
            drafters["mtp"] = measure_mtp(self._drafter, self._target, tokens)
        elif self._drafter is not None:
            own = [token % self._drafter.model.n_vocab for token in tokens]
            drafters["model"] = measure_model(self._drafter, own, thorough=thorough)
        if before is not None:
            passes += zip(before.verify.widths, before.verify.times, strict=True)
        curve = curve_of(passes)
        costs = Costs(replace(curve, cell=measure_cell(self._target, tokens, curve)), drafters)
        again = tries + 1 if not thorough and disturbed(passes) else 0
        cache.remember(_KIND, self._key(), {**costs.to_dict(), "disturbed": again})
        return costs

    def _key(self) -> str:
        parts = [
            build_id(),
            file_identity(self._target.model.path),
            self._target.settings(),
            f"widest={self._widest}",
        ]
        if self._drafter is not None:
            parts.append(file_identity(self._drafter.model.path))
        return " ".join(parts)
