"""Laws of ``localspec bench`` and ``localspec tune``: what they print, write, refuse and keep."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

import localspec
from localspec.bench.curves import read_curve
from localspec.bench.trace import read_traces
from localspec.cli import cli
from localspec.control.base import FixedDepth
from localspec.control.costs import Costs
from localspec.draft.base import Drafter
from localspec.draft.model import ModelDrafter
from localspec.engine import Engine
from localspec.generation.passes import PassShape
from localspec.testing import ScriptedContext, ScriptedDrafter, ScriptedVocabulary, chain_logits
from localspec.testing import scripted_engine as made

N = 64
LOGITS = chain_logits(N, seed=3)
PROMPTS = "".join(
    json.dumps({"id": f"{name}{i}", "category": name, "messages": [{"role": "user", "content": f"{name} {i}"}]}) + "\n"
    for name in ("code", "chat")
    for i in range(2)
)
COSTS = Costs.from_dict(
    {
        "verify": {"1": 31, "2": 57, "4": 79, "8": 153},
        "drafters": {"model": {"first": {"1": 12, "2": 24, "8": 53}, "step": 12}},
    }
)
Run = Callable[..., Result]


def drafters() -> list[Drafter]:
    """A lookup that is right now and then, and a draft model that always is."""
    right = ScriptedDrafter(lambda tokens: [int(LOGITS(tuple(tokens)).argmax())] if len(tokens) % 3 else [])
    return [right, ModelDrafter(ScriptedContext(LOGITS, N), 512, N)]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """List of the loads; a scripted pair takes the model's place."""
    found: list[dict[str, Any]] = []

    def load(*args: Any, **options: Any) -> Engine:
        found.append({"args": args, **options})
        engine = made(LOGITS, drafters(), vocabulary=ScriptedVocabulary(N), control=FixedDepth(3))
        passes = PassShape.fixed(options.get("pass_width") or 1)
        engine._decide(replace(engine._setup, tune=lambda progress: COSTS, passes=passes))  # a clock's work
        return engine

    monkeypatch.setattr(localspec, "load", load, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text(PROMPTS)
    return found


@pytest.fixture
def bench(loads: list[dict[str, Any]]) -> Run:
    """``localspec bench`` on four small prompts."""
    return lambda *args: CliRunner().invoke(cli, ["bench", "-f", "p.jsonl", "-n", "12", *args])


@pytest.fixture
def tune(loads: list[dict[str, Any]]) -> Run:
    return lambda *args: CliRunner().invoke(cli, ["tune", *args])


def test_a_pair_is_compared_by_category(bench: Run) -> None:
    """Rates, ratio, interval, acceptance, shares of time; how far it is goes to standard error."""
    told = bench("--repeat", "2")
    assert told.exit_code == 0, told.output
    rows = [line.split() for line in told.stdout.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("code", "chat", "all")] == 2 * ["code", "chat", "all"]
    assert rows[-2][-1] == "8/8"
    assert rows[-1][:2] == ["peak", "memory"]
    assert "8 of 8, chat1: " in told.stderr


def test_json_has_every_run(bench: Run) -> None:
    """It also has the sums that the tables print."""
    found = json.loads(bench("--json", "--repeat", "2", "--draft-max", "5").stdout)
    assert found["drafters"] == ["scripted", "model"]
    assert found["settings"] == {
        "max_tokens": 12, "temperature": 0.0, "seed": 0, "raw": False, "repeat": 2, "draft_max": 5,
    }  # fmt: skip
    assert [one["category"] for one in found["categories"]] == ["code", "chat"]
    overall = found["overall"]
    assert (overall["category"], overall["prompts"], overall["pairs"], overall["same"]) == ("all", 4, 8, 8)
    assert overall["ratio"]["low"] <= overall["ratio"]["value"] <= overall["ratio"]["high"]
    assert overall["verify"] + overall["draft"] + overall["python"] == pytest.approx(1.0)
    assert len(found["runs"]) == 8
    assert all(run["same"] and run["plain"]["proposed"] == 0 < run["auto"]["proposed"] for run in found["runs"])
    assert found["peak_memory"] > 1 << 20


def test_a_category_and_a_picture(bench: Run) -> None:
    """Only the requested ones are written."""
    told = bench("--category", "chat", "--repeat", "1", "--plot", "r.svg", "--temp", "1", "--seed", "3")
    assert told.exit_code == 0, told.output
    words = [node.text for node in ElementTree.parse("r.svg").getroot().iter() if node.tag.endswith("text")]
    assert "chat" in words
    assert "code" not in words
    assert "all" not in told.stdout.split()


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (["--repeat", "0"], 2, "--repeat"),
        (["-n", "0"], 2, "max_tokens is 0"),
        (["--temp", "-1"], 2, "temperature is -1"),
        (["--plot", "a.gif"], 2, "ends in .svg"),
        (["--plot", "absent/a.svg"], 1, "no folder"),
        (["--category", "poems"], 1, "there are code, chat"),
        (["-d", "none"], 2, "-d none"),
        (["--simulate", "abacus"], 1, "one of cpu, cpu-avx512, gpu"),
        (["--traces", "p.jsonl"], 1, "exists already"),
        (["--traces", "absent/t.jsonl"], 1, "no folder"),
        (["--simulate", "cpu", "--traces", "p.jsonl"], 1, "no trace"),
        (["-f", "absent.jsonl"], 1, "absent.jsonl"),
        (["-f", "bad.jsonl"], 1, "line 2 of bad.jsonl"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(
    bench: Run, loads: list[dict[str, Any]], args: list[str], code: int, says: str
) -> None:
    """In one sentence."""
    Path("bad.jsonl").write_text(PROMPTS.splitlines()[0] + "\nnonsense\n")
    told = bench(*args)
    assert (told.exit_code, told.stdout, loads) == (code, "", [])
    assert says in told.stderr
    assert "Traceback" not in told.stderr


def test_answers_are_not_drafted_from_earlier_ones(bench: Run, loads: list[dict[str, Any]]) -> None:
    """A note says that the file of earlier texts is not opened."""
    told = bench("--ngram-file", "seen.bin", "--repeat", "1")
    assert told.exit_code == 0
    assert [load["ngram_file"] for load in loads] == [None]
    assert "--ngram-file is left out" in told.stderr
    assert not Path("seen.bin").exists()


@pytest.mark.parametrize("command", ["bench", "traces", "simulate"])
def test_ctrl_c_keeps_what_was_finished(bench: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Finished runs are printed or written; the exit code is 130."""
    answer, count = Engine.forget, [0]

    def interrupted(engine: Engine) -> None:
        count[0] += 1
        if count[0] == {"bench": 7}.get(command, 4):  # after the warm-up, within the third prompt
            os.kill(os.getpid(), signal.SIGINT)
        answer(engine)

    monkeypatch.setattr(Engine, "forget", interrupted)
    more = {"bench": [], "traces": ["--traces", "t.jsonl"], "simulate": ["--traces", "t.jsonl", "--simulate", "gpu"]}
    told = bench(*more[command])
    assert told.exit_code == 130
    assert "interrupted after " in told.stderr
    if command == "bench":
        assert "2/2" in told.stdout
    else:
        assert len(read_traces("t.jsonl")) == 3
    assert bool(told.stdout) == (command != "traces")


def test_traces_are_replayed_without_a_model(bench: Run, loads: list[dict[str, Any]]) -> None:
    """Recorded once, replayed at any costs; the draft model that is always right pays on a GPU."""
    assert bench("--traces", "t.jsonl").exit_code == 0
    assert [trace.id for trace in read_traces("t.jsonl")] == ["code0", "chat0", "code1", "chat1"]
    loads.clear()
    told = bench("--traces", "t.jsonl", "--simulate", "gpu", "--plot", "s.svg")
    assert told.exit_code == 0, told.output
    assert loads == []
    assert "drafters ngram+model" in told.stdout
    found = json.loads(bench("--traces", "t.jsonl", "--simulate", "gpu", "--category", "code", "--json").stdout)
    assert [one["id"] for one in found["prompts"]] == ["code0", "code1"]
    assert found["overall"]["ratio"] > 1.2
    assert Path("s.svg").read_bytes().startswith(b"<svg")


def test_simulation_without_a_file_records_first(bench: Run, loads: list[dict[str, Any]]) -> None:
    """A drafter that the curve lacks is left out, with a sentence."""
    Path("c.json").write_text('{"name": "mine", "machine": "m", "verify": {"1": 10, "8": 11}}')
    told = bench("--simulate", "c.json")
    assert told.exit_code == 0, told.output
    assert len(loads) == 1
    assert "mine has no costs of the drafter model" in told.stderr
    assert "drafters ngram\n" in told.stdout


def test_costs_as_table_plot_file_and_picture(tune: Run) -> None:
    """The file is one that bench takes."""
    told = tune("--save", "here.json", "--plot", "here.svg", "--name", "mine")
    assert told.exit_code == 0, told.output
    assert "mine on " in told.stdout
    assert "1          31.0      31.0    1.00" in told.stdout
    assert "tokens of a pass" in told.stdout
    curve = read_curve("here.json")
    assert (curve.name, curve.costs) == ("mine", COSTS)
    words = [node.text for node in ElementTree.parse("here.svg").getroot().iter() if node.tag.endswith("text")]
    assert {"target", "drafter model"} <= set(words)
    assert CliRunner().invoke(cli, ["bench", "-f", "p.jsonl", "-n", "4", "--simulate", "here.json"]).exit_code == 0


def test_padded_passes_are_named(tune: Run) -> None:
    """Their times are all the same."""
    assert "padded to 4 rows" in tune("--pass-width", "4").stdout
    assert "padded" not in tune().stdout
    assert json.loads(tune("--pass-width", "4", "--json").stdout)["pass_width"] == 4


def test_costs_as_json(tune: Run) -> None:
    """The content of the file, and the best depths."""
    found = json.loads(tune("--json").stdout)
    assert found["verify"]["4"] == 79.0
    assert [one["acceptance"] for one in found["best"]["model"]] == [0.6, 0.8, 0.9, 0.95]


@pytest.mark.parametrize(
    ("args", "says"), [(["--plot", "x.pdf"], "ends in .svg"), (["--save", "no/x.json"], "no folder")]
)
def test_tune_refuses_before_it_loads(tune: Run, loads: list[dict[str, Any]], args: list[str], says: str) -> None:
    """In one sentence."""
    told = tune(*args)
    assert told.exit_code in (1, 2)
    assert says in told.stderr
    assert loads == []


def test_the_built_in_pair_end_to_end(tmp_path: Path) -> None:
    """Real costs, real traces, real answers that are the same."""
    run = CliRunner()
    curve, traces = str(tmp_path / "here.json"), str(tmp_path / "t.jsonl")
    assert run.invoke(cli, ["tune", "-t", "1", "--save", curve]).exit_code == 0
    assert "mtp" in read_curve(curve).costs.drafters
    given = ["bench", "-t", "1", "-n", "24", "--category", "chat"]
    found = json.loads(run.invoke(cli, [*given, "--repeat", "1", "--json"]).stdout)
    assert (found["overall"]["same"], found["exactness"]) == (2, "exact")
    assert run.invoke(cli, [*given, "--traces", traces]).exit_code == 0
    assert {name for trace in read_traces(traces) for name in trace.guesses} == {"mtp"}
    told = run.invoke(cli, ["bench", "--traces", traces, "--simulate", curve, "--json"])
    assert json.loads(told.stdout)["sources"] == ["ngram", "mtp"]
