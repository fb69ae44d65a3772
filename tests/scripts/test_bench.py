"""Laws of what the measuring scripts compute: schedules, records that survive a cut, ratios, verdicts, the document."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localspec.bench.plot.svg import svg
from scripts.bench.measure.contexts_report import table as context_table
from scripts.bench.measure.document import chart, main_result, page, tables
from scripts.bench.measure.machine import ROOT, output_of
from scripts.bench.measure.passages import cut_to
from scripts.bench.measure.peers_report import Aim, aims, pooled
from scripts.bench.measure.records import Run, RunFile, Study, Unit, read
from scripts.bench.measure.results import Result, command_of, load, load_all, peers_result
from scripts.bench.measure.schedule import Clock, in_turn, measure, round_robin
from scripts.bench.measure.servers import Sampling, run_of
from scripts.bench.measure.statistics import Ratio, against_best, against_unseen, best_peer, interval, ratio

MODES = ["localspec none", "localspec auto", "llama-server plain", "llama-server ngram-mod"]
SETTING = {
    "model": ["target.gguf", 1], "draft": ["draft.gguf", 1], "threads": 2, "n": 32, "temperature": 0.0,
    "modes": [{"name": name, "side": "peer" if "server" in name else "ours"} for name in MODES],
}  # fmt: skip


def run(rate: float) -> Run:
    return Run(generated=11, generate_s=10 / rate, prompt_tokens=8, prompt_s=0.1, first_s=0.1, wall_s=0.1 + 10 / rate)


def study(rates: dict[str, list[tuple[float, ...]]]) -> Study:
    """Category → for each prompt, a rate for each of :data:`MODES`."""
    made = Study(dict(SETTING))
    for category, rows in rates.items():
        for i, row in enumerate(rows):
            made.units[Unit(f"{category}{i}", category)] = {
                name: run(rate) for name, rate in zip(MODES, row, strict=True)
            }
    return made


class Fixed:
    """A mode of one rate, which ends the program when its time has come."""

    def __init__(self, name: str, rate: float, before: Callable[[], None] = lambda: None) -> None:
        self.name, self._rate, self._before = name, rate, before

    def answer(self, unit: Unit) -> Run:
        self._before()
        return run(self._rate)


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(0, 30))
def test_a_cut_run_has_categories_evenly(rows: list[str], cut: int) -> None:
    """At any point no category is two behind another that is no longer than it."""
    order = round_robin(rows, lambda row: row)
    assert sorted(order) == sorted(rows)
    counts = {name: order[:cut].count(name) for name in set(rows)}
    for name, count in counts.items():
        assert count in (rows.count(name), *range(max(counts.values()) - 1, max(counts.values()) + 1))


@given(st.integers(1, 9))
def test_every_mode_begins_equally_often(count: int) -> None:
    orders = [in_turn(range(count), number) for number in range(2 * count)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert sorted(order[0] for order in orders) == sorted([*range(count)] * 2)


def test_a_cut_run_goes_on(tmp_path: Path) -> None:
    """A prompt that was cut off is repeated whole; finished ones are not."""
    path, units, asked = tmp_path / "runs.jsonl", [Unit(f"p{i}", "c") for i in range(4)], []

    def cut() -> None:
        asked.append(1)
        if len(asked) == 6:
            raise KeyboardInterrupt

    modes = [Fixed(name, 10.0, cut) for name in MODES]
    with pytest.raises(KeyboardInterrupt):
        measure(units, modes, RunFile(path, SETTING, {}), Clock(), pause=0, tell=lambda _: None)
    with path.open("a") as stream:
        stream.write('{"kind":"run","setti')  # killed while it wrote
    assert [len(one.units) for one in read(path)] == [1]
    assert measure(units, modes, RunFile(path, SETTING, {}), Clock(), pause=0, tell=lambda _: None) == 3
    (whole,) = read(path)
    assert sorted(unit.prompt for unit in whole.units) == ["p0", "p1", "p2", "p3"]
    assert len(asked) == 6 + 3 * len(MODES)


def test_settings_are_never_mixed(tmp_path: Path) -> None:
    """Runs of another setting in the same file are another study, and no reason to skip a prompt."""
    path, unit = tmp_path / "runs.jsonl", Unit("p", "c")
    first = RunFile(path, SETTING, {})
    for name in MODES:
        first.add(unit, name, run(10.0))
    other = RunFile(path, {**SETTING, "threads": 1}, {})
    assert not other.has(unit)
    assert RunFile(path, SETTING, {}).has(unit)
    assert [len(one.units) for one in read(path)] == [1, 0]
    packed = tmp_path / "runs.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read(packed)[0].units == read(path)[0].units


def test_the_budget_of_time_holds(tmp_path: Path) -> None:
    """No prompt begins that would end too late, by what the earlier ones took."""
    now = [0.0]

    def wait() -> None:
        now[0] += 5.0

    clock, units = Clock(1.0, now=lambda: now[0]), [Unit(f"p{i}", "c") for i in range(9)]
    modes = [Fixed(name, 10.0, wait) for name in MODES]
    assert measure(units, modes, RunFile(tmp_path / "r", SETTING, {}), clock, pause=0, tell=lambda _: None) == 3
    assert now[0] <= 60
    assert clock.left(["c", "c"]) == pytest.approx(40)


@given(st.lists(st.floats(0.2, 5.0), min_size=1, max_size=12), st.floats(0.5, 2.0))
def test_ratios_are_of_pairs(rates: list[float], factor: float) -> None:
    """A mode that is ``factor`` times as fast on every prompt has that ratio, however the prompts differ."""
    found = ratio(study({"c": [(rate, factor * rate, 1, 1) for rate in rates]}), MODES[1], MODES[0], "c")
    assert found is not None
    assert (found.low, found.median, found.high) == pytest.approx((factor, factor, factor))


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20))
def test_interval_lies_around_the_median(values: list[float]) -> None:
    found = interval(values, rounds=200)
    assert found is not None
    assert min(values) - 1e-9 <= found.low <= found.median + 1e-9
    assert found.median <= found.high + 1e-9 <= max(values) + 2e-9
    assert found == interval(values, rounds=200)


def test_repeats_count_as_one_prompt() -> None:
    """A prompt with many repeats has the weight of one with a single run."""
    made = study({"c": [(1, 1, 1, 1), (1, 3, 1, 1)]})
    for turn in range(1, 9):
        made.units[Unit("c0", "c", turn)] = made.units[Unit("c0", "c")]
    found = ratio(made, MODES[1], MODES[0], "c")
    assert found is not None
    assert (found.median, found.count) == (2.0, 2)


def test_best_peer_is_the_categorys() -> None:
    made = study({"edit": [(10, 30, 10, 20)] * 3, "chat": [(10, 12, 10, 5)] * 3})
    assert (best_peer(made, "edit"), best_peer(made, "chat")) == (MODES[3], MODES[2])
    assert against_best(made, MODES[1], None) == pytest.approx([1.5] * 3 + [1.2] * 3)


def test_best_of_the_others_never_sees_the_prompt() -> None:
    """Each prompt's own lucky mode is not chosen for it."""
    made = study({"c": [(10, 10, 10, 20), (10, 10, 20, 10)]})
    assert against_unseen(made, MODES[1], "c") == pytest.approx([1.0, 1.0])
    assert against_unseen(study({"c": [(1, 1, 1, 1)]}), MODES[1], "c") == []


