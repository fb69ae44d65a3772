"""The jobs of a check in order of worth, each with its share of the time. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from scripts.check.gpu_check.shapes import SHAPES, VOCAB, Shape

#: Tokens of the vocabulary of pairs whose rows are compared: the head's kernels do not depend on more.
_FEW_TOKENS = 16_384
#: Fewest tokens of a scaled vocabulary.
_LEAST_TOKENS = 8192


@dataclass(frozen=True)
class Job:
    """One process: a pair, what is measured of it, and its weight among the jobs that share the time.

    ``kind``: ``measure``, ``answers`` or ``doctor``. ``half``: only half of the layers are on the GPU.
    """

    name: str
    shape: Shape
    type: str
    parts: tuple[str, ...]
    weight: float
    kind: str = "measure"
    half: bool = False

    @property
    def pair(self) -> str:
        """Name of the files that the job needs."""
        shape = self.shape
        return f"{shape.name}-{shape.layers}-{shape.vocab}-{self.type}"


def plan(*, quick: bool, scale: float, sizes: Sequence[str], types: Sequence[str], narrow: bool = False) -> list[Job]:
    """Return the jobs of a check of these sizes and file types. ``scale`` shortens models and vocabularies."""
    shapes = {name: SHAPES[name].narrow() if narrow else SHAPES[name] for name in sizes}
    whole = {name: _scaled(shape, scale) for name, shape in shapes.items()}
    few = {name: _few_layers(shape, scale) for name, shape in shapes.items()}
    first = sizes[0]
    costs, rows = ("costs", "long"), ("rows",)
    jobs = [Job(f"costs {first} {types[0]}", whole[first], types[0], costs, 3.0)]
    jobs += [Job(f"rows {first} {kind}", few[first], kind, rows, 1.5) for kind in types]
    jobs.append(Job(f"answers {first} {types[0]}", few[first], types[0], (), 2.0, "answers"))
    for name in sizes[1:]:
        kinds = types[:1] if quick else types[:2]
        jobs += [Job(f"rows {name} {kind}", few[name], kind, rows, 1.5) for kind in kinds]
    jobs.append(Job(f"doctor {first} {types[0]}", few[first], types[0], (), 1.0, "doctor"))
    jobs.append(Job(f"half placed {first} {types[0]}", few[first], types[0], rows, 1.0, half=True))
    if not quick:
        jobs += [Job(f"costs {name} {types[0]}", whole[name], types[0], costs, 4.0) for name in sizes[1:]]
    return jobs


def seconds_for(jobs: Sequence[Job], index: int, left: float) -> float:
    """Return the seconds for a job: its share of those left, so that time which others saved is used."""
    return left * jobs[index].weight / sum(job.weight for job in jobs[index:])


def by_pair(jobs: Sequence[Job]) -> Iterator[tuple[Job, bool]]:
    """Yield each job, and whether it is the last that needs the files of its pair."""
    for i, job in enumerate(jobs):
        yield job, all(later.pair != job.pair for later in jobs[i + 1 :])


def _scaled(shape: Shape, scale: float) -> Shape:
    if scale >= 1:
        return shape
    cut = shape.cut(round(shape.layers * scale), max(_LEAST_TOKENS, round(VOCAB * scale) // 256 * 256))
    return replace(cut, experts=_experts(shape, scale))


def _few_layers(shape: Shape, scale: float) -> Shape:
    """Whole widths at the least depth that has every kind of layer."""
    return replace(shape.cut(0, _FEW_TOKENS), experts=_experts(shape, scale))


def _experts(shape: Shape, scale: float) -> int:
    return max(8, round(shape.experts * min(1.0, scale))) if shape.experts else 0
