"""A plugin's callable, so wrapped that a failure costs one command and is named in the log (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailserv.hooks.kinds import fault
from mailserv.logging import get_logger

_log = get_logger("hooks")


def guard(
    plugin: str, hook: str, stage: str, function: Callable[..., Any], is_answer: Callable[[Any], bool], instead: Any
) -> Callable[..., Any]:
    """The same function, but: what raises, or answers with what is no answer, answers `instead`. `stage` is the log's."""

    def call(*arguments: Any) -> Any:
        try:
            answer = function(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - one of the three places: a plugin may raise anything
            _log.exception("plugin_failed", plugin=plugin, hook=hook, stage=stage)
            return instead
        why = fault(is_answer, answer)
        if why is None:
            return answer
        _log.error("plugin_lied", plugin=plugin, hook=hook, stage=stage, answer=type(answer).__name__, why=why)
        return instead

    return call
