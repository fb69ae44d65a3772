"""Laws of exactness in ``localspec pull``: an exact file is taken where the choice is open, and prices are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import gguf_convert
from localspec.cli import cli
from localspec.cli.model import exact_file
from localspec.gguf.header import read_header
from localspec.memory.speed import MachineSpeed
from localspec.models import store
from localspec.models.hub.names import exact_alternative, parse_name
from localspec.models.hub.remote import Hub
from localspec.models.peek import peek_header
from localspec.models.recommended import RECOMMENDED
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET, resolve_model
from localspec.models.row_types import row_types
from tests.helpers.hub_fixtures import cache, server  # noqa: F401 - fixtures
from tests.helpers.hub_server import HubServer

pytestmark = pytest.mark.usefixtures("cache")
UNSLOTH, GOOGLE = "unsloth/gemma-4-E2B-it-qat-GGUF", "google/gemma-4-E2B-it-qat-q4_0-gguf"
MIXED, EXACT = "gemma-4-E2B-it-qat-UD-Q4_K_XL.gguf", "gemma-4-E2B_q4_0-it.gguf"


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The built-in target with a head whose rows are not exact."""
    path = tmp_path_factory.mktemp("mixed") / "mixed.gguf"
    gguf_convert.quantize(TINY_TARGET, path, "Q8_0", overrides=[("^token_embd", "Q5_0")], requantize=True)
    return path.read_bytes()


@pytest.fixture
def hub(server: HubServer, mixed: bytes, monkeypatch: pytest.MonkeyPatch) -> HubServer:  # noqa: F811
    """Both repositories of a recommended pair, and a CPU of a known speed."""
    server.add(UNSLOTH, MIXED, mixed)
    server.add(UNSLOTH, "MTP/mtp-gemma-4-E2B-it-Q4_0.gguf", TINY_ASSISTANT.read_bytes())
    server.add(GOOGLE, EXACT, TINY_TARGET.read_bytes())
    monkeypatch.setattr(exact_file, "_on_cpu", lambda: True)
    monkeypatch.setattr(exact_file, "_speed", lambda: MachineSpeed(1e9, 1e12))
    return server


def pull(*args: str) -> Result:
    result = CliRunner().invoke(cli, ["pull", *args])
    assert result.exit_code == 0, result.stderr
    return result


def names() -> list[str]:
    return [model.name for model in store.stored_models()]


def test_exact_file_is_taken_for_an_open_name(hub: HubServer) -> None:
    """With the drafter of the other, and both prices; the short name then stands for it."""
    told = pull("gemma-4-e2b-qat").stderr
    assert re.search(
        rf"Left out: {UNSLOTH}:UD-Q4_K_XL, 3 MB, about \d+ tokens/s, .*not exact on this CPU \(Q5_0\)", told
    )
    assert re.search(rf"Taken: {GOOGLE}:Q4_0, 3 MB, about \d+ tokens/s, \d+ tokens/s with drafts, exact on", told)
    assert names() == [f"{GOOGLE}:Q4_0", f"{UNSLOTH}/MTP/mtp-gemma-4-E2B-it-Q4_0.gguf"]
    assert resolve_model("gemma-4-e2b-qat").read_bytes() == TINY_TARGET.read_bytes()
    assert store.drafters_for(f"{GOOGLE}:Q4_0")
    assert CliRunner().invoke(cli, ["rm", "gemma-4-e2b-qat", "--yes"]).exit_code == 0
    assert names() == []


def test_second_pull_reads_no_header_again(hub: HubServer) -> None:
    """The exact file is on disk."""
    pull("gemma-4-e2b-qat")
    before = len(hub.requests)
    assert "is on disk already" in pull("gemma-4-e2b-qat").stderr
    assert {request.where for request in hub.requests[before:]} == {"listing"}


def test_exact_file_is_not_replaced(hub: HubServer) -> None:
    """The other is not even looked at."""
    hub.add(UNSLOTH, MIXED, TINY_TARGET.read_bytes())
    pull("gemma-4-e2b-qat")
    assert f"{UNSLOTH}:UD-Q4_K_XL" in names()
    assert not any("google" in request.name for request in hub.requests)


