"""Laws of a pull: which files it takes, that what is listed is whole, that there is room, what a checkpoint becomes."""

from __future__ import annotations

import random
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from localspec.errors import HubError, ModelNotFoundError, UsageError
from localspec.models import remove as removing
from localspec.models import store
from localspec.models.hub.names import HubName, parse_name
from localspec.models.hub.remote import Hub
from localspec.models.pairing import ASSISTANT
from localspec.models.pull import PulledModels, PullPlan, bytes_to_fetch, check_space, plan_pull, pull, pull_converted
from localspec.models.resolve import resolve_model
from tests.helpers.hub_fixtures import Told
from tests.helpers.hub_server import Fault, HubServer
from tests.helpers.support import gguf_file

REPO = "user/gemma-4-E2B-it-GGUF"
TARGET, OTHER, DRAFTER = "gemma-4-E2B-it-Q4_K_M.gguf", "gemma-4-E2B-it-Q8_0.gguf", "MTP/mtp-gemma-4-E2B-it-Q8_0.gguf"
GOOGLE = "google/gemma-4-E2B-it-assistant"

Content = Callable[[str], bytes]


def content(name: str) -> bytes:
    """Bytes of a file's own."""
    return random.Random(name).randbytes(3000)


@pytest.fixture
def filled(server: HubServer) -> HubServer:
    """A repository with two quants and what is no model."""
    for name in (TARGET, OTHER, "mmproj-F16.gguf", "README.md"):
        server.add(REPO, name, content(name), lfs=name.endswith(".gguf"))
    return server


def planned(hub: Hub, name: str = REPO, draft: str = "auto", quant: str | None = None, media: bool = False) -> PullPlan:
    parsed = parse_name(name)
    assert parsed is not None
    return plan_pull(hub, parsed, draft, quant, media=media)


def pulled(hub: Hub, cache: Path, told: Told, name: str = REPO, **rest: str) -> PulledModels:
    return pull(hub, planned(hub, name, **rest), cache, told)


def names(plan: PullPlan) -> list[str]:
    return [part.name for part in plan.models]


# Which files.


def test_drafter_of_the_same_repository_comes_along(hub: Hub, filled: HubServer) -> None:
    """No other file does."""
    filled.add(REPO, DRAFTER, content(DRAFTER))
    assert names(planned(hub)) == [f"{REPO}:Q4_K_M", f"{REPO}/{DRAFTER}"]
    assert len(filled.seen("listing")) == 1


@pytest.mark.parametrize("draft", ["auto", "none"])
def test_projector_comes_along_where_it_is_wanted(hub: Hub, filled: HubServer, draft: str) -> None:
    """One that names the target's size, or none: F16 before the others, with or without a drafter."""
    for name in ("mmproj-Q8_0.gguf", "mmproj-gemma-4-E4B-it-F16.gguf", "sub/mmproj-F16.gguf"):
        filled.add(REPO, name, content(name))
    assert names(planned(hub, draft=draft, media=True))[-1] == f"{REPO}/mmproj-F16.gguf"
    assert not any("mmproj" in name for name in names(planned(hub, draft=draft)))


def test_projector_belongs_to_its_target(hub: Hub, filled: HubServer, cache: Path, told: Told) -> None:
    done = pull(hub, planned(hub, media=True), cache, told)
    assert done.target is not None
    assert done.projector is not None
    assert done.projector.path.read_bytes() == content("mmproj-F16.gguf")
    assert store.pulled_with(done.target.name) == [done.projector]
    assert store.drafters_for(done.target.name) == []


def test_drafter_of_another_repository_comes_along(hub: Hub, filled: HubServer) -> None:
    """The first known one that has it; those that are not there are passed over."""
    filled.add("unsloth/gemma-4-E2B-it-GGUF", DRAFTER, content(DRAFTER))
    filled.add(GOOGLE, "model.safetensors", b"1")
    plan = planned(hub)
    assert names(plan) == [f"{REPO}:Q4_K_M", f"unsloth/gemma-4-E2B-it-GGUF/{DRAFTER}"]
    assert plan.checkpoint is None


def test_only_a_checkpoint_is_offered(hub: Hub, filled: HubServer) -> None:
    """Not taken, and not offered where it is not."""
    assert planned(hub).checkpoint is None
    filled.add(GOOGLE, "model.safetensors", b"1")
    plan = planned(hub)
    assert (plan.drafter, plan.checkpoint) == (None, GOOGLE)


@pytest.mark.parametrize("draft", ["none", "ngram"])
def test_no_drafter_where_none_is_wanted(hub: Hub, filled: HubServer, draft: str) -> None:
    """No request looks for one."""
    filled.add(REPO, DRAFTER, content(DRAFTER))
    assert names(planned(hub, draft=draft)) == [f"{REPO}:Q4_K_M"]
    assert len(filled.seen("listing")) == 1


