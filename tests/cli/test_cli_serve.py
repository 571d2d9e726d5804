"""`mailserv serve`: ready, reload, drain."""

from __future__ import annotations

import fcntl
import os
import signal
import smtplib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Process, port_of, running

from mailserv.cli.running import signals
from mailserv.clock import SystemClock
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store

READY = r"\bready\b.*smtp=127\.0\.0\.1:\d+ .*pop3=127\.0\.0\.1:\d+"
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"

[[listen]]
service = "smtp"
address = "127.0.0.1:0"

[[listen]]
service = "pop3"
address = "127.0.0.1:0"

[[listen]]
service = "metrics"
address = "127.0.0.1:0"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mailserv.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def server(tmp_path: Path, config: Path) -> Iterator[Process]:
    with running("serve", "--config", str(config), cwd=tmp_path) as process:
        yield process


def test_ready_tells_every_bound_address(server: Process) -> None:
    ready = server.until(READY)
    assert "metrics=127.0.0.1:" in ready.string
    with smtplib.SMTP("127.0.0.1", port_of(ready, "smtp"), timeout=10) as client:
        assert client.noop()[0] == 250


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_behind_standard_error_keeps_nobody_from_his_mail(
    tmp_path: Path, config: Path, processes: int
) -> None:
    config.write_text(f"{CONFIG}\n[limits]\nprocesses = {processes}\n")
    told = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor, open("/dev/full", "w") as full:
        supervisor.bind(told)
        supervisor.settimeout(20)
        command = [sys.executable, "-m", "mailserv", "serve", "--config", str(config)]
        server = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "NOTIFY_SOCKET": told}, stderr=full)
        try:
            assert supervisor.recv(100) == b"READY=1"
            server.terminate()
            assert server.wait(20) == 0
        finally:
            server.kill()
            server.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(server: Process, number: signal.Signals) -> None:
    ready = server.until(READY)
    server.signal(number)
    code, out, err = server.end()
    assert (code, out) == (0, "")
    assert f"event=stopping logger=cli.serve signal={number.name}" in err
    assert "event=stopped" in err
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port_of(ready, "smtp")), timeout=5)


def test_a_second_signal_ends_it_at_once(tmp_path: Path, config: Path) -> None:
    store = open_store(tmp_path / "data", SystemClock(), exclusive=False)
    store.add_account("alice@example.org", hash_password("wonderland"), 0.0)
    store.close()
    with running("serve", "--config", str(config), cwd=tmp_path) as server:
        client = smtplib.SMTP("127.0.0.1", port_of(server.until(READY), "smtp"), timeout=20)
        client.ehlo()
        client.mail("stranger@example.net")
        client.rcpt("alice@example.org")
        assert client.docmd("DATA")[0] == 354  # a transaction that runs is waited for
        server.signal(signal.SIGTERM)
        server.until("event=stopping")
        server.signal(signal.SIGTERM)
        code, _, err = server.end()
        client.close()
    assert code == 1
    assert "event=stopped" not in err


def test_a_second_signal_ends_it_at_once_also_while_it_starts(tmp_path: Path, config: Path) -> None:
    (tmp_path / "data").mkdir()
    config.write_text(CONFIG.replace('postmaster = "alice@example.org"\n', ""))  # which it warns of
    held = os.open(tmp_path / "data", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)  # as somebody who migrates the database and hangs
    with running("serve", "--config", str(config), cwd=tmp_path) as server:
        server.until("event=config_warning")
        end = time.monotonic() + 20
        while not os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            os.kill(server.pid, signal.SIGTERM)
            assert time.monotonic() < end
        code, _, _ = server.end()
    os.close(held)
    assert code == 1


def test_an_end_waits_for_no_reload_and_many_reloads_are_one() -> None:
    with signals() as taken:
        for number in [signal.SIGHUP] * 20 + [signal.SIGTERM]:
            os.kill(os.getpid(), number)
        assert [taken.wait(), taken.wait()] == [signal.SIGTERM, signal.SIGHUP]
        os.kill(os.getpid(), signal.SIGHUP)
        assert taken.wait() is signal.SIGHUP


def test_sighup_applies_what_can_be_and_tells_what_cannot(server: Process, config: Path) -> None:
    server.until(READY)
    config.write_text(CONFIG.replace('"data"', '"elsewhere"') + "[limits]\nrecipients = 123\n")
    server.signal(signal.SIGHUP)
    assert server.until("event=restart_needed").string.rstrip().endswith("setting=data_dir")
    assert "limits.recipients" in server.until("event=reloaded").string
    assert server.stop()[0] == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('hostnam = "x"\n', 'did you mean \\"hostname\\"?'),
        (f"x = {'[' * 5000}{']' * 5000}\n", "nested too deep"),
        (f"x = {'9' * 5000}\n", "too many digits"),
        (f'{CONFIG}[tls]\nkey = "~no-such-user/key"\n', "a user who has none"),
    ],
    ids=["a name", "depth", "digits", "nobody's home"],
)
def test_sighup_with_a_mistake_leaves_the_old_settings_running(
    server: Process, config: Path, content: str, told: str
) -> None:
    ready = server.until(READY)
    config.write_text(content)
    server.signal(signal.SIGHUP)
    assert told in server.until("event=config_problem").string
    server.until("event=reload_failed")
    with smtplib.SMTP("127.0.0.1", port_of(ready, "smtp"), timeout=10) as client:
        assert client.noop()[0] == 250
    assert server.stop()[0] == 0


def test_nothing_wrong_starts(tmp_path: Path) -> None:
    with running("serve", "--config", str(tmp_path / "none.toml"), cwd=tmp_path) as process:
        code, _, err = process.end()
    assert code == 1
    assert err == f"{tmp_path}/none.toml: cannot be read: No such file or directory\n"


def test_an_address_in_use_is_one_line(tmp_path: Path, config: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config.write_text(CONFIG.replace("127.0.0.1:0", address, 1))
        with running("serve", "--config", str(config), cwd=tmp_path) as process:
            code, _, err = process.end()
    assert code == 1
    assert "Traceback" not in err
    assert address in err.splitlines()[-1]


def test_a_second_server_on_the_same_data_dir_is_told_apart(tmp_path: Path, config: Path, server: Process) -> None:
    server.until(READY)
    with running("serve", "--config", str(config), cwd=tmp_path) as second:
        code, _, err = second.end()
    assert code == 1
    assert "Traceback" not in err
    assert str(tmp_path / "data") in err


def test_warnings_of_the_settings_are_logged(tmp_path: Path, config: Path) -> None:
    config.write_text(CONFIG.replace("mail.example.org", "mail") + '[log]\nformat = "json"\n')
    with running("serve", "--config", str(config), cwd=tmp_path) as process:
        assert '"event":"config_warning"' in process.until("config_warning").string
        process.until(READY)


def test_systemd_is_told_each_step(tmp_path: Path, config: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        supervisor.bind(str(tmp_path / "notify"))
        supervisor.settimeout(20)
        with running("serve", "--config", str(config), cwd=tmp_path, NOTIFY_SOCKET=str(tmp_path / "notify")) as process:
            assert supervisor.recv(200) == b"READY=1"
            process.signal(signal.SIGHUP)
            assert supervisor.recv(200).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert supervisor.recv(200) == b"READY=1"
            process.signal(signal.SIGTERM)
            assert supervisor.recv(200) == b"STOPPING=1\nEXTEND_TIMEOUT_USEC=55000000"  # [limits] drain, and 25 s
            assert process.end()[0] == 0
