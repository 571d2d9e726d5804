"""The ways out of the queue: "smtp" by this room, the others by plugins."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from mailserv.clock import Clock
from mailserv.deliver.asking import DeliverHooks
from mailserv.deliver.connections import IDLE_SECONDS, ClientConnection, IdleConnections, Timeouts
from mailserv.deliver.mx import SMTP_PORT, Ourselves, find_targets
from mailserv.deliver.opening import Hosts, Opener, SlowHosts
from mailserv.deliver.remote import Conversation, End
from mailserv.deliver.tls_policy import ClientContexts, HopPolicy, policy_for
from mailserv.deliver.work import Work
from mailserv.mail.delivery import Attempt, Delivery, Transport
from mailserv.mail.route import MAILBOX, SMTP
from mailserv.resolver import Resolver


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """What one connection carries before QUIT (docs/decisions/0013: 50 messages or 5 minutes, 50 recipients a transaction).

    Many servers end a session that goes on for longer; a fresh connection also lets other senders have their turn.
    """

    transactions: int = 50
    seconds: float = 300.0
    recipients: int = 50
    idle_seconds: float = IDLE_SECONDS


class SmtpTransport:
    """`mailserv.mail.delivery.Transport` over SMTP (RFC 5321). Any number of workers may deliver at once.

    It looks one delivery ahead: with PIPELINING the next MAIL goes out behind the dot of the message before. It stops
    taking when no host of the destination gives a session, at a 421 in the middle, and when a host that has served lets us
    wait for too long; whatever it took and could not send is Deferred then.
    """

    def __init__(
        self,
        hostname: str,
        resolver: Resolver,
        clock: Clock,
        rng: random.Random,
        *,
        policies: Mapping[str, HopPolicy] | None = None,
        listening: Collection[tuple[str, int]] = (),
        timeouts: Timeouts | None = None,
        limits: SessionLimits | None = None,
        contexts: ClientContexts | None = None,
        port: int = SMTP_PORT,
        hooks: DeliverHooks | None = None,
    ) -> None:
        """`policies`: by next hop, see `hop_policies`. `listening`: our own (ip, port) pairs, so that an MX that points
        back at us is seen. `rng` orders hosts of equal preference. `port`: where MX hosts listen; only tests need another."""
        self._resolver = resolver
        self._clock = clock
        self._rng = rng
        self._policies = dict(policies or {})
        self._ourselves = Ourselves(hostname.lower(), frozenset(listening))
        self._limits = limits or SessionLimits()
        self._port = port
        self._hooks = hooks or DeliverHooks()
        self._opener = Opener(hostname, clock, timeouts or Timeouts(), contexts or ClientContexts.make())
        self._slow = SlowHosts(clock)
        self._idle = IdleConnections(clock, idle_seconds=self._limits.idle_seconds)

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        """See `Transport.deliver`."""
        work = Work(deliveries, recipients=self._limits.recipients)
        route = work.destination()
        hosts, found_at = self._hosts(route.next_hop) if route else None, self._clock.monotonic()
        while route and hosts and work.has_part():
            yield from work.finished()  # those that needed no connection
            way = (route.next_hop, policy_for(self._policies, route.next_hop))
            session = self._idle.get(way) or hosts.open()
            if not isinstance(session, ClientConnection):
                work.settle_rest(session)
                break
            conversation = Conversation(
                session,
                work,
                transactions=self._limits.transactions,
                seconds=self._limits.seconds,
                holds=partial(self._holds, *way),
            )
            try:
                while conversation.advance():
                    yield from work.finished()
            finally:
                self._release(way, session, conversation.end)
            if conversation.end is End.HOST:
                hosts.fail(session.target, conversation.outcome)
            elif conversation.end is End.FULL and self._clock.monotonic() - found_at >= self._limits.seconds:
                # A batch may go on for hours: DNS is asked again, and a host that has failed gets another chance.
                hosts, found_at = self._hosts(route.next_hop), self._clock.monotonic()
            elif conversation.end is End.STOP:
                work.settle_rest(conversation.outcome)
                break
            yield from work.finished()
        yield from work.finished()

    def reload(self, policies: Mapping[str, HopPolicy]) -> None:
        """Use these policies from the next message on: what was opened by another carries no more. Any thread: one
        reference is replaced."""
        self._policies = dict(policies)

    def try_anew(self) -> None:
        """An operator says "now": hosts that let us wait a moment ago are tried again. Any thread."""
        self._slow.forget_all()

    def close(self) -> None:
        """See `Transport.close`."""
        self._idle.close()

    def _hosts(self, next_hop: str) -> Hosts:
        return Hosts(
            lambda: find_targets(
                next_hop,
                self._resolver,
                ourselves=self._ourselves,
                rng=self._rng,
                port=self._port,
                monotonic=self._clock.monotonic,
            ),
            lambda target: self._hooks.policy(next_hop, target.host, policy_for(self._policies, next_hop)),
            self._opener,
            self._slow,
        )

    def _holds(self, next_hop: str, policy: HopPolicy) -> bool:
        return policy_for(self._policies, next_hop) == policy

    def _release(self, way: tuple[str, HopPolicy], session: ClientConnection, end: End) -> None:
        match end:
            case End.DONE:
                self._idle.put(way, session)
            case End.FULL:
                session.quit()
            case _:
                session.close()


class Transports:
    """Every transport by the name that a Route carries. Immutable, any thread.

    Raises ValueError for a name that is taken: by another plugin, or by the server itself.
    """

    def __init__(self, smtp: Transport, others: Iterable[tuple[str, Transport]] = ()) -> None:
        known: dict[str, Transport] = {SMTP: smtp}
        for name, transport in others:
            if name in known or name == MAILBOX:
                raise ValueError(f'the transport name "{name}" is taken')
            known[name] = transport
        self.by_name: Mapping[str, Transport] = MappingProxyType(known)

    def get(self, name: str) -> Transport | None:
        """The transport of that name, None when nobody brought one."""
        return self.by_name.get(name)

    def close(self) -> None:
        """Close each, the last registered first; one that raises does not keep the others open."""
        with contextlib.ExitStack() as stack:
            for transport in self.by_name.values():
                stack.callback(transport.close)
