"""Calls hooks so that a plugin's failure costs one command, never a message or the server (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pluggy

from mailserv.hooks.specs import KINDS, Kind
from mailserv.logging import get_logger
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.verdict import Action, Verdict

_log = get_logger("hooks")
_FAILED = Verdict(Action.TEMPFAIL, LOCAL_ERROR, "a plugin failed")

Call = tuple[str, Callable[..., Any], tuple[str, ...]]


class Runner:
    """Compiled once from what is registered: per hook, its implementations in call order. Any thread."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        self._calls: dict[str, tuple[Call, ...]] = {}
        for hook in KINDS:
            implementations = reversed(getattr(manager.hook, hook).get_hookimpls())
            self._calls[hook] = tuple((i.plugin_name, i.function, tuple(i.argnames)) for i in implementations)

    def has(self, hook: str) -> bool:
        """Whether anybody implements it: lets a caller skip making arguments."""
        return bool(self._calls[hook])

    def decide(self, hook: str, **arguments: Any) -> Verdict | None:
        """The strictest verdict of all, its first reason kept. A plugin that raises or lies answers 451 4.3.0."""
        strictest: Verdict | None = None
        for name, function, wanted in self._calls[hook]:
            verdict = self._call(name, hook, function, {key: arguments[key] for key in wanted})
            if verdict is not None and (strictest is None or verdict.action > strictest.action):
                strictest = verdict
        return strictest

    def notify(self, hook: str, **arguments: Any) -> None:
        """Tell everybody; answers and failures change nothing."""
        for name, function, wanted in self._calls[hook]:
            self._call(name, hook, function, {key: arguments[key] for key in wanted})

    def _call(self, name: str, hook: str, function: Callable[..., Any], arguments: dict[str, Any]) -> Verdict | None:
        try:
            answer = function(**arguments)
        except Exception:  # noqa: BLE001 - one of the three places: a plugin may raise anything
            _log.exception("plugin_failed", plugin=name, hook=hook)
            return _FAILED
        if answer is None or isinstance(answer, Verdict):
            return answer
        if KINDS[hook] is Kind.DECIDE:
            _log.error("plugin_lied", plugin=name, hook=hook, answer=type(answer).__name__)
            return _FAILED
        return None
