"""A stand-in for a plugin whose hook raises, hangs or lies, called by the real runner: what does the session get?"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping
from typing import Any

import pluggy

from mailserv import hookimpl, logging
from mailserv.errors import PluginError
from mailserv.hooks import specs
from mailserv.hooks.implementation import Implementation
from mailserv.hooks.runner import Runner
from mailserv.hooks.specs import KINDS, Kind
from mailserv.mail.values import Duration
from mailserv.settings import PluginPolicy

BUDGET = Duration(0.05)  # seconds until the one that hangs has overrun


def failing_answers(hook: Implementation, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """ "raise", "hang" and "lie" → what the runner makes of it: a Verdict, a PluginError, or words."""
    released = threading.Event()
    policy = PluginPolicy(on_error="skip" if hook.skips else "tempfail", budget=BUDGET)
    logging.configure("logfmt", "critical", io.StringIO())  # it fails on purpose: that is no news
    try:
        return {
            "raise": _call(hook.plugin, hook.hook, _raise, policy, arguments),
            "hang": _call(hook.plugin, hook.hook, released.wait, policy, arguments),
            "lie": _call(hook.plugin, hook.hook, object, policy, arguments),
        }
    finally:
        released.set()
        logging.close()


def _raise() -> None:
    raise RuntimeError("on purpose")


def _call(
    plugin: str, hook: str, body: Callable[[], object], policy: PluginPolicy, arguments: Mapping[str, Any]
) -> Any:
    def implementation() -> object:
        return body()

    manager = pluggy.PluginManager("mailserv")
    manager.add_hookspecs(specs)
    manager.register(type("StandIn", (), {hook: staticmethod(hookimpl(implementation))})(), plugin)
    runner = Runner(manager, policies={plugin: policy})
    try:
        return _ask(runner, hook, arguments)
    except PluginError:
        return "a temporary failure"
    finally:
        runner.close()


def _ask(runner: Runner, hook: str, arguments: Mapping[str, Any]) -> Any:
    match KINDS[hook]:
        case Kind.DECIDE:
            return runner.decide(hook, **arguments) or "as if it had no opinion"
        case Kind.PROVIDE:
            return runner.provide(hook, **arguments) or "as if it had no opinion"
        case Kind.GATHER:
            return runner.gather(hook, **arguments) and "as if it had said nothing"
        case Kind.TRANSFORM:
            runner.transform(hook, **arguments)
            return "what it would change stays"
        case _:
            runner.notify(hook, **arguments)
            return "nobody waits for its answer"
