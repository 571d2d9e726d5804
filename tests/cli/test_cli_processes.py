"""`[limits] processes`: several processes on the same sockets and store; they are looked after, and end together."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import smtplib
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from serving import Process, port_of, running

from mailserv.clock import SystemClock
from mailserv.hooks.breaker import FAILURES
from mailserv.hooks.paused import read_paused
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store
from mailserv.testing.sink import ScriptedMX

CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
routes = {{ "far.example" = "smtp:[127.0.0.1]:{port}" }}
relay = {{ networks = ["127.0.0.0/8"] }}
limits = {{ processes = 2, sessions_per_ip = 0, connections_per_minute = 0{limits} }}
listen = [
  {{ service = "smtp", address = "127.0.0.1:0" }},
  {{ service = "pop3", address = "127.0.0.1:0" }},
  {{ service = "metrics", address = "127.0.0.1:0" }},
]
"""
READY = r"^ready smtp=127\.0\.0\.1:\d+ pop3=127\.0\.0\.1:\d+ metrics=127\.0\.0\.1:\d+ metrics=127\.0\.0\.1:\d+$"


@pytest.fixture
def sink() -> Iterator[ScriptedMX]:
    with ScriptedMX() as mx:
        yield mx


@pytest.fixture
def config(tmp_path: Path, sink: ScriptedMX) -> Path:
    path = tmp_path / "mailserv.toml"
    path.write_text(CONFIG.format(port=sink.port, limits=""))
    add(tmp_path, "alice@example.org")
    return path


@pytest.fixture
def server(tmp_path: Path, config: Path) -> Iterator[Process]:
    with running("serve", "--config", str(config), cwd=tmp_path) as process:
        yield process


def add(folder: Path, address: str) -> None:
    store = open_store(folder / "data", SystemClock(), exclusive=False)
    store.add_account(address, hash_password("secret"), 0.0)
    store.close()


