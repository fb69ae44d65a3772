"""Laws of Ctrl-C while an answer waits for a worker."""

from __future__ import annotations

import logging
import signal

import pytest

from localspec.cli.model.load import _tell_of_workers
from localspec.cli.terminal.interrupt import catching_interrupts

LOG = logging.getLogger("localspec.machines")


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOG, "handlers", [])
    monkeypatch.setattr(LOG, "propagate", True)
    _tell_of_workers()


def test_one_press_ends_the_wait() -> None:
    """Nobody reads a flag there."""
    with catching_interrupts() as interrupt:
        LOG.warning("A worker went away.", extra={"waits": True})
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert not interrupt.pressed


def test_after_the_wait_a_press_is_a_flag_again() -> None:
    """An answer then ends between two steps."""
    with catching_interrupts() as interrupt:
        LOG.warning("A worker went away.", extra={"waits": True})
        LOG.warning("The workers are there again.", extra={"waits": False})
        signal.raise_signal(signal.SIGINT)
        assert interrupt.pressed
