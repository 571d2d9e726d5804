"""A service of a plugin's own, spoken without a socket: bytes in, bytes out (`[[listen]] service = "NAME"`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mailserv.mail.peer import Peer
from mailserv.mail.value import Value


class Conversation(Protocol):
    """One session. One thread calls it; what it may wait for, only its own client waits for."""

    def opening(self) -> bytes:
        """What is said before the client has said anything; b"" for nothing."""
        ...

    def receive(self, data: bytes) -> bytes:
        """What to answer to what has come, however it was cut into pieces; b"" while there is nothing to say."""
        ...

    @property
    def is_over(self) -> bool:
        """After the last answer the connection is closed."""
        ...


class PluginListener(Value, frozen=True):
    """`begin(peer)` makes the conversation with one client. `tls`: it is spoken under TLS from its first octet."""

    begin: Callable[[Peer], Conversation]
    tls: bool = False
