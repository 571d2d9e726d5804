"""Calls hooks so that a plugin's failure costs one command, never a message or the server (invariant 8).

A call that hangs keeps its thread: nothing can end it. So what it was called for goes on on another thread. Whoever may be
given another thread asks with `ask` and is driven (`drive`); whoever is a thread of its own has to wait for one (`wait`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import pluggy

from mailserv.clock import Clock, SystemClock
from mailserv.hooks import counting
from mailserv.hooks.implementation import Implementation
from mailserv.hooks.questions import Questions
from mailserv.hooks.round import Asking, Listed, Round
from mailserv.hooks.specs import KINDS
from mailserv.hooks.watchdog import Turn, Watchdog
from mailserv.mail.verdict import Observed, Verdict
from mailserv.net.threads import SessionThreads
from mailserv.settings import PluginPolicy

ALL = "all"  # in MAILSERV_TRACE_PLUGINS
T = TypeVar("T")


class Runner:
    """Any thread. `close` belongs to the server's."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        *,
        clock: Clock | None = None,
        policies: Mapping[str, PluginPolicy] | None = None,
        traced: frozenset[str] = frozenset(),
        threads: SessionThreads | None = None,
    ) -> None:
        """`policies`: `[plugins.policy.NAME]`. `traced`: hooks whose every call is logged, or "all". `threads`: helpers', and
        the watchdog's; the runner closes them."""
        self._clock = clock or SystemClock()
        self._threads = threads or SessionThreads("plugin")
        self._watcher: Callable[[Implementation], None] = lambda _: None
        self._listed: dict[str, Listed | None] = {}
        for hook in KINDS:
            found = [
                Implementation(
                    each.plugin_name,
                    hook,
                    each.function,
                    tuple(each.argnames),
                    policy=(policies or {}).get(each.plugin_name, PluginPolicy()),
                    clock=self._clock,
                    traced=hook in traced or ALL in traced,
                    changed=lambda which: self._watcher(which),
                )
                for each in reversed(getattr(manager.hook, hook).get_hookimpls())
            ]
            self._listed[hook] = Listed(found) if found else None
        shortest = min((each.budget for each in self.implementations), default=0.0)
        self._watchdog = Watchdog(self._threads, shortest, self._take_over)
        self.ask = Questions(self._listed)
        counting.RUNNERS.add(self)

    def watch(self, watcher: Callable[[Implementation], None]) -> None:
        """From now on `watcher` is told of each whose breaker opens or closes, on any thread. It must not raise."""
        self._watcher = watcher

    def has(self, hook: str) -> bool:
        """Whether anybody implements it: lets a caller skip making arguments."""
        return self._listed[hook] is not None

    @property
    def implementations(self) -> list[Implementation]:
        """Every one, for metrics and for an operator who asks."""
        return [each for some in self._listed.values() if some is not None for each in some.implementations]

    def drive(self, asking: Asking[None], threads: SessionThreads) -> None:
        """Run it to its end on this thread, which is one of `threads`; after a call that overruns, on another one of them.

        Returns at the end, or when this thread has lost it: then nothing that it is about is this thread's to touch.
        """
        round_ = next(asking, None)
        if round_ is not None:
            self._drive(Turn(asking, threads, threading.get_ident()), round_)

    def wait(self, asking: Asking[T]) -> T:
        """What comes of it, for a thread that cannot be given another one: plugins are called on a helper's thread."""
        try:
            first = next(asking)
        except StopIteration as end:  # nobody had to be asked
            answer: T = end.value
            return answer
        waiting = _Waiting(first, asking)
        try:
            self._threads.run(lambda: self.drive(waiting.finish(), self._threads))
        except RuntimeError:  # can't start new thread
            return waiting.without_thread()
        return waiting.outcome()

    def decide(self, hook: str, observed: list[Observed] | None = None, **arguments: Any) -> Verdict | None:
        """As `ask.decide`, for a thread that waits."""
        return self.wait(self.ask.decide(hook, observed, **arguments))

    def provide(self, hook: str, **arguments: Any) -> Any:
        """As `ask.provide`, for a thread that waits."""
        return self.wait(self.ask.provide(hook, **arguments))

    def transform(self, hook: str, **arguments: Any) -> Any:
        """As `ask.transform`, for a thread that waits."""
        return self.wait(self.ask.transform(hook, **arguments))

    def gather(self, hook: str, trial: list[tuple[str, Any]] | None = None, **arguments: Any) -> list[tuple[str, Any]]:
        """As `ask.gather`, for a thread that waits."""
        return self.wait(self.ask.gather(hook, trial, **arguments))

    def notify(self, hook: str, **arguments: Any) -> None:
        """As `ask.notify`, for a thread that waits."""
        self.wait(self.ask.notify(hook, **arguments))

    def close(self) -> None:
        """End the helpers that wait for work. Those that hang are left behind: nothing can end them."""
        counting.RUNNERS.discard(self)
        self._watchdog.close()
        self._threads.close(0)

    def _drive(self, turn: Turn, round_: Round | None) -> None:
        watchdog, monotonic, asking = self._watchdog, self._clock.monotonic, turn.asking
        watchdog.enter(turn)
        try:
            while round_ is not None:
                turn.round = round_
                if not watchdog.is_looking:
                    watchdog.look()
                try:
                    if not round_.call(monotonic):
                        return
                except Exception as error:  # noqa: BLE001 - a fault of ours in taking an answer is raised where it was asked
                    turn.round = None
                    round_ = _thrown(asking, error)
                else:
                    turn.round = None
                    round_ = next(asking, None)
        finally:
            watchdog.leave(turn)

    def _take_over(self, lost: Turn, round_: Round, late: Implementation) -> None:
        """On a new thread. Before the call is given up its thread counts no more, so that it is not counted twice."""
        lost.threads.write_off(lost.thread)
        if not round_.give_up(late):
            lost.threads.count_again(lost.thread)
            return
        self._watchdog.leave(lost)
        self._drive(Turn(lost.asking, lost.threads, threading.get_ident()), round_)


def _thrown(asking: Asking[Any], error: Exception) -> Round | None:
    try:
        return asking.throw(error)
    except StopIteration:
        return None


class _Waiting(Generic[T]):
    """What one thread waits for and a helper's finds out."""

    def __init__(self, first: Round, asking: Asking[T]) -> None:
        self._first = first
        self._asking = asking
        self._answer: list[T] = []
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    def finish(self) -> Asking[None]:
        """On the helper's thread, whichever it is by then."""
        try:
            yield self._first
            self._answer.append((yield from self._asking))
        except BaseException as error:  # noqa: BLE001 - whoever waits has it raised
            self._error = error
        finally:
            self._done.release()

    def outcome(self) -> T:
        """On the thread that waits."""
        self._done.acquire()
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def without_thread(self) -> T:
        """There is none for anybody who is asked."""
        round_ = self._first
        while True:
            round_.unavailable()
            try:
                round_ = next(self._asking)
            except StopIteration as end:
                answer: T = end.value
                return answer
