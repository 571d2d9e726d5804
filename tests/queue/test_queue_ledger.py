"""What becomes of each row after an attempt."""

from __future__ import annotations

import random

import pytest
from queue_kit import BOB, DELIVERED, GREYLISTED, NET, REFUSED, World

from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.delivery import Attempt, Delivery, QueuedRow
from mailserv.mail.message import BytesContent
from mailserv.mail.outcome import Deferred, Outcome
from mailserv.mail.reply import Reply
from mailserv.queue.ledger import LONGEST_DETAIL, Ruling, printable, rule
from mailserv.settings import Duration, Queue

SETTINGS = Queue()
HOUR = 3600.0


def row(number: int, attempts: int = 0, notified: bool = False) -> QueuedRow:
    path = Address(f"r{number}", "example.net")
    return QueuedRow(number, path, path, {}, attempts, notified)


def ruled(
    age: float, *pairs: tuple[QueuedRow, Outcome], reverse_path: Address = BOB, may_end: bool = True
) -> tuple[Ruling, float]:
    now = 1_000_000.0
    delivery = Delivery("Q1", reverse_path, {}, BytesContent(b"x"), now - age, "", NET, tuple(row for row, _ in pairs))
    attempt = Attempt(delivery, tuple(outcome for _, outcome in pairs))
    return rule(attempt, now, SETTINGS, random.Random(3), may_end=may_end), now


def test_each_recipient_gets_what_its_own_outcome_says() -> None:
    ruling, now = ruled(60, (row(1), DELIVERED), (row(2), GREYLISTED), (row(3), REFUSED))
    assert [each.state for each in ruling.settlements] == ["done", "ready", "failed"]
    assert [each.row.row_id for each in ruling.settlements] == [1, 2, 3]
    assert ruling.settlements[1].not_before == ruling.due
    assert ruling.due is not None
    assert 270 <= ruling.due - now <= 330
    assert [found.row_id for found, _ in ruling.failed] == [3]
    assert [entry.event for entry in ruling.trace] == ["delivered", "deferred", "failed"]
    assert [entry.recipient for entry in ruling.trace] == [f"r{n}@example.net" for n in (1, 2, 3)]


@pytest.mark.parametrize("status", ["4.5.3", "4.0.0"])
@pytest.mark.parametrize("age", [60, SETTINGS.give_up])
def test_whoever_was_too_many_beside_others_is_due_at_once(status: str, age: float) -> None:
    many = Deferred(Reply(452, status, "Too many recipients"))
    ruling, now = ruled(age, (row(1), DELIVERED), (row(2, attempts=9), many), (row(3, attempts=9), many))
    assert [each.state for each in ruling.settlements] == ["done", "ready", "ready"]
    assert [each.not_before for each in ruling.settlements[1:]] == [now, now]
    assert ruling.due == now


@pytest.mark.parametrize("first", [GREYLISTED, REFUSED])
def test_too_many_where_nobody_got_it_waits(first: Outcome) -> None:
    ruling, now = ruled(60, (row(1), first), (row(2), Deferred(Reply(452, "4.5.3", "Too many recipients"))))
    assert ruling.settlements[1].not_before - now >= 270


@pytest.mark.parametrize("status", ["4.2.2", "4.3.1"])
def test_what_is_full_waits_beside_others_that_got_it(status: str) -> None:
    ruling, now = ruled(60, (row(1), DELIVERED), (row(2), Deferred(Reply(452, status, "Full"))))
    assert ruling.settlements[1].not_before - now >= 270


def test_the_trace_names_remote_reply_and_attempt() -> None:
    ruling, _ = ruled(60, (row(1, attempts=2), REFUSED))
    assert ruling.trace[0].detail == {
        "remote": "mx.example.net [192.0.2.1]:25",
        "reply": "550 5.1.1 No such user",
        "attempt": 3,
    }


def test_rows_that_waited_together_are_tried_together_again() -> None:
    ruling, _ = ruled(60, *((row(n), GREYLISTED) for n in range(1, 6)))
    assert len({each.not_before for each in ruling.settlements}) == 1


def test_a_transient_failure_after_the_time_to_give_up_is_final() -> None:
    ruling, _ = ruled(SETTINGS.give_up, (row(1, attempts=40, notified=True), GREYLISTED))
    assert [each.state for each in ruling.settlements] == ["failed"]
    assert ruling.failed == [(row(1, attempts=40, notified=True), GREYLISTED)]
    assert ruling.trace[0].detail["given_up"] == "yes"


def test_a_bounce_is_given_up_after_two_days() -> None:
    tried = row(1, attempts=20, notified=True)
    ruling, _ = ruled(SETTINGS.bounce_give_up, (tried, GREYLISTED), reverse_path=NULL_REVERSE_PATH)
    assert ruling.settlements[0].state == "failed"
    ruling, _ = ruled(SETTINGS.bounce_give_up, (tried, GREYLISTED))
    assert ruling.settlements[0].state == "ready"


@pytest.mark.parametrize(("age", "notified", "asked"), [(4 * HOUR, False, 1), (4 * HOUR, True, 0), (HOUR, False, 0)])
def test_the_delay_notice_is_asked_for_once(age: float, notified: bool, asked: int) -> None:
    ruling, _ = ruled(age, (row(1, 5, notified), GREYLISTED))
    assert len(ruling.delayed) == asked
    assert ruling.settlements[0].delay_notified is (notified or bool(asked))


