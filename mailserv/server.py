"""The composition root: builds every room, starts them in order, reloads, stops in the opposite order."""

from __future__ import annotations

import ipaddress
import random
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import get_args

from mailserv import metrics
from mailserv.accept.context import Context
from mailserv.accept.serving import in_silence, plugin_service
from mailserv.accept.session import SmtpSession
from mailserv.accept.submitting import Submitter
from mailserv.bounce.asking import NoticeHooks
from mailserv.bounce.policy import Bouncer
from mailserv.clock import Clock, SystemClock
from mailserv.config import diff, parse_listen_address
from mailserv.deliver.asking import DeliverHooks
from mailserv.deliver.mx import SMTP_PORT
from mailserv.deliver.transports import SmtpTransport, Transports
from mailserv.derived import (
    as_reloaded,
    certificates,
    chance,
    plaintext_rule,
    policies_of_hops,
    raise_file_limit,
    resolve_for_notice,
    router_of,
    secret,
    tell_left_behind,
)
from mailserv.filter.checks import Checks
from mailserv.filter.limits import ConnectionRate, LoginThrottle
from mailserv.filter.logins import Logins
from mailserv.filter.passwords import Passwords
from mailserv.hooks.brought import Plugins
from mailserv.hooks.host import load_plugins
from mailserv.hooks.paused import PausedFile
from mailserv.hooks.rooms import Rooms
from mailserv.logging import get_logger
from mailserv.mail import reply
from mailserv.mail.peer import Peer
from mailserv.mail.queue_id import QueueIds
from mailserv.mail.reply import Reply
from mailserv.mail.value import replace
from mailserv.mailboxes.keeper import Keeper
from mailserv.mailboxes.quotas import Quotas
from mailserv.mailboxes.rules import Rules
from mailserv.net.census import Census
from mailserv.net.connection import Connection
from mailserv.net.gate import Gate, GateLimits, Place
from mailserv.net.listener import Listener, Serve, listening_socket
from mailserv.net.threads import SessionThreads
from mailserv.net.tls import Certificates
from mailserv.pop3.context import OpenMaildrops, Pop3Context
from mailserv.pop3.session import Pop3Session, refusal
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.pop3_extensions import Pop3ExtensionTable
from mailserv.queue.asking import QueueHooks
from mailserv.queue.dispatcher import Dispatcher
from mailserv.resolver import Resolver
from mailserv.settings import Service, Settings
from mailserv.store.disk import DISK, Disk
from mailserv.store.interface import Store
from mailserv.store.part import ALONE, Part
from mailserv.store.sqlite import open_store

_log = get_logger("server")
POP3_SERVICES = frozenset({"pop3", "pop3s"})
THREAD_STACK = 1024 * 1024  # octets of address space for each thread: thousands of sessions must fit
STOP_WORKERS = 5.0  # seconds that deliveries have at least, however long the sessions took to drain


def bind(settings: Settings) -> list[socket.socket | None]:
    """A listening socket for each `[[listen]]`, None for metrics: each process has its own. Raises ConfigError."""
    with ExitStack() as undo:
        sockets: list[socket.socket | None] = []
        for listen in settings.listen:
            if listen.service == "metrics":
                sockets.append(None)
            else:
                listening = listening_socket(listen.service, parse_listen_address(listen.address))
                undo.callback(listening.close)
                sockets.append(listening)
        undo.pop_all()
    return sockets


