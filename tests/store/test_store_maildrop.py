"""Mailboxes as POP3 needs them: exact sizes, unique-ids for good, deletion in one transaction (RFC 1939 §6, §7)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from store_kit import ALICE, BODY, LARGE, PREFIX, Failing, behind, count, spooled, text_of, to_mailbox

from mailserv.errors import StoreError
from mailserv.mail.message import BytesContent
from mailserv.store.interface import Store
from mailserv.store.listing import MaildropMessage
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock


def test_messages_are_listed_oldest_first_with_exact_sizes(store: Store) -> None:
    for number in range(1, 4):
        store.accept(to_mailbox(f"Q{number}", content=BytesContent(BODY * number)))
    messages = store.maildrop(ALICE)
    assert [message.size for message in messages] == [len(PREFIX) + len(BODY) * number for number in range(1, 4)]
    for message in messages:
        content = store.read(message)
        assert content is not None
        assert len(text_of(content)) == content.size == message.size
    assert store.maildrop("nobody@example.org") == []


def test_unique_ids_fit_the_rfc_and_are_never_used_again(store: Store, data_dir: Path) -> None:
    store.accept(to_mailbox("Q" * 60))
    store.accept(to_mailbox("Q2"))
    first = store.maildrop(ALICE)
    assert all(re.fullmatch(r"[!-~]{1,70}", message.unique_id) for message in first)
    store.delete(first)
    with behind(data_dir) as connection:
        connection.execute("VACUUM")
    store.accept(to_mailbox("Q3"))
    second = store.maildrop(ALICE)
    assert {message.unique_id for message in first} & {message.unique_id for message in second} == set()
    assert {message.row_id for message in first} & {message.row_id for message in second} == set()


def test_one_message_in_two_mailboxes_is_stored_once_and_goes_with_the_last(store: Store, data_dir: Path) -> None:
    other = "bob@example.org"
    store.add_account(other, "hash", 1.0)
    store.accept(to_mailbox("Q1", ALICE, other, content=BytesContent(b"x" * LARGE)))
    assert count(data_dir, "message") == 1
    assert store.maildrop(ALICE)[0].unique_id != store.maildrop(other)[0].unique_id
    store.delete(store.maildrop(ALICE))
    assert spooled(data_dir) == ["Q1"]
    assert store.read(store.maildrop(other)[0]) is not None
    store.delete(store.maildrop(other))
    assert spooled(data_dir) == []
    assert count(data_dir, "message") == 0


def test_reading_what_is_gone_finds_nothing(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    (message,) = store.maildrop(ALICE)
    assert store.read(MaildropMessage("Q1.7", message.size, message.row_id)) is None
    store.delete([message])
    assert store.read(message) is None
    store.delete([message])
    store.delete([])


def test_a_big_deletion_is_one_transaction_and_its_content_goes_after_it(store: Store, data_dir: Path) -> None:
    for number in range(250):
        store.accept(to_mailbox(f"Q{number}"))
    messages = store.maildrop(ALICE)
    store.delete(messages[:240])
    assert store.maildrop(ALICE) == messages[240:]
    wait_until_swept(store, data_dir)
    assert count(data_dir, "message") == count(data_dir, "mailbox") == 10
    assert store.maildrop(ALICE) == messages[240:]


def test_what_is_promised_to_go_is_in_no_listing_whoever_asks(data_dir: Path, clock: FakeClock) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    for address in (ALICE, "bob@example.org"):
        store.add_account(address, "hash", 1.0)
    for number in range(120):
        store.accept(to_mailbox(f"Q{number}", ALICE, "bob@example.org"))
    failing.fail("DELETE FROM mailbox", 2, for_good=True)
    messages = store.maildrop(ALICE)
    store.delete([message for message in messages if message != messages[70]])
    assert store.maildrop(ALICE) == [messages[70]]
    assert len(store.maildrop("bob@example.org")) == 120
    assert count(data_dir, "mailbox") == 240 - 19  # the newest piece is the first to go
    failing.heal()
    store.close()


def test_a_deletion_that_a_crash_cut_short_goes_on_at_the_next_start(data_dir: Path, clock: FakeClock) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    for number in range(250):
        store.accept(to_mailbox(f"Q{number}"))
    failing.fail("COMMIT", 2, for_good=True)
    store.delete(store.maildrop(ALICE))
    store.close()
    failing.heal()
    assert count(data_dir, "message") == 200
    store = open_store(data_dir, clock)
    assert store.maildrop(ALICE) == []
    wait_until_swept(store, data_dir)
    assert count(data_dir, "message") == count(data_dir, "mailbox") == 0
    store.close()


def test_a_deletion_that_could_not_be_promised_deletes_nothing(data_dir: Path, clock: FakeClock) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    for number in range(120):
        store.accept(to_mailbox(f"Q{number}"))
    messages = store.maildrop(ALICE)
    failing.fail("COMMIT")
    with pytest.raises(StoreError, match="made to fail"):
        store.delete(messages)
    assert store.maildrop(ALICE) == messages
    assert count(data_dir, "deletion") == 0
    store.close()


def test_a_command_has_removed_everything_when_it_ends(store: Store, data_dir: Path, clock: FakeClock) -> None:
    for number in range(120):
        store.accept(to_mailbox(f"Q{number}"))
    beside = open_store(data_dir, clock, exclusive=False)
    beside.delete(beside.maildrop(ALICE))
    assert count(data_dir, "message") == count(data_dir, "deletion") == 0
    beside.close()


def wait_until_swept(store: Store, data_dir: Path) -> None:
    """Each look waits for the writer, and so for one transaction of the sweeper at most."""
    for _ in range(1000):
        if not count(data_dir, "deletion"):
            return
        store.reclaim("nobody", 0.0)
    raise AssertionError("nobody swept")


def test_what_is_deleted_is_not_written_once_more(store: Store, data_dir: Path) -> None:
    """Debian's SQLite would write zeros over every freed page: 4 MB here, for which new mail would wait."""
    for number in range(20):
        store.accept(to_mailbox(f"Q{number}", content=BytesContent(b"x" * 200_000)))
    with behind(data_dir) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    store.delete(store.maildrop(ALICE))
    assert (data_dir / "mailserv.db-wal").stat().st_size < 500_000
