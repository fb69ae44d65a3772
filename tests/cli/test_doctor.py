"""Laws of ``localspec doctor``: what it says of a machine and a pair."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from localspec.cli import cli
from localspec.cli.doctor import verdict
from localspec.exact import Guard


def test_the_built_in_pair_is_looked_at() -> None:
    """Versions, devices, drafter and exactness, as lines and as JSON."""
    told = CliRunner().invoke(cli, ["doctor"])
    assert told.exit_code == 0
    names = [line.split()[0] for line in told.stdout.splitlines() if not line.startswith(" ")]
    assert names == ["localspec", "llama.cpp", "memory", "device", "pair", "exactness"]
    found = json.loads(CliRunner().invoke(cli, ["doctor", "--json"]).stdout)
    assert found["pair"]["drafters"] == ["mtp"]
    assert (found["pair"]["exactness"], found["pair"]["exact_width"]) == ("exact", 32)


@pytest.mark.parametrize(
    ("exactness", "drafts", "says"),
    [
        ("exact", False, "nothing drafts"),
        ("exact", True, "up to 32 tokens"),
        ("off", True, "--exactness off"),
        ("guarded", True, "more than 3 tokens move logits by up to 0.52"),
    ],
)
def test_verdict_names_what_was_found(exactness: str, drafts: bool, says: str) -> None:
    """And the next step where it is not the best."""
    assert says in verdict(exactness, drafts, Guard(3, 0.521, 0.2, 32))


def test_a_model_that_is_not_there() -> None:
    """One sentence."""
    told = CliRunner().invoke(cli, ["doctor", "-m", "absent.gguf"])
    assert (told.exit_code, told.stdout) == (1, "")
    assert "absent.gguf" in told.stderr
