"""Every test here may pull from a Hub on this machine, into an empty cache and data folder."""

from __future__ import annotations

from tests.helpers.hub_fixtures import cache, clock, hub, server, told

__all__ = ["cache", "clock", "hub", "server", "told"]
