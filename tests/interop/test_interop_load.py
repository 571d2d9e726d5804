"""postfix's smtp-source in front of a running server, its smtp-sink behind: nothing is lost, nothing comes twice."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from interop_kit import PATH, Certificates, Lines, Mailserv, free_port, mailserv, run, wait_until_served

pytestmark = [pytest.mark.interop, pytest.mark.needs("smtp-source", "smtp-sink")]

SESSIONS = 20
MESSAGES = SESSIONS * 200
OCTETS = 4096


def smtp_source(server: Mailserv, forward_path: str, home: Path) -> None:
    """All the messages through that many sessions, each session used until the end."""
    command = ["smtp-source", "-d", "-s", str(SESSIONS), "-m", str(MESSAGES), "-l", str(OCTETS)]
    command += ["-f", "source@example.net", "-t", forward_path, f"inet:127.0.0.1:{server.ports['smtp']}"]
    run(*command, home=home)


@dataclass(frozen=True, slots=True)
class Sink:
    port: int
    process: subprocess.Popen[bytes]
    counters: Lines

    def wait_for_messages(self, count: int) -> None:
        self.counters.wait_for(rf"mesg={count}\b")

    def messages(self) -> int:
        """How many it has taken when it ends."""
        self.process.terminate()
        assert self.counters.join()
        return int(re.findall(r"mesg=(\d+)", self.counters.matching("mesg=")[-1])[-1])


def _counters(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The counters, each of which overwrites the last one on the terminal."""
    assert process.stdout
    text = b""
    while block := process.stdout.read1():
        *whole, text = (text + block).split(b"\r")
        yield from (counter.decode() for counter in whole)
    yield text.decode()


@contextmanager
def smtp_sink(home: Path) -> Iterator[Sink]:
    port = free_port()
    as_root = ["-u", "nobody"] if os.geteuid() == 0 else []  # it asks for that
    command = ["smtp-sink", "-c", *as_root, "-h", "sink.example.net", f"inet:127.0.0.1:{port}", "100"]
    with subprocess.Popen(command, cwd=home, env={"PATH": PATH}, stdout=subprocess.PIPE) as process:
        counters = Lines(_counters(process))
        try:
            wait_until_served(port)
            yield Sink(port, process, counters)
        finally:
            process.kill()
            assert counters.join()


def test_four_thousand_messages_of_smtp_source_are_in_the_mailbox(server: Mailserv, tmp_path: Path) -> None:
    alice = server.add_account()
    smtp_source(server, alice.address, tmp_path)
    with server.maildrop(alice) as client:
        assert client.stat()[0] == MESSAGES
        uids = {line.split()[1] for line in client.uidl()[1]}
        assert len(uids) == MESSAGES


def test_four_thousand_messages_go_through_to_smtp_sink_once_each(tmp_path: Path, certificates: Certificates) -> None:
    with smtp_sink(tmp_path) as sink:
        more = f"""
[relay]
networks = ["127.0.0.0/8"]
[routes]
"sink.example.net" = "smtp:[127.0.0.1]:{sink.port}"
"""
        with mailserv(tmp_path, certificates, more) as server:
            smtp_source(server, "anybody@sink.example.net", tmp_path)
            sink.wait_for_messages(MESSAGES)
            server.after("event=delivery .*outcome=delivered", MESSAGES)
            assert json.loads(server.command("queue", "list", "--json").out) == []
            accepted = server.log.matching("event=accepted .*recipients=1 .*queued=1")
            assert len(accepted) == MESSAGES
            assert len({re.findall(r"queue_id=(\S+)", line)[0] for line in accepted}) == MESSAGES
        assert sink.messages() == MESSAGES
