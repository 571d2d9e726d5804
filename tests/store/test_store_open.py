"""Opening: one server at a time, private files, damage told in words, what a crash left put in order."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from store_kit import ALICE, LARGE, Failing, behind, spooled, to_mailbox, to_queue

from mailserv.errors import StoreError, StoreUnavailable
from mailserv.mail.message import BytesContent
from mailserv.store.interface import Store
from mailserv.store.lock import alone_in
from mailserv.store.schema import migrate
from mailserv.store.sqlite import DATABASE, open_store
from mailserv.testing.clock import FakeClock


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_server_is_refused_and_told_who_holds_the_directory(
    store: Store, data_dir: Path, clock: FakeClock
) -> None:
    with pytest.raises(StoreUnavailable, match=str(os.getpid())):
        open_store(data_dir, clock)
    store.close()
    open_store(data_dir, clock).close()


def test_commands_work_beside_the_server(store: Store, data_dir: Path, clock: FakeClock) -> None:
    first, second = (open_store(data_dir, clock, exclusive=False) for _ in range(2))
    first.add_account("bob@example.org", "hash", 1.0)
    store.accept(to_mailbox("Q1", "bob@example.org"))
    second.set_password("bob@example.org", "new")
    assert len(first.maildrop("bob@example.org")) == 1
    assert store.password_hash("bob@example.org") == "new"
    first.close()
    second.close()
    store.accept(to_mailbox("Q2"))  # the commands that closed left the server's database as it was
    assert len(store.maildrop(ALICE)) == 1


def test_only_the_owner_can_read_what_is_stored(store: Store, data_dir: Path) -> None:
    store.accept(to_mailbox("Q1", content=BytesContent(b"x" * LARGE)))
    assert mode(data_dir) == mode(data_dir / "spool") == 0o700
    files = [path for path in data_dir.rglob("*") if not path.is_dir()]
    assert {path.name for path in files} >= {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "lock", "Q1"}
    assert {mode(path) for path in files} == {0o600}


def test_what_root_makes_belongs_to_the_owner_of_the_directory(data_dir: Path, clock: FakeClock) -> None:
    data_dir.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(data_dir, 12345, 12345)
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1", content=BytesContent(b"x" * LARGE)))
    owner = data_dir.stat().st_uid
    assert {path.stat().st_uid for path in data_dir.rglob("*")} == {owner}
    store.close()


def test_closing_twice_is_fine_and_afterwards_everything_is_unavailable(store: Store) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.accept(to_mailbox("Q1"))
    with pytest.raises(StoreUnavailable, match="closed"):
        store.maildrop(ALICE)


def test_a_reader_that_is_out_when_the_store_closes_is_closed_when_it_comes_back(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    with store._readers.connection() as connection:  # type: ignore[attr-defined]
        store.close()
        assert connection.execute("SELECT count(*) FROM message").fetchone() == (1,)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_everything_is_there_after_opening_again(data_dir: Path, clock: FakeClock) -> None:
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1"))
    store.accept(to_queue("Q2"))
    store.close()
    store = open_store(data_dir, clock)
    assert store.has_account(ALICE)
    assert len(store.maildrop(ALICE)) == len(store.queue_list()) == 1
    store.close()


def test_a_file_that_is_no_database_is_told_by_name_with_what_to_do(data_dir: Path, clock: FakeClock) -> None:
    data_dir.mkdir()
    (data_dir / DATABASE).write_bytes(b"no database at all" * 1000)
    with pytest.raises(StoreUnavailable, match=rf"{DATABASE}.*restore a backup"):
        open_store(data_dir, clock)
    assert (data_dir / DATABASE).read_bytes().startswith(b"no database")


def test_a_damaged_database_is_told_by_name_with_what_to_do(store: Store, data_dir: Path, clock: FakeClock) -> None:
    store.close()
    with (data_dir / DATABASE).open("r+b") as file:
        file.seek(100)
        file.write(b"\xff" * 3000)  # the page with the schema
    with pytest.raises(StoreUnavailable, match=rf"{DATABASE}.*damaged"):
        open_store(data_dir, clock)
    (data_dir / DATABASE).unlink()
    open_store(data_dir, clock).close()  # the failure left no lock behind


@pytest.mark.parametrize("left", ["spool/Q1", f"{DATABASE}-wal"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_where_the_database_is_gone_no_new_one_throws_away_what_is_left_of_it(
    data_dir: Path, clock: FakeClock, left: str, exclusive: bool
) -> None:
    open_store(data_dir, clock).close()
    (data_dir / left).write_text("part of a message")
    for lose in (lambda path: path.write_bytes(b""), Path.unlink):
        lose(data_dir / DATABASE)
        with pytest.raises(StoreUnavailable, match=rf"{DATABASE}: it is gone, and .*{left} .*restore it from a backup"):
            open_store(data_dir, clock, exclusive=exclusive)
        assert (data_dir / left).exists()
    (data_dir / left).unlink()
    open_store(data_dir, clock).close()


def test_a_schema_whose_text_is_damaged_is_told_by_name_with_what_to_do(
    store: Store, data_dir: Path, clock: FakeClock
) -> None:
    store.close()
    database = (data_dir / DATABASE).read_bytes()
    assert b"tableaccountaccount" in database
    for text, damage in ((b"tableaccount", b"table\xa0\xa1count"), (b"CREATE TABLE account", b"CREATE TABLX account")):
        database = database.replace(text, damage)
    (data_dir / DATABASE).write_bytes(database)
    with pytest.raises(StoreUnavailable, match=rf"{DATABASE}.*damaged"):
        open_store(data_dir, clock)


def test_a_database_of_a_newer_version_is_left_alone(store: Store, data_dir: Path, clock: FakeClock) -> None:
    store.close()
    with behind(data_dir) as connection:
        connection.execute("INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('mailserv', '9999_future')")
    with pytest.raises(StoreUnavailable, match="9999_future"):
        open_store(data_dir, clock)


@pytest.mark.parametrize("what", ["data", "lock", "spool", DATABASE])
def test_what_stands_in_the_way_is_told_by_name(data_dir: Path, clock: FakeClock, what: str) -> None:
    if what == "data":
        data_dir.write_text("a file")
    else:
        data_dir.mkdir()
        if what == "spool":
            (data_dir / what).write_text("a file")
        else:
            (data_dir / what).mkdir()
    with pytest.raises(StoreUnavailable, match=what):
        open_store(data_dir, clock)
    with pytest.raises(StoreError):
        open_store(data_dir, clock, exclusive=what == "lock")


@pytest.mark.parametrize(
    "what",
    ["connect", "PRAGMA journal_mode", "PRAGMA query_only", "BEGIN", "CREATE TABLE mess", "COMMIT", "fsync"],
)
def test_opening_that_fails_half_way_can_be_done_again(data_dir: Path, clock: FakeClock, what: str) -> None:
    failing = Failing(what)
    with pytest.raises(StoreError, match=str(data_dir)):
        open_store(data_dir, clock, disk=failing.disk)
    assert failing.failed == 1
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1"))
    store.close()


def test_the_writer_s_second_connection_may_fail_too(data_dir: Path, clock: FakeClock) -> None:
    with pytest.raises(StoreUnavailable, match=DATABASE):
        open_store(data_dir, clock, disk=Failing("connect", 2).disk)
    open_store(data_dir, clock).close()


def test_migrating_twice_does_nothing(store: Store, data_dir: Path) -> None:
    with behind(data_dir) as connection:
        before = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        migrate(connection)
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone() == before
        assert not connection.in_transaction


def test_a_database_from_before_the_totals_gets_them(store: Store, data_dir: Path, clock: FakeClock) -> None:
    for number in range(3):
        store.accept(to_mailbox(f"Q{number}"))
    store.close()
    with behind(data_dir) as connection:  # back to what 0002_plugin_values left
        for undo in (
            "DROP TRIGGER mailbox_filled",
            "DROP TRIGGER mailbox_emptied",
            "DROP INDEX mailbox_retrieved",
            *(f"ALTER TABLE account DROP COLUMN {name}" for name in ("messages", "octets", "warned")),
            *(f"ALTER TABLE mailbox DROP COLUMN {name}" for name in ("arrived_at", "retrieved_at")),
            "DROP TABLE deletion",
            "DROP TABLE imported",
            "CREATE TABLE doomed (message_id INTEGER PRIMARY KEY)",
            "DELETE FROM _sqlite_migrations WHERE name = '0003_mailboxes'",
            "DELETE FROM mailbox WHERE unique_id = 'Q1.0'",
            "INSERT INTO doomed SELECT id FROM message WHERE queue_id = 'Q1'",  # a crash cut this deletion short
        ):
            connection.execute(undo)
    store = open_store(data_dir, clock)
    messages = store.maildrop(ALICE)
    with behind(data_dir) as connection:
        totals = connection.execute("SELECT messages, octets, warned FROM account").fetchall()
        assert connection.execute("SELECT queue_id FROM message ORDER BY id").fetchall() == [("Q0",), ("Q2",)]
    assert totals == [(2, sum(message.size for message in messages), 0)]
    store.close()


def test_a_newer_command_changes_nothing_below_an_older_server(store: Store, data_dir: Path, clock: FakeClock) -> None:
    with behind(data_dir) as connection:  # what the running one, which knows no 0005_utf8, has made
        connection.execute("ALTER TABLE mailbox DROP COLUMN utf8")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = '0005_utf8'")
    with pytest.raises(StoreUnavailable, match="is of an older version than this command: restart it first"):
        open_store(data_dir, clock, exclusive=False)
    with behind(data_dir) as connection:
        assert connection.execute("SELECT 1 FROM _sqlite_migrations WHERE name = '0005_utf8'").fetchall() == []
    store.close()
    open_store(data_dir, clock, exclusive=False).close()


def test_files_that_no_message_names_are_collected_at_the_start(data_dir: Path, clock: FakeClock) -> None:
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1", content=BytesContent(b"x" * LARGE)))
    writer = store.spool("Q2")
    writer.write(b"x" * LARGE)
    writer.finish()  # synced, and then the power goes
    store.close()
    assert spooled(data_dir) == ["Q1", "Q2"]
    store = open_store(data_dir, clock)
    assert spooled(data_dir) == ["Q1"]
    store.close()


def test_collecting_waits_for_another_start_while_a_command_has_the_spool(data_dir: Path, clock: FakeClock) -> None:
    command = open_store(data_dir, clock, exclusive=False)
    writer = command.spool("Q1")
    writer.write(b"x" * LARGE)
    server = open_store(data_dir, clock)
    assert spooled(data_dir) == ["Q1"]
    writer.discard()
    server.close()
    command.close()


def test_a_lock_goes_with_the_process_that_held_it(data_dir: Path, clock: FakeClock) -> None:
    code = (
        "import os, sys; from pathlib import Path; from mailserv.clock import SystemClock\n"
        "from mailserv.store.sqlite import open_store\n"
        "store = open_store(Path(sys.argv[1]), SystemClock()); print(os.getpid(), flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(data_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        pid = holder.stdout.readline().strip()
        with pytest.raises(StoreUnavailable, match=rf"process {pid}\b"):
            open_store(data_dir, clock)
        holder.kill()
        holder.wait(10)
    open_store(data_dir, clock).close()


def test_a_lock_file_that_cannot_be_written_is_told(data_dir: Path, clock: FakeClock) -> None:
    data_dir.mkdir()
    (data_dir / "lock").symlink_to("/dev/full")  # takes the lock, but not a word
    with pytest.raises(StoreError, match="lock"):
        open_store(data_dir, clock)


def test_a_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="nowhere"), alone_in(tmp_path / "nowhere"):
        raise AssertionError("not reached")


def test_a_database_from_before_verifiers_gets_their_table_and_keeps_its_accounts(
    data_dir: Path, clock: FakeClock
) -> None:
    store = open_store(data_dir, clock)
    store.add_account(ALICE, "hash", 1.0)
    store.close()
    with behind(data_dir) as connection:
        connection.execute("DROP TABLE verifier")
        connection.execute("DELETE FROM _sqlite_migrations WHERE name = '0004_verifiers'")
    store = open_store(data_dir, clock)
    assert store.password_hash(ALICE) == "hash"
    assert store.verifier(ALICE, "SCRAM-SHA-256") is None
    store.keep_verifier(ALICE, "SCRAM-SHA-256", "hers", "hash")
    assert store.verifier(ALICE, "SCRAM-SHA-256") == "hers"
    store.close()
