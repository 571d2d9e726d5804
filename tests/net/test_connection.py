"""Nobody waits for longer than was said, plain or under TLS; other threads may only wake or break a connection."""

from __future__ import annotations

import os
import pty
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mailserv.clock import SystemClock
from mailserv.net.connection import COMMAND_READ, IDLE_READ, Connection
from mailserv.net.tls import Certificates, server_context

CLOCK = SystemClock()
SOON, LATER = 0.02, 10.0


@pytest.fixture
def pair() -> Iterator[tuple[Connection, socket.socket]]:
    ours, theirs = socket.socketpair()
    connection = Connection(ours, CLOCK)
    yield connection, theirs
    connection.close()
    theirs.close()


@contextmanager
def tcp_pair() -> Iterator[tuple[Connection, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        theirs = socket.create_connection(listening.getsockname(), timeout=LATER)
        ours, _ = listening.accept()
    connection = Connection(ours, CLOCK)
    yield connection, theirs
    connection.close()
    theirs.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def write_pair(authority: trustme.CA, folder: Path, name: str = "mail.example.org") -> tuple[Path, Path]:
    issued = authority.issue_cert(name)
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder / "cert.pem", folder / "key.pem"


def test_it_reads_what_is_there(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.sendall(b"EHLO x\r\n")
    assert connection.receive(LATER) == b"EHLO x\r\n"


def test_it_asks_for_more_while_commands_flow(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.sendall(b"x" * (IDLE_READ + COMMAND_READ + 10))
    assert [len(connection.receive(LATER)) for _ in range(3)] == [IDLE_READ, COMMAND_READ, 10]
    peer.sendall(b"x" * (IDLE_READ + 1))
    assert len(connection.receive(LATER)) == IDLE_READ


def test_a_wait_ends_at_its_deadline(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    with pytest.raises(TimeoutError):
        connection.receive(SOON)
    with pytest.raises(TimeoutError):
        connection.receive(-1)


def test_drops_of_data_do_not_move_the_deadline(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    deadline = CLOCK.monotonic() + 0.1
    peer.sendall(b"a")
    assert connection.receive(deadline - CLOCK.monotonic()) == b"a"
    with pytest.raises(TimeoutError):
        connection.receive(deadline - CLOCK.monotonic())
    assert CLOCK.monotonic() - deadline < LATER


def test_the_end_of_the_peer_is_an_empty_read(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.close()
    assert connection.receive(LATER) == b""


def test_a_reader_that_reads_nothing_meets_the_deadline(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    with pytest.raises(TimeoutError):
        connection.send(b"x" * 10_000_000, SOON)
    with pytest.raises(TimeoutError):
        connection.send(b"x", -1)


def shake_hands(connection: Connection, peer: socket.socket, authority: trustme.CA, folder: Path) -> ssl.SSLSocket:
    """The peer's side under TLS; ours is, too, then."""
    server = server_context(*write_pair(authority, folder))
    shaking = threading.Thread(target=connection.start_tls, args=(server, LATER))
    shaking.start()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    wrapped = context.wrap_socket(peer, server_hostname="mail.example.org", suppress_ragged_eofs=False)
    shaking.join()
    return wrapped


@pytest.fixture(params=["plain", "tls"])
def over_tcp(
    request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path
) -> Iterator[tuple[Connection, socket.socket]]:
    """Of the kind that a session has: for others the kernel counts waits in another way."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as peer:
        connection = Connection(listener.accept()[0], CLOCK)
        if request.param == "tls":
            peer = shake_hands(connection, peer, authority, tmp_path)
        yield connection, peer
        connection.close()
        peer.close()


def test_a_reader_that_takes_a_little_now_and_then_does_not_move_the_deadline(
    over_tcp: tuple[Connection, socket.socket],
) -> None:
    connection, peer = over_tcp
    over = threading.Event()

    def take_a_little_now_and_then() -> None:
        while not over.wait(0.02):
            peer.recv(65536)

    reader = threading.Thread(target=take_a_little_now_and_then)
    reader.start()
    began = CLOCK.monotonic()
    try:
        with pytest.raises(TimeoutError):
            connection.send(b"x" * 30_000_000, 0.3)
        assert CLOCK.monotonic() - began < 1.3
    finally:
        over.set()
        reader.join()


def test_a_wait_told_before_the_handshake_is_none_of_tls(authority: trustme.CA, tmp_path: Path) -> None:
    with tcp_pair() as (connection, peer):
        connection.send(b"220 Ready\r\n", 0.3)
        assert peer.recv(64) == b"220 Ready\r\n"
        wrapped = shake_hands(connection, peer, authority, tmp_path)
        began = CLOCK.monotonic()
        with pytest.raises(TimeoutError):
            connection.send(b"x" * 30_000_000, 0.3)
        assert CLOCK.monotonic() - began < LATER / 2
        wrapped.close()


def test_saying_no_more_waits_for_nobody(over_tcp: tuple[Connection, socket.socket]) -> None:
    connection, peer = over_tcp
    peer.sendall(b"QUIT\r\n")
    assert connection.receive(LATER) == b"QUIT\r\n"
    began = CLOCK.monotonic()
    connection.say_no_more()
    assert CLOCK.monotonic() - began < LATER / 2
    assert peer.recv(100) == b""


@pytest.mark.parametrize("say_no_more", [False, True])
def test_an_end_is_told_as_tls_tells_it(over_tcp: tuple[Connection, socket.socket], say_no_more: bool) -> None:
    connection, peer = over_tcp
    connection.send(b"+OK Bye\r\n", LATER)
    if say_no_more:
        connection.say_no_more()
    connection.close()
    assert peer.recv(100) == b"+OK Bye\r\n"
    assert peer.recv(100) == b""  # an SSLEOFError without close_notify (RFC 8446 §6.1)


def test_sending_to_nobody_is_an_error(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.close()
    with pytest.raises(OSError, match="Broken pipe"):
        connection.send(b"x", LATER)


def test_interrupt_wakes_the_reader_and_leaves_the_way_out_open(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    thread = threading.Thread(target=connection.interrupt)
    thread.start()
    assert connection.receive(LATER) == b""
    connection.send(b"421 bye\r\n", LATER)
    assert peer.recv(100) == b"421 bye\r\n"
    thread.join()


def test_a_last_reply_reaches_a_client_that_still_sends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        connection = Connection(listener.accept()[0], CLOCK)
        client.sendall(b"x" * 100_000)
        connection.send(b"421 bye\r\n", LATER)
        connection.say_no_more()
        connection.close()
        assert client.recv(100) == b"421 bye\r\n"
        assert client.recv(100) == b""


def test_the_last_words_leave_with_the_end() -> None:
    def leave_with_it() -> bool:
        with tcp_pair() as (connection, peer):
            connection.send(b"221 Bye\r\n", LATER, is_last=True)
            peer.setblocking(False)
            try:
                early = peer.recv(100)
            except BlockingIOError:
                early = b""
            peer.settimeout(LATER)
            connection.close()
            assert early or peer.recv(100) == b"221 Bye\r\n"
            assert peer.recv(100) == b""
            return not early

    assert any(leave_with_it() for _ in range(10))  # the kernel waits for 200 ms: a busy machine may be late


@pytest.mark.parametrize("says_no_more", [True, False])
def test_the_last_words_arrive_where_the_client_still_speaks(says_no_more: bool) -> None:
    """A close with input unread resets the connection."""
    with tcp_pair() as (connection, peer):
        peer.sendall(b"QUIT\r\nand more")
        assert connection.receive(LATER, 6) == b"QUIT\r\n"
        connection.send(b"221 Bye\r\n", LATER, is_last=True)
        if says_no_more:
            connection.say_no_more()
        connection.close()
        assert peer.recv(100) == b"221 Bye\r\n"


def test_interrupt_after_close_harms_nobody(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair
    connection.close()
    connection.interrupt()
    connection.abort()
    connection.close()
    assert connection.local_ip() == ""


def handshake(
    connection: Connection, peer: socket.socket, authority: trustme.CA, files: tuple[Path, Path]
) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    made: list[ssl.SSLSocket] = []
    thread = threading.Thread(target=lambda: made.append(context.wrap_socket(peer, server_hostname="mail.example.org")))
    thread.start()
    info = connection.start_tls(server_context(*files), LATER)
    thread.join()
    assert info.version.startswith("TLSv1.")
    return made[0]


def test_tls_reads_writes_times_out_and_is_interrupted(
    pair: tuple[Connection, socket.socket], authority: trustme.CA, tmp_path: Path
) -> None:
    connection, peer = pair
    client = handshake(connection, peer, authority, write_pair(authority, tmp_path))
    client.sendall(b"NOOP\r\n")
    assert connection.receive(LATER) == b"NOOP\r\n"
    with pytest.raises(TimeoutError):
        connection.receive(SOON)
    connection.interrupt()
    assert connection.receive(LATER) == b""
    connection.send(b"421 bye\r\n", LATER)
    assert client.recv(100) == b"421 bye\r\n"
    client.close()


def test_a_handshake_that_never_comes_meets_the_deadline(
    pair: tuple[Connection, socket.socket], authority: trustme.CA, tmp_path: Path
) -> None:
    connection, _ = pair
    with pytest.raises(OSError, match="timed out"):
        connection.start_tls(server_context(*write_pair(authority, tmp_path)), SOON)


def test_plain_text_is_no_handshake(
    pair: tuple[Connection, socket.socket], authority: trustme.CA, tmp_path: Path
) -> None:
    connection, peer = pair
    peer.sendall(b"EHLO in.the.clear\r\n")
    with pytest.raises(ssl.SSLError):
        connection.start_tls(server_context(*write_pair(authority, tmp_path)), LATER)
    with pytest.raises(TimeoutError):
        connection.start_tls(server_context(*write_pair(authority, tmp_path)), -1)


def test_a_certificate_that_changed_is_reread(authority: trustme.CA, tmp_path: Path) -> None:
    certificates = Certificates(*write_pair(authority, tmp_path))
    first = certificates.context("smtp")
    assert certificates.context("smtp") is first
    write_pair(authority, tmp_path, "other.example.org")
    assert certificates.context("smtp") is not first


def test_a_certificate_that_broke_leaves_the_old_one(authority: trustme.CA, tmp_path: Path) -> None:
    files = write_pair(authority, tmp_path)
    certificates = Certificates(*files)
    first = certificates.context("smtp")
    files[0].write_text("not PEM")
    assert certificates.context("smtp") is first
    files[1].unlink()
    assert certificates.context("smtp") is first


def test_a_key_with_a_passphrase_is_an_error_and_asks_no_terminal(authority: trustme.CA, tmp_path: Path) -> None:
    certificate, key = write_pair(authority, tmp_path)
    plain = load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    code = (
        "import os, sys; from pathlib import Path; from mailserv.net.tls import server_context\n"
        "os.open(sys.argv[1], os.O_RDWR)  # the terminal of this session from here on\n"
        "try: server_context(Path(sys.argv[2]), Path(sys.argv[3]))\n"
        "except OSError: print('refused')"
    )
    ours, terminal = pty.openpty()
    ran = subprocess.run(
        [sys.executable, "-c", code, os.ttyname(terminal), certificate, key],
        start_new_session=True,
        stdin=terminal,
        capture_output=True,
        text=True,
        check=True,
        timeout=LATER,
    )
    os.close(ours)
    os.close(terminal)
    assert ran.stdout == "refused\n"


def test_a_service_gives_no_tickets(authority: trustme.CA, tmp_path: Path) -> None:
    context = server_context(*write_pair(authority, tmp_path))
    assert context.num_tickets == 0
    assert context.options & ssl.OP_NO_TICKET
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_what_the_kernel_does_not_take_at_once_is_sent_all_the_same(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    taken: list[bytes] = []
    reader = threading.Thread(target=lambda: taken.extend(iter(lambda: peer.recv(65536), b"")), daemon=True)
    lines = [b"%04d " % number + b"x" * 4000 + b"\r\n" for number in range(500)]
    connection.send(lines[0], LATER)
    reader.start()
    for line in lines[1:]:
        connection.send(line, LATER)
    connection.close()
    reader.join(LATER)
    assert b"".join(taken) == b"".join(lines)


def test_a_full_socket_ends_a_short_send_at_its_deadline(pair: tuple[Connection, socket.socket]) -> None:
    connection, _ = pair

    def fill() -> None:
        for _ in range(10_000):
            connection.send(b"x" * 4096, SOON)

    with pytest.raises(TimeoutError):
        fill()


def test_a_short_send_to_nobody_is_an_error(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    peer.close()
    with pytest.raises(OSError, match=r"Broken pipe|reset"):
        connection.send(b"250 Ok\r\n", LATER)


def test_a_wait_may_be_longer_than_the_one_before(pair: tuple[Connection, socket.socket]) -> None:
    connection, peer = pair
    with pytest.raises(TimeoutError):
        connection.receive(SOON)
    later = threading.Timer(0.1, lambda: peer.sendall(b"NOOP\r\n"))
    later.start()
    assert connection.receive(LATER) == b"NOOP\r\n"
