"""Implementations that may wait are called on a thread of their own, so that who waits for them can stop waiting.

A Python thread cannot be killed: a call over its budget is abandoned, its thread ends whenever the call does
(docs/decisions/0015).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mailserv.hooks.implementation import Implementation

Take = Callable[[Implementation, Any], bool]
"""Gets each settled answer that is not None in turn; True: ask no more of them."""


class Handover:
    """One hand-over of some implementations to a helper's thread, which runs this object; the owner calls `wait`."""

    __slots__ = ("_abandoned", "_arguments", "_at", "_done", "_implementations", "_lock", "_take", "stopped")

    def __init__(self, implementations: Sequence[Implementation], arguments: Mapping[str, Any], take: Take) -> None:
        """`take` runs on the helper's thread, and never after `wait` has returned."""
        self._implementations = implementations
        self._arguments = arguments
        self._take = take
        self._lock = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self._at = 0
        self._abandoned = False
        self.stopped = False

    def __call__(self) -> None:
        """On the helper's thread."""
        try:
            for at, implementation in enumerate(self._implementations):
                self._at = at
                result = implementation.attempt(self._arguments)
                with self._lock:
                    if self._abandoned:
                        implementation.returned_late()
                        return
                    self._at = at + 1
                    answer = implementation.settle(result)
                    if answer is not None and self._take(implementation, answer):
                        self.stopped = True
                        return
        finally:
            self._done.release()

    def wait(self) -> int | None:
        """None when all is done, else the index of the one that has overrun its budget, and nothing comes after it.

        Each has at least its budget. One that begins while another one's is waited for may have up to twice of it:
        the owner wakes up only when a budget has run out, not between two of them.
        """
        watched = 0
        last = len(self._implementations) - 1
        while not self._done.acquire(timeout=self._implementations[watched].budget):
            with self._lock:
                at = min(self._at, last)
                if at == watched and self._at <= last:
                    self._abandoned = True
                    return at
                watched = at
        return None
