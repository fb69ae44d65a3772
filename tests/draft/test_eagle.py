"""Laws of EAGLE-3 heads: what they have read does not depend on the way, and drafting with them changes no token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import localspec
from localspec.control.base import FixedDepth
from localspec.engine import Engine
from localspec.errors import DraftMismatchError, MissingFeatureError, ModelFileError
from localspec.gguf.header import read_header
from localspec.gguf.types import TYPE_NUMBERS
from localspec.llama import layer_inputs
from localspec.llama.context import LlamaContext
from localspec.llama.heads import LlamaHeadContext
from localspec.llama.model import LlamaModel
from localspec.memory.fit import LoadRequest
from localspec.models.drafter_kinds import LAYER_INPUTS
from localspec.models.eagle import eagle_mismatch, read_layers
from localspec.models.pairing import check_pairing, find_drafter
from localspec.models.resolve import TINY_TARGET
from localspec.params import ContextParams
from tests.helpers.head_drafting import HeadDrafting
from tests.helpers.random_models import random_eagle, random_model

PARAMS = ContextParams(threads=1, batch=64)
TOKENS = [2, *np.random.default_rng(1).integers(5, 2000, 90).tolist()]
PROMPT = "Once there was a little owl who lived in a tall pine tree, and every night it looked at the moon. " * 2
#: Targets, and so many tokens that their head predicts; None: all.
TARGETS = {"tiny": 500, "qwen35": None}


class Made(NamedTuple):
    """A target with a head's file."""

    target: Path
    head: Path


