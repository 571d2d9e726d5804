"""Messages from elsewhere: each once, with their keys in one transaction, or none of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_kit import ALICE, BOB, LARGE, Failing, count, spooled, text_of

from mailserv.errors import StoreError
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.store.interface import Imported, Store
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock


def imported(store: Store, number: int, octets: int = 20, key: bytes | None = None) -> Imported:
    writer = store.spool(f"Q{number}")
    writer.write(b"x" * octets)
    acceptance = Acceptance(f"Q{number}", BOB, writer.finish(), 10.0, mailboxes=(MailboxDelivery(ALICE, ALICE, b""),))
    return Imported(key or b"key%d" % number, acceptance, 500.0)


def test_a_key_comes_once(store: Store, data_dir: Path) -> None:
    assert store.mailboxes.import_messages(ALICE, [imported(store, 1), imported(store, 2, LARGE)]) == 2
    again = [imported(store, 3, LARGE, b"key2"), imported(store, 4, LARGE), imported(store, 5, key=b"key1")]
    assert store.mailboxes.import_messages(ALICE, again) == 1
    assert [message.size for message in store.maildrop(ALICE)] == [20, LARGE, LARGE]
    assert spooled(data_dir) == ["Q2", "Q4"]
    assert store.mailboxes.is_imported(ALICE, b"key1")
    assert not store.mailboxes.is_imported("bob@example.org", b"key1")
    assert store.mailboxes.import_messages(ALICE, [imported(store, 6, key=b"key1")], again=True) == 1


def test_what_is_deleted_does_not_come_back(store: Store) -> None:
    store.mailboxes.import_messages(ALICE, [imported(store, 1)])
    store.delete(store.maildrop(ALICE))
    assert store.mailboxes.import_messages(ALICE, [imported(store, 2, key=b"key1")]) == 0


def test_entries_tell_when_it_was_received_there(store: Store) -> None:
    store.mailboxes.import_messages(ALICE, [imported(store, 1)])
    (entry,) = store.mailboxes.entries(ALICE)
    assert (entry.received_at, entry.reverse_path) == (10.0, str(BOB))
    assert [entry.message] == store.maildrop(ALICE)
    content = store.read(entry.message)
    assert content is not None
    assert text_of(content) == b"x" * 20
    assert store.mailboxes.entries("nobody@example.org") == []
    assert store.mailboxes.expire(ALICE, 400.0, lambda: True) == 0  # its time here began with the import


def test_a_group_comes_whole_or_not_at_all(data_dir: Path, clock: FakeClock) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    failing.fail(
        "UPDATE mailbox SET arrived_at", 2
    )  # the last statement of the import's own transaction, nobody else's
    with pytest.raises(StoreError, match="made to fail"):
        store.mailboxes.import_messages(ALICE, [imported(store, 1), imported(store, 2, LARGE)])
    assert count(data_dir, "imported") == count(data_dir, "mailbox") == len(spooled(data_dir)) == 0
    assert store.mailboxes.import_messages(ALICE, [imported(store, 3, key=b"key1"), imported(store, 4, LARGE)]) == 2
    store.close()


def test_an_account_that_is_gone_gets_nothing(store: Store, data_dir: Path) -> None:
    with pytest.raises(StoreError, match="no such account"):
        store.mailboxes.import_messages("bob@example.org", [imported(store, 1, LARGE)])
    assert spooled(data_dir) == []


def test_keys_go_with_their_account(store: Store, data_dir: Path) -> None:
    store.mailboxes.import_messages(ALICE, [imported(store, number) for number in range(3)])
    store.remove_account(ALICE)
    assert count(data_dir, "imported") == count(data_dir, "message") == 0
    store.add_account(ALICE, "hash", 1.0)
    content = BytesContent(b"x")
    one = Acceptance("Q9", BOB, content, 10.0, mailboxes=(MailboxDelivery(ALICE, ALICE, b""),))
    assert store.mailboxes.import_messages(ALICE, [Imported(b"key1", one, 1.0)]) == 1
