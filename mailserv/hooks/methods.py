"""What is wrong with the methods of a plugin, before one of them is called."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator

import pluggy

from mailserv.hooks import specs

MARK = "mailserv_impl"  # where pluggy's marker, named "mailserv", leaves its options on a method


def misfits(plugin: object) -> Iterator[str]:
    """Methods named as a hook that would never be called, or not with what they want."""
    for hook in specs.KINDS:
        method = getattr(plugin, hook, None)
        if not inspect.isroutine(method):
            continue
        if not hasattr(method, MARK):
            yield f"{hook} has the name of a hook and no @hookimpl: it would never be called"
            continue
        given = list(inspect.signature(getattr(specs, hook)).parameters)
        for wanted in inspect.signature(method).parameters.values():
            is_asked = (
                wanted.kind in (wanted.POSITIONAL_ONLY, wanted.POSITIONAL_OR_KEYWORD) and wanted.default is wanted.empty
            )
            if is_asked and wanted.name not in given:
                yield f"{hook} has no argument {wanted.name}; it may name {', '.join(given) or 'none'}"


def out_of_order(manager: pluggy.PluginManager) -> list[str]:
    """pluggy's own ways to come first, last or around the others: the order is the operator's."""
    return [
        f"plugin {each.plugin_name}: {hook} must not be tryfirst, trylast or a wrapper: [plugins] enabled has the order"
        for hook in specs.KINDS
        for each in getattr(manager.hook, hook).get_hookimpls()
        if each.tryfirst or each.trylast or each.hookwrapper or each.wrapper
    ]


def coroutines(manager: pluggy.PluginManager) -> list[str]:
    """What `async def` answers is a coroutine that nobody awaits: each call would be a lie."""
    return [
        f"plugin {each.plugin_name}: {hook} is async, and a hook is an ordinary function, called on a thread"
        for hook in specs.KINDS
        for each in getattr(manager.hook, hook).get_hookimpls()
        if inspect.iscoroutinefunction(each.function) or inspect.isasyncgenfunction(each.function)
    ]


def unknown_hooks(manager: pluggy.PluginManager) -> list[str]:
    """All that pluggy's `check_pending` would stop at the first of."""
    return [
        f"plugin {each.plugin_name}: there is no hook {hook}{near(hook, specs.KINDS)}"
        for hook, caller in vars(manager.hook).items()
        if not hook.startswith("_") and not caller.has_spec()
        for each in caller.get_hookimpls()
        if not each.optionalhook
    ]


def near(name: str, known: Iterable[str]) -> str:
    """A suggestion for what was misspelt, "" for none."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {found[0]!r}?" if found else ""
