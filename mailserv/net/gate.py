"""Who may have a session: limits in all and for each address, and making room when all are taken."""

from __future__ import annotations

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from mailserv import metrics
from mailserv.clock import Clock
from mailserv.mail import reply
from mailserv.mail.reply import Reply
from mailserv.net.census import Census, Seat
from mailserv.net.connection import Connection

SHED_AFTER = 5.0  # seconds: a session that has done nothing for so long may lose its place to a new one
STALLED_AFTER = 120.0  # seconds: the same for one that has begun MAIL, and of which no content has come to its end
STRESS_SHARE = 0.8  # of all places taken: from then on waits for a command are short (docs/decisions/0013)


class Place:
    """One session's place. `known`: it has logged in; `engaged`: it has begun MAIL; `busy`: a transaction is running;
    `in_content`: its content is; `contents`: how many have come to their end, each chunk counted.

    Written by the session's thread; read by the gate's. Each field is one word, and `ask_to_leave` and `begin` follow
    an order (write one's own, then read the other's) in which at least one of both sees the other. The gate's own notes:
    `seen` and `moved`, the contents when it last looked, and when there were fewer.
    """

    __slots__ = (
        "busy",
        "connection",
        "contents",
        "engaged",
        "give_up",
        "in_content",
        "ip",
        "known",
        "leave_with",
        "moved",
        "seen",
        "service",
        "since",
    )

    def __init__(
        self, ip: str, service: str, since: float, connection: Connection, give_up: Callable[[Place], None]
    ) -> None:
        self.give_up = give_up
        self.ip = ip
        self.service = service
        self.since = since
        self.connection = connection
        self.known = self.engaged = False
        self.busy = self.in_content = False
        self.contents = self.seen = 0
        self.moved = since
        self.leave_with: Reply | None = None

    def begin(self) -> Reply | None:
        """A transaction starts; the reply to refuse it with when the session has been asked to leave."""
        self.engaged = True
        self.busy = True
        if self.leave_with is not None:
            self.busy = False
        return self.leave_with

    def end(self) -> None:
        """The transaction is over; the session loop looks at `leave_with` next."""
        self.busy = False
        if self.in_content:
            self.content_ended()

    def content_ended(self) -> None:
        """A message's, or a chunk's."""
        self.in_content = False
        self.contents += 1

    def vacate(self) -> None:
        """At the end, or before the last reply: whoever reads it may come back faster than this thread ends. Idempotent."""
        self.give_up(self)

    def ask_to_leave(self, farewell: Reply, *, before_content: bool = False) -> None:
        """An idle session wakes up and says `farewell`; a busy one does so when its transaction is over. Any thread.

        `before_content`: a transaction whose content has not begun is cut short.
        """
        self.leave_with = farewell
        if not (self.in_content if before_content else self.busy):
            self.connection.interrupt()

    def is_stalled(self, now: float) -> bool:
        """Neither comes content, nor has any for long: whoever is there for mail has sent some by now. The gate's."""
        if self.contents != self.seen:
            self.seen, self.moved = self.contents, now
        return not self.in_content and now - self.moved >= STALLED_AFTER


@dataclass(frozen=True, slots=True)
class GateLimits:
    """`sessions` in all; `per_ip` at once from one address (0: no limit)."""

    sessions: int
    per_ip: int


class Gate:
    """Counts the sessions of one kind (SMTP, or POP3). Any thread; every method is quick."""

    def __init__(
        self,
        limits: GateLimits,
        clock: Clock,
        is_over_rate: Callable[[str], bool] = lambda _: False,
        seat: Seat | None = None,
    ) -> None:
        """`seat`: where other processes tell of their sessions, which count against the same limits."""
        self.limits = limits
        self._seat = seat or Census().of(0)
        self._clock = clock
        self._is_over_rate = is_over_rate
        self._lock = threading.Lock()
        self._places: dict[Place, None] = {}  # in the order of their coming
        self._per_ip: dict[str, int] = {}
        self._draining = False
        self.services: set[str] = set()
        """Whose sessions it counts: those without one are told of, too."""
        metrics.SESSIONS.ask(self.sessions)

    def enter(self, ip: str, connection: Connection, service: str) -> Place | Reply:
        """A place, or the reply to refuse with. When all places are taken, the oldest idle session must leave for the new."""
        key = _per_ip_key(ip)
        now = self._clock.monotonic()
        with self._lock:
            if self._draining:
                return reply.SHUTTING_DOWN
            seat = self._seat
            if self.limits.per_ip and self._per_ip.get(key, 0) + seat.elsewhere_of(key) >= self.limits.per_ip:
                return reply.TOO_MANY_SESSIONS
            if self._is_over_rate(ip):
                return reply.TOO_MANY_SESSIONS
            if len(self._places) + seat.elsewhere() >= self.limits.sessions and not self._shed(now):
                return reply.TOO_MANY_SESSIONS
            place = Place(key, service, now, connection, self.leave)
            self._places[place] = None
            self._per_ip[key] = self._per_ip.get(key, 0) + 1
            seat.tell(len(self._places), key, 1)
            return place

    def leave(self, place: Place) -> None:
        """The session has ended. Idempotent."""
        with self._lock:
            if place in self._places:
                self._forget(place)

    def sessions(self) -> dict[str, int]:
        """How many there are, by service."""
        with self._lock:
            there = Counter([place.service for place in self._places])
        return dict.fromkeys(self.services, 0) | there

    @property
    def is_stressed(self) -> bool:
        """So many places are taken that nobody should wait long."""
        return len(self._places) + self._seat.elsewhere() >= self.limits.sessions * STRESS_SHARE

    def drain(self, farewell: Reply) -> None:
        """Nobody enters any more; idle sessions leave now, busy ones after their transaction."""
        with self._lock:
            self._draining = True
            places = list(self._places)
        for place in places:
            place.ask_to_leave(farewell)

    def abort(self) -> None:
        """Break every connection that is still there."""
        with self._lock:
            places = list(self._places)
        for place in places:
            place.connection.abort()

    def _shed(self, now: float) -> bool:
        """Give somebody new the place of the oldest session that neither logged in nor began MAIL; if there is none, of the
        oldest that began it and does not go on (docs/lessons.md 7)."""
        stalled = None
        for place in self._places:
            if now - place.since < SHED_AFTER:
                break
            if not place.engaged and not place.known:
                self._forget(place)
                place.ask_to_leave(reply.TOO_MANY_SESSIONS)
                return True
            if stalled is None and not place.known and place.is_stalled(now):
                stalled = place
        if stalled is None:
            return False
        self._forget(stalled)
        stalled.ask_to_leave(reply.TOO_MANY_SESSIONS, before_content=True)
        return True

    def _forget(self, place: Place) -> None:
        del self._places[place]
        self._seat.tell(len(self._places), place.ip, -1)
        left = self._per_ip[place.ip] - 1
        if left:
            self._per_ip[place.ip] = left
        else:
            del self._per_ip[place.ip]


def _per_ip_key(ip: str) -> str:
    """IPv6 clients are counted by /64: one customer has a whole one."""
    if ":" not in ip:
        return ip
    return str(ipaddress.ip_network((ip, 64), strict=False))