class Server:
    """The whole server. `start`, `reload` and `stop` belong to one thread, the one that made it.

    `clock`, `resolver`, `rng` and `disk` are for tests; the server reads time, names and chance from nowhere else
    (invariant 9).
    `smtp_port`, where the MX hosts of other domains listen, is for tests too: in the world it is 25. So are
    `plugin_classes`: plugins that a test holds in its hands, under the names that `[plugins] enabled` has for them.
    `part`, `census` and `sockets` (of `bind`): one of several processes that share a store, its limits and what it listens
    on; docs/decisions/0021.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        resolver: Resolver | None = None,
        rng: random.Random | None = None,
        disk: Disk = DISK,
        smtp_port: int = SMTP_PORT,
        plugin_classes: Mapping[str, type] | None = None,
        part: Part = ALONE,
        census: Census | None = None,
        sockets: Sequence[socket.socket | None] | None = None,
    ) -> None:
        self.settings = settings
        self._part = part
        self._seat = census.of(part.index) if census is not None else None
        self._sockets = sockets
        self._disk = disk
        self._clock = clock or SystemClock()
        self._resolver = resolver or Resolver(settings.dns.nameservers, timeout=settings.dns.timeout)
        self._rng = rng or chance()
        self._smtp_port = smtp_port
        self._plugin_classes = plugin_classes
        self._started = ExitStack()
        self._listeners: list[Listener] = []
        self.listening: list[tuple[str, str, int]] = []
        """(service, host, port) of every bound address, in the order of the settings."""

    def start(self) -> None:
        """Open the store, bind every address, deliver what waits, accept. Raises ConfigError or StoreError with all undone."""
        threading.stack_size(THREAD_STACK)
        raise_file_limit(self.settings)
        with ExitStack() as undo:
            self._build(undo)
            for listener in self._listeners:
                listener.start()
            self._started = undo.pop_all()

    def reload(self, settings: Settings) -> list[str]:
        """Use new settings for new sessions; the names of those that wait for a restart. Raises ConfigError, old ones kept."""
        waiting = diff(self.settings, settings).restart
        merged = as_reloaded(self.settings, settings)
        policies = policies_of_hops(merged)
        contexts = self._contexts(merged, certificates(merged))
        if merged.dns != self.settings.dns:
            self._resolver.use(merged.dns.nameservers, merged.dns.timeout)
        else:
            self._resolver.forget()
        raise_file_limit(merged)
        if self._part.is_first:
            tell_left_behind(self.settings, merged, self.store)
        self.settings = merged
        self._smtp, self._pop3 = contexts
        self._set_limits(merged)
        if self._part.is_first:
            self._transport.reload(policies)
            self._dispatcher.reload(merged.queue)
            self._keeper.reload(contexts[1].rules)
        return list(waiting)

    def wake_queue(self) -> None:
        """Have the queue look at the clock and the store again: after a test's clock has moved. Any thread."""
        self.store.order()
        if self._part.is_first:
            self._keeper.wake()

    def stop(self) -> None:
        """Accept no more; running transactions finish, idle sessions hear 421, deliveries end; close the store. Idempotent."""
        self._started.close()

    # ------------------------------------------------------------------ building

    def _build(self, undo: ExitStack) -> None:
        settings, clock = self.settings, self._clock
        self.store: Store = open_store(settings.data_dir, clock, disk=self._disk, part=self._part)
        undo.callback(self.store.close)
        plugins = self._load_plugins()
        self._plugins = plugins
        paused = PausedFile(settings.data_dir, clock, self._part.index)
        paused.clear()
        plugins.runner.watch(paused.tell)
        undo.callback(paused.clear)
        undo.callback(plugins.runner.close)
        self._extensions = ExtensionTable(plugins.extensions)
        self._pop3_extensions = Pop3ExtensionTable(plugins.pop3_extensions)
        self._checks = Checks(plugins.runner)
        self._queue_ids = QueueIds(self._rng)
        self._bouncer = Bouncer(
            hostname=settings.hostname,
            resolve=lambda address: resolve_for_notice(self._smtp.router, address),
            queue_ids=self._queue_ids,
            hooks=NoticeHooks(plugins.runner),
        )
        self._maildrops = OpenMaildrops()
        self._smtp_rate, self._pop3_rate = ConnectionRate(0, clock), ConnectionRate(0, clock)
        self._throttle = LoginThrottle(0, 0, clock)
        self._smtp_gate = Gate(GateLimits(1, 0), clock, lambda ip: not self._smtp_rate.allows(ip), self._seat)
        self._pop3_gate = Gate(GateLimits(1, 0), clock, lambda ip: not self._pop3_rate.allows(ip))
        self._plugin_gate = Gate(GateLimits(1, 0), clock)
        self._gates = (self._smtp_gate, self._pop3_gate, self._plugin_gate)
        self._set_limits(settings)
        self._smtp, self._pop3 = self._contexts(settings, certificates(settings))
        self._threads = SessionThreads("session")
        self._listen(undo)
        plugins.runner.notify("startup")
        undo.callback(plugins.runner.notify, "shutdown")
        if self._part.is_first:
            self._start_first(plugins, undo)
        undo.callback(self._drain)

    def _start_first(self, plugins: Plugins, undo: ExitStack) -> None:
        """What one process has for all: the queue, and who looks after the mailboxes."""
        self._make_queue(plugins)
        is_open = self._maildrops.is_open
        self._keeper = Keeper(
            self.store, self._clock, self._pop3.rules, self.settings.hostname, self._queue_ids, is_open
        )
        undo.callback(self._keeper.stop)
        self._keeper.start()
        undo.callback(self._stop_queue)
        self._dispatcher.start()

    def _load_plugins(self) -> Plugins:
        chosen = self.settings.plugins
        return load_plugins(
            chosen.enabled,
            chosen.disabled,
            chosen.path,
            self.settings.plugin,
            hostname=self.settings.hostname,
            clock=self._clock,
            policies=chosen.policy,
            rooms=Rooms(
                dns=self._resolver,
                table=self.store.plugin_table,
                submit=lambda name: Submitter(name, lambda: self._smtp),
            ),
            classes=self._plugin_classes,
        )

    def _contexts(self, settings: Settings, certificates: Certificates | None) -> tuple[Context, Pop3Context]:
        """What sessions work with; made anew by a reload."""
        passwords = Passwords(self._clock, secret(), settings.limits.password_cache)
        logins = Logins(self.store, self._throttle, passwords, self._plugins.runner, self._plugins.mechanisms)
        rules = Rules.from_settings(settings.mailboxes)
        smtp = Context(
            settings=settings,
            clock=self._clock,
            store=self.store,
            router=router_of(settings, self.store, self._plugins.runner),
            quotas=Quotas(rules, self.store.mailboxes),
            checks=self._checks,
            bouncer=self._bouncer,
            extensions=self._extensions,
            queue_ids=self._queue_ids,
            logins=logins,
            certificates=certificates,
            start_queue=self._start_queue,
            is_stressed=lambda: self._smtp_gate.is_stressed,
            allows_plaintext=plaintext_rule(settings),
        )
        pop3 = Pop3Context(
            settings,
            self._clock,
            self.store,
            logins,
            self._maildrops,
            certificates,
            smtp.allows_plaintext,
            self._checks,
            rules,
            self._pop3_extensions,
            self._plugins.runner,
        )
        return smtp, pop3

    def _start_queue(self, domain: str, subdomains: bool) -> int:
        """ETRN (RFC 1985). At once, also where its host was dead a moment ago: it says that it is back."""
        messages = self.store.queue_start(domain, subdomains=subdomains, now=self._clock.now())
        if messages:
            self.store.order()
        return messages

    def _set_limits(self, settings: Settings) -> None:
        limits, share = settings.limits, self._part.share
        self._smtp_gate.limits = GateLimits(limits.sessions, limits.sessions_per_ip)
        self._plugin_gate.limits = GateLimits(share(limits.sessions), 0)  # few clients, which we chose
        self._pop3_gate.limits = GateLimits(limits.pop3_sessions, limits.sessions_per_ip)
        self._smtp_rate.limit = share(limits.connections_per_minute)
        self._pop3_rate.limit = limits.connections_per_minute
        self._throttle.set_limits(share(limits.failed_logins_per_minute), share(limits.failed_logins_per_day))

    def _make_queue(self, plugins: Plugins) -> None:
        settings = self.settings
        self._transport = SmtpTransport(
            settings.hostname,
            self._resolver,
            self._clock,
            self._rng,
            policies=policies_of_hops(settings),
            listening=[(host, port) for service, host, port in self.listening if service == "smtp"],
            port=self._smtp_port,
            hooks=DeliverHooks(plugins.runner),
        )
        self.store.on_order(self._transport.try_anew)  # before the dispatcher hears of it
        self._dispatcher = Dispatcher(
            self.store,
            Transports(self._transport, plugins.transports.items()).by_name,
            self._bouncer,
            clock=self._clock,
            settings=settings.queue,
            node=settings.hostname,
            rng=self._rng,
            hooks=QueueHooks(plugins.runner),
        )

    # ------------------------------------------------------------------ listening

    def _listen(self, undo: ExitStack) -> None:
        """Bind everything before anything is accepted, so that a port in use stops the start."""
        sockets = self._sockets if self._sockets is not None else bind(self.settings)
        for each in filter(None, sockets):
            undo.callback(each.close)
        for listen, listening in zip(self.settings.listen, sockets, strict=True):
            if listening is None:
                host, port = parse_listen_address(listen.address)
                handle = metrics.serve_metrics(host, port + self._part.index if port else 0)
                undo.callback(handle.close)
                self.listening.append((listen.service, host, handle.port))
                continue
            if not self._part.is_first and listen.service in POP3_SERVICES:
                listening.close()
                continue
            listener = self._listener(listen.service, listening)
            undo.callback(listener.server_close)
            self._listeners.append(listener)
            self.listening.append((listen.service, *listener.bound))

    def _listener(self, service: str, listening: socket.socket) -> Listener:
        refuse: Callable[[Reply], bytes] = Reply.encode
        serve, gate = self._serve_smtp(service), self._smtp_gate
        if service in POP3_SERVICES:
            serve, refuse, gate = self._serve_pop3(service), refusal, self._pop3_gate
        elif service not in get_args(Service):
            serve = plugin_service(service, self._plugins.listeners, lambda: self._smtp, self._peer)
            refuse, gate = in_silence, self._plugin_gate
        return Listener(
            service, listening, serve=serve, refuse=refuse, gate=gate, threads=self._threads, clock=self._clock
        )

    def _serve_smtp(self, service: str) -> Serve:
        def serve(connection: Connection, address: tuple[str, int], place: Place) -> None:
            session = SmtpSession(self._smtp, connection, self._peer(service, address), place)
            self._plugins.runner.drive(session.run(), self._threads)

        return serve

    def _serve_pop3(self, service: str) -> Serve:
        def serve(connection: Connection, address: tuple[str, int], place: Place) -> None:
            session = Pop3Session(self._pop3, connection, self._peer(service, address), place)
            self._plugins.runner.drive(session.run(), self._threads)

        return serve

    def _peer(self, service: str, address: tuple[str, int]) -> Peer:
        peer = Peer(address[0], address[1], service, f"{self._rng.getrandbits(48):012x}")
        networks = self.settings.relay.networks
        if networks and any(ipaddress.ip_address(peer.ip) in network for network in networks):
            return replace(peer, relay=True)
        return peer

    # ------------------------------------------------------------------ stopping

    def _drain(self) -> None:
        for listener in self._listeners:
            listener.stop()
        for gate in self._gates:
            gate.drain(reply.SHUTTING_DOWN)
        self._stop_at = self._clock.monotonic() + self.settings.limits.drain
        if not self._threads.close(self.settings.limits.drain):
            _log.warning("drain_timeout", seconds=self.settings.limits.drain)
            for gate in self._gates:
                gate.abort()
            self._threads.close(STOP_WORKERS)

    def _stop_queue(self) -> None:
        now = self._clock.monotonic()
        self._dispatcher.stop(max(getattr(self, "_stop_at", now), now + STOP_WORKERS))
