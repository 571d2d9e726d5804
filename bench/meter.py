"""What happens on the machine while something is measured: the server's share, the clients', and that of others."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.tree import TICK, Tree, peak_memory

QUIET_SECONDS = 1.0  # the moment in which the machine must be quiet
QUIET_SHARE = 0.1  # of its CPU time that others may have in it


@dataclass(slots=True)
class Meter:
    """Filled at the end of the block of `metered`."""

    server: float = 0.0
    """CPU seconds of the server."""
    clients: float = 0.0
    """CPU seconds of the load: this process, the clients that have ended, and the next hops."""
    others: float = 0.0
    """Percent of all the machine's CPU time that others had. Much of it: figures that mean little."""
    peak: int = 0
    """Octets of memory that the server had at most."""


@contextmanager
def metered(server: Tree, *next_hops: Tree) -> Iterator[Meter]:
    meter = Meter()
    machine, spent, clients = _machine(), server.cpu(), _clients(next_hops)
    with peak_memory(server) as peak:
        yield meter
    meter.server = server.cpu() - spent
    meter.clients = _clients(next_hops) - clients
    busy, idle = (now - before for now, before in zip(_machine(), machine, strict=True))
    others = busy - meter.server - meter.clients
    meter.others = max(0.0, 100 * others / ((busy + idle) or 1))
    meter.peak = peak.octets


def wait_for_quiet(seconds: float) -> None:
    """Wait until the machine does nearly nothing else for a moment, or for so many seconds at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        before = _machine()
        time.sleep(QUIET_SECONDS)
        busy, idle = (now - then for now, then in zip(_machine(), before, strict=True))
        if busy < QUIET_SHARE * (busy + idle):
            return


def _machine() -> tuple[float, float]:
    """Seconds that its cores were busy, and idle (proc(5): user, nice, system, idle, iowait, irq, softirq, steal)."""
    user, nice, system, idle, iowait, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICK, (idle + iowait) / TICK


def _clients(next_hops: tuple[Tree, ...]) -> float:
    times = os.times()
    own = times.user + times.system + times.children_user + times.children_system
    return own + sum(tree.cpu() for tree in next_hops)
