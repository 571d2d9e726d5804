"""Mailboxes as POP3 needs them: exact sizes, unique-ids for good, deletion in one transaction (RFC 1939 §6, §7)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from store_kit import ALICE, BODY, LARGE, PREFIX, Failing, behind, count, spooled, text_of, to_mailbox

from mailserv.errors import StoreError
from mailserv.mail.message import BytesContent
from mailserv.store.interface import MaildropMessage, Store
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
    assert count(data_dir, "message") == 10
    assert count(data_dir, "doomed") == 0


def test_content_left_by_a_crash_in_a_big_deletion_goes_at_the_next_start(data_dir: Path, clock: FakeClock) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    for number in range(250):
        store.accept(to_mailbox(f"Q{number}"))
    failing.fail("COMMIT", 2, for_good=True)
    with pytest.raises(StoreError, match="made to fail"):
        store.delete(store.maildrop(ALICE))
    failing.heal()
    assert store.maildrop(ALICE) == []
    assert count(data_dir, "message") == 200
    store.close()
    store = open_store(data_dir, clock)
    assert count(data_dir, "message") == count(data_dir, "doomed") == 0
    store.close()
