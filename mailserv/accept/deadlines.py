"""How long a session waits for its client (RFC 5321 §4.5.3.2.7, docs/lessons.md 7): absolute moments, not waits that renew."""

from __future__ import annotations

from mailserv.clock import Clock
from mailserv.settings import Limits

STRESS_TIMEOUT = 10.0  # seconds for a stranger's command while nearly all places are taken (docs/decisions/0013)
SLOWEST = 1024.0  # octets of content a second, on average: slower is somebody who only holds a place


class Deadlines:
    """Of one session. The session's thread."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._started = clock.monotonic()
        self._ends = self._started + limits.session_timeout
        self._command_ends = 0.0
        self.is_answered = True
        """To be set when something was answered: the wait for a command starts anew."""
        self._content_began = 0.0

    @property
    def age(self) -> float:
        """Seconds since the session began."""
        return self._clock.monotonic() - self._started

    def command(self, *, under_stress: bool) -> float:
        """Seconds until the next command must be here: until the same moment however often it is asked, until something
        was answered."""
        now = self._clock.monotonic()
        if self.is_answered:
            self.is_answered = False
            timeout = self._limits.command_timeout
            wait = min(STRESS_TIMEOUT, timeout) if under_stress else timeout
            self._command_ends = min(now + wait, self._ends)
        return self._command_ends - now

    def content(self, received: int) -> float:
        """Seconds until the next block of content must be here, `received` octets being here."""
        now = self._clock.monotonic()
        slowest = self._content_began + self._limits.data_timeout + received / SLOWEST
        return min(now + self._limits.data_timeout, slowest, self._ends) - now

    def content_begins(self) -> None:
        """A 354 is on its way, or a chunk is."""
        self._content_began = self._clock.monotonic()
