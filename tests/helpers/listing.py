"""Listings of repositories in ``tests/data/listings``. They are reconstructed; each file names its sources."""

from __future__ import annotations

import json

from localspec.models.hub.choose import HubFile
from tests.helpers.paths import DATA

FOLDER = DATA / "listings"


def listings() -> dict[str, tuple[HubFile, ...]]:
    """Files by repository."""
    found: dict[str, tuple[HubFile, ...]] = {}
    for path in sorted(FOLDER.glob("*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        assert "Reconstructed" in stored["readme"]
        for repo, files in stored["repositories"].items():
            found[repo] = tuple(HubFile(name, size) for name, size in files)
    return found


LISTINGS = listings()
