"""One mail transaction (RFC 5321 §3.3): from MAIL to the reply to the final dot."""

from __future__ import annotations

from collections.abc import Callable

from mailserv import metrics
from mailserv.accept.content import ContentSink, failure_reply
from mailserv.accept.context import Context
from mailserv.accept.inspecting import Arrived, Inspected, inspect
from mailserv.accept.success import parameters_onward, success_notices
from mailserv.errors import MailboxFull, PluginError, StoreError
from mailserv.filter import headers
from mailserv.filter.checks import SessionChecks
from mailserv.hooks.round import Asking
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope, Recipient
from mailserv.mail.message import Acceptance, Content, MailboxDelivery, QueuedRecipient
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.trace import TraceEntry, observed_entry
from mailserv.mail.value import replace
from mailserv.protocol.commands import Mail, Rcpt
from mailserv.route.router import Resolution, may_relay

_log = get_logger("accept")
SUBMISSION = frozenset({"submission", "submissions"})
ROOM_FACTOR = 1.5  # of the message limit must be free before a message is begun (Postfix's rule; docs/lessons.md 4)
SAME_DELIVERED_TO = 2  # times that one mailbox's Delivered-To may not be seen (docs/decisions/0013)


class Transaction:
    """Collects the envelope, takes the content, commits. The session's thread; what asks plugins may have another one
    afterwards (`Asking`).

    `open` answers MAIL; when it refuses there is no transaction.
    """

    def __init__(
        self, context: Context, peer: Peer, envelope: Envelope, here: Callable[[], str], asked: SessionChecks
    ) -> None:
        self._context = context
        self._asked = asked
        self._peer = peer
        self._here = here
        self._resolutions: list[tuple[Recipient, Resolution]] = []
        self._sink: ContentSink | None = None
        self._queue_id = ""
        self._received_at = 0.0
        self._below = 0
        self._is_binary = envelope.is_binary
        self._refusal: Reply | None = None  # of a content that comes in chunks, said at the end of its chunk
        self.envelope = envelope

    @staticmethod
    def open(
        context: Context, peer: Peer, mail: Mail, here: Callable[[], str], asked: SessionChecks
    ) -> Asking[tuple[Transaction | None, Reply]]:
        """MAIL: our own rules first, then the hooks. `here`: the address that the client connected to, for literals."""
        envelope = Envelope(mail.reverse_path, (), mail.parameters)
        refusal = _needs_login(context, peer)
        if refusal is None and peer.login:
            refusal = yield from _not_theirs(context, peer, mail.reverse_path)
        refusal = refusal or _no_room(context)
        if refusal is None:
            verdict = yield from asked.mail(peer, envelope)
            refusal = verdict.reply if verdict else None
        if refusal is not None:
            return None, refusal
        return Transaction(context, peer, envelope, here, asked), reply.SENDER_OK

    def add_recipient(self, rcpt: Rcpt) -> Asking[Reply]:
        """RCPT: routed at once, so that what can't be delivered is refused here and never bounced."""
        limits = self._context.settings.limits
        limit = limits.recipients_authenticated if self._peer.login else limits.recipients
        if len(self._resolutions) >= limit:
            return reply.TOO_MANY_RECIPIENTS
        here = self._here() if rcpt.forward_path.domain.startswith("[") else ""
        resolution = yield from self._context.router.resolving(rcpt.forward_path, here, self.envelope.reverse_path)
        refusal = resolution.refusal or may_relay(self._peer, resolution)
        if refusal is not None:
            return refusal
        full = self._context.quotas.refusal(resolution.mailboxes, self.envelope.parameters.get("SIZE", ""))
        if full is not None:
            return full
        verdict = yield from self._asked.rcpt(self._peer, self.envelope, rcpt.forward_path)
        if verdict is not None:
            return verdict.reply
        recipient = Recipient(rcpt.forward_path, rcpt.parameters)
        self._resolutions.append((recipient, resolution))
        self.envelope = replace(self.envelope, recipients=(*self.envelope.recipients, recipient))
        return reply.RECIPIENT_OK

    def begin_chunk(self) -> Asking[Reply | None]:
        """BDAT: at the first chunk what DATA asks, too. A refusal waits for the end of the chunk, and is returned once."""
        if self._sink is not None:
            return None
        answer = yield from self.begin_content(in_chunks=True)
        self._refusal = None if answer.is_positive else answer
        return self._refusal

    def end_chunk(self, octets: int, *, has_bare: bool) -> Reply:
        """The answer to a chunk that is not the last: 250, or what `finish` would say. A refused message is over."""
        refusal = self._refused_so_far(has_bare)
        return self._refused(refusal) if refusal else Reply(250, "2.0.0", f"{octets} octets received")

    def begin_content(self, *, in_chunks: bool = False) -> Asking[Reply]:
        """354, or why not: to DATA, or to the first BDAT (`in_chunks`), which goes on without hearing the 354."""
        if self._is_binary and not in_chunks:
            return reply.NEED_BDAT
        verdict = yield from self._asked.data(self._peer, self.envelope)
        if verdict is not None:
            return verdict.reply
        context, peer = self._context, self._peer
        self._received_at = context.clock.now()
        self._queue_id = context.queue_ids.make(self._received_at)
        only = self.envelope.recipients[0].forward_path if len(self.envelope.recipients) == 1 else None
        trace_field = headers.received_field(
            peer,
            hostname=context.settings.hostname,
            queue_id=self._queue_id,
            now=self._received_at,
            recipient=only,
            smtputf8=self.envelope.is_smtputf8,
        )
        self._below = len(trace_field)
        limits = context.settings.limits
        self._sink = ContentSink(
            context.store.spool(self._queue_id),
            trace_field=trace_field,
            authserv_id=context.settings.hostname,
            message_size=limits.message_size,
            header_size=limits.header_size,
            hops=limits.hops,
            complete=self._complete if peer.service in SUBMISSION else None,
        )
        return reply.START_CONTENT

    @property
    def received(self) -> int:
        """Octets of content so far."""
        return self._sink.size if self._sink is not None else 0

    def write(self, block: bytes) -> None:
        """A block of content; failures wait for `finish`."""
        if self._sink is not None:  # else the first chunk was refused
            self._sink.write(block)

    def finish(self, *, has_bare: bool = False) -> Asking[Reply]:
        """The final dot, or the last chunk: check, commit, answer. 250 means committed and synced (invariant 1).

        `has_bare`: a CR or LF stands alone in a content that came in chunks.
        """
        refusal = self._refused_so_far(has_bare)
        if refusal:
            self.abort()
            return self._refused(refusal)
        assert self._sink is not None
        content = self._sink.finish(ends_line=not self._is_binary or self._is_for_mailboxes)
        if isinstance(content, Reply):
            return self._refused(content)
        found: Inspected | Reply = (
            (yield from inspect(self._asked, self._peer, self.envelope, content, self._arrived))
            if self._asked.inspecting
            else Inspected(content)
        )
        if isinstance(found, Reply):
            self._sink.discard()
            return self._refused(found)
        acceptance = self._acceptance(found)
        if self._loops(acceptance):
            self._sink.discard()
            return self._refused(reply.TOO_MANY_HOPS)
        try:
            acceptance, notices = success_notices(self._context.bouncer, acceptance, self._resolutions)
            self._context.store.accept(acceptance, notices)
        except StoreError as error:
            if not isinstance(error, MailboxFull):
                _log.error("store_failed", queue_id=self._queue_id, error=str(error))
            self._sink.discard()
            return self._refused(failure_reply(error))
        except PluginError as error:  # it should have said something about a notice that is due at once
            _log.warning("plugin_missed", session=self._peer.session_id, error=str(error))
            self._sink.discard()
            return self._refused(reply.LOCAL_ERROR)
        if found.content is not content:
            self._sink.discard()  # what arrived is in no row: it was changed, or copied below fields of ours
        self._accepted(acceptance)
        if notices:
            metrics.bounces("success_notice").inc(len(notices))
        yield from self._context.checks.accepted(self._queue_id, self._peer, self.envelope, found.results)
        return Reply(250, "2.0.0", f"queued as {self._queue_id}")

    def abort(self) -> None:
        """RSET, a lost connection, a timeout: nothing of it stays."""
        if self._sink is not None:
            self._sink.discard()
            self._sink = None

    def _refused_so_far(self, has_bare: bool) -> Reply | None:
        """Why chunks are refused: a bare CR or LF, too (invariant 5), but where BODY=BINARYMIME declared that.

        Such content can leave by BDAT only. POP3 has no way to carry it: it does not get into a mailbox.
        """
        if self._refusal or not has_bare:
            return self._refusal or (self._sink.failure if self._sink else None)
        if not self._is_binary:
            return reply.BARE_NEWLINE
        return reply.BINARY_REFUSED if self._is_for_mailboxes else None

    @property
    def _is_for_mailboxes(self) -> bool:
        return any(resolution.mailboxes for _, resolution in self._resolutions)

    def _arrived(self, content: Content) -> Arrived:
        return Arrived(
            self._queue_id,
            self._peer,
            self.envelope,
            content,
            below=self._below,
            hostname=self._context.settings.hostname,
            received_at=self._received_at,
        )

    def _complete(self, header_section: bytes) -> bytes:
        hostname = self._context.settings.hostname
        return headers.complete_submission(
            header_section, hostname=hostname, queue_id=self._queue_id, now=self._received_at
        )

    def _acceptance(self, found: Inspected) -> Acceptance:
        """What the recipients came to, each final address once."""
        mailboxes: dict[tuple[str, str], MailboxDelivery] = {}
        queued: dict[tuple[str, str], QueuedRecipient] = {}
        trace = [self._trace_accepted(found.content), *found.trace]
        for recipient, resolution in self._resolutions:
            original = recipient.forward_path
            for account, address in resolution.mailboxes:
                prefix = headers.return_path_prefix(self.envelope.reverse_path, address)
                copy = MailboxDelivery(account, str(address), prefix, self._context.quotas.of(account))
                mailboxes.setdefault((account, address.key), copy)
            for address, route in resolution.remotes:
                key = (address.local_part, address.domain)
                onward = parameters_onward(recipient, resolution)
                queued.setdefault(key, QueuedRecipient(address, original, route, onward))
            trace.append(self._trace_routed(original, resolution))
        trace += [observed_entry(self._received_at, each) for each in self._asked.observed]
        return Acceptance(
            queue_id=self._queue_id,
            reverse_path=self.envelope.reverse_path,
            content=found.content,
            received_at=self._received_at,
            parameters=self.envelope.parameters,
            login=self._peer.login,
            peer_ip=self._peer.ip,
            mailboxes=tuple(mailboxes.values()),
            queued=tuple(queued.values()),
            trace=tuple(trace),
        )

    def _trace_accepted(self, content: Content) -> TraceEntry:
        peer = self._peer
        detail: dict[str, str | int | float] = {
            "ip": peer.ip,
            "helo": headers.clean(peer.helo),
            "service": peer.service,
            "protocol": peer.protocol,
            "size": content.size,
            "reverse_path": str(self.envelope.reverse_path),
            "session": peer.session_id,
        }
        if peer.login:
            detail["login"] = peer.login
        return TraceEntry(self._received_at, "accepted", detail=detail)

    def _trace_routed(self, original: Address, resolution: Resolution) -> TraceEntry:
        found = [f"mailbox:{account}" for account, _ in resolution.mailboxes]
        found += [f"{address} via {route}" for address, route in resolution.remotes]
        detail = {"to": ", ".join(found), "steps": "; ".join(resolution.steps)}
        return TraceEntry(self._received_at, "routed", str(original), detail)

    def _loops(self, acceptance: Acceptance) -> bool:
        """A mailbox whose Delivered-To the message already carries twice gets it round and round."""
        assert self._sink is not None
        section = self._sink.header_section
        if b"elivered-" not in section:
            return False
        seen = headers.delivered_to(section)
        return any(seen[each.recipient.casefold()] >= SAME_DELIVERED_TO for each in acceptance.mailboxes)

    def _accepted(self, acceptance: Acceptance) -> None:
        metrics.accepted(self._peer.service).inc()
        _log.info(
            "accepted",
            queue_id=self._queue_id,
            session=self._peer.session_id,
            ip=self._peer.ip,
            login=self._peer.login,
            reverse_path=str(acceptance.reverse_path),
            recipients=len(self._resolutions),
            mailboxes=len(acceptance.mailboxes),
            queued=len(acceptance.queued),
            size=acceptance.content.size,
        )

    def _refused(self, refusal: Reply) -> Reply:
        metrics.refused(self._peer.service, str(refusal.code)).inc()
        _log.info(
            "refused",
            queue_id=self._queue_id,
            session=self._peer.session_id,
            ip=self._peer.ip,
            command="content",
            reply=str(refusal),
            reverse_path=str(self.envelope.reverse_path),
            why=self._asked.why(),
        )
        return refusal


# Our own rules for MAIL.


def _needs_login(context: Context, peer: Peer) -> Reply | None:
    if peer.service not in SUBMISSION or peer.login or peer.relay:
        return None
    can_log_in = peer.tls is not None or context.allows_plaintext(peer.ip)
    return reply.NEED_AUTH if can_log_in else reply.NEED_TLS  # AUTH is not offered: RFC 3207 §4


def _not_theirs(context: Context, peer: Peer, reverse_path: Address) -> Asking[Reply | None]:
    try:
        is_theirs = yield from context.router.may_send_as(peer.login, reverse_path)
    except PluginError as error:
        _log.warning("plugin_missed", session=peer.session_id, error=str(error))
        return reply.LOCAL_ERROR
    return None if is_theirs else reply.NOT_YOUR_ADDRESS


def _no_room(context: Context) -> Reply | None:
    has_room = context.store.has_room(int(context.settings.limits.message_size * ROOM_FACTOR))
    return None if has_room else reply.STORAGE_FULL
