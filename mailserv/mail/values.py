"""Kinds of settings that need a unit, a shape or care: for the server's own settings and those of plugins."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network


class Duration(float):
    """Seconds; written "90s", "5m", "4h" or "5d"."""


class Size(int):
    """Octets; written "50MB" (10⁶) or "64KiB" (2¹⁰)."""


class Secret(str):
    """A secret: a string, { file = "…" } or { env = "…" }. Its repr shows nothing (invariant 10)."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Secret(***)"


Network = IPv4Network | IPv6Network
