"""A package whose own code runs only when more is used of it than its modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from typing import Any


@contextmanager
def bare_package(name: str) -> Iterator[None]:
    """Import modules of a package inside, without its own code, if that has not run yet.

    It runs with the first use of a name that the package does not have yet, so other users of it see no difference.
    """
    spec = None if name in sys.modules else find_spec(name)
    loader = spec.loader if spec else None
    if spec is None or loader is None:
        yield
        return
    package = module_from_spec(spec)

    def complete(attribute: str) -> Any:
        if package.__dict__.pop("__getattr__", None):
            loader.exec_module(package)
            return getattr(package, attribute)
        raise AttributeError(f"module {name!r} has no attribute {attribute!r}")

    package.__dict__["__getattr__"] = complete
    sys.modules[name] = package
    try:
        yield
    except BaseException:
        del sys.modules[name]
        raise
