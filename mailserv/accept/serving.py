"""One session of a service that a plugin speaks: the socket, its deadlines, its place and its TLS stay here."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mailserv.accept.context import Context
from mailserv.accept.deadlines import Deadlines
from mailserv.errors import ConfigError
from mailserv.logging import get_logger
from mailserv.mail.listening import Conversation, PluginListener
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.net.connection import Connection
from mailserv.net.gate import Place
from mailserv.net.listener import Serve
from mailserv.net.tls import PLUGIN

_log = get_logger("serving")
READ = 64 * 1024  # octets asked for at once


def plugin_service(
    service: str,
    listeners: Mapping[str, PluginListener],
    context: Callable[[], Context],
    peer: Callable[[str, tuple[str, int]], Peer],
) -> Serve:
    """What a listener runs for each connection. Raises ConfigError when nobody serves it, or there is no certificate.

    `context`: what sessions that begin now work with. `peer(service, address)`: the client.
    """
    listener = listeners.get(service)
    if listener is None:
        raise ConfigError([f'listen: the plugin "{service}" has no service'])
    if listener.tls and context().certificates is None:
        raise ConfigError([f"listen: {service} needs [tls] certificate and key"])

    def serve(connection: Connection, address: tuple[str, int], place: Place) -> None:
        PluginSession(context(), connection, peer(service, address), place, listener).run()

    return serve


def in_silence(_: Reply) -> bytes:
    """A plugin's protocol is not known here: a client that gets no session is only closed."""
    return b""


class PluginSession:
    """Runs one connection to its end and closes it. Create and `run` on the session's own thread."""

    def __init__(
        self, context: Context, connection: Connection, peer: Peer, place: Place, listener: PluginListener
    ) -> None:
        """`listener` is one that never raises."""
        self._context = context
        self._connection = connection
        self._peer = peer
        self._place = place
        self._listener = listener
        self._deadlines = Deadlines(context.clock, context.settings.limits)

    def run(self) -> None:
        """Serve until the plugin, the client, the time or the server ends it."""
        try:
            reason = self._serve()
        except TimeoutError:
            reason = "timeout"
        except OSError:
            reason = "lost"
        if reason != "lost":
            self._connection.say_no_more()
        peer, seconds = self._peer, round(self._deadlines.age, 3)
        _log.info(
            "plugin_session", session=peer.session_id, service=peer.service, ip=peer.ip, seconds=seconds, reason=reason
        )
        self._connection.close()
        self._place.vacate()

    def _serve(self) -> str:
        if self._listener.tls and not self._start_tls():
            return "tls"
        talk = self._listener.begin(self._peer)
        self._send(talk.opening())
        return self._converse(talk)

    def _start_tls(self) -> bool:
        certificates = self._context.certificates
        assert certificates is not None  # looked at when the server started
        try:
            self._connection.start_tls(certificates.context(PLUGIN), self._deadlines.command(under_stress=False))
        except OSError as error:
            _log.info("tls_failed", session=self._peer.session_id, ip=self._peer.ip, error=str(error))
            return False
        return True

    def _converse(self, talk: Conversation) -> str:
        while not talk.is_over:
            if self._place.leave_with is not None:
                return "dismissed"
            data = self._connection.receive(self._deadlines.command(under_stress=False), READ)
            if not data:
                return "lost" if self._place.leave_with is None else "dismissed"
            self._place.begin()  # what is asked before the end is answered
            try:
                answer = talk.receive(data)
            finally:
                self._place.end()
            self._send(answer)
        return "quit"

    def _send(self, data: bytes) -> None:
        if data:  # who sends a request in drops gains nothing: only an answer begins the wait anew
            self._deadlines.is_answered = True
            self._connection.send(data, self._deadlines.command(under_stress=False))
