"""Finds plugins, enables the ones that the settings name, in the order that they name them."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import msgspec
import pluggy

from mailserv.clock import Clock
from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.hooks import specs
from mailserv.hooks.brought import Plugins, collect
from mailserv.hooks.methods import coroutines, misfits, near, out_of_order, unknown_hooks
from mailserv.hooks.rooms import Rooms
from mailserv.hooks.runner import ALL, Runner
from mailserv.mail.plugin import Services
from mailserv.settings import PluginPolicy

GROUP = "mailserv.plugins"
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
        if wrong := [f"plugin {name}: {text}" for text in misfits(instance)]:
            problems += wrong
            continue
        try:
            manager.register(instance, name)
        except pluggy.PluginValidationError as error:
            problems.append(f"plugin {name}: {'; '.join(str(error).splitlines())}")
    problems += [*out_of_order(manager), *coroutines(manager), *unknown_hooks(manager)]
    if problems:
        raise ConfigError(problems)
    traced = frozenset(filter(None, os.environ.get(TRACE, "").replace(" ", "").split(",")))
    if unknown := sorted(traced - {*specs.KINDS, ALL}):
        raise ConfigError([f"{TRACE}: there is no hook {hook}{near(hook, specs.KINDS)}" for hook in unknown])
    runner = Runner(manager, clock=clock, policies=policies, traced=traced)
    return collect(manager, tuple(name for name, _ in instances), runner)


def _make(load: Callable[[], Any], section: Mapping[str, Any], services: Services) -> object:
    """Import the plugin, read its settings, build it."""
    name = services.name
    try:
        plugin = load()
        if not isinstance(plugin, type):
            raise ConfigError([f"plugin {name}: its entry point is no class"])
        struct = getattr(plugin, "Settings", None)
        if struct is not None and not (isinstance(struct, type) and issubclass(struct, msgspec.Struct)):
            raise ConfigError([f"plugin {name}: its Settings is no msgspec.Struct"])
        settings = read_section(struct, section, name) if struct else None
        if struct is None and section:
            raise ConfigError([f"plugin.{name}: the plugin has no settings"])
        return plugin(settings, services)
    except (ConfigError, KeyboardInterrupt):
        raise
    except ModuleNotFoundError as error:
        text = f"it needs the Python module {error.name}, which is not installed in {sys.prefix}"
        raise ConfigError([f"plugin {name}: cannot be loaded: {text}"]) from error
    except BaseException as error:  # asyncio's CancelledError, too: it would end a server that reloads
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
        if not hasattr(module, "Plugin"):
            raise ConfigError([f"plugin {file.stem}: {file} has no class Plugin"])
        return module.Plugin

    return load


def _unknown(where: str, name: str, known: Iterable[str], state: str = "installed") -> str:
    return f"[plugins] {where}: no plugin {name!r} is {state}{near(name, known)}"
