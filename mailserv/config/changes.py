"""What a reload can change while mail flows, and what only a restart can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from mailserv.config.problems import dotted
from mailserv.settings import Settings

RESTART = (
    "hostname",
    "data_dir",
    "listen",
    "plugins",
    "plugin",
    "queue.workers",
    "limits.one_core",
    "limits.processes",
)
"""Sockets, the database, imported code and the pool of threads are made once."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Names of changed settings, in the order of the file: those to apply now, and those that wait for a restart."""

    reloadable: tuple[str, ...]
    restart: tuple[str, ...]


def diff(old: Settings, new: Settings) -> Changes:
    """Every setting that differs. Pure."""
    changed = _changed(old, new, ())
    restart = tuple(name for name in changed if needs_restart(name))
    return Changes(tuple(name for name in changed if name not in restart), restart)


def _changed(old: Any, new: Any, path: tuple[str, ...]) -> list[str]:
    if isinstance(old, msgspec.Struct) and type(old) is type(new):
        names = [field.name for field in msgspec.structs.fields(type(old))]
        return [found for name in names for found in _changed(getattr(old, name), getattr(new, name), (*path, name))]
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [dotted((*path, key)) for key in keys if old.get(key) != new.get(key)]
    return [dotted(path)] if old != new else []


def needs_restart(name: str) -> bool:
    """Whether a change of this setting, "table.key", waits for a restart."""
    return any(name == key or name.startswith(f"{key}.") for key in RESTART)
