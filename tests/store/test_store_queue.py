"""Rows under a lease: claimed by one, settled once, taken back when the lease or its holder ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from store_kit import ALICE, BOB, BODY, CAROL, HOP, LARGE, behind, count, spooled, text_of, to_mailbox, to_queue

from mailserv.errors import StoreError, StoreUnavailable
from mailserv.mail.address import Address
from mailserv.mail.delivery import Delivery, QueuedRow
from mailserv.mail.message import Acceptance, BytesContent
from mailserv.mail.reply import Reply
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.interface import Settlement, Store
from mailserv.testing.clock import FakeClock

GREYLISTED = Reply(451, "4.7.1", "Greylisted")


def claim(store: Store, owner: str = "node", now: float = 1000.0, limit: int = 100) -> list[Delivery]:
    return store.claim(HOP, owner, now, now + 60, limit)[0]


def claim_row(store: Store, owner: str = "node", now: float = 1000.0) -> QueuedRow:
    (delivery,) = claim(store, owner, now, 1)
    return delivery.rows[0]


def states(store: Store) -> list[str]:
    return [entry.state for entry in store.queue_list()]


def test_a_claim_takes_what_is_due_oldest_first_and_tells_when_the_next_is(store: Store) -> None:
    for queue_id, at in (("Q3", 30.0), ("Q1", 10.0), ("Q2", 20.0), ("Q9", 900.0)):
        store.accept(to_queue(queue_id, at=at))
    deliveries, next_due = store.claim(HOP, "node", 25.0, 99.0, 10)
    assert [delivery.queue_id for delivery in deliveries] == ["Q1", "Q2"]
    assert next_due == 30.0
    deliveries, next_due = store.claim(HOP, "node", 1000.0, 1099.0, 1)
    assert [delivery.queue_id for delivery in deliveries] == ["Q3"]
    assert next_due == 900.0
    assert store.claim(HOP, "node", 1000.0, 1099.0, 10)[1] is None
    assert store.claim(Route("smtp", "elsewhere"), "node", 1000.0, 1099.0, 10) == ([], None)


def test_a_claim_groups_the_recipients_of_one_message(store: Store) -> None:
    recipients = [Address(f"user{number}", "example.com") for number in range(5)]
    store.accept(to_queue("Q1", *recipients))
    store.accept(to_queue("Q2"))
    deliveries = claim(store, limit=6)
    assert [(each.queue_id, len(each.rows)) for each in deliveries] == [("Q1", 5), ("Q2", 1)]
    assert [row.forward_path for row in deliveries[0].rows] == recipients


def test_no_row_is_claimed_twice_by_many_at_once(store: Store) -> None:
    for number in range(40):
        store.accept(to_queue(f"Q{number}", CAROL, BOB))
    seen: list[int] = []
    start = threading.Barrier(8)

    def work(name: str) -> None:
        start.wait()
        while deliveries := claim(store, name, limit=3):
            seen.extend(row.row_id for delivery in deliveries for row in delivery.rows)

    threads = [threading.Thread(target=work, args=(f"node{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == len(set(seen)) == 80


def test_a_deferred_row_comes_again_at_its_time_with_what_was_said(store: Store) -> None:
    store.accept(to_queue("Q1"))
    row = claim_row(store)
    store.settle("node", [Settlement(row, "ready", not_before=2000.0, reply=GREYLISTED, remote="mx [192.0.2.1]:25")])
    (entry,) = store.queue_list()
    assert (entry.state, entry.not_before, entry.attempts) == ("ready", 2000.0, 1)
    assert (entry.last_reply, entry.remote) == ("451 4.7.1 Greylisted", "mx [192.0.2.1]:25")
    assert store.claim(HOP, "node", 1999.0, 2060.0, 1) == ([], 2000.0)
    assert claim_row(store, now=2000.0).attempts == 1


def test_a_row_given_back_untouched_counts_no_attempt_and_keeps_the_last_reply(store: Store) -> None:
    store.accept(to_queue("Q1"))
    store.settle("node", [Settlement(claim_row(store), "ready", reply=GREYLISTED, delay_notified=True)])
    row = claim_row(store)
    assert row.delay_notified
    store.settle("node", [Settlement(row, "ready", counts_attempt=False)])
    (entry,) = store.queue_list()
    assert (entry.attempts, entry.last_reply) == (1, "451 4.7.1 Greylisted")
    assert claim_row(store).delay_notified


@pytest.mark.parametrize("state", ["done", "failed"])
def test_the_last_settled_recipient_takes_content_and_file_along(store: Store, data_dir: Path, state: str) -> None:
    store.accept(to_queue("Q1", CAROL, BOB, content=BytesContent(b"x" * LARGE)))
    (delivery,) = claim(store)
    store.settle("node", [Settlement(delivery.rows[0], state)])
    assert spooled(data_dir) == ["Q1"]
    assert text_of(delivery.content) == b"x" * LARGE
    store.settle("node", [Settlement(delivery.rows[1], state)])
    assert spooled(data_dir) == []
    assert count(data_dir, "message") == count(data_dir, "queue") == 0
    with pytest.raises(StoreUnavailable, match="Q1"):
        text_of(delivery.content)


def test_content_stays_while_a_mailbox_has_it(store: Store, data_dir: Path) -> None:
    mailbox, queued = to_mailbox("Q1"), to_queue("Q1")
    store.accept(
        Acceptance("Q1", BOB, BytesContent(b"x" * LARGE), 1.0, mailboxes=mailbox.mailboxes, queued=queued.queued)
    )
    store.settle("node", [Settlement(claim_row(store), "done")])
    assert spooled(data_dir) == ["Q1"]
    store.delete(store.maildrop(ALICE))
    assert spooled(data_dir) == []


def test_a_settled_row_id_is_never_used_again(store: Store) -> None:
    seen = set()
    for number in range(5):
        store.accept(to_queue(f"Q{number}"))
        row = claim_row(store)
        store.settle("node", [Settlement(row, "done")])
        seen.add(row.row_id)
    assert len(seen) == 5


def test_settling_a_row_that_is_another_s_by_now_changes_nothing(store: Store) -> None:
    store.accept(to_queue("Q1"))
    late = claim_row(store, "slow")
    assert store.reclaim("other", 2000.0) == 1
    now_another_s = claim_row(store, "quick")
    entry = ("Q1", TraceEntry(1.0, "delivered"))
    store.settle("slow", [Settlement(late, "done")], trace=[entry])
    assert states(store) == ["claimed"]
    assert [each.event for each in store.trace("Q1")] == ["accepted"]
    store.settle("quick", [Settlement(now_another_s, "held")], trace=[entry])
    assert states(store) == ["held"]
    assert [each.event for each in store.trace("Q1")] == ["delivered", "accepted"]  # in the order of time


def test_failure_and_bounce_are_one_transaction(store: Store) -> None:
    calls: list[frozenset[Route]] = []
    store.accept(to_queue("Q1"))
    store.on_queued(calls.append)
    row = claim_row(store)
    home = Route("smtp", "example.net")
    store.settle(
        "node", [Settlement(row, "failed")], [to_queue("B1", BOB, route=home)], [("Q1", TraceEntry(1.0, "failed"))]
    )
    assert [(each.queue_id, each.route) for each in store.queue_list()] == [("B1", home)]
    assert calls == [frozenset({home})]


def test_a_bounce_that_cannot_be_stored_leaves_the_row_for_the_lease(store: Store) -> None:
    store.accept(to_queue("Q1"))
    store.accept(to_mailbox("B1"))
    row = claim_row(store)
    with pytest.raises(StoreError):
        store.settle("node", [Settlement(row, "failed")], [to_mailbox("B1")])  # a queue id that is there
    assert states(store) == ["claimed"]
    assert len(store.maildrop(ALICE)) == 1


def test_never_both_bounced_and_delivered(store: Store, data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store.accept(to_queue("Q1", CAROL, BOB))
    (delivery,) = claim(store, "slow")
    lost, delivered = delivery.rows
    with behind(data_dir) as connection:
        connection.execute("UPDATE queue SET owner = 'quick' WHERE id = ?", (lost.row_id,))
    bounce = to_mailbox("B1", content=BytesContent(b"x" * LARGE))
    store.settle("slow", [Settlement(lost, "failed"), Settlement(delivered, "done")], [bounce])
    assert [(each.row_id, each.state) for each in store.queue_list()] == [(lost.row_id, "claimed")]
    assert store.maildrop(ALICE) == []
    assert spooled(data_dir) == []
    assert "store_bounce_withheld" in capfd.readouterr().err


@pytest.mark.parametrize("size", [10, LARGE])
def test_a_bounce_to_an_account_that_is_gone_does_not_undo_the_failure(store: Store, data_dir: Path, size: int) -> None:
    store.accept(to_queue("Q1"))
    bounce = to_mailbox("B1", "nobody@example.org", content=BytesContent(b"x" * size))
    store.settle("node", [Settlement(claim_row(store), "failed")], [bounce])
    assert count(data_dir, "queue") == count(data_dir, "message") == 0
    assert spooled(data_dir) == []


def test_a_large_bounce_is_kept_whole(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1"))
    bounce = to_mailbox("B1", content=BytesContent(b"x" * LARGE))
    store.settle("node", [Settlement(claim_row(store), "failed")], [bounce], wait=False)
    assert spooled(data_dir) == ["B1"]
    assert len(store.maildrop(ALICE)) == 1


def test_a_large_bounce_that_is_refused_leaves_no_file(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1"))
    store.accept(to_mailbox("B1"))
    bounce = to_mailbox("B1", content=BytesContent(b"x" * LARGE))
    with pytest.raises(StoreError):
        store.settle("node", [Settlement(claim_row(store), "failed")], [bounce])
    assert spooled(data_dir) == []


def test_settling_without_waiting_is_done_before_what_comes_after(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1", content=BytesContent(b"x" * LARGE)))
    store.settle("node", [Settlement(claim_row(store), "done")], wait=False)
    store.renew("node", 1.0)  # the writer takes things in order
    assert states(store) == []
    store.renew("node", 1.0)
    assert spooled(data_dir) == []


def test_an_error_of_a_settlement_nobody_waits_for_is_logged(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    store.accept(to_queue("Q1"))
    store.accept(to_mailbox("B1"))
    store.settle("node", [Settlement(claim_row(store), "failed")], [to_mailbox("B1")], wait=False)
    store.renew("node", 1.0)
    assert "store_action_failed" in capfd.readouterr().err
    assert states(store) == ["claimed"]


def test_trace_alone_can_be_settled(store: Store) -> None:
    store.settle("node", [], trace=[("Q1", TraceEntry(1.0, "waited")), ("Q1", TraceEntry(2.0, "waited"))])
    assert [entry.at for entry in store.trace("Q1")] == [1.0, 2.0]


@pytest.mark.parametrize("state", ["claimed", "dropped", "quarantined", "DONE", ""])
def test_a_state_that_no_settlement_leads_to_is_refused(store: Store, state: str) -> None:
    store.accept(to_queue("Q1"))
    row = claim_row(store)
    with pytest.raises(ValueError, match="settled"):
        store.settle("node", [Settlement(row, state)])
    assert states(store) == ["claimed"]


def test_rows_ready_at_once_after_settling_are_called_back_later_ones_are_not(store: Store, clock: FakeClock) -> None:
    store.accept(to_queue("Q1"))
    calls: list[frozenset[Route]] = []
    store.on_queued(calls.append)
    store.settle("node", [Settlement(claim_row(store), "ready", not_before=clock.now() + 1)])
    assert calls == []
    store.settle("node", [Settlement(claim_row(store, now=clock.now() + 1), "ready", not_before=clock.now())])
    assert calls == [frozenset({HOP})]


def test_a_former_life_s_rows_and_expired_leases_are_taken_back(store: Store) -> None:
    for number in range(4):
        store.accept(to_queue(f"Q{number}"))
    claim(store, "me", limit=1)
    claim(store, "me#7", limit=1)
    claim(store, "other", limit=1)
    store.claim(HOP, "other-too", 500.0, 900.0, 1)
    calls: list[frozenset[Route]] = []
    store.on_queued(calls.append)
    assert store.reclaim("me", 1000.0) == 3
    assert sorted(states(store)) == ["claimed", "ready", "ready", "ready"]
    assert calls == [frozenset({HOP})]
    assert store.reclaim("", 1000.0) == 0


def test_a_renewed_lease_does_not_run_out(store: Store) -> None:
    store.accept(to_queue("Q1"))
    claim(store, "node", now=1000.0)
    store.renew("node", 5000.0)
    store.renew("another", 1.0)
    assert store.reclaim("", 4999.0) == 0
    assert store.reclaim("", 5000.0) == 1


def test_destinations_are_told_with_the_time_of_their_first_row(store: Store) -> None:
    other = Route("lmtp", "box")
    store.accept(to_queue("Q1", at=20.0))
    store.accept(to_queue("Q2", at=10.0))
    store.accept(to_queue("Q3", route=other, at=30.0))
    store.accept(to_queue("Q4", route=Route("smtp", "later.example"), at=40.0))
    store.accept(to_queue("Q5", route=Route("pipe", "box"), at=5.0))
    rest = [(Route("pipe", "box"), 5.0), (Route("smtp", "later.example"), 40.0)]
    assert store.destinations() == [(other, 30.0), rest[0], (HOP, 10.0), rest[1]]
    claim(store)
    assert store.destinations() == [(other, 30.0), *rest]


def test_an_empty_queue_has_no_destinations(store: Store) -> None:
    assert store.destinations() == []


def test_content_is_whole_in_a_delivery_even_for_messages_read_late(store: Store) -> None:
    data = BODY * 5000
    store.accept(to_queue("Q1", content=BytesContent(data)))
    (delivery,) = claim(store)
    assert delivery.content.size == len(data)
    assert text_of(delivery.content) == data
    store.settle("node", [Settlement(delivery.rows[0], "done")])
    with pytest.raises(StoreUnavailable):
        text_of(delivery.content)
