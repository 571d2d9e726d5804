"""One SMTP session: bytes to the protocol core, its events to the transaction, replies back. One thread at a time owns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mailserv.accept.auth import AuthDialogue
from mailserv.accept.context import Context
from mailserv.accept.deadlines import Deadlines
from mailserv.accept.extending import become, carry_out, session_view
from mailserv.accept.tally import Tally
from mailserv.accept.transaction import Transaction
from mailserv.hooks.round import Asking
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.extension import Become, LookUp, SessionView, StartAuth, StartQueue, StartTLS
from mailserv.mail.peer import LMTP, Peer
from mailserv.mail.reply import Reply, Severity
from mailserv.mail.value import replace
from mailserv.net.connection import CONTENT_READ, Connection
from mailserv.net.gate import Place
from mailserv.protocol import commands
from mailserv.protocol.sasl import Challenge
from mailserv.protocol.smtp_server import SmtpServer, WireLimits

_log = get_logger("smtp")
_WIRE_LIMITS = WireLimits()
FAREWELL_TIME = 5.0  # seconds to get a last reply out


class SmtpSession:
    """One connection from the greeting to its end. Its thread is whichever drives `run`; after plugins were asked it may be
    another one, so nothing here belongs to a thread."""

    def __init__(self, context: Context, connection: Connection, peer: Peer, place: Place) -> None:
        self._context = context
        self._connection = connection
        self._place = place
        self._peer = peer
        self._limits = context.settings.limits
        self._clock = context.clock
        self._asked = context.checks.session()
        self._tally = Tally(self._asked)
        self._is_lmtp = peer.service == LMTP
        self._core = SmtpServer(extensions=context.extensions, limits=_WIRE_LIMITS, is_lmtp=self._is_lmtp)
        self._transaction: Transaction | None = None
        self._auth: AuthDialogue | None = None
        self._account = ""  # of the login; "" where a plugin brought it that has no account of ours
        self._closing = False
        self._deadlines = Deadlines(self._clock, self._limits)

    def run(self) -> Asking[None]:
        """Serve until the end, whatever it is, then close the connection and free the place. `Runner.drive` runs it."""
        try:
            yield from self._serve()
        except TimeoutError:
            self._tally.reason = "timeout"
            self._farewell(reply.TIMED_OUT)
        except OSError:
            self._tally.reason = "lost"
        except Exception:  # noqa: BLE001 - one of the three places: a fault of ours costs this session only
            self._tally.reason = "fault"
            _log.exception("session_failed", session=self._peer.session_id, ip=self._peer.ip)
            self._farewell(Reply(421, "4.3.0", "Local error; closing"))
        finally:
            tally, seconds = self._tally, round(self._deadlines.age, 3)
            try:
                if tally.reason not in {"quit", "lost"}:
                    self._connection.say_no_more()
                self._end_transaction()
                tally.ended(self._peer, seconds)
            finally:  # whatever fault of ours it was
                self._connection.close()
                self._place.vacate()
        yield from self._context.checks.session_closed(
            self._peer, tally.messages, tally.all_errors, seconds, tally.reason
        )

    # ---------------------------------------------------------------- the loop

    def _serve(self) -> Asking[None]:
        if self._peer.service == "submissions" and not self._start_tls():
            return
        if not (yield from self._greet()):
            return
        core, handlers, place, view = self._core, self._HANDLERS, self._place, self._view
        while not self._closing:
            event = core.next_event(view)
            if event is not None:
                asking = handlers[type(event)](self, event)
                if asking is not None:
                    yield from asking
                    if self._asked.ends:
                        self._tally.reason, self._closing = "refused", True
                continue
            self._flush()
            if place.leave_with is not None and not place.busy:
                self._dismissed()
                return
            data = self._read()
            if not data:
                if place.leave_with is not None:
                    self._dismissed()
                return
            core.receive(data)
        self._flush(is_last=True)

    def _greet(self) -> Asking[bool]:
        refusal = yield from self._refusal_to_greet()
        self._core.greet(refusal or reply.greeting(self._context.settings.hostname, is_lmtp=self._is_lmtp))
        if refusal:
            self._flush()
        return refusal is None

    def _refusal_to_greet(self) -> Asking[Reply | None]:
        verdict = yield from self._asked.connect(self._peer)
        if verdict is None:
            return None
        # RFC 5321 §4.3.2 knows two refusals in place of a greeting.
        code = 421 if verdict.reply.severity is Severity.TRANSIENT else 554
        self._tally.reason = "refused"
        self._log_refused("connect", verdict.reply)
        return replace(verdict.reply, code=code)

    def _begin_anew(self, peer: Peer) -> Asking[None]:
        """XCLIENT: another client, as if it had just connected."""
        self._peer = peer
        self._end_transaction()
        refusal = yield from self._refusal_to_greet()
        self._core.answer(refusal or reply.greeting(self._context.settings.hostname, is_lmtp=self._is_lmtp))
        self._closing = refusal is not None
        if not self._closing:
            self._core.begin_anew()

    def _read(self) -> bytes:
        if self._place.in_content:
            assert self._transaction is not None
            return self._connection.receive(self._deadlines.content(self._transaction.received), CONTENT_READ)
        is_stranger = not self._place.engaged and self._peer.service == "smtp"
        return self._connection.receive(
            self._deadlines.command(under_stress=is_stranger and self._context.is_stressed())
        )

    def _flush(self, *, is_last: bool = False) -> None:
        output = self._core.output()
        if output:
            self._deadlines.is_answered = True
            try:
                self._connection.send(output, self._limits.command_timeout, is_last=is_last)
            except TimeoutError as error:  # a reply may be cut anywhere: a farewell would be taken for the rest of it
                raise BrokenPipeError from error

    def _farewell(self, last: Reply) -> None:
        try:
            self._connection.send(last.encode(), FAREWELL_TIME)
        except OSError:
            return  # nobody is listening any more

    def _dismissed(self) -> None:
        assert self._place.leave_with is not None
        self._tally.reason = "dismissed"
        self._farewell(self._place.leave_with)

    # ---------------------------------------------------------------- events

    def _hello(self, domain: str, *, esmtp: bool) -> Asking[None]:
        self._end_transaction()  # RFC 5321 §4.1.4: a second EHLO is a RSET
        self._core.reset_transaction()  # also when a hook refuses it
        self._peer = replace(self._peer, helo=domain, esmtp=esmtp)
        verdict = yield from self._asked.helo(self._peer)
        if verdict is not None:
            self._log_refused("helo", verdict.reply)
            self._core.answer(verdict.reply)
            return
        lines = [self._context.settings.hostname]
        if esmtp:
            lines += self._context.extensions.ehlo_lines(self._view())
        self._core.answer(Reply(250, "", "\n".join(lines)))

    def _on_mail(self, event: commands.Mail) -> Asking[None]:
        if self._account and self._account == self._peer.login and not self._context.store.has_account(self._account):
            self._tally.reason = "removed"
            self._close_with(reply.ACCOUNT_GONE)
            return
        farewell = self._place.begin()
        if farewell is not None:
            self._tally.reason = "dismissed"
            self._close_with(farewell)
            return
        here = self._connection.local_ip
        transaction, answer = yield from Transaction.open(self._context, self._peer, event, here, self._asked)
        self._transaction = transaction
        if transaction is None:
            self._place.end()
            self._log_refused("mail", answer, reverse_path=str(event.reverse_path))
        self._core.answer(answer)

    def _on_rcpt(self, event: commands.Rcpt) -> Asking[None]:
        assert self._transaction is not None
        answer = yield from self._transaction.add_recipient(event)
        self._core.answer(answer)
        if not answer.is_positive:
            path = str(self._transaction.envelope.reverse_path)
            self._log_refused("rcpt", answer, reverse_path=path, forward_path=str(event.forward_path))
            self._tally.strays += answer.enhanced == reply.UNKNOWN_USER.enhanced or answer is reply.RELAY_DENIED
            if self._tally.strays >= self._limits.unknown_recipients and not self._is_lmtp:  # no stranger
                self._end_for("relaying" if answer is reply.RELAY_DENIED else "unknown recipients")

    def _on_data(self, _: commands.Data) -> Asking[None]:
        assert self._transaction is not None
        answer = yield from self._transaction.begin_content()
        if not answer.is_positive:
            self._log_refused("data", answer)
        self._place.in_content = answer.is_positive
        self._deadlines.content_begins()
        self._core.answer(answer)

    def _on_block(self, event: commands.ContentBlock) -> None:
        assert self._transaction is not None
        self._transaction.write(event.data)

    def _on_chunk(self, _: commands.Chunk) -> Asking[None]:
        assert self._transaction is not None
        refusal = yield from self._transaction.begin_chunk()
        if refusal is not None:
            self._log_refused("bdat", refusal)
        self._place.in_content = True
        self._deadlines.content_begins()

    def _on_chunk_end(self, event: commands.ChunkEnd) -> None:
        assert self._transaction is not None
        answer = self._transaction.end_chunk(event.octets, has_bare=event.has_bare)
        self._place.content_ended()
        if not answer.is_positive:
            self._end_transaction()
        self._core.answer(answer)

    def _on_content_end(self, event: commands.ContentEnd) -> Asking[None]:
        assert self._transaction is not None
        answer = yield from self._transaction.finish(has_bare=event.has_bare)
        copies = self._copies()
        self._tally.messages += answer.is_positive
        self._transaction = None
        self._place.end()
        self._core.answer(answer, copies)
        if self._place.leave_with is not None:
            self._tally.reason = "dismissed"
            self._close_with(self._place.leave_with)

    def _on_content_refused(self, event: commands.ContentRefused) -> None:
        copies = self._copies()
        self._end_transaction()
        self._log_refused("content", event.reply)
        self._tally.reason = "refused"
        self._core.answer(event.reply, copies)
        self._closing = True

    def _copies(self) -> int:
        """How many replies the end of the content has: one, or by LMTP one for each recipient (RFC 2033 §4.2)."""
        return len(self._transaction.envelope.recipients) if self._is_lmtp and self._transaction else 1

    def _on_rset(self, _: commands.Rset) -> None:
        self._end_transaction()
        self._core.answer(reply.OK)

    def _on_quit(self, _: commands.Quit) -> None:
        self._tally.reason = "quit"
        self._place.vacate()
        self._core.answer(reply.CLOSING)
        self._closing = True

    def _on_extension(self, event: commands.ExtensionCommand) -> Asking[None]:
        answer = event.verb.handle(self._view(), event.argument)
        match answer:
            case Reply():
                self._answer(answer)
            case StartTLS(reply=ready):
                self._upgrade(ready)
            case LookUp() | StartQueue():
                self._core.answer((yield from carry_out(answer, self._context, self._connection.local_ip)))
            case Become(peer=peer):
                yield from self._begin_anew(become(peer, self._peer, self._context))
            case StartAuth(mechanism=mechanism, initial=initial):
                self._auth = AuthDialogue(self._context.logins, self._peer, self._context.settings.hostname)
                self._auth_step(self._auth.start(mechanism, initial))

    def _on_auth_line(self, event: commands.AuthLine) -> None:
        assert self._auth is not None
        self._auth_step(self._auth.step(event.data))

    def _auth_step(self, step: Challenge | Reply) -> None:
        if isinstance(step, Challenge):
            self._core.answer_auth(step.data)
            return
        assert self._auth is not None
        if self._auth.login:
            self._place.known = True
            self._peer = replace(self._peer, login=self._auth.login)
            self._account = self._auth.login if self._context.store.has_account(self._auth.login) else ""
        elif step.code == reply.AUTH_FAILED.code:
            self._tally.failed_logins += 1
        self._auth = None
        if step.code == 421:
            self._tally.reason = "logins"
            self._close_with(step)
            return
        self._answer(step)
        if self._tally.failed_logins >= self._limits.failed_logins:
            self._end_for("logins")

    def _answer(self, answer: Reply) -> None:
        """To an extension's verb. x0z is an error as the core's are: of syntax (RFC 5321 §4.2.1)."""
        self._tally.errors += answer.code // 10 == 50
        self._core.answer(answer)
        if self._tally.errors >= self._limits.errors:
            self._end_for("errors")

    def _on_rejected(self, event: commands.Rejected) -> None:
        self._tally.errors += event.reply is not reply.NEED_RSET  # chunks that were pipelined behind a refused one
        self._log_refused(event.command, event.reply)
        self._core.answer(event.reply)
        if event.close:
            self._tally.reason = "refused"
            self._closing = True
        elif self._tally.errors >= self._limits.errors:
            self._end_for("errors")

    _HANDLERS: ClassVar[dict[type[Any], Callable[[SmtpSession, Any], Asking[None] | None]]] = {
        commands.Helo: lambda self, event: self._hello(event.domain, esmtp=False),
        commands.Ehlo: lambda self, event: self._hello(event.domain, esmtp=True),
        commands.Mail: _on_mail,
        commands.Rcpt: _on_rcpt,
        commands.Data: _on_data,
        commands.ContentBlock: _on_block,
        commands.ContentEnd: _on_content_end,
        commands.ContentRefused: _on_content_refused,
        commands.Chunk: _on_chunk,
        commands.ChunkEnd: _on_chunk_end,
        commands.Rset: _on_rset,
        commands.Noop: lambda self, _: self._core.answer(reply.OK),
        commands.Quit: _on_quit,
        commands.ExtensionCommand: _on_extension,
        commands.AuthLine: _on_auth_line,
        commands.Rejected: _on_rejected,
    }

    # ---------------------------------------------------------------- TLS, views, ends

    def _upgrade(self, ready: Reply) -> None:
        """STARTTLS: nothing may follow it before the handshake (invariant 6)."""
        if self._core.has_input:
            self._log_refused("starttls", reply.EARLY_DATA)
            self._tally.reason = "refused"
            self._core.answer(reply.EARLY_DATA)
            self._closing = True
            return
        self._core.answer(ready)
        self._flush()
        if self._start_tls():
            self._core.started_tls()
            self._end_transaction()
        else:
            self._closing = True

    def _start_tls(self) -> bool:
        assert self._context.certificates is not None
        try:
            context = self._context.certificates.context(self._peer.service)
            tls = self._connection.start_tls(context, self._limits.command_timeout)
        except OSError as error:
            self._tally.reason = "tls"
            _log.info("tls_failed", session=self._peer.session_id, ip=self._peer.ip, error=str(error))
            return False
        # RFC 3207 §4.2: all of it is forgotten.
        self._peer = replace(self._peer, tls=tls, helo="", esmtp=False, login="")
        return True

    def _view(self) -> SessionView:
        return session_view(self._context, self._peer, self._transaction)

    def _end_transaction(self) -> None:
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None
        self._place.end()

    def _close_with(self, last: Reply) -> None:
        """Everything answered so far goes out, then this, and the session ends."""
        self._flush()
        self._farewell(last)
        self._closing = True

    def _end_for(self, reason: str) -> None:
        self._tally.reason = reason
        self._close_with(reply.TOO_MANY_ERRORS)

    def _log_refused(self, command: str, answer: Reply, **more: str) -> None:
        self._tally.refused(self._peer, command, answer, **more)
