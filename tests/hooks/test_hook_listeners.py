"""Services that plugins speak: bytes in, bytes out; everything about the connection is the server's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from live_kit import plugin_server
from trusting import Trust

from mailserv.errors import ConfigError
from mailserv.settings import Duration, Limits, Listen
from mailserv.testing.server import MailServer

LISTEN = (Listen(service="smtp", address="127.0.0.1:0"), Listen(service="probe", address="127.0.0.1:0"))
ECHO = """
    @hookimpl
    def register_listeners(self):
        return [PluginListener(self.Echo{more})]

    class Echo:
        is_over = False

        def __init__(self, peer):
            SEEN.append((peer.service, peer.ip))

        def opening(self):
            return b"hello\\n"

        def receive(self, data):
            self.is_over = b"bye" in data
            return {answer}
"""


@contextmanager
def echoing(folder: Path, answer: str = "data.upper()", more: str = "", **settings: Any) -> Iterator[MailServer]:
    with plugin_server(folder, ECHO.format(answer=answer, more=more), listen=LISTEN, **settings) as (server, _):
        yield server


@contextmanager
def client(server: MailServer) -> Iterator[socket.socket]:
    with server.connect("probe") as sock:  # type: ignore[arg-type]
        yield sock


def test_hook_register_listeners_speaks_until_it_is_over(tmp_path: Path) -> None:
    with echoing(tmp_path) as server, client(server) as sock:
        reader = sock.makefile("rb")
        assert reader.readline() == b"hello\n"
        sock.sendall(b"one\n")
        assert reader.readline() == b"ONE\n"
        sock.sendall(b"bye\n")
        assert reader.read() == b"BYE\n"
        (line,) = server.wait_for_log("plugin_session", service="probe")
        assert (line["ip"], line["reason"]) == ("127.0.0.1", "quit")


@pytest.mark.parametrize("answer", ["1 / 0", "'text'", "None"])
def test_hook_register_listeners_that_fails_costs_its_connection_and_no_other(tmp_path: Path, answer: str) -> None:
    with echoing(tmp_path, f"{answer} if b'bad' in data else data") as server, client(server) as good:
        with client(server) as bad:
            bad.sendall(b"bad\n")
            assert bad.makefile("rb").read() == b"hello\n"
        good.sendall(b"good\nbye\n")
        assert good.makefile("rb").read() == b"hello\ngood\nbye\n"
        server.wait_for_log("plugin_failed" if answer == "1 / 0" else "plugin_lied", plugin="probe")


def test_hook_register_listeners_ends_with_the_server_and_after_its_time(tmp_path: Path) -> None:
    limits = Limits(sessions_per_ip=0, connections_per_minute=0, command_timeout=Duration(0.1))
    with echoing(tmp_path, limits=limits) as server, client(server) as sock:
        assert sock.makefile("rb").read() == b"hello\n"
        server.wait_for_log("plugin_session", reason="timeout")
    with echoing(tmp_path) as server:
        sock = server.connect("probe")  # type: ignore[arg-type]
        assert sock.recv(100) == b"hello\n"
    with sock:
        assert sock.recv(100) == b""


def test_hook_register_listeners_gives_a_client_that_drips_no_more_time(tmp_path: Path) -> None:
    limits = Limits(sessions_per_ip=0, connections_per_minute=0, command_timeout=Duration(0.5))
    with echoing(tmp_path, "b''", limits=limits) as server, client(server) as sock:
        ended = threading.Event()
        drops = threading.Thread(target=drip, args=(sock, ended))
        drops.start()
        server.wait_for_log("plugin_session", reason="timeout")
        ended.set()
        drops.join()


def drip(sock: socket.socket, ended: threading.Event) -> None:
    """An octet each 50 ms."""
    while not ended.wait(0.05):
        try:
            sock.sendall(b"x")
        except OSError:
            return


def test_hook_register_listeners_has_no_more_sessions_than_may_be(tmp_path: Path) -> None:
    limits = Limits(sessions=1, sessions_per_ip=0, connections_per_minute=0)
    with echoing(tmp_path, limits=limits) as server, client(server) as first:
        assert first.recv(100) == b"hello\n"
        with client(server) as second:
            assert second.recv(100) == b""
        server.wait_for_log("session_refused", service="probe")
        first.sendall(b"bye\n")
        assert first.recv(100) == b"BYE\n"


def test_hook_register_listeners_may_want_tls_from_the_start(tmp_path: Path) -> None:
    trust = Trust.make(tmp_path)
    with echoing(tmp_path, more=", tls=True", tls=trust.tls) as server, client(server) as plain:
        with trust.context().wrap_socket(plain, server_hostname="mail.example.org") as sock:
            assert sock.recv(100) == b"hello\n"
            sock.sendall(b"bye\n")
            assert sock.recv(100) == b"BYE\n"
        with client(server) as stranger:
            stranger.sendall(b"no handshake\n")
            server.wait_for_log("plugin_session", reason="tls")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("pass", 'listen: the plugin "probe" has no service'),
        (ECHO.format(answer="data", more=", tls=True"), "listen: probe needs [tls] certificate and key"),
    ],
)
def test_a_service_that_can_not_be_served_stops_the_start(tmp_path: Path, body: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised, plugin_server(tmp_path, body, listen=LISTEN):
        pass
    assert raised.value.problems == [problem]


def test_hook_register_listeners_brings_one_service(tmp_path: Path) -> None:
    body = """
    @hookimpl
    def register_listeners(self):
        return [PluginListener(print), PluginListener(print), "service"]
    """
    with pytest.raises(ConfigError) as raised, plugin_server(tmp_path, body, listen=LISTEN):
        pass
    assert raised.value.problems == [
        "plugin probe: register_listeners gave 'service', not a PluginListener",
        "plugins probe and probe both bring service probe: disable one of them",
    ]
