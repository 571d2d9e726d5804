"""The hooks that say where mail goes and who may send as whom: a typed face for the runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from mailserv.hooks.round import NOBODY, Asking, unasked
from mailserv.hooks.runner import Runner
from mailserv.mail.address import Address
from mailserv.mail.resolution import Resolution
from mailserv.mail.route import Route

T = TypeVar("T")


class RouteHooks:
    """Any thread. Each raises PluginError when a plugin failed whose word would have counted. Without a runner: nobody."""

    def __init__(self, runner: Runner | None = None) -> None:
        self._runner = runner
        self.expands = runner is not None and runner.has("expand_recipient")
        self.knows_recipients = self.expands or (runner is not None and runner.has("resolve_recipient"))
        """Somebody resolves or expands them."""

    def wait(self, asking: Asking[T]) -> T:
        """What comes of it, for a thread that waits for plugins."""
        if self._runner is not None:
            return self._runner.wait(asking)
        return unasked(asking)

    def resolve(self, address: Address) -> Asking[Resolution | None]:
        """A plugin's whole answer for this address, which then counts as ours (invariant 4)."""
        return self._provide("resolve_recipient", address=address)

    def expand(self, address: Address) -> Asking[Sequence[Address] | None]:
        """The addresses that an address of ours stands for."""
        return self._provide("expand_recipient", address=address)

    def route(self, address: Address, route: Route, reverse_path: Address) -> Asking[Route]:
        """The way out for an address that is not ours; `route` is the settings' own."""
        hop = yield from self._provide("route_delivery", address=address, route=route, reverse_path=reverse_path)
        return hop or route

    def may_send_as(self, login: str, reverse_path: Address) -> Asking[bool | None]:
        """None: nobody has an opinion."""
        return self._provide("may_send_as", login=login, reverse_path=reverse_path)

    def _provide(self, hook: str, **arguments: Any) -> Asking[Any]:
        if self._runner is None or not self._runner.has(hook):
            return NOBODY
        return self._runner.ask.provide(hook, **arguments)
