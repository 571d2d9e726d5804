"""The life of a queue row in one table: read by the workers, the tests, and docs/queue-states.md, which this module prints.

python -m mailserv.queue.state > docs/queue-states.md
"""

from __future__ import annotations

from enum import StrEnum

from mailserv.mail.queue_state import FINAL, State

__all__ = ["FINAL", "LEFT_BEHIND", "MEANING", "NEXT_STATE", "Event", "State", "after", "page"]


class Event(StrEnum):
    """What happens to a row."""

    CLAIM = "claim"
    DELIVER = "deliver"
    DEFER = "defer"
    FAIL = "fail"
    RETURN = "return"
    EXPIRE = "expire"
    DAMAGE = "damage"
    RETRY = "retry"
    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"
    BOUNCE = "bounce"
    REROUTE = "reroute"


NEXT_STATE: dict[tuple[State, Event], State] = {  # an absent pair does not happen, and changes nothing when asked for
    (State.READY, Event.CLAIM): State.CLAIMED,
    (State.READY, Event.RETRY): State.READY,
    (State.READY, Event.REROUTE): State.READY,
    (State.READY, Event.HOLD): State.HELD,
    (State.READY, Event.DROP): State.DROPPED,
    (State.READY, Event.BOUNCE): State.FAILED,
    (State.READY, Event.DAMAGE): State.QUARANTINED,
    (State.CLAIMED, Event.DELIVER): State.DONE,
    (State.CLAIMED, Event.DEFER): State.READY,
    (State.CLAIMED, Event.FAIL): State.FAILED,
    (State.CLAIMED, Event.RETURN): State.READY,
    (State.CLAIMED, Event.EXPIRE): State.READY,
    (State.HELD, Event.REROUTE): State.HELD,
    (State.HELD, Event.RELEASE): State.READY,
    (State.HELD, Event.DROP): State.DROPPED,
    (State.HELD, Event.BOUNCE): State.FAILED,
    (State.QUARANTINED, Event.REROUTE): State.QUARANTINED,
    (State.QUARANTINED, Event.RELEASE): State.READY,
    (State.QUARANTINED, Event.DROP): State.DROPPED,
    (State.QUARANTINED, Event.BOUNCE): State.FAILED,
}

MEANING: dict[State, str] = {
    State.READY: "waits until its time (`not_before`); the next free worker takes it then",
    State.CLAIMED: "leased to a worker, which is delivering it",
    State.HELD: "an operator keeps it back; no clock runs it",
    State.QUARANTINED: "its content can't be read; kept for an operator, an alert is in the log",
    State.DONE: "the next hop took responsibility (RFC 5321 §4.2.5); gone from the queue",
    State.FAILED: "refused for good or given up; its bounce, if one is due, was accepted in the same transaction",
    State.DROPPED: "an operator removed it; nobody is told",
}

LEFT_BEHIND: dict[State, str] = {  # what a crash (kill -9, power) leaves
    State.READY: "nothing changes; it is due when it was due",
    State.CLAIMED: "the next start makes it ready; if the remote's 250 was not yet marked, it is delivered again",
    State.HELD: "nothing changes",
    State.QUARANTINED: "nothing changes",
    State.DONE: "never delivered again: the mark is synced",
    State.FAILED: "never bounced again: mark and bounce are one transaction",
    State.DROPPED: "stays dropped",
}

CAUSE: dict[Event, str] = {
    Event.CLAIM: "a worker took it, under a lease",
    Event.DELIVER: "2xx to the end of data, for this recipient",
    Event.DEFER: "4xx, no connection, DNS trouble: again at the next time of the schedule",
    Event.FAIL: "5xx, or a transient failure after `give_up`",
    Event.RETURN: "the attempt never came to it; the attempt does not count",
    Event.EXPIRE: "its lease ran out, or its node started anew",
    Event.DAMAGE: "reading its content failed while it was being claimed",
    Event.RETRY: "`mailserv queue retry`: due now",
    Event.HOLD: "`mailserv queue hold`",
    Event.RELEASE: "`mailserv queue release`",
    Event.DROP: "`mailserv queue drop`",
    Event.REROUTE: "`mailserv queue reroute`: another way out by the settings as they are now; due now",
    Event.BOUNCE: "`mailserv queue bounce`: given up by an operator, with its bounce in the same transaction",
}


def after(state: State, event: Event) -> State:
    """The state that follows. Raises KeyError for a pair that does not happen."""
    return NEXT_STATE[state, event]


def page() -> str:
    """docs/queue-states.md."""
    lines = [
        "# The states of a queue row",
        "",
        "Printed from `mailserv/queue/state.py` by `python -m mailserv.queue.state`; a test holds this page against it.",
        "A row is one recipient of one message. It is in exactly one state, and every change is one synced transaction.",
        "",
        "| state | meaning | what a crash leaves |",
        "|---|---|---|",
        *(f"| {state} | {MEANING[state]} | {LEFT_BEHIND[state]} |" for state in State),
        "",
        "| from | event | to | because |",
        "|---|---|---|---|",
        *(f"| {state} | {event} | {to} | {CAUSE[event]} |" for (state, event), to in NEXT_STATE.items()),
        "",
        "A new row is ready. Done, failed and dropped rows have left the queue; the message's trace remembers them.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
