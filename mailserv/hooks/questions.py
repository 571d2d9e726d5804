"""What each kind of hook makes of the answers. A question yields the round that is to be called; `Runner` sees to that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mailserv.errors import PluginError
from mailserv.hooks.implementation import Failure, Implementation
from mailserv.hooks.round import Asking, Round, Take
from mailserv.hooks.specs import SPECS
from mailserv.logging import get_logger
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.verdict import Action, Observed, Verdict

_log = get_logger("hooks")
Listed = Mapping[str, dict[Implementation, bool]]
"""By hook: its implementations in the operator's order, each True."""


class Questions:
    """For `yield from`, after which the thread may be another one. Any thread. Where nobody is there, nothing is yielded."""

    def __init__(self, listed: Listed, monotonic: Callable[[], float]) -> None:
        self._listed = listed
        self._monotonic = monotonic

    def decide(self, hook: str, observed: list[Observed] | None = None, **arguments: Any) -> Asking[Verdict | None]:
        """The strictest verdict of all, its first reason kept, with the plugin's name before it.

        A plugin that gives no answer counts as 451 4.3.0, or as nobody (`on_error = "skip"`). The verdicts of plugins
        with `mode = "observe"` go to `observed` and are not applied.
        """
        strictest: Verdict | None = None

        def take(implementation: Implementation, answer: Any) -> bool:
            nonlocal strictest
            verdict = _verdict(implementation, answer)
            if isinstance(answer, Verdict):
                implementation.refused += 1
            if implementation.observed:
                _observe(implementation, verdict, observed)
            elif strictest is None or verdict.action > strictest.action:
                strictest = verdict
            return False

        if self._listed[hook]:
            yield self._round(hook, arguments, take)
        return strictest

    def provide(self, hook: str, **arguments: Any) -> Asking[Any]:
        """The first answer that is not None; None when nobody has one.

        Raises PluginError when a plugin before that failed and its policy is "tempfail": what it would have said counts.
        """
        found: Any = None

        def take(_: Implementation, answer: Any) -> bool:
            nonlocal found
            found = answer
            return True

        if self._listed[hook]:
            yield self._round(hook, arguments, take)
        return _raised(found)

    def transform(self, hook: str, **arguments: Any) -> Asking[Any]:
        """What became of the argument that the hook changes: each gets the last one's output, None leaves it as it is.

        Raises PluginError when one failed whose policy is "tempfail"; with "skip" its input stays.
        """
        changing = SPECS[hook].changes
        failure: Failure | None = None

        def take(_: Implementation, answer: Any) -> bool:
            nonlocal failure
            if isinstance(answer, Failure):
                failure = answer
                return True
            arguments[changing] = answer
            return False

        if self._listed[hook]:
            yield self._round(hook, arguments, take)
        _raised(failure)
        return arguments[changing]

    def gather(
        self, hook: str, trial: list[tuple[str, Any]] | None = None, **arguments: Any
    ) -> Asking[list[tuple[str, Any]]]:
        """Every answer that is not None, with its plugin's name, in the order of calls. Raises PluginError as `provide`.

        The answers of plugins with `mode = "observe"` go to `trial` where it is given.
        """
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

        if self._listed[hook]:
            yield self._round(hook, arguments, take)
        _raised(failure)
        return found

    def notify(self, hook: str, **arguments: Any) -> Asking[None]:
        """Tell everybody; answers and failures change nothing. It is over when all have heard, or have overrun."""
        if self._listed[hook]:
            yield self._round(hook, arguments, lambda _, __: False)

    def _round(self, hook: str, arguments: dict[str, Any], take: Take) -> Round:
        return Round(self._listed[hook].copy(), arguments, take, self._monotonic)


def _observe(implementation: Implementation, verdict: Verdict, observed: list[Observed] | None) -> None:
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
