"""Settings of every test: hypothesis draws the same examples each time, and no test has a deadline."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("localspec", deadline=None, derandomize=True, max_examples=60, database=None)
settings.load_profile("localspec")
