"""SIGTERM: no new sessions, a running transaction finishes, an idle session hears 421. And an idle server sleeps."""

from __future__ import annotations

import re
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Process, port_of, running
from talking import Talk, greeted

from mailserv.clock import SystemClock
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store

ALICE = "alice@example.org"
CONTENT = b"Subject: the end\r\n\r\nHello.\r\n"
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
listen = [
    { service = "smtp", address = "127.0.0.1:0" },
    { service = "submission", address = "127.0.0.1:0" },
    { service = "pop3", address = "127.0.0.1:0" },
    { service = "metrics", address = "127.0.0.1:0" },
]
"""
Address = tuple[str, int]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    (tmp_path / "mailserv.toml").write_text(CONFIG)
    store = open_store(tmp_path / "data", SystemClock(), exclusive=False)
    store.add_account(ALICE, hash_password("secret"), 0.0)
    store.close()
    with running("serve", "--config", "mailserv.toml", cwd=tmp_path) as server:
        yield server


def addresses(process: Process) -> tuple[Address, Address]:
    ready = process.until("^ready ")
    return ("127.0.0.1", port_of(ready, "smtp")), ("127.0.0.1", port_of(ready, "pop3"))


@pytest.mark.parametrize("begun", ["MAIL", "RCPT", "DATA"])
def test_lesson_7_sigterm_lets_a_running_transaction_finish_and_sends_idle_sessions_away(
    process: Process, tmp_path: Path, begun: str
) -> None:
    smtp, pop3 = addresses(process)
    commands = ["MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>", "DATA"]
    done = [command[:4] for command in commands].index(begun) + 1
    with greeted(smtp) as busy, greeted(smtp) as idle, Talk.to(pop3) as reader:
        reader.line()
        busy.say_all(*commands[:done])
        process.signal(signal.SIGTERM)
        assert idle.hear().startswith("421 4.3.2")
        assert idle.ended()
        assert reader.line().startswith("-ERR [SYS/TEMP]")
        assert reader.ended()
        with pytest.raises(OSError, match="refused"):
            Talk.to(smtp)
        busy.say_all(*commands[done:])
        busy.send(CONTENT)
        assert busy.say(".").startswith("250")
        assert busy.hear().startswith("421 4.3.2")  # what it would do next, it does elsewhere
        assert busy.ended()
    assert process.end()[0] == 0
    store = open_store(tmp_path / "data", SystemClock(), exclusive=False)
    assert len(store.maildrop(ALICE)) == 1
    store.close()


def wakes(process: Process) -> dict[str, int]:
    """How often each thread of the process has been put to sleep so far: it was awake as often."""
    found = {}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        status = (task / "status").read_text()
        switches = re.findall(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)$", status, re.MULTILINE)
        found[f"{task.name} {(task / 'comm').read_text().strip()}"] = sum(map(int, switches))
    return found


def cpu_ticks(process: Process) -> int:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def nothing_is_said(process: Process, seconds: float) -> None:
    """Wait for a line of the log that must not come."""
    assert not select.select([process.stderr], [], [], seconds)[0]


def test_lesson_7_an_idle_server_does_not_wake(process: Process) -> None:
    smtp, pop3 = addresses(process)
    with greeted(smtp) as talk:
        assert talk.send_mail("x@example.net", [ALICE], CONTENT).startswith("250")
        process.until("event=accepted")
    process.until("event=session")
    with greeted(smtp), Talk.to(pop3) as reader:  # sessions that wait are idle too
        reader.line()
        nothing_is_said(process, 0.5)  # whatever the last messages left to do is done
        before, ticks = wakes(process), cpu_ticks(process)
        nothing_is_said(process, 1.5)
        after = wakes(process)
        grown = {name: count - before.get(name, 0) for name, count in after.items() if count > before.get(name, 0)}
        assert len(after) > 20  # listeners, workers, the store's writer, the log
        assert sum(grown.values()) <= 3, grown
        assert cpu_ticks(process) - ticks <= 1
