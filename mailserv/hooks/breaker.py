"""The breaker of one plugin's hook: after some failures in a row it is not called for a while, then tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable

from mailserv.clock import Clock

FAILURES = 5  # in a row that open it: fewer would let one bad message of five recipients switch a plugin off
REST = 30.0  # seconds until one call may try again: a scanner that restarts is back by then


class Breaker:
    """Closed: calls pass. Open: none does. After REST seconds one call is let through, and its end decides. Any thread."""

    __slots__ = ("_clock", "_failing", "_lock", "_opened_until", "_trying", "failures")

    def __init__(self, clock: Clock, failing: Callable[[bool], None] = lambda _: None) -> None:
        """`failing(True)` after each failure, `failing(False)` when there is none in a row any more; it must be quick."""
        self._clock = clock
        self._failing = failing
        self._lock = threading.Lock()
        self._opened_until: float | None = None
        self._trying = False
        self.failures = 0  # in a row

    @property
    def is_open(self) -> bool:
        """Also while one call tries whether it may close."""
        return self._opened_until is not None

    def may_call(self) -> bool:
        """Whether a call may be made now. One that may ends in `succeeded` or `failed`."""
        if self._opened_until is None:
            return True
        with self._lock:
            if self._opened_until is None:
                return True
            if self._trying or self._clock.monotonic() < self._opened_until:
                return False
            self._trying = True
            return True

    def succeeded(self) -> bool:
        """Whether that closed it."""
        if not self.failures:
            return False
        with self._lock:
            was_open = self._opened_until is not None
            if was_open and not self._trying:
                return False  # a call that began before it opened says nothing about now
            self._close()
            return was_open

    def failed(self) -> bool:
        """Whether that opened it, for the first time or again."""
        with self._lock:
            self.failures += 1
            self._failing(True)
            if self._opened_until is not None and not self._trying:
                return False
            if not self._trying and self.failures < FAILURES:
                return False
            self._trying = False
            self._opened_until = self._clock.monotonic() + REST
            return True

    def _close(self) -> None:
        self.failures = 0
        self._opened_until = None
        self._trying = False
        self._failing(False)
