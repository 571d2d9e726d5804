"""One plugin's implementation of one hook: called, timed, judged, counted (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from mailserv.clock import Clock
from mailserv.hooks.breaker import Breaker
from mailserv.hooks.specs import SPECS
from mailserv.logging import get_logger
from mailserv.settings import PluginPolicy

_log = get_logger("hooks")
MOST_ABANDONED = 16  # hanging calls of one implementation; with more of them its breaker stays open


@dataclass(frozen=True, slots=True)
class Failure:
    """What stands for an answer when there is none and the policy is "tempfail": 451, or whatever says "later"."""

    plugin: str
    hook: str
    reason: str


Result = tuple[Any, BaseException | None, float, bool]
"""How one call ended, before anybody has judged it: answer, what it raised, seconds, whether it was called at all.

A plain tuple: a frozen dataclass would cost a microsecond for each call of each plugin.
"""
_PAUSED: Result = (None, None, 0.0, False)


class Implementation:
    """Made once, called from any thread. The counts are exact under CPython's lock, where an addition is not interrupted."""

    __slots__ = (
        "_changed",
        "_function",
        "_is_answer",
        "_monotonic",
        "_pick",
        "_traced",
        "abandoned",
        "breaker",
        "budget",
        "calls",
        "failures",
        "hook",
        "inline",
        "observed",
        "plugin",
        "refused",
        "seconds",
        "skips",
    )

    def __init__(
        self,
        plugin: str,
        hook: str,
        function: Callable[..., Any],
        arguments: tuple[str, ...],
        *,
        inline: bool,
        policy: PluginPolicy,
        clock: Clock,
        traced: bool,
        changed: Callable[[Implementation], None] = lambda _: None,
    ) -> None:
        """`inline`: it never waits, so it needs no thread of its own. `arguments`: the names that it wants, in its order.
        `changed` is told when its breaker has opened or closed, on any thread."""
        spec = SPECS[hook]
        self.plugin = plugin
        self.hook = hook
        self.inline = inline
        self.budget = spec.budget if policy.budget is None else policy.budget
        self.observed = policy.mode == "observe"
        self.skips = (policy.on_error or spec.on_error) == "skip" or self.observed
        self.breaker = Breaker(clock)
        self.calls = self.failures = self.abandoned = self.refused = 0
        self.seconds = 0.0
        self._changed = changed
        self._function = function
        self._pick = _picker(arguments)
        self._is_answer = spec.is_answer
        self._monotonic = clock.monotonic
        self._traced = traced

    def call(self, arguments: Mapping[str, Any], started: float) -> tuple[Any, float]:
        """`attempt` and `settle` at once, for the caller's own thread: the settled answer, and when it came.

        `started`: now. What every call goes through while all is well is short on purpose.
        """
        if self.breaker.failures or self._traced:
            return self.settle(self.attempt(arguments)), self._monotonic()
        try:
            answer = self._function(*self._pick(arguments))
        except BaseException as error:  # noqa: BLE001 - as in `attempt`
            ended = self._monotonic()
            return self.settle((None, error, ended - started, True)), ended
        ended = self._monotonic()
        if answer is not None:
            return self.settle((answer, None, ended - started, True)), ended
        self.calls += 1
        self.seconds += ended - started
        return None, ended

    def attempt(self, arguments: Mapping[str, Any]) -> Result:
        """Call it, unless its breaker is open. Never raises. Whoever waits for it gives the result to `settle`."""
        if (
            self.breaker.failures
            and self.breaker.is_open
            and (self.abandoned >= MOST_ABANDONED or not self.breaker.may_call())
        ):
            return _PAUSED
        started = self._monotonic()
        try:
            answer = self._function(*self._pick(arguments))
        except BaseException as error:  # noqa: BLE001 - one of the three places: a plugin may raise anything, SystemExit too
            return (None, error, self._monotonic() - started, True)
        return (answer, None, self._monotonic() - started, True)

    def settle(self, result: Result) -> Any:
        """The answer, None for none, or a Failure; counts, logs, works the breaker. Never raises."""
        answer, error, seconds, called = result
        if not called:
            return self._without_answer("it is paused")
        self.calls += 1
        self.seconds += seconds
        if self._traced:
            self._trace(answer if error is None else error, seconds)
        if error is not None:
            if self._failed():
                _log.error("plugin_failed", plugin=self.plugin, hook=self.hook, exc_info=error)
            return self._without_answer(f"it raised {type(error).__name__}")
        if answer is not None and not self._is_answer(answer):
            if self._failed():
                _log.error("plugin_lied", plugin=self.plugin, hook=self.hook, answer=type(answer).__name__)
            return self._without_answer(f"it answered with a {type(answer).__name__}")
        if self.breaker.failures and self.breaker.succeeded():
            _log.warning("plugin_resumed", plugin=self.plugin, hook=self.hook)
            self._changed(self)
        return answer

    def overran(self) -> Any:
        """It did not end within its budget: it is waited for no longer. What `settle` returns."""
        self.calls += 1
        self.seconds += self.budget
        self.abandoned += 1
        if self._failed():
            _log.error("plugin_overran", plugin=self.plugin, hook=self.hook, budget=self.budget)
        return self._without_answer("it overran its budget")

    def returned_late(self) -> None:
        """An abandoned call has ended after all."""
        self.abandoned -= 1

    def unavailable(self) -> Any:
        """It could not be called: the system gives no more threads."""
        self.failures += 1
        return self._without_answer("there is no thread for it")

    def _failed(self) -> bool:
        """Whether this failure is the first in a row: the one to be told in full."""
        self.failures += 1
        is_first = not self.breaker.failures
        if self.breaker.failed():
            _log.error("plugin_paused", plugin=self.plugin, hook=self.hook, failures=self.breaker.failures)
            self._changed(self)
        return is_first

    def _without_answer(self, reason: str) -> Failure | None:
        return None if self.skips else Failure(self.plugin, self.hook, reason)

    def _trace(self, answer: object, seconds: float) -> None:
        _log.info("plugin_call", plugin=self.plugin, hook=self.hook, answer=repr(answer), seconds=round(seconds, 6))


def _picker(names: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """Takes the named arguments out of all of them, in this order."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        (name,) = names
        return lambda arguments: (arguments[name],)
    return itemgetter(*names)