def test_named_drafter_is_taken(hub: Hub, filled: HubServer) -> None:
    """An assistant or a smaller model."""
    filled.add("user/small-GGUF", "small-Q4_0.gguf", b"1")
    filled.add("user/heads", DRAFTER, b"2")
    assert names(planned(hub, draft="user/small-GGUF:Q4_0"))[1] == "user/small-GGUF/small-Q4_0.gguf"
    assert names(planned(hub, draft="user/heads"))[1] == f"user/heads/{DRAFTER}"


@pytest.mark.parametrize("draft", ["small.gguf", "./x", "always"])
def test_drafter_that_is_no_name_on_the_hub_is_refused(hub: Hub, filled: HubServer, draft: str) -> None:
    """With the value."""
    with pytest.raises(UsageError, match=rf"--draft is '{draft}'"):
        planned(hub, draft=draft)


def test_type_chooses_where_the_name_does_not(hub: Hub, filled: HubServer) -> None:
    """The name comes first."""
    assert names(planned(hub, quant="q8_0")) == [f"{REPO}:Q8_0"]
    assert names(planned(hub, f"{REPO}:Q4_K_M", quant="q8_0")) == [f"{REPO}:Q4_K_M"]


def test_missing_quant_lists_what_there_is(hub: Hub, filled: HubServer) -> None:
    """Nothing is fetched."""
    with pytest.raises(ModelNotFoundError, match=r"has no quant Q2_K.*Q4_K_M.*Q8_0"):
        planned(hub, f"{REPO}:Q2_K")
    assert not filled.seen("resolve")


