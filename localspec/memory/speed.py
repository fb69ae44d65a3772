"""Tokens a second that a pair is expected to decode, from a machine's bandwidth and arithmetic. Pure.

A pass reads the weights once and computes each row. The additive form is that of measured passes (docs/decisions.md:
AVX-512, 1.5B Q4_0; 24.7 ms for one row, 47.6 for 4, 142.5 for 16).
"""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of a weight in Q4_0.
_WEIGHT = 18 / 32
#: llama.cpp's kernels for 4 bits over a float32 product of numpy, in operations a second: 1.4 with AVX2, 2.1 with VNNI.
_KERNELS = 1.4
#: Time of another row over that of the weights, where a GPU computes.
_GPU_ROW = 0.05
#: Acceptance rate of a draft token that is assumed: prose with the drafter made for the model.
ACCEPTANCE = 0.6
#: Longest draft that is considered, in tokens.
_LONGEST = 8
#: Tokens a second from which a model is usable: a little less than people read.
USABLE = 5.0


@dataclass(frozen=True)
class MachineSpeed:
    """Bytes that a machine reads from memory in a second, and float32 operations of a matrix product in a second.

    ``compute`` is None where a GPU computes, of which numpy measures nothing.
    """

    bandwidth: float
    compute: float | None = None


@dataclass(frozen=True)
class ExpectedSpeed:
    """Tokens a second, without a drafter and with the best length of drafts."""

    plain: float
    drafted: float

    @property
    def usable(self) -> bool:
        """True if it decodes about as fast as people read."""
        return self.drafted >= USABLE


def expected_speed(read: int, draft_read: int, machine: MachineSpeed, acceptance: float = ACCEPTANCE) -> ExpectedSpeed:
    """Speed of a target that reads ``read`` bytes for a token, and of a drafter that reads ``draft_read``.

    A draft of ``n`` tokens gives (1 - a^(n+1)) / (1 - a) tokens a pass at an acceptance rate a (Leviathan et al., arXiv
    2211.17192, equation 1).
    """
    one, row = _pass_seconds(read, machine)
    draft = _pass_seconds(draft_read, machine)[0]
    best = max(
        (1 - acceptance ** (n + 1)) / (1 - acceptance) / (one + n * row + n * draft) for n in range(_LONGEST + 1)
    )
    return ExpectedSpeed(1 / one, best)


def _pass_seconds(read: int, machine: MachineSpeed) -> tuple[float, float]:
    """Seconds of a pass of one row, and of each further row."""
    reading = max(read, 1) / machine.bandwidth
    if machine.compute is None:
        return reading, _GPU_ROW * reading
    row = 2 * max(read, 1) / _WEIGHT / (machine.compute * _KERNELS)
    return max(reading, row), row


def rate_text(speed: float) -> str:
    """Format tokens a second: ``0.4 tokens/s``, ``12 tokens/s``."""
    return f"{speed:.0f} tokens/s" if speed >= 10 else f"{speed:.1f} tokens/s"
