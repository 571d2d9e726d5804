"""What a plugin is given: values and a few services, never the server (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Services:
    """`name` is the plugin's own; `now` the clock (epoch seconds); `log` a structlog logger that carries the plugin's name."""

    name: str
    hostname: str
    now: Callable[[], float]
    log: Any


class NoSettings:
    """The settings of a plugin that has none: its `[plugin.NAME]` must be absent or empty."""
