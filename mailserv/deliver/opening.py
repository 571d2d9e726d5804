"""From an address to a session that is ready for MAIL, and the hosts of one destination tried in order (RFC 5321 §5.1)."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mailserv.clock import Clock
from mailserv.deliver.connections import ClientConnection, Timeouts, describe
from mailserv.deliver.mx import Target
from mailserv.deliver.tls_policy import ClientContexts, HopPolicy
from mailserv.errors import PluginError, ProtocolError
from mailserv.logging import get_logger
from mailserv.mail.outcome import Deferred, Failed
from mailserv.mail.reply import Reply, Severity
from mailserv.protocol.smtp_client import Handshake, Opened, Refused, Step, TLSWish, open_session

SLOW_SECONDS = 60.0  # how long a host that let us wait for nothing is not tried again
MAX_SLOW = 1_000  # such hosts remembered

POLICY_UNKNOWN = Reply(451, "4.7.5", "It is not known now how much TLS this host must offer")

_log = get_logger("deliver")


@dataclass(frozen=True, slots=True)
class HostFailure:
    """A host that can't be used now. `is_slow`: it cost us a timeout. `by_tls`: it was STARTTLS that broke the session."""

    outcome: Deferred | Failed
    is_slow: bool = False
    by_tls: bool = False


def found_out(reply: Reply, target: Target) -> Deferred:
    """What we say of a host that has not said it."""
    return Deferred(reply, str(target), is_ours=True)


class Opener:
    """Opens sessions. Any thread."""

    def __init__(self, hostname: str, clock: Clock, timeouts: Timeouts, contexts: ClientContexts) -> None:
        self._hostname = hostname
        self._clock = clock
        self._timeouts = timeouts
        self._contexts = contexts

    def open(self, target: Target, policy: HopPolicy) -> ClientConnection | HostFailure:
        """Connect, greet, STARTTLS and AUTH as the policy says. Where STARTTLS broke the session and TLS was only a bonus,
        once more in plain text on a fresh connection (RFC 7435 §3): the old one is gone or in an unknown state."""
        is_loopback = ipaddress.ip_address(target.ip).is_loopback
        wish = policy.wish(is_loopback=is_loopback)
        opened = self._open(target, policy, wish, is_loopback)
        if isinstance(opened, HostFailure) and opened.by_tls and wish is TLSWish.IF_OFFERED:
            _log.info("tls_failed", remote=str(target), reply=str(opened.outcome.reply), then="plain text")
            opened = self._open(target, policy, TLSWish.NEVER, is_loopback)
        return opened

    def _open(
        self, target: Target, policy: HopPolicy, wish: TLSWish, is_loopback: bool
    ) -> ClientConnection | HostFailure:
        try:
            sock = socket.create_connection((target.ip, target.port), self._timeouts.connect)
        except OSError as error:
            return HostFailure(
                found_out(describe(error, Step.CONNECT), target), is_slow=isinstance(error, TimeoutError)
            )
        connection = ClientConnection(sock, target, self._clock, self._timeouts)
        try:
            end = self._talk(connection, policy, wish, is_loopback)
        except (OSError, ProtocolError, ValueError) as error:  # ValueError: a host name that TLS can't take
            connection.close()
            by_tls = connection.is_at_starttls and not isinstance(error, ProtocolError)
            outcome = found_out(connection.trouble(error), target)
            return HostFailure(outcome, is_slow=isinstance(error, TimeoutError), by_tls=by_tls)
        if isinstance(end, Refused):
            connection.quit(wait=False)
            if end.step is Step.AUTH:
                _log.warning("smarthost_login_failed", remote=str(target), user=policy.user, reply=str(end.reply))
            kind = Failed if end.reply.severity is Severity.PERMANENT else Deferred
            return HostFailure(kind(end.reply, str(target), end.is_ours), by_tls=end.step is Step.STARTTLS)
        connection.capabilities = end.capabilities
        return connection

    def _talk(
        self, connection: ClientConnection, policy: HopPolicy, wish: TLSWish, is_loopback: bool
    ) -> Opened | Refused:
        dialogue = open_session(self._hostname, wish, policy.login(is_loopback=is_loopback))
        reply = None
        while True:
            try:
                action = dialogue.send(reply)
            except StopIteration as stop:
                end: Opened | Refused = stop.value
                return end
            if isinstance(action, Handshake):
                connection.start_tls(self._contexts.choose(policy))
                reply = None
            else:
                if action.data:
                    connection.send(action.data, action.step)
                reply = connection.read(action.step)


