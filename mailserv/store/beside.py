"""A command beside the running server: it tells the server of each commit, and leaves it its turn."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Protocol

from mailserv.clock import Clock
from mailserv.store.part import nudge_all

_LONGEST = 0.1  # seconds


class Waitable(Protocol):
    """What of threading.Event is used here."""

    def wait(self, timeout: float, /) -> bool: ...


class Beside:
    """What a command's writer does after each commit. The writer's thread.

    SQLite's lock knows no queue: who waits for it looks again every other millisecond (`connection.begin`). A command that
    drops a million rows in small transactions, one right after the other, would hold it nearly always when the server
    looks. So, when a server runs, it rests for as long as it was at work since its last rest. (Measured, 60,000 rows
    dropped: the server's longest wait was 75 ms instead of 630.)
    """

    def __init__(self, data_dir: Path, clock: Clock, never: Waitable | None = None) -> None:
        self._data_dir = data_dir
        self._clock = clock
        self._rested_at = clock.monotonic()
        self._is_heard = False
        self._never = never or threading.Event()

    def tell(self, _: object = None) -> None:
        """Tell the server that something changed, if one runs."""
        self._is_heard = nudge_all(self._data_dir)

    def rest(self) -> None:
        """Leave the database alone for a while, if a server runs."""
        if self._is_heard:
            self._never.wait(min(self._clock.monotonic() - self._rested_at, _LONGEST))
        self._rested_at = self._clock.monotonic()
