"""A clock that a test owns."""

from __future__ import annotations

import threading


class FakeClock:
    """Stands still until it is told to move; satisfies `mailserv.clock.Clock`. Any thread.

    `now` starts at an arbitrary but fixed moment (2026-01-01 00:00 UTC), `monotonic` at 1,000 s.
    """

    def __init__(self, now: float = 1_767_225_600.0) -> None:
        self._lock = threading.Lock()
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        """Seconds since the epoch."""
        with self._lock:
            return self._now

    def monotonic(self) -> float:
        """Seconds that never go back."""
        with self._lock:
            return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass, for both readings. Raises ValueError for a negative number: monotonic time never goes back."""
        if seconds < 0:
            raise ValueError("time does not go back; use set_now for a clock that was corrected")
        with self._lock:
            self._now += seconds
            self._monotonic += seconds

    def set_now(self, now: float) -> None:
        """The machine's date was corrected: `now` jumps, `monotonic` does not."""
        with self._lock:
            self._now = now
