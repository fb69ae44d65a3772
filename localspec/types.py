"""Types shared by several rooms. Imports nothing of localspec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

#: Origin of a token: proposed by a drafter and accepted, or chosen by the target.
Source = Literal["drafted", "target"]
#: Reason why an answer ended.
FinishReason = Literal["stop", "length", "tool_calls", "cancelled"]
#: Part of a chat answer.
Channel = Literal["answer", "thought"]
#: Guarantee for the output: see :mod:`localspec.probe.exactness`.
Exactness = Literal["exact", "approximate", "off"]
#: Callback for progress, called with the counts (done, total).
Progress = Callable[[int, int], None]


def difference_text(difference: float) -> str:
    """Words for how far logits of passes differ that are not exact."""
    return f"by up to {difference:.2g}" if difference else "now and then (a matrix has a float type)"
