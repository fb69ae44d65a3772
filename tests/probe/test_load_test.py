"""Laws of the load test: a file that crashes llama.cpp gives one sentence, and a file is tried once."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import localspec
from localspec.errors import BackendError, ModelFileError
from localspec.gguf.header import read_header
from localspec.models.resolve import TINY_ASSISTANT, TINY_TARGET
from localspec.params import ContextParams
from localspec.probe import load_test as trial
from localspec.probe.load_test import try_files
from localspec.probe.load_test_child import _TEXT
from tests.helpers.mutations import gguf_fields
from tests.helpers.paths import ROOT

SOUND = TINY_TARGET.read_bytes()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALSPEC_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The child processes that were started."""
    started: list[subprocess.Popen[str]] = []
    popen = subprocess.Popen

    def start(*args: Any, **options: Any) -> subprocess.Popen[str]:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    return started


def in_place_of_the_child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(trial, "_CHILD", f"import os, sys, time; sys.stdin.readline(); {code}")


def sound(folder: Path, source: Path = TINY_TARGET) -> Path:
    return Path(shutil.copy(source, folder / f"copy-of-{source.name}"))


def deadly(folder: Path) -> Path:
    """llama.cpp asserts that no two tokens are the same."""
    data = bytearray(SOUND)
    items = [field for field in gguf_fields(SOUND)[0] if field.what == "item" and field.size == 5]
    tokens = [field for field in items if field.of == "tokenizer.ggml.tokens"]
    first, last = tokens[0], tokens[-1]
    data[last.at : last.at + 5] = data[first.at : first.at + 5]
    path = folder / "deadly.gguf"
    path.write_bytes(data)
    return path


def without_numbers(folder: Path, source: Path = TINY_TARGET, name: str = "output_norm.weight", row: int = 0) -> Path:
    """A whole file in which 128 bytes of a tensor's row are ones: NaN."""
    data = bytearray(source.read_bytes())
    header = read_header(source)
    tensor = next(tensor for tensor in header.tensors if tensor.name == name)
    row_bytes = (tensor.bytes or 0) // (tensor.shape[1] if len(tensor.shape) > 1 else 1)
    at = header.data_start + tensor.offset + row * row_bytes
    data[at : at + 128] = b"\xff" * 128
    path = folder / "nan.gguf"
    path.write_bytes(data)
    return path


def test_shipped_pair_is_not_tried(children: list[Any]) -> None:
    """``tiny`` starts as fast as without a trial."""
    assert try_files(TINY_TARGET, TINY_ASSISTANT, "mtp") == []
    assert try_files(TINY_TARGET) == []
    assert children == []


def test_sound_file_is_tried_once(tmp_path: Path, children: list[Any]) -> None:
    """Alone, then with its assistant, then with a drafter of its own."""
    target, assistant = sound(tmp_path), sound(tmp_path, TINY_ASSISTANT)
    for _ in range(2):
        assert try_files(target) == []
    assert len(children) == 1
    for _ in range(2):
        assert try_files(target, assistant, "mtp") == []
    assert len(children) == 2
    for _ in range(2):
        assert try_files(TINY_TARGET, target, "model") == []
    assert len(children) == 3


def test_files_tried_together_need_one_child(tmp_path: Path, children: list[Any]) -> None:
    assert try_files(sound(tmp_path), sound(tmp_path, TINY_ASSISTANT), "mtp") == []
    assert len(children) == 1


def test_changed_file_is_tried_again(tmp_path: Path, children: list[Any]) -> None:
    path = sound(tmp_path)
    try_files(path)
    os.utime(path, ns=(1, 1))
    try_files(path)
    assert len(children) == 2


def test_other_cache_types_are_tried_too(tmp_path: Path, children: list[Any]) -> None:
    """llama.cpp may abort on some with some files."""
    path = sound(tmp_path)
    for params in (None, ContextParams(), ContextParams(cache_type_k="q4_0"), ContextParams(cache_type_v="q4_0")):
        for _ in range(2):
            assert try_files(path, params=params) == []
    assert len(children) == 3


def test_other_build_of_llama_cpp_tries_again(
    tmp_path: Path, children: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sound(tmp_path)
    try_files(path)
    monkeypatch.setattr(trial, "_build", lambda: "0.4.0")
    try_files(path)
    assert len(children) == 2


def test_file_that_llama_cpp_dies_of_is_refused(tmp_path: Path, children: list[Any]) -> None:
    """The message has the file, llama.cpp's message and the next step; the second load does not try it again."""
    path = deadly(tmp_path)
    for _ in range(2):
        with pytest.raises(ModelFileError, match=r"breaks down on .*GGML_ASSERT.*convert it again") as caught:
            localspec.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    assert len(children) == 1


def test_file_that_computes_no_numbers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="computes NaN or infinity in place of logits"):
        localspec.load(without_numbers(tmp_path))


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"seed": 1}, {"seed": 1, "top_k": 0, "top_p": 1.0, "min_p": 0.0}]
)
def test_damage_that_shows_later_is_one_sentence(tmp_path: Path, options: dict[str, Any]) -> None:
    """In the weights of one token, which the trial does not use: an error, and the engine goes on without it."""
    with localspec.load("tiny", "none", ctx_size=64) as llm:
        token = llm.tokenize("zebra")[-1]
        assert token not in llm.tokenize(_TEXT)
    path = without_numbers(tmp_path, name="per_layer_token_embd.weight", row=token)
    with localspec.load(path, "ngram", ctx_size=64) as llm:
        for _ in range(2):
            with pytest.raises(BackendError, match=r"^nan\.gguf computes NaN or infinity in place of logits"):
                llm.generate("A zebra", max_tokens=8, **options)
            assert llm.generate("Once", max_tokens=2, **options).tokens


