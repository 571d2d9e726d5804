"""What a running server lets its plugins use, and how each gets its own piece of it (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mailserv.clock import Clock
from mailserv.logging import get_logger
from mailserv.mail.plugin import MemoryTable, Names, Services, Submit, Table
from mailserv.mail.value import replace
from mailserv.metrics import PluginMetrics


@dataclass(frozen=True, slots=True)
class Rooms:
    """`table(name)` and `submit(name)` are the plugin's own. What is None is not there: `mailserv check` has no server."""

    dns: Names | None = None
    table: Callable[[str], Table] | None = None
    submit: Callable[[str], Submit] | None = None

    def services(self, name: str, hostname: str, clock: Clock) -> Services:
        """One plugin's services."""
        plain = Services(name, hostname, clock.now, get_logger(f"plugin.{name}"), monotonic=clock.monotonic)
        return replace(
            plain,
            dns=self.dns or plain.dns,
            table=self.table(name) if self.table else MemoryTable(clock.now),
            submit=self.submit(name) if self.submit else plain.submit,
            metrics=PluginMetrics(name),
        )
