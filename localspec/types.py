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
Exactness = Literal["exact", "guarded", "off"]
#: Callback for progress, called with the counts (done, total).
Progress = Callable[[int, int], None]
