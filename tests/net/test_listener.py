"""The listening socket: places, refusals without a thread, and an accept loop that survives."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mailserv.clock import SystemClock
from mailserv.errors import ConfigError
from mailserv.mail.reply import Reply
from mailserv.net.connection import LONGEST, Connection
from mailserv.net.gate import Gate, GateLimits, Place
from mailserv.net.listener import Listener, listening_socket
from mailserv.net.threads import SessionThreads

CLOCK = SystemClock()


class NoThreads(SessionThreads):
    """A system that can't start another thread."""

    def run(self, job: Any) -> None:
        raise RuntimeError("can't start new thread")


class Doors:
    """A listener whose sessions say hello and wait to be let go."""

    def __init__(self, limit: int, threads: SessionThreads, host: str = "127.0.0.1") -> None:
        self.release = threading.Event()
        self.threads = threads
        self.gate = Gate(GateLimits(limit, 0), CLOCK)
        self.listener = Listener(
            "smtp",
            listening_socket("smtp", (host, 0)),
            serve=self.serve,
            refuse=Reply.encode,
            gate=self.gate,
            threads=threads,
            clock=CLOCK,
        )

    def serve(self, connection: Connection, address: tuple[str, int], place: Place) -> None:
        connection.send(f"hello {address[0]}\r\n".encode(), 10)
        self.release.wait(10)
        connection.close()
        place.vacate()

    def connect(self) -> socket.socket:
        return socket.create_connection(self.listener.bound, 10)

    def first_line(self) -> bytes:
        with self.connect() as client, client.makefile("rb") as lines:
            return lines.readline()


@contextmanager
def doors(limit: int = 5, threads: SessionThreads | None = None, host: str = "127.0.0.1") -> Iterator[Doors]:
    made = Doors(limit, threads or SessionThreads("test"), host)
    made.listener.start()
    try:
        yield made
    finally:
        made.release.set()
        made.listener.stop()
        made.threads.close(10)


def test_a_connection_gets_a_session() -> None:
    with doors() as made:
        assert made.first_line() == b"hello 127.0.0.1\r\n"


def test_nobody_waits_for_ever_on_what_was_accepted() -> None:
    with listening_socket("smtp", ("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname(), 10):
        accepted, _ = listening.accept()
        with accepted:
            waits = [
                accepted.getsockopt(socket.SOL_SOCKET, each, 16) for each in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO)
            ]
    assert [struct.unpack("ll", each)[0] for each in waits] == [LONGEST, LONGEST]


def test_accepting_goes_on_when_nobody_came_for_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailserv.net.listener.LONGEST", 0.01)
    tried = threading.Semaphore(0)
    with doors() as made:
        get_request = made.listener.get_request

        def counted() -> Any:
            tried.release()
            return get_request()

        monkeypatch.setattr(made.listener, "get_request", counted)
        assert all(tried.acquire(timeout=10) for _ in range(3))
        assert made.first_line() == b"hello 127.0.0.1\r\n"


def test_over_the_limit_there_is_a_421_and_no_thread() -> None:
    with doors(limit=1) as made, made.connect() as first, first.makefile("rb") as lines:
        assert lines.readline() == b"hello 127.0.0.1\r\n"
        before = threading.active_count()
        assert made.first_line().startswith(b"421 4.7.0 ")
        assert threading.active_count() == before


def test_without_threads_there_is_a_421_and_the_place_is_free_again() -> None:
    with doors(limit=1, threads=NoThreads("test")) as made:
        assert made.first_line().startswith(b"421 4.3.2 ")
        assert made.first_line().startswith(b"421 4.3.2 ")


def test_a_port_in_use_is_a_clear_error() -> None:
    with doors() as made:
        host, port = made.listener.bound
        with pytest.raises(ConfigError, match=f"cannot listen on {host}:{port} for smtp: Address already in use"):
            listening_socket("smtp", (host, port))


def test_it_listens_on_v6() -> None:
    with doors(host="::1") as made:
        assert made.first_line() == b"hello ::1\r\n"


def test_after_stop_nobody_is_served() -> None:
    with doors() as made:
        address = made.listener.bound
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 10)
