"""Laws of models that other programs keep: found by name, used in place and never changed."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from localspec.errors import ModelNotFoundError
from localspec.gguf.header import read_header
from localspec.models import store
from localspec.models.found.places import places
from localspec.models.found.search import found_models
from localspec.models.found.usable import usable_models
from localspec.models.pairing import find_drafter
from localspec.models.resolve import resolve_model
from tests.helpers.odd_json import ODD, paths, replaced
from tests.helpers.other_programs import ASSISTANT, TARGET, Home


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home without models; the working folder is another one."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return Home(tmp_path / "home", monkeypatch)


def names() -> list[str]:
    return [model.name for model in usable_models()]


# names


def test_each_program_is_found_by_its_names(home: Home) -> None:
    """As the program and as the Hub call it, in any case, without what may be left out; nothing is changed."""
    hub = home.in_hub("Acme/Owl-GGUF", "Owl-Q8_0.gguf")
    studio = home.in_lm_studio("infra-ai/Ocelot-v1/Ocelot-v1-Instruct-q4_0.gguf")
    flat = home.in_llama_cpp("ggml-org/Tiny_Model-GGUF", "sub/Tiny_Model-Q8_0.gguf")
    blob = home.in_ollama("registry.ollama.ai/library/Llama3.2/latest")
    other = home.in_ollama("registry.ollama.ai/someone/owl/1b", TARGET + bytes(32))
    third = home.in_ollama("hf.co/bartowski/Llama-GGUF/Q4_K_M", TARGET + bytes(64))
    before = home.everything()
    for name, path in (
        ("Acme/Owl-GGUF:Q8_0", hub), ("acme/owl-gguf", hub), ("hf.co/Acme/Owl-GGUF", hub), ("Owl-Q8_0.gguf", hub),
        ("Acme/Owl-GGUF/Owl-Q8_0.gguf", hub),
        ("infra-ai/Ocelot-v1:Q4_0", studio), ("infra-ai/ocelot-V1", studio), ("ocelot-v1-instruct-q4_0", studio),
        ("ggml-org/Tiny_Model-GGUF:Q8_0", flat), ("ggml-org/tiny_model-gguf", flat), ("tiny_model-Q8_0", flat),
        ("Llama3.2", blob), ("llama3.2:latest", blob), ("someone/owl:1b", other),
        ("bartowski/Llama-GGUF:Q4_K_M", third), ("hf.co/bartowski/Llama-GGUF", third),
    ):  # fmt: skip
        assert resolve_model(name).samefile(path), name
    assert names() == [
        "Acme/Owl-GGUF:Q8_0", "infra-ai/Ocelot-v1:Q4_0", "ggml-org/Tiny_Model-GGUF:Q8_0",
        "bartowski/Llama-GGUF:Q4_K_M", "Llama3.2:latest", "someone/owl:1b",
    ]  # fmt: skip
    assert home.everything() == before


@pytest.mark.parametrize("name", ["none", "user/none", "user/none:Q4_0", "llama3.2:7b", "none.gguf", "a" * 5000, "\0"])
def test_name_that_no_program_has_is_one_sentence(home: Home, name: str) -> None:
    """With the next step."""
    home.in_ollama("registry.ollama.ai/library/llama3.2/1b")
    with pytest.raises(ModelNotFoundError, match=r"`localspec (pull|list)"):
        resolve_model(name)


def test_what_was_pulled_goes_first_then_the_hubs_cache(home: Home) -> None:
    """A path goes before both."""
    studio = home.in_lm_studio("u/r/m-Q8_0.gguf", TARGET + bytes(32))
    assert resolve_model("u/r") == studio
    hub = home.in_hub("u/r", "m-Q8_0.gguf")
    assert resolve_model("u/r") == hub
    pulled = home.write(home.root / "pulled" / "m-Q8_0.gguf")
    store.add(store.StoredModel("u/r", "Q8_0", (store.StoredFile("m-Q8_0.gguf", pulled, len(TARGET), "0" * 64),)))
    assert resolve_model("u/r") == pulled
    Path("u").mkdir()
    Path("u/r").write_bytes(b"x")
    assert resolve_model("u/r") == Path("u/r")


def test_one_of_several_is_asked_for_by_its_path(home: Home) -> None:
    """Copies of one file are one; files that differ are listed with sizes and programs."""
    first = home.in_lm_studio("u/r/m-Q8_0.gguf")
    second = home.in_llama_cpp("u/r", "m-Q8_0.gguf")
    assert resolve_model("u/r:Q8_0") == first
    second.write_bytes(TARGET + bytes(32))
    with pytest.raises(ModelNotFoundError) as error:
        resolve_model("u/r:Q8_0")
    for part in (str(first), str(second), "LM Studio", "llama.cpp", "3 MB"):
        assert part in str(error.value)


def test_models_of_one_quant_are_named_by_their_files(home: Home) -> None:
    """The quant alone is no name then."""
    home.in_lm_studio("u/r/a-Q8_0.gguf")
    home.in_lm_studio("u/r/b-Q8_0.gguf", TARGET + bytes(32))
    home.in_lm_studio("u/r/c-Q4_0.gguf", TARGET + bytes(64))
    assert names() == ["u/r/a-Q8_0.gguf", "u/r/b-Q8_0.gguf", "u/r:Q4_0"]
    with pytest.raises(ModelNotFoundError, match="one of several"):
        resolve_model("u/r:Q8_0")
    assert resolve_model("u/r/b-Q8_0.gguf").name == "b-Q8_0.gguf"


# files


@pytest.mark.parametrize("program", ["hub", "lm_studio", "llama_cpp"])
def test_split_is_one_model(home: Home, program: str) -> None:
    """Named by its first part; one that lacks a part is none."""
    for part in (1, 2, 3):
        name = f"big-Q4_0-0000{part}-of-00003.gguf"
        if program == "lm_studio":
            home.in_lm_studio(f"u/big/{name}")
        else:
            (home.in_hub if program == "hub" else home.in_llama_cpp)("u/big", name)
    (model,) = found_models()
    assert (model.name, len(model.files), model.size) == ("u/big:Q4_0", 3, 3 * len(TARGET))
    assert resolve_model("u/big").name.endswith("big-Q4_0-00001-of-00003.gguf")
    model.files[1].path.unlink()
    assert "u/big:Q4_0" not in names()


def test_snapshots_of_the_hub(home: Home) -> None:
    """The branch's comes first; a link to bytes that are not there is no file."""
    old = home.in_hub("u/r", "m-Q8_0.gguf", TARGET + bytes(32), "0" * 40, main=False)
    new = home.in_hub("u/r", "m-Q8_0.gguf", commit="2" * 40)
    only_old = home.in_hub("u/r", "n-Q4_0.gguf", commit="0" * 40, main=False)
    assert (resolve_model("u/r:Q8_0"), resolve_model("u/r:Q4_0")) == (new, only_old)
    os.unlink(new.resolve())
    assert resolve_model("u/r:Q8_0") == old


