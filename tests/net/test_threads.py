"""Session threads are used again, and end when nobody needs them."""

from __future__ import annotations

import threading

from mailserv.net.threads import SessionThreads


class Jobs:
    """Runs jobs and knows on which thread each ran."""

    def __init__(self, threads: SessionThreads) -> None:
        self._threads = threads
        self.ran_on: list[threading.Thread] = []

    def run(self) -> threading.Thread:
        done = threading.Event()

        def job() -> None:
            self.ran_on.append(threading.current_thread())
            done.set()

        self._threads.run(job)
        assert done.wait(10)
        return self.ran_on[-1]


def until_idle(threads: SessionThreads) -> None:
    """The last job is over before its thread says that it is idle."""
    while not threads.idle:
        threading.Event().wait(0.001)


def test_a_thread_that_became_idle_takes_the_next_job() -> None:
    threads = SessionThreads("test")
    jobs = Jobs(threads)
    first = jobs.run()
    until_idle(threads)
    assert jobs.run() is first
    assert threads.close(10)
    assert not first.is_alive() or first.join(10) is None


def test_jobs_at_once_have_threads_of_their_own() -> None:
    threads = SessionThreads("test")
    meet = threading.Barrier(4)
    for _ in range(3):
        threads.run(lambda: meet.wait(10))
    meet.wait(10)  # breaks unless all three run at once
    assert threads.close(10)


def test_an_idle_thread_ends_after_its_time() -> None:
    threads = SessionThreads("test", idle_seconds=0.01)
    thread = Jobs(threads).run()
    thread.join(10)
    assert not thread.is_alive()
    assert threads.close(0)


def test_close_waits_for_busy_threads_only_so_long() -> None:
    threads = SessionThreads("test")
    release = threading.Event()
    threads.run(lambda: release.wait(10))
    assert not threads.close(0.01)
    release.set()
    assert threads.close(10)


def test_a_job_that_raises_does_not_cost_the_count() -> None:
    threads = SessionThreads("test")
    seen = threading.Event()
    before, threading.excepthook = threading.excepthook, lambda _: seen.set()
    try:
        threads.run(lambda: 1 // 0)
        assert seen.wait(10)
        assert threads.close(10)
    finally:
        threading.excepthook = before
