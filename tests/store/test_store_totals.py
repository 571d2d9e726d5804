"""What a mailbox holds: kept beside its rows whatever puts them there or takes them away, and asked before one more."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_kit import ALICE, BODY, PREFIX, Failing, behind, spooled, to_mailbox

from mailserv.errors import MailboxFull, StoreError
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.store.interface import Store, Usage
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

BOB = "bob@example.org"
ONE = len(PREFIX) + len(BODY)


def with_quota(queue_id: str, quota: int, octets: int = len(BODY), account: str = ALICE) -> Acceptance:
    message = to_mailbox(queue_id, content=BytesContent(b"x" * octets))
    return Acceptance(
        queue_id=queue_id,
        reverse_path=message.reverse_path,
        content=message.content,
        received_at=message.received_at,
        mailboxes=(MailboxDelivery(account, account, PREFIX, quota),),
    )


def is_true(data_dir: Path) -> bool:
    """Whether the totals are what the rows come to."""
    with behind(data_dir) as connection:
        wrong = connection.execute(
            """SELECT address FROM account WHERE (messages, octets) <>
                (SELECT count(*), coalesce(sum(size), 0) FROM mailbox WHERE account_id = account.id)"""
        ).fetchall()
    return wrong == []


def test_totals_follow_what_comes_and_goes(store: Store, data_dir: Path) -> None:
    store.add_account(BOB, "hash", 1.0)
    assert store.mailboxes.usage(ALICE) == Usage(0, 0)
    store.accept(to_mailbox("Q1", ALICE, BOB))
    store.accept(to_mailbox("Q2"))
    assert store.mailboxes.usages() == {ALICE: Usage(2, 2 * ONE), BOB: Usage(1, ONE)}
    store.delete(store.maildrop(ALICE)[:1])
    assert store.mailboxes.usage(ALICE) == Usage(1, ONE)
    store.remove_account(BOB)
    assert store.mailboxes.usage(BOB) == Usage(0, 0)
    assert is_true(data_dir)


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.sampled_from(["come", "go", "expire", "fail", "big"]), max_size=12))
def test_totals_are_true_after_any_steps(tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> None:
    data_dir, failing = tmp_path_factory.mktemp("totals") / "data", Failing()
    store = open_store(data_dir, FakeClock(1_000.0), disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    for number, step in enumerate(steps):
        with contextlib.suppress(StoreError):
            take(step, number, store, failing)
    store.close()
    assert is_true(data_dir)


def take(step: str, number: int, store: Store, failing: Failing) -> None:
    if step == "come":
        store.accept(to_mailbox(f"Q{number}", at=float(number)))
    elif step == "big":
        for each in range(60):
            store.accept(to_mailbox(f"Q{number}-{each}", at=float(number)))
    elif step == "go":
        store.delete(store.maildrop(ALICE)[::2])
    elif step == "expire":
        store.mailboxes.expire(ALICE, number - 2.0, lambda: True)
    else:
        failing.fail("COMMIT")


def test_a_message_over_the_quota_is_refused_and_leaves_nothing(store: Store, data_dir: Path) -> None:
    store.accept(with_quota("Q1", quota=2 * ONE))
    with pytest.raises(MailboxFull) as caught:
        store.accept(with_quota("Q2", quota=2 * ONE, octets=300 * 1024))
    assert caught.value.never_fits
    with pytest.raises(MailboxFull) as caught:
        store.accept(with_quota("Q3", quota=2 * ONE, octets=len(BODY) + 1))
    assert not caught.value.never_fits
    assert spooled(data_dir) == []
    store.accept(with_quota("Q4", quota=2 * ONE))
    assert store.mailboxes.usage(ALICE) == Usage(2, 2 * ONE)


def test_a_refusal_in_company_is_nobody_else_s_business(store: Store) -> None:
    """However many come at once, as many are taken as fit, and those who have no quota are not concerned."""
    store.add_account(BOB, "hash", 1.0)
    full: list[str] = []

    def accept(number: int) -> None:
        try:
            store.accept(with_quota(f"A{number}", quota=5 * ONE))
        except MailboxFull:
            full.append(f"A{number}")
        store.accept(to_mailbox(f"B{number}", BOB))

    threads = [threading.Thread(target=accept, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(full) == 15
    assert store.mailboxes.usages() == {ALICE: Usage(5, 5 * ONE), BOB: Usage(20, 20 * ONE)}


def test_several_recipients_of_one_mailbox_count_together(store: Store) -> None:
    copies = tuple(MailboxDelivery(ALICE, f"alice+{tag}@example.org", PREFIX, 2 * ONE) for tag in "abc")
    message = to_mailbox("Q1")
    with pytest.raises(MailboxFull):
        store.accept(Acceptance("Q1", message.reverse_path, message.content, 1.0, mailboxes=copies))
    store.accept(Acceptance("Q1", message.reverse_path, message.content, 1.0, mailboxes=copies[:2]))


def test_a_crossing_of_90_percent_is_told_until_the_owner_is(store: Store) -> None:
    told: list[str] = []
    store.mailboxes.on_nearly_full(told.append)
    quota = 10 * ONE
    for number in range(8):
        store.accept(with_quota(f"Q{number}", quota))
    assert told == []
    store.accept(with_quota("Q8", quota))
    assert told == [ALICE]
    notice = to_mailbox("W1", content=BytesContent(b""))
    assert store.mailboxes.warn(ALICE, quota, notice)
    assert not store.mailboxes.warn(ALICE, quota, to_mailbox("W2"))
    assert store.mailboxes.usage(ALICE).is_warned
    store.delete(store.maildrop(ALICE)[:1])
    assert store.mailboxes.usage(ALICE).is_warned  # 80 %, and not below
    store.delete(store.maildrop(ALICE)[:1])
    assert not store.mailboxes.usage(ALICE).is_warned
    assert not store.mailboxes.warn(ALICE, quota, to_mailbox("W3"))  # no longer true


def test_where_no_quota_is_set_nothing_is_asked(data_dir: Path, clock: FakeClock) -> None:
    """The price of a quota is one statement in the transaction; without one there is none."""
    failing = Failing("SELECT messages")
    store = open_store(data_dir, clock, disk=failing.disk)
    store.add_account(ALICE, "hash", 1.0)
    store.accept(to_mailbox("Q1"))
    assert failing.seen == 0
    failing.fail("SELECT messages", 2)
    store.accept(with_quota("Q2", quota=10 * ONE))
    assert failing.seen == 1
    store.close()