def test_llama_cpp_uses_the_layout_of_the_hub_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the folder of LLAMA_CACHE; a file of an address has its own name."""
    path = home.in_hub("u/r", "m-Q8_0.gguf")
    alone = home.write(home.llama_cpp / "From_An_Address.gguf", TARGET + bytes(32))
    monkeypatch.setenv("LLAMA_CACHE", str(home.hub))
    assert [model.source for model in found_models()] == ["huggingface"]
    monkeypatch.setenv("HF_HOME", str(home.root / "none"))
    assert [model.source for model in found_models()] == ["llama.cpp"]
    assert resolve_model("u/r") == path
    monkeypatch.setenv("LLAMA_CACHE", str(home.llama_cpp))
    assert names() == ["From_An_Address.gguf"]
    assert resolve_model("from_an_address") == alone


def test_newer_manifests_of_ollama(home: Home) -> None:
    """A link to a blob, and a list with one for each runner."""
    text = json.dumps({"layers": [home.layer()]}).encode()
    blob = home.in_ollama("registry.ollama.ai/library/old/1b")
    child = home.write(home.ollama / "blobs" / f"sha256-{'a' * 64}", text)
    link = home.ollama / "manifests-v2/registry.ollama.ai/library/linked/1b"
    link.parent.mkdir(parents=True)
    link.symlink_to(child)
    entries = [
        {"runner": "mlx", "digest": f"sha256:{'b' * 64}"},
        {"runner": "llamacpp", "digest": f"sha256:{'a' * 64}"},
    ]
    home.manifest("registry.ollama.ai/library/listed/1b", {"manifests": entries})
    home.manifest("registry.ollama.ai/library/other/1b", {"manifests": entries[:1]})
    assert names() == ["linked:1b", "listed:1b", "old:1b"]
    assert resolve_model("listed:1b") == blob


def test_pulled_models_are_not_found_twice(home: Home) -> None:
    """They are in the Hub's cache, too."""
    path = home.in_hub("u/r", "m-Q8_0.gguf")
    store.add(store.StoredModel("u/r", "Q8_0", (store.StoredFile("m-Q8_0.gguf", path, len(TARGET), "0" * 64),)))
    assert found_models() == []


