"""Calls hooks so that a plugin's failure costs one command, never a message or the server (invariant 8).

Compiled at start: for each hook its implementations in the operator's order, in stretches of those that are called where
the caller stands (`inline = True` on the plugin's class: they never wait) and those that get a helper's thread.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pluggy

from mailserv.clock import Clock, SystemClock
from mailserv.errors import PluginError
from mailserv.hooks import counting
from mailserv.hooks.handover import Handover, Take
from mailserv.hooks.implementation import Failure, Implementation
from mailserv.hooks.specs import KINDS, SPECS
from mailserv.logging import get_logger
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.verdict import Action, Observed, Verdict
from mailserv.net.threads import SessionThreads
from mailserv.settings import PluginPolicy

_log = get_logger("hooks")
ALL = "all"  # in MAILSERV_TRACE_PLUGINS

Stretch = tuple[bool, tuple[Implementation, ...]]
"""Neighbours in the order of calls, all inline or none."""


class Runner:
    """Any thread. `close` belongs to the server's."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        *,
        clock: Clock | None = None,
        policies: Mapping[str, PluginPolicy] | None = None,
        traced: frozenset[str] = frozenset(),
    ) -> None:
        """`policies`: `[plugins.policy.NAME]`. `traced`: hooks whose every call is logged, or "all"."""
        self._clock = clock or SystemClock()
        self._threads = SessionThreads("plugin")
        self._watcher: Callable[[Implementation], None] = lambda _: None
        self._hooks: dict[str, tuple[Stretch, ...]] = {}
        for hook in KINDS:
            found = [
                Implementation(
                    each.plugin_name,
                    hook,
                    each.function,
                    tuple(each.argnames),
                    inline=bool(getattr(each.plugin, "inline", False)),
                    policy=(policies or {}).get(each.plugin_name, PluginPolicy()),
                    clock=self._clock,
                    traced=hook in traced or ALL in traced,
                    changed=lambda which: self._watcher(which),
                )
                for each in reversed(getattr(manager.hook, hook).get_hookimpls())
            ]
            self._hooks[hook] = tuple(
                (inline, tuple(some)) for inline, some in itertools.groupby(found, lambda each: each.inline)
            )
        counting.RUNNERS.add(self)

    def watch(self, watcher: Callable[[Implementation], None]) -> None:
        """From now on `watcher` is told of each whose breaker opens or closes, on any thread. It must not raise."""
        self._watcher = watcher

    def has(self, hook: str) -> bool:
        """Whether anybody implements it: lets a caller skip making arguments."""
        return bool(self._hooks[hook])

    @property
    def implementations(self) -> list[Implementation]:
        """Every one, for metrics and for an operator who asks."""
        return [each for stretches in self._hooks.values() for _, some in stretches for each in some]

    def decide(self, hook: str, observed: list[Observed] | None = None, **arguments: Any) -> Verdict | None:
        """The strictest verdict of all, its first reason kept, with the plugin's name before it.

        A plugin that gives no answer counts as 451 4.3.0, or as nobody (`on_error = "skip"`). The verdicts of plugins
        with `mode = "observe"` go to `observed` and are not applied.
        """
        if not self._hooks[hook]:
            return None
        strictest: Verdict | None = None

        def take(implementation: Implementation, answer: Any) -> bool:
            nonlocal strictest
            verdict = _verdict(implementation, answer)
            if isinstance(answer, Verdict):
                implementation.refused += 1
            if implementation.observed:
                self._observe(implementation, verdict, observed)
            elif strictest is None or verdict.action > strictest.action:
                strictest = verdict
            return False

        self._walk(hook, arguments, take)
        return strictest

    def provide(self, hook: str, **arguments: Any) -> Any:
        """The first answer that is not None; None when nobody has one.

        Raises PluginError when a plugin before that failed and its policy is "tempfail": what it would have said counts.
        """
        if not self._hooks[hook]:
            return None
        found: Any = None

        def take(_: Implementation, answer: Any) -> bool:
            nonlocal found
            found = answer
            return True

        self._walk(hook, arguments, take)
        return _raised(found)

    def transform(self, hook: str, **arguments: Any) -> Any:
        """What became of the argument that the hook changes: each gets the last one's output, None leaves it as it is.

        Raises PluginError when one failed whose policy is "tempfail"; with "skip" its input stays.
        """
        changing = SPECS[hook].changes
        if not self._hooks[hook]:
            return arguments[changing]
        failure: Failure | None = None

        def take(_: Implementation, answer: Any) -> bool:
            nonlocal failure
            if isinstance(answer, Failure):
                failure = answer
                return True
            arguments[changing] = answer
            return False

        self._walk(hook, arguments, take)
        _raised(failure)
        return arguments[changing]

    def gather(self, hook: str, trial: list[tuple[str, Any]] | None = None, **arguments: Any) -> list[tuple[str, Any]]:
        """Every answer that is not None, with its plugin's name, in the order of calls. Raises PluginError as `provide`.

        The answers of plugins with `mode = "observe"` go to `trial` where it is given.
        """
        if not self._hooks[hook]:
            return []
        found: list[tuple[str, Any]] = []
        failure: Failure | None = None

        def take(implementation: Implementation, answer: Any) -> bool:
            nonlocal failure
            if isinstance(answer, Failure):
                failure = failure or answer
            elif implementation.observed and trial is not None:
                trial.append((implementation.plugin, answer))
            else:
                found.append((implementation.plugin, answer))
            return False

        self._walk(hook, arguments, take)
        _raised(failure)
        return found

    def notify(self, hook: str, **arguments: Any) -> None:
        """Tell everybody; answers and failures change nothing. Returns when all have heard, or have overrun."""
        if self._hooks[hook]:
            self._walk(hook, arguments, lambda _, __: False)

    def close(self) -> None:
        """End the helpers that wait for work. Those that hang are left behind: nothing can end them."""
        counting.RUNNERS.discard(self)
        self._threads.close(0)

    def _walk(self, hook: str, arguments: dict[str, Any], take: Take) -> None:
        for inline, implementations in self._hooks[hook]:
            if not inline:
                if self._hand_over(implementations, arguments, take):
                    return
                continue
            now = self._clock.monotonic()
            for each in implementations:
                answer, now = each.call(arguments, now)
                if answer is not None and take(each, answer):
                    return

    def _hand_over(self, implementations: Sequence[Implementation], arguments: dict[str, Any], take: Take) -> bool:
        """All of them in one hand-over; after one that overran, those behind it in another. Whether `take` has enough."""
        while implementations:
            handover = Handover(implementations, arguments, take)
            try:
                self._threads.run(handover)
            except RuntimeError:  # can't start new thread
                return any((answer := each.unavailable()) and take(each, answer) for each in implementations)
            over = handover.wait()
            if over is None:
                return handover.stopped
            late = implementations[over]
            answer = late.overran()
            if answer is not None and take(late, answer):
                return True
            implementations = implementations[over + 1 :]
        return False

    def _observe(self, implementation: Implementation, verdict: Verdict, observed: list[Observed] | None) -> None:
        plugin, hook = implementation.plugin, implementation.hook
        _log.info("plugin_observed", plugin=plugin, hook=hook, reply=str(verdict.reply), why=verdict.reason)
        if observed is not None:
            observed.append(Observed(plugin, hook, verdict))


def _verdict(implementation: Implementation, answer: Verdict | Failure) -> Verdict:
    name = implementation.plugin
    if isinstance(answer, Failure):
        return Verdict(Action.TEMPFAIL, LOCAL_ERROR, f"{name}: {answer.reason}")
    return Verdict(answer.action, answer.reply, f"{name}: {answer.reason or answer.reply.text}")


def _raised(answer: Any) -> Any:
    if isinstance(answer, Failure):
        raise PluginError(answer.plugin, answer.hook, answer.reason)
    return answer
