"""The TRANSACTION and UPDATE states of one POP3 session (RFC 1939 §5, §6): its maildrop, from the login to QUIT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.mail.message import BLOCK, Content
from mailserv.pop3.context import Pop3Context
from mailserv.pop3.maildrop import Maildrop, top
from mailserv.pop3.opening import SessionMaildrop
from mailserv.pop3.wire import Wire
from mailserv.protocol import pop3_commands as commands
from mailserv.protocol.pop3_server import Pop3Server

_log = get_logger("pop3")

NO_SUCH_MESSAGE = "No such message"
UNREADABLE = "[SYS/TEMP] The message can't be read now; try again later"


class Pop3Transaction:
    """Answers what is said between login and QUIT. The session's thread. `close` it, whatever happens.

    `is_streaming`: in the middle of a message, where nothing else may be said. `retrieved`, `deleted`: how many.
    """

    def __init__(
        self, context: Pop3Context, core: Pop3Server, wire: Wire, session_id: str, address: str, opened: SessionMaildrop
    ) -> None:
        self._context = context
        self._core = core
        self._wire = wire
        self._session_id = session_id
        self._opened = opened
        self._maildrop = Maildrop(opened.snapshot)
        self._taken: set[int] = set()  # numbers of what was retrieved
        self.address = address
        self._is_closed = False
        self.is_streaming = False
        self.retrieved = self.deleted = 0

    @property
    def stat(self) -> tuple[int, int]:
        """Messages and octets, without what is marked as deleted."""
        return self._maildrop.stat

    @property
    def retention(self) -> str:
        """What stands behind EXPIRE (RFC 2449 §6.7)."""
        return self._context.rules.expire_argument(self.address) if self._opened.is_ours else "NEVER"

    def answer(self, event: object) -> None:
        """Any command of TRANSACTION but QUIT."""
        self._HANDLERS[type(event)](self, event)

    def update(self) -> bool:
        """QUIT: all deletions in one transaction, or none (RFC 1939 §6). Whether it was done."""
        good = True
        if marked := self._maildrop.marked:
            try:
                self._opened.delete(marked)
                self.deleted = len(marked)
            except StoreError as error:
                good = False
                _log.error("deletion_failed", session=self._session_id, login=self.address, error=str(error))
        self._note_retrieved()
        return good

    def close(self) -> None:
        """The maildrop is free for the next session. Idempotent."""
        if not self._is_closed:
            self._is_closed = True
            self._opened.close()
            self._context.maildrops.release(self.address)

    def _note_retrieved(self) -> None:
        """What the client has, for `leave_on_server_max`. Only after QUIT: what a broken connection cut off it has not."""
        if not self._taken or not self._context.rules.of(self.address).leave_on_server_max:
            return
        left = [message for number in sorted(self._taken) if (message := self._maildrop.get(number)) is not None]
        try:
            self._opened.mark_retrieved(left, self._context.clock.now())
        except StoreError as error:  # it stays longer than it might
            _log.warning("retrieval_unnoted", session=self._session_id, login=self.address, error=str(error))

    def _on_stat(self, _: commands.Stat) -> None:
        count, octets = self._maildrop.stat
        self._core.answer(True, f"{count} {octets}")

    def _on_list(self, event: commands.List) -> None:
        if event.number is None:
            count, octets = self._maildrop.stat
            self._core.answer_message(f"{count} messages ({octets} octets)", self._maildrop.scan_listing())
            return
        message = self._maildrop.get(event.number)
        self._core.answer(message is not None, f"{event.number} {message.size}" if message else NO_SUCH_MESSAGE)

    def _on_uidl(self, event: commands.Uidl) -> None:
        if event.number is None:
            self._core.answer_message("Unique-ids follow", self._maildrop.unique_id_listing())
            return
        message = self._maildrop.get(event.number)
        self._core.answer(message is not None, f"{event.number} {message.unique_id}" if message else NO_SUCH_MESSAGE)

    def _on_retr(self, event: commands.Retr) -> None:
        content = self._content(event.number)
        if content is not None:
            self.retrieved += 1
            self._taken.add(event.number)
            self._send_lines(f"{content.size} octets", content)

    def _on_top(self, event: commands.Top) -> None:
        content = self._content(event.number)
        if content is not None:
            self._send_lines("Top of message follows", content, event.lines)

    def _content(self, number: int) -> Content | None:
        """The content of a message; None when -ERR was answered."""
        message = self._maildrop.get(number)
        try:
            content = self._opened.read(message) if message is not None else None
        except StoreError as error:
            self._unreadable(error)
            return None
        if content is None:
            self._core.answer(False, NO_SUCH_MESSAGE)
        return content

    def _send_lines(self, text: str, content: Content, lines: int | None = None) -> None:
        """A small message is read before anything is answered; a large one is never in memory whole.

        Raises StoreError when a large one can't be read to its end.
        """
        if content.size <= BLOCK:
            try:
                blocks = content.blocks() if lines is None else top(content.blocks(), lines)
                self._core.answer_message(text, b"".join(blocks))
            except StoreError as error:
                self._unreadable(error)
            return
        self.is_streaming = True
        for block in self._core.answer_lines(text, content.blocks() if lines is None else top(content.blocks(), lines)):
            self._wire.send(block)
        self.is_streaming = False

    def _unreadable(self, error: StoreError) -> None:
        _log.error("message_unreadable", session=self._session_id, login=self.address, error=str(error))
        self._core.answer(False, UNREADABLE)

    def _on_dele(self, event: commands.Dele) -> None:
        good = self._maildrop.mark(event.number)
        self._core.answer(good, f"Message {event.number} marked as deleted" if good else NO_SUCH_MESSAGE)

    def _on_rset(self, _: commands.Rset) -> None:
        self._maildrop.unmark_all()
        self._core.answer(True, "Nothing is marked as deleted")

    _HANDLERS: ClassVar[dict[type[Any], Callable[[Pop3Transaction, Any], None]]] = {
        commands.Stat: _on_stat,
        commands.List: _on_list,
        commands.Uidl: _on_uidl,
        commands.Retr: _on_retr,
        commands.Top: _on_top,
        commands.Dele: _on_dele,
        commands.Rset: _on_rset,
        commands.Noop: lambda self, _: self._core.answer(True, ""),
    }
