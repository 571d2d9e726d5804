"""The queue at work, with its threads: it wakes when there is something to do, survives, stops, and loses nothing."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from queue_kit import BOB, DELIVERED, GREYLISTED, NET, REFUSED, UNREACHABLE, Script, World
from queue_running import WAIT, Running, eventually, running

from mailserv.clock import DAY
from mailserv.errors import StoreUnavailable
from mailserv.mail.delivery import Delivery
from mailserv.mail.outcome import Outcome
from mailserv.queue.dispatcher import FIRST_EXPIRY
from mailserv.queue.leases import LEASE
from mailserv.queue.workers import STORE_REST, Workers
from mailserv.settings import Duration, Queue
from mailserv.store.sqlite import open_store


def test_new_mail_is_delivered_at_once(world: World) -> None:
    with running(world, Script()) as queue:
        world.queue("Q1")
        queue.store.until(lambda: not world.states())
    assert world.events("Q1")[-1] == "delivered"


def test_what_waited_in_the_store_is_delivered_after_the_start(world: World) -> None:
    world.queue("Q1")
    world.queue("Q2", "two@example.com")
    with running(world, Script()) as queue:
        queue.store.until(lambda: not world.states())


def test_kill_point_remote_250_before_the_mark_the_message_is_delivered_again(world: World) -> None:
    world.queue("Q1")
    world.store.claim(NET, "node#5", world.clock.now(), world.clock.now() + LEASE, 10)  # killed here
    transport = Script()
    with running(world, transport) as queue:
        queue.store.until(lambda: not world.states())
    assert transport.seen == ["Q1"]


def test_kill_point_inside_the_making_of_a_bounce_nothing_is_marked_and_it_is_bounced_once(world: World) -> None:
    world.queue("Q1")
    world.bouncer.error = SystemExit()  # as if the process ended between making the bounce and the commit
    with pytest.raises(SystemExit):
        world.work(Script(lambda _: REFUSED))
    assert world.states() == {"Q1": "claimed"}
    assert world.bounces() == 0
    world.bouncer.error = None
    with running(world, Script(lambda _: REFUSED)) as queue:
        queue.store.until(lambda: not world.states())
    assert world.bounces() == 1


def test_a_deferred_message_is_tried_again_when_its_time_has_come(world: World) -> None:
    answers: list[Outcome] = [GREYLISTED, GREYLISTED, DELIVERED]
    transport = Script(lambda _: answers.pop(0))
    with running(world, transport) as queue:
        world.queue("Q1")
        queue.store.until(lambda: len(answers) == 2 and world.states() == {"Q1": "ready"})
        queue.tick(331)
        queue.store.until(lambda: len(answers) == 1 and world.states() == {"Q1": "ready"})
        queue.tick(991)
        queue.store.until(lambda: not world.states())
    assert [e for e in world.events("Q1") if e in {"deferred", "delivered"}] == ["deferred", "deferred", "delivered"]


def test_lesson_9_one_slow_host_never_blocks_another(world: World) -> None:
    stuck = threading.Event()

    def answer(delivery: Delivery) -> Outcome:
        if delivery.route.next_hop == "slow.example":
            assert stuck.wait(WAIT)
        return DELIVERED

    transport = Script(answer)
    with running(world, transport, Queue(workers=2)) as queue:
        for number in range(200):
            world.queue(f"S{number:03}", "x@slow.example")
        for number in range(5):
            world.queue(f"F{number}", "x@fast.example")
        queue.store.until(lambda: not [each for each in world.states() if each.startswith("F")])
        assert len(world.states()) == 200
        stuck.set()
        queue.store.until(lambda: not world.states())


def test_ten_thousand_messages_for_a_dead_host_cost_one_attempt(world: World) -> None:
    for number in range(500):
        world.queue(f"D{number:05}", "x@dead.example")
    transport = Script(lambda d: UNREACHABLE if d.route.next_hop == "dead.example" else DELIVERED)
    with running(world, transport) as queue:
        queue.store.until(lambda: all(e.attempts == 1 for e in world.store.queue_list()))
        world.queue("Q1")
        queue.store.until(lambda: "Q1" not in world.states())
    assert len([each for each in transport.seen if each.startswith("D")]) <= 2  # two workers may have begun at once


def test_a_plugin_s_exception_costs_its_message_a_retry_and_nobody_else_anything(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(delivery: Delivery) -> Outcome:
        if delivery.queue_id == "BAD":
            raise ZeroDivisionError("in a plugin")
        return DELIVERED

    for queue_id in ("BAD", "Q1", "Q2"):
        world.queue(queue_id)
    with running(world, Script(answer), Queue(workers=1)) as queue:
        queue.store.until(lambda: world.states() == {"BAD": "ready"})
    (entry,) = world.store.queue_list()
    assert (entry.attempts, entry.last_reply[:9]) == (1, "451 4.3.0")
    logged = capsys.readouterr().err
    assert "delivery_broke" in logged
    assert "ZeroDivisionError: in a plugin" in logged


def test_content_that_a_transport_cannot_read_costs_its_message_an_attempt(world: World) -> None:
    """A disk that fails for good: else nobody would ever give it up, and the others would rest with it."""

    def answer(delivery: Delivery) -> Outcome:
        if delivery.queue_id == "BAD":
            raise StoreUnavailable("spool/BAD: Input/output error")
        return DELIVERED

    for queue_id in ("BAD", "Q1"):
        world.queue(queue_id)
    with running(world, Script(answer), Queue(workers=1)) as queue:
        queue.store.until(lambda: world.states() == {"BAD": "ready"})
    (entry,) = world.store.queue_list()
    assert entry.attempts == 1


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, asyncio.CancelledError])
def test_a_transport_that_always_raises_does_not_spin(
    world: World, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    def answer(_: Delivery) -> Outcome:
        raise error

    for number in range(30):
        world.queue(f"Q{number:02}")
    transport = Script(answer)
    with running(world, transport, Queue(workers=1)) as queue:
        queue.store.until(lambda: all(e.attempts == 1 for e in world.store.queue_list()))
    assert transport.calls == 2
    assert capsys.readouterr().err.count("delivery_broke") == 2


def test_a_bouncer_that_raises_loses_neither_the_delivered_mark_nor_the_message(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.bouncer.error = ZeroDivisionError()
    world.queue("Q1", "good@example.net", "bad@example.net")
    with running(world, Script(lambda _: (DELIVERED, REFUSED))) as queue:
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
    assert [entry.forward_path for entry in world.store.queue_list()] == ["bad@example.net"]
    assert world.states() == {"Q1": "ready"}
    assert "delivery_broke" in capsys.readouterr().err


def test_a_worker_survives_what_goes_wrong_while_it_mends(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.queue("Q1")
    made = Running(world, {"smtp": Script()}, Queue(workers=1))
    made.store.fail = {"settle": [ZeroDivisionError(), ZeroDivisionError()]}
    made.dispatcher.start()
    made.store.until(lambda: made.store.calls.get("settle", 0) >= 2)
    eventually(lambda: made.dispatcher._lanes._idle == 1)
    assert world.states() == {"Q1": "claimed"}
    made.tick(LEASE + 2)
    made.store.until(lambda: not world.states())
    made.stop()
    assert "queue_worker_broke" in capsys.readouterr().err


def test_lesson_4_workers_survive_a_store_that_fails_and_go_on_after_a_rest(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    made = Running(world, {"smtp": Script()}, Queue(workers=1))
    made.store.fail = {"claim": [StoreUnavailable("disk I/O error")]}
    made.dispatcher.start()
    world.queue("Q1")
    made.store.until(lambda: made.store.calls.get("claim", 0) == 1)
    eventually(lambda: made.dispatcher._lanes._idle == 1)
    made.tick(STORE_REST)
    made.store.until(lambda: not world.states())
    made.stop()
    assert "queue_store_failed" in capsys.readouterr().err


def test_mail_for_a_transport_that_is_gone_waits_and_says_why(world: World) -> None:
    world.queue("Q1")
    with running(world, None) as queue:
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
    (entry,) = world.store.queue_list()
    assert (entry.state, entry.last_reply) == ("ready", "451 4.3.5 Transport smtp is not available")


def test_stop_lets_the_running_message_end_and_closes_the_transports(world: World) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(_: Delivery) -> Outcome:
        begun.set()
        assert go_on.wait(WAIT)
        return DELIVERED

    for number in range(3):
        world.queue(f"Q{number}")
    transport = Script(answer)
    made = Running(world, {"smtp": transport}, Queue(workers=2))
    made.dispatcher.start()
    assert begun.wait(WAIT)
    stopper = threading.Thread(target=made.stop)
    stopper.start()
    eventually(lambda: made.dispatcher._lanes.is_stopping)
    go_on.set()
    stopper.join(WAIT)
    assert transport.closed == 1
    assert world.states() == {"Q1": "ready", "Q2": "ready"}
    assert {entry.attempts for entry in world.store.queue_list()} == {0}


def test_stop_does_not_wait_past_its_deadline(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def answer(_: Delivery) -> Outcome:
        begun.set()
        assert go_on.wait(WAIT)
        return DELIVERED

    world.queue("Q1")
    transport = Script(answer)
    made = Running(world, {"smtp": transport}, Queue(workers=1))
    made.dispatcher.start()
    assert begun.wait(WAIT)
    made.stop(seconds=0)
    assert transport.closed == 0
    assert "queue_stopped_early" in capsys.readouterr().err
    go_on.set()
    made.stop()
    assert transport.closed == 1


def test_an_operator_s_wake_tries_a_dead_destination_again(world: World) -> None:
    answers: list[Outcome] = [UNREACHABLE, DELIVERED]
    with running(world, Script(lambda _: answers.pop(0))) as queue:
        world.queue("Q1")
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
        world.store.queue_retry(["Q1"], world.clock.now())
        queue.dispatcher.wake()
        queue.store.until(lambda: not world.states())


def test_a_command_s_retry_tries_a_dead_destination_again(world: World, tmp_path: Path) -> None:
    answers: list[Outcome] = [UNREACHABLE, DELIVERED]
    with running(world, Script(lambda _: answers.pop(0))) as queue:
        world.queue("Q1")
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
        command = open_store(tmp_path, world.clock, exclusive=False)
        command.queue_retry(["Q1"], world.clock.now())
        command.close()
        queue.store.until(lambda: not world.states())


def test_the_trace_expires_an_hour_after_the_start_and_then_daily(world: World) -> None:
    world.queue("Q1")
    with running(world, Script()) as queue:
        queue.store.until(lambda: not world.states())
        assert world.store.trace("Q1")
        queue.tick(FIRST_EXPIRY)
        queue.store.until(lambda: queue.store.calls.get("expire_trace") == 1)
        for _ in range(31):
            queue.tick(DAY)
            done = queue.store.calls["expire_trace"] + 1
            queue.store.until(lambda done=done: queue.store.calls["expire_trace"] == done)  # type: ignore[misc]
        queue.store.until(lambda: not world.store.trace("Q1"))


def test_a_chore_that_fails_is_tried_again_after_a_rest(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    with running(world, Script()) as queue:
        queue.store.fail = {"expire_trace": [StoreUnavailable("locked"), ZeroDivisionError()]}
        for expected in (1, 2, 3):
            queue.tick(FIRST_EXPIRY if expected == 1 else 61)
            queue.store.until(lambda n=expected: queue.store.calls.get("expire_trace") == n)  # type: ignore[misc]
            _settled(queue)
    logged = capsys.readouterr().err
    assert "queue_chore_failed" in logged
    assert "queue_dispatcher_broke" in logged


def _settled(queue: Running) -> None:
    """The dispatcher has come back to sleep."""
    lanes = queue.dispatcher._lanes
    eventually(lambda: lanes._asleep_until is not None)


def test_reloaded_waits_count_from_the_next_outcome_on(world: World) -> None:
    with running(world, Script(lambda _: GREYLISTED)) as queue:
        queue.dispatcher.reload(Queue(retry=(Duration(7000),)))
        world.queue("Q1")
        queue.store.until(lambda: [e.attempts for e in world.store.queue_list()] == [1])
    (entry,) = world.store.queue_list()
    assert entry.not_before - world.clock.now() >= 6300


def test_an_idle_queue_wakes_nobody(world: World) -> None:
    with running(world, Script()) as queue:
        _settled(queue)
        lanes = queue.dispatcher._lanes
        eventually(lambda: lanes._idle == 4)
        assert lanes._asleep_until == world.clock.now() + FIRST_EXPIRY


def test_fewer_threads_are_enough_and_none_is_an_error(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    class NoThread:
        ident = None

        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    desk = world.desk(Script())
    workers = Workers(desk, 3)
    workers._threads[2] = NoThread()  # type: ignore[call-overload]
    workers.start()
    assert "workers_missing" in capsys.readouterr().err
    world.lanes.stop()
    assert workers.join(world.clock.monotonic() + WAIT, world.clock)
    none = Workers(desk, 1)
    none._threads[0] = NoThread()  # type: ignore[call-overload]
    with pytest.raises(RuntimeError, match="new thread"):
        none.start()


def test_four_workers_deliver_everything_exactly_once(world: World) -> None:
    transport = Script()
    ids = [f"Q{number:04}" for number in range(300)]
    with running(world, transport) as queue:
        threads = [threading.Thread(target=lambda part: [world.queue(q, f"x@d{hash(q) % 3}.example") for q in part],
                                    args=(ids[start::6],)) for start in range(6)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        queue.store.until(lambda: not world.states())
    assert sorted(transport.seen) == ids
    assert BOB.domain == "example.org"
