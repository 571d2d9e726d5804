"""One POP3 session (RFC 1939): bytes to the protocol core, its events to the maildrop, answers back; one thread owns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mailserv.errors import StoreError
from mailserv.hooks.round import Asking
from mailserv.logging import get_logger
from mailserv.mail.peer import Peer
from mailserv.mail.pop3_extension import LogIn, Pop3Answer, Pop3View, UseUTF8
from mailserv.mail.reply import Reply
from mailserv.mail.value import replace
from mailserv.net.connection import Connection
from mailserv.net.gate import Place
from mailserv.pop3.context import Pop3Context
from mailserv.pop3.extending import capabilities, is_private, session_view
from mailserv.pop3.login import NEEDS_TLS, Login, Opened, Refused
from mailserv.pop3.opening import SessionMaildrop
from mailserv.pop3.transaction import Pop3Transaction
from mailserv.pop3.wire import SlowReader, Wire
from mailserv.protocol import pop3_commands as commands
from mailserv.protocol.pop3_server import Phase, Pop3Server
from mailserv.protocol.sasl import Challenge

_log = get_logger("pop3")

NOT_REMOVED = "[SYS/TEMP] Deleted messages were not removed; try again later"


def refusal(reply: Reply) -> bytes:
    """What a client is told that gets no session at all."""
    return f"-ERR [SYS/TEMP] {reply.text}\r\n".encode("ascii", "replace")


class Pop3Session:
    """One connection from the greeting to its end. Its thread is whichever drives `run`.

    However it ends but by QUIT, nothing is deleted (RFC 1939 §6).
    """

    def __init__(self, context: Pop3Context, connection: Connection, peer: Peer, place: Place) -> None:
        self._context = context
        self._connection = connection
        self._place = place
        self._peer = peer
        self._limits = context.settings.limits
        self._clock = context.clock
        self._core = Pop3Server(context.extensions, peer.service)
        self._login = Login(context, peer)
        self._transaction: Pop3Transaction | None = None  # since the login
        self._timestamp = ""  # of the greeting (RFC 1939 §7)
        self._closing = False
        self._started = self._clock.monotonic()
        self._wire = Wire(connection, context.clock, self._limits.pop3_timeout)
        self._errors = self._failed_logins = 0
        self._reason = "lost"

    def run(self) -> Asking[None]:
        """Serve until the end, whatever it is, then close the connection and free the place. `Runner.drive` runs it."""
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
            _log.error("retrieval_broke", session=self._peer.session_id, login=self._peer.login, error=str(error))
        except Exception:  # noqa: BLE001 - one of the three places: a fault of ours costs this session only
            _log.exception("session_failed", session=self._peer.session_id, ip=self._peer.ip)
            self._farewell("fault", "[SYS/TEMP] Local error; closing, nothing was deleted")
        finally:
            if self._reason not in {"quit", "lost"}:
                self._connection.say_no_more()
            self._let_go()
            asking = self._log_end()
            self._connection.close()
            self._place.vacate()
        if asking is not None:
            yield from asking

    # ---------------------------------------------------------------- the loop

    def _serve(self) -> None:
        if self._peer.service == "pop3s" and not self._start_tls():
            return
        self._greet()
        core, handlers = self._core, self._HANDLERS
        while not self._closing:
            event = core.next_event()
            if event is not None:
                if (handler := handlers.get(type(event))) is not None:
                    handler(self, event)
                else:
                    self._logged_in.answer(event)
                if core.has_much:
                    self._flush()
                continue
            self._flush()
            data = self._wire.read() if self._place.leave_with is None else b""
            if not data:
                if self._place.leave_with is not None:
                    self._farewell("dismissed", f"[SYS/TEMP] {self._place.leave_with.text}")
                return
            core.receive(data)
        self._flush()

    def _greet(self) -> None:
        hostname = self._context.settings.hostname
        if self._context.extensions.needs_timestamp(self._peer.service):
            self._timestamp = f"<{self._peer.session_id}.{int(self._clock.now())}@{hostname}>"
        self._core.greet(f"{hostname} mailserv POP3 ready {self._timestamp}")

    def _flush(self) -> None:
        self._wire.send(self._core.output())

    def _farewell(self, reason: str, text: str) -> None:
        self._reason = reason
        is_streaming = self._transaction is not None and self._transaction.is_streaming
        if not is_streaming:  # there it would be taken for a line of the message
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
                self._enter(address, maildrop)
                count, octets = self._stat
                self._core.answer(True, f"{count} messages ({octets} octets)")
            case Refused(text=text, counts=counts, close=close):
                self._core.answer(False, text)
                self._failed_logins += counts
                if close or self._failed_logins >= self._limits.failed_logins:
                    self._end("logins", "Too many failed logins; closing")

    def _enter(self, address: str, maildrop: SessionMaildrop) -> None:
        session_id = self._peer.session_id
        self._transaction = Pop3Transaction(self._context, self._core, self._wire, session_id, address, maildrop)
        self._place.known = True
        self._peer = replace(self._peer, login=address)

    @property
    def _logged_in(self) -> Pop3Transaction:
        """What answers the commands of TRANSACTION, which the core lets through only there."""
        assert self._transaction is not None
        return self._transaction

    @property
    def _stat(self) -> tuple[int, int]:
        return self._transaction.stat if self._transaction is not None else (0, 0)

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
        retention = self._transaction.retention if self._transaction is not None else None
        self._core.answer_list("Capability list follows", capabilities(self._context, self._view(), retention))

    def _on_extension(self, event: commands.ExtensionCommand) -> None:
        match event.verb.handle(self._view(), event.argument):
            case Pop3Answer(is_positive=True, text=text, lines=lines) if lines is not None:
                self._core.answer_list(text, lines)
            case Pop3Answer(is_positive=good, text=text):
                self._core.answer(good, text)
            case UseUTF8(text=text):
                self._login.is_utf8 = True
                self._core.answer(True, text)

    def _on_extension_login(self, event: commands.ExtensionLogin) -> None:
        if not self._is_private():
            self._core.answer(False, NEEDS_TLS)
            return
        answer = event.verb.handle(self._view(), event.argument)
        if isinstance(answer, LogIn):
            self._after_login(self._login.with_outcome(answer.outcome))
        elif isinstance(answer, Pop3Answer):
            self._core.answer(False, answer.text)

    def _view(self) -> Pop3View:
        is_utf8, state = self._login.is_utf8, self._core.state
        return session_view(self._context, self._peer, state, self._timestamp, self._stat, is_utf8=is_utf8)

    # ---------------------------------------------------------------- either state

    def _on_quit(self, event: commands.Quit) -> None:
        """Maildrop and place are free before the client hears; who has not taken its answers yet keeps its place."""
        good = self._transaction.update() if self._transaction is not None and event.updates else True
        self._let_go()
        self._flush()
        self._place.vacate()
        self._core.answer(good, "Bye" if good else NOT_REMOVED)
        self._reason, self._closing = "quit", True

    def _on_rejected(self, event: commands.Rejected) -> None:
        self._errors += 1
        self._core.answer(False, event.text)
        if event.close:
            self._reason, self._closing = "refused", True
        elif self._errors >= self._limits.errors:
            self._end("errors", "Too many errors; closing")

    _HANDLERS: ClassVar[dict[type[Any], Callable[[Pop3Session, Any], None]]] = {
        commands.User: _on_user,
        commands.Pass: _on_pass,
        commands.Auth: _on_auth,
        commands.AuthLine: _on_auth_line,
        commands.Stls: _on_stls,
        commands.Capa: _on_capa,
        commands.Quit: _on_quit,
        commands.ExtensionCommand: _on_extension,
        commands.ExtensionLogin: _on_extension_login,
        commands.Rejected: _on_rejected,
    }

    # ---------------------------------------------------------------- TLS and ends

    def _start_tls(self) -> bool:
        assert self._context.certificates is not None
        try:
            context = self._context.certificates.context(self._peer.service)
            tls = self._connection.start_tls(context, self._limits.command_timeout)
        except OSError as error:
            self._reason = "tls"
            _log.info("tls_failed", session=self._peer.session_id, ip=self._peer.ip, error=str(error))
            return False
        self._peer = replace(self._peer, tls=tls)
        return True

    def _is_private(self) -> bool:
        return is_private(self._context, self._peer)

    def _end(self, reason: str, text: str) -> None:
        """Close from our side, after what has been answered."""
        self._reason, self._closing = reason, True
        if self._core.phase is not Phase.CLOSED:
            self._core.close(text)

    def _let_go(self) -> None:
        """Free the maildrop. Idempotent."""
        if self._transaction is not None:
            self._transaction.close()

    def _log_end(self) -> Asking[None] | None:
        """The line; and the plugins that are to be told, when the place is free."""
        peer = self._peer
        seconds = round(self._clock.monotonic() - self._started, 3)
        errors = self._errors + self._failed_logins
        retrieved, deleted = (t.retrieved, t.deleted) if (t := self._transaction) is not None else (0, 0)
        _log.info(
            "pop3_session",
            session=peer.session_id,
            service=peer.service,
            ip=peer.ip,
            tls=peer.tls.version if peer.tls else "",
            login=peer.login,
            retrieved=retrieved,
            deleted=deleted,
            octets=self._wire.octets,
            errors=errors,
            seconds=seconds,
            reason=self._reason,
        )
        checks = self._context.checks
        return checks.session_closed(peer, retrieved, errors, seconds, self._reason) if checks else None
