"""Counters against floods: connections of one address, failed logins of an address and its network.

One client is one IPv4 address or one IPv6 /64: whoever has a /64 has all of its addresses. A window slides in twelfths:
no span of its length ever holds more than the limit, and what was counted is forgotten within 13/12 of it. (A window that
weighs its forerunner by what is left of it is smaller, and lets nearly twice the limit through after a burst.)
Memory is bounded: past `CAPACITY` keys a counter forgets the one that has been quiet longest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from mailserv.clock import DAY, Clock
from mailserv.mail.ip import network_of

MINUTE = 60.0  # seconds
CAPACITY = 20_000  # keys of one counter: some 10 MB when it is full
SLOTS = 12  # parts of a window
NETWORK_FACTOR = 3  # a /24 or /48 may fail three times as often as one address (docs/decisions/0013)


class SlidingCounter:
    """Counts events by key in the last `seconds`. Any thread."""

    def __init__(self, seconds: float, capacity: int = CAPACITY) -> None:
        self.seconds = seconds
        self._width = seconds / SLOTS
        self._capacity = capacity
        self._slots: OrderedDict[str, dict[int, int]] = OrderedDict()  # key → slot number → events
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._slots)

    def count(self, key: str, now: float) -> int:
        """How many in the `seconds` before `now` (monotonic)."""
        with self._lock:
            return self._count(key, now)

    def add(self, key: str, now: float) -> None:
        """One more at `now` (monotonic)."""
        with self._lock:
            self._add(key, now)

    def add_below(self, key: str, now: float, limit: int) -> bool:
        """One more unless there are `limit` already; whether it was counted. Check and count are one step."""
        with self._lock:
            if self._count(key, now) >= limit:
                return False
            self._add(key, now)
            return True

    def _count(self, key: str, now: float) -> int:
        slots = self._slots.get(key)
        if slots is None:
            return 0
        self._forget(slots, now)
        return sum(slots.values())

    def _forget(self, slots: dict[int, int], now: float) -> None:
        oldest = int(now // self._width) - SLOTS
        for number in [number for number in slots if number < oldest]:
            del slots[number]

    def _add(self, key: str, now: float) -> None:
        slots = self._slots.setdefault(key, {})
        if len(self._slots) > self._capacity:
            self._slots.popitem(last=False)
        self._forget(slots, now)
        number = int(now // self._width)
        slots[number] = slots.get(number, 0) + 1
        self._slots.move_to_end(key)


class ConnectionRate:
    """`[limits] connections_per_minute`. Any thread. `limit` may be set to another one: what was counted still counts."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        """`per_minute` 0: no limit."""
        self.limit = per_minute
        self._clock = clock
        self.counter = SlidingCounter(MINUTE)

    def allows(self, ip: str) -> bool:
        """Count a connection from `ip`; False (and not counted) when there were too many."""
        limit = self.limit
        return not limit or self.counter.add_below(client_key(ip), self._clock.monotonic(), limit)

    def describe(self, ip: str) -> dict[str, str | int]:
        """For a log line: who is counted, how many there were, how many there may be."""
        key = client_key(ip)
        count = self.counter.count(key, self._clock.monotonic())
        return {"client": key, "connections_per_minute": count, "limit": self.limit}


class LoginThrottle:
    """`[limits] failed_logins_per_minute` and `_per_day`: for an address, and three times that for its network.

    Ask `allows` before a password is looked at, tell `failed` after a wrong one; a good login costs nothing. Logins that
    are checked at the same time may overshoot by as many as there are sessions of one address. Any thread.
    """

    def __init__(self, per_minute: int, per_day: int, clock: Clock) -> None:
        """A limit of 0: no limit."""
        self._counters = SlidingCounter(MINUTE), SlidingCounter(DAY)
        self._clock = clock
        self.set_limits(per_minute, per_day)

    def set_limits(self, per_minute: int, per_day: int) -> None:
        """Others from now on: what was counted still counts."""
        limits = zip((per_minute, per_day), self._counters, strict=True)
        self._rules = tuple((limit, counter) for limit, counter in limits if limit)

    def allows(self, ip: str) -> bool:
        """Whether a login from `ip` may be tried now."""
        now = self._clock.monotonic()
        client, network = client_key(ip), network_key(ip)
        return all(
            counter.count(client, now) < limit and counter.count(network, now) < NETWORK_FACTOR * limit
            for limit, counter in self._rules
        )

    def failed(self, ip: str) -> None:
        """A login from `ip` has just failed."""
        now = self._clock.monotonic()
        for _, counter in self._rules:
            counter.add(client_key(ip), now)
            counter.add(network_key(ip), now)

    def describe(self, ip: str) -> dict[str, str | int]:
        """For a log line: how often the address and its network failed within each window that has a limit."""
        now = self._clock.monotonic()
        client, network = client_key(ip), network_key(ip)
        found: dict[str, str | int] = {"client": client, "network": network}
        for limit, counter in self._rules:
            name = "minute" if counter.seconds == MINUTE else "day"
            found[f"client_{name}"] = counter.count(client, now)
            found[f"network_{name}"] = counter.count(network, now)
            found[f"limit_{name}"] = limit
        return found


def client_key(ip: str) -> str:
    """Who counts as one client: an IPv4 address, an IPv6 /64. IPv4 in IPv6 clothes is IPv4; other text is itself."""
    return _key(ip, 32, 64)


def network_key(ip: str) -> str:
    """The network that is counted beside the client: /24 or /48."""
    return _key(ip, 24, 48)


def _key(ip: str, v4_bits: int, v6_bits: int) -> str:
    try:
        return str(network_of(ip, v4_bits, v6_bits))
    except ValueError:
        return f"{ip}/{v4_bits}"