# drafters


def test_drafters_of_other_programs_are_used(home: Home) -> None:
    """An assistant is told by its header, whatever its name, and drafts for a target elsewhere."""
    home.in_ollama("registry.ollama.ai/library/helper/latest", ASSISTANT)
    target = home.in_lm_studio("u/r/m-Q8_0.gguf")
    assert [model.role for model in usable_models()] == ["model", "drafter"]
    found = find_drafter(read_header(target))
    assert found is not None
    assert found.read_bytes() == ASSISTANT


# folders that nobody has checked


def test_what_is_damaged_is_passed_over(home: Home) -> None:
    """Files that are no models, cut short or no files, circles of links, and manifests of any content."""
    home.in_lm_studio("u/r/m-Q4_0.gguf")
    home.in_lm_studio("u/r/cut-Q8_0.gguf", TARGET[:5000])
    home.in_lm_studio("u/r/mmproj-m-F16.gguf")
    home.in_lm_studio("u/r/text.gguf", b"no model")
    home.in_lm_studio("u/r/empty.gguf", b"")
    (home.lm_studio / "u/circle").symlink_to(home.lm_studio / "u")
    (home.lm_studio / "u/r/self.gguf").symlink_to("self.gguf")
    if sys.platform != "win32":
        os.mkfifo(home.lm_studio / "u/r/pipe.gguf")
    home.write(home.llama_cpp / "manifest=u=r=latest.json", b"[" * 100_000)
    home.write(home.llama_cpp / "manifest=u=s=latest.json", b'{"ggufFile": {"rfilename": "../../m.gguf"}}')
    (home.hub / "models--u--r").mkdir(parents=True)
    (home.hub / "models--u--r/snapshots").symlink_to(home.hub)
    assert {"u/r:Q4_0"} <= set(names()) <= {"u/r:Q4_0", "u/r:Q8_0"}
    assert resolve_model("u/r").name == "m-Q4_0.gguf"


@pytest.mark.parametrize(
    "manifest",
    [
        b"", b"\xff\xfe", b"[" * 200_000, [], 7, None, {"layers": 7}, {"layers": [7, None, {}]}, {"manifests": [7]},
        {"manifests": [{"digest": "../../x"}]}, b" " * (2 << 20),
    ],
    ids=range(11),
)  # fmt: skip
def test_manifest_of_any_content_is_no_model(home: Home, manifest: object) -> None:
    """Nor an error."""
    home.manifest("registry.ollama.ai/library/evil/latest", manifest)
    assert found_models() == []


