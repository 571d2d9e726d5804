"""Greylisting (RFC 6647): a stranger is asked to come back, which a mail server does and much spam software does not."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated

import click
import msgspec

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.ip import is_within, network_of
from mailserv.mail.listening import PluginListener
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.mail.values import Duration, Network
from mailserv.mail.verdict import Verdict, tempfail
from mailserv_greylist.commands import make_commands
from mailserv_greylist.policy_service import PolicyConversation
from mailserv_greylist.triplets import NETWORK, PASSED, SINCE, SUCCESSES, Triplet, Windows, time_of

V4_CLIENT_BITS = 32
V4_BITS, V6_BITS = 24, 64  # RFC 6647 §5: big senders come back from a neighbouring address
REFRESH = 86_400.0  # seconds: what is known is written again at most once a day


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
        int, msgspec.Meta(ge=1, description="the same of one network; one more waits as a client, whatever it sends")
    ] = 1_000


class Plugin:
    Settings = GreylistSettings

    def __init__(self, settings: GreylistSettings, services: Services) -> None:
        self._settings = settings
        self._services = services
        self._table = services.table
        self._windows = Windows(settings.window)
        self._now = services.now
        self._log = services.log
        self._greylisted = services.metrics.count("greylisted")
        self._passed = services.metrics.count("passed")
        self._waiting = services.metrics.level("waiting")

    @hookimpl
    def check_config(self) -> Iterable[str]:
        if self._settings.window <= self._settings.delay:
            yield "window: has to be longer than delay, or nobody can come back in time"
        if self._settings.lifetime <= REFRESH:
            yield "lifetime: has to be longer than a day"

    @hookimpl
    def register_commands(self) -> Iterable[click.Command]:
        return make_commands(self._services, self._settings.delay, self._settings.window, (V4_BITS, V6_BITS))

    @hookimpl
    def register_listeners(self) -> Iterable[PluginListener]:
        return [PluginListener(lambda asking: PolicyConversation(asking, self.smtp_rcpt))]

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> Verdict | None:
        if not peer.is_stranger or is_within(peer.ip, self._settings.networks):
            return None
        network = str(network_of(peer.ip, V4_BITS, V6_BITS))
        if self._is_known(f"{NETWORK}{network}"):
            return None
        client = str(network_of(peer.ip, V4_CLIENT_BITS, V6_BITS))
        left: int | None = None
        for triplet in (Triplet.of(network, envelope.reverse_path, forward_path), Triplet.of_client(network, client)):
            if self._is_known(f"{PASSED}{triplet.key}", triplet):
                return None
            left = self._seconds_left(triplet)
            if left is not None:
                break  # else the network is full, which must not keep out who shares it with a flood
        log = self._log.bind(session=peer.session_id, ip=peer.ip, reverse_path=str(envelope.reverse_path))
        if not left:
            self._passed.add()
            log.info("greylist_passed", forward_path=str(forward_path))
            return None
        self._greylisted.add()
        log.info("greylisted", forward_path=str(forward_path), seconds=left)
        why = f"{network} is new with this sender and recipient: {left} s"
        return tempfail(f"Greylisted: try again in {left} seconds", reason=why)

    def _is_known(self, key: str, triplet: Triplet | None = None) -> bool:
        """Known from before; kept for another lifetime, since it is in use. The value tells until when."""
        value = self._table.get(key)
        if value is None:
            return False
        if time_of(value) - self._now() < self._settings.lifetime - REFRESH:
            self._know(key, triplet)
        return True

    def _know(self, key: str, triplet: Triplet | None = None) -> None:
        until = self._now() + self._settings.lifetime
        self._table.put(key, triplet.value(until) if triplet else str(until), until)

    def _seconds_left(self, triplet: Triplet) -> int | None:
        """How long this triplet still has to wait, in whole seconds; 0: it may pass, and is known from now on. None: there
        is no room for it in its network."""
        now, delay = self._now(), self._settings.delay
        value = self._table.get(f"{SINCE}{triplet.key}")
        since = None if value is None else time_of(value)
        if since is None or since > now:  # the clock was put back: who came then has come now
            if since is not None:
                self._forget(triplet, since)
            return self._note(triplet, now)
        left = math.ceil(since + delay - now)
        if left > 0:
            return left
        self._forget(triplet, since)
        self._know(f"{PASSED}{triplet.key}", triplet)
        self._succeeded(triplet.network)
        return 0

    def _note(self, triplet: Triplet, now: float) -> int | None:
        """A stranger: remember when it came, if there is room. 0: let it pass, for the table is full. None: its network is."""
        settings = self._settings
        if not triplet.is_client and self._count(1, now, triplet.network) > settings.waiting_per_network:
            self._count(-1, now, triplet.network)
            return None
        waiting = self._count(1, now)
        if waiting > settings.waiting:
            self._uncount(triplet, now)
            self._log.warning("greylist_full", waiting=settings.waiting)
            return 0
        self._waiting.set(waiting)
        self._table.put(f"{SINCE}{triplet.key}", triplet.value(now), now + settings.window)
        return math.ceil(settings.delay)

    def _forget(self, triplet: Triplet, since: float) -> None:
        """It waits no more."""
        self._table.delete(f"{SINCE}{triplet.key}")
        self._waiting.set(self._uncount(triplet, since))

    def _uncount(self, triplet: Triplet, since: float) -> int:
        if not triplet.is_client:
            self._count(-1, since, triplet.network)
        return self._count(-1, since)

    def _count(self, by: int, at: float, network: str = "") -> int:
        """A window's count, which ends with the last of what it counts: there are never more than twice as many rows."""
        return self._table.increment(self._windows.key(at, network), by, self._windows.end(at))

    def _succeeded(self, network: str) -> None:
        wanted = self._settings.auto_whitelist
        if not wanted:
            return
        count = self._table.increment(f"{SUCCESSES}{network}", 1, self._now() + self._settings.lifetime)
        if count >= wanted:
            self._know(f"{NETWORK}{network}")
            self._log.info("greylist_known", network=network, successes=count)
