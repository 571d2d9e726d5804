"""What an operator does to the queue, long queues included."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_kit import ALICE, BOB, CAROL, HOP, LARGE, count, spooled, to_mailbox, to_queue

from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.message import Acceptance, BytesContent, QueuedRecipient
from mailserv.mail.route import Route
from mailserv.store.interface import QueueEntry, Store
from mailserv.testing.clock import FakeClock


def states(store: Store) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in store.queue_list():
        found.setdefault(entry.queue_id, []).append(entry.state)
    return found


def events(store: Store, queue_id: str) -> list[str]:
    return [entry.event for entry in store.trace(queue_id)]


def test_the_list_shows_what_an_operator_asks_about(store: Store) -> None:
    store.accept(to_queue("Q1", Address("two words", "example.com"), at=50.0))
    store.accept(
        Acceptance("Q2", NULL_REVERSE_PATH, BytesContent(b"x"), 60.0, queued=(QueuedRecipient(CAROL, BOB, HOP),))
    )
    first, second = store.queue_list()
    assert first == QueueEntry(
        row_id=first.row_id,
        queue_id="Q1",
        state="ready",
        reverse_path="bob@example.net",
        forward_path='"two words"@example.com',
        route=HOP,
        size=26,
        received_at=50.0,
        not_before=50.0,
        attempts=0,
        last_reply="",
        login=ALICE,
    )
    assert (second.reverse_path, second.login) == ("", "")
    assert store.queue_list(["Q2", "unknown"]) == [second]


def test_a_long_queue_is_listed_in_pages(store: Store) -> None:
    for number in range(5):
        store.accept(to_queue(f"Q{number}"))
    page = store.queue_list(limit=2)
    assert [entry.queue_id for entry in page] == ["Q0", "Q1"]
    page = store.queue_list(after=page[-1].row_id, limit=2)
    assert [entry.queue_id for entry in page] == ["Q2", "Q3"]
    assert [entry.queue_id for entry in store.queue_list(after=page[-1].row_id)] == ["Q4"]
    assert [entry.queue_id for entry in store.queue_list(["Q1", "Q3"], after=page[0].row_id, limit=9)] == ["Q3"]


def test_retry_makes_ready_rows_due_and_calls_back(store: Store) -> None:
    for queue_id in ("Q1", "Q2"):
        store.accept(to_queue(queue_id, at=5000.0))
    calls: list[frozenset[Route]] = []
    store.on_queued(calls.append)
    assert store.queue_retry(["Q1", "unknown"], 1000.0) == 1
    assert calls == [frozenset({HOP})]
    deliveries, next_due = store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert ([each.queue_id for each in deliveries], next_due) == (["Q1"], 5000.0)
    assert events(store, "Q1") == ["retried", "accepted"]


@pytest.mark.parametrize(
    ("domain", "subdomains", "messages"),
    [
        ("far.example", False, ["Q1", "Q2"]),
        ("far.example", True, ["Q1", "Q2", "Q3"]),
        ("a.far.example", True, ["Q3"]),
        ("example", False, []),
        ("other.example", False, []),
    ],
)
def test_start_makes_the_ready_rows_of_a_domain_due_and_no_others(
    store: Store, domain: str, subdomains: bool, messages: list[str]
) -> None:
    quoted = Address("x@other.example", "far.example")
    store.accept(to_queue("Q1", Address("x", "far.example"), Address("y", "far.example"), Address("z", "x.example")))
    store.accept(to_queue("Q2", quoted))
    store.accept(to_queue("Q3", Address("x", "a.far.example")))
    store.accept(to_queue("Q4", Address("x", "notfar.example")))
    assert store.queue_start(domain, subdomains=subdomains, now=7.0) == len(messages)
    due = [(entry.queue_id, entry.forward_path) for entry in store.queue_list() if entry.not_before == 7.0]
    assert list(dict.fromkeys(queue_id for queue_id, _ in due)) == messages
    assert ("Q1", "z@x.example") not in due


def test_start_reaches_every_row_of_a_long_queue(store: Store) -> None:
    to = [Address(f"user{number}", "far.example") for number in range(120)]
    for number in range(2):
        store.accept(to_queue(f"Q{number}", *to))
    assert store.queue_start("far.example", subdomains=False, now=7.0) == 2
    assert {entry.not_before for entry in store.queue_list()} == {7.0}


def test_start_leaves_what_is_held_alone(store: Store) -> None:
    store.accept(to_queue("Q1", Address("x", "far.example")))
    store.queue_hold([])
    assert store.queue_start("far.example", subdomains=False, now=7.0) == 0


def test_held_rows_wait_for_their_release(store: Store, clock: FakeClock) -> None:
    store.accept(to_queue("Q1", CAROL, BOB))
    store.accept(to_queue("Q2"))
    assert store.queue_hold(["Q1"]) == 2
    assert states(store) == {"Q1": ["held", "held"], "Q2": ["ready"]}
    assert store.queue_hold(["Q1"]) == 0
    assert store.queue_retry([], 1000.0) == 1
    assert [each.queue_id for each in store.claim(HOP, "node", 2000.0, 3000.0, 10)[0]] == ["Q2"]
    assert store.queue_release([], 1000.0) == 2
    assert [each.queue_id for each in store.claim(HOP, "node", 1000.0, 3000.0, 10)[0]] == ["Q1"]
    (held,) = [entry for entry in store.trace("Q1") if entry.event == "held"]
    assert (held.at, held.detail) == (clock.now(), {"recipients": 2})


def test_dropping_takes_rows_content_and_file_but_not_the_trace(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("Q1", CAROL, BOB, content=BytesContent(b"x" * LARGE)))
    store.accept(to_queue("Q2"))
    store.queue_hold(["Q1"])
    assert store.queue_drop(["Q1"], 1000.0) == 2
    assert states(store) == {"Q2": ["ready"]}
    assert spooled(data_dir) == []
    assert count(data_dir, "message") == 1
    assert events(store, "Q1") == ["accepted", "held", "dropped"]


def test_what_is_being_delivered_is_left_alone(store: Store) -> None:
    store.accept(to_queue("Q1"))
    store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert (
        store.queue_hold([])
        == store.queue_drop([], 1.0)
        == store.queue_retry([], 1.0)
        == store.queue_release([], 1.0)
        == 0
    )
    assert states(store) == {"Q1": ["claimed"]}


def test_a_dropped_message_stays_in_the_mailbox_it_is_in(store: Store) -> None:
    both = to_queue("Q1")
    store.accept(Acceptance("Q1", BOB, both.content, 1.0, mailboxes=to_mailbox("Q1").mailboxes, queued=both.queued))
    assert store.queue_drop([], 1000.0) == 1
    assert store.read(store.maildrop(ALICE)[0]) is not None


@pytest.mark.parametrize("rows", [1, 49, 50, 51, 120])
def test_every_row_is_changed_across_the_small_transactions(store: Store, data_dir: Path, rows: int) -> None:
    recipients = [Address(f"user{number}", "example.com") for number in range(rows)]
    store.accept(to_queue("Q1", *recipients))
    store.accept(to_queue("Q2"))
    commits: list[frozenset[Route]] = []
    store.on_queued(commits.append)
    assert store.queue_hold(["Q1"]) == rows
    assert store.queue_release([], 1000.0) == rows
    assert len(commits) == -(-rows // 50)
    assert store.queue_counts() == {"ready": rows + 1, "claimed": 0, "held": 0, "quarantined": 0}
    assert store.queue_drop([], 1000.0) == rows + 1
    assert count(data_dir, "queue") == count(data_dir, "message") == 0


def test_an_empty_queue_is_no_trouble(store: Store) -> None:
    assert store.queue_list() == []
    assert store.queue_drop([], 1.0) == 0
    assert store.queue_counts() == {"ready": 0, "claimed": 0, "held": 0, "quarantined": 0}


def test_what_is_due_after_a_time_is_brought_forward_and_nothing_else(store: Store) -> None:
    to = [Address(f"user{number}", "far.example") for number in range(60)]
    for queue_id in ("Q1", "Q2", "Q3", "Q4"):
        store.accept(to_queue(queue_id, *to))
    store.queue_retry(["Q1"], 2000.0)
    store.queue_retry(["Q2", "Q3", "Q4"], 3000.0)
    store.queue_hold(["Q4"])
    assert store.queue_bring_forward(2000.0, 1000.0) == 2
    assert {entry.queue_id: entry.not_before for entry in store.queue_list()} == {
        "Q1": 2000.0,
        "Q2": 1000.0,
        "Q3": 1000.0,
        "Q4": 3000.0,
    }
    assert store.queue_bring_forward(2000.0, 1000.0) == 0


ELSEWHERE = Route("smtp", "[192.0.2.1]:587")


def test_rows_that_get_another_way_take_it_at_once(store: Store, clock: FakeClock) -> None:
    told: list[frozenset[Route]] = []
    store.accept(to_queue("Q1", at=clock.now() + 500))
    store.on_queued(told.append)
    assert store.queue_reroute([(store.queue_list()[0], ELSEWHERE)], clock.now()) == 1
    (entry,) = store.queue_list()
    assert (entry.route, entry.not_before) == (ELSEWHERE, clock.now())
    assert told == [frozenset({ELSEWHERE})]
    (event,) = (entry for entry in store.trace("Q1") if entry.event != "accepted")
    assert (event.event, event.detail) == ("rerouted", {"from": str(HOP), "to": str(ELSEWHERE)})


def test_what_is_held_stays_held_on_its_new_way(store: Store, clock: FakeClock) -> None:
    store.accept(to_queue("Q1", at=1.0))
    store.queue_hold(["Q1"])
    assert store.queue_reroute([(store.queue_list()[0], ELSEWHERE)], clock.now()) == 1
    (entry,) = store.queue_list()
    assert (entry.state, entry.route, entry.not_before) == ("held", ELSEWHERE, 1.0)


def test_what_has_changed_since_it_was_looked_at_is_not_rerouted(store: Store, clock: FakeClock) -> None:
    for queue_id in ("Q1", "Q2", "Q3"):
        store.accept(to_queue(queue_id, at=1.0))
    seen = store.queue_list()
    store.claim(HOP, "node", 10.0, 20.0, 1)
    store.queue_drop(["Q2"], clock.now())
    store.queue_reroute([(seen[2], Route("smtp", "third.example"))], clock.now())
    assert store.queue_reroute([(entry, ELSEWHERE) for entry in seen], clock.now()) == 0
    assert {entry.route for entry in store.queue_list()} == {HOP, Route("smtp", "third.example")}