def test_odd_values_anywhere_in_the_small_files_are_passed_over(home: Home) -> None:
    """Manifests of Ollama and llama.cpp, and LM Studio's settings: every value of every kind in every place."""
    home.in_lm_studio("u/r/m-Q8_0.gguf")
    manifest = {"schemaVersion": 2, "layers": [home.layer(), {"mediaType": "x"}]}
    listed = {"manifests": [{"runner": "ollama", "digest": f"sha256:{'a' * 64}"}, manifest]}
    flat = {"ggufFile": {"rfilename": "m-00001-of-00002.gguf", "lfs": {}}}
    settings = {"downloadsFolder": str(home.lm_studio)}
    for whole, path in (
        (manifest, home.ollama / "manifests/a/b/c/d"),
        (listed, home.ollama / "manifests/a/b/c/d"),
        (flat, home.llama_cpp / "manifest=u=r=latest.json"),
        (settings, home.lm_studio.parent / "settings.json"),
    ):
        for place in paths(whole):
            for odd in ODD:
                home.write(path, json.dumps(replaced(whole, place, odd)).encode())
                assert "u/r:Q8_0" in [model.name for model in found_models()], (place, odd)


@pytest.mark.parametrize("digest", ["sha256:../../../secret", "../secret", "sha256-" + "a" * 63, "", 7, None])
def test_digest_never_leads_out_of_the_blobs(home: Home, digest: object) -> None:
    """Only 64 hexadecimal digits name a blob."""
    secret = home.write(home.ollama.parent / "secret")
    (home.ollama / "blobs").mkdir(parents=True)
    home.manifest("a/b/c/d", {"layers": [{**home.layer(), "digest": digest}]})
    home.manifest("a/b/c/e", {"layers": [{**home.layer(), "digest": str(secret)}]})
    assert found_models() == []


def test_blob_of_another_size_is_not_whole(home: Home) -> None:
    """A download that goes on."""
    home.in_ollama("a/b/c/d").write_bytes(TARGET[:-1])
    assert found_models() == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="every folder can be read by this user")
def test_folder_that_cannot_be_read_is_passed_over(home: Home) -> None:
    """Another one is still found."""
    home.in_lm_studio("u/r/m-Q8_0.gguf")
    closed = home.lm_studio / "closed"
    closed.mkdir(mode=0)
    assert names() == ["u/r:Q8_0"]


# places


def test_places_by_environment_and_system(tmp_path: Path) -> None:
    """Variables go first; homes of LM Studio are also those of its pointer and its settings."""
    found = places({}, tmp_path, "linux")
    assert found.hub == (tmp_path / ".cache/huggingface/hub",)
    assert found.llama_cpp == (tmp_path / ".cache/llama.cpp",)
    assert found.ollama == (tmp_path / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))
    assert found.lm_studio == (tmp_path / ".lmstudio/models", tmp_path / ".cache/lm-studio/models")
    assert places({}, tmp_path, "darwin").llama_cpp == (tmp_path / "Library/Caches/llama.cpp",)
    assert places({"LOCALAPPDATA": "/local"}, tmp_path, "win32").llama_cpp == (Path("/local/llama.cpp"),)
    env = {"HF_HUB_CACHE": "~/hub", "OLLAMA_MODELS": '"/o"', "LLAMA_CACHE": "/l", "LMSTUDIO_HOME": "/s"}
    found = places(env, tmp_path, "linux")
    assert (found.hub, found.ollama, found.llama_cpp, found.lm_studio) == (
        (tmp_path / "hub",), (Path("/o"),), (Path("/l"),), (Path("/s/models"),),
    )  # fmt: skip
    assert places({"HF_HOME": "/h"}, tmp_path, "linux").hub == (Path("/h/hub"),)
    assert places({"XDG_CACHE_HOME": "/x"}, tmp_path, "linux").hub == (Path("/x/huggingface/hub"),)
    (tmp_path / ".lmstudio-home-pointer").write_text("/moved\n")
    (tmp_path / ".lmstudio").mkdir()
    (tmp_path / ".lmstudio/settings.json").write_text('{"downloadsFolder": "/big/disk"}')
    assert places({}, tmp_path, "linux").lm_studio[:2] == (Path("/moved/models"), Path("/big/disk"))
