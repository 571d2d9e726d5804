"""What an operator gives up: all rows that nobody delivers, with their bounces, or nothing."""

from __future__ import annotations

from pathlib import Path

from store_kit import ALICE, BOB, CAROL, HOP, LARGE, behind, count, spooled, text_of, to_mailbox, to_queue

from mailserv.mail.message import BytesContent
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.interface import Store

ELSEWHERE = Route("smtp", "elsewhere.example")


def test_a_message_is_open_with_all_its_rows_but_those_that_are_delivered_now(store: Store) -> None:
    store.accept(to_queue("Q1", CAROL, BOB, content=BytesContent(b"Subject: x\r\n\r\n")))
    delivery = store.queue_open("Q1")
    assert delivery is not None
    assert [row.forward_path for row in delivery.rows] == [CAROL, BOB]
    assert (delivery.queue_id, delivery.login, text_of(delivery.content)) == ("Q1", ALICE, b"Subject: x\r\n\r\n")
    store.claim(HOP, "node", 1000.0, 2000.0, 1)
    delivery = store.queue_open("Q1")
    assert delivery is not None
    assert [row.forward_path for row in delivery.rows] == [BOB]
    assert store.queue_open("unknown") is None


def test_rows_fail_and_their_bounce_is_there_in_one_go(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1", CAROL, BOB, content=BytesContent(b"x" * LARGE)))
    store.queue_hold(["Q1"])
    delivery = store.queue_open("Q1")
    assert delivery is not None
    trace = [("Q1", TraceEntry(5.0, "failed", str(CAROL)))]
    assert store.queue_give_up(delivery.rows, [to_mailbox("B1", ALICE)], trace)
    assert store.queue_list() == []
    assert len(store.maildrop(ALICE)) == 1
    assert spooled(data_dir) == []
    assert count(data_dir, "message") == 1
    assert [entry.event for entry in store.trace("Q1")] == ["failed", "accepted", "held"]


def test_nothing_is_told_of_rows_that_were_claimed_meanwhile(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1", CAROL, BOB))
    delivery = store.queue_open("Q1")
    assert delivery is not None
    store.claim(HOP, "node", 1000.0, 2000.0, 1)
    bounce = to_mailbox("B1", ALICE, content=BytesContent(b"x" * LARGE))
    assert not store.queue_give_up(delivery.rows, [bounce], [("Q1", TraceEntry(5.0, "failed"))])
    assert [entry.state for entry in store.queue_list()] == ["claimed", "ready"]
    assert store.maildrop(ALICE) == []
    assert spooled(data_dir) == []
    assert [entry.event for entry in store.trace("Q1")] == ["accepted"]


def test_content_that_is_damaged_is_open_without_it(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1"))
    with behind(data_dir) as connection:
        connection.execute("UPDATE message SET content = x'00'")
    store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert [entry.state for entry in store.queue_list()] == ["quarantined"]
    delivery = store.queue_open("Q1")
    assert delivery is not None
    assert (delivery.content.size, delivery.reverse_path) == (0, BOB)
    assert store.queue_give_up(delivery.rows, (), ())
    assert store.queue_list() == []


def test_rows_for_several_destinations_are_given_up_together(store: Store) -> None:
    store.accept(to_queue("Q1", CAROL, route=ELSEWHERE))
    delivery = store.queue_open("Q1")
    assert delivery is not None
    assert delivery.route == ELSEWHERE
