"""A message's content, and the whole of what one acceptance commits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Protocol

from mailserv.mail.address import Address
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.mail.value import Value, field

BLOCK = 256 * 1024  # octets: how much of a message is in memory at a time when it comes from a file


class Content(Protocol):
    """Header section and body as bytes, CRLF line ends, no dot-stuffing. Any thread; each `blocks` call reads anew."""

    @property
    def size(self) -> int:
        """Octets."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """The content in order, in blocks of at most BLOCK octets, or in one when it is in memory."""
        ...


class BytesContent(Value, frozen=True):
    """Content that is small enough to be one `bytes`."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    def blocks(self) -> Iterator[bytes]:
        yield self.data


class PrefixedContent(Value, frozen=True):
    """Content with header fields above it: those of final delivery in a mailbox, or what a forwarder adds."""

    prefix: bytes
    content: Content

    @property
    def size(self) -> int:
        return len(self.prefix) + self.content.size

    def blocks(self) -> Iterator[bytes]:
        yield self.prefix
        yield from self.content.blocks()


class SplicedContent(Value, frozen=True):
    """Content with more octets at one place: header fields below the Received that stands at its top."""

    content: Content
    at: int
    inserted: bytes

    @property
    def size(self) -> int:
        return self.content.size + len(self.inserted)

    def blocks(self) -> Iterator[bytes]:
        seen = 0
        for block in self.content.blocks():
            cut = self.at - seen
            seen += len(block)
            yield block[:cut] + self.inserted + block[cut:] if 0 < cut <= len(block) else block


def header_section(content: Content, limit: int = 1024 * 1024) -> bytes:
    """The header section without the empty line, at most `limit` octets of it. Reads no more blocks than it needs."""
    seen = b""
    for block in content.blocks():
        seen += block
        if seen.startswith(b"\r\n"):
            return b""
        end = seen.find(b"\r\n\r\n")
        if end >= 0:
            return seen[: min(end + 2, limit)]
        if len(seen) >= limit:
            break
    return seen[:limit]


_FIELD = re.compile(rb"[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*")


def header_fields(section: bytes) -> list[bytes]:
    """The fields of a header section, each with its folded lines (RFC 5322 §2.2.3); none where it was cut off in one."""
    fields = _FIELD.findall(section)
    return fields if b"".join(fields) == section else []


def field_name(field: bytes) -> bytes:
    """In small letters; white space before the colon does not count (RFC 5322 §4.5)."""
    return field.partition(b":")[0].rstrip(b" \t").lower()


class MailboxDelivery(Value, frozen=True):
    """One copy in one local mailbox: the row is the delivery. Key: (queue id, recipient) - see docs/lessons.md 3.

    `account` is the account's address; `recipient` the forward-path it came for; `prefix` the header fields that
    final delivery adds before the content (Return-Path, RFC 5321 §4.4; Delivered-To), CRLF line ends; `quota` octets
    that the mailbox may hold with it, 0 without a limit.
    """

    account: str
    recipient: str
    prefix: bytes
    quota: int = 0


class QueuedRecipient(Value, frozen=True):
    """One recipient for the queue. `original` is the path RCPT named (before aliases); `parameters` are RCPT's own."""

    forward_path: Address
    original: Address
    route: Route
    parameters: Mapping[str, str] = field(default_factory=dict)


class Once(Value, frozen=True):
    """A second acceptance with this key, before `until` (epoch seconds), is not made."""

    key: str
    until: float


class Acceptance(Value, frozen=True):
    """Everything that one message's acceptance commits, in one transaction, before its 250 (RFC 5321 §6.1).

    `parameters` are MAIL's (keyword in capitals → value, "" without one): BODY, SMTPUTF8, RET, ENVID, …
    `login` is the account that submitted it ("" if none): delay notices go only to our own senders.
    """

    queue_id: str
    reverse_path: Address
    content: Content
    received_at: float
    parameters: Mapping[str, str] = field(default_factory=dict)
    login: str = ""
    peer_ip: str = ""
    mailboxes: tuple[MailboxDelivery, ...] = ()
    queued: tuple[QueuedRecipient, ...] = ()
    trace: tuple[TraceEntry, ...] = ()
    once: Once | None = None
