"""Laws of doctor's lines: the verdict first, the next steps last, nothing wider than the terminal but commands."""

from __future__ import annotations

from typing import Any

import pytest

from localspec.cli.doctor.text import cost_text, exactness_text, report_lines

GIB = 2**30
COMMAND = "CMAKE_ARGS=-DGGML_CUDA=on python -m pip install --force-reinstall --no-cache-dir llama-cpp-python"
REPORT: dict[str, Any] = {
    "verdict": {"level": "improvable", "text": "Works, but slower than it could: a GPU of this machine is not used."},
    "machine": {
        "localspec": "0.1.0", "python": "3.12.1", "platform": "Linux x86_64", "llama_cpp": "0.3.36 CPU",
        "cpu_features": ["SSE3", "AVX2"] * 6, "memory": 32 * GIB, "memory_free": 20 * GIB,
        "devices": [
            {"name": "CUDA0", "kind": "gpu", "description": "a card with a long name", "memory_free": 3 * GIB,
             "memory_total": 8 * GIB},
            {"name": "CPU", "kind": "cpu", "description": "a processor", "memory_free": 0, "memory_total": 0},
        ],
    },
    "build": {"version": "0.3.36", "backends": ["cpu"], "unused": []},
    "pair": {
        "target": "/home/me/models/big.gguf", "drafters": ["ngram", "mtp"], "context": 8192, "exactness": "approximate",
        "widest": 32, "pass_width": 1, "difference": 0.521, "memory": GIB,
    },
    "costs": {"verify_ms": {"1": 30.0, "2": 60.0, "4": 75.0, "16": 240.0}, "draft_token_ms": {"mtp": 3.0}},
    "models": [
        {"name": f"a/{n}", "role": "model", "bytes": 1, "drafters": ["a/small"] * (n == 0)} for n in range(5)
    ],
    "fits": [
        {"target": "tiny", "title": "Tiny", "download": 0, "needs": 1, "fits": True},
        {"target": "e2b", "title": "E2B", "download": 2_600_000_000, "needs": 4 * GIB, "fits": True},
        {"target": "12b", "title": "12B", "download": 7_000_000_000, "needs": 9 * GIB, "fits": False},
    ],
    "next": [{"text": "Build llama-cpp-python with CUDA, which this machine could use.", "commands": [COMMAND, "b"]}],
}  # fmt: skip


def test_verdict_is_first_and_next_steps_are_last() -> None:
    """Each command is whole, on a line of its own."""
    found = report_lines(REPORT)
    assert found[0] == REPORT["verdict"]["text"]
    assert found[found.index("Next:") :] == [
        "Next:", "- Build llama-cpp-python with CUDA, which this machine could use.", f"    {COMMAND}", "  or", "    b",
    ]  # fmt: skip


@pytest.mark.parametrize("width", [32, 40, 80, 120])
def test_nothing_but_commands_is_wider_than_the_terminal(width: int) -> None:
    """No word is lost."""
    found = report_lines(REPORT, width)
    assert [line for line in found if len(line) > width and COMMAND not in line] == []
    assert " ".join(" ".join(found).split()) == " ".join(" ".join(report_lines(REPORT)).split())


def test_what_continues_a_line_is_indented() -> None:
    """Below the text where there is room for that, by two columns where there is not."""
    for width, indent in ((80, 11), (40, 2)):
        found = report_lines(REPORT, width)
        start = next(i for i, line in enumerate(found) if line.startswith("exactness"))
        following = found[start + 1]
        assert len(following) - len(following.lstrip()) == indent


def test_a_file_is_named_without_its_folders() -> None:
    """Of which there may be more than a line holds."""
    (told,) = [line for line in report_lines(REPORT) if line.startswith("pair")]
    assert told == "pair       big.gguf, drafter ngram+mtp, 8192 tokens, 1.0 GiB of memory"


def test_models_are_named_and_the_rest_counted() -> None:
    """With their drafters."""
    (told,) = [line for line in report_lines(REPORT) if line.startswith("on disk")]
    assert told == (
        "on disk    a/0 with a/small; a/1 with n-gram lookup; a/2 with n-gram lookup; 2 more (localspec list)"
    )
    (told,) = [line for line in report_lines(REPORT | {"models": []}) if line.startswith("on disk")]
    assert told == "on disk    no pulled model"


def test_what_fits_is_said_with_its_price() -> None:
    """Or what the smallest would take."""
    (told,) = [line for line in report_lines(REPORT) if line.startswith("fits")]
    assert told == "fits       E2B: the last takes 2.6 GB of disk and 4.0 GiB of memory"
    none = [row | {"fits": row["target"] == "tiny"} for row in REPORT["fits"]]
    (told,) = [line for line in report_lines(REPORT | {"fits": none}) if line.startswith("fits")]
    assert told == "fits       the built-in pair; E2B takes 4.0 GiB of memory"


