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


DAY = 86_400.0  # seconds


class DateWatch:
    """Whether the machine's date may be wrong, for what cannot be undone. Any thread, each look is quick.

    When it has gone more than a day ahead at once it is in doubt for a day, in which somebody can put it right.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead = clock.now() - clock.monotonic()  # of a clock that is never set
        self._trusted_from = 0.0  # monotonic
        self.days = 0.0
        """How far it went when it was last in doubt."""

    def is_in_doubt(self) -> bool:
        monotonic = self._clock.monotonic()
        before, self._ahead = self._ahead, self._clock.now() - monotonic
        if self._ahead > before + DAY:
            self.days = round((self._ahead - before) / DAY, 1)
            self._trusted_from = monotonic + DAY
        return monotonic < self._trusted_from