@pytest.mark.parametrize(
    ("value", "low", "high", "most", "met", "sure"),
    [
        (1.2, 1.1, 1.3, False, True, True), (1.2, 0.9, 1.3, False, True, False),
        (0.9, 0.8, 0.95, False, False, True), (0.9, 0.8, 1.1, False, False, False),
        (0.9, 0.8, 0.95, True, True, True), (1.2, 0.9, 1.3, True, False, False),
    ],
)  # fmt: skip
def test_verdict_and_its_interval(value: float, low: float, high: float, most: bool, met: bool, sure: bool) -> None:
    one = Aim("speed", "c", 1.0, value, Ratio(value, low, high, 4), most)
    assert (one.met, one.certain) == (met, sure)


def test_aims_are_the_issues() -> None:
    """1.10 on code and edit, 1.0 elsewhere, against the best peer; 0.98 of plain; plain 0.99 of the peer's."""
    found = aims(study({"code": [(10, 10.5, 10, 10)], "chat": [(10, 10.5, 10, 10)], "qa": [(10, 9.7, 9.6, 9.6)]}))
    missed = {(one.what, one.where) for one in found if not one.met}
    assert missed == {("drafting over llama-server's best", "code"), ("drafting over plain", "qa")}


def test_long_answers_count_for_more_where_all_tokens_are_pooled() -> None:
    """One answer twice as fast and one half as fast: as many tokens in 1.25 times the seconds."""
    table = pooled(study({"chat": [(10, 20, 10, 10), (10, 5, 10, 10)]}))
    assert table.rows[0][:3] == ("chat", "0.80", "0.80")


def test_server_counts_as_we_do() -> None:
    """llama-server's own rate is that of all tokens but the first, and its end token is none of the answer's."""
    timings = {"predicted_n": 41, "predicted_ms": 2000.0, "predicted_per_second": 20.0, "prompt_n": 30,
               "prompt_ms": 500.0, "draft_n": 12, "draft_n_accepted": 9}  # fmt: skip
    ended = run_of({"tokens": [1, 2, 3], "stop_type": "eos", "timings": timings}, 2.5)
    assert ended.rate == timings["predicted_per_second"]
    assert (ended.prefill, ended.whole, ended.accepted) == (60.0, 41 / 2.5, 9)
    assert ended.digest == run_of({"tokens": [1, 2], "stop_type": "limit", "timings": timings}, 2.5).digest


