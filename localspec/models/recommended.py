"""Recommended pairs: a Gemma 4 target and its drafter for a machine's memory, with what they cost.

Constants, so that they can be shown before anything is downloaded. What a pair takes when it is loaded is computed from
its files.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30

#: Gemma 4 is under the Apache License 2.0, unlike Gemma 1 to 3; the files say so (``general.license``).
GEMMA_4_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Pair:
    """``target`` is what ``localspec chat -m`` takes; sizes and memory are in bytes."""

    target: str
    """A short name, or ``tiny``."""
    title: str
    repo: str
    """Where both files are; empty for the built-in pair."""
    target_file: str
    drafter_file: str
    target_size: int
    drafter_size: int
    needs: int
    """Memory that the pair takes with 8192 tokens."""
    memory: int
    """Memory of the machine from which the pair is recommended."""
    licence: str
    note: str

    @property
    def download(self) -> int:
        """Bytes to download."""
        return self.target_size + self.drafter_size

    @property
    def built_in(self) -> bool:
        """Whether there is nothing to download."""
        return not self.repo


def _gemma_4(size: str, target_size: int, drafter_size: int, needs: int, memory_gib: int, note: str) -> Pair:
    """Weights that Google trained for 4 bits, and the drafter that was trained with them, in unsloth's repository.

    At 4 bits these lose little, most of their matrices are Q4_0, and their drafter is accepted more often than the one
    of the untrained weights.
    """
    return Pair(
        target=f"gemma-4-{size.lower()}-qat",
        title=f"Gemma 4 {size}",
        repo=f"unsloth/gemma-4-{size}-it-qat-GGUF",
        target_file=f"gemma-4-{size}-it-qat-UD-Q4_K_XL.gguf",
        drafter_file=f"MTP/mtp-gemma-4-{size}-it-Q4_0.gguf",
        target_size=target_size,
        drafter_size=drafter_size,
        needs=needs,
        memory=memory_gib * GIB,
        licence=GEMMA_4_LICENCE,
        note=note,
    )


#: By the memory that they need. File sizes are as reported. ``needs``: the files and what
#: :mod:`localspec.memory.estimate` computes for these shapes with 8192 tokens on a GPU: caches with sliding
#: windows in full, buffers and two vocabularies. A CPU may keep most of the target twice, in its kernels' order.
RECOMMENDED: tuple[Pair, ...] = (
    Pair(
        "tiny", "Tiny", "", "", "", 0, 0, 200_000_000, 0, "Apache-2.0", "built in, to try things out: no real answers"
    ),
    _gemma_4("E2B", 2_620_000_000, 59_000_000, 3_500_000_000, 6, "quick, for laptops with 8 GB"),
    _gemma_4("E4B", 4_220_000_000, 60_000_000, 5_500_000_000, 12, "for 16 GB"),
    _gemma_4("12B", 6_716_000_000, 254_000_000, 10_600_000_000, 20, "better answers, slower, for 24 GB"),
    _gemma_4("26B-A4B", 14_249_045_120, 251_937_728, 17_100_000_000, 30, "good and quick, for 32 GB and more"),
    _gemma_4("31B", 17_300_000_000, 281_000_000, 26_000_000_000, 60, "the best answers, slow, for 64 GB and more"),
)


def recommended(memory_bytes: int) -> Pair:
    """The pair for a machine with so much memory (in all, in bytes); ``tiny`` where no other would fit."""
    return [pair for pair in RECOMMENDED if pair.memory <= max(memory_bytes, 0)][-1]
