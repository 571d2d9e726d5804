"""What extensions may know of a session, and what it does for them (design: values in, values out; invariant 8)."""

from __future__ import annotations

from collections.abc import Callable

from mailserv.accept.content import failure_reply
from mailserv.accept.context import Context
from mailserv.accept.transaction import SUBMISSION, Transaction
from mailserv.errors import StoreError
from mailserv.hooks.round import Asking
from mailserv.logging import get_logger
from mailserv.mail.address import Address
from mailserv.mail.extension import LookUp, SessionView, StartQueue
from mailserv.mail.ip import is_within
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.value import replace

_log = get_logger("smtp")


def session_view(context: Context, peer: Peer, transaction: Transaction | None) -> SessionView:
    """The session as it is now."""
    limits = context.settings.limits
    return SessionView(
        peer=peer,
        hostname=context.settings.hostname,
        message_size=limits.message_size,
        recipients=limits.recipients_authenticated if peer.login else limits.recipients,
        can_start_tls=peer.tls is None and context.certificates is not None,
        can_authenticate=peer.service in SUBMISSION
        and not peer.login
        and (peer.tls is not None or context.allows_plaintext(peer.ip)),  # a password may come over this connection
        mechanisms=context.logins.mechanisms(peer.service),
        in_transaction=transaction is not None,
        is_smtputf8=transaction is not None and transaction.envelope.is_smtputf8,
        verbs=context.extensions.verbs(peer.service),
    )


def carry_out(ask: LookUp | StartQueue, context: Context, here: Callable[[], str]) -> Asking[Reply]:
    """Do what a verb asks for, and its reply. `here`: the address that the client connected to."""
    if isinstance(ask, LookUp):
        address = ask.address
        if not address.domain:
            address = Address(address.local_part, context.router.table.domains.primary)
        return ask.tell(address, (yield from context.router.resolving(address, here())))
    try:
        count = context.start_queue(ask.domain, ask.subdomains)
    except StoreError as error:
        return failure_reply(error)
    return ask.tell(count)


def become(claimed: Peer, peer: Peer, context: Context) -> Peer:
    """The client that a trusted one speaks for (XCLIENT). What it may relay is looked up anew (invariant 4)."""
    _log.info("xclient", session=peer.session_id, ip=peer.ip, client=claimed.ip, helo=claimed.helo, login=claimed.login)
    return replace(
        peer,
        ip=claimed.ip,
        port=claimed.port,
        helo=claimed.helo,
        login=claimed.login,
        esmtp=False,
        relay=is_within(claimed.ip, context.settings.relay.networks),
    )
