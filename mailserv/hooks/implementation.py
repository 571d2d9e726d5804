"""One plugin's implementation of one hook: called, timed, judged, counted (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Result:
    """How one call ended, before anybody has judged it. `error`: what it raised. `called` False: its breaker was open."""

    answer: Any
    error: BaseException | None
    seconds: float
    called: bool = True


_PAUSED = Result(None, None, 0.0, called=False)


class Implementation:
    """Made once, called from any thread. The counts are exact under CPython's lock, where an addition is not interrupted."""

    __slots__ = (
        "_arguments",
        "_clock",
        "_function",
        "_is_answer",
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
    ) -> None:
        """`inline`: it never waits, so it needs no thread of its own. `arguments`: the names that it wants, in its order."""
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
        self._function = function
        self._arguments = arguments
        self._is_answer = spec.is_answer
        self._clock = clock
        self._traced = traced

    def attempt(self, arguments: Mapping[str, Any]) -> Result:
        """Call it, unless its breaker is open. Never raises. Whoever waits for it gives the result to `settle`."""
        if self.breaker.is_open and (self.abandoned >= MOST_ABANDONED or not self.breaker.may_call()):
            return _PAUSED
        started = self._clock.monotonic()
        try:
            answer = self._function(*[arguments[name] for name in self._arguments])
        except BaseException as error:  # noqa: BLE001 - one of the three places: a plugin may raise anything, SystemExit too
            return Result(None, error, self._clock.monotonic() - started)
        return Result(answer, None, self._clock.monotonic() - started)

    def settle(self, result: Result) -> Any:
        """The answer, None for none, or a Failure; counts, logs, works the breaker. Never raises."""
        if not result.called:
            return self._without_answer("it is paused")
        self.calls += 1
        self.seconds += result.seconds
        if self._traced:
            self._trace(result)
        if result.error is not None:
            if self._failed():
                _log.error("plugin_failed", plugin=self.plugin, hook=self.hook, exc_info=result.error)
            return self._without_answer(f"it raised {type(result.error).__name__}")
        if result.answer is not None and not self._is_answer(result.answer):
            if self._failed():
                _log.error("plugin_lied", plugin=self.plugin, hook=self.hook, answer=type(result.answer).__name__)
            return self._without_answer(f"it answered with a {type(result.answer).__name__}")
        if self.breaker.succeeded():
            _log.warning("plugin_resumed", plugin=self.plugin, hook=self.hook)
        return result.answer

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
        return is_first

    def _without_answer(self, reason: str) -> Failure | None:
        return None if self.skips else Failure(self.plugin, self.hook, reason)

    def _trace(self, result: Result) -> None:
        answer = repr(result.answer if result.error is None else result.error)
        _log.info("plugin_call", plugin=self.plugin, hook=self.hook, answer=answer, seconds=round(result.seconds, 6))
