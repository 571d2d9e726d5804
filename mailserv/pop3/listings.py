"""What maildrops had at their last login: who polls, and finds what was there before, costs a look and no reading."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from operator import attrgetter

from mailserv.mail.maildrop import Message
from mailserv.store.interface import Store
from mailserv.store.listing import Listing

_IS_UTF8 = attrgetter("is_utf8")

MOST = 150_000  # messages of all maildrops that are kept: some 40 MB
_EACH = 10  # messages that a maildrop counts for beside its own, so that many empty ones are not kept for nothing


class Snapshot:
    """The messages of a maildrop at a login, and what is said of all of them. Never changes, but is made when asked for."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = messages

    @cached_property
    def octets(self) -> int:
        return sum([message.size for message in self.messages])

    @cached_property
    def has_utf8(self) -> bool:
        """Whether any message is internationalised."""
        return any(map(_IS_UTF8, self.messages))

    @cached_property
    def sizes(self) -> bytes:
        """The lines of LIST."""
        return listed([f"{number} {message.size}" for number, message in enumerate(self.messages, 1)])

    @cached_property
    def unique_ids(self) -> bytes:
        """The lines of UIDL."""
        return listed([f"{number} {message.unique_id}" for number, message in enumerate(self.messages, 1)])


def listed(lines: Sequence[str]) -> bytes:
    """Lines of a listing, each with its end."""
    return "\r\n".join([*lines, ""]).encode()


class Listings:
    """Any thread; one maildrop is opened by one session at a time."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Listing, Snapshot]] = (
            OrderedDict()
        )  # the one that was asked for last is last
        self._weight = 0

    def of(self, store: Store, address: str) -> tuple[Listing, Snapshot]:
        """As the mailbox is now. Raises StoreError."""
        with self._lock:
            known = self._kept.get(address)
        listing = store.listing(address, known[0] if known is not None else None)
        if known is None or known[0] is not listing:
            known = listing, Snapshot(listing.messages)
        self._keep(address, known)
        return known

    def _keep(self, address: str, found: tuple[Listing, Snapshot]) -> None:
        with self._lock:
            if (before := self._kept.pop(address, None)) is not None:
                self._weight -= _weight(before[0])
            if _weight(found[0]) > self._most:
                return
            self._kept[address] = found
            self._weight += _weight(found[0])
            while self._weight > self._most:
                self._weight -= _weight(self._kept.popitem(last=False)[1][0])


def _weight(listing: Listing) -> int:
    return len(listing.messages) + _EACH
