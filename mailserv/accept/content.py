"""Content on its way from the wire to the spool: header section first, limits as it flows."""

from __future__ import annotations

from collections.abc import Callable

from mailserv.errors import MailboxFull, StorageFull, StoreError
from mailserv.filter import headers
from mailserv.filter.auth_results import without_forged
from mailserv.mail import reply
from mailserv.mail.message import Content
from mailserv.mail.reply import Reply
from mailserv.store.interface import SpoolWriter

END_OF_HEADER = b"\r\n\r\n"
SMALL_BLOCK = (
    4096  # octets: smaller blocks are put together, so that a message in pieces costs no more than a whole one
)


class ContentSink:
    """Takes one message's blocks. The first failure is kept as the reply to the final dot; what follows is dropped.

    The header section is held back until it is whole (it is bounded), so that it can be completed (RFC 6409 §8), rid of
    what claims to be ours (`authserv_id`, RFC 8601 §5) and checked for loops (RFC 5321 §6.3) before any of it is stored.
    The session's thread.
    """

    def __init__(
        self,
        spool: SpoolWriter,
        *,
        trace_field: bytes,
        authserv_id: str,
        message_size: int,
        header_size: int,
        hops: int,
        complete: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._spool = spool
        self._message_size = message_size
        self._header_size = header_size
        self._hops = hops
        self._complete = complete
        self._held: bytearray | None = bytearray()
        self._small = bytearray()
        self._trace_field = trace_field
        self._authserv_id = authserv_id
        self._tail = b""
        self.header_section = b""
        self.size = 0
        self.failure: Reply | None = None

    def write(self, block: bytes) -> None:
        """Append a block of any size."""
        self.size += len(block)
        if self.failure is not None:
            return
        if self.size > self._message_size:
            self._fail(reply.MESSAGE_TOO_BIG)
            return
        self._tail = block[-2:] if len(block) > 1 else (self._tail + block)[-2:]
        self._take(block)

    def finish(self, *, ends_line: bool = True) -> Content | Reply:
        """The content, synced if it went to a file; or the failure. `ends_line`: content that came in chunks may lack the
        end of its last line, which any reader sees (RFC 1939 §3) and LIST must count."""
        if ends_line and self._tail not in (b"", b"\r\n") and self.failure is None:
            self._take(b"\r\n")
        if self._held is not None and self.failure is None:
            self._pass_header(bytes(self._held), b"")
        self._flush()
        if self.failure is not None:
            return self.failure
        try:
            return self._spool.finish()
        except StoreError as error:
            self._fail(failure_reply(error))
            assert self.failure is not None
            return self.failure

    def discard(self) -> None:
        """Nothing will come of it."""
        self._spool.discard()

    def _take(self, block: bytes) -> None:
        if self._held is None:
            self._store(block)
        else:
            self._hold(block)

    def _hold(self, block: bytes) -> None:
        held: bytes | bytearray | None = self._held
        assert held is not None
        if held:
            held += block
        else:
            held = block  # most header sections are whole in their first block
        if held.startswith(b"\r\n"):  # no header section at all
            self._pass_header(b"", bytes(held))
            return
        end = held.find(END_OF_HEADER, max(len(held) - len(block) - 3, 0))
        if end >= 0:
            self._pass_header(bytes(held[: end + 2]), bytes(held[end + 2 :]))
        elif len(held) - 1 > self._header_size:  # the last octet may be the CR of the empty line behind it
            self._fail(reply.HEADER_TOO_BIG)
        elif held is block:
            self._held = bytearray(block)

    def _pass_header(self, section: bytes, rest: bytes) -> None:
        self._held = None
        if len(section) > self._header_size:
            self._fail(reply.HEADER_TOO_BIG)
            return
        if headers.count_hops(section) >= self._hops:
            self._fail(reply.TOO_MANY_HOPS)
            return
        gap = headers.separator(section)
        kept = section if gap else without_forged(section, self._authserv_id)
        if self._complete is not None:
            kept = self._complete(kept)
        if kept is not section:
            gap = headers.separator(kept)
        self.header_section = kept
        self._store(b"".join((self._trace_field, gap, kept, rest)))

    def _store(self, block: bytes) -> None:
        if len(block) < SMALL_BLOCK:
            self._small += block
            if len(self._small) >= SMALL_BLOCK:
                self._flush()
            return
        self._flush()
        self._write(block)

    def _flush(self) -> None:
        if self._small and self.failure is None:
            self._write(bytes(self._small))
        self._small = bytearray()

    def _write(self, block: bytes) -> None:
        try:
            self._spool.write(block)
        except StoreError as error:
            self._fail(failure_reply(error))

    def _fail(self, failure: Reply) -> None:
        self.failure = failure
        self._held = None
        self._spool.discard()


def failure_reply(error: StoreError) -> Reply:
    """What a client hears when the store can't: try again (RFC 5321 §4.2.3: 452 for room, 451 for the rest)."""
    if isinstance(error, MailboxFull):
        return reply.NEVER_FITS if error.never_fits else reply.MAILBOX_FULL
    return reply.STORAGE_FULL if isinstance(error, StorageFull) else reply.LOCAL_ERROR
