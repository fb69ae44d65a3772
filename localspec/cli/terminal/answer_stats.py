"""Lines about an answer or a session, from :class:`localspec.generation.stats.Stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localspec.cli.terminal.units import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localspec.chat.tools import ToolCall
    from localspec.engine import Engine
    from localspec.generation.result import Completion
    from localspec.generation.stats import Stats

#: Most turns in the table of a session.
_TURNS_SHOWN = 20
_EXACTNESS = {"exact": "exact output", "approximate": "approximate output", "off": "output not checked"}


def engine_line(engine: Engine) -> str:
    """The model, its drafters and the exactness of the output."""
    from localspec.models.hub.names import short_name

    drafter = f"drafter {'+'.join(engine.drafters)}" if engine.drafters else "no drafter"
    off = " (off)" if engine.drafters and not engine.drafting else ""
    return f"{short_name(engine.model.name)}, {drafter}{off}, {_EXACTNESS[engine.exactness]}"


def answer_line(done: Completion) -> str:
    """``41 tokens, 2.7 accepted/step, 83% accepted, 120 tok/s``."""
    stats = done.stats
    parts = [plural(stats.generated_tokens, "token"), *_accepted(stats), f"{stats.tokens_per_s:.0f} tok/s"]
    if done.finish_reason == "length" and not done.notice:
        parts.append("cut by --max-tokens")
    return ", ".join(parts)


def answer_report(done: Completion) -> list[str]:
    """The lines of ``generate --stats``."""
    stats = done.stats
    cached = f", {stats.cached_tokens} of them cached" if stats.cached_tokens else ""
    lines = [f"prompt  {plural(stats.prompt_tokens, 'token')}{cached}, {stats.prompt_s:.2f} s"]
    speed = f"{stats.tokens_per_s:.1f} tok/s, {stats.generate_s:.2f} s"
    lines.append(f"answer  {plural(stats.generated_tokens, 'token')}, {speed}")
    if stats.generate_s > 0:
        shares = [("target", stats.target_s), ("draft", stats.draft_s), ("Python", stats.python_s)]
        lines.append("time    " + ", ".join(f"{name} {part / stats.generate_s:.0%}" for name, part in shares))
    lines.append(f"drafts  {_drafts(stats)}")
    lines.append(f"seed    {done.seed}, {_EXACTNESS[done.exactness]}")
    return lines


def session_report(turns: Sequence[Stats], total: Stats) -> list[str]:
    """The lines of the chat's ``/stats``: a row a turn, then the sum. At most 40 columns wide."""
    if not turns:
        return ["No answer yet."]
    lines = ["turn cached prefill answer tok/s  acc"]
    first = max(0, len(turns) - _TURNS_SHOWN)
    lines += [_row(str(number), stats) for number, stats in enumerate(turns[first:], start=first + 1)]
    lines.append(_row("all", total))
    lines.append(f"drafts: {_drafts(total)}")
    return lines


def call_line(call: ToolCall) -> str:
    """One line about a tool call, which localspec does not run."""
    return f"Tool call: {call['function']['name']}({call['function']['arguments']})"


def _accepted(stats: Stats) -> list[str]:
    if stats.mean_accepted is None or stats.acceptance is None:
        return []
    return [f"{stats.mean_accepted:.1f} accepted/step", f"{stats.acceptance:.0%} accepted"]


def _drafts(stats: Stats) -> str:
    if stats.unmeasured and not stats.proposed:
        return "none, pair not measured yet"
    if not stats.proposed:
        return "none"
    names = "+".join(stats.by_drafter)
    return f"{names}: {stats.accepted} of {stats.proposed} accepted, {', '.join(_accepted(stats))}"


def _row(name: str, stats: Stats) -> str:
    accepted = "-" if stats.mean_accepted is None else f"{stats.mean_accepted:.1f}"
    return (
        f"{name:>4}{stats.cached_tokens:>7}{stats.prefilled_tokens:>8}{stats.generated_tokens:>7}"
        f"{stats.tokens_per_s:>6.0f}{accepted:>5}"
    )
