"""Transactions over one open session, each next one pipelined behind the dot of the one before (RFC 5321 §3.3, RFC 2920)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from mailserv.deliver.connections import ClientConnection
from mailserv.deliver.work import Part, Work
from mailserv.errors import ProtocolError, StoreError
from mailserv.mail.dot_stuffing import stuff
from mailserv.mail.outcome import Deferred
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.protocol.outgoing import fold
from mailserv.protocol.smtp_client import Step
from mailserv.protocol.smtp_transaction import LONE_DOT, Transaction

SEND_SIZE = 256 * 1024  # octets of content sent at once; a small message goes with its dot and the next MAIL


class End(Enum):
    """Why a conversation is over, and so what its connection and the batch are good for."""

    OPEN = auto()  # it is not over yet
    DONE = auto()  # nothing is left to send: keep the connection
    FULL = auto()  # it has carried enough: QUIT, and go on with a new one
    LOST = auto()  # it is gone, but had served before: go on with a new one
    HOST = auto()  # it is gone or does not answer, and had served nobody: go on with the next host (RFC 5321 §5.1)
    STOP = auto()  # the host wants no more, or has become too slow: leave the rest queued


@dataclass(slots=True)
class _Exchange:
    part: Part
    transaction: Transaction
    is_in_pieces: bool = False  # some content was sent without the dot: the server may answer it, and then the dot, too


class Conversation:
    """Runs the parts of a batch over one session until one of them is over. One thread.

    Call `advance` until it is False; after each call some attempts may be finished. Then `end` says why, and `outcome`
    what that is for the mail when it is LOST, HOST or STOP. Nothing that may have been taken (its dot was sent) is sent
    again here: without a reply it is Deferred (RFC 5321 §4.5.3.2.6, RFC 1047).
    """

    def __init__(
        self,
        connection: ClientConnection,
        work: Work,
        *,
        transactions: int,
        seconds: float,
        holds: Callable[[], bool] = lambda: True,
    ) -> None:
        """`transactions` and `seconds`: how many and for how long this connection may carry in all. `holds`: whether it
        was opened as it would be now."""
        self._connection = connection
        self._work = work
        self._transactions = transactions
        self._seconds = seconds
        self._holds = holds
        self._remote = str(connection.target)
        self._ahead: _Exchange | None = None  # its commands have been sent behind the last dot
        self.end = End.OPEN
        self.outcome = Deferred(LOCAL_ERROR)

    def advance(self) -> bool:
        """Finish one transaction. False: this connection is done with."""
        exchange, self._ahead = self._ahead, None
        if exchange is None:
            part = self._next_part()
            if part is None:
                return False
            exchange = self._begin(part, reset_first=self._connection.needs_reset)
            if exchange is None:
                return True  # this server can't take it, whatever is said
        try:
            self._run(exchange)
        except (OSError, ProtocolError, StoreError) as error:
            self._lose(exchange, error)
            return False
        return self._finish(exchange)

    def _next_part(self) -> Part | None:
        if not self._may_carry(0):
            self.end = End.FULL
            return None
        part = self._work.next_part()
        if part is None:
            self.end = End.DONE
        return part

    def _may_carry(self, more: int) -> bool:
        if not self._holds():
            return False
        carried = self._connection.carried + more
        if not carried:
            return True  # however long it took to open: a slow host would be opened again and again for nothing
        told = self._connection.capabilities.mail_limit or self._transactions
        return carried < min(told, self._transactions) and self._connection.age < self._seconds

    def _begin(self, part: Part, *, reset_first: bool) -> _Exchange | None:
        part, rest = part.split(self._connection.capabilities.recipient_limit)
        if rest:
            self._work.put_back(rest)
        begun = part.begin(self._connection.capabilities, self._remote, reset_first=reset_first)
        return _Exchange(*begun) if begun else None

    def _run(self, exchange: _Exchange) -> None:
        """From where it is to its last reply; at the dot the next one is begun."""
        transaction, connection = exchange.transaction, self._connection
        while not transaction.is_over:
            if commands := transaction.commands():
                connection.send(commands, transaction.awaits or Step.MAIL)
            if transaction.wants_content:
                self._send_content(exchange)
            elif transaction.wants_lone_dot:
                connection.send(LONE_DOT, Step.DOT)
                transaction.content_sent()
            if step := transaction.awaits:
                transaction.take(connection.read(step))

    def _send_content(self, exchange: _Exchange) -> None:
        """The content, its dot and, where the server pipelines, the next transaction's commands in the last piece."""
        if self._connection.has_unread:
            if self._take_early(exchange):
                return
            raise ProtocolError("a reply came before the content")  # its rest would count as the answer to the dot
        pending: list[bytes] = []
        size = 0
        for block in self._wire_blocks(exchange):
            if size + len(block) > SEND_SIZE and pending:
                if self._send_piece(exchange, b"".join(pending)):
                    return
                pending, size = [], 0
            pending.append(block)
            size += len(block)
        # Nothing is begun behind the dot of what may be answered twice, nor (RFC 3030 §2) where it may need RSET.
        alone = exchange.is_in_pieces or exchange.transaction.in_chunks
        commands = b"" if alone else self._commands_ahead()
        # Said before the last piece goes: when sending it fails, nobody knows whether the dot got through.
        exchange.transaction.content_sent()
        self._connection.send(b"".join(pending) + commands, Step.DOT)

    def _send_piece(self, exchange: _Exchange, piece: bytes) -> bool:
        """Content without its dot. Whether the server has refused it meanwhile; it may close behind that, too."""
        exchange.is_in_pieces = True
        try:
            self._connection.send(piece, Step.BLOCK)
        except OSError:
            if not self._take_early(exchange):
                raise
            return True
        return self._take_early(exchange)

    def _take_early(self, exchange: _Exchange) -> bool:
        reply = self._connection.read_early()
        if reply is None:
            return False
        exchange.is_in_pieces = True
        exchange.transaction.take_early(reply)
        return True

    def _wire_blocks(self, exchange: _Exchange) -> Iterator[bytes]:
        job = exchange.part.job
        blocks = job.delivery.content.blocks()
        if exchange.transaction.in_chunks:
            return itertools.chain((b"BDAT %d LAST\r\n" % job.delivery.content.size,), blocks)
        return stuff(fold(blocks) if job.facts.has_long_line else blocks)

    def _commands_ahead(self) -> bytes:
        """RFC 2920 §3.1: the end of the content may be the first "command" of the group of the next message."""
        if "PIPELINING" not in self._connection.capabilities or not self._may_carry(1):
            return b""
        part = self._work.next_part()
        self._ahead = self._begin(part, reset_first=False) if part else None
        return self._ahead.transaction.commands() if self._ahead else b""

    def _finish(self, exchange: _Exchange) -> bool:
        """Record what was said. False when the server said 421 on the way (RFC 5321 §3.8)."""
        connection, transaction = self._connection, exchange.transaction
        was_fresh = connection.is_fresh
        connection.carried += 1
        connection.needs_reset = transaction.needs_reset
        if transaction.closing is None:
            exchange.part.record(transaction, self._remote)
            if not exchange.is_in_pieces or transaction.is_taken:
                return True
            self.end = End.LOST  # another answer to the same content would be taken for that to the next command
            return False
        self.outcome = Deferred(transaction.closing, self._remote)
        at_once = transaction.closed_at in {Step.RSET, Step.MAIL}
        left = exchange.part.record_answered(transaction, self._remote)
        if left and not transaction.dot_sent and (was_fresh or at_once):
            # It heard nothing of this message but MAIL: its limit of messages, an idle connection that got too old.
            self._put_back(left)
            self.end = End.HOST if was_fresh else End.LOST
        else:
            exchange.part.record(transaction, self._remote)
            self._put_back()
            self.end = End.STOP
        return False

    def _lose(self, exchange: _Exchange, error: Exception) -> None:
        """The connection broke in the middle of this transaction, or our own content could not be read."""
        part, transaction = exchange.part, exchange.transaction
        was_fresh = self._connection.is_fresh
        self._connection.close()
        is_ours, is_slow = isinstance(error, StoreError), isinstance(error, TimeoutError)
        trouble = LOCAL_ERROR if is_ours else self._connection.trouble(error)
        self.outcome = Deferred(trouble, self._remote, is_ours=True)
        if transaction.dot_sent or is_ours or (is_slow and not was_fresh):
            part.record(transaction, self._remote, missing=self.outcome)
            self._put_back()
            self.end = End.STOP if is_slow else End.LOST
        else:
            # What was said before stands, but from a server that is out of step: it may have been said of something else.
            is_confused = isinstance(error, ProtocolError)
            left = part if is_confused else part.record_answered(transaction, self._remote)
            self._put_back(left)
            self.end = End.HOST if was_fresh and left else End.LOST

    def _put_back(self, part: Part | None = None) -> None:
        """What was begun ahead, and then `part` before it, are to be sent some other way."""
        if self._ahead:
            self._work.put_back(self._ahead.part)
            self._ahead = None
        if part:
            self._work.put_back(part)
