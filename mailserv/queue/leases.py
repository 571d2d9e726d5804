"""The leases of the batches that are being worked on: opened, renewed, and swept when they have run out."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable

from mailserv.clock import Clock
from mailserv.store.interface import Store

LEASE = 600.0  # seconds; after a settlement that was lost, so long until the row is tried again
RENEW = LEASE / 3  # seconds: two renewals may fail before a living batch loses its rows


class Leases:
    """One owner for each batch ("node#7"), so that only batches that live are renewed. Any thread.

    A row that its batch could not settle (the disk was full) is left leased; some time after the batch has ended its
    lease has run out, and the sweep makes it ready. `kick(at)` is called when there is something to do at that time.
    """

    def __init__(self, store: Store, clock: Clock, node: str, kick: Callable[[float], None]) -> None:
        self._store = store
        self._clock = clock
        self._node = node
        self._kick = kick
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._renew_at: dict[str, float] = {}  # by owner, oldest first
        self._sweep_at: float | None = None
        self._closed_at = 0.0

    def open(self) -> str:
        """A new batch begins. The owner to claim with."""
        now = self._clock.now()
        with self._lock:
            owner = f"{self._node}#{next(self._numbers)}"
            self._renew_at[owner] = now + RENEW
        self._kick(now + RENEW)
        return owner

    def until(self) -> float:
        """When a claim made now runs out."""
        return self._clock.now() + LEASE

    def close(self, owner: str) -> None:
        """The batch has ended, whatever it left."""
        now = self._clock.now()
        with self._lock:
            self._renew_at.pop(owner, None)
        self._ended(now)

    def found(self) -> None:
        """At the start: rows are leased that no batch of this life has claimed, nor of a former one by this name."""
        self._ended(self._clock.now())

    def set_back(self) -> None:
        """The machine's date was set back: the times to renew and sweep are too late."""
        now = self._clock.now()
        with self._lock:
            self._renew_at = dict.fromkeys(self._renew_at, now)
            self._closed_at = min(self._closed_at, now)
            if self._sweep_at is not None:
                self._sweep_at = min(self._sweep_at, now + LEASE + 1)

    def next_at(self) -> float | None:
        """When `work` has something to do."""
        with self._lock:
            times = list(self._renew_at.values())
            if self._sweep_at is not None:
                times.append(self._sweep_at)
        return min(times, default=None)

    def _ended(self, now: float) -> None:
        with self._lock:
            self._closed_at = now
            is_first = self._sweep_at is None
            if is_first:
                self._sweep_at = now + LEASE + 1
        if is_first:
            self._kick(now + LEASE + 1)

    def work(self, now: float) -> int:
        """Renew and sweep what is due. How many rows came back. Raises StoreError; what is left is due again then."""
        with self._lock:
            due = [owner for owner, at in self._renew_at.items() if at <= now]
        for owner in due:
            self._store.renew(owner, now + LEASE)
            with self._lock:
                if owner in self._renew_at:
                    self._renew_at[owner] = now + RENEW
        if self._sweep_at is None or self._sweep_at > now:
            return 0
        back = self._store.reclaim("", now)
        with self._lock:
            again = self._closed_at + LEASE + 1  # a batch that ended since left leases that are younger
            self._sweep_at = again if again > now else None
        return back
