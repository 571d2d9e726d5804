"""What is due all the same: the machine's date was set back, or the host has another name than before."""

from __future__ import annotations

import threading

import pytest
from queue_kit import DELIVERED, GREYLISTED, NET, UNREACHABLE, Script, World
from queue_running import WAIT, eventually, running

from mailserv.clock import DAY
from mailserv.mail.delivery import Delivery
from mailserv.mail.outcome import Outcome
from mailserv.queue.lanes import LONGEST_NAP
from mailserv.queue.leases import LEASE, RENEW
from mailserv.settings import Queue
from mailserv.store.interface import Settlement


def test_what_a_former_life_by_another_name_had_claimed_is_delivered_when_its_lease_has_run_out(world: World) -> None:
    """The host's name has changed, as a container's does; and no other mail comes."""
    world.queue("Q1")
    world.store.claim(NET, "former#5", world.clock.now(), world.clock.now() + LEASE, 10)  # killed here
    with running(world, Script()) as queue:
        eventually(lambda: queue.dispatcher._lanes._asleep_until is not None)
        assert world.states() == {"Q1": "claimed"}
        queue.tick(LEASE + 2)
        queue.store.until(lambda: not world.states())


def put_off(world: World, until: float) -> None:
    """Deferred while the machine's date was ahead."""
    (delivery,) = world.store.claim(NET, "node#0", world.clock.now(), world.clock.now() + LEASE, 10)[0]
    world.store.settle("node#0", [Settlement(row, "ready", until, GREYLISTED.reply) for row in delivery.rows])


def test_after_a_start_no_row_waits_longer_than_the_longest_wait(world: World) -> None:
    longest = max(Queue().retry)
    for queue_id, wait in (("Q1", longest), ("Q2", 365 * DAY)):
        world.queue(queue_id)
        put_off(world, world.clock.now() + wait)
    with running(world, Script()) as queue:
        queue.store.until(lambda: list(world.states()) == ["Q1"])
    assert world.events("Q2")[-2:] == ["retried", "delivered"]


def test_when_the_date_is_set_back_what_was_put_off_and_what_rests_goes_on(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """A clock that was ahead by a year: a destination rested, a message was deferred, one came in."""
    now = world.clock.now()
    world.clock.set_now(now + 365 * DAY)
    answers: list[Outcome] = [UNREACHABLE]
    with running(world, Script(lambda _: answers.pop(0) if answers else DELIVERED)) as queue:
        world.queue("Q1")
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
        world.queue("Q2")
        world.clock.set_now(now)
        queue.tick(LONGEST_NAP)
        queue.store.until(lambda: not world.states())
    assert "queue_brought_forward" in capsys.readouterr().err


def test_when_the_date_is_set_back_a_living_batch_keeps_its_rows(world: World) -> None:
    now = world.clock.now()
    world.clock.set_now(now + 365 * DAY)
    begun, go_on = threading.Event(), threading.Event()

    def answer(_: Delivery) -> Outcome:
        begun.set()
        assert go_on.wait(WAIT)
        return DELIVERED

    world.queue("Q1")
    transport = Script(answer)
    with running(world, transport, Queue(workers=1)) as queue:
        assert begun.wait(WAIT)
        world.clock.set_now(now)
        queue.tick(1)
        queue.store.until(lambda: queue.store.calls.get("renew", 0) == 1)
        for expected in (2, 3, 4, 5):
            queue.tick(RENEW)
            queue.store.until(lambda n=expected: queue.store.calls.get("renew", 0) == n)  # type: ignore[misc]
        go_on.set()
        queue.store.until(lambda: not world.states())
    assert transport.seen == ["Q1"]


def test_a_date_that_is_far_ahead_for_a_while_has_nothing_given_up(world: World) -> None:
    """What waits would be too old at once, and its senders told that it is no longer tried."""
    right = world.clock.now()
    with running(world, Script(lambda _: GREYLISTED)) as queue:
        world.queue("Q1")
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
        world.clock.set_now(right + 365 * DAY)
        queue.tick(1)
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [2])
        assert world.states() == {"Q1": "ready"}
        world.clock.set_now(right + 600)
        queue.tick(LONGEST_NAP)
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [3])


def test_a_date_that_stays_ahead_is_the_right_one_after_a_day(world: World) -> None:
    with running(world, Script(lambda _: GREYLISTED)) as queue:
        world.queue("Q1")
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
        world.clock.set_now(world.clock.now() + 365 * DAY)
        queue.tick(1)
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [2])
        queue.tick(DAY + 1)
        queue.store.until(lambda: not world.states())


def test_what_plugins_keep_and_traces_outlive_a_date_that_is_far_ahead_for_a_while(world: World) -> None:
    right, table = world.clock.now(), world.store.plugin_table("greylist")
    table.put("known", "yes", right + 10 * DAY)
    with running(world, Script()) as queue:
        world.queue("Q1")
        queue.store.until(lambda: not world.states())
        world.clock.set_now(right + 365 * DAY)
        queue.tick(1)
        eventually(lambda: queue.dispatcher._expire_at > right + 365 * DAY)
    world.clock.set_now(right + DAY)
    assert table.get("known") == "yes"
    assert world.events("Q1")[-1] == "delivered"
