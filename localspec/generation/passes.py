"""The shape of the passes that verify drafts."""

from __future__ import annotations

from dataclasses import dataclass

from localspec.params import MAX_VERIFY_WIDTH

#: llama.cpp's attention reads a number of cells that is rounded up to a multiple of this.
EDGE = 256


@dataclass(frozen=True)
class PassShape:
    """Verification passes have at most ``widest`` rows, or exactly ``width`` where that is not 1.

    Kernels depend on the number of rows of a pass. In passes of a fixed ``width`` they never change: dummy tokens
    behind the real ones fill a pass, and are then removed from the cache. Plain decoding is such a pass with one real
    token.
    """

    widest: int = MAX_VERIFY_WIDTH
    width: int = 1

    @classmethod
    def fixed(cls, width: int) -> PassShape:
        """Return the shape of passes of ``width`` rows; 1: of any number of rows."""
        return cls(width, width) if width > 1 else cls()

    def room(self, cached: int) -> int:
        """Return how many real tokens a pass behind ``cached`` ones may have.

        The pass of one real token must read as many cells as a pass in which the token is the last of several. So a
        padded pass ends where the next one would read more.
        """
        if self.width == 1:
            return self.widest
        return min(self.widest, EDGE - (cached + self.width - 1) % EDGE)


UNPADDED = PassShape()