def test_memory_of_devices_is_said_where_it_is_known() -> None:
    """Of a GPU."""
    told = [line for line in report_lines(REPORT) if line.startswith("device")]
    assert told == [
        "device     CUDA0 (gpu), a card with a long name, 3.0 GiB of 8.0 GiB free",
        "device     CPU (cpu), a processor",
    ]


def test_costs_are_told_by_the_single_pass() -> None:
    """Of the widths that were measured."""
    assert cost_text(REPORT["costs"]) == (
        "33.3 tokens/s without drafts; passes over 2, 4 and 16 tokens cost 2, 2.5 and 8 times a single one, "
        "a draft token of mtp 0.1"
    )
    assert cost_text({"verify_ms": {"1": 10.0}, "draft_token_ms": {}}) == "100 tokens/s without drafts"
    assert cost_text(None) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"drafters": [], "exactness": "exact"}, "no drafter"),
        ({"exactness": "exact"}, "up to 32 tokens"),
        ({"exactness": "exact", "pass_width": 8}, "every pass padded to 8 rows"),
        ({"exactness": "off"}, "--exactness off"),
        ({}, "approximate: logits of a draft's pass differ by up to 0.52"),
        ({"pass_width": 8}, "approximate, every pass padded to 8 rows"),
        ({"difference": 0.0}, "now and then (a matrix has a float type)"),
    ],
)
def test_exactness_names_what_was_found(change: dict[str, Any], says: str) -> None:
    """If a better level is possible, a next step follows."""
    assert says in exactness_text(REPORT["pair"] | change)


def test_libraries_that_the_user_chose_are_named() -> None:
    """Else the package's version alone stands there, which is not what runs."""
    chosen = {**REPORT, "build": {**REPORT["build"], "libraries": "/opt/llama"}}
    lines = report_lines(chosen)
    assert "llama.cpp  llama-cpp-python 0.3.36, built for cpu, with the libraries in /opt/llama" in lines
    assert not any("libraries" in line for line in report_lines(REPORT))


def test_speed_is_expected_for_each_pair_that_fits() -> None:
    """With the machine's own numbers; a slow one is said to be; without numbers there are none."""
    fits = [
        {**row, "tokens_per_s": 9.0 - 8 * (row["target"] == "e2b"), "drafted_tokens_per_s": 12.0, "usable": usable}
        for row, usable in zip(REPORT["fits"], (True, False, True), strict=True)
    ]
    report = REPORT | {"speed": {"bandwidth": 19e9, "compute": 95e9}, "fits": fits}
    (told,) = [line for line in report_lines(report) if line.startswith("speed")]
    assert told == (
        "speed      reads 19 GB/s and computes 95 GFLOPS; expected: E2B 1.0 tokens/s, with drafts 12 tokens/s "
        "(slower than people read)"
    )
    (told,) = [line for line in report_lines(REPORT | {"speed": None}) if line.startswith("speed")]
    assert told == "speed      not estimated where a GPU has memory of its own; localspec bench measures a pair"


def test_models_of_other_programs_are_named_with_them() -> None:
    """Their drafters are found when they are loaded."""
    row = {"name": "owl:1b", "role": "model", "bytes": 1, "drafters": [], "source": "ollama"}
    (told,) = [line for line in report_lines(REPORT | {"models": [row]}) if line.startswith("on disk")]
    assert told == "on disk    owl:1b of Ollama"


def test_several_machines_have_a_row_each() -> None:
    """With their layers and what they cost, and then the prediction beside the measurement."""
    share = {"memory_free": 4 * GIB, "bytes_per_s": 20_000_000_000, "compute_ms": 12.0, "round_trip_ms": 2.0}
    machines = [
        {"name": "a:1", "layers": 1, "link_ms": 2.5, **share},
        {"name": "here", "layers": 6, "link_ms": 0.0, **share},
    ]
    found = "\n".join(report_lines({**REPORT, "machines": machines}))
    assert "a:1: 1 layer, 4.0 GiB free, 20.0 GB/s: 12.0 ms and 2.5 ms on the link a pass" in found
    assert "here: 6 layers, 4.0 GiB free, 20.0 GB/s: 12.0 ms a pass" in found
    assert "predicted for a pass over one token: 26.5 ms; measured: 30.0 ms" in found
    assert "machines" not in "\n".join(report_lines(REPORT))
