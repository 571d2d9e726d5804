"""Which destination is next: a lane for each destination that has work, in memory only; the truth is in the store.

A monitor without threads of its own. Workers wait in `take`, the dispatcher waits in `sleep`, the store's writer calls
`queued`. Every method is quick and may be called from any thread; a `Lane` is read and written under the monitor's lock.
All times are `clock.now()` seconds since the epoch, as in the store.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from mailserv.clock import Clock
from mailserv.mail.route import Route

MOST_CONNECTIONS = 5  # at once to one destination, however well it goes (docs/decisions/0013)
LONGEST_NAP = 600.0  # seconds; the machine's date may be set while we sleep for a row that is due
TROUBLED_SHARE = 4  # one worker in so many is kept for destinations that are not known to be in trouble


class Turn(Enum):
    """How a worker's turn with a destination went."""

    QUIET = auto()  # nothing to learn from: there was nothing to do, or we are stopping
    GOOD = auto()  # mail went out
    FULL = auto()  # so much mail went out that one more connection may be worth it
    STUMBLED = auto()  # it stopped without a reason that speaks for the whole destination
    TROUBLED = auto()  # 421, no connection, DNS trouble, or very slow: one connection at a time


@dataclass(slots=True, eq=False)
class Lane:
    """One destination. `due`: when its next row is, None: not known of any; `news` counts what may have changed that."""

    route: Route
    allowed: int
    due: float | None = None
    paused_until: float = 0.0
    running: int = 0
    waiting: bool = False
    scheduled: float | None = None
    news: int = 0
    stumbles: int = 0
    troubled: bool = False


