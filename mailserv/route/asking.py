"""The hooks that say where mail goes and who may send as whom: a typed face for the runner."""

from __future__ import annotations

from collections.abc import Sequence

from mailserv.hooks.runner import Runner
from mailserv.mail.address import Address
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route


class RouteHooks:
    """Any thread. Each raises PluginError when a plugin failed whose word would have counted. Without a runner: nobody."""

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self.resolves = runner is not None and runner.has("resolve_recipient")
        self.expands = runner is not None and runner.has("expand_recipient")
        self.routes = runner is not None and runner.has("route_delivery")
        self.permits = runner is not None and runner.has("may_send_as")

    def resolve(self, address: Address) -> Resolution | None:
        """A plugin's whole answer for this address, which then counts as ours (invariant 4)."""
        return self._runner.provide("resolve_recipient", address=address) if self._runner and self.resolves else None

    def expand(self, address: Address) -> Sequence[Address] | None:
        """The addresses that an address of ours stands for."""
        return self._runner.provide("expand_recipient", address=address) if self._runner and self.expands else None

    def route(self, address: Address, route: Route, reverse_path: Address) -> Route:
        """The way out for an address that is not ours; `route` is the settings' own."""
        if not self._runner or not self.routes:
            return route
        return self._runner.provide("route_delivery", address=address, route=route, reverse_path=reverse_path) or route

    def may_send_as(self, login: str, reverse_path: Address) -> bool | None:
        """None: nobody has an opinion."""
        if not self._runner or not self.permits:
            return None
        opinion: bool | None = self._runner.provide("may_send_as", login=login, reverse_path=reverse_path)
        return opinion
