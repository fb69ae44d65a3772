"""Show speculative decoding on the built-in pair: ``python -m localspec.cli.bench.demo``, as ``scripts/demo`` runs it.

One prompt is answered twice, plainly and with drafts of a fixed length; then a picture is shown. The output has no
timings, so it is the same on every run.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from itertools import groupby

import localspec
from localspec.bench.curves import NamedCosts, read_curve
from localspec.bench.report import aligned, wrapped
from localspec.bench.tuning import draft_seconds
from localspec.cli.terminal.style import TINT, Style, columns
from localspec.control.base import FixedDepth
from localspec.control.costs import Costs
from localspec.engine import Engine
from localspec.errors import MissingFeatureError
from localspec.generation.result import Completion
from localspec.generation.stats import Stats

PROMPT = "Tell me a story about a little owl and the moon."
QUESTION = "What is in the picture?"
#: Draft tokens of a step: passes of four tokens are cheap on every shipped curve.
DEPTH = 3
#: Tokens of the answer; the story ends before.
_MAX_TOKENS = 160
#: Shipped curves to compute the gain for, cheapest wide pass first.
_CURVES = ("gpu", "cpu-avx512", "cpu")
#: Columns of the text at most: longer lines are hard to read.
_WIDEST = 80

#: Text of a token, and True if the target accepted it as a draft token.
Piece = tuple[str, bool]


def answer(engine: Engine) -> tuple[Completion, list[Piece]]:
    """Answer :data:`PROMPT` greedily from an empty cache; return the completion and its pieces of text."""
    engine.forget()
    pieces: list[Piece] = []
    message = {"role": "user", "content": PROMPT}
    for chunk in engine.stream_chat([message], temperature=0.0, max_tokens=_MAX_TOKENS):
        pieces += [(text, source == "drafted") for text, source in zip(chunk.pieces, chunk.sources, strict=True)]
        if chunk.completion is not None:
            return chunk.completion, [*pieces, (chunk.text if not chunk.pieces else "", False)]
    raise AssertionError("a stream ends with a completion")


def marked_lines(pieces: Sequence[Piece], width: int, style: Style) -> list[str]:
    """Wrap text to ``width`` columns with draft tokens in colour, or underlined by a row of ``~``."""
    text = "".join(piece for piece, _ in pieces).replace("\n", " ")
    drafted = [flag for piece, flag in pieces for _ in piece]
    drafted = [
        flag and (char != " " or drafted[i - 1]) for i, (char, flag) in enumerate(zip(text, drafted, strict=True))
    ]
    lines, start = [], 0
    while start < len(text):
        space = text.rfind(" ", start, start + width + 1)
        end = len(text) if len(text) - start <= width else space if space > start else start + width
        row = list(zip(text[start:end], drafted[start:end], strict=True))
        if style.on:
            runs = groupby(row, key=lambda cell: cell[1])
            lines.append("".join(style.paint("".join(c for c, _ in run), TINT if flag else "") for flag, run in runs))
        else:
            lines += [text[start:end], "".join("~" if flag else " " for _, flag in row).rstrip()]
        start = end + (text[end : end + 1] == " ")
    return lines


def decode_seconds(stats: Stats, costs: Costs, drafter: str) -> float:
    """Return the time of an answer's passes and drafts at ``costs``, without the prompt."""
    longer = [count.proposed for count in stats.per_position] + [0]
    by_depth = {depth + 1: more - longer[depth + 1] for depth, more in enumerate(longer[:-1])}
    by_depth[0] = stats.steps - 1 - stats.drafted_steps  # the first step's row comes from the prompt's pass
    return sum(
        steps * (costs.verify.seconds(depth + 1) + draft_seconds(costs, drafter, depth) + costs.python)
        for depth, steps in by_depth.items()
    )


