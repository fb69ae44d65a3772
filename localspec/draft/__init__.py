"""Drafters: each proposes tokens that the target then verifies. See :mod:`localspec.draft.base`."""
