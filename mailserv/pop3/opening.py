"""Which maildrop a login opens: one that a plugin serves, or the store's; and what stands between a session and either."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailserv.errors import StoreError, StoreUnavailable
from mailserv.hooks.runner import Runner
from mailserv.logging import get_logger
from mailserv.mail.maildrop import Message, OpenedMaildrop
from mailserv.mail.message import Content
from mailserv.pop3.listings import Listings, Snapshot
from mailserv.store.interface import Store
from mailserv.store.listing import MaildropMessage

_log = get_logger("pop3")
_HOOK = "open_maildrop"
AHEAD = 32  # messages read by one query
AHEAD_OCTETS = 128 * 1024  # of these messages, which a session holds: small ones only are worth it


class SessionMaildrop(OpenedMaildrop, Protocol):
    """What a session has of either. `is_ours`: the store's, for which `[mailboxes]` has rules."""

    @property
    def is_ours(self) -> bool: ...

    @property
    def snapshot(self) -> Snapshot:
        """Of `messages`."""
        ...

    def mark_retrieved(self, messages: Sequence[Message], now: float) -> None:
        """The client has these, and left them. Raises StoreError."""
        ...


def open_maildrop(store: Store, runner: Runner | None, address: str, listings: Listings) -> SessionMaildrop:
    """Raises StoreError, PluginError: not now."""
    served = runner.provide(_HOOK, address=address) if runner is not None and runner.has(_HOOK) else None
    return StoreMaildrop(store, address, listings) if served is None else ServedMaildrop(served)


def _row_id(message: MaildropMessage) -> int:
    return message.row_id


class StoreMaildrop:
    """The mailbox of an account in our own store. Who reads one message after the other gets them several at a time."""

    is_ours = True

    def __init__(self, store: Store, address: str, listings: Listings) -> None:
        self._store = store
        listing, self.snapshot = listings.of(store, address)
        self.messages = listing.messages
        self._next = -1  # index of the message behind the last that was read
        self._ahead: dict[str, Content] = {}

    def read(self, message: Message) -> Content | None:
        content = self._ahead.pop(message.unique_id, None)
        if content is None:
            assert isinstance(message, MaildropMessage)
            content = self._read_on(message) or self._store.read(message)
        return content

    def _read_on(self, message: MaildropMessage) -> Content | None:
        """With the messages behind it, if the one before it has just been read."""
        index = bisect_left(self.messages, message.row_id, key=_row_id)
        is_next = index == self._next
        self._next = index + 1
        if not is_next:
            return None
        following = self._from(index)
        self._next = index + max(1, len(following))
        self._ahead = self._store.read_ahead(following)
        return self._ahead.pop(message.unique_id, None)

    def _from(self, index: int) -> list[MaildropMessage]:
        """So many as are read at a time."""
        found: list[MaildropMessage] = []
        octets = 0
        for message in self.messages[index : index + AHEAD]:
            octets += message.size
            if octets > AHEAD_OCTETS:
                break
            found.append(message)
        return found

    def delete(self, messages: Sequence[Message]) -> None:
        self._store.delete([message for message in messages if isinstance(message, MaildropMessage)])

    def mark_retrieved(self, messages: Sequence[Message], now: float) -> None:
        self._store.mailboxes.mark_retrieved([each for each in messages if isinstance(each, MaildropMessage)], now)

    def close(self) -> None:
        """Nothing is open."""


class ServedMaildrop:
    """A plugin's, whose failures come as the store's do: StoreError, once the log has the traceback (invariant 8)."""

    is_ours = False

    def __init__(self, served: OpenedMaildrop) -> None:
        self._served = served
        self.messages = served.messages
        self.snapshot = Snapshot(self.messages)

    def read(self, message: Message) -> Content | None:
        try:
            content = self._served.read(message)
            return None if content is None else _ServedContent(content, content.size)
        except Exception as error:
            raise _failed("read", error) from error

    def delete(self, messages: Sequence[Message]) -> None:
        try:
            self._served.delete(messages)
        except Exception as error:
            raise _failed("delete", error) from error

    def mark_retrieved(self, messages: Sequence[Message], now: float) -> None:
        """How long they stay there is the plugin's affair."""

    def close(self) -> None:
        try:
            self._served.close()
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and the session is over
            _failed("close", error)


@dataclass(frozen=True, slots=True)
class _ServedContent:
    content: Content
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Raises StoreError: an OSError here would be taken for the client's connection."""
        blocks = self.content.blocks()
        while True:
            try:
                block = next(blocks)
            except StopIteration:
                return
            except Exception as error:
                raise _failed("blocks", error) from error
            yield block


def _failed(stage: str, error: Exception) -> StoreError:
    if isinstance(error, StoreError):
        return error
    _log.error("plugin_failed", hook=_HOOK, stage=stage, exc_info=error)
    return StoreUnavailable(f"a plugin's maildrop failed: {type(error).__name__}")
