"""Which plugins there are, installed or as files, and what each of them is: asked without building one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mailserv.cli.config import DEFAULT, config_path, read
from mailserv.clock import Clock, SystemClock
from mailserv.errors import ConfigError
from mailserv.hooks.brought import Plugins
from mailserv.hooks.host import GROUP, SHIPPED_EXTENSIONS, available_plugins, load_plugins, plugin_files
from mailserv.hooks.methods import MARK
from mailserv.hooks.rooms import Rooms
from mailserv.hooks.specs import KINDS
from mailserv.settings import Settings

OURS = "mailserv"  # the distribution that brings the shipped ones


@dataclass(frozen=True, slots=True)
class Found:
    """`distribution` is "" for a plugin that is a single file; `source` says where it comes from."""

    name: str
    distribution: str
    version: str
    source: str
    entry: EntryPoint | None


def installed() -> dict[str, Found]:
    """Every entry point in the group, by name."""
    found = {}
    for entry in entry_points(group=GROUP):
        name, version = (entry.dist.name, entry.dist.version) if entry.dist else ("", "")
        source = "shipped" if name == OURS else f"{name} ({entry.value})"
        found[entry.name] = Found(entry.name, name, version, source, entry)
    return found


def all_found(settings: Settings) -> dict[str, Found]:
    """The installed ones, and the files in `[plugins] path`, which go before them. By name, in the order of the alphabet."""
    files = {file.stem: Found(file.stem, "", "", str(file), None) for file in plugin_files(settings.plugins.path)}
    found = installed() | files
    return dict(sorted(found.items()))


def require(name: str, settings: Settings) -> Found:
    """Raises ConfigError when there is no such plugin, with the nearest name."""
    found = all_found(settings)
    if name not in found:
        load_alone(name, settings)  # says it, and what is near
    return found[name]


def is_enabled(name: str, settings: Settings) -> bool:
    """Whether a server with these settings would run it."""
    plugins = settings.plugins
    return name in plugins.enabled or (name in SHIPPED_EXTENSIONS and name not in plugins.disabled)


def hooks_of(name: str, settings: Settings) -> tuple[str, ...]:
    """The hooks that its class implements. Raises ConfigError when it cannot be imported."""
    try:
        plugin = available_plugins(settings.plugins.path)[name]()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin's module may raise anything, and is told of as the host does
        raise ConfigError([f"plugin {name}: cannot be loaded: {type(error).__name__}: {error}"]) from error
    return tuple(hook for hook in KINDS if hasattr(getattr(plugin, hook, None), MARK))


def settings_for(config: Path | None) -> Settings:
    """The settings file's, unchecked; without one anywhere, the least that there can be: an author has no server."""
    if config is None and not os.environ.get("MAILSERV_CONFIG") and not DEFAULT.exists():
        return Settings(hostname="mail.example.org")
    return read(config_path(config))


def load_enabled(settings: Settings) -> Plugins:
    """What a server with these settings would run. Raises ConfigError. Close its runner."""
    plugins = settings.plugins
    return _load(settings, plugins.enabled, plugins.disabled)


def load_alone(
    name: str,
    settings: Settings,
    *,
    section: Mapping[str, Any] | None = None,
    clock: Clock | None = None,
    rooms: Rooms | None = None,
) -> Plugins:
    """This plugin and no other, with its own settings, or with `section` in their place. Raises ConfigError."""
    others = tuple(each for each in SHIPPED_EXTENSIONS if each != name)
    sections = settings.plugin if section is None else {name: section}
    return _load(settings, (name,), others, sections=sections, clock=clock, rooms=rooms, only=name)


def _load(
    settings: Settings,
    enabled: tuple[str, ...],
    disabled: tuple[str, ...],
    *,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
    clock: Clock | None = None,
    rooms: Rooms | None = None,
    only: str = "",
) -> Plugins:
    policies = settings.plugins.policy
    return load_plugins(
        enabled,
        disabled,
        settings.plugins.path,
        settings.plugin if sections is None else sections,
        hostname=settings.hostname,
        clock=clock or SystemClock(),
        policies={name: policy for name, policy in policies.items() if only in ("", name)},
        rooms=rooms,
    )
