"""What a server with all its processes takes of the machine, read from /proc (proc_pid_stat(5))."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.25  # a look at /proc costs some ms


class Tree:
    """The process that was started, its descendants, and all of its session: some daemons leave their parent."""

    def __init__(self, root: int) -> None:
        self._root = root

    def cpu(self) -> float:
        """Seconds of CPU so far, those of processes that have ended and were waited for included."""
        return sum(sum(map(int, _stat(pid)[11:15])) for pid in self.pids()) / TICK

    def memory(self) -> int:
        """Octets that are each process's own: resident pages less those of files and shared memory."""
        return PAGE * sum(resident - shared for resident, shared in map(_resident, self.pids()))

    def born(self) -> dict[int, str]:
        """Each process with what tells it from a later one of its number."""
        return {pid: birth(pid) for pid in self.pids()}

    def pids(self) -> list[int]:
        known = {int(name): _stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
        found = {pid for pid, stat in known.items() if stat and int(stat[3]) == self._root} | {self._root}
        while more := {pid for pid, stat in known.items() if stat and int(stat[1]) in found} - found:
            found |= more
        return sorted(found)


class Peak:
    """The most memory that was seen."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.octets = tree.memory()

    def look(self) -> None:
        self.octets = max(self.octets, self._tree.memory())


@contextmanager
def peak_memory(tree: Tree) -> Iterator[Peak]:
    """Look again and again, on a thread, until the end of the block."""
    peak = Peak(tree)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLE_SECONDS):
            peak.look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak.look()


def birth(pid: int) -> str:
    """When it began, in ticks since the machine did; empty when there is none."""
    stat = _stat(pid)
    return stat[19] if stat and stat[0] != "Z" else ""


def _stat(pid: int) -> list[str]:
    """The fields behind the name: state, ppid, pgrp, session, …; nothing when it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return []


def _resident(pid: int) -> tuple[int, int]:
    with suppress(OSError):
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
        return int(resident), int(shared)
    return 0, 0
