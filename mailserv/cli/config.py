"""Where the configuration file is, and every check of every room over it."""

from __future__ import annotations

import os
from collections.abc import Container, Iterator, Set
from importlib.metadata import entry_points
from pathlib import Path
from typing import get_args

from mailserv.clock import SystemClock
from mailserv.config import Loaded, load
from mailserv.config.problems import did_you_mean
from mailserv.errors import ConfigError
from mailserv.hooks.brought import Plugins
from mailserv.hooks.host import GROUP, SHIPPED_EXTENSIONS, load_plugins, plugin_files
from mailserv.hooks.rooms import Rooms
from mailserv.mail.route import SMTP, parse_route
from mailserv.route.table import RoutingTable
from mailserv.settings import Routed, Service, Settings

DEFAULT = Path("/etc/mailserv/mailserv.toml")


def config_path(given: Path | None) -> Path:
    """`--config`, else $MAILSERV_CONFIG, else /etc/mailserv/mailserv.toml."""
    return given or Path(os.environ.get("MAILSERV_CONFIG") or DEFAULT)


def read(given: Path | None) -> Settings:
    """For a command that only needs the store: the certificate is not looked at. Raises ConfigError."""
    return load(config_path(given), [RoutingTable.from_settings], check_files=False).settings


def read_and_check(given: Path | None) -> Loaded:
    """For the server and for `check`: nothing wrong starts. Imports the enabled plugins. Raises ConfigError."""
    path = config_path(given)
    loaded = load(path, [RoutingTable.from_settings, _plugins, _plugin_sections])
    hiding = [f"{path}: plugins.path: {each}" for each in _hiding(loaded.settings)]
    return Loaded(loaded.settings, [*loaded.warnings, *hiding])


def _plugins(settings: Settings) -> None:
    found = enabled_plugins(settings)
    problems = [*_transports(settings, {SMTP, *found.transports}), *_services(settings, found.listeners)]
    if problems:
        raise ConfigError(problems)


def enabled_plugins(settings: Settings, rooms: Rooms | None = None) -> Plugins:
    """Imported and configured, with no server around them; `rooms`: what they may use. Raises ConfigError."""
    plugins = settings.plugins
    return load_plugins(
        plugins.enabled,
        plugins.disabled,
        plugins.path,
        settings.plugin,
        hostname=settings.hostname,
        clock=SystemClock(),
        policies=plugins.policy,
        rooms=rooms,
    )


def _transports(settings: Settings, known: Set[str]) -> Iterator[str]:
    """A route to a transport that nobody brings: its mail would wait for days, and then bounce."""
    for key, entry in settings.routes.items():
        try:
            name = parse_route(entry.to if isinstance(entry, Routed) else entry).transport
        except ValueError:  # the routing table tells
            continue
        if name not in known:
            yield f'routes."{key}": no enabled plugin brings the transport "{name}"{did_you_mean(name, known)}'


def _services(settings: Settings, listeners: Container[str]) -> Iterator[str]:
    """A plugin's name where it has no service: the server would not start. One of ours may be named as a plugin is: lmtp."""
    for block in settings.listen:
        is_plugin = block.service in settings.plugins.enabled and block.service not in get_args(Service)
        if is_plugin and block.service not in listeners:
            yield f'listen: the plugin "{block.service}" has no service'


def _hiding(settings: Settings) -> Iterator[str]:
    """A file may be meant to, or be called so by chance: then that plugin is missed, and nothing says so."""
    installed = {entry.name for entry in entry_points(group=GROUP)}
    for file in plugin_files(settings.plugins.path):
        if file.stem in installed:
            yield f"{file} goes before the installed plugin of that name"


def _plugin_sections(settings: Settings) -> None:
    """A `[plugin.x]` that speaks to nobody is a mistake: most likely the plugin was meant to be on."""
    known = {*settings.plugins.enabled, *SHIPPED_EXTENSIONS}
    problems = [
        f'plugin.{name}: no plugin "{name}" is enabled; add it to enabled in [plugins]'
        for name in settings.plugin
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
