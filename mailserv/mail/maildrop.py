"""A maildrop as POP3 opens it (RFC 1939 §4): the store's own, or one that a plugin serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mailserv.mail.message import Content


class Message(Protocol):
    """One message at the moment of the login."""

    @property
    def unique_id(self) -> str:
        """1–70 characters 0x21–0x7E; its own for good, also in other sessions and after a restart (RFC 1939 §7)."""
        ...

    @property
    def size(self) -> int:
        """Octets that RETR sends, dot-stuffing aside: every line end counts for two."""
        ...

    @property
    def is_utf8(self) -> bool:
        """Whether its header section is internationalised (RFC 6532): who has not said UTF8 gets a surrogate."""
        ...


class OpenedMaildrop(Protocol):
    """One session's: nobody else has it until `close`. Its thread.

    `read` and `delete` may raise anything: the client hears [SYS/TEMP] then, and tries again.
    """

    @property
    def messages(self) -> Sequence[Message]:
        """The snapshot, oldest first; it never changes. Made without reading a body wherever that can be."""
        ...

    def read(self, message: Message) -> Content | None:
        """The content of one of `messages`, CRLF line ends, of `size` octets; None when it is gone."""
        ...

    def delete(self, messages: Sequence[Message]) -> None:
        """QUIT (RFC 1939 §6): remove these, for good when it returns. Called once at most, never when the client was lost."""
        ...

    def close(self) -> None:
        """The session has ended, however."""
        ...
