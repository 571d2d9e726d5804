"""Which cores a thread runs on (docs/decisions/0018): several cores only fight over the one interpreter lock."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

_CAN_CHOOSE = hasattr(os, "sched_setaffinity")
_STARTED_ON = frozenset(os.sched_getaffinity(0)) if _CAN_CHOOSE else frozenset()


def stay_on_one_core(number: int) -> None:
    """The one that `number` leads to, whatever it is: every thread there is, and so each that they start. Main thread, early.

    Nothing happens on a Python without the lock, on one core, or where the system has no such call or refuses it.
    """
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    if not has_lock or not _CAN_CHOOSE:
        return
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return
    core = allowed[number % len(allowed)]
    with suppress(OSError):  # a container may forbid it: slower, and right all the same
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})


def roam() -> None:
    """Let the calling thread run on every core that the process was started on: for long work in C that does without the
    interpreter's lock."""
    if _CAN_CHOOSE:
        with suppress(OSError):
            os.sched_setaffinity(0, _STARTED_ON)
