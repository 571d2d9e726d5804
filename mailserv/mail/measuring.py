"""What a plugin may count and show of itself, for Prometheus (`Services.metrics`)."""

from __future__ import annotations

from typing import Protocol


class Count(Protocol):
    """Something that only grows. Any thread."""

    def add(self, by: float = 1.0) -> None:
        """`by` is not negative."""
        ...


class Level(Protocol):
    """Something that is as it is now. Any thread."""

    def set(self, value: float) -> None: ...


class Metrics(Protocol):
    """Each is made once, in the plugin's constructor: a name that comes from a client would fill the memory.

    `name`: small letters, digits and "_", the plural of what is counted ("greylisted", "waiting"). ValueError for others.
    """

    def count(self, name: str) -> Count:
        """`mailserv_plugin_events_total{plugin="…",event="NAME"}`."""
        ...

    def level(self, name: str) -> Level:
        """`mailserv_plugin_level{plugin="…",name="NAME"}`."""
        ...


class Silent:
    """Counts for nobody: where no server runs."""

    def count(self, name: str) -> Silent:  # noqa: ARG002 - the protocol's word
        return self

    def level(self, name: str) -> Silent:  # noqa: ARG002 - as above
        return self

    def add(self, by: float = 1.0) -> None:
        pass

    def set(self, value: float) -> None:
        pass
