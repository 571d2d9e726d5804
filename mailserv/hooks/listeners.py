"""A plugin's listener, so wrapped that a failure costs one connection and is named (invariant 8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mailserv.hooks.guard import guard
from mailserv.mail.listening import Conversation, PluginListener
from mailserv.mail.peer import Peer
from mailserv.mail.value import replace

_HOOK = "register_listeners"


def guarded_listener(plugin: str, listener: PluginListener) -> PluginListener:
    """The same, but a conversation that raises or lies is over."""
    return replace(listener, begin=lambda peer: _Guarded(plugin, listener, peer))


class _Guarded:
    """A conversation that is over once it has failed."""

    def __init__(self, plugin: str, listener: PluginListener, peer: Peer) -> None:
        def guarded(stage: str, function: Callable[..., Any], kind: type) -> Callable[..., Any]:
            return guard(plugin, _HOOK, stage, function, lambda answer: isinstance(answer, kind), None)

        self._inner: Conversation | None = guard(plugin, _HOOK, "begin", listener.begin, bool, None)(peer)
        self._opening = guarded("opening", lambda: self._inner and self._inner.opening(), bytes)
        self._receive = guarded("receive", lambda data: self._inner and self._inner.receive(data), bytes)
        self._is_over = guarded("is_over", lambda: self._inner is None or self._inner.is_over, bool)

    def opening(self) -> bytes:
        return self._said(self._opening() if self._inner else b"")

    def receive(self, data: bytes) -> bytes:
        return self._said(self._receive(data) if self._inner else b"")

    @property
    def is_over(self) -> bool:
        return self._is_over() is not False

    def _said(self, answer: bytes | None) -> bytes:
        if answer is None:
            self._inner = None
        return answer or b""
