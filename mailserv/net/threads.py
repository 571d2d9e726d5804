"""Session threads that are used again: starting one costs more than a whole SMTP transaction."""

from __future__ import annotations

import threading
from collections.abc import Callable

Job = Callable[[], None]
IDLE_SECONDS = 60.0  # an idle thread waits this long for work, then ends


class _Worker:
    """One thread and the slot through which it gets its next job. `ready` is held while there is none."""

    def __init__(self) -> None:
        self.ready = threading.Lock()
        self.ready.acquire()
        self.job: Job | None = None


class SessionThreads:
    """Runs each job on a thread of its own, taking the thread that became idle last when there is one. Any thread."""

    def __init__(self, name: str, idle_seconds: float = IDLE_SECONDS) -> None:
        self._name = name
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._count = 0
        self._lost: set[int] = set()
        self._closed = False
        self._none_left = threading.Condition(self._lock)

    def run(self, job: Job) -> None:
        """Start `job` at once. Raises RuntimeError when the system can't start another thread."""
        with self._lock:
            if self._idle:
                worker = self._idle.pop()
                worker.job = job
                worker.ready.release()
                return
            self._count += 1
        worker = _Worker()
        worker.job = job
        thread = threading.Thread(target=self._work, args=(worker,), name=self._name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._ended()
            raise

    def write_off(self, thread: int) -> None:
        """Another thread does what this one was doing: nobody waits for it until its job returns. `thread`: its ident."""
        with self._lock:
            if thread not in self._lost:
                self._lost.add(thread)
                self._count -= 1

    def count_again(self, thread: int) -> None:
        """It was not lost after all, or is back."""
        with self._lock:
            self._found(thread)

    @property
    def idle(self) -> int:
        """Threads that wait for work now."""
        with self._lock:
            return len(self._idle)

    def close(self, timeout: float) -> bool:
        """End the idle threads; wait for the busy ones. True when all have ended in time."""
        with self._lock:
            self._closed = True
            for worker in self._idle:
                worker.ready.release()
            self._idle.clear()
            return self._none_left.wait_for(lambda: self._count == 0, timeout)

    def _work(self, worker: _Worker) -> None:
        try:
            while worker.job is not None:
                worker.job()
                worker.job = None
                with self._lock:
                    self._found(threading.get_ident())
                    if self._closed:
                        return
                    self._idle.append(worker)
                if not worker.ready.acquire(timeout=self._idle_seconds):
                    with self._lock:
                        if worker in self._idle:
                            self._idle.remove(worker)
                            return
                    worker.ready.acquire()  # a job was put in the slot just as the wait ended
        finally:
            self._ended()

    def _found(self, thread: int) -> None:
        if thread in self._lost:
            self._lost.remove(thread)
            self._count += 1

    def _ended(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count == 0:
                self._none_left.notify_all()
