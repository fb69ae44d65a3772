"""Laws of the process: how it starts and ends, and that no answer depends on another conversation."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

import localspec
from localspec.cli.commands.serve import _loader
from localspec.cli.model.load import Several
from localspec.cli.options.model import ModelOptions
from localspec.serve.catalog import Model
from tests.helpers.server import serving

QUESTION = {"role": "user", "content": "Tell me a story about a brave cat."}
OPTIONS: dict[str, Any] = {"max_tokens": 24, "seed": 7, "temperature": 1.2}


def start(*words: str) -> tuple[subprocess.Popen[str], int, str]:
    """The process, its port, and what it printed so far."""
    command = [sys.executable, "-m", "localspec", "serve", "-m", "tiny", "-t", "1", "--port", "0", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONWARNINGS": ""})
    assert process.stderr is not None
    shown = ""
    while "Try: curl" not in shown:
        line = process.stderr.readline()
        assert line, shown
        shown += line
    found = re.search(r"http://127\.0\.0\.1:(\d+)", shown)
    assert found
    return process, int(found[1]), shown


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_it_serves_until_a_signal() -> None:
    """What it prints can be pasted; a log has no texts; the answer is that of the engine; the exit code is 0."""
    process, port, shown = start("--log")
    assert "Try: curl http" in shown
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": [QUESTION], **OPTIONS}))
    text = json.loads(connection.getresponse().read())["choices"][0]["message"]["content"]
    connection.request("POST", "/v1/chat/completions", json.dumps({"messages": [QUESTION], "top_k": -5}))
    assert connection.getresponse().status == 400
    connection.close()
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0
    first, second = (json.loads(line) for line in log.splitlines())
    assert first["generated_tokens"] == OPTIONS["max_tokens"]
    assert second == {"time": second["time"], "path": "/v1/chat/completions", "status": 400, "field": "top_k"}
    assert "cat" not in log
    with localspec.load("tiny", threads=1) as llm:
        assert llm.chat([QUESTION], **OPTIONS).text == text


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (["--host", "0.0.0.0"], 2, "no key"),
        (["--host", "127.0.0.1", "--port", "{taken}"], 2, "in use"),
        (["-m", "/nowhere.gguf"], 1, "no file"),
        (["--api-key-file", "/nowhere"], 1, "no file"),
    ],
)
def test_a_start_that_fails_says_why(words: list[str], status: int, sentence: str) -> None:
    """In one sentence, before a model is loaded where possible."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        given = [word.format(taken=other.getsockname()[1]) for word in words]
        command = [sys.executable, "-m", "localspec", "serve", "-m", "tiny", *given]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status
    assert sentence in done.stderr
    assert done.stderr.count("\n") <= 2


def test_no_answer_depends_on_other_conversations() -> None:
    """Prompts with long common beginnings, at once and in any order: each text is that of a fresh engine."""
    story = "Once upon a time there was a brave cat named Tom, who lived in a small white house by the sea. "
    prompts = [[{"role": "user", "content": story * n + end}] for n in (1, 2, 4) for end in ("", "Why?", "Who?")]
    prompts += [[*prompt, {"role": "assistant", "content": story}, QUESTION] for prompt in prompts[:4]]
    with localspec.load("tiny", threads=1) as fresh:
        expected = []
        for prompt in prompts:
            fresh.forget()
            expected.append(fresh.chat(prompt, **OPTIONS).text)
    order = random.Random(1).sample(range(len(prompts)), len(prompts)) * 2
    found: dict[int, list[str]] = {}

    def ask(numbers: list[int]) -> None:
        for number in numbers:
            body = {"messages": prompts[number], **OPTIONS}
            answer = running.ask("/v1/chat/completions", body)
            found.setdefault(number, []).append(answer.json()["choices"][0]["message"]["content"])

    with serving(localspec.load("tiny", threads=1)) as running:
        threads = [threading.Thread(target=ask, args=(order[i::3],)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [found[number] for number in range(len(prompts))] == [[text] * 2 for text in expected]


def test_other_models_have_the_settings_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """But its own drafter, template and texts; the first one is loaded again as it was."""
    loads: list[tuple[Any, dict[str, Any]]] = []
    monkeypatch.setattr(localspec, "load", lambda *names, **options: loads.append((names, options)))
    models = ModelOptions(
        "big.gguf", "small.gguf", 512, 2, None, None, 3, "prefer", 4, False, ngram_file="said", template="gemma"
    )  # fmt: skip
    load = _loader(models, Several(2, 64))
    for target in ("other.gguf", "big.gguf"):
        load(Model(target, target), lambda share: None)
    (other, other_options), (first, options) = loads
    assert (other, first) == (("other.gguf", "auto"), ("big.gguf", "small.gguf"))
    assert (options.pop("ngram_file"), options.pop("chat_template")) == ("said", "gemma")
    assert (other_options.pop("ngram_file"), other_options.pop("chat_template")) == (None, None)
    names = ("ctx_size", "threads", "parallel", "cache_ram", "draft_max")
    assert [options[name] for name in names] == [512, 2, 2, 64, 3]
    assert {**options, "progress": None} == {**other_options, "progress": None}
