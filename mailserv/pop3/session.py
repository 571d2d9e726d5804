"""One POP3 session (RFC 1939): bytes to the protocol core, its events to the maildrop, answers back. One thread owns it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from mailserv import metrics
from mailserv.errors import StoreError
from mailserv.logging import get_logger
from mailserv.mail.message import BLOCK, Content
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.net.connection import Connection
from mailserv.net.gate import Place
from mailserv.pop3.context import Pop3Context
from mailserv.pop3.login import NEEDS_TLS, Login, Opened, Refused
from mailserv.pop3.maildrop import Maildrop, top
from mailserv.pop3.wire import SlowReader, Wire
from mailserv.protocol import pop3_commands as commands
from mailserv.protocol.pop3_server import Phase, Pop3Server
from mailserv.protocol.sasl import Challenge

_log = get_logger("pop3")

NO_SUCH_MESSAGE = "No such message"
UNREADABLE = "[SYS/TEMP] The message can't be read now; try again later"
NOT_REMOVED = "[SYS/TEMP] Deleted messages were not removed; try again later"


def refusal(reply: Reply) -> bytes:
    """What a client is told that gets no session at all."""
    return f"-ERR [SYS/TEMP] {reply.text}\r\n".encode("ascii", "replace")


class Pop3Session:
    """Runs one connection from the greeting to its end. Create and `run` on the session's own thread.

    However it ends but by QUIT, nothing is deleted (RFC 1939 §6).
    """

    def __init__(self, context: Pop3Context, connection: Connection, peer: Peer, place: Place) -> None:
        self._context = context
        self._connection = connection
        self._place = place
        self._peer = peer
        self._limits = context.settings.limits
        self._clock = context.clock
        self._core = Pop3Server()
        self._login = Login(context, peer)
        self._maildrop = Maildrop(())
        self._address = ""  # of the maildrop that is ours
        self._closing = False
        self._started = self._clock.monotonic()
        self._wire = Wire(connection, context.clock, self._limits.pop3_timeout)
        self._streaming = False  # in the middle of a message
        self._errors = self._failed_logins = 0
        self._retrieved = self._deleted = 0
        self._taken: set[int] = set()  # numbers of what was retrieved
        self._reason = "lost"
        self._handlers: dict[type[Any], Callable[[Any], None]] = {
            commands.User: self._on_user,
            commands.Pass: self._on_pass,
            commands.Auth: self._on_auth,
            commands.AuthLine: self._on_auth_line,
            commands.Stls: self._on_stls,
            commands.Capa: self._on_capa,
            commands.Stat: self._on_stat,
            commands.List: self._on_list,
            commands.Uidl: self._on_uidl,
            commands.Retr: self._on_retr,
            commands.Top: self._on_top,
            commands.Dele: self._on_dele,
            commands.Rset: self._on_rset,
            commands.Noop: lambda _: self._core.answer(True, ""),
            commands.Quit: self._on_quit,
            commands.Rejected: self._on_rejected,
        }

    def run(self) -> None:
        """Serve until the end, whatever it is; the caller closes the connection."""
        metrics.sessions(self._peer.service).inc()
        try:
            self._serve()
        except TimeoutError:
            self._farewell("timeout", "[SYS/TEMP] Timeout; closing, nothing was deleted")
        except SlowReader:
            self._reason = "slow"
        except OSError:
            self._reason = "lost"
        except StoreError as error:  # in the middle of a message: only the end of the connection can say so
            self._reason = "store"
            _log.error("retrieval_broke", session=self._peer.session_id, login=self._address, error=str(error))
        except Exception:  # noqa: BLE001 - one of the three places: a fault of ours costs this session only
            _log.exception("session_failed", session=self._peer.session_id, ip=self._peer.ip)
            self._farewell("fault", "[SYS/TEMP] Local error; closing, nothing was deleted")
        finally:
            if self._reason not in {"quit", "lost"}:
                self._connection.say_no_more()
            self._let_go()
            metrics.sessions(self._peer.service).dec()
            self._log_end()

    # ---------------------------------------------------------------- the loop

    def _serve(self) -> None:
        if self._peer.service == "pop3s" and not self._start_tls():
            return
        self._core.greet(f"{self._context.settings.hostname} mailserv POP3 ready")
        core, handlers = self._core, self._handlers
        while not self._closing:
            event = core.next_event()
            if event is not None:
                handlers[type(event)](event)
                self._wire.gather(core.output())  # which sends when it is much: a burst of UIDLs costs no memory
                continue
            self._flush()
            data = self._wire.read() if self._place.leave_with is None else b""
            if not data:
                if self._place.leave_with is not None:
                    self._farewell("dismissed", f"[SYS/TEMP] {self._place.leave_with.text}")
                return
            core.receive(data)
        self._flush()

    def _flush(self) -> None:
        self._wire.gather(self._core.output())
        self._wire.flush()

    def _farewell(self, reason: str, text: str) -> None:
        self._reason = reason
        if not self._streaming:  # there it would be taken for a line of the message
            self._core.output()  # half an answer is of no use to anybody
            self._core.close(text)
            self._wire.last_words(self._core.output())

    # ---------------------------------------------------------------- AUTHORIZATION

    def _on_user(self, event: commands.User) -> None:
        if not self._is_private():
            self._core.answer(False, NEEDS_TLS)
            return
        self._login.name = event.name
        self._core.answer(True, "Now the password")  # whether there is such a name, PASS does not tell either

    def _on_pass(self, event: commands.Pass) -> None:
        self._after_login(self._login.with_password(event.password))

    def _on_auth(self, event: commands.Auth) -> None:
        if not self._is_private():
            self._core.answer(False, NEEDS_TLS)
            return
        self._after_login(self._login.begin_exchange(event.mechanism, event.initial))

    def _on_auth_line(self, event: commands.AuthLine) -> None:
        self._after_login(self._login.step(event.data))

    def _after_login(self, step: Opened | Refused | Challenge) -> None:
        match step:
            case Challenge(data=data):
                self._core.answer_auth(data)
            case Opened(address=address, maildrop=maildrop):
                self._address, self._maildrop = address, maildrop
                self._place.engaged = True
                self._peer = replace(self._peer, login=address)
                count, octets = maildrop.stat
                self._core.answer(True, f"{count} messages ({octets} octets)")
            case Refused(text=text, counts=counts, close=close):
                self._core.answer(False, text)
                self._failed_logins += counts
                if close or self._failed_logins >= self._limits.failed_logins:
                    self._end("logins", "Too many failed logins; closing")

    def _on_stls(self, _: commands.Stls) -> None:
        """RFC 2595 §4. Nothing may follow it before the handshake (invariant 6)."""
        if self._context.certificates is None or self._peer.tls is not None:
            self._core.answer(False, "TLS is not available" if self._peer.tls is None else "TLS is active already")
            return
        if self._core.has_input:
            self._core.answer(False, "Bytes after STLS and before the handshake; closing")
            self._reason, self._closing = "refused", True
            return
        self._core.answer(True, "Begin TLS negotiation")
        self._flush()
        if self._start_tls():
            self._core.started_tls()
            self._login = Login(self._context, self._peer)
        else:
            self._closing = True

    def _on_capa(self, _: commands.Capa) -> None:
        """RFC 2449 §6: what is true here and now."""
        expire = f"EXPIRE {self._context.rules.expire_argument(self._address)}"
        lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", expire, "IMPLEMENTATION mailserv"]
        if self._is_private():
            lines += ["USER", " ".join(("SASL", *self._context.logins.mechanisms(self._peer.service)))]
        if self._context.certificates is not None and self._peer.tls is None and not self._address:
            lines.append("STLS")
        self._core.answer_list("Capability list follows", lines)

    # ---------------------------------------------------------------- TRANSACTION and UPDATE

    def _on_stat(self, _: commands.Stat) -> None:
        count, octets = self._maildrop.stat
        self._core.answer(True, f"{count} {octets}")

    def _on_list(self, event: commands.List) -> None:
        if event.number is None:
            count, octets = self._maildrop.stat
            self._core.answer_list(f"{count} messages ({octets} octets)", self._maildrop.scan_listing())
            return
        message = self._maildrop.get(event.number)
        self._core.answer(message is not None, f"{event.number} {message.size}" if message else NO_SUCH_MESSAGE)

    def _on_uidl(self, event: commands.Uidl) -> None:
        if event.number is None:
            self._core.answer_list("Unique-ids follow", self._maildrop.unique_id_listing())
            return
        message = self._maildrop.get(event.number)
        self._core.answer(message is not None, f"{event.number} {message.unique_id}" if message else NO_SUCH_MESSAGE)

    def _on_retr(self, event: commands.Retr) -> None:
        content = self._content(event.number)
        if content is not None:
            self._retrieved += 1
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
            content = self._context.store.read(message) if message is not None else None
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
        blocks: Iterable[bytes] = content.blocks()
        if content.size <= BLOCK:
            try:
                blocks = (b"".join(blocks),)
            except StoreError as error:
                self._unreadable(error)
                return
        if lines is not None:
            blocks = top(blocks, lines)
        self._streaming = True
        for block in self._core.answer_lines(text, blocks):
            self._wire.gather(block)
        self._streaming = False

    def _unreadable(self, error: StoreError) -> None:
        _log.error("message_unreadable", session=self._peer.session_id, login=self._address, error=str(error))
        self._core.answer(False, UNREADABLE)

    def _on_dele(self, event: commands.Dele) -> None:
        good = self._maildrop.mark(event.number)
        self._core.answer(good, f"Message {event.number} marked as deleted" if good else NO_SUCH_MESSAGE)

    def _on_rset(self, _: commands.Rset) -> None:
        self._maildrop.unmark_all()
        self._core.answer(True, "Nothing is marked as deleted")

    def _on_quit(self, event: commands.Quit) -> None:
        """UPDATE: all deletions in one transaction, or none (RFC 1939 §6). The maildrop is free before the client hears."""
        marked = self._maildrop.marked if event.updates else []
        good = True
        if marked:
            try:
                self._context.store.delete(marked)
                self._deleted = len(marked)
            except StoreError as error:
                good = False
                _log.error("deletion_failed", session=self._peer.session_id, login=self._address, error=str(error))
        if event.updates:
            self._note_retrieved()
        self._let_go()
        self._core.answer(good, "Bye" if good else NOT_REMOVED)
        self._reason, self._closing = "quit", True

    def _note_retrieved(self) -> None:
        """What the client has, for `leave_on_server_max`. Only after QUIT: what a broken connection cut off it has not."""
        left = [message for number in sorted(self._taken) if (message := self._maildrop.get(number)) is not None]
        if not left or not self._context.rules.of(self._address).leave_on_server_max:
            return
        try:
            self._context.store.mailboxes.mark_retrieved(left, self._clock.now())
        except StoreError as error:  # it stays longer than it might
            _log.warning("retrieval_unnoted", session=self._peer.session_id, login=self._address, error=str(error))

    def _on_rejected(self, event: commands.Rejected) -> None:
        self._errors += 1
        self._core.answer(False, event.text)
        if event.close:
            self._reason, self._closing = "refused", True
        elif self._errors >= self._limits.errors:
            self._end("errors", "Too many errors; closing")

    # ---------------------------------------------------------------- TLS and ends

    def _start_tls(self) -> bool:
        assert self._context.certificates is not None
        try:
            context = self._context.certificates.context(self._peer.service)
            tls = self._connection.start_tls(context, self._clock.monotonic() + self._limits.command_timeout)
        except OSError as error:
            self._reason = "tls"
            _log.info("tls_failed", session=self._peer.session_id, ip=self._peer.ip, error=str(error))
            return False
        self._peer = replace(self._peer, tls=tls)
        return True

    def _is_private(self) -> bool:
        """May a password come over this connection? (`[tls] plaintext_auth`)"""
        return self._peer.tls is not None or self._context.allows_plaintext(self._peer.ip)

    def _end(self, reason: str, text: str) -> None:
        """Close from our side, after what has been answered."""
        self._reason, self._closing = reason, True
        if self._core.phase is not Phase.CLOSED:
            self._core.close(text)

    def _let_go(self) -> None:
        """Free the maildrop. Idempotent."""
        if self._address:
            self._context.maildrops.release(self._address)
            self._address = ""

    def _log_end(self) -> None:
        peer = self._peer
        seconds = round(self._clock.monotonic() - self._started, 3)
        errors = self._errors + self._failed_logins
        _log.info(
            "pop3_session",
            session=peer.session_id,
            service=peer.service,
            ip=peer.ip,
            tls=peer.tls.version if peer.tls else "",
            login=peer.login,
            retrieved=self._retrieved,
            deleted=self._deleted,
            octets=self._wire.octets,
            errors=errors,
            seconds=seconds,
            reason=self._reason,
        )
        if self._context.checks is not None:
            self._context.checks.session_closed(peer, self._retrieved, errors, seconds, self._reason)
