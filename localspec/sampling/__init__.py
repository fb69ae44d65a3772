"""Logits row to token: penalties, truncation, temperature, shared noise. Pure numpy, without a model or a drafter."""

from localspec.sampling.noise import Floats, Ids, gumbel
from localspec.sampling.rows import Row, largest, log_sum_exp
from localspec.sampling.sampler import Sampler
from localspec.sampling.samplers import Samplers
from localspec.sampling.sequence_breakers import SequenceBreakers, find_sequence_breakers
from localspec.sampling.truncation import Candidates, truncate

__all__ = [
    "Candidates",
    "Floats",
    "Ids",
    "Row",
    "Sampler",
    "Samplers",
    "SequenceBreakers",
    "find_sequence_breakers",
    "gumbel",
    "largest",
    "log_sum_exp",
    "truncate",
]
