"""What a test says of plugins and settings, as the server wants it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mailserv.config import read_mapping
from mailserv.settings import Plugins


def choose_plugins(given: Plugins | Sequence[str | type]) -> tuple[Plugins, dict[str, type]]:
    """`[plugins]`, and the classes that are not looked up, by name. Raises ValueError for two of one name."""
    if isinstance(given, Plugins):
        return given, {}
    names = [each if isinstance(each, str) else plugin_name(each) for each in given]
    if len(set(names)) < len(names):
        raise ValueError(f"two plugins have one name: {', '.join(names)}")
    classes = {name: each for name, each in zip(names, given, strict=True) if not isinstance(each, str)}
    return Plugins(enabled=tuple(names)), classes


def plugin_name(plugin: type) -> str:
    """The class's own name in small letters; of a class Plugin its module's, without "mailserv_"."""
    if plugin.__name__ != "Plugin":
        return plugin.__name__.lower()
    return plugin.__module__.rpartition(".")[2].removeprefix("mailserv_")


def from_toml(config: Mapping[str, Any], chosen: Plugins) -> dict[str, Any]:
    """The settings that are given, typed: `{"queue": {"retry": ["1m"]}}`, with the chosen plugins. Raises ConfigError."""
    given = dict(config)
    if "plugins" in given and chosen.enabled:
        given["plugins"] = {**given["plugins"], "enabled": list(chosen.enabled)}
    settings = read_mapping({"hostname": "mail.example.org", **given})
    return {"plugins": chosen} | {name: getattr(settings, name) for name in given}
