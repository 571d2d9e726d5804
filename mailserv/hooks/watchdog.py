"""Looks after the rounds that are being called: a call that overruns its budget loses its round to another thread.

It reads no clock but counts its own waits: a call that was at work at so many looks in a row has been at work for longer
than that (docs/decisions/0004).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailserv.hooks.implementation import Implementation
from mailserv.hooks.round import Asking, Round
from mailserv.net.threads import SessionThreads

LOOKS = 4  # in the shortest budget: how much longer than its budget a call may take is that part of it
LEAST_WAIT, MOST_WAIT = 0.01, 1.0  # seconds between two looks


@dataclass(frozen=True, slots=True)
class Turn:
    """Who goes on with `asking`: `thread`, one of `threads`."""

    asking: Asking[Any]
    threads: SessionThreads
    thread: int


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
        self._is_looking = False
        self._called: dict[Round, Turn] = {}

    def call(self, round_: Round, turn: Turn) -> bool:
        """Call it here and watch. False: this thread has lost it, and with it whatever else it was about to do."""
        self._called[round_] = turn
        if not self._is_looking:
            self._look_from_now_on()
        is_ours = True
        try:
            is_ours = round_.call()
        finally:
            if is_ours:
                del self._called[round_]
        return is_ours

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _look_from_now_on(self) -> None:
        with self._lock:
            if self._is_looking:
                return
            self._is_looking = True
        try:
            self._threads.run(self._look)
        except RuntimeError:  # can't start new thread: the next call tries again
            self._is_looking = False

    def _look(self) -> None:
        """On a thread of its own, until it finds no call. A call is entered before it is asked whether somebody looks, here
        that is put down before it is asked whether there is a call: at least one of both sees the other."""
        waited: dict[Round, tuple[Implementation | None, float]] = {}
        while not self._closed.wait(self._wait):
            waited = {round_: self._seen(round_, turn, waited) for round_, turn in list(self._called.items())}
            if waited:
                continue
            self._is_looking = False
            if not self._called:
                return
            with self._lock:
                if self._is_looking:
                    return
                self._is_looking = True

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