def test_repository_of_drafters_can_be_pulled_by_itself(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """For -d, which finds it by that name."""
    server.add("user/heads-GGUF", DRAFTER, content(DRAFTER))
    done = pulled(hub, cache, told, "user/heads-GGUF")
    assert done.target is None
    assert done.drafter is not None
    assert store.locate(HubName("user/heads-GGUF"), drafter=True) == done.drafter.path


# What is listed.


def test_pulled_pair_is_found_without_a_network(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """By every spelling of its name, and by nothing that was not pulled."""
    filled.add(REPO, DRAFTER, content(DRAFTER))
    done = pulled(hub, cache, told)
    filled.close()
    assert done.target is not None
    assert done.drafter is not None
    assert done.target.path.read_bytes() == content(TARGET)
    for name in (REPO, f"{REPO}:Q4_K_M", f"{REPO}:q4_k_m", f"{REPO}/{TARGET}", f"https://hf.co/{REPO}"):
        assert resolve_model(name) == done.target.path
    assert resolve_model(f"{REPO}/{DRAFTER}") == done.drafter.path
    assert resolve_model(REPO, drafter=True) == done.drafter.path
    assert store.drafters_for(f"{REPO}:Q4_K_M") == [done.drafter]
    for name in (f"{REPO}:Q8_0", f"{REPO}/{OTHER}", "user/none"):
        with pytest.raises(ModelNotFoundError, match=f"{name} is not on disk; run `localspec pull {name}` when online"):
            resolve_model(name)


def test_parts_of_a_split_come_as_one(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """In order; the first is what is loaded, and the others lie beside it."""
    parts = [f"big-Q4_0-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for part in reversed(parts):
        server.add("user/big", part, content(part))
    target = pulled(hub, cache, told, "user/big").target
    assert target is not None
    assert [file.name for file in target.files] == parts
    assert target.path.name == parts[0]
    assert {file.path.parent for file in target.files} == {target.path.parent}
    assert target.size == 9000


def test_model_is_listed_only_when_whole(hub: Hub, cache: Path, told: Told, server: HubServer) -> None:
    """Two of three parts are no model; the third makes it one."""
    parts = [f"big-Q4_0-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    for part in parts:
        server.add("user/big", part, content(part))
    server.script("cdn", parts[2], Fault(content=b"?" * 3000))
    with pytest.raises(HubError, match="not what was promised"):
        pulled(hub, cache, told, "user/big")
    assert store.stored_models() == []
    with pytest.raises(ModelNotFoundError, match="not on disk"):
        resolve_model("user/big")
    told.ended.clear()
    done = pulled(hub, cache, told, "user/big")
    assert told.ended == [False, False, True]
    assert store.stored_models() == [done.target]


def test_target_is_listed_though_its_drafter_fails(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """It is whole."""
    filled.add(REPO, DRAFTER, content(DRAFTER))
    filled.script("cdn", DRAFTER, Fault(content=b"?" * 3000))
    with pytest.raises(HubError):
        pulled(hub, cache, told)
    assert [model.name for model in store.stored_models()] == [f"{REPO}:Q4_K_M"]


def test_second_pull_fetches_nothing(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """Not even after a change to another file of the repository; a note says so."""
    first = pulled(hub, cache, told).target
    filled.add(REPO, "README.md", b"new", lfs=False)
    before = len(filled.seen("cdn"))
    again = pulled(hub, cache, told).target
    assert first is not None
    assert again is not None
    assert (again.path, len(filled.seen("cdn"))) == (first.path, before)
    assert told.notes == [f"{REPO}:Q4_K_M is on disk already"]


def test_newer_version_takes_the_place_of_the_older(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """Whose bytes are freed."""
    old = pulled(hub, cache, told).target
    filled.add(REPO, TARGET, content("newer"))
    new = pulled(hub, cache, told).target
    assert old is not None
    assert new is not None
    assert store.stored_models() == [new]
    assert not old.path.exists()
    assert new.path.read_bytes() == content("newer")
    assert len(list(cache.glob("models--*/blobs/*"))) == 1


def test_removed_model_leaves_nothing(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """Except huggingface_hub's locks."""
    target = pulled(hub, cache, told).target
    assert target is not None
    assert removing.remove(target) == 3000
    assert [path.name for path in cache.iterdir()] == [".locks"]


def test_pair_that_does_not_fit_is_told(hub: Hub, cache: Path, told: Told, server: HubServer, tmp_path: Path) -> None:
    """From the headers, with the reason."""
    for name, architecture, numbers in (
        (TARGET, "gemma4", {"embedding_length": 64}),
        (DRAFTER, ASSISTANT, {"embedding_length_out": 32}),
    ):
        server.add(REPO, name, gguf_file(tmp_path / "x.gguf", architecture, numbers).read_bytes())
    pulled(hub, cache, told)
    assert any("cannot draft for" in note and "width 32" in note for note in told.notes)


# Room.


def test_too_little_room_is_told_before_anything_is_fetched(
    hub: Hub, cache: Path, told: Told, filled: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both numbers."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 1_000_000))
    with pytest.raises(HubError, match=rf"{REPO}:Q4_K_M needs .* more, and the disk of .* has 1 MB free; make room"):
        pulled(hub, cache, told)
    assert not filled.seen("resolve")


def test_only_what_is_missing_needs_room(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """Files that are there do not, nor parts of files."""
    plan = planned(hub)
    assert bytes_to_fetch(plan.models, cache) == 3000
    (file,) = plan.target.files if plan.target else ()
    partial = cache / f"models--{REPO.replace('/', '--')}" / "blobs" / f"{file.etag}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content(TARGET)[:1000])
    assert bytes_to_fetch(plan.models, cache) == 2000
    pull(hub, plan, cache, told)
    assert bytes_to_fetch(plan.models, cache) == 0


def test_nothing_to_fetch_needs_no_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk, what is there can be pulled again."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 0))
    check_space(0, cache, "x")


# A checkpoint.


def _copy(folder: Path, out: Path, kind: str) -> None:
    out.write_bytes((folder / "model.safetensors").read_bytes() + kind.encode())


def test_checkpoint_becomes_a_drafter(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """Listed for its target, under a name that -d takes; the checkpoint itself does not stay."""
    for name in ("config.json", "model.safetensors", "tokenizer.json", "docs/x.json", "README.md"):
        filled.add(GOOGLE, name, content(name), lfs=name.endswith(".safetensors"))
    target = pulled(hub, cache, told).target
    assert target is not None
    made = pull_converted(hub, GOOGLE, target, "Q8_0", _copy, cache, told)
    assert made.path.read_bytes() == content("model.safetensors") + b"Q8_0"
    assert store.drafters_for(target.name) == [made]
    assert resolve_model(made.name) == made.path
    assert not list(cache.glob("models--google--*"))
    assert not filled.seen("resolve", "README.md")
    assert removing.remove(made) == made.size
    assert not made.path.parent.exists()


def test_failed_conversion_lists_nothing(hub: Hub, cache: Path, told: Told, filled: HubServer) -> None:
    """The checkpoint stays for another attempt."""
    filled.add(GOOGLE, "config.json", b"{}", lfs=False)
    filled.add(GOOGLE, "model.safetensors", b"1")
    target = pulled(hub, cache, told).target
    assert target is not None

    def fail(folder: Path, out: Path, kind: str) -> None:
        raise HubError("no.")

    with pytest.raises(HubError, match="no"):
        pull_converted(hub, GOOGLE, target, "Q8_0", fail, cache, told)
    assert store.stored_models() == [target]
    assert list(cache.glob("models--google--*"))


# Killed.


def test_killed_pulls_end_right_and_list_nothing_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of what scripts/check/kill_pulls.py does a hundred times."""
    monkeypatch.setenv("LOCALSPEC_DATA", str(tmp_path))  # which the script sets, and this puts back
    from scripts.check.kill_pulls import run

    tally = run(pulls=2, seed=3, rate=4e6)
    assert (tally.pulls, tally.faults) == (2, [])