def children(process: Process) -> list[int]:
    """Process ids, the first process first."""
    return sorted(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def stop(process: int) -> None:
    """SIGSTOP, and it has come: every thread stands still."""
    os.kill(process, signal.SIGSTOP)
    end = time.monotonic() + 10
    while any("T (stopped)" not in status.read_text() for status in Path(f"/proc/{process}/task").glob("*/status")):
        assert time.monotonic() < end


def send(port: int, *recipients: str) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        client.sendmail("stranger@example.net", recipients, b"Subject: hello\r\n\r\nhello\r\n")


def stored(folder: Path, address: str) -> int:
    store = open_store(folder / "data", SystemClock(), exclusive=False)
    try:
        return len(store.maildrop(address))
    finally:
        store.close()


def test_there_is_one_ready_line_and_each_process_has_its_core(server: Process) -> None:
    server.until(READY)
    assert len(children(server)) == 2
    cores = [frozenset(os.sched_getaffinity(child)) for child in children(server)]
    if len(os.sched_getaffinity(0)) > 1:
        assert [len(each) for each in cores] == [1, 1]
        assert cores[0] != cores[1]


def test_what_another_process_took_the_first_one_delivers(server: Process, sink: ScriptedMX, tmp_path: Path) -> None:
    port = port_of(server.until(READY), "smtp")
    first, _ = children(server)
    stop(first)
    send(port, "alice@example.org", "bob@far.example")  # only the second one can have answered
    os.kill(first, signal.SIGCONT)
    (taken,) = sink.wait_for_messages(1)
    assert taken.rcpts == ("<bob@far.example>",)
    assert stored(tmp_path, "alice@example.org") == 1


@pytest.mark.parametrize("index", [0, 1])
def test_one_that_is_killed_is_started_again(server: Process, sink: ScriptedMX, index: int) -> None:
    port = port_of(server.until(READY), "smtp")
    killed = children(server)[index]
    os.kill(killed, signal.SIGKILL)
    server.until(f"event=process_ended .*process={index} pid={killed} status=-9")
    server.until(f"event=process_started .*process={index}")
    assert len(children(server)) == 2
    for _ in range(4):
        send(port, "bob@far.example")
    sink.wait_for_messages(4)
    assert server.stop()[0] == 0


def test_one_process_may_have_all_the_places(tmp_path: Path, config: Path, sink: ScriptedMX) -> None:
    config.write_text(CONFIG.format(port=sink.port, limits=", sessions = 3"))
    with running("serve", "--config", str(config), cwd=tmp_path) as server, ExitStack() as clients:
        port = port_of(server.until("^ready "), "smtp")
        stop(children(server)[1])  # whatever comes goes to the first
        greetings = []
        for _ in range(4):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            greetings.append(client.recv(3))
        assert greetings == [b"220", b"220", b"220", b"421"]
        os.kill(children(server)[1], signal.SIGCONT)


def test_sigterm_ends_all_in_order(server: Process) -> None:
    port = port_of(server.until(READY), "smtp")
    ours = children(server)
    client = smtplib.SMTP("127.0.0.1", port, timeout=20)
    client.ehlo()
    client.mail("stranger@example.net")
    client.rcpt("alice@example.org")
    assert client.docmd("DATA")[0] == 354
    server.signal(signal.SIGTERM)
    server.until("event=stopping")
    client.sock.sendall(b"Subject: late\r\n\r\nlate\r\n.\r\n")  # a transaction that runs is waited for
    assert client.getreply()[0] == 250
    client.close()
    code, out, err = server.end()
    assert (code, out) == (0, "")
    assert "event=stopped" in err
    assert "accept_failed" not in err
    assert not any(Path(f"/proc/{each}").exists() for each in ours)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_when_the_supervisor_is_killed_all_are_gone_and_another_server_starts(
    server: Process, config: Path, tmp_path: Path
) -> None:
    server.until(READY)
    server.signal(signal.SIGKILL)
    with running("serve", "--config", str(config), cwd=tmp_path) as another:
        port = port_of(another.until(READY), "smtp")
        send(port, "alice@example.org")
        assert another.stop()[0] == 0
    assert stored(tmp_path, "alice@example.org") == 1


def test_when_the_supervisor_is_killed_while_a_process_starts_that_one_goes_in_silence(
    tmp_path: Path, config: Path
) -> None:
    held = os.open(tmp_path / "data", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as somebody who migrates the database: the process waits in its start
    with running("serve", "--config", str(config), cwd=tmp_path) as server:
        end = time.monotonic() + 20
        while not children(server):
            assert time.monotonic() < end
        server.signal(signal.SIGKILL)
        os.close(held)
        _, _, err = server.end()
    assert "Traceback" not in err


def test_a_reload_and_a_new_account_reach_every_process(
    server: Process, config: Path, tmp_path: Path, sink: ScriptedMX
) -> None:
    port = port_of(server.until(READY), "smtp")
    config.write_text(CONFIG.format(port=sink.port, limits=", hops = 1"))
    server.signal(signal.SIGHUP)
    server.until("event=reloaded .*limits.hops")
    server.until("event=reloaded .*limits.hops")
    add(tmp_path, "carol@example.org")
    for stopped in children(server):  # first the other one answers, then this one
        stop(stopped)
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client, pytest.raises(smtplib.SMTPDataError, match="loop"):
            client.sendmail("a@example.net", "carol@example.org", b"Received: from x by y; z\r\n\r\nhello\r\n")
        os.kill(stopped, signal.SIGCONT)
    config.write_text("nonsense = 1")
    server.signal(signal.SIGHUP)
    server.until("event=reload_failed")
    send(port, "carol@example.org")


def test_systemd_hears_the_supervisor_and_nobody_else(tmp_path: Path, config: Path) -> None:
    """With NotifyAccess=main it complains of others; with Type=notify-reload it waits for the end of a reload."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(20)
        systemd.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

        def heard() -> tuple[str, int]:
            data, ancillary, _, _ = systemd.recvmsg(200, socket.CMSG_SPACE(12))
            return data.decode().split("\n")[0], int.from_bytes(ancillary[0][2][:4], sys.byteorder)

        with running("serve", "--config", str(config), cwd=tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as server:
            assert heard() == ("READY=1", server.pid)
            server.signal(signal.SIGHUP)
            assert [heard(), heard()] == [("RELOADING=1", server.pid), ("READY=1", server.pid)]
            server.until("event=reloaded")
            server.until("event=reloaded")
            server.stop()
            assert heard() == ("STOPPING=1", server.pid)


PAUSING = """
from mailserv import hookimpl

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def smtp_helo(self):
        raise RuntimeError("boom")
"""


def test_a_hook_that_rests_is_told_by_whichever_process_it_does(tmp_path: Path, config: Path) -> None:
    """Each process has breakers of its own; one that is started again clears its own."""
    (tmp_path / "pausing.py").write_text(PAUSING)
    config.write_text(config.read_text() + 'plugins = { enabled = ["pausing"], path = "." }\n')
    with running("serve", "--config", str(config), cwd=tmp_path) as server:
        port = port_of(server.until(READY), "smtp")
        rested = []
        for stopped in children(server):  # first the other one answers, then this one
            stop(stopped)
            for _ in range(FAILURES):
                with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
                    assert client.ehlo()[0] == 451
            server.until("event=plugin_paused")
            rested.append(read_paused(tmp_path / "data", 2))
            os.kill(stopped, signal.SIGCONT)
        assert [each.hook for each in rested[0]] == ["smtp_helo"]
        assert rested[1] == rested[0], "it is told once, since the first"
        os.kill(children(server)[1], signal.SIGKILL)
        server.until("event=process_started")
        assert [each.hook for each in read_paused(tmp_path / "data", 2)] == ["smtp_helo"]
        assert server.stop()[0] == 0
    assert read_paused(tmp_path / "data", 2) == []


def test_a_port_in_use_stops_the_start(tmp_path: Path, config: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(config.read_text().replace("127.0.0.1:0", address, 1))
        with running("serve", "--config", str(config), cwd=tmp_path) as server:
            code, _, err = server.end()
    assert code == 1
    assert re.search(rf"cannot listen on {address} for smtp: Address already in use", err)


def test_a_process_that_cannot_start_stops_the_start(tmp_path: Path, config: Path) -> None:
    (tmp_path / "data" / "mailserv.db").write_bytes(b"this is no database" * 100)
    with running("serve", "--config", str(config), cwd=tmp_path) as server:
        code, _, err = server.end()
    assert code == 1
    assert "not a mailserv database" in err


def test_a_second_server_is_kept_out(server: Process, config: Path, tmp_path: Path) -> None:
    server.until(READY)
    with running("serve", "--config", str(config), cwd=tmp_path) as another:
        code, _, err = another.end()
    assert code == 1
    assert f"another mailserv (process {server.pid}) is running here" in err
