"""The words for what a queue row is: in the store, in the queue's table (queue/state.py) and in an operator's output."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Every row is in exactly one (invariant 2). The last three end it: such a row has left the queue."""

    READY = "ready"
    CLAIMED = "claimed"
    HELD = "held"
    QUARANTINED = "quarantined"
    DONE = "done"
    FAILED = "failed"
    DROPPED = "dropped"


FINAL = frozenset({State.DONE, State.FAILED, State.DROPPED})
