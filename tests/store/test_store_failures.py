"""The n-th call fails, n = 1, 2, 3 …: nothing acknowledged is lost, nothing half done is left, and work goes on after."""

from __future__ import annotations

import contextlib
import errno
import resource
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from store_kit import (
    ALICE,
    BOB,
    CAROL,
    HOP,
    LARGE,
    PREFIX,
    Failing,
    behind,
    count,
    spooled,
    text_of,
    to_mailbox,
    to_queue,
)

from mailserv.errors import StorageFull, StoreError, StoreUnavailable
from mailserv.mail.message import Acceptance, BytesContent, QueuedRecipient
from mailserv.store.disk import Disk
from mailserv.store.interface import Settlement, Store
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

CALLS = ["fsync", "write", "unlink", "connect", "BEGIN", "COMMIT", "INSERT", "UPDATE", "DELETE", "SELECT"]
STEPS = 12  # calls of one kind in the story below; failing a later one fails nothing


@dataclass(slots=True)
class Told:
    """What the store said: acknowledged (queue id -> is it large?), delivered, settled, asked to be deleted, told to be
    deleted. What was delivered and could not be settled may be so later."""

    acknowledged: dict[str, bool] = field(default_factory=dict)
    delivered: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    doomed: set[str] = field(default_factory=set)
    is_deleted: bool = False