def test_sampling_is_the_same_on_both_sides() -> None:
    """Above temperature 0 neither side truncates."""
    warm = Sampling(1.0, 7)
    assert warm.for_server() == {"temperature": 1.0, "samplers": ["temperature"], "seed": 7}
    assert warm.for_engine() == {"temperature": 1.0, "seed": 7, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_text_is_cut_to_its_tokens() -> None:
    text = " ".join(f"word{i}" for i in range(500))
    assert 95 <= len(cut_to(text, 100, lambda t: list(range(len(t.split())))).split()) <= 100
    with pytest.raises(SystemExit, match="500 tokens"):
        cut_to(text, 501, lambda t: list(range(len(t.split()))))


def result(rates: dict[str, list[tuple[float, ...]]], name: str = "study") -> Result:
    made = study(rates)
    made.metas.append({"date": "2026-01-01 10:00 UTC", "machine": "a machine", "command": "x.py -m /home/me/m.gguf"})
    return peers_result(made, name)


def test_page_says_what_fell_short() -> None:
    """With the number, the interval and the aim; no row where nothing fell short."""
    slow = page([result({"edit": [(10, 9, 10, 10)] * 3})])
    row = "| drafting over llama-server's best, edit | 0.90 [0.90, 0.90] | ≥ 1.1 | [study]"
    assert row in slow
    fine = page([result({"edit": [(10, 15, 10, 10)] * 3})])
    assert "4 of 4 aims are met" in fine
    assert "missed" not in fine


def test_page_shows_the_study_with_most_prompts() -> None:
    """It links the others."""
    text = page([result({"qa": [(10, 11, 10, 10)]}, "few"), result({"qa": [(10, 12, 10, 10)] * 3}, "many")])
    assert "## Against llama-server: many" in text
    assert "[Against llama-server: few](data/tables.md#against-llama-server-few)" in text


def test_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """Tables, aims and intervals; a row of a table is a line."""
    made = result({"edit": [(10, 15, 10, 12)] * 3, "chat": [(10, 9, 10, 8)] * 2})
    path = made.save(tmp_path)
    assert load(path) == made
    assert '["edit", "10.0", "15.0", "10.0", "12.0"]' in path.read_text(encoding="utf-8")


def test_contexts_are_told_apart() -> None:
    """Each length and number of threads has its own row."""
    made = Study(dict(SETTING))
    for threads, length, auto in ((2, 1024, 12.0), (2, 4096, 18.0), (1, 1024, 9.0)):
        unit = Unit("p", "c", 0, (("context", length), ("threads", threads)))
        made.units[unit] = {name: run(rate) for name, rate in zip(MODES, (10.0, auto, 10.0, 5.0), strict=True)}
    assert [row[0] for row in context_table(made).rows] == [
        "2 threads, 1024 tokens", "2 threads, 4096 tokens", "1 thread, 1024 tokens"
    ]  # fmt: skip


def test_command_is_shown_without_folders() -> None:
    """It has no other detail of this machine either."""
    assert "/home" not in tables([result({"qa": [(1, 1, 1, 1)]})])
    assert command_of({"command": "scripts/x.py -m /home/me/m.gguf -n 8"}) == "python scripts/x.py -m m.gguf -n 8"


def test_chart_shows_each_category() -> None:
    """By name."""
    picture = svg(chart([result({"edit": [(10, 15, 10, 12)] * 3, "chat": [(10, 9, 10, 8)] * 3})]))
    words = "".join(ElementTree.fromstring(picture).itertext())
    assert "edit" in words
    assert "chat" in words


def test_an_error_message_is_no_revision(tmp_path: Path) -> None:
    """Of git outside a repository, or of a program that is not there."""
    assert output_of([sys.executable, "-c", "print('0.3')"]) == "0.3"
    assert output_of([sys.executable, "-c", "import sys; sys.exit('fatal: not a git repository')"]) is None
    assert output_of([str(tmp_path / "absent")]) is None


def test_the_pages_are_those_of_the_results() -> None:
    """``make_page`` would write docs/benchmarks.md, its tables and its chart as they are."""
    docs = ROOT / "docs"
    found = load_all(docs / "data")
    assert (docs / "benchmarks.md").read_text(encoding="utf-8") == page(found)
    assert (docs / "data/tables.md").read_text(encoding="utf-8") == tables(found)
    assert (docs / "img/speedup.svg").read_bytes() == svg(chart(found))


def test_the_readme_has_the_number_of_the_page() -> None:
    """All tokens over all seconds, of the study that the chart shows."""
    main = main_result(load_all(ROOT / "docs/data"))
    rows = {row[0]: row for row in main.table("Ratios of all tokens over all seconds").rows}
    assert f"**{rows['all'][1]} times the speed of plain decoding**" in (ROOT / "README.md").read_text(encoding="utf-8")