@pytest.fixture(scope="module", params=TARGETS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("models")
    target = TINY_TARGET if request.param == "tiny" else random_model(folder / "target.gguf", request.param)
    return Made(target, random_eagle(folder / "eagle3.gguf", target, draft_tokens=TARGETS[request.param]))


class Drafting(HeadDrafting):
    """A target and its head, with models of their own."""

    def __init__(self, made: Made) -> None:
        head = read_header(made.head)
        self.models = LlamaModel(read_header(made.target), PARAMS), LlamaModel(head, PARAMS)
        target = LlamaContext(self.models[0], PARAMS, 128, input_layers=read_layers(head))
        super().__init__(target, LlamaHeadContext(self.models[1], PARAMS, target))

    def close(self) -> None:
        super().close()
        for model in self.models:
            model.close()


@pytest.fixture
def drafting(made: Made) -> Iterator[Drafting]:
    found = Drafting(made)
    yield found
    found.close()


def fresh(made: Made, text: list[int], count: int = 4) -> list[int]:
    other = Drafting(made)
    found = other.guesses(text, count)
    other.close()
    return found


def test_guesses_are_those_of_a_head_that_reads_at_once(made: Made, drafting: Drafting) -> None:
    """After any number of guesses before, a token at a time or many, and after another text."""
    for length, count in ((2, 2), (20, 3), (21, 1), (25, 4), (26, 0), (70, 2), (71, 4)):
        assert drafting.guesses(TOKENS[:length], count) == fresh(made, TOKENS[:length], count)
    other = [*TOKENS[:30], *TOKENS[50:60]]
    assert drafting.guesses(other) == fresh(made, other)


def test_guesses_depend_on_the_text_far_back(made: Made) -> None:
    """The head's own attention reads it: another token early on changes some row."""
    rows = []
    for text in (TOKENS[:60], [*TOKENS[:5], 77, *TOKENS[6:60]]):
        one = Drafting(made)
        one.target.decode(text[:59], "none")
        rows.append(one.context.read(text, 0, goes_on=False)[0].copy())
        one.close()
    known = np.isfinite(rows[0])
    assert not np.array_equal(rows[0][known], rows[1][known])


def test_only_tokens_that_the_head_names_are_guessed(made: Made, drafting: Drafting) -> None:
    """The others have no logit."""
    drafting.target.decode(TOKENS[:19], "none")
    row = drafting.context.read(TOKENS[:20], 0, goes_on=False)[0]
    assert np.isfinite(row).sum() == (TARGETS["tiny" if made.target == TINY_TARGET else "qwen35"] or len(row))


def answer(engine: Engine, **options: Any) -> tuple[int, ...]:
    return engine.generate(PROMPT, max_tokens=24, **options).tokens


def test_bytes_of_a_guess_have_the_output_of_the_target(drafting: Drafting) -> None:
    """Where the head has none of its own."""
    head, target = drafting.context, drafting.models[0].header
    own, header = head.n_bytes, head.model.header
    head.model.header = replace(header, tensors=tuple(one for one in header.tensors if one.name != "output.weight"))
    sizes = {one.name: one.bytes or 0 for one in target.tensors}
    assert head.n_bytes - own == sizes.get("output.weight", sizes["token_embd.weight"]) > 0


@pytest.mark.parametrize("parallel", [1, 2])
def test_drafting_changes_no_token(made: Made, parallel: int) -> None:
    """Alone and behind lookup, greedy and seeded, with caches of the answer before."""
    options: dict[str, Any] = {"threads": 1, "ctx_size": 512}
    with localspec.load(made.target, "none", **options) as engine:
        expected = [answer(engine, temperature=0), answer(engine, temperature=0.9, seed=4)]
    with localspec.load(made.target, made.head, parallel=parallel, **options) as engine:
        assert engine.drafters == ("ngram", "eagle3")
        for control in (FixedDepth(3, only="eagle3"), FixedDepth(6), engine.control):
            engine.control = control
            for _ in range(2):
                assert [answer(engine, temperature=0), answer(engine, temperature=0.9, seed=4)] == expected
        engine.control = FixedDepth(3, only="eagle3")
        assert "eagle3" in engine.generate(PROMPT, max_tokens=8, temperature=0).stats.by_drafter


def test_head_beside_its_target_is_found(made: Made, tmp_path: Path) -> None:
    """And is no target itself."""
    target = read_header(made.target)
    assert check_pairing(target, read_header(made.head)).kind == "eagle3"
    if made.target != TINY_TARGET:  # which has its assistant
        assert find_drafter(target, [made.head]) == made.head
    with pytest.raises(ModelFileError, match="EAGLE-3 head, which only drafts"):
        localspec.load(made.head)


def test_rows_of_three_layers_are_in_the_estimate(made: Made) -> None:
    """One row of the target's width for each."""
    headers = read_header(made.target), read_header(made.head)
    assert LoadRequest.from_headers(*headers, "heads").keeps_rows == 3
    assert LoadRequest.from_headers(headers[0], None, "heads").keeps_rows == 1


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"target_layers": (1, 2, 6)}, "reads the layers 1, 2, 6, and the target has 6"),
        ({"target_layers": (1, 2)}, "reads the layers 1, 2, "),
        ({"target_layers": None}, "reads the layers of no target"),
        ({"target_hidden_size": 64}, "rows of width 64, and the target's are 192"),
        ({"target_hidden_size": None}, "rows of width None"),
        ({"block_count": 2}, "has 2 layers"),
        ({"embedding_length": 32}, "fc.weight has the shape"),
    ],
)
def test_head_of_another_target_is_refused(changed: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """Before llama.cpp sees it, which would end the process."""
    head = random_eagle(tmp_path / "eagle3.gguf", TINY_TARGET, **changed)
    with pytest.raises(DraftMismatchError, match=reason):
        localspec.load("tiny", head)


def test_tokens_that_the_target_lacks_are_refused(tmp_path: Path) -> None:
    """They would be written behind the row of logits."""
    head = random_eagle(tmp_path / "eagle3.gguf", TINY_TARGET, draft_tokens=8)
    header = read_header(head)
    tensor = next(tensor for tensor in header.tensors if tensor.name == "d2t")
    with head.open("r+b") as file:
        file.seek(header.data_start + tensor.offset)
        file.write(np.int64(2048).tobytes())
    assert "names the tokens" in (eagle_mismatch(read_header(TINY_TARGET), read_header(head)) or "")


def test_target_without_inputs_of_layers_is_refused(tmp_path: Path) -> None:
    """By its architecture."""
    target = random_model(tmp_path / "target.gguf", "glm4moe")
    assert "glm4moe" not in LAYER_INPUTS
    with pytest.raises(DraftMismatchError, match="gives no inputs of layers of 'glm4moe'"):
        localspec.load(target, random_eagle(tmp_path / "eagle3.gguf", target))


def test_build_without_the_functions_says_so(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    monkeypatch.setattr(layer_inputs, "_SET", "llama_no_such_function")
    model = LlamaModel(read_header(made.target), PARAMS)
    with pytest.raises(MissingFeatureError, match="EAGLE-3 heads read; use `-d ngram`"):
        LlamaContext(model, PARAMS, 128, input_layers=(1, 2, 3))
    model.close()


def test_ids_of_another_type_are_refused(tmp_path: Path) -> None:
    """llama.cpp would end the process."""
    head = read_header(random_eagle(tmp_path / "eagle3.gguf", TINY_TARGET, draft_tokens=8))
    tensors = tuple(replace(t, type=TYPE_NUMBERS["F32"]) if t.name == "d2t" else t for t in head.tensors)
    assert "no 64-bit numbers" in (eagle_mismatch(read_header(TINY_TARGET), replace(head, tensors=tensors)) or "")