def story(store: Store) -> Told:
    """A message's life, again and again."""
    told = Told()
    for number in range(4):
        queue_id, is_large = f"Q{number}", number % 2 == 1
        data = queue_id.encode() * (LARGE // 2 if is_large else 1)
        writer = store.spool(queue_id)
        with suppress(StoreError):
            writer.write(data)
            acceptance = Acceptance(
                queue_id,
                BOB,
                writer.finish(),
                100.0,
                mailboxes=to_mailbox(queue_id).mailboxes,
                queued=(QueuedRecipient(CAROL, CAROL, HOP),),
            )
            store.accept(acceptance)
            told.acknowledged[queue_id] = is_large
        writer.discard()
    with suppress(StoreError):
        for delivery in store.claim(HOP, "node", 1000.0, 2000.0, 2)[0]:
            told.delivered.add(delivery.queue_id)
            with suppress(StoreError):
                store.settle("node", [Settlement(row, "done") for row in delivery.rows])
                told.settled.add(delivery.queue_id)
    with suppress(StoreError):
        messages = store.maildrop(ALICE)[:2]
        told.doomed = {message.unique_id.split(".")[0] for message in messages}
        store.delete(messages)
        told.is_deleted = True
    return told


def check(store: Store, data_dir: Path, told: Told) -> None:
    acknowledged = told.acknowledged
    mailbox = {message.unique_id.split(".")[0]: message for message in store.maildrop(ALICE)}
    queued = {entry.queue_id for entry in store.queue_list()}
    missing = set(acknowledged) - set(mailbox)
    assert set(mailbox) <= set(acknowledged)
    assert missing == told.doomed if told.is_deleted else missing in (set(), told.doomed)  # all of them or none
    assert set(acknowledged) - told.delivered <= queued <= set(acknowledged) - told.settled
    for queue_id, message in mailbox.items():
        content = store.read(message)
        assert content is not None
        assert text_of(content) == PREFIX + queue_id.encode() * (LARGE // 2 if acknowledged[queue_id] else 1)
    alive = set(mailbox) | queued
    with behind(data_dir) as connection:
        assert {row[0] for row in connection.execute("SELECT queue_id FROM message")} == alive
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
    assert spooled(data_dir) == sorted(queue_id for queue_id in alive if acknowledged[queue_id])


@pytest.mark.parametrize("for_good", [False, True], ids=["once", "for good"])
@pytest.mark.parametrize("what", CALLS)
def test_whatever_call_fails_nothing_acknowledged_is_lost(
    tmp_path: Path, clock: FakeClock, what: str, for_good: bool
) -> None:
    failures = 0
    for nth in range(1, STEPS + 1, 1 + for_good):
        data_dir = tmp_path / f"{nth}"
        failing = Failing()
        store = open_store(data_dir, clock, disk=failing.disk)
        store.add_account(ALICE, "hash", 1.0)
        failing.fail(what, nth, for_good=for_good)
        told = story(store)
        failures += failing.failed
        failing.heal()
        store.accept(to_mailbox("AFTER"))  # it works again without a new start
        (after,) = [message for message in store.maildrop(ALICE) if message.unique_id.startswith("AFTER")]
        store.delete([after])
        store.close()
        store = open_store(data_dir, clock)
        check(store, data_dir, told)
        store.close()
    assert failures or what == "connect", "the story never makes this call: the test would prove nothing"


@pytest.mark.parametrize("wait", [True, False])
def test_what_became_of_a_delivery_is_written_when_the_database_is_free_again(
    data_dir: Path, clock: FakeClock, wait: bool
) -> None:
    """Whoever waits for it is told that it is not written yet, and delivers nothing more; nothing is delivered twice."""
    failing = Failing()
    with contextlib.closing(open_store(data_dir, clock, disk=failing.disk)) as store:
        store.accept(to_queue("Q1"))
        ((delivery,), _) = store.claim(HOP, "node", 1000.0, 2000.0, 1)
        failing.fail("COMMIT", for_good=True, code=sqlite3.SQLITE_BUSY)
        with pytest.raises(StoreError) if wait else contextlib.nullcontext():
            store.settle("node", [Settlement(delivery.rows[0], "done")], wait=wait)
        with pytest.raises(StoreError):
            store.renew("node", 1.0)
        assert len(store.queue_list()) == 1
        failing.heal()
        assert store.reclaim("node", 3000.0) == 0, "what is late comes before what is new"
        assert store.queue_list() == []


def test_a_full_disk_refuses_mail_and_settles_what_it_can(data_dir: Path, clock: FakeClock) -> None:
    connections: list[sqlite3.Connection] = []

    def connect(*args: object, **kwargs: object) -> sqlite3.Connection:
        connections.append(sqlite3.connect(*args, **kwargs))  # type: ignore[call-overload]
        return connections[-1]

    store = open_store(data_dir, clock, disk=Disk(connect=connect))
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_queue("Q1"))
    writer = connections[1]
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageFull, match="no room"):
        store.accept(to_mailbox("Q2", content=BytesContent(b"x" * 100_000)))
    assert store.trace("Q2") == []
    ((delivery,), _) = store.claim(HOP, "node", 1000.0, 2000.0, 1)
    store.settle("node", [Settlement(delivery.rows[0], "done")])
    writer.execute("PRAGMA max_page_count = 1000000")
    store.accept(to_mailbox("Q2", content=BytesContent(b"x" * 100_000)))
    assert len(store.maildrop(ALICE)) == 1
    store.close()


