"""Logits row → token: penalties, truncation, temperature, shared noise. Pure numpy; knows no model and no drafter."""

from localspec.sampling.breakers import Breakers, find_breakers
from localspec.sampling.noise import Floats, Ids, gumbel
from localspec.sampling.rows import Row, largest, log_sum_exp
from localspec.sampling.sampler import Sampler
from localspec.sampling.samplers import Samplers
from localspec.sampling.truncation import Survivors, truncate

__all__ = [
    "Breakers",
    "Floats",
    "Ids",
    "Row",
    "Sampler",
    "Samplers",
    "Survivors",
    "find_breakers",
    "gumbel",
    "largest",
    "log_sum_exp",
    "truncate",
]
