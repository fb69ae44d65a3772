"""Notice that the other end of a connection of ggml is gone: ggml waits for it for ever."""

from __future__ import annotations

import os
import socket
import stat
import sys
import time
from contextlib import suppress
from threading import Thread

#: Seconds of silence before the first question whether the other end is there, between two, and how many.
_IDLE_S, _EVERY_S, _TIMES = 10, 5, 3
#: Seconds after which a connection is gone that acknowledges nothing. Cuts that are shorter do no harm.
_GONE_S = _IDLE_S + _EVERY_S * _TIMES
#: Seconds between two looks for new connections.
_LOOK_S = 0.2
_OPTIONS = {
    "TCP_KEEPIDLE": _IDLE_S, "TCP_KEEPALIVE": _IDLE_S, "TCP_KEEPINTVL": _EVERY_S, "TCP_KEEPCNT": _TIMES,
    "TCP_USER_TIMEOUT": _GONE_S * 1000,
}  # fmt: skip


def keep_alive() -> None:
    """Watch all TCP connections of this process from now on, those that libraries make too. POSIX only."""
    if sys.platform != "win32":
        Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    known = set[tuple[int, int]]()
    while True:
        known = _set_options(known)
        time.sleep(_LOOK_S)


def _set_options(known: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Set the options of connections that are not ``known``, by descriptor and inode; returns those that are now."""
    found = set[tuple[int, int]]()
    for name in os.listdir("/dev/fd"):
        with suppress(OSError, ValueError):
            number = int(name)
            state = os.fstat(number)
            key = (number, state.st_ino)
            if stat.S_ISSOCK(state.st_mode) and key not in known:
                _keep_alive(number)
            found.add(key)
    return found


def _keep_alive(number: int) -> None:
    """Set the options of a socket, given by its descriptor, if it is of TCP."""
    with socket.socket(fileno=os.dup(number)) as connection:
        if connection.family != socket.AF_INET or connection.type != socket.SOCK_STREAM:
            return
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _OPTIONS.items():
            option = getattr(socket, name, None)
            if option is not None:
                with suppress(OSError):
                    connection.setsockopt(socket.IPPROTO_TCP, option, value)