def test_when_nothing_may_end_old_and_refused_rows_wait() -> None:
    old = SETTINGS.give_up + 5
    ruling, now = ruled(old, (row(1), DELIVERED), (row(2), GREYLISTED), (row(3), REFUSED), may_end=False)
    assert [each.state for each in ruling.settlements] == ["done", "ready", "ready"]
    assert ruling.failed == []
    assert ruling.settlements[1].not_before == now + SETTINGS.retry[-1]


def test_a_remote_s_words_are_fit_for_one_line() -> None:
    assert printable("a\r\nb\x1b[2J\0") == "a??b?[2J?"
    assert len(printable("x" * 9000)) == LONGEST_DETAIL
    assert printable("grüße") == "grüße"
    hostile = Deferred(Reply(450, "4.2.0", "a\x1b]0;b\nc"), "mx\r\n")
    ruling, _ = ruled(60, (row(1), hostile))
    assert all(str(value).isprintable() for value in ruling.trace[0].detail.values())


def claim(world: World) -> list[Delivery]:
    return world.store.claim(NET, "node#9", world.clock.now(), world.clock.now() + 600, 100)[0]


def test_a_bounce_and_its_failure_mark_are_one_transaction(world: World) -> None:
    world.queue("Q1")
    (delivery,) = claim(world)
    world.ledger.settle("node#9", [Attempt(delivery, (REFUSED,))], wait=True)
    assert world.states() == {}
    assert world.bounces() == 1
    assert world.events("Q1")[-2:] == ["failed", "bounced"]


def test_a_row_that_is_no_longer_ours_is_not_bounced(world: World) -> None:
    world.queue("Q1")
    (delivery,) = claim(world)
    world.store.reclaim("node", world.clock.now())
    world.ledger.settle("node#9", [Attempt(delivery, (REFUSED,))], wait=True)
    assert world.states() == {"Q1": "ready"}
    assert world.bounces() == 0


def test_a_failed_bounce_is_not_bounced(world: World) -> None:
    world.queue("Q1", reverse_path=NULL_REVERSE_PATH)
    (delivery,) = claim(world)
    world.ledger.settle("node#9", [Attempt(delivery, (REFUSED,))], wait=True)
    assert (world.states(), world.bounces()) == ({}, 0)


def test_a_delay_notice_tells_until_when_it_will_be_tried(world: World) -> None:
    world.queue("Q1")
    received = world.clock.now()
    world.clock.advance(SETTINGS.delay_notice)
    (delivery,) = claim(world)
    due = world.ledger.settle("node#9", [Attempt(delivery, (GREYLISTED,))], wait=True)
    assert world.bouncer.delays == [("Q1", ["one@example.net"], received + SETTINGS.give_up)]
    assert world.bounces() == 1
    assert "delay_notice" in world.events("Q1")
    assert due is not None
    world.clock.set_now(due)
    (delivery,) = claim(world)
    assert delivery.rows[0].delay_notified
    world.ledger.settle("node#9", [Attempt(delivery, (GREYLISTED,))], wait=True)
    assert len(world.bouncer.delays) == 1


def test_what_was_never_tried_goes_back_without_counting(world: World) -> None:
    world.queue("Q1", "one@example.net", "two@example.net")
    world.ledger.give_back("node#9", claim(world), world.clock.now())
    (delivery,) = claim(world)
    assert [found.attempts for found in delivery.rows] == [0, 0]
    world.ledger.give_back("node#9", [], world.clock.now())
    assert world.states() == {"Q1": "claimed"}


def test_rescue_marks_what_was_delivered_and_lets_the_rest_wait(world: World) -> None:
    world.queue("Q1", "one@example.net", "two@example.net", "three@example.net")
    world.clock.advance(SETTINGS.delay_notice)
    (delivery,) = claim(world)
    due = world.ledger.rescue("node#9", [Attempt(delivery, (DELIVERED, REFUSED, GREYLISTED))])
    assert [entry.forward_path for entry in world.store.queue_list()] == ["two@example.net", "three@example.net"]
    assert world.states() == {"Q1": "ready"}
    assert (world.bouncer.failures, world.bouncer.delays) == ([], [])
    assert due is not None
    world.clock.set_now(due)
    assert not claim(world)[0].rows[0].delay_notified  # it was not told: it is due again


def test_half_of_a_character_in_a_transport_s_words_keeps_no_row_claimed(world: World) -> None:
    """What os.fsdecode makes of a name that is no UTF-8: SQLite refuses it."""
    world.queue("Q1")
    (delivery,) = claim(world)
    said = Deferred(Reply(451, "4.3.0", "no such folder: caf\udce9"), "caf\udce9")
    world.ledger.settle("node#9", [Attempt(delivery, (said,))], wait=True)
    assert world.states() == {"Q1": "ready"}
    (entry,) = world.store.queue_list()
    assert (entry.last_reply, entry.remote) == ("451 4.3.0 no such folder: caf?", "caf?")


def test_settings_are_replaced_as_a_whole(world: World) -> None:
    world.queue("Q1")
    world.ledger.settings = Queue(retry=(Duration(1000),))
    due = world.ledger.settle("node#9", [Attempt(d, (GREYLISTED,)) for d in claim(world)], wait=True)
    assert due is not None
    assert 900 <= due - world.clock.now() <= 1100