@pytest.mark.parametrize("name", [UNSLOTH, f"{UNSLOTH}:UD-Q4_K_XL", "gemma-4-e2b-qat:UD-Q4_K_XL"])
def test_name_that_was_given_in_full_is_kept(hub: HubServer, name: str) -> None:
    """Its price is told, and that of an exact copy."""
    told = " ".join(pull(name).stderr.split())
    assert f"{UNSLOTH}:UD-Q4_K_XL" in names()
    assert "Taken" not in told
    assert re.search(r"Fetched: \S+, 3 MB, about \d+ tokens/s, .* not exact on this CPU \(Q5_0\)", told)
    assert re.search(r"An exact copy: 3 MB, about \d+ tokens/s, .*, exact on this CPU", told)
    (command,) = re.findall(r"`localspec (quantize .* --exact --requantize)`", told)
    assert command.split()[1].endswith(MIXED)


def test_copy_is_as_large_as_told_and_exact(mixed: bytes, tmp_path: Path) -> None:
    """Nearly: metadata are not counted."""
    path = tmp_path / "mixed.gguf"
    path.write_bytes(mixed)
    types = row_types(read_header(path), len(mixed))
    assert (types.inexact, types.worth_a_copy) == (("Q5_0",), True)
    gguf_convert.quantize(path, tmp_path / "exact.gguf", exact=True, requantize=True, type="Q8_0")
    made = row_types(read_header(tmp_path / "exact.gguf"), (tmp_path / "exact.gguf").stat().st_size)
    assert made.exact
    assert types.copy == pytest.approx(made.size, rel=0.02)
    assert types.copy_read == pytest.approx(made.read, rel=0.02)
    assert row_types(read_header(TINY_TARGET), 1).exact


def test_nothing_is_told_of_an_exact_file_or_on_a_gpu(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no choice to make."""
    told = pull(GOOGLE).stderr
    monkeypatch.setattr(exact_file, "_on_cpu", lambda: False)
    told += pull("gemma-4-e2b-qat").stderr
    assert f"{UNSLOTH}:UD-Q4_K_XL" in names()
    assert not re.search("exact|Taken|Fetched:", told)


@pytest.mark.parametrize("content", [b"no model", TINY_TARGET.read_bytes()[:2000], None])
def test_other_file_that_cannot_be_read_is_not_taken(server: HubServer, mixed: bytes, content: bytes | None) -> None:  # noqa: F811
    """Nor is a repository missed that does not exist."""
    server.add(UNSLOTH, MIXED, mixed)
    if content is not None:
        server.add(GOOGLE, EXACT, content)
    pull("gemma-4-e2b-qat", "-d", "none")
    assert names() == [f"{UNSLOTH}:UD-Q4_K_XL"]


def test_header_is_read_from_the_first_bytes(hub: HubServer) -> None:
    """The types are those of the whole file."""
    remote = Hub()
    listing = remote.listing(UNSLOTH)
    found = peek_header(remote, listing, next(file for file in listing.files if file.path == MIXED))
    assert found is not None
    assert row_types(found, 1).inexact == ("Q5_0",)


def test_open_names_are_those_of_recommended_pairs() -> None:
    """Each of Gemma 4 stands for unsloth's file or Google's; a quant closes the choice."""
    assert not any(exact_alternative(pair.target) for pair in RECOMMENDED[1:] if ":" in pair.target)
    for pair in RECOMMENDED[1:]:
        if ":" in pair.target:
            continue
        other, name = exact_alternative(pair.target), parse_name(pair.target)
        assert other is not None
        assert name is not None
        assert other.repo == f"google/gemma-4-{pair.title.removeprefix('Gemma 4 ')}-it-qat-q4_0-gguf"
        assert name.repo == pair.repo
        assert exact_alternative(f"{pair.target}:Q8_0") is None
    assert exact_alternative("gemma-4-e2b") is None
    assert exact_alternative("user/repo") is None
