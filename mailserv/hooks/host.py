"""Finds plugins, enables the ones that the settings name, in the order that they name them."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy
from click import Command

from mailserv.clock import Clock
from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.hooks import specs
from mailserv.hooks.extensions import OUR_KEYS, flaws, guarded, keys
from mailserv.hooks.listeners import guarded_listener
from mailserv.hooks.mechanisms import guarded_mechanism
from mailserv.hooks.pop3_extensions import OUR_POP3_KEYS, guarded_pop3, pop3_keys
from mailserv.hooks.rooms import Rooms
from mailserv.hooks.runner import ALL, Runner
from mailserv.mail.delivery import Transport
from mailserv.mail.extension import SMTPExtension
from mailserv.mail.listening import PluginListener
from mailserv.mail.plugin import Services
from mailserv.mail.pop3_extension import Pop3Extension
from mailserv.mail.sasl import SaslMechanism
from mailserv.protocol.sasl import BUILT_IN
from mailserv.settings import PluginPolicy

GROUP = "mailserv.plugins"
OURS = "mailserv"  # who brings what no plugin does
TRACE = "MAILSERV_TRACE_PLUGINS"  # in the environment: hooks whose every call is logged, separated by commas, or "all"
SHIPPED_EXTENSIONS = (
    "size",
    "8bitmime",
    "pipelining",
    "enhancedstatuscodes",
    "smtputf8",
    "starttls",
    "auth",
    "dsn",
    "chunking",
    "binarymime",
    "limits",
    "vrfy",
    "expn",
    "help",
    "pop3utf8",
)
"""On unless `[plugins] disabled` names them; EHLO and CAPA list them in this order, then those of `enabled`."""


@dataclass(frozen=True, slots=True)
class Plugins:
    """What the enabled plugins brought, checked for contradictions."""

    names: tuple[str, ...]
    extensions: tuple[SMTPExtension, ...]
    transports: Mapping[str, Transport]
    commands: Mapping[str, Sequence[Command]]  # by plugin
    listeners: Mapping[str, PluginListener]  # by plugin
    runner: Runner
    mechanisms: tuple[SaslMechanism, ...] = BUILT_IN
    pop3_extensions: tuple[Pop3Extension, ...] = ()


def load_plugins(
    enabled: Sequence[str],
    disabled: Sequence[str],
    path: Path | None,
    sections: Mapping[str, Mapping[str, Any]],
    *,
    hostname: str,
    clock: Clock,
    policies: Mapping[str, PluginPolicy] | None = None,
    rooms: Rooms | None = None,
    classes: Mapping[str, type] | None = None,
) -> Plugins:
    """Import, configure, register. Raises ConfigError with every problem found, each naming its plugin. Main thread.

    `policies` is `[plugins.policy]`; `rooms` what a running server lets plugins use; `classes` are
    plugins that a test holds in its hands, each under the name that `enabled` has for it.
    """
    problems: list[str] = []
    available = available_plugins(path) | {name: partial(_itself, kind) for name, kind in (classes or {}).items()}
    names = [name for name in SHIPPED_EXTENSIONS if name not in disabled]
    names = list(dict.fromkeys((*names, *enabled)))
    problems += [f'[plugins] enabled: "{name}" is there twice' for name, count in Counter(enabled).items() if count > 1]
    problems += [_unknown("disabled", name, SHIPPED_EXTENSIONS) for name in disabled if name not in SHIPPED_EXTENSIONS]
    problems += [_unknown("policy", name, names, "enabled") for name in policies or () if name not in names]
    manager = pluggy.PluginManager("mailserv")
    manager.add_hookspecs(specs)
    instances: list[tuple[str, object]] = []
    for name in names:
        if name not in available:
            problems.append(_unknown("enabled", name, available))
            continue
        services = (rooms or Rooms()).services(name, hostname, clock)
        try:
            instances.append((name, _make(available[name], sections.get(name, {}), services)))
        except ConfigError as error:
            problems += error.problems
    for name, instance in reversed(instances):  # pluggy calls the one registered last first
        try:
            manager.register(instance, name)
        except pluggy.PluginValidationError as error:
            problems.append(f"plugin {name}: {'; '.join(str(error).splitlines())}")
    problems += [*_out_of_order(manager), *_coroutines(manager)]
    problems += _unknown_hooks(manager)
    if problems:
        raise ConfigError(problems)
    traced = frozenset(filter(None, os.environ.get(TRACE, "").replace(" ", "").split(",")))
    if unknown := sorted(traced - {*specs.KINDS, ALL}):
        raise ConfigError([f"{TRACE}: there is no hook {hook}{_near(hook, specs.KINDS)}" for hook in unknown])
    runner = Runner(manager, clock=clock, policies=policies, traced=traced)
    return _collect(manager, tuple(name for name, _ in instances), runner)


def _out_of_order(manager: pluggy.PluginManager) -> list[str]:
    """pluggy's own ways to come first, last or around the others: the order is the operator's."""
    return [
        f"plugin {each.plugin_name}: {hook} must not be tryfirst, trylast or a wrapper: [plugins] enabled has the order"
        for hook in specs.KINDS
        for each in getattr(manager.hook, hook).get_hookimpls()
        if each.tryfirst or each.trylast or each.hookwrapper or each.wrapper
    ]


def _coroutines(manager: pluggy.PluginManager) -> list[str]:
    """What `async def` answers is a coroutine that nobody awaits: each call would be a lie."""
    return [
        f"plugin {each.plugin_name}: {hook} is async, and a hook is an ordinary function, called on a thread"
        for hook in specs.KINDS
        for each in getattr(manager.hook, hook).get_hookimpls()
        if inspect.iscoroutinefunction(each.function) or inspect.isasyncgenfunction(each.function)
    ]


def _unknown_hooks(manager: pluggy.PluginManager) -> list[str]:
    """All that pluggy's `check_pending` would stop at the first of."""
    return [
        f"plugin {each.plugin_name}: there is no hook {hook}{_near(hook, specs.KINDS)}"
        for hook, caller in vars(manager.hook).items()
        if not hook.startswith("_") and not caller.has_spec()
        for each in caller.get_hookimpls()
        if not each.optionalhook
    ]


