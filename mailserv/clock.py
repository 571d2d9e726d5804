"""Time is read only here (invariant 9), so that a test can own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where the server reads time. Any thread."""

    def now(self) -> float:
        """Seconds since the epoch, UTC: for anything that is stored or shown."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back: for deadlines and durations inside one process."""
        ...


class SystemClock:
    """The machine's clock."""

    now = staticmethod(time.time)  # not methods that call them: each session asks some twenty times
    monotonic = staticmethod(time.monotonic)
