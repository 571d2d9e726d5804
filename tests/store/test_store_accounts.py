"""Accounts: made, found at once, removed with their mailbox."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from store_kit import ALICE, BOB, CAROL, HOP, LARGE, Failing, count, spooled, to_mailbox, to_queue

from mailserv.errors import DuplicateError, StoreError
from mailserv.mail.message import Acceptance, BytesContent
from mailserv.store.interface import Account, Store
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock


def test_an_account_is_made_listed_and_removed(store: Store) -> None:
    store.add_account("bob@example.org", "his hash", 2.0)
    assert store.accounts() == [Account(ALICE, 1.0), Account("bob@example.org", 2.0)]
    assert store.has_account("bob@example.org")
    assert store.password_hash("bob@example.org") == "his hash"
    assert store.remove_account("bob@example.org")
    assert not store.has_account("bob@example.org")
    assert store.password_hash("bob@example.org") is None
    assert store.accounts() == [Account(ALICE, 1.0)]
    assert not store.remove_account("bob@example.org")


def test_an_account_is_made_once(store: Store) -> None:
    with pytest.raises(DuplicateError, match=ALICE):
        store.add_account(ALICE, "other", 2.0)
    assert store.password_hash(ALICE) == "hash"


def test_a_password_is_changed_where_there_is_an_account(store: Store) -> None:
    assert store.set_password(ALICE, "new")
    assert store.password_hash(ALICE) == "new"
    assert not store.set_password("nobody@example.org", "new")


def test_an_account_made_again_starts_with_an_empty_mailbox(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    store.remove_account(ALICE)
    store.add_account(ALICE, "hash", 3.0)
    assert store.maildrop(ALICE) == []


def test_removal_takes_the_mailbox_along_but_not_what_is_queued(store: Store, data_dir: Path) -> None:
    for number in range(120):
        store.accept(to_mailbox(f"Q{number}"))
    queued = to_queue("QQ", CAROL, content=BytesContent(b"x" * LARGE))
    store.accept(Acceptance("QQ", BOB, queued.content, 1.0, mailboxes=to_mailbox("QQ").mailboxes, queued=queued.queued))
    assert store.remove_account(ALICE)
    assert count(data_dir, "mailbox") == count(data_dir, "account") == 0
    assert count(data_dir, "message") == 1
    assert spooled(data_dir) == ["QQ"]
    assert len(store.claim(HOP, "node", 1000.0, 2000.0, 10)[0]) == 1


def test_a_removal_that_a_crash_cut_short_counts_at_once_and_is_finished_at_the_next_start(
    data_dir: Path, clock: FakeClock
) -> None:
    failing = Failing()
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    for number in range(150):
        store.accept(to_mailbox(f"Q{number}"))
    failing.fail("COMMIT", 3, for_good=True)
    with pytest.raises(StoreError):
        store.remove_account(ALICE)
    failing.heal()
    assert not store.has_account(ALICE)
    assert store.maildrop(ALICE) == []
    with pytest.raises(StoreError, match=ALICE):
        store.accept(to_mailbox("Q999"))
    assert count(data_dir, "mailbox") == 100
    store.close()
    store = open_store(data_dir, clock)
    assert count(data_dir, "mailbox") == count(data_dir, "account") == count(data_dir, "message") == 0
    store.add_account(ALICE, "hash", 2.0)
    store.close()


def test_an_account_that_another_process_made_counts_at_once(store: Store, data_dir: Path, clock: FakeClock) -> None:
    command = open_store(data_dir, clock, exclusive=False)
    assert not store.has_account("new@example.org")
    command.add_account("new@example.org", "hash", 1.0)
    assert store.has_account("new@example.org")
    command.close()


def test_an_account_that_another_process_removed_gets_no_mail(store: Store, data_dir: Path, clock: FakeClock) -> None:
    command = open_store(data_dir, clock, exclusive=False)
    command.remove_account(ALICE)
    command.close()
    with pytest.raises(StoreError, match=ALICE):
        store.accept(to_mailbox("Q1"))
    assert not store.has_account(ALICE)


def test_many_threads_may_ask_while_accounts_come_and_go(store: Store) -> None:
    wrong: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            if not store.has_account(ALICE) or store.has_account("nobody@example.org"):
                wrong.append("answer")

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(30):
        store.add_account(f"user{number}@example.org", "hash", 1.0)
        store.remove_account(f"user{number}@example.org")
    done.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_verifier_comes_with_a_password_and_goes_with_it(store: Store) -> None:
    store.add_account("bob@example.org", "one", 2.0, {"SCRAM": "of one", "OTHER": "x"})
    assert store.verifier("bob@example.org", "SCRAM") == "of one"
    assert store.set_password("bob@example.org", "two", {"SCRAM": "of two"})
    assert store.verifier("bob@example.org", "SCRAM") == "of two"
    assert store.verifier("bob@example.org", "OTHER") is None
    assert store.set_password("bob@example.org", "three")
    assert store.verifier("bob@example.org", "SCRAM") is None
    assert not store.set_password("nobody@example.org", "x", {"SCRAM": "x"})


def test_a_verifier_is_not_kept_for_a_password_that_was_changed_meanwhile(store: Store) -> None:
    store.keep_verifier(ALICE, "SCRAM", "of an older one", "another hash")
    assert store.verifier(ALICE, "SCRAM") is None
    store.keep_verifier(ALICE, "SCRAM", "of this one", "hash")
    assert store.verifier(ALICE, "SCRAM") == "of this one"


def test_an_account_s_verifiers_go_with_it(store: Store, data_dir: Path) -> None:
    store.keep_verifier(ALICE, "SCRAM", "hers", "hash")
    store.remove_account(ALICE)
    assert count(data_dir, "verifier") == 0
    store.add_account(ALICE, "hash", 3.0)
    assert store.verifier(ALICE, "SCRAM") is None