def _collect(manager: pluggy.PluginManager, names: tuple[str, ...], runner: Runner) -> Plugins:
    problems: list[str] = []
    extensions = _answers(manager, "register_smtp_extensions", SMTPExtension, problems)
    flawed = [f"plugin {owner}: {flaw}" for owner, extension in extensions for flaw in flaws(extension)]
    if flawed:
        raise ConfigError(problems + flawed)
    transports = _answers(manager, "register_transports", tuple, problems)
    pop3 = _answers(manager, "register_pop3_extensions", Pop3Extension, problems)
    mechanisms = _answers(manager, "register_sasl_mechanisms", SaslMechanism, problems)
    ours = [(OURS, key) for key in (*OUR_KEYS, *OUR_POP3_KEYS)]
    theirs = [(owner, key) for owner, extension in extensions for key in keys(extension)]
    theirs += [(owner, f"transport {pair[0]}") for owner, pair in transports]
    theirs += [(owner, key) for owner, extension in pop3 for key in pop3_keys(extension)]
    problems += _contradictions(ours + theirs)
    built_in = [(OURS, mechanism) for mechanism in BUILT_IN]
    problems += _contradictions((owner, f"SASL mechanism {each.name}") for owner, each in [*built_in, *mechanisms])
    problems += [
        f"plugin {owner}: {each.keyword!r} with {each.advertise!r} is no keyword with its text"
        for owner, each in pop3
        if isinstance(each.advertise, str) and not (each.keyword + each.advertise).isprintable()
    ]
    listeners = _answers(manager, "register_listeners", PluginListener, problems)
    problems += _contradictions((owner, f"service {owner}") for owner, _ in listeners)
    commands = _answers(manager, "register_commands", Command, problems)
    problems += _contradictions((owner, f"command {owner} {command.name}") for owner, command in commands)
    problems += [f"plugin.{name}.{text}" for name, text in _answers(manager, "check_config", str, problems)]
    if problems:
        raise ConfigError(problems)
    return Plugins(
        names=names,
        extensions=tuple(guarded(owner, extension) for owner, extension in extensions),
        transports=dict(pair for _, pair in transports),
        listeners={owner: guarded_listener(owner, listener) for owner, listener in listeners},
        commands={name: [command for owner, command in commands if owner == name] for name in names},
        runner=runner,
        mechanisms=BUILT_IN + tuple(guarded_mechanism(owner, mechanism) for owner, mechanism in mechanisms),
        pop3_extensions=tuple(guarded_pop3(owner, extension) for owner, extension in pop3),
    )


