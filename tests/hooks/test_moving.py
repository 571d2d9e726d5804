"""What asks plugins goes on on another thread behind a call that hangs: once, in order, and on one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hook_kit import ENVELOPE, PEER, plugin, run_plugins, run_to, say

from mailserv.errors import PluginError
from mailserv.hooks.round import Asking
from mailserv.hooks.runner import Runner
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.verdict import Verdict, reject
from mailserv.net.threads import Job, SessionThreads
from mailserv.settings import Duration, PluginPolicy

SOON = PluginPolicy(budget=Duration(0.02))
PATIENCE = 20.0  # seconds for a test's threads


class Stingy(SessionThreads):
    """A system that can't start another thread while `refusals` are left."""

    refusals = 0

    def run(self, job: Job) -> None:
        if self.refusals:
            self.refusals -= 1
            raise RuntimeError("can't start new thread")
        super().run(job)


class Session:
    """Asks so many times, and notes what was said and on which thread it stood."""

    def __init__(self, runner: Runner, times: int) -> None:
        self.said: list[Verdict | None] = []
        self.threads = [threading.get_ident()]
        self.over = threading.Event()
        self._runner = runner
        self._times = times

    def run(self) -> Asking[None]:
        try:
            for _ in range(self._times):
                self.said.append((yield from self._runner.ask.decide("smtp_connect", peer=PEER)))
                self.threads.append(threading.get_ident())
        finally:
            self.over.set()


@contextmanager
def pool(kind: type[SessionThreads] = SessionThreads) -> Iterator[Any]:
    threads = kind("session")
    try:
        yield threads
    finally:
        assert threads.close(PATIENCE)


def begin(runner: Runner, threads: SessionThreads, times: int) -> Session:
    session = Session(runner, times)
    threads.run(lambda: runner.drive(session.run(), threads))
    return session


def test_what_asks_goes_on_once_and_in_order_though_every_call_ends_as_its_budget_does() -> None:
    """The race between a call that returns and the watchdog: whoever wins, each question has one answer."""
    never = threading.Event()
    asked = [0] * 12

    def slow(at: int) -> Callable[[], Any]:
        def call() -> Any:
            asked[at] += 1
            never.wait(0.016 + 0.004 * at)
            return reject("in time")

        return call

    runners = [run_plugins({"slow": plugin("smtp_connect", slow(at))}, policies={"slow": SOON}) for at in range(12)]
    with pool() as threads:
        sessions = [begin(runner, threads, times=4) for runner in runners]  # fewer than open a breaker
        for at, session in enumerate(sessions):
            assert session.over.wait(PATIENCE)
            assert asked[at] == 4
            replies = [verdict.reply for verdict in session.said if verdict is not None]
            assert len(replies) == 4
            assert replies.count(LOCAL_ERROR) == runners[at].implementations[0].failures
        assert run_to(lambda: sum(runner.implementations[0].abandoned for runner in runners) == 0)
    assert {runner.implementations[0].failures for runner in runners} != {0}


def test_a_thread_that_was_lost_is_not_waited_for_and_counts_again_when_it_is_back() -> None:
    freed, hung = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        freed.wait()

    runner = run_plugins({"hangs": plugin("smtp_connect", hang)}, policies={"hangs": SOON})
    threads = SessionThreads("session")
    session = begin(runner, threads, times=1)
    assert hung.wait(PATIENCE)
    assert session.over.wait(PATIENCE)
    assert threads.close(PATIENCE)
    freed.set()
    assert run_to(lambda: runner.implementations[0].abandoned == 0)
    assert threads.close(PATIENCE)


def test_while_the_system_gives_no_thread_the_session_waits_for_one() -> None:
    freed, hung = threading.Event(), threading.Event()

    def hang() -> None:
        hung.set()
        freed.wait()

    runner = run_plugins({"hangs": plugin("smtp_connect", hang)}, policies={"hangs": SOON})
    with pool(Stingy) as threads:
        session = begin(runner, threads, times=1)
        threads.refusals = 3
        assert session.over.wait(PATIENCE)
        assert threads.refusals == 0
        assert len(set(session.threads[1:])) == 1
        freed.set()


def test_a_plugin_for_which_there_is_no_helper_has_failed() -> None:
    helpers = Stingy("plugin")
    made = run_plugins({name: plugin("smtp_connect", say(None)) for name in "ab"}, threads=helpers)
    assert made.decide("smtp_connect", peer=PEER) is None
    helpers.refusals = 1
    verdict = made.decide("smtp_connect", peer=PEER)
    assert verdict is not None
    assert verdict.reply == LOCAL_ERROR
    helpers.refusals = 1
    with pytest.raises(PluginError, match="there is no thread for it"):
        made.provide("smtp_connect", peer=PEER)
    assert made.decide("smtp_connect", peer=PEER) is None


def test_a_fault_in_judging_an_answer_is_raised_where_it_was_asked() -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> Any:
            raise LookupError(name)

    runner = run_plugins({"one": plugin("message_accepted", Hostile)})  # whose answers nobody looks at
    with pytest.raises(LookupError):
        runner.gather("message_accepted", queue_id="", peer=PEER, envelope=ENVELOPE, results=())
    runner.notify("message_accepted", queue_id="", peer=PEER, envelope=ENVELOPE, results=())


def test_what_fails_behind_a_question_fails_on_the_thread_that_waits() -> None:
    runner = run_plugins({"one": plugin("smtp_connect", say(None))})

    def asks() -> Asking[None]:
        yield from runner.ask.notify("smtp_connect", peer=PEER)
        raise LookupError("behind it")

    with pytest.raises(LookupError, match="behind it"):
        runner.wait(asks())
