"""Queue ids: short, unique for good, and in the order of their making."""

from __future__ import annotations

import base64
import random
import threading

_ALPHABET = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789ABCDEFGHJKMNPQRSTVWXYZ")


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
            number = (int(now * 1000) << 32) | (self._counter << 20) | self._rng.getrandbits(20)
        return base64.b32encode(number.to_bytes(10, "big")).translate(_ALPHABET).decode("ascii")
