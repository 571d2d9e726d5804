"""What has had its time goes, oldest first, in small transactions; what is younger is not looked at."""

from __future__ import annotations

from pathlib import Path

from store_kit import ALICE, Failing, behind, count, to_mailbox, to_queue

from mailserv.mail.value import replace
from mailserv.store.interface import Store
from mailserv.store.retention import MARKS
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

BOB = "bob@example.org"


def always() -> bool:
    return True


def test_what_came_before_goes_with_its_content(store: Store, data_dir: Path) -> None:
    store.add_account(BOB, "hash", 1.0)
    for number in range(130):
        store.accept(to_mailbox(f"Q{number}", ALICE, BOB, at=float(number)))
    assert store.mailboxes.expire(ALICE, 120.0, always) == 120
    assert [message.unique_id for message in store.maildrop(ALICE)] == [f"Q{number}.0" for number in range(120, 130)]
    assert count(data_dir, "message") == 130
    assert store.mailboxes.expire(BOB, 1_000.0, always) == 130
    assert count(data_dir, "message") == 10


def test_it_stops_when_told(store: Store) -> None:
    for number in range(130):
        store.accept(to_mailbox(f"Q{number}", at=float(number)))
    answers = iter([True, False])
    assert store.mailboxes.expire(ALICE, 1_000.0, lambda: next(answers)) == 50
    assert len(store.maildrop(ALICE)) == 80


def test_what_is_queued_too_keeps_its_content(store: Store, data_dir: Path) -> None:
    queued = to_queue("Q1")
    store.accept(replace(queued, mailboxes=to_mailbox("Q1").mailboxes))
    assert store.mailboxes.expire(ALICE, 1_000.0, always) == 1
    assert count(data_dir, "message") == 1


def test_an_imported_message_counts_from_its_import(store: Store, data_dir: Path) -> None:
    store.accept(to_mailbox("Q1", at=1.0))
    with behind(data_dir) as connection:
        connection.execute("UPDATE mailbox SET arrived_at = 500")
    assert store.mailboxes.expire(ALICE, 400.0, always) == 0
    assert store.mailboxes.expire(ALICE, 600.0, always) == 1


def test_only_the_first_retrieval_counts(store: Store) -> None:
    for number in range(3):
        store.accept(to_mailbox(f"Q{number}"))
    messages = store.maildrop(ALICE)
    store.mailboxes.mark_retrieved(messages[:2], 1_000.0)
    store.mailboxes.mark_retrieved(messages[1:], 2_000.0)
    assert store.mailboxes.expire_retrieved(ALICE, 1_000.0, always) == 0
    assert store.mailboxes.expire_retrieved(ALICE, 1_500.0, always) == 2
    assert store.maildrop(ALICE) == messages[2:]
    assert store.mailboxes.expire_retrieved(ALICE, 2_500.0, always) == 1


def test_many_are_marked_in_groups(store: Store, data_dir: Path) -> None:
    for number in range(MARKS + 10):
        store.accept(to_mailbox(f"Q{number}"))
    store.mailboxes.mark_retrieved(store.maildrop(ALICE), 1_000.0)
    with behind(data_dir) as connection:
        assert connection.execute("SELECT count(*) FROM mailbox WHERE retrieved_at = 1000").fetchone() == (MARKS + 10,)


def test_a_mailbox_with_nothing_to_expire_costs_no_transaction(data_dir: Path, clock: FakeClock) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1", at=100.0))
    failing.fail("BEGIN", 100)
    assert store.mailboxes.expire(ALICE, 50.0, always) == 0
    assert store.mailboxes.expire_retrieved(ALICE, 50.0, always) == 0
    assert failing.seen == 0
    assert store.mailboxes.expire(ALICE, 150.0, always) == 1
    assert failing.seen == 1
    store.close()