def test_the_broken_one_of_two_is_named(tmp_path: Path) -> None:
    """The target's verdict stands, whichever drafts."""
    target, assistant = sound(tmp_path), without_numbers(tmp_path, TINY_ASSISTANT)
    with pytest.raises(ModelFileError, match=r"nan\.gguf with copy-of-tiny\.gguf computes"):
        try_files(target, assistant, "mtp")
    with pytest.raises(ModelFileError, match=r"^llama.cpp breaks down on \S*deadly\.gguf "):
        try_files(target, deadly(tmp_path), "model")


def test_refusal_in_good_order_is_left_to_the_load(tmp_path: Path, children: list[Any]) -> None:
    """Its own error is more precise; the result is not stored."""
    data = bytearray(SOUND)
    at = SOUND.index(b"blk.3.ffn_up.weight")
    data[at : at + 3] = b"BLK"
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    for _ in range(2):
        with pytest.raises(ModelFileError, match=r"llama.cpp cannot load .*blk\.3\.ffn_up\.weight"):
            localspec.load(path)
    assert len(children) == 2


@pytest.mark.parametrize("how", ["frozen", "no executable", "another program", "not there", "no localspec"])
def test_without_a_child_there_is_one_notice(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is loaded."""
    if how == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif how == "no localspec":
        monkeypatch.setattr(trial, "_CHILD", "import localspec_is_missing")
    else:
        other = {"no executable": "", "another program": "/usr/bin/true", "not there": "/nowhere/python"}[how]
        monkeypatch.setattr(sys, "executable", other)
    with localspec.load(sound(tmp_path), "none", ctx_size=64) as llm:
        assert [notice for notice in llm.notices if "could not be tried" in notice] == list(llm.notices)[:1]
        assert llm.generate("Once", max_tokens=2).tokens


def test_child_imports_nothing_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file called numpy.py beside a downloaded model is not run."""
    monkeypatch.chdir(tmp_path)
    for name in ("json", "numpy", "localspec", "llama_cpp", "ctypes"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'was-run')!r}, 'w')\nraise SystemExit(9)\n")
    assert try_files(sound(tmp_path)) == []
    assert not (tmp_path / "was-run").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_killed_child_is_no_verdict(tmp_path: Path, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cause may be another program or a lack of memory: the next load tries again."""
    path, child = sound(tmp_path), trial._CHILD
    in_place_of_the_child(
        monkeypatch, f"print('ready', flush=True); os.kill(os.getpid(), {int(signal.Signals[number])})"
    )
    with pytest.raises(ModelFileError, match=f"was killed .{number}"):
        try_files(path)
    monkeypatch.setattr(trial, "_CHILD", child)
    assert try_files(path) == []


@pytest.mark.parametrize(
    ("code", "match"),
    [
        ("print('ready', flush=True); raise RuntimeError('our fault')", "could not be tried .RuntimeError: our fault"),
        ("print('ready', flush=True); os.abort()", "breaks down on .*SIGABRT|exit code"),
        ("print('ready', flush=True); print('last words', file=sys.stderr, flush=True); os.abort()", "last words"),
        ("print('ready', flush=True); os.write(2, b'/x/y/a.cpp:7: GGML_ASSERT(b) failed\\n0 libc.so\\n'); os.abort()",
         r"\(a\.cpp:7: GGML_ASSERT\(b\) failed\)\. The file"),
        ("print('ready', flush=True); os.write(2, bytes(range(256)) * 9000); os.abort()", "breaks down"),
    ],
)  # fmt: skip
def test_every_end_of_a_child_is_a_sentence(
    tmp_path: Path, code: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_place_of_the_child(monkeypatch, code)
    with pytest.raises(ModelFileError, match=match) as caught:
        try_files(sound(tmp_path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 800


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_interrupt_ends_the_child(tmp_path: Path, children: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a large file is tried: the child is gone at once."""
    in_place_of_the_child(monkeypatch, "print('ready', flush=True); time.sleep(60)")
    path = sound(tmp_path)
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        try_files(path)
    assert time.monotonic() - began < 10
    assert children[0].poll() is not None


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_child_does_not_outlive_its_parent(tmp_path: Path) -> None:
    """Not even when the parent is killed: its standard input ends."""
    told = tmp_path / "pid"
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom localspec.probe import load_test as trial\n"
        "wait = f'import localspec.probe.load_test_child as c, os, time; c._reports = lambda *_: "
        '[open({sys.argv[1]!r}, "w").write(str(os.getpid())), time.sleep(60)]; \'\n'
        "child = 'from localspec.probe.load_test_child'\n"
        "trial._CHILD = trial._CHILD.replace(child, wait + child)\n"
        "trial.try_files(Path(sys.argv[2]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, str(script), str(told), str(sound(tmp_path))], env=environment)
    pid = int(_wait_for(lambda: told.exists() and told.read_text()))
    parent.kill()
    parent.wait()
    _wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])


def _wait_for(condition: Any) -> Any:
    for _ in range(200):
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen within 10 s")
