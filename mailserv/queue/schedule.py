"""When is the next attempt, and when is it enough? (RFC 5321 §4.5.4.1)

All times are seconds since the epoch; randomness is the caller's (invariant 9).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from mailserv.settings import Queue

JITTER = 0.1  # ±10 %: rows that were deferred together should not all come back in the same second


def next_attempt(
    received_at: float, attempts: int, now: float, retry: Sequence[float], give_up: float, rng: random.Random
) -> float | None:
    """When to try again after an attempt that ended `now`, or None: give up.

    `attempts` counts those that had ended before this one, so the first failure waits `retry[0]`; the last wait
    repeats. The very last attempt is made when the time to give up has come, not up to one long wait later.
    """
    expires = received_at + give_up
    if now >= expires:
        return None
    wait = retry[min(attempts, len(retry) - 1)] * rng.uniform(1 - JITTER, 1 + JITTER)
    return min(now + wait, expires)


def longest_wait(retry: Sequence[float]) -> float:
    """The longest time between two attempts."""
    return max(retry) * (1 + JITTER)


def give_up_after(settings: Queue, *, is_bounce: bool) -> float:
    """How long a message is tried: shorter for what comes from the null reverse-path, nobody waits for news of it."""
    return settings.bounce_give_up if is_bounce else settings.give_up


def delay_notice_due(received_at: float, now: float, delay_notice: float) -> bool:
    """Whether a message that still waits has done so long enough to tell its sender; `delay_notice` 0: never."""
    return 0 < delay_notice <= now - received_at


def not_past_notice(at: float, received_at: float, now: float, delay_notice: float) -> float:
    """Bring an attempt at `at` forward to the moment of the delay notice when that lies between: it tells fresh news."""
    notice_at = received_at + delay_notice
    return notice_at if delay_notice > 0 and now < notice_at < at else at
