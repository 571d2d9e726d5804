"""What extensions may know of a POP3 session, and what CAPA tells (RFC 2449 §5)."""

from __future__ import annotations

from mailserv.mail.peer import Peer
from mailserv.mail.pop3_extension import Pop3State, Pop3View
from mailserv.pop3.context import Pop3Context


def is_private(context: Pop3Context, peer: Peer) -> bool:
    """May a password come over this connection? (`[tls] plaintext_auth`)"""
    return peer.tls is not None or context.allows_plaintext(peer.ip)


def session_view(
    context: Pop3Context, peer: Peer, state: Pop3State, timestamp: str, stat: tuple[int, int], *, is_utf8: bool
) -> Pop3View:
    """The session as it is now."""
    messages, octets = stat
    in_authorization = state is Pop3State.AUTHORIZATION
    return Pop3View(
        peer=peer,
        hostname=context.settings.hostname,
        state=state,
        timestamp=timestamp,
        can_start_tls=in_authorization and peer.tls is None and context.certificates is not None,
        can_authenticate=in_authorization and is_private(context, peer),
        mechanisms=context.logins.mechanisms(peer.service),
        is_utf8=is_utf8,
        messages=messages,
        octets=octets,
    )


def capabilities(context: Pop3Context, view: Pop3View, retention: str | None) -> list[str]:
    """What is true here and now (RFC 2449 §6): ours, then those of extensions. `retention`: of this maildrop, once open."""
    expire = f"EXPIRE {retention or context.rules.expire_argument()}"
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", expire, "IMPLEMENTATION mailserv"]
    if is_private(context, view.peer):
        lines += ["USER", " ".join(("SASL", *view.mechanisms))]
    if view.can_start_tls:
        lines.append("STLS")
    return lines + context.extensions.capabilities(view)
