"""Which cores a thread runs on, and when (docs/decisions/0018): threads that share a lock should not run at each other."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

_CAN_CHOOSE = hasattr(os, "sched_setaffinity")
_STARTED_ON = frozenset(os.sched_getaffinity(0)) if _CAN_CHOOSE else frozenset()

# Of nice(2): a quarter of the core when others want all of it, and behind them where it is worth a moment's wait.
_BEHIND = 5
_together = threading.Event()  # set: the threads share a core

# M_ARENA_MAX; M_MMAP_THRESHOLD, so that argon2id's 19 MiB go back to the system at once, but no block of content does;
# M_TRIM_THRESHOLD, so that the heap does not shrink and grow with each burst of answers.
_HEAP = {-8: 1, -3: 4 * 1024 * 1024, -1: 8 * 1024 * 1024}


def stay_on_one_core(number: int) -> None:
    """The one that `number` leads to, whatever it is: every thread there is, and so each that they start. Main thread, early.

    There a thread that wakes up waits until the running one waits (SCHED_BATCH, sched(7)): at once it would only find
    the lock taken, and go back to sleep. And they share one heap, since hardly two of them are in C at once. So it is also
    where there is but one core. Nothing happens on a Python without the lock, or where the system has no such call or
    refuses it.
    """
    has_lock = getattr(sys, "_is_gil_enabled", lambda: True)()
    if not has_lock or not _CAN_CHOOSE:
        return
    _together.set()
    _share_one_heap()
    allowed = sorted(os.sched_getaffinity(0))
    core = allowed[number % len(allowed)]
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # a container may forbid it: slower, and right all the same
            os.sched_setaffinity(int(thread.name), {core})
        with suppress(OSError):
            if os.sched_getscheduler(int(thread.name)) == os.SCHED_OTHER:  # else the operator has chosen
                os.sched_setscheduler(int(thread.name), os.SCHED_BATCH, os.sched_param(0))


def let_others_first() -> None:
    """Have the calling thread run after those that share its core, if they want to run now: for one that does better the
    more the others have handed to it. It still gets a quarter of a core that is busy. Nothing happens where no core is shared.
    """
    if _together.is_set():
        with suppress(OSError):
            own = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, own, os.getpriority(os.PRIO_PROCESS, own) + _BEHIND)


def _share_one_heap() -> None:
    """glibc gives many threads a heap of their own, of which each keeps what it once needed (mallopt(3))."""
    with suppress(OSError, AttributeError):  # another C library: as it does
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _HEAP.items():
            mallopt(parameter, value)


def roam() -> None:
    """Let the calling thread run on every core that the process was started on: for long work in C that does without the
    interpreter's lock."""
    if _CAN_CHOOSE:
        with suppress(OSError):
            os.sched_setaffinity(0, _STARTED_ON)
