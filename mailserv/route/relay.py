"""Who may send mail through us to others (invariant 4): the one place where relaying is opened."""

from __future__ import annotations

from mailserv.mail.peer import LMTP, Peer
from mailserv.mail.reply import RELAY_DENIED, Reply
from mailserv.mail.resolution import Resolution


def may_relay(peer: Peer, resolution: Resolution) -> Reply | None:
    """None: go on. A login, an address in `[relay] networks`, or a forward-path that is ours; else 550 5.7.1.

    An alias of ours with a target elsewhere is ours: the operator opened that way. So is what a plugin's
    `resolve_recipient` claims. By LMTP nothing is relayed, whoever asks (RFC 2033). Pure, any thread.
    """
    if resolution.is_local or (peer.service != LMTP and (peer.login or peer.relay)):
        return None
    return RELAY_DENIED