@contextmanager
def file_size_limit(octets: int) -> Iterator[None]:
    """Writing beyond it fails with EFBIG, for root too: the nearest to a full disk that a test can have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_file_system_that_takes_no_more_is_told_and_leaves_no_file(store: Store, data_dir: Path) -> None:
    with file_size_limit(LARGE):
        writer = store.spool("Q1")
        writer.write(b"x" * 200_000)
        with pytest.raises(StorageFull, match="spool"):
            writer.write(b"x" * 200_000)
        with pytest.raises(StorageFull):
            store.accept(to_mailbox("Q2", content=BytesContent(b"x" * LARGE * 2)))
        store.accept(to_mailbox("Q3", content=BytesContent(b"x" * 200_000)))
        with pytest.raises(StoreError):
            store.accept(to_mailbox("Q4", content=BytesContent(b"x" * 200_000)))
    assert spooled(data_dir) == []
    store.accept(to_mailbox("Q9"))
    assert [message.unique_id for message in store.maildrop(ALICE)] == ["Q3.0", "Q9.0"]


def test_a_database_that_became_read_only_is_written_again_when_it_can_be(data_dir: Path, clock: FakeClock) -> None:
    is_read_only = False

    def connect(path: str, **kwargs: object) -> sqlite3.Connection:
        return sqlite3.connect(path.replace("mode=rw", "mode=ro") if is_read_only else path, **kwargs)  # type: ignore[call-overload]

    store = open_store(data_dir, clock, disk=Disk(connect=connect))
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_queue("Q1"))
    store.writer._drop_connection()  # type: ignore[attr-defined]
    is_read_only = True
    for queue_id in ("Q2", "Q3"):
        with pytest.raises(StoreUnavailable, match=r"read-?only"):
            store.accept(to_mailbox(queue_id))
    assert len(store.queue_list()) == 1  # what is stored can be read all the time
    is_read_only = False
    store.accept(to_mailbox("Q4"))
    store.close()


def test_another_process_s_transaction_is_waited_for(store: Store, data_dir: Path) -> None:
    with behind(data_dir) as connection:
        connection.execute("BEGIN IMMEDIATE")
        store.settle("node", [], wait=False)  # the writer now waits for the lock
        connection.execute("COMMIT")
    store.accept(to_mailbox("Q1"))
    assert len(store.maildrop(ALICE)) == 1


def test_a_file_that_cannot_be_removed_is_left_for_the_next_start(
    data_dir: Path, clock: FakeClock, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = Failing(number=errno.EIO)
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1", content=BytesContent(b"x" * LARGE)))
    failing.fail("unlink")
    store.delete(store.maildrop(ALICE))
    assert spooled(data_dir) == ["Q1"]
    assert "store_file_left" in capfd.readouterr().err
    store.close()
    store = open_store(data_dir, clock)
    assert spooled(data_dir) == []
    store.close()


@pytest.mark.parametrize("nth", [1, 2])
def test_content_whose_sync_failed_is_not_accepted(data_dir: Path, clock: FakeClock, nth: int) -> None:
    failing = Failing(number=errno.EIO)
    store = open_store(data_dir, clock, disk=failing.disk)
    writer = store.spool("Q1")
    writer.write(b"x" * LARGE)
    failing.fail("fsync", nth)  # the file's, its directory's
    with pytest.raises(StoreUnavailable):
        writer.finish()
    assert spooled(data_dir) == []
    store.close()


def test_a_claim_whose_content_cannot_be_read_now_is_an_error_not_a_quarantine(
    data_dir: Path, clock: FakeClock
) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.accept(to_queue("Q1"))
    failing.fail("SELECT queue_id, reverse_path", 1)
    with pytest.raises(StoreUnavailable):
        store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert store.queue_counts()["quarantined"] == 0
    assert store.reclaim("node", 1000.0) == 1
    assert len(store.claim(HOP, "node", 1000.0, 2000.0, 10)[0]) == 1
    store.close()


Action = Callable[[Store], object]


@pytest.mark.parametrize(
    ("statement", "action"),
    [
        ("SELECT", lambda store: store.queue_list()),
        ("SELECT", lambda store: store.maildrop(ALICE)),
        ("SELECT", lambda store: store.password_hash(ALICE)),
        ("SELECT", lambda store: store.has_account("unknown@example.org")),
        ("WITH", lambda store: store.destinations()),
        ("SELECT", lambda store: store.trace("Q1")),
        ("SELECT", lambda store: store.queue_open("Q1")),
    ],
)
def test_a_reader_s_failure_passes(data_dir: Path, clock: FakeClock, statement: str, action: Action) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    failing.fail(statement)
    with pytest.raises(StoreUnavailable, match=r"mailserv\.db"):
        action(store)
    action(store)
    assert count(data_dir, "queue") == 0
    store.close()
