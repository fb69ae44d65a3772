"""Make docs/benchmarks.md, its chart and docs/data/tables.md of the results in docs/data."""

from __future__ import annotations

import re
from collections.abc import Sequence

from localspec.bench.plot.charts import interval_chart
from localspec.bench.plot.shapes import Picture
from scripts.bench.measure.results import Result
from scripts.bench.measure.tables import Table

#: Where the chart lies, seen from docs/.
CHART = "img/speedup.svg"
#: Where the long tables lie, seen from docs/.
TABLES = "data/tables.md"
_METHOD = """\
# Benchmarks

This page, its chart and [all tables](data/tables.md) are made of the result files in [data](data) by
`scripts/bench/make_page.py`.

## How it is measured

- **Paired.** Every mode answers a prompt before the next prompt comes, in rotating order, so a slow minute of the
  machine affects all modes.
- **Ratios.** A ratio compares two answers to one prompt. A table has the median over the prompts and a 95% interval of
  bootstrapped medians. With few prompts in a category the intervals are wide.
- **Rates.** All tokens but the first, the end token included, over the time from the first to the last, as llama-server
  counts (`predicted_per_second`). Its drafter reads the prompt outside that time, localspec's within it: long prompts
  count against localspec.
- **Plain decoding** runs on the engine that drafts, with its drafters left out: the same weights at two places in
  memory differ by 2% in speed.
- **llama-server** is of the same llama.cpp. It decodes the same prompt tokens, reuses nothing (`cache_prompt` false,
  `--cache-ram 0`), samples greedily (`top_k` 1), and is started anew for each pass, because `ngram-mod` would find a
  repeated prompt's own answer. "Best" is its fastest of six modes in the category, chosen from the same runs, which
  favours it.
- **Caches** are each side's default (F16/F16 there, Q8_0/F16 here), so some of llama-server's answers differ.

[Several streams at the same time](data/serve_speed.md) are measured over HTTP, by `scripts/bench/serve_peers.py`.
"""


def page(results: Sequence[Result]) -> str:
    """Return docs/benchmarks.md."""
    main = main_result(results)
    others = [result for result in results if result is not main]
    return "\n".join([_METHOD, *_main_lines(main), "", *_short_lines(results), "", *_other_lines(others)]) + "\n"


def main_result(results: Sequence[Result]) -> Result:
    """Return the study against llama-server with most prompts."""
    peers = [result for result in results if result.kind == "peers" and result.over_plain]
    return max(peers, key=lambda result: int(_cell(result, "Ratios of generation rates", "all", "prompts")))


def chart(results: Sequence[Result]) -> Picture:
    """Return the chart of the main result: drafting over plain decoding by category."""
    rows = sorted(main_result(results).over_plain, key=lambda row: -row[1])
    return interval_chart(
        "Speed with drafting over plain decoding", "times as fast, with 95% intervals", rows, mark=1.0
    )


def tables(results: Sequence[Result]) -> str:
    """Return docs/data/tables.md: every table of every result."""
    parts = [
        "# Tables",
        "Made by `scripts/bench/make_page.py` of the JSON files here. Summary: [benchmarks.md](../benchmarks.md).",
        "Raw runs are the `.jsonl.gz` files. A result without one is from before they were kept.",
    ]
    for result in results:
        parts.append(f"## {result.title}")
        parts += [part for part in (result.about, result.conditions and f"{result.conditions}.") if part]
        if result.command:
            parts.append(f"```sh\n{result.command}\n```")
        for table in result.tables:
            parts.append(f"**{table.title}.**\n\n{table.markdown()}")
        if result.text:
            parts.append(f"```\n{result.text}\n```")
    return "\n\n".join(parts) + "\n"


def _main_lines(main: Result) -> list[str]:
    rates, ratios, pooled = (
        "Tokens a second (median)", "Ratios of generation rates", "Ratios of all tokens over all seconds",
    )  # fmt: skip
    rows = []
    for category, *_ in main.over_plain:
        best = _cell(main, ratios, category, "that mode").removeprefix("peer: ")
        rows.append(
            (
                category,
                _cell(main, ratios, category, "prompts"),
                _cell(main, rates, category, "none"),
                _cell(main, rates, category, "auto"),
                _cell(main, ratios, category, "auto / plain"),
                f"{_cell(main, ratios, category, 'auto / best peer')} ({best})",
            )
        )
    header = ("", "prompts", "plain, tokens/s", "drafting, tokens/s", "over plain", "over llama-server's best")
    over_plain, over_peer = (_cell(main, pooled, "all", name) for name in ("auto / plain", "auto / best peer"))
    return [
        f"## {main.title}",
        "",
        f"{main.conditions}. {main.about}",
        "",
        f"![Speed with drafting over plain decoding]({CHART})",
        "",
        Table("", header, tuple(rows)).markdown(),
        "",
        f"All tokens over all seconds: **{over_plain} times plain decoding**, {over_peer} times llama-server's best.",
    ]


def _short_lines(results: Sequence[Result]) -> list[str]:
    """List the missed aims, and count those whose interval includes the aim."""
    found = [(result, aim) for result in results for aim in result.aims]
    missed = [(result, aim) for result, aim in found if not aim.met]
    narrow = sum(aim.met and not aim.certain for _, aim in found)
    rows = []
    for result, aim in missed:
        value = f"{aim.value:.2f} [{aim.ratio.low:.2f}, {aim.ratio.high:.2f}]" if aim.ratio else f"{aim.value:.3f}"
        sign = "≤" if aim.most else "≥"
        rows.append((f"{aim.what}, {aim.where}", value, f"{sign} {aim.aim:g}", _link(result, result.name)))
    return [
        "## What falls short",
        "",
        f"{len(found) - len(missed)} of {len(found)} aims are met; the interval of {narrow} of them includes the aim.",
        *(["", Table("", ("missed", "measured", "aim", "study"), tuple(rows)).markdown()] if rows else []),
    ]


def _other_lines(results: Sequence[Result]) -> list[str]:
    lines = [f"- {_link(result)}{f': {summary}' if (summary := _summary(result)) else ''}." for result in results]
    return ["## Further results", "", *lines]


def _summary(result: Result) -> str:
    """Return the numbers of a result in a few words."""
    rows = result.tables[0].rows if result.tables else ()
    if result.kind == "peers" and result.over_plain:
        name = "Ratios of all tokens over all seconds"
        plain, peer = (_cell(result, name, "all", column) for column in ("auto / plain", "auto / best peer"))
        return f"{plain} times plain decoding, {peer} times llama-server's best. {result.conditions}"
    if result.kind == "contexts":
        return "; ".join(f"{row[0]} {row[4].partition(' ')[0]}" for row in rows) + " times plain decoding"
    if result.kind == "memory":
        return "; ".join(f"{row[0]} {row[1]}" for row in rows)
    if result.kind == "text":
        return result.text.rpartition("\n")[2]
    return ""


def _cell(result: Result, title: str, row: str, column: str) -> str:
    table = result.table(title)
    return next(cells for cells in table.rows if cells[0] == row)[table.header.index(column)]


def _link(result: Result, text: str = "") -> str:
    """Link to the tables of a result, by the anchor that GitHub makes of its heading."""
    anchor = re.sub(r"[^\w -]", "", result.title).lower().replace(" ", "-")
    return f"[{text or result.title}]({TABLES}#{anchor})"
