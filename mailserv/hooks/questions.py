"""What each kind of hook makes of the answers. A question yields the round that is to be called; `Runner` sees to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mailserv.errors import PluginError
from mailserv.hooks.implementation import Failure, Implementation
from mailserv.hooks.round import Asking, Changing, FirstAnswer, Listed, Round
from mailserv.hooks.specs import SPECS
from mailserv.logging import get_logger
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.verdict import Action, Observed, Verdict

_log = get_logger("hooks")


class Questions:
    """For `yield from`, after which the thread may be another one. Any thread. Where nobody is there, nothing is yielded."""

    def __init__(self, listed: Mapping[str, Listed | None]) -> None:
        """`listed`: by hook; None where there is nobody."""
        self._listed = listed

    def round(self, hook: str, arguments: dict[str, Any]) -> Round | None:
        """To be yielded; None when there is nobody. For whoever makes something of its answers itself."""
        listed = self._listed[hook]
        return None if listed is None else Round(listed, arguments)

    def decide(self, hook: str, observed: list[Observed] | None = None, **arguments: Any) -> Asking[Verdict | None]:
        """What `strictest` makes of all answers."""
        round_ = self.round(hook, arguments)
        if round_ is None:
            return None
        yield round_
        return strictest(round_.answers, observed)

    def provide(self, hook: str, **arguments: Any) -> Asking[Any]:
        """The first answer that is not None; None when nobody has one.

        Raises PluginError when a plugin before that failed and its policy is "tempfail": what it would have said counts.
        """
        listed = self._listed[hook]
        if listed is None:
            return None
        round_ = FirstAnswer(listed, arguments)
        yield round_
        return _raised(round_.answers[0][1]) if round_.answers else None

    def transform(self, hook: str, changed_by: list[str] | None = None, **arguments: Any) -> Asking[Any]:
        """What became of the argument that the hook changes: each gets the last one's output, None leaves it as it is.

        The names of those who changed it go to `changed_by` where it is given; `mode = "observe"` changes nothing.
        Raises PluginError when one failed whose policy is "tempfail"; with "skip" its input stays.
        """
        changes = SPECS[hook].changes
        listed = self._listed[hook]
        if listed is not None:
            round_ = Changing(listed, arguments, changes)
            yield round_
            for implementation, answer in round_.answers:
                _raised(answer)
                if implementation.observed:
                    _log.info(
                        "plugin_observed", plugin=implementation.plugin, hook=hook, why="it would have changed it"
                    )
                elif changed_by is not None:
                    changed_by.append(implementation.plugin)
        return arguments[changes]

    def gather(
        self, hook: str, trial: list[tuple[str, Any]] | None = None, **arguments: Any
    ) -> Asking[list[tuple[str, Any]]]:
        """Every answer that is not None, with its plugin's name, in the order of calls. Raises PluginError as `provide`.

        The answers of plugins with `mode = "observe"` go to `trial` where it is given.
        """
        found: list[tuple[str, Any]] = []
        round_ = self.round(hook, arguments)
        if round_ is not None:
            yield round_
            for implementation, answer in round_.answers:
                kept = trial if trial is not None and implementation.observed else found
                kept.append((implementation.plugin, _raised(answer)))
        return found

    def notify(self, hook: str, **arguments: Any) -> Asking[None]:
        """Tell everybody; answers and failures change nothing. It is over when all have heard, or have overrun."""
        round_ = self.round(hook, arguments)
        if round_ is not None:
            yield round_


def strictest(answers: Sequence[tuple[Implementation, Any]], observed: list[Observed] | None = None) -> Verdict | None:
    """The strictest verdict of all, its first reason kept, with the plugin's name before it.

    A plugin that gives no answer counts as 451 4.3.0, or as nobody (`on_error = "skip"`). The verdicts of plugins
    with `mode = "observe"` go to `observed` and are not applied.
    """
    found: Verdict | None = None
    for implementation, answer in answers:
        verdict = _verdict(implementation, answer)
        if isinstance(answer, Verdict):
            implementation.refused += 1
        if implementation.observed:
            _observe(implementation, verdict, observed)
        elif found is None or verdict.action > found.action:
            found = verdict
    return found


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
