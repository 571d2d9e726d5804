"""Greylisting (RFC 6647): a stranger is asked to come back, which a mail server does and much spam software does not."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from typing import Annotated

import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.ip import is_within, network_of
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.values import Duration, Network
from mailserv.mail.verdict import Verdict, tempfail

V4_BITS, V6_BITS = 24, 64  # RFC 6647 §5: big senders come back from a neighbouring address
REFRESH = 86_400.0  # seconds: what is known is written again at most once a day
WAITING = "waiting"  # key of the count of all triplets that wait


class GreylistSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    delay: Annotated[Duration, msgspec.Meta(description="a stranger may come back after")] = Duration(300)
    window: Annotated[Duration, msgspec.Meta(description="and has to within; later it is a stranger again")] = Duration(
        172_800
    )
    lifetime: Annotated[Duration, msgspec.Meta(description="who came back is known for, from the last message on")] = (
        Duration(3_110_400)
    )
    auto_whitelist: Annotated[
        int, msgspec.Meta(ge=0, description="triplets that came back make their network known as a whole; 0: never")
    ] = 5
    networks: Annotated[tuple[Network, ...], msgspec.Meta(description="clients that are never asked to wait")] = ()
    waiting: Annotated[int, msgspec.Meta(ge=1, description="triplets that may wait; one more is let pass")] = 100_000
    waiting_per_network: Annotated[
        int, msgspec.Meta(ge=1, description="the same of one network; one more waits without being noted")
    ] = 1_000


class Plugin:
    Settings = GreylistSettings

    def __init__(self, settings: GreylistSettings, services: Services) -> None:
        self._settings = settings
        self._table = services.table
        self._now = services.now
        self._log = services.log

    @hookimpl
    def check_config(self) -> Iterable[str]:
        if self._settings.window <= self._settings.delay:
            yield "window: has to be longer than delay, or nobody can come back in time"
        if self._settings.lifetime <= REFRESH:
            yield "lifetime: has to be longer than a day"

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        if peer.login or peer.relay or is_within(peer.ip, self._settings.networks):
            return None
        network = str(network_of(peer.ip, V4_BITS, V6_BITS))
        if self._is_known(f"network {network}"):
            return None
        key = _triplet(network, envelope.reverse_path, forward_path)
        if self._is_known(f"passed {key}"):
            return None
        left = self._seconds_left(key, network)
        log = self._log.bind(session=peer.session_id, ip=peer.ip, reverse_path=str(envelope.reverse_path))
        if left <= 0:
            log.info("greylist_passed", forward_path=str(forward_path))
            return None
        log.info("greylisted", forward_path=str(forward_path), seconds=left)
        why = f"{network} is new with this sender and recipient: {left} s"
        return tempfail(f"Greylisted: try again in {left} seconds", reason=why)

    def _is_known(self, key: str) -> bool:
        """Known from before; kept for another lifetime, since it is in use. The value tells until when."""
        until = self._table.get(key)
        if until is None:
            return False
        now, lifetime = self._now(), self._settings.lifetime
        if float(until) - now < lifetime - REFRESH:
            self._know(key)
        return True

    def _know(self, key: str) -> None:
        until = self._now() + self._settings.lifetime
        self._table.put(key, str(until), until)

    def _seconds_left(self, key: str, network: str) -> int:
        """How long this triplet still has to wait, in whole seconds; 0: it may pass, and is known from now on."""
        now, delay = self._now(), self._settings.delay
        since = self._table.get(f"since {key}")
        if since is None:
            return math.ceil(delay) if self._note(key, network) else 0
        left = math.ceil(float(since) + delay - now)
        if left > 0:
            return min(left, math.ceil(delay))  # the clock may have been put back
        self._table.delete(f"since {key}")
        self._know(f"passed {key}")
        self._count(WAITING, -1)
        self._count(f"waiting {network}", -1)
        self._succeeded(network)
        return 0

    def _note(self, key: str, network: str) -> bool:
        """A stranger: remember when it came, if there is room. False: let it pass, for the table is full."""
        settings, now = self._settings, self._now()
        if self._count(f"waiting {network}", 1) > settings.waiting_per_network:
            self._count(f"waiting {network}", -1)
            return True
        waiting = self._count(WAITING, 1)
        if waiting > settings.waiting:
            self._count(WAITING, -1)
            self._count(f"waiting {network}", -1)
            self._log.warning("greylist_full", waiting=settings.waiting)
            return False
        self._table.put(f"since {key}", str(now), now + settings.window)
        return True

    def _count(self, key: str, by: int) -> int:
        """Counts end with a window, and so does what they count: there are never more than twice as many rows."""
        return self._table.increment(key, by, self._now() + self._settings.window)

    def _succeeded(self, network: str) -> None:
        wanted = self._settings.auto_whitelist
        if not wanted:
            return
        count = self._table.increment(f"successes {network}", 1, self._now() + self._settings.lifetime)
        if count >= wanted:
            self._know(f"network {network}")
            self._log.info("greylist_known", network=network, successes=count)


def _triplet(network: str, reverse_path: Address, forward_path: Address) -> str:
    """A key of one length, from which nobody reads who writes to whom."""
    text = "\n".join((network, reverse_path.key, forward_path.key))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
