"""Rates and times as text. Sizes are formatted by :func:`localspec.files.size_text`."""

from __future__ import annotations


def rate_text(rate: float) -> str:
    """Format bytes per second with two or three digits: ``640 kB/s``, ``2.4 MB/s``, ``110 MB/s``."""
    if rate < 1e6:
        return f"{rate / 1e3:.0f} kB/s"
    return f"{rate / 1e6:.1f} MB/s" if rate < 1e7 else f"{rate / 1e6:.0f} MB/s"


def duration_text(seconds: float) -> str:
    """Format seconds: ``8 s``, ``3:05``, ``2:10:00``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def age_text(seconds: float) -> str:
    """Format an age in seconds in the largest unit that fits: ``3 days ago``."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count >= 1:
            return f"{plural(count, unit)} ago"
    return "just now"


def plural(count: int, noun: str) -> str:
    """``1 token``, ``2 tokens``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
