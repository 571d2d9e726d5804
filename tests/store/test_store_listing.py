"""A listing from before is good only while nothing has changed, whatever has happened to the mailbox meanwhile."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from store_kit import ALICE, behind, to_mailbox

from mailserv.store.interface import Store
from mailserv.store.listing import Listing

BOB = "bob@example.org"


def test_nothing_new_is_the_very_same_listing(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    first = store.listing(ALICE)
    assert store.listing(ALICE, first) is first
    store.mailboxes.mark_retrieved(first.messages, 5.0)  # which no client is told
    assert store.listing(ALICE, first) is first
    assert [message.unique_id for message in first.messages] == ["Q1.0"]


def test_new_mail_comes_behind_what_was_there(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    first = store.listing(ALICE)
    store.accept(to_mailbox("Q2"))
    store.accept(to_mailbox("Q3"))
    second = store.listing(ALICE, first)
    assert [message.unique_id for message in second.messages] == ["Q1.0", "Q2.0", "Q3.0"]
    assert second == store.listing(ALICE)
    assert len(first.messages) == 1  # what a session has does not change under it


def test_an_account_that_was_made_anew_has_none_of_the_old_mail(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    first = store.listing(ALICE)
    store.remove_account(ALICE)
    assert store.listing(ALICE, first).messages == []
    gone = store.listing(ALICE, first)
    store.add_account(ALICE, "hash", 0.0)
    assert store.listing(ALICE, first).messages == []
    store.accept(to_mailbox("Q2"))
    assert [message.unique_id for message in store.listing(ALICE, gone).messages] == ["Q2.0"]


def test_a_message_that_came_and_went_leaves_the_listing_as_it_was(store: Store) -> None:
    store.accept(to_mailbox("Q1"))
    first = store.listing(ALICE)
    store.accept(to_mailbox("Q2"))
    second = store.listing(ALICE, first)
    store.delete(second.messages[1:])
    assert store.listing(ALICE, first) is first
    assert store.listing(ALICE, second) == first


@pytest.mark.parametrize("seed", range(8))
def test_with_any_earlier_listing_the_answer_is_the_same_as_without(store: Store, data_dir: Path, seed: int) -> None:
    rng = random.Random(seed)
    store.add_account(BOB, "hash", 0.0)
    seen: list[Listing] = [store.listing(ALICE)]
    for step in range(60):
        now = store.maildrop(ALICE)
        match rng.choice(["mail", "mail", "other", "delete", "expire", "promise", "keep"]):
            case "mail":
                store.accept(to_mailbox(f"Q{step}", *rng.choice([[ALICE], [ALICE, BOB]]), at=float(step)))
            case "other":
                store.accept(to_mailbox(f"Q{step}", BOB, at=float(step)))
            case "delete":
                store.delete(rng.sample(now, rng.randint(0, min(3, len(now)))))
            case "expire":
                store.mailboxes.expire(ALICE, step - 20.0, lambda: True)
            case "promise" if now:  # a deletion of which nothing is done yet
                with behind(data_dir) as connection:
                    row_ids = [message.row_id for message in rng.sample(now, 1)]
                    account = connection.execute("SELECT id FROM account WHERE address = ?", (ALICE,)).fetchone()
                    connection.execute(
                        "INSERT INTO deletion (account_id, row_ids) VALUES (?, ?)", (*account, str(row_ids))
                    )
            case "keep":
                store.delete(now[:1])
        found = store.listing(ALICE)
        for known in rng.sample(seen, min(5, len(seen))):
            assert store.listing(ALICE, known).messages == found.messages  # whatever the sweeper has done meanwhile
        seen.append(found)
    assert len({listing.state for listing in seen}) > 10