class Lanes:
    """The order in which destinations get workers: first come, first served, each at most `allowed` workers at once.

    A destination never gets all workers, and the ones in trouble never get all together: a dead host with 10,000
    messages, or 50 dead hosts, delay nobody else's mail.
    """

    def __init__(self, clock: Clock, *, workers: int, connections: int) -> None:
        self._clock = clock
        self._workers = workers
        self._set_most(connections)
        self._troubled_most = max(workers - max(workers // TROUBLED_SHARE, 1), 1)
        self._troubled_running = 0
        self._idle = 0
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._timer = threading.Condition(self._lock)
        self._lanes: dict[Route, Lane] = {}
        self._waiting: deque[Lane] = deque()
        self._schedule: list[tuple[float, int, Lane]] = []
        self._ticket = itertools.count()
        self._asleep_until: float | None = None
        self._kicked = False
        self._stopping = False

    def reload(self, connections: int) -> None:
        """So many connections to a destination to begin with; who has more by now may not get further ones."""
        with self._lock:
            self._set_most(connections)
            for lane in list(self._lanes.values()):
                begun = 1 if lane.troubled else self._begin
                lane.allowed = min(max(lane.allowed, begun), self._most)
                self._settle(lane, self._clock.now())

    # what the store says

    def queued(self, routes: Iterable[Route]) -> None:
        """These destinations got rows that are due now. On the store's writer thread, after its commit."""
        now = self._clock.now()
        with self._lock:
            for route in routes:
                self._note(self._lane(route), now, now)

    def load(self, destinations: Iterable[tuple[Route, float]], *, end_pauses: bool = False) -> None:
        """What the store holds, at the start or after others changed it. `end_pauses`: try dead destinations again, too."""
        now = self._clock.now()
        with self._lock:
            for route, due in destinations:
                lane = self._lane(route)
                if end_pauses:
                    lane.paused_until = 0.0
                self._note(lane, due, now)

    # a worker's turn

    def take(self) -> Lane | None:
        """Wait for a destination with due rows and room for one more worker. None: stop."""
        with self._lock:
            while not self._stopping:
                lane = self._next()
                if lane is not None:
                    return lane
                self._idle += 1
                self._work.wait()
                self._idle -= 1
            return None

    def news(self, lane: Lane) -> int:
        """To be read before a claim and given to `claimed` after it."""
        with self._lock:
            return lane.news

    def claimed(self, lane: Lane, news: int, next_due: float | None) -> None:
        """A claim told when the next row is due. It may be older than what was heard since; then the earlier one counts."""
        with self._lock:
            if lane.news == news:
                lane.due = next_due
            else:
                lane.due = _earlier(lane.due, next_due)
            self._settle(lane, self._clock.now())

    def due_again(self, lane: Lane, at: float) -> None:
        """Rows of this destination went back to the store and are due then."""
        with self._lock:
            self._note(lane, at, self._clock.now())

    def pause(self, lane: Lane, until: float) -> None:
        """The destination is dead: no worker before then, whatever is due."""
        with self._lock:
            lane.paused_until = until

    def may_go_on(self, lane: Lane) -> bool:
        """Whether a worker may claim more for its destination: no other waits for a worker, no pause, no stop."""
        with self._lock:
            crowded = not self._idle and any(other is not lane for other in self._waiting)
            return not self._stopping and not crowded and lane.paused_until <= self._clock.now()

    def release(self, lane: Lane, turn: Turn) -> None:
        """A worker is done with this destination."""
        with self._lock:
            lane.running -= 1
            self._troubled_running -= lane.troubled
            self._learn(lane, turn)
            self._settle(lane, self._clock.now())
            if self._waiting:
                self._work.notify()  # one that the cap on troubled destinations held back may go now

    # the dispatcher

    def sleep(self, until: float | None) -> bool:
        """Wait until a destination falls due, `until`, or a kick; what is due is then open to workers. False: stop."""
        with self._lock:
            now = self._clock.now()
            self._promote(now)
            wake = _earlier(min(self._schedule[0][0], now + LONGEST_NAP) if self._schedule else None, until)
            if not self._stopping and not self._kicked and (wake is None or wake > now):
                self._asleep_until = wake
                self._timer.wait(None if wake is None else wake - now)
                self._asleep_until = None
                self._promote(self._clock.now())
            self._kicked = False
            return not self._stopping

    def kick(self, before: float | None = None) -> None:
        """Let `sleep` return: now, or only if it would sleep past `before`."""
        with self._lock:
            if before is None or self._asleep_until is None or self._asleep_until > before:
                self._kicked = True
                self._timer.notify()

    @property
    def is_stopping(self) -> bool:
        """Nobody gets new work."""
        return self._stopping

    def stop(self) -> None:
        """Wake everybody; `take` gives nothing and `sleep` is False from now on."""
        with self._lock:
            self._stopping = True
            self._work.notify_all()
            self._timer.notify_all()

    # under the lock

    def _set_most(self, connections: int) -> None:
        """Who wants a single connection never gets a second one."""
        most = max(MOST_CONNECTIONS, connections) if connections > 1 else 1
        self._most = min(most, max(self._workers - 1, 1))
        self._begin = min(connections, self._most)

    def _lane(self, route: Route) -> Lane:
        lane = self._lanes.get(route)
        if lane is None:
            lane = self._lanes[route] = Lane(route, self._begin)
        return lane

    def _note(self, lane: Lane, due: float, now: float) -> None:
        lane.news += 1
        lane.due = _earlier(lane.due, due)
        self._settle(lane, now)

    def _settle(self, lane: Lane, now: float) -> None:
        """Put the lane where it belongs: among the waiting, on the schedule, or nowhere (forgotten until there is news)."""
        if lane.due is None:
            if not lane.running and not lane.waiting and self._lanes.get(lane.route) is lane:
                del self._lanes[lane.route]
            return
        at = max(lane.due, lane.paused_until)
        if at > now:
            self._set_alarm(lane, at)
        elif lane.running < lane.allowed and not lane.waiting:
            lane.waiting = True
            self._waiting.append(lane)
            self._work.notify()

    def _set_alarm(self, lane: Lane, at: float) -> None:
        if lane.scheduled is not None and lane.scheduled <= at:
            return  # the earlier alarm will look again
        lane.scheduled = at
        heapq.heappush(self._schedule, (at, next(self._ticket), lane))
        if self._asleep_until is None or at < self._asleep_until:
            self._timer.notify()

    def _promote(self, now: float) -> None:
        while self._schedule and self._schedule[0][0] <= now:
            at, _, lane = heapq.heappop(self._schedule)
            if lane.scheduled == at:  # else a later alarm that an earlier one replaced
                lane.scheduled = None
                self._settle(lane, now)

    def _next(self) -> Lane | None:
        now = self._clock.now()
        for _ in range(len(self._waiting)):
            lane = self._waiting.popleft()
            if lane.paused_until > now or lane.due is None or lane.running >= lane.allowed:
                lane.waiting = False  # overtaken by events
                self._settle(lane, now)
            elif lane.troubled and self._troubled_running >= self._troubled_most:
                self._waiting.append(lane)
            else:
                return self._hand_out(lane)
        return None

    def _hand_out(self, lane: Lane) -> Lane:
        lane.waiting = False
        lane.due = None  # what is due next, the claim will tell
        lane.running += 1
        self._troubled_running += lane.troubled
        return lane

    def _learn(self, lane: Lane, turn: Turn) -> None:
        match turn:
            case Turn.GOOD | Turn.FULL:
                lane.stumbles = 0
                self._mark(lane, troubled=False)
                if turn is Turn.FULL:
                    lane.allowed = min(lane.allowed + 1, self._most)
            case Turn.STUMBLED:
                lane.stumbles += 1
            case Turn.TROUBLED:
                lane.stumbles = 0
                lane.allowed = 1
                self._mark(lane, troubled=True)

    def _mark(self, lane: Lane, *, troubled: bool) -> None:
        self._troubled_running += lane.running * (troubled - lane.troubled)
        lane.troubled = troubled


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
