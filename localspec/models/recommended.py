"""Recommended pairs of a target and its drafter, by the memory of the machine.

The sizes are constants, so that they can be shown before a download. After it they are computed from the files.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30

#: Licence of Gemma 4 and Qwen3.6, by the files' ``general.license``; Gemma 1 to 3 have another.
_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class RecommendedPair:
    """A target and its drafter. Sizes and memory are in bytes."""

    target: str
    """Name for ``localspec chat -m``: a short name, or ``tiny``."""
    title: str
    repo: str
    """Repository of both files; empty for the built-in pair."""
    target_file: str
    drafter_file: str
    """Empty where prediction heads in the target's file draft."""
    target_size: int
    drafter_size: int
    """Bytes that are read for a draft token: the drafter's file, or the heads and the output matrix of the target's."""
    needs: int
    """Memory of the pair with a context of 8192 tokens."""
    memory: int
    """Smallest memory of a machine for which the pair is recommended."""
    licence: str
    note: str
    read: int = 1_000_000
    """Bytes of the target that are read for a token."""

    @property
    def download(self) -> int:
        """Bytes to download."""
        return self.target_size + (self.drafter_size if self.drafter_file else 0)

    @property
    def built_in(self) -> bool:
        """True if there is nothing to download."""
        return not self.repo


def _gemma_4(
    size: str, target_size: int, drafter_size: int, needs: int, memory_gib: int, note: str, share: float = 1.0
) -> RecommendedPair:
    """Weights that Google trained for 4 bits, with the drafter that was trained with them, from unsloth's repository.

    They lose little at 4 bits, most of their matrices are Q4_0, and the acceptance rate is higher than with the drafter
    of the other weights. ``share`` is the part of the weights that is read for a token: without embeddings of layers,
    which are looked up (262,144 × 35 × 256 of 5.1 billion for E2B, × 42 of 8.0 for E4B), and of experts the active ones
    (3.8 of 25.2 billion).
    """
    return RecommendedPair(
        target=f"gemma-4-{size.lower()}-qat",
        title=f"Gemma 4 {size}",
        repo=f"unsloth/gemma-4-{size}-it-qat-GGUF",
        target_file=f"gemma-4-{size}-it-qat-UD-Q4_K_XL.gguf",
        drafter_file=f"MTP/mtp-gemma-4-{size}-it-Q4_0.gguf",
        target_size=target_size,
        drafter_size=drafter_size,
        needs=needs,
        memory=memory_gib * GIB,
        licence=_LICENCE,
        note=note,
        read=round(share * target_size),
    )


def _qwen(
    size: str, quant: str, target_size: int, head: int, needs: int, memory_gib: int, note: str, read: int | None = None
) -> RecommendedPair:
    """A target of unsloth's with a prediction head in its file. ``head``: the bytes that a draft token reads.

    Those are the output matrix, 248,320 rows in Q6_K, and a layer, of experts the active ones. ``read``: the bytes that
    a token of the target reads, None for the whole file.
    """
    title = f"Qwen{size}"
    return RecommendedPair(
        target=f"unsloth/{title}-MTP-GGUF:{quant}",
        title=title.replace("-", " ", 1),
        repo=f"unsloth/{title}-MTP-GGUF",
        target_file=f"{title}-{quant}.gguf",
        drafter_file="",
        target_size=target_size,
        drafter_size=head,
        needs=needs,
        memory=memory_gib * GIB,
        licence=_LICENCE,
        note=note,
        read=read or target_size,
    )


#: Pairs by the memory that they need. File sizes are the Hub's. ``needs`` is their sum plus the estimate of
#: :mod:`localspec.memory.estimate` for 8192 tokens on a GPU: caches with full sliding windows, buffers and two
#: vocabularies. A CPU may hold most of the target twice, once in the order of its kernels.
RECOMMENDED: tuple[RecommendedPair, ...] = (
    RecommendedPair(
        "tiny", "Tiny", "", "", "", 0, 0, 200_000_000, 0, "Apache-2.0", "built in, to try things out: no real answers"
    ),
    _gemma_4("E2B", 2_620_000_000, 59_000_000, 3_500_000_000, 6, "quick, for laptops with 8 GB", 0.54),
    _qwen("3.5-4B", "Q4_0", 2_669_209_920, 600_000_000, 4_600_000_000, 10, "for 12 GB"),
    _gemma_4("E4B", 4_220_000_000, 60_000_000, 5_500_000_000, 12, "for 16 GB", 0.65),
    _qwen("3.5-9B", "Q4_0", 5_551_599_968, 950_000_000, 7_600_000_000, 17, "slower, for 18 GB"),
    _gemma_4("12B", 6_716_000_000, 254_000_000, 10_600_000_000, 20, "better answers, slower, for 24 GB"),
    _gemma_4("26B-A4B", 14_249_045_120, 251_937_728, 17_100_000_000, 30, "good and quick, for 32 GB and more", 0.15),
    _qwen("3.6-27B", "Q4_K_M", 17_106_773_120, 1_300_000_000, 21_700_000_000, 33, "slow, thinks first, for 36 GB"),
    # 3 of 35 billion weights are read for a token.
    _qwen(
        "3.6-35B-A3B",
        "UD-Q4_K_XL",
        22_853_663_008,
        480_000_000,
        24_700_000_000,
        40,
        "good and quick, thinks first, for 48 GB",
        1_960_000_000,
    ),
    _gemma_4("31B", 17_300_000_000, 281_000_000, 26_000_000_000, 60, "the best answers, slow, for 64 GB and more"),
)


def recommended(memory_bytes: int) -> RecommendedPair:
    """The pair for a machine with ``memory_bytes`` of memory in total; ``tiny`` if no other fits."""
    return [pair for pair in RECOMMENDED if pair.memory <= max(memory_bytes, 0)][-1]
