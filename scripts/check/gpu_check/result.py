"""The result of one job: a JSON file that is rewritten after each part, so that a job that is cut off leaves some."""

from __future__ import annotations

import json
from pathlib import Path
from time import monotonic
from typing import Any

from localspec.files import replacing


class Result:
    """Parts of a result by name, and the seconds that are left for more."""

    def __init__(self, path: Path, seconds: float, **about: Any) -> None:
        self._path, self._end, self.values = path, monotonic() + seconds, dict[str, Any](about)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._end - monotonic()

    def add(self, part: str, value: Any) -> None:
        """Keep a part, and write the file."""
        self.values[part] = value
        text = json.dumps(self.values, indent=1)
        with replacing(self._path) as stream:
            stream.write(text.encode())
