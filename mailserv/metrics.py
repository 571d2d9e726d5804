"""What Prometheus is told: counters and gauges with bounded labels, and the listener that tells it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from socket import AF_INET6, SHUT_RDWR
from threading import Event, Thread
from typing import Any
from weakref import WeakMethod
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIApplication

from prometheus_client import REGISTRY, Counter, Gauge, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector


class AskedGauge(Collector):
    """A gauge with one label, counted when somebody asks: setting it at each change would cost locks that mail waits for."""

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self._sources: set[WeakMethod[Callable[[], Mapping[str, int]]]] = set()
        REGISTRY.register(self)

    def ask(self, source: Callable[[], Mapping[str, int]]) -> None:
        """A method that tells the numbers of its object, by the label's value, while that lives: on any thread."""
        self._sources.add(WeakMethod(source, self._sources.discard))

    def collect(self) -> Iterable[Metric]:
        """The sums over all servers in this process. The thread of a scrape."""
        sums: dict[str, int] = {}
        for reference in self._sources.copy():
            source = reference()
            for value, number in source().items() if source is not None else ():
                sums[value] = sums.get(value, 0) + number
        family = GaugeMetricFamily(self._name, self._documentation, labels=(self._label,))
        for value, number in sums.items():
            family.add_metric((value,), number)
        return (family,)


SESSIONS = AskedGauge("mailserv_sessions", "Sessions open now", "service")
QUEUE = AskedGauge("mailserv_queue_recipients", "Recipients of messages in the queue", "state")
SESSIONS_REFUSED = Counter("mailserv_sessions_refused", "Connections that got no session", ["service", "status"])
ACCEPTED = Counter("mailserv_messages_accepted", "Messages accepted with 250", ["service"])
REFUSED = Counter("mailserv_commands_refused", "Commands refused", ["service", "code"])
LOGINS = Counter("mailserv_logins", "Logins", ["service", "result"])
ATTEMPTS = Counter("mailserv_delivery_attempts", "Recipients attempted", ["transport", "outcome"])
BOUNCES = Counter("mailserv_bounces", "Notices to senders", ["kind"])
# Of one label each: finding it takes longer than counting.
accepted = cache(ACCEPTED.labels)
refused = cache(REFUSED.labels)
attempts = cache(ATTEMPTS.labels)
bounces = cache(BOUNCES.labels)
PLUGIN_EVENTS = Counter("mailserv_plugin_events", "What plugins count", ["plugin", "event"])
PLUGIN_LEVELS = Gauge("mailserv_plugin_level", "What plugins show of themselves", ["plugin", "name"])
_exposition: WSGIApplication = make_wsgi_app()
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


class PluginMetrics:
    """`mailserv.mail.measuring.Metrics` of one plugin. Two servers of one process share them."""

    def __init__(self, plugin: str) -> None:
        self._plugin = plugin

    def count(self, name: str) -> PluginCount:
        return PluginCount(PLUGIN_EVENTS.labels(self._plugin, _checked(name)))

    def level(self, name: str) -> Gauge:
        return PLUGIN_LEVELS.labels(self._plugin, _checked(name))


class PluginCount:
    """A counter under the word that plugins have for it."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def add(self, by: float = 1.0) -> None:
        self._counter.inc(by)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a metric: small letters, digits and _")
    return name


@dataclass(frozen=True, slots=True)
class MetricsListener:
    """A running `metrics` listener: answers GET /metrics for Prometheus. `port` is the one it is bound to."""

    host: str
    port: int
    _server: WSGIServer
    _thread: Thread
    _closing: Event

    def close(self) -> None:
        """Stop accepting and give the port back. A scrape that runs ends by itself. Idempotent."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._server.socket.shutdown(SHUT_RDWR)  # wakes the thread that waits in accept
        self._thread.join()
        self._server.server_close()


def serve_metrics(host: str, port: int) -> MetricsListener:
    """Serve /metrics on its own thread, one more for each scrape. Port 0 picks a free one. Raises OSError."""
    family = _Server6 if ":" in host else ThreadingWSGIServer
    server = make_server(host, port, _app, family, handler_class=_QuietHandler)
    closing = Event()
    thread = Thread(target=_accept, args=(server, closing), name="metrics", daemon=True)
    thread.start()
    return MetricsListener(host, server.server_address[1], server, thread, closing)


def _app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    try:
        return _exposition(environ, start_response)
    except (TypeError, ValueError):  # prometheus_client compares the version in Accept with numbers, whatever it is
        start_response("406 Not Acceptable", [])
        return []


def _accept(server: WSGIServer, closing: Event) -> None:
    """Accept until closed. Not serve_forever: that wakes up twice a second to look whether it should stop."""
    while not closing.is_set():
        try:
            request, client = server.get_request()
        except OSError:  # closed, a client that went away, or no file descriptor left: the last needs a moment's rest
            closing.wait(0.1)
            continue
        try:
            server.process_request(request, client)
        except RuntimeError:  # no thread left for it: this one must go on
            server.shutdown_request(request)


class _Server6(ThreadingWSGIServer):
    """The same on IPv6; the standard library wants a class for it."""

    address_family = AF_INET6


class _QuietHandler(WSGIRequestHandler):
    """Logs no scrapes, and gives a client that says nothing 10 seconds."""

    timeout = 10

    def handle(self) -> None:
        """A client that goes away or says nothing is no event either."""
        with suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """A scrape every few seconds is no event."""
