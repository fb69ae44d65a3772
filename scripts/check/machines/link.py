"""A link between this network namespace and another one, with a delay and a rate, which can be cut.

It moves packets between two TUN devices, for kernels without ``tc netem``. Run as a program it reads ``cut`` and
``mend`` from standard input: ``python -m scripts.check.machines.link NAME NUMBER DELAY_MS MBIT``.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import sys
from collections import deque
from time import perf_counter

_TUNSETIFF, _IFF_TUN_NO_PI = 0x400454CA, 0x1001
#: Bytes of a packet. Large ones cost this program less.
_MTU = 9000
#: Packets that wait in one direction; more are dropped, as by netem.
_MOST = 1000


def tun(name: str) -> int:
    """Open a new TUN device."""
    handle = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH", name.encode(), _IFF_TUN_NO_PI))
    return handle


class Way:
    """One direction: packets from ``source`` arrive at ``target`` after the delay, and in a row at the rate."""

    def __init__(self, source: int, target: int, delay_s: float, bytes_s: float) -> None:
        self.source, self._target, self._delay, self._rate = source, target, delay_s, bytes_s
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._free = 0.0

    def take(self, cut: bool) -> None:
        """Read what has been sent."""
        while True:
            try:
                packet = os.read(self.source, _MTU + 100)
            except BlockingIOError:
                return
            if cut or len(self._waiting) >= _MOST:
                continue
            self._free = max(self._free, perf_counter()) + len(packet) / self._rate
            self._waiting.append((self._free + self._delay, packet))

    def give(self, cut: bool) -> float:
        """Deliver what is due. Returns the seconds until the next packet is."""
        while self._waiting and self._waiting[0][0] <= perf_counter():
            _, packet = self._waiting.popleft()
            if not cut:
                os.write(self._target, packet)
        return max(0.0, self._waiting[0][0] - perf_counter()) if self._waiting else 10.0


def run(here: int, there: int, delay_s: float, bytes_s: float) -> None:
    """Move packets until standard input ends. ``delay_s``: of one direction."""
    ways = {here: Way(here, there, delay_s, bytes_s), there: Way(there, here, delay_s, bytes_s)}
    cut = False
    while True:
        wait = min(way.give(cut) for way in ways.values())
        ready, _, _ = select.select([0, here, there], [], [], wait)
        for handle in ready:
            if handle == 0:
                word = os.read(0, 100).decode()
                if not word:
                    return
                cut = word.split()[-1] == "cut"
            else:
                ways[handle].take(cut)


def main() -> None:
    """Make the devices: 10.77.NUMBER.1 here, 10.77.NUMBER.2 in the namespace NAME; print ``up``, and run."""
    name, number, delay, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 1000, float(sys.argv[4])
    here, there = tun(f"lsh{number}"), tun(f"lst{number}")
    subprocess.run(["ip", "link", "set", f"lst{number}", "netns", name], check=True)
    for where, device, last in ([], f"lsh{number}", 1), (["ip", "netns", "exec", name], f"lst{number}", 2):
        up = ("link", "set", device, "mtu", str(_MTU), "up")
        for words in up, ("addr", "add", f"10.77.{number}.{last}/24", "dev", device):
            subprocess.run([*where, "ip", *words], check=True)
    print("up", flush=True)
    run(here, there, delay / 2, rate * 1e6 / 8)


if __name__ == "__main__":
    main()
