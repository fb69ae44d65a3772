"""Laws of recipes: which tensor gets which type, and what does not go together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gguf import LlamaFileType

from gguf_convert.output.tensor_types import choose_type
from gguf_convert.recipes import ALIASES, ROLES, file_type_name, make_recipe
from gguf_convert.tensors import ArraySource, ModelTensor
from localspec.errors import UsageError
from localspec.gguf.types import BLOCKS, EXACT_TYPES, FILE_TYPES, TENSOR_TYPES, TYPE_NAMES

NAMES = (
    "token_embd.weight", "output.weight", "per_layer_token_embd.weight", "per_layer_model_proj.weight",
    "blk.0.attn_q.weight", "blk.1.ffn_down.weight", "blk.1.ffn_down_exps.weight", "blk.2.ffn_gate_inp.weight",
    "blk.0.inp_gate.weight", "nextn.pre_projection.weight",
)  # fmt: skip


def types(row: int = 256, **words: Any) -> dict[str, str]:
    """Type of each matrix when it is written directly from a checkpoint."""
    recipe = make_recipe(**words)
    tensors = [ModelTensor(name, ArraySource(np.zeros((2, row), np.float32))) for name in NAMES]
    return {tensor.name: choose_type(tensor, recipe)[0] for tensor in tensors}


def test_numbers_of_file_types_are_llama_cpp_s() -> None:
    """They equal those of the gguf package, where it has them."""
    known = {member.name.removeprefix("MOSTLY_").removeprefix("ALL_"): int(member) for member in LlamaFileType}
    assert {name: number for name, number in FILE_TYPES.items() if name in known} == {
        name: known[name] for name in FILE_TYPES if name in known
    }
    assert len(FILE_TYPES.keys() - known.keys()) <= 2
    assert set(ALIASES.values()) <= FILE_TYPES.keys()


def test_numbers_of_tensor_types_are_ggml_s() -> None:
    """All of them have a known size."""
    assert {name: number for number, name in TYPE_NAMES.items() if name in TENSOR_TYPES} == TENSOR_TYPES
    assert set(TENSOR_TYPES.values()) <= BLOCKS.keys()


@pytest.mark.parametrize("words", [{"exact": True}, {"exact": True, "type": "Q8_0"}, {"role": "target"}])
def test_exact_recipes_multiply_in_two_types(words: dict[str, Any]) -> None:
    """Of what is only looked up the type does not matter."""
    found = types(**words)
    del found["per_layer_token_embd.weight"]
    assert set(found.values()) <= set(EXACT_TYPES)
    assert (
        found["output.weight"] == found["per_layer_model_proj.weight"] == found["blk.2.ffn_gate_inp.weight"] == "Q8_0"
    )
    assert found["blk.1.ffn_down_exps.weight"] == words.get("type", "Q4_0")


def test_a_drafter_s_head_is_as_cheap_as_the_rest() -> None:
    """The head is the largest part of a draft step."""
    found = types(role="drafter")
    assert found["token_embd.weight"] == found["nextn.pre_projection.weight"] == "Q4_0"


def test_a_plain_type_is_every_matrix_but_routers() -> None:
    """The converter mixes no types."""
    found = types(type="Q4_0")
    assert found.pop("blk.2.ffn_gate_inp.weight") == "F32"
    assert set(found.values()) == {"Q4_0"}


@pytest.mark.parametrize("row", [33, 64])
def test_rows_that_do_not_divide_fall_back(row: int) -> None:
    """To blocks of 32, or to floats."""
    found = types(row, exact=True)
    assert found["per_layer_token_embd.weight"] == ("F16" if row == 33 else "Q8_0")


def test_overrides_go_first() -> None:
    """In the order given, before role and type; the pattern may occur anywhere in the name."""
    found = types(role="drafter", overrides=[("ffn_down", "Q8_0"), ("ffn", "Q4_K"), ("ffn_down", "F16")])
    assert found["blk.1.ffn_down.weight"] == found["blk.1.ffn_down_exps.weight"] == "Q8_0"
    assert found["blk.2.ffn_gate_inp.weight"] == "Q4_K"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({}, "give a type, --for target"),
        ({"type": "Q9"}, "'Q9' is not known; choose one of F32, F16"),
        ({"role": "judge"}, "no recipe for 'judge'; there is target and drafter"),
        ({"type": "Q4_K_M", "exact": True}, "Rows of Q4_K_M differ .* choose Q4_0 or Q8_0"),
        ({"type": "F16", "role": "target"}, "Rows of F16 differ"),
        ({"type": "BF16", "role": "drafter"}, "A drafter in BF16"),
        ({"exact": True, "overrides": [("ffn", "Q6_K")]}, "ffn=Q6_K would make rows inexact"),
        ({"type": "Q4_0", "overrides": [("ffn", "Q4_K_M")]}, "'Q4_K_M' is no type of a tensor"),
        ({"type": "Q4_0", "overrides": [("(", "Q4_0")]}, r"'\(' is no regular expression"),
    ],
)
def test_what_does_not_go_together_is_refused(words: dict[str, Any], sentence: str) -> None:
    """With what to choose instead."""
    with pytest.raises(UsageError, match=sentence):
        make_recipe(**words)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", [name for name in FILE_TYPES if name not in ("F32", "F16", "BF16")])
def test_every_role_names_types_that_exist(role: str, name: str) -> None:
    """For each file type that the role takes."""
    if role == "target" and name not in EXACT_TYPES:
        return
    recipe = make_recipe(name, role=role)
    assert {kind for _, kind in recipe.overrides} <= TENSOR_TYPES.keys()


def test_file_types_in_any_case() -> None:
    """llama.cpp's short names work as well."""
    assert (file_type_name("iq4_xs"), file_type_name("q5_k")) == ("IQ4_XS", "Q5_K_M")
