"""Types of the tensors of a file: llama.cpp's mixtures, and recipes for targets, drafters and exact rows.

A recipe is llama.cpp's mixture for one file type, changed by overrides: patterns of tensor names, of which the first
that matches decides. On a CPU the rows of a batch equal single rows bit for bit if every multiplied matrix is Q4_0 or
Q8_0 (docs/decisions.md); :attr:`Recipe.exact` guarantees that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gguf_convert.checkpoint.json_fields import shorten
from localspec.errors import UsageError
from localspec.gguf.types import BLOCKS, EXACT_TYPES, FILE_TYPES, FLOATS, TENSOR_TYPES

#: Types of a projector; llama.cpp's converter makes no others.
PROJECTOR_TYPES = ("F32", "F16", "BF16", "Q8_0")
#: Short names of file types, as in llama-quantize.
ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}

#: Main tensor type of a file type, if it is not the name without ``_S``, ``_M`` or ``_L``.
_DEFAULTS = {"MXFP4_MOE": "MXFP4", "IQ3_M": "IQ3_S", "IQ3_XS": "IQ3_S", "IQ2_M": "IQ2_S", "IQ2_S": "IQ2_XS"}

#: Roles that have a recipe.
ROLES = ("target", "drafter")

#: The output head (in a tied model the embedding), and small matrices whose errors affect every layer or token.
_SENSITIVE = r"^(output|token_embd)\.weight$|per_layer_model_proj|ffn_gate_inp\.weight$"
#: A table whose rows are looked up and never multiplied.
_LOOKED_UP = r"^per_layer_token_embd\.weight$"
#: Multiplied matrices that llama.cpp's quantiser leaves in float, because they are small.
_LEFT_IN_FLOAT = re.compile(r"per_layer_model_proj\.weight$|ffn_gate_inp\.weight$")


@dataclass(frozen=True)
class Recipe:
    """A file type of llama.cpp, and overrides of its mixture as (pattern of tensor names, tensor type).

    ``uniform``: the overrides give every matrix a type. ``exact``: every multiplied matrix is Q4_0 or Q8_0.
    """

    label: str
    type: str
    overrides: tuple[tuple[str, str], ...] = ()
    exact: bool = False
    uniform: bool = False

    def override(self, tensor: str) -> str | None:
        """Return the tensor type that the overrides give to ``tensor``, or None."""
        return next((kind for pattern, kind in self.overrides if re.search(pattern, tensor)), None)


def file_type_name(requested: str) -> str:
    """Return the file type with this name or alias, in any case; UsageError for an unknown one."""
    name = requested.upper()
    name = ALIASES.get(name, name)
    if name not in FILE_TYPES:
        raise UsageError(f"Type {shorten(requested)} is not known; choose one of {', '.join(FILE_TYPES)}.")
    return name


def make_recipe(
    type: str | None = None,
    *,
    role: str | None = None,
    exact: bool = False,
    overrides: Sequence[tuple[str, str]] = (),
) -> Recipe:
    """Return the recipe for a type, a role or exact rows.

    ``type`` alone is llama.cpp's mixture. With ``role="target"`` or ``exact`` every multiplied matrix gets ``type``
    (default Q4_0, else Q8_0) and the most sensitive ones Q8_0. With ``role="drafter"`` every matrix, also the head,
    gets ``type`` (default Q4_0). ``overrides`` precede all of it. Raises UsageError for a contradiction.
    """
    if role is not None and role not in ROLES:
        raise UsageError(f"There is no recipe for {shorten(role)}; there is {' and '.join(ROLES)}.")
    if type is None and role is None and not exact:
        raise UsageError("There is no type to quantise to: give a type, --for target, --for drafter or --exact.")
    name = file_type_name(type or "Q4_0")
    given = tuple(_override(pattern, kind) for pattern, kind in overrides)
    if exact or role == "target":
        return _exact_recipe(name, given, "exact" if exact and role != "target" else "for a target")
    if role == "drafter":
        if name in FLOATS:
            raise UsageError(f"A drafter in {name} costs more than it saves; give --for drafter a quantised type.")
        kind = _block_type(name)
        every = ((_LOOKED_UP, kind), (_LEFT_IN_FLOAT.pattern, "Q8_0"), (r".", kind))
        return Recipe(f"{name} for a drafter", name, (*given, *every), uniform=True)
    return Recipe(name, name, given)


def _exact_recipe(name: str, given: tuple[tuple[str, str], ...], purpose: str) -> Recipe:
    if name not in EXACT_TYPES:
        raise UsageError(
            f"Rows of {name} differ between a batch and a single row; choose {' or '.join(EXACT_TYPES)} for exact rows."
        )
    for pattern, kind in given:
        if kind not in EXACT_TYPES:
            raise UsageError(
                f"{pattern}={kind} would make rows inexact; choose {' or '.join(EXACT_TYPES)}, or leave --exact out."
            )
    every = ((_SENSITIVE, "Q8_0"), (_LOOKED_UP, "Q6_K" if name == "Q4_0" else name), (r".", name))
    return Recipe(f"{name} {purpose}", name, (*given, *every), exact=True, uniform=True)


def _override(pattern: str, kind: str) -> tuple[str, str]:
    name = kind.upper()
    if name not in TENSOR_TYPES:
        raise UsageError(f"{shorten(kind)} is no type of a tensor; choose one of {', '.join(TENSOR_TYPES)}.")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"The pattern {shorten(pattern)} is no regular expression ({error}).") from error
    return pattern, name


def _block_type(name: str) -> str:
    """Return the main tensor type of a file of type ``name``."""
    return _DEFAULTS.get(name) or re.sub(r"(?<=_K)_[SML]$", "", name)


def left_in_float(tensor: str) -> bool:
    """Return True for a multiplied matrix that llama.cpp's quantiser leaves in float."""
    return _LEFT_IN_FLOAT.search(tensor) is not None


def expected_bytes(recipe: Recipe, elements: int) -> int:
    """Estimate the size of a file of this many weights in bytes, with 25% to spare."""
    per_block, size = BLOCKS[TENSOR_TYPES[_block_type(recipe.type)]]
    return elements * size * 5 // (per_block * 4)