def _gain_row(curve: NamedCosts, plain: Stats, drafting: Stats) -> tuple[str, ...]:
    """Return the costs of a step on ``curve``, and the gain; the drafter is an assistant where the curve has one."""
    costs, drafter = curve.costs, "mtp" if "mtp" in curve.costs.drafters else "model"
    gain = decode_seconds(plain, costs, drafter) / decode_seconds(drafting, costs, drafter)
    times = (costs.verify.seconds(1), costs.verify.seconds(DEPTH + 1), draft_seconds(costs, drafter, DEPTH))
    return (curve.name, *(f"{1000 * seconds:.1f} ms" for seconds in times), f"{gain:.2f}x")


def demo_lines(engine: Engine, width: int, style: Style) -> list[str]:
    """Decode twice and describe the difference, in lines of at most ``width`` columns (60 or more)."""
    engine.drafting = False
    plain, _ = answer(engine)
    engine.drafting, engine.control = True, FixedDepth(DEPTH, only="mtp")
    drafting, pieces = answer(engine)
    same = plain.tokens == drafting.tokens
    curves = [read_curve(name) for name in _CURVES]
    return [
        *wrapped(f"The built-in pair answers twice: plainly, and with {DEPTH} draft tokens a pass.", width),
        "",
        f"> {PROMPT}",
        "",
        *marked_lines(pieces, width, style),
        "",
        *wrapped(f"{'Coloured' if style.on else 'Underlined'}: drafted by the small model and accepted.", width),
        "",
        *aligned(
            ("", "tokens", "passes", "tokens a pass"),
            [_count_row("without a drafter", plain), _count_row("with drafts", drafting)],
        ),
        "",
        "Both texts are identical." if same else "The texts differ: this machine computes rows of a batch differently.",
        "",
        *wrapped("The gain depends on what passes and drafts cost. At the shipped cost curves:", width),
        "",
        *aligned(
            ("curve", "pass of 1", f"pass of {DEPTH + 1}", f"draft of {DEPTH}", "gain"),
            [_gain_row(curve, plain.stats, drafting.stats) for curve in curves],
        ),
        "",
        *(line for curve in curves for line in wrapped(f"{curve.name}: {curve.machine}", width)),
        "",
        *wrapped("localspec measures these costs here, and drafts only as far as that is faster.", width),
    ]


def picture() -> bytes:
    """Draw a blue square on white, as a PNG file."""
    from PIL import Image, ImageDraw

    drawn, file = Image.new("RGB", (240, 160), "white"), io.BytesIO()
    ImageDraw.Draw(drawn).rectangle((90, 50, 150, 110), fill=(30, 70, 215))
    drawn.save(file, "PNG")
    return file.getvalue()


def picture_lines(engine: Engine, width: int) -> list[str]:
    """Show :func:`picture`, and return the question and the answer; or why this llama.cpp can show none."""
    try:
        done = engine.chat([{"role": "user", "content": [localspec.Image(picture()), QUESTION]}], temperature=0.0)
    except MissingFeatureError as error:
        return wrapped(f"The pair has a projector, too, but {error}", width)
    return [
        *wrapped("The pair has a projector, too. It is shown a drawing of a blue square on white.", width),
        "",
        f"> {QUESTION}",
        "",
        *wrapped(done.text, width),
    ]


def _count_row(name: str, done: Completion) -> tuple[str, ...]:
    tokens = len(done.tokens) + (done.finish_reason == "stop")  # the end token takes a pass as well
    return name, str(tokens), str(done.stats.steps), f"{tokens / done.stats.steps:.2f}"


def main() -> None:
    """Print the demonstration to standard output."""
    width = min(columns(sys.stdout), _WIDEST)
    with localspec.load("tiny", threads=1, gpu_layers=0) as engine:
        lines = [*demo_lines(engine, width, Style.from_stream(sys.stdout)), "", *picture_lines(engine, width)]
    print("\n".join(lines))


if __name__ == "__main__":
    main()
