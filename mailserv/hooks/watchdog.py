"""Looks after the rounds that are being called: a call that overruns its budget loses its round to another thread.

It reads no clock but counts its own waits: a call that was at work at so many looks in a row has been at work for longer
than that (docs/decisions/0004).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mailserv.hooks.implementation import Implementation
from mailserv.hooks.round import Asking, Round
from mailserv.net.threads import SessionThreads

LOOKS = 4  # in the shortest budget: how much longer than its budget a call may take is that part of it
LEAST_WAIT, MOST_WAIT = 0.01, 1.0  # seconds between two looks


class Turn:
    """Who goes on with `asking`: `thread`, one of `threads`. `round` is what it calls now."""

    __slots__ = ("asking", "round", "thread", "threads")

    def __init__(self, asking: Asking[Any], threads: SessionThreads, thread: int) -> None:
        self.asking = asking
        self.threads = threads
        self.thread = thread
        self.round: Round | None = None


TakeOver = Callable[[Turn, Round, Implementation], None]
"""Runs on a new thread of the turn's: the call that hangs may have returned by then."""


class Watchdog:
    """Any thread. A thread of `threads` looks while rounds are being called, and none while there are none."""

    def __init__(self, threads: SessionThreads, shortest: float, take_over: TakeOver) -> None:
        """`shortest`: of all budgets, in seconds."""
        self._threads = threads
        self._wait = min(max(shortest / LOOKS, LEAST_WAIT), MOST_WAIT)
        self._take_over = take_over
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._turns: dict[Turn, bool] = {}
        self.is_looking = False
        """Whoever calls a round sets its turn's first, and has somebody `look` when nobody does."""

    def enter(self, turn: Turn) -> None:
        """From now on its rounds are watched."""
        self._turns[turn] = True

    def leave(self, turn: Turn) -> None:
        """Watch it no more. Idempotent."""
        self._turns.pop(turn, None)

    def look(self) -> None:
        """From now on, on a thread of its own."""
        with self._lock:
            if self.is_looking:
                return
            self.is_looking = True
        try:
            self._threads.run(self._look)
        except RuntimeError:  # can't start new thread: the next call tries again
            self.is_looking = False

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _look(self) -> None:
        """On a thread of its own, until it finds no call. A round is set before it is asked whether somebody looks, here
        that is put down before it is asked whether there is a round: at least one of both sees the other."""
        waited: dict[Round, tuple[Implementation | None, float]] = {}
        while not self._closed.wait(self._wait):
            waited = {round_: self._seen(round_, turn, waited) for round_, turn in self._called()}
            if waited:
                continue
            self.is_looking = False
            if not self._called():
                return
            with self._lock:
                if self.is_looking:
                    return
                self.is_looking = True

    def _called(self) -> list[tuple[Round, Turn]]:
        return [(round_, turn) for turn in list(self._turns) if (round_ := turn.round) is not None]

    def _seen(
        self, round_: Round, turn: Turn, waited: dict[Round, tuple[Implementation | None, float]]
    ) -> tuple[Implementation | None, float]:
        """Who is at work there and for how many seconds at least, after all that must be done about it."""
        at = round_.at
        before, seconds = waited.get(round_, (None, 0.0))
        if at is None or at is not before:
            return at, 0.0
        seconds += self._wait
        if seconds >= at.budget:
            try:
                turn.threads.run(lambda: self._take_over(turn, round_, at))
            except RuntimeError:  # can't start new thread: the next look tries again
                return at, seconds
            return at, float("-inf")  # once is enough
        return at, seconds
