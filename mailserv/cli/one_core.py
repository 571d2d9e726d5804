"""Keeps the process on one core (docs/decisions/0018): several cores only fight over the one interpreter lock."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def stay_on_one_core(number: int) -> None:
    """The one that `number` leads to, whatever it is: every thread there is, and so each that they start. Main thread, early.

    Nothing happens on a Python without the lock, on one core, or where the system has no such call or refuses it.
    """
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    if not has_lock or not hasattr(os, "sched_setaffinity"):
        return
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return
    core = allowed[number % len(allowed)]
    try:
        for thread in Path("/proc/self/task").iterdir():
            os.sched_setaffinity(int(thread.name), {core})
    except OSError:
        return  # a container may forbid it: slower, and right all the same
