"""Queue ids: short, unique for good, and in the order of their making."""

from __future__ import annotations

import random
import threading

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # ten bits each


class QueueIds:
    """Makes 16-character ids: 48 bits of milliseconds, 12 of a counter, 20 at random (Crockford's alphabet, sortable).

    Two nodes or two processes that share a millisecond still differ by the random bits; within a process the counter
    tells ids apart. Any thread.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._counter = rng.getrandbits(12)

    def make(self, now: float) -> str:
        """A new id for a message received at `now` (seconds since the epoch)."""
        with self._lock:
            self._counter = (self._counter + 1) & 0xFFF
            rest = (self._counter << 20) | self._rng.getrandbits(20)
        time, pair, ten = int(now * 1000), _PAIRS, 0x3FF
        return (  # 80 bits, ten by ten: quicker than a loop, and each message has one
            f"{pair[time >> 38 & ten]}{pair[time >> 28 & ten]}{pair[time >> 18 & ten]}{pair[time >> 8 & ten]}"
            f"{pair[time << 2 & ten | rest >> 30]}{pair[rest >> 20 & ten]}{pair[rest >> 10 & ten]}{pair[rest & ten]}"
        )
