"""What a file's tensors become: llama.cpp's types, and recipes for a verified target, its drafter and exact rows.

A recipe is llama.cpp's own mixture of one type, changed by overrides: patterns of tensor names, the first that occurs
decides. Rows of a batch equal single rows bit for bit on a CPU only where every matrix that is multiplied is Q4_0 or
Q8_0 (docs/decisions.md), which :attr:`Recipe.exact` promises.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gguf_convert.fields import shorten
from localspec.errors import UsageError
from localspec.gguf.types import BLOCKS, EXACT_TYPES, FILE_TYPES, FLOATS, TENSOR_TYPES

ALIASES = {"Q5_K": "Q5_K_M", "Q4_K": "Q4_K_M", "Q3_K": "Q3_K_M"}

#: The main tensor type of a file type, where it is not the name up to ``_S``, ``_M`` or ``_L``.
_DEFAULTS = {"MXFP4_MOE": "MXFP4", "IQ3_M": "IQ3_S", "IQ3_XS": "IQ3_S", "IQ2_M": "IQ2_S", "IQ2_S": "IQ2_XS"}

ROLES = ("target", "drafter")

#: The output head (of a tied model its embedding), and small matrices whose error reaches every layer or every token.
_SENSITIVE = r"^(output|token_embd)\.weight$|per_layer_model_proj|ffn_gate_inp\.weight$"
#: Rows are only looked up here, never multiplied.
_LOOKED_UP = r"^per_layer_token_embd\.weight$"
#: Multiplied with activations, and left alone by llama.cpp's quantiser ("not too big", expert routers).
_LEFT_IN_FLOAT = re.compile(r"per_layer_model_proj\.weight$|ffn_gate_inp\.weight$")


@dataclass(frozen=True)
class Recipe:
    """``type`` is a file type of llama.cpp, ``overrides`` (pattern, tensor type) go before its mixture.

    ``uniform`` recipes name a type for every matrix. ``exact``: every matrix that is multiplied is Q4_0 or Q8_0.
    """

    label: str
    type: str
    overrides: tuple[tuple[str, str], ...] = ()
    exact: bool = False
    uniform: bool = False

    def override(self, tensor: str) -> str | None:
        """The tensor type that the overrides give, or None."""
        return next((kind for pattern, kind in self.overrides if re.search(pattern, tensor)), None)


def file_type_name(requested: str) -> str:
    """The file type that ``requested`` means, in any case; UsageError for what llama.cpp does not have."""
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
    """The recipe that these words mean.

    ``type`` alone is llama.cpp's mixture. ``role="target"`` and ``exact`` keep every multiplied matrix in ``type``
    (Q4_0, or Q8_0), and what is most sensitive in Q8_0; ``role="drafter"`` makes every matrix ``type`` (Q4_0), the
    head too. ``overrides`` go before all of it. Raises UsageError for what does not go together.
    """
    if role is not None and role not in ROLES:
        raise UsageError(f"There is no recipe for {shorten(role)}; there is {' and '.join(ROLES)}.")
    if type is None and role is None and not exact:
        raise UsageError("Nothing says what to quantise to: give a type, --for target, --for drafter or --exact.")
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
            f"{name} is not computed alike in batches and alone; choose {' or '.join(EXACT_TYPES)} for exact rows."
        )
    for pattern, kind in given:
        if kind not in EXACT_TYPES:
            raise UsageError(
                f"{pattern}={kind} would end exact rows; choose {' or '.join(EXACT_TYPES)}, or leave --exact out."
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
    """The type of a tensor in a file of type ``name`` without a mixture."""
    return _DEFAULTS.get(name) or re.sub(r"(?<=_K)_[SML]$", "", name)


def left_in_float(tensor: str) -> bool:
    """Whether llama.cpp's quantiser leaves a matrix of this name as it is although it is multiplied."""
    return _LEFT_IN_FLOAT.search(tensor) is not None


def expected_bytes(recipe: Recipe, elements: int) -> int:
    """About how large a file of so many weights becomes, rather too much than too little."""
    per_block, size = BLOCKS[TENSOR_TYPES[_block_type(recipe.type)]]
    return elements * size * 5 // (per_block * 4)