class SlowHosts:
    """Hosts that let us wait for nothing a moment ago, so that not every message waits for them again. Any thread.

    A host that refuses at once is not kept here: asking it again costs nothing, and it may be back.
    """

    def __init__(self, clock: Clock, *, seconds: float = SLOW_SECONDS, limit: int = MAX_SLOW) -> None:
        self._clock = clock
        self._seconds = seconds
        self._limit = limit
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[str, int], tuple[float, Reply]] = OrderedDict()

    def note(self, target: Target, reply: Reply) -> None:
        """It was slow just now."""
        with self._lock:
            self._known[target.ip, target.port] = (self._clock.monotonic() + self._seconds, reply)
            if len(self._known) > self._limit:
                self._known.popitem(last=False)

    def forget(self, target: Target) -> None:
        """It answers."""
        with self._lock:
            self._known.pop((target.ip, target.port), None)

    def forget_all(self) -> None:
        """Somebody wants them tried now."""
        with self._lock:
            self._known.clear()

    def reply(self, target: Target) -> Reply | None:
        """Why it is not to be tried now, None when it may be."""
        with self._lock:
            until, reply = self._known.get((target.ip, target.port), (0.0, None))
            return reply if until > self._clock.monotonic() else None


class Hosts:
    """The targets of one destination, tried one after the other, for one batch. One thread."""

    def __init__(
        self,
        find: Callable[[], Sequence[Target] | Deferred | Failed],
        policy: Callable[[Target], HopPolicy],
        opener: Opener,
        slow: SlowHosts,
    ) -> None:
        """`policy` is asked before each connection; it may raise PluginError: then that host is not used now."""
        self._find = find
        self._policy = policy
        self._opener = opener
        self._slow = slow
        self._targets: list[Target] | None = None  # those still to be tried; None: not looked up yet
        self._failures: list[Deferred | Failed] = []

    def open(self) -> ClientConnection | Deferred | Failed:
        """A session with the best host that gives one, or what became of the last of them."""
        if self._targets is None:
            found = self._find()
            if isinstance(found, Deferred | Failed):
                return found
            self._targets = list(found)
        while self._targets:
            target = self._targets[0]
            if reply := self._slow.reply(target):
                self.fail(target, found_out(reply, target))
                continue
            opened = self._open(target)
            if isinstance(opened, ClientConnection):
                self._slow.forget(target)
                return opened
            if opened.is_slow:
                self._slow.note(target, opened.outcome.reply)
            self.fail(target, opened.outcome)
        return self._verdict()

    def _open(self, target: Target) -> ClientConnection | HostFailure:
        try:
            policy = self._policy(target)
        except PluginError:  # the runner has told of it; without its word nothing goes out in plain text
            return HostFailure(found_out(POLICY_UNKNOWN, target))
        return self._opener.open(target, policy)

    def fail(self, target: Target, outcome: Deferred | Failed) -> None:
        """This target is of no use for the rest of the batch."""
        _log.info("host_failed", remote=str(target), reply=str(outcome.reply))
        self._failures.append(outcome)
        if self._targets and self._targets[0] == target:
            self._targets.pop(0)

    def _verdict(self) -> Deferred | Failed:
        """Temporary as long as one host has a temporary reason (RFC 5321 §4.2.1, §5.1)."""
        transient = [failure for failure in self._failures if isinstance(failure, Deferred)]
        return (transient or self._failures)[-1]
