"""One plugin's implementation of one hook: called, timed, judged, counted (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mailserv.clock import Clock
from mailserv.hooks.breaker import Breaker
from mailserv.hooks.kinds import fault
from mailserv.hooks.specs import SPECS
from mailserv.logging import get_logger
from mailserv.settings import PluginPolicy

if TYPE_CHECKING:
    from mailserv.hooks.round import Listed

_log = get_logger("hooks")
MOST_ABANDONED = 16  # hanging calls of one implementation; with more of them its breaker stays open


@dataclass(frozen=True, slots=True)
class Failure:
    """What stands for an answer when there is none and the policy is "tempfail": 451, or whatever says "later"."""

    plugin: str
    hook: str
    reason: str


Pick = Callable[[Mapping[str, Any]], tuple[Any, ...]]
"""Takes a call's arguments out of all of them."""
Result = tuple[Any, BaseException | None, bool]
"""How one call ended, before anybody has judged it: answer, what it raised, whether it was called at all.

A plain tuple: a frozen dataclass would cost a microsecond for each call of each plugin.
"""
_PAUSED: Result = (None, None, False)


class Implementation:
    """Made once, called from any thread. The counts are exact under CPython's lock, where an addition is not interrupted."""

    __slots__ = (
        "_changed",
        "_is_answer",
        "_listed",
        "abandoned",
        "breaker",
        "budget",
        "counted",
        "failures",
        "function",
        "hook",
        "is_watched",
        "number",
        "observed",
        "pick",
        "plugin",
        "refused",
        "skips",
        "traced",
    )

    def __init__(
        self,
        plugin: str,
        hook: str,
        function: Callable[..., Any],
        arguments: tuple[str, ...],
        *,
        policy: PluginPolicy,
        clock: Clock,
        traced: bool,
        changed: Callable[[Implementation], None] = lambda _: None,
    ) -> None:
        """`arguments`: the names that it wants, in its order. `changed` is told when its breaker has opened or closed, on
        any thread."""
        spec = SPECS[hook]
        self.plugin = plugin
        self.hook = hook
        self.budget = spec.budget if policy.budget is None else policy.budget
        self.observed = policy.mode == "observe"
        self.skips = (policy.on_error or spec.on_error) == "skip" or self.observed
        self.traced = self.is_watched = traced
        self.breaker = Breaker(clock, self._watch)
        self.counted = self.failures = self.abandoned = self.refused = 0
        self._changed = changed
        self.function = function
        self.pick = _picker(arguments)
        self._is_answer = spec.is_answer

    def enlist(self, listed: Listed, number: int) -> None:
        """Where it stands among those that are called with it. Before it is called."""
        self._listed = listed
        self.number = number

    @property
    def calls(self) -> int:
        """How often it was called."""
        return self.counted + self._listed.rounds

    @property
    def seconds(self) -> float:
        """How long that took."""
        return self._listed.seconds[self.number]

    def attempt(self, arguments: Mapping[str, Any]) -> Result:
        """Call it, unless its breaker is open. Never raises. Whoever has not stopped waiting gives the result to `settle`."""
        if self.breaker.failures and self._rests():
            return _PAUSED
        try:
            answer = self.function(*self.pick(arguments))
        except BaseException as error:  # noqa: BLE001 - one of the three places: a plugin may raise anything, SystemExit too
            return (None, error, True)
        return answer, None, True

    def settle(self, result: Result, seconds: float) -> Any:
        """The answer, None for none, or a Failure; counts, logs, works the breaker. Never raises. It took `seconds`."""
        answer, error, was_called = result
        if not was_called:
            return self._without_answer("it is paused")
        self.counted += 1
        self._listed.seconds[self.number] += seconds
        if self.traced:
            self._trace(answer if error is None else error, seconds)
        if error is not None:
            if self._failed():
                _log.error("plugin_failed", plugin=self.plugin, hook=self.hook, exc_info=error)
            return self._without_answer(f"it raised {type(error).__name__}")
        why = None if answer is None else fault(self._is_answer, answer)
        if why is not None:
            kind = type(answer).__name__
            if self._failed():
                _log.error("plugin_lied", plugin=self.plugin, hook=self.hook, answer=kind, why=why)
            return self._without_answer(f"it answered with a {kind}{why and f': {why}'}")
        if self.breaker.failures and self.breaker.succeeded():
            _log.warning("plugin_resumed", plugin=self.plugin, hook=self.hook)
            self._changed(self)
        return answer

    def overran(self) -> Any:
        """It did not end within its budget: it is waited for no longer. What `settle` returns."""
        self.counted += 1
        self._listed.seconds[self.number] += self.budget
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

    def _watch(self, failing: bool) -> None:
        """A call that needs no `attempt` is the one of an implementation that neither failed last nor is traced."""
        before, self.is_watched = self.is_watched, failing or self.traced
        if before is not self.is_watched:
            self._listed.regroup()

    def _rests(self) -> bool:
        return self.breaker.is_open and (self.abandoned >= MOST_ABANDONED or not self.breaker.may_call())

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
        _log.info("plugin_call", plugin=self.plugin, hook=self.hook, answer=_shown(answer), seconds=round(seconds, 6))


@cache
def _picker(names: tuple[str, ...]) -> Pick:
    """Takes the named arguments out of all of them, in this order. The same one for all that want the same."""
    if not names:
        return lambda _: ()
    if len(names) == 1:
        (name,) = names
        return lambda arguments: (arguments[name],)
    return itemgetter(*names)


def _shown(answer: object) -> str:
    try:
        return repr(answer)
    except Exception as error:  # noqa: BLE001 - a plugin's own object may raise anything
        return f"{type(answer).__name__} whose repr raised {type(error).__name__}"
