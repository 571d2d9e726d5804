"""Lesson 4: a full or failing disk refuses new mail, loses nothing, and all goes on when there is room again."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from talking import Talk, greeted

from mailserv.settings import Limits, Size
from mailserv.store.disk import Disk
from mailserv.store.room import RESERVE
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

ALICE = "alice@example.org"
CONTENT = b"From: alice@example.org\r\nSubject: room\r\n\r\nHello.\r\n"
LARGE = CONTENT + b"A line of a message that is too large for a row of the database.\r\n" * 6_000
LIMITS = Limits(sessions_per_ip=0, connections_per_minute=0, message_size=Size(10_000_000))
ROOM = 15_000_000 + RESERVE  # octets: 1.5 times the message limit, and the reserve


@dataclass(slots=True)
class Small:
    """A disk with so many octets free. `is_full`: nothing that grows can be written, whatever `free` says."""

    free: int = 10 * ROOM
    is_full: bool = False
    refuses: str = "COMMIT"  # what SQLite can't do then
    code: int = sqlite3.SQLITE_FULL

    def statvfs(self, _: Path) -> Any:
        return SimpleNamespace(f_files=0, f_favail=0, f_bavail=self.free, f_frsize=1)

    def write(self, descriptor: int, data: bytes | memoryview) -> int:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(descriptor, data)

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        disk = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if disk.is_full and sql.strip().startswith(disk.refuses):
                    error = sqlite3.OperationalError("made to fail")
                    error.sqlite_errorcode = disk.code
                    raise error
                return super().execute(sql, *parameters)

        return sqlite3.connect(*args, factory=Connection, **kwargs)

    @property
    def disk(self) -> Disk:
        return Disk(connect=self.connect, write=self.write, statvfs=self.statvfs)


@pytest.fixture
def small() -> Small:
    return Small()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def mx() -> Iterator[ScriptedMX]:
    with ScriptedMX() as sink:
        yield sink


@pytest.fixture
def server(small: Small, clock: FakeClock, mx: ScriptedMX) -> Iterator[MailServer]:
    with mail_server(clock=clock, disk=small.disk, limits=LIMITS, routes={"*": f"smtp:[{mx.host}]:{mx.port}"}) as it:
        yield it


def test_lesson_4_mail_is_refused_before_there_is_trouble_and_taken_when_there_is_room(
    server: MailServer, small: Small, clock: FakeClock
) -> None:
    with greeted(server.address("smtp")) as talk:
        small.free = ROOM - 1
        clock.advance(2)  # the answer of the file system is kept for a second
        assert talk.say("MAIL FROM:<x@example.net>").startswith("452 4.3.1")
        assert talk.say("NOOP").startswith("250")
        small.free = ROOM
        clock.advance(2)
        assert talk.send_mail("x@example.net", [ALICE], CONTENT).startswith("250")
    assert len(server.mailbox(ALICE)) == 1


@pytest.mark.parametrize("content", [CONTENT, LARGE], ids=["in a row", "in a file"])
def test_lesson_4_a_disk_that_fills_up_during_a_message_is_452_and_the_session_goes_on(
    server: MailServer, small: Small, content: bytes
) -> None:
    with greeted(server.address("smtp")) as talk:
        small.is_full = True
        assert talk.send_mail("x@example.net", [ALICE], content).startswith("452 4.3.1")
        assert server.mailbox(ALICE) == []
        small.is_full = False
        assert talk.send_mail("x@example.net", [ALICE], content).startswith("250")
    (mail,) = server.mailbox(ALICE)
    assert mail.endswith(content)
    spool = server.server.settings.data_dir / "spool"
    assert len(list(spool.iterdir())) == (content is LARGE)  # nothing is left of the first one


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY])
def test_lesson_4_a_disk_that_fails_is_451_and_the_session_goes_on(server: MailServer, small: Small, code: int) -> None:
    small.code = code
    with greeted(server.address("smtp")) as talk:
        small.is_full = True
        assert talk.send_mail("x@example.net", [ALICE], CONTENT).startswith("451 4.3.0")
        small.is_full = False
        assert talk.send_mail("x@example.net", [ALICE], CONTENT).startswith("250")
    assert len(server.mailbox(ALICE)) == 1
    server.wait_for_log("store_failed", level="error")


def time_goes_on(server: MailServer, clock: FakeClock, until: Callable[[], object]) -> None:
    """Past the pause and past the lease of a row that was claimed; again, since a worker may only now begin either."""
    for _ in range(20):
        clock.advance(3600)
        server.wake_queue()
        with suppress(TimeoutError):
            until()
            return
    raise AssertionError("time goes on and nothing is delivered")


@pytest.mark.parametrize("refuses", ["COMMIT", "DELETE FROM queue", "UPDATE queue SET state = 'claimed'", "BEGIN"])
@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY])
def test_lesson_4_the_workers_survive_and_deliver_when_there_is_room(
    server: MailServer, small: Small, clock: FakeClock, mx: ScriptedMX, refuses: str, code: int
) -> None:
    mx.answer("GREETING", ["421 4.3.2 Not yet"])
    server.send(ALICE, ["bob@a.example"], CONTENT, login=(ALICE, "secret"))
    server.wait_for_log("delivery", outcome="deferred")
    server.trace("nothing")  # what was settled is committed
    small.refuses, small.code, small.is_full = refuses, code, True
    clock.advance(3600)
    server.wake_queue()
    failures = ("queue_store_failed", "store_action_failed", "store_action_waits")
    server.log.wait(lambda: any(map(server.log.matching, failures)))
    small.is_full = False
    already = len(mx.messages)
    if not server.log.matching("store_action_waits"):
        time_goes_on(server, clock, until=lambda: mx.wait_for_messages(already + 1, timeout=0.5))
    server.wait_for_empty_queue()
    # A mark that a failing disk did not take may cost a second copy; one that only had to wait does not.
    assert 1 <= len(mx.messages) <= (2 if code == sqlite3.SQLITE_IOERR else 1)
    server.send(ALICE, ["carol@a.example"], CONTENT, login=(ALICE, "secret"))
    server.wait_for_empty_queue()
    assert mx.messages[-1].rcpts == ("<carol@a.example>",)


def test_lesson_4_pop3_deletes_nothing_when_it_cannot_and_says_so(server: MailServer, small: Small) -> None:
    server.send("x@example.net", [ALICE], CONTENT)
    with Talk.to(server.address("pop3")) as talk:
        talk.line()
        talk.say_all(f"USER {ALICE}", "PASS secret", "DELE 1")
        small.is_full = True
        assert talk.say("QUIT").startswith("-ERR [SYS/TEMP]")
    small.is_full = False
    assert len(server.mailbox(ALICE)) == 1
