"""Lesson 1: every point at which a server can die has a name, and a test that kills it there (invariants 1, 2)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from dying_server import settings
from talking import Talk, greeted

from mailserv.clock import SystemClock
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

ALICE = "alice@example.org"
REMOTE = "bob@remote.example"
SMALL = b"From: alice@example.org\r\nSubject: kill point\r\n\r\nStill here.\r\n"
LARGE = SMALL + b"A line of a message that is too large for a row of the database.\r\n" * 6_000
UNFINISHED = LARGE + b"no line end, no dot"
SIGKILLED = -9
pytestmark = pytest.mark.crash


@dataclass(frozen=True, slots=True)
class Doomed:
    """A server in a process of its own that will kill itself."""

    process: subprocess.Popen[str]
    smtp: tuple[str, int]
    pop3: tuple[str, int]

    def has_died(self) -> bool:
        return self.process.wait(20) == SIGKILLED


@contextmanager
def doomed(folder: Path, sink: ScriptedMX, when: str, *calls: str) -> Iterator[Doomed]:
    store = open_store(folder, SystemClock(), exclusive=False)
    if not store.has_account(ALICE):
        store.add_account(ALICE, hash_password("secret"), 0.0)
    store.close()
    driver = Path(__file__).with_name("dying_server.py")
    command = [sys.executable, str(driver), str(folder), str(sink.port), when, *calls]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            smtp, pop3 = map(int, process.stdout.readline().split())
            yield Doomed(process, ("127.0.0.1", smtp), ("127.0.0.1", pop3))
        finally:
            process.kill()


@contextmanager
def next_life(folder: Path, sink: ScriptedMX) -> Iterator[MailServer]:
    with mail_server(**settings(folder, sink.port)) as server:
        server.wait_for_empty_queue()
        yield server


def copies(server: MailServer) -> int:
    return sum(b"Subject: kill point" in message for message in server.mailbox(ALICE))


ACCEPTING = [
    ("before the dot: a part is in a spool file", "after", ["write"], UNFINISHED, 0),
    ("dot-commit: the content is synced", "after", ["fsync"], LARGE, 0),
    ("dot-commit: the content has a row", "after", ["INSERT INTO message"], SMALL, 0),
    ("dot-commit: the mailbox has a row", "after", ["INSERT INTO message", "INSERT OR IGNORE INTO mailbox"], SMALL, 0),
    ("dot-commit: all is written", "before", ["INSERT INTO message", "COMMIT"], SMALL, 0),
    ("commit-250", "after", ["INSERT INTO message", "COMMIT"], SMALL, 1),
    ("commit-250, content in a file", "after", ["INSERT INTO message", "COMMIT"], LARGE, 1),
]


@pytest.mark.parametrize(
    ("when", "calls", "content", "kept"), [c[1:] for c in ACCEPTING], ids=[c[0] for c in ACCEPTING]
)
def test_lesson_1_killed_while_accepting_a_message_is_there_whole_or_not_at_all(
    tmp_path: Path, when: str, calls: list[str], content: bytes, kept: int
) -> None:
    with ScriptedMX() as sink:
        with doomed(tmp_path, sink, when, *calls) as server:
            client = greeted(server.smtp)
            client.say_all("MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>", f"RCPT TO:<{REMOTE}>", "DATA")
            try:
                client.send(content + b".\r\n" * content.endswith(b"\r\n"))
                heard = client.hear()
            except OSError:
                heard = ""  # it died while we were sending
            client.close()
            assert server.has_died()
        assert heard == ""
        with next_life(tmp_path, sink) as server:
            assert copies(server) == kept
            assert len(sink.messages) == kept  # the mailbox and the queue: both or neither
            if kept:
                assert content in server.mailbox(ALICE)[0]
            spooled = [path.name for path in (tmp_path / "spool").iterdir()]
            assert len(spooled) == (kept if content is LARGE else 0)


HANDING_OVER = [
    ("250-hand-over: not claimed", "before", ["UPDATE queue SET state = 'claimed'"], 0, 1),
    ("250-hand-over: claimed, not committed", "before", ["UPDATE queue SET state = 'claimed'", "COMMIT"], 0, 1),
    ("claimed, not tried", "after", ["UPDATE queue SET state = 'claimed'", "COMMIT"], 0, 1),
    ("remote 250-done mark: nothing marked", "before", ["DELETE FROM queue"], 1, 2),
    ("remote 250-done mark: not committed", "before", ["DELETE FROM queue", "COMMIT"], 1, 2),
    ("done mark committed", "after", ["DELETE FROM queue", "COMMIT"], 1, 1),
]


@pytest.mark.parametrize(
    ("when", "calls", "sent", "in_all"), [c[1:] for c in HANDING_OVER], ids=[c[0] for c in HANDING_OVER]
)
def test_lesson_1_killed_while_handing_over_a_message_arrives_at_least_once(
    tmp_path: Path, when: str, calls: list[str], sent: int, in_all: int
) -> None:
    with ScriptedMX() as sink:
        with doomed(tmp_path, sink, when, *calls) as server:
            client = greeted(server.smtp)
            client.send_mail(ALICE, [REMOTE], SMALL)  # its 250 may or may not have come before the end
            client.close()
            assert server.has_died()
        assert len(sink.messages) == sent
        with next_life(tmp_path, sink) as server:
            assert len(sink.messages) == in_all
            assert all(message.content.endswith(SMALL) for message in sink.messages)
            assert server.mailbox(ALICE) == []


BOUNCING = [
    ("the refusal is known, nothing is written", "before", ["DELETE FROM queue"]),
    ("the row is gone", "after", ["DELETE FROM queue"]),
    ("the DSN's content has a row", "after", ["DELETE FROM queue", "INSERT INTO message"]),
    ("the DSN is in the mailbox", "after", ["DELETE FROM queue", "INSERT OR IGNORE INTO mailbox"]),
    ("all is written", "before", ["DELETE FROM queue", "COMMIT"]),
    ("committed", "after", ["DELETE FROM queue", "COMMIT"]),
]


@pytest.mark.parametrize(("when", "calls"), [c[1:] for c in BOUNCING], ids=[c[0] for c in BOUNCING])
def test_lesson_1_killed_inside_the_making_of_a_dsn_one_dsn_comes_back_none_lost_none_twice(
    tmp_path: Path, when: str, calls: list[str]
) -> None:
    with ScriptedMX({"RCPT": "550 5.1.1 No such user"}) as sink:
        with doomed(tmp_path, sink, when, *calls) as server:
            client = greeted(server.smtp)
            client.send_mail(ALICE, [REMOTE], SMALL)
            client.close()
            assert server.has_died()
        with next_life(tmp_path, sink) as server:
            (dsn,) = server.mailbox(ALICE)
            assert b"multipart/report" in dsn
            assert b"Final-Recipient: rfc822; bob@remote.example" in dsn
            assert sink.messages == []


UPDATING = [
    ("nothing deleted", "before", ["DELETE FROM mailbox"], 3),
    ("rows deleted, not committed", "before", ["DELETE FROM mailbox", "COMMIT"], 3),
    ("committed, +OK not sent", "after", ["DELETE FROM mailbox", "COMMIT"], 1),
    ("a spool file not yet removed", "before", ["DELETE FROM mailbox", "COMMIT", "unlink"], 1),
]


@pytest.mark.parametrize(("when", "calls", "left"), [c[1:] for c in UPDATING], ids=[c[0] for c in UPDATING])
def test_lesson_1_killed_in_pop3_update_deletes_all_that_was_marked_or_nothing(
    tmp_path: Path, when: str, calls: list[str], left: int
) -> None:
    with ScriptedMX() as sink:
        with doomed(tmp_path, sink, when, *calls) as server:
            client = greeted(server.smtp)
            for content in (SMALL, LARGE, SMALL):
                assert client.send_mail("x@example.net", [ALICE], content).startswith("250")
            client.close()
            reader = Talk.to(server.pop3)
            reader.line()
            for command in (f"USER {ALICE}", "PASS secret", "DELE 1", "DELE 2"):
                assert reader.say(command).startswith("+OK")
            assert reader.say("QUIT") == ""
            reader.close()
            assert server.has_died()
        with next_life(tmp_path, sink) as server:
            assert copies(server) == left
            assert len(list((tmp_path / "spool").iterdir())) == left // 2  # of the large one


FORWARDING = [
    ("before the submission is committed", "before", ["INSERT INTO plugin_value", "COMMIT"]),
    ("submit-done mark: nothing marked", "before", ["INSERT INTO plugin_value", "COMMIT", "DELETE FROM queue"]),
    (
        "submit-done mark: not committed",
        "before",
        ["INSERT INTO plugin_value", "COMMIT", "DELETE FROM queue", "COMMIT"],
    ),
    ("submit-done mark committed", "after", ["INSERT INTO plugin_value", "COMMIT", "DELETE FROM queue", "COMMIT"]),
]


@pytest.mark.parametrize(("when", "calls"), [c[1:] for c in FORWARDING], ids=[c[0] for c in FORWARDING])
def test_lesson_1_killed_while_forwarding_a_message_is_sent_on_once(
    tmp_path: Path, when: str, calls: list[str]
) -> None:
    with ScriptedMX() as sink:
        with doomed(tmp_path, sink, when, *calls) as server:
            client = greeted(server.smtp)
            client.say_all("MAIL FROM:<x@example.net>", "RCPT TO:<fred@example.org>", "DATA")
            client.send(SMALL + b".\r\n")
            client.hear()
            assert server.has_died()
            client.close()
        with next_life(tmp_path, sink):
            assert len(sink.messages) == 1
