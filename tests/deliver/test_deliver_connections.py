"""Idle sessions kept between batches, and errors put into words."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from itertools import chain, repeat

import pytest

from mailserv.deliver.connections import ClientConnection, IdleConnections, Timeouts, describe
from mailserv.deliver.mx import Target
from mailserv.errors import ProtocolError
from mailserv.mail.reply import Reply
from mailserv.protocol.smtp_client import Step
from mailserv.testing.clock import FakeClock


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def connect(clock, closing):
    """A connection and the server's end of it."""

    def make() -> tuple[ClientConnection, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            theirs, _ = listener.accept()
        theirs.settimeout(5)
        closing.enter_context(theirs)
        target = Target("mx.test", *listener_address(ours))
        return closing.enter_context(contextlib.closing(ClientConnection(ours, target, clock, Timeouts()))), theirs

    return make


def listener_address(sock: socket.socket) -> tuple[str, int]:
    return sock.getpeername()[:2]


@pytest.fixture
def idle(clock, closing):
    return closing.enter_context(contextlib.closing(IdleConnections(clock, idle_seconds=30, max_idle=3)))


def test_the_last_one_in_is_the_first_one_out_and_destinations_are_kept_apart(idle, connect):
    (a, _), (b, _), (c, _) = connect(), connect(), connect()
    idle.put("x.test", a)
    idle.put("y.test", b)
    idle.put("x.test", c)
    assert idle.get("x.test") is c
    assert idle.get("x.test") is a
    assert idle.get("x.test") is None
    assert len(idle) == 1


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 Idle for too long\r\n"])
def test_a_session_that_the_server_ended_is_not_given_out(idle, connect, farewell):
    connection, theirs = connect()
    idle.put("x.test", connection)
    theirs.sendall(farewell)
    theirs.shutdown(socket.SHUT_WR)
    assert idle.get("x.test") is None
    assert theirs.recv(100) == b"QUIT\r\n"


def test_a_session_that_has_waited_too_long_ends_with_quit(idle, connect, clock):
    (old, old_peer), (young, _) = connect(), connect()
    idle.put("x.test", old)
    clock.advance(20)
    idle.put("x.test", young)
    clock.advance(10)
    idle.expire()
    assert old_peer.recv(100) == b"QUIT\r\n"
    assert old_peer.recv(100) == b""
    assert len(idle) == 1
    clock.advance(20)
    assert idle.get("x.test") is None


def test_the_timer_runs_by_itself(clock, connect, closing):
    idle = closing.enter_context(contextlib.closing(IdleConnections(clock, idle_seconds=0.01)))
    connection, theirs = connect()
    idle.put("x.test", connection)
    clock.advance(1)
    assert theirs.recv(100) == b"QUIT\r\n"
    assert theirs.recv(100) == b""


class _NoThread(threading.Timer):
    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_where_there_is_no_thread_for_the_timer_the_next_one_sets_it(clock, connect, closing):
    kinds = chain((_NoThread,), repeat(threading.Timer))
    made = IdleConnections(clock, idle_seconds=0.01, timer=lambda *args: next(kinds)(*args))
    idle = closing.enter_context(contextlib.closing(made))
    (first, first_peer), (second, _) = connect(), connect()
    idle.put("x.test", first)
    clock.advance(1)
    idle.put("y.test", second)
    assert first_peer.recv(100) == b"QUIT\r\n"


def test_there_are_never_too_many_of_them(idle, connect):
    peers = []
    for number in range(4):
        connection, theirs = connect()
        peers.append(theirs)
        idle.put(f"{number}.test", connection)
    assert len(idle) == 3
    assert peers[0].recv(100) == b"QUIT\r\n"
    assert idle.get("0.test") is None
    assert idle.get("3.test") is not None


def test_after_close_nothing_is_kept(idle, connect):
    (before, before_peer), (after, after_peer) = connect(), connect()
    idle.put("x.test", before)
    idle.close()
    idle.put("x.test", after)
    assert [peer.recv(100) for peer in (before_peer, after_peer)] == [b"QUIT\r\n"] * 2
    assert len(idle) == 0


def test_quit_waits_for_its_reply_and_does_not_mind_without(connect):
    answered, peer = connect()
    peer.sendall(b"221 2.0.0 Bye\r\n")
    answered.quit()
    assert peer.recv(100) == b"QUIT\r\n"
    for last_words in (b"", b"nonsense\r\n"):
        connection, peer = connect()
        peer.sendall(last_words)
        peer.close()
        connection.quit()


@pytest.mark.parametrize(
    ("error", "step", "reply"),
    [
        (TimeoutError(), Step.CONNECT, Reply(451, "4.4.1", "No connection: timed out")),
        (OSError(113, "x"), Step.CONNECT, Reply(451, "4.4.1", "No connection: No route to host")),
        (socket.gaierror("odd"), Step.CONNECT, Reply(451, "4.4.1", "No connection: gaierror")),
        (TimeoutError(), Step.DOT, Reply(451, "4.4.2", "No answer in time to the end of data")),
        (
            ConnectionResetError(104, "closed"),
            Step.RCPT,
            Reply(451, "4.4.2", "The connection was lost at RCPT: Connection reset by peer"),
        ),
        (
            ProtocolError("a reply line has no code"),
            Step.EHLO,
            Reply(451, "4.5.0", "The server broke the protocol at EHLO: a reply line has no code"),
        ),
        (ssl.SSLError(), Step.HANDSHAKE, Reply(451, "4.7.5", "The TLS handshake failed: tls error")),
        (ssl.SSLError(), Step.MAIL, Reply(451, "4.4.2", "The connection was lost at MAIL: tls error")),
        (ValueError("/etc/secret"), Step.HANDSHAKE, Reply(451, "4.7.5", "The TLS handshake failed: ValueError")),
    ],
)
def test_an_error_becomes_a_temporary_reply_without_our_insides(error, step, reply):
    assert describe(error, step) == reply


def test_every_step_has_its_timeout_and_those_of_the_rfc_are_long_enough():
    timeouts = Timeouts()
    assert all(timeouts.of(step) > 0 for step in Step)
    # RFC 5321 §4.5.3.2: the least a client should wait.
    least = {"greeting": 300, "mail": 300, "rcpt": 300, "data": 120, "block": 180, "dot": 600}
    assert all(getattr(timeouts, name) >= seconds for name, seconds in least.items())