def _answers(manager: pluggy.PluginManager, hook: str, kind: type, problems: list[str]) -> list[tuple[str, Any]]:
    """Every answer with its plugin's name. What raises or has a wrong type is a problem that names it."""
    found = []
    for implementation in reversed(getattr(manager.hook, hook).get_hookimpls()):
        name = implementation.plugin_name
        try:
            answers = list(implementation.function())
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the hook runner is one of the three places for this
            problems.append(f"plugin {name}: {hook} raised {type(error).__name__}: {error}")
            continue
        problems += [
            f"plugin {name}: {hook} gave {a!r}, not a {kind.__name__}" for a in answers if not isinstance(a, kind)
        ]
        found += [(name, answer) for answer in answers if isinstance(answer, kind)]
    return found


def _contradictions(claims: Iterable[tuple[str, str]]) -> list[str]:
    first: dict[str, str] = {}
    problems = []
    for owner, key in claims:
        if key in first:
            problems.append(
                f"plugin {owner} brings {key}, which mailserv has itself"
                if first[key] == OURS
                else f"plugins {first[key]} and {owner} both bring {key}: disable one of them"
            )
        else:
            first[key] = owner
    return problems


def _make(load: Callable[[], Any], section: Mapping[str, Any], services: Services) -> object:
    """Import the plugin, read its settings, build it."""
    name = services.name
    try:
        plugin = load()
        if not isinstance(plugin, type):
            raise ConfigError([f"plugin {name}: its entry point is no class"])
        struct = getattr(plugin, "Settings", None)
        settings = read_section(struct, section, name) if struct else None
        if struct is None and section:
            raise ConfigError([f"plugin.{name}: the plugin has no settings"])
        return plugin(settings, services)
    except ConfigError:
        raise
    except ModuleNotFoundError as error:
        text = f"it needs the Python module {error.name}, which is not installed in {sys.prefix}"
        raise ConfigError([f"plugin {name}: cannot be loaded: {text}"]) from error
    except (Exception, SystemExit) as error:
        services.log.exception("plugin_failed", stage="load")
        raise ConfigError([f"plugin {name}: cannot be loaded: {type(error).__name__}: {error}"]) from error


def available_plugins(path: Path | None) -> dict[str, Callable[[], Any]]:
    """By name: what imports the plugin's class, and raises what that raises. A file in `path` goes before an entry point."""
    found: dict[str, Callable[[], Any]] = {}
    for entry in entry_points(group=GROUP):
        found[entry.name] = _entry_loader(entry)
    for file in plugin_files(path):
        found[file.stem] = _file_loader(file)
    return found


def plugin_files(path: Path | None) -> list[Path]:
    """The plugins of `[plugins] path`, which are single files."""
    return sorted(path.glob("*.py")) if path is not None and path.is_dir() else []


def _itself(plugin: type) -> type:
    return plugin


def _entry_loader(entry: EntryPoint) -> Callable[[], Any]:
    return lambda: entry.load()


def _file_loader(file: Path) -> Callable[[], Any]:
    def load() -> Any:
        spec = importlib.util.spec_from_file_location(f"mailserv_plugin_file_{file.stem}", file)
        if spec is None or spec.loader is None:
            raise ConfigError([f"plugin {file.stem}: {file} is no Python file"])
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module.Plugin

    return load


def _unknown(where: str, name: str, known: Iterable[str], state: str = "installed") -> str:
    return f"[plugins] {where}: no plugin {name!r} is {state}{_near(name, known)}"


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
