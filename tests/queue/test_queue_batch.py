"""One turn of a worker with one destination: what is claimed is settled, deferred or given back, and never lost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from queue_kit import DELIVERED, DROPPED_421, GREYLISTED, NET, REFUSED, UNREACHABLE, Script, World

from mailserv.errors import PluginError, StorageFull, StoreError, StoreUnavailable
from mailserv.mail.delivery import Attempt, Delivery
from mailserv.mail.outcome import Deferred, Delivered, Outcome
from mailserv.mail.reply import Reply
from mailserv.mail.route import Route
from mailserv.queue.batch import CLAIM_ROWS, LONGEST_PAUSE, SLOW, SYNC_EACH, speaks_for_host
from mailserv.queue.lanes import Turn
from mailserv.settings import Queue
from mailserv.store.interface import Store

OTHER = Route("smtp", "example.org")


def fill(world: World, count: int) -> list[str]:
    ids = [f"Q{number:05}" for number in range(count)]
    for queue_id in ids:
        world.queue(queue_id)
    return ids


def attempts(world: World) -> dict[str, int]:
    return {entry.queue_id: entry.attempts for entry in world.store.queue_list()}


def test_a_batch_is_delivered_over_one_call_in_the_order_of_age(world: World) -> None:
    ids = fill(world, 10)
    transport = Script()
    assert world.work(transport) is Turn.GOOD
    assert (transport.calls, transport.seen) == (1, ids)
    assert world.states() == {}


def test_recipients_of_one_message_come_together(world: World) -> None:
    world.queue("Q1", "a@example.net", "b@example.net", "c@example.org")
    seen: list[list[str]] = []

    def answer(delivery: Delivery) -> tuple[Outcome, ...]:
        seen.append([str(row.forward_path) for row in delivery.rows])
        return (DELIVERED, REFUSED)

    world.work(Script(answer))
    assert seen == [["a@example.net", "b@example.net"]]
    assert world.bouncer.failures == [("Q1", ["b@example.net"])]
    assert [entry.forward_path for entry in world.store.queue_list()] == ["c@example.org"]


def test_lesson_2_each_recipient_is_marked_before_the_next_message_is_tried(world: World) -> None:
    fill(world, 3)
    left: list[int] = []

    def answer(delivery: Delivery) -> Outcome:
        world.store.settle("nobody", [])  # waits for what was handed over before it
        left.append(len(world.store.queue_list()))
        return DELIVERED

    world.work(Script(answer))
    assert left == [3, 2, 1]


def test_while_the_connection_is_warm_the_next_claim_flows_in(world: World) -> None:
    fill(world, CLAIM_ROWS * 2 + 5)
    transport = Script()
    assert world.work(transport) is Turn.FULL
    assert (transport.calls, len(transport.seen)) == (1, CLAIM_ROWS * 2 + 5)


def test_another_destination_that_waits_is_served_first(world: World) -> None:
    fill(world, CLAIM_ROWS + 5)

    def answer(_: Delivery) -> Outcome:
        world.lanes.queued([OTHER])
        return DELIVERED

    assert world.work(Script(answer)) is Turn.FULL
    assert len(world.states()) == 5
    assert set(world.states().values()) == {"ready"}


def test_nothing_due_teaches_nothing_and_calls_no_transport(world: World) -> None:
    transport = Script()
    assert world.work(transport) is Turn.QUIET
    assert transport.calls == 0


def test_a_dead_host_is_tried_once_and_every_due_row_shares_the_attempt(world: World) -> None:
    fill(world, CLAIM_ROWS * 2 + 7)
    transport = Script(lambda _: UNREACHABLE)
    assert world.work(transport) is Turn.TROUBLED
    assert len(transport.seen) == 1
    assert set(world.states().values()) == {"ready"}
    assert set(attempts(world).values()) == {1}
    assert all(entry.not_before > world.clock.now() for entry in world.store.queue_list())
    assert all(entry.last_reply == "451 4.4.1 No answer" for entry in world.store.queue_list())


@pytest.mark.parametrize("count", [1, 2, CLAIM_ROWS + 3])
def test_a_server_that_cannot_reach_one_recipient_itself_speaks_of_no_other(world: World, count: int) -> None:
    """What a smarthost says that asks the next server at RCPT."""
    ids = fill(world, count)
    unreached = Deferred(Reply(451, "4.4.1", "No answer from the server of that domain"), "mx.example.net")
    assert world.work(Script(lambda each: unreached if each.queue_id == ids[0] else DELIVERED)) is not Turn.TROUBLED
    assert attempts(world) == {ids[0]: 1}
    world.queue("later")
    assert world.work(Script()) is Turn.GOOD, "nothing has been paused"


def test_stopping_after_such_words_leaves_the_others_untouched(world: World) -> None:
    ids = fill(world, 3)
    unreached = Deferred(Reply(451, "4.4.1", "No answer from the server of that domain"), "mx.example.net")

    def answer(_: Delivery) -> Outcome:
        world.lanes.stop()
        return unreached

    assert world.work(Script(answer)) is Turn.QUIET
    assert attempts(world) == {ids[0]: 1, ids[1]: 0, ids[2]: 0}


def test_a_dead_host_s_turn_ends_however_short_the_waits_are(world: World) -> None:
    claims: list[float] = []

    class Passing:
        """Time passes while the store works."""

        def __getattr__(self, name: str) -> Any:
            if name == "claim":
                claims.append(world.clock.now())
                assert len(claims) < 10, "it goes on for ever"
            if name == "settle":
                world.clock.advance(1)
            return getattr(world.store, name)

    world.settings = Queue(retry=(Queue().retry[0].__class__(0.1),))
    fill(world, 3)
    assert world.work(Script(lambda _: UNREACHABLE), store=Passing()) is Turn.TROUBLED  # type: ignore[arg-type]
    assert sorted(attempts(world).values()) == [1, 1, 2]  # what it was found out by was due again at once


def test_a_dead_host_s_old_messages_are_given_up_together(world: World) -> None:
    fill(world, 5)
    world.clock.advance(Queue().give_up)
    world.work(Script(lambda _: UNREACHABLE))
    assert world.states() == {}
    assert len(world.bouncer.failures) == 5
    assert world.bounces() == 5


def test_a_dead_host_rests_until_just_before_its_first_retry(world: World) -> None:
    fill(world, 1)
    world.work(Script(lambda _: UNREACHABLE))
    lane = world.lanes._lanes[NET]
    assert lane.paused_until == world.clock.now() + LONGEST_PAUSE
    assert (lane.allowed, lane.troubled) == (1, True)


def test_a_short_first_wait_makes_a_short_pause(world: World) -> None:
    world.settings = Queue(retry=(Queue().retry[0].__class__(10),))
    fill(world, 1)
    world.work(Script(lambda _: UNREACHABLE))
    assert world.lanes._lanes[NET].paused_until == world.clock.now() + 9


def test_a_destination_that_has_recovered_gets_its_connections_back_before_all_is_sent(world: World) -> None:
    world.queue("first")
    world.work(Script(lambda _: UNREACHABLE))
    world.clock.advance(LONGEST_PAUSE)
    fill(world, CLAIM_ROWS * 3)
    transport = Script()
    assert world.work(transport) is Turn.FULL
    assert len(transport.seen) == CLAIM_ROWS
    lane = world.lanes._lanes[NET]
    assert (lane.allowed, lane.troubled) == (2, False)
    world.work(transport)
    assert len(transport.seen) == CLAIM_ROWS * 3, "the next turn lasts as long as there is mail"


def test_a_421_after_progress_leaves_the_rest_untouched_until_the_pause_ends(world: World) -> None:
    ids = fill(world, 5)
    transport = Script(lambda delivery: DROPPED_421 if delivery.queue_id == ids[2] else DELIVERED)
    assert world.work(transport) is Turn.TROUBLED
    assert transport.seen == ids[:3]
    assert attempts(world) == {ids[2]: 1, ids[3]: 0, ids[4]: 0}
    due = {entry.queue_id: entry.not_before for entry in world.store.queue_list()}
    assert due[ids[3]] == world.clock.now() + LONGEST_PAUSE


def test_a_refused_message_does_not_stop_the_others(world: World) -> None:
    ids = fill(world, 3)
    world.work(Script(lambda delivery: REFUSED if delivery.queue_id == ids[0] else DELIVERED))
    assert world.states() == {}
    assert world.bouncer.failures == [(ids[0], ["one@example.net"])]


def test_a_greylisting_host_defers_each_message_by_itself(world: World) -> None:
    fill(world, 4)
    transport = Script(lambda _: GREYLISTED)
    assert world.work(transport) is Turn.QUIET
    assert len(transport.seen) == 4


def test_a_connection_that_is_used_up_is_followed_by_the_next(world: World) -> None:
    ids = fill(world, 7)
    transport = Script(at_most=3)
    assert world.work(transport) is Turn.GOOD
    assert (transport.calls, transport.seen) == (3, ids)


def test_a_connection_that_is_used_up_while_others_wait_gives_the_rest_back_due_now(world: World) -> None:
    ids = fill(world, 7)

    def answer(_: Delivery) -> Outcome:
        world.lanes.queued([OTHER])
        return DELIVERED

    assert world.work(Script(answer, at_most=3)) is Turn.GOOD
    assert attempts(world) == dict.fromkeys(ids[3:], 0)
    assert {entry.not_before for entry in world.store.queue_list()} == {world.clock.now()}


def test_a_host_that_refuses_everybody_is_asked_for_each_message(world: World) -> None:
    fill(world, 5)
    transport = Script(lambda _: REFUSED, at_most=1)
    assert world.work(transport) is Turn.GOOD
    assert transport.calls == 5
    assert len(world.bouncer.failures) == 5


def test_one_message_that_breaks_the_connection_does_not_hold_up_the_others(world: World) -> None:
    ids = fill(world, 4)
    poison = Script(lambda _: GREYLISTED, at_most=1)
    assert world.work(poison) is Turn.STUMBLED
    assert attempts(world) == {ids[0]: 1, ids[1]: 0, ids[2]: 0, ids[3]: 0}
    healthy = Script()
    assert world.work(healthy) is Turn.GOOD
    assert healthy.seen == ids[1:]


def test_two_broken_turns_in_a_row_mean_that_the_destination_is_dead(world: World) -> None:
    ids = fill(world, 4)
    broken = Script(lambda _: GREYLISTED, at_most=1)
    world.lanes.queued([NET])
    assert world.work(broken) is Turn.STUMBLED
    assert world.work(broken) is Turn.TROUBLED
    assert attempts(world) == dict.fromkeys(ids, 1)


def test_a_transport_that_takes_nothing_still_counts_so_that_mail_is_given_up_one_day(world: World) -> None:
    ids = fill(world, 3)
    assert world.work(Script(at_most=0)) is Turn.TROUBLED
    assert attempts(world) == dict.fromkeys(ids, 1)


def test_a_very_slow_destination_gets_one_connection(world: World) -> None:
    fill(world, 2)

    def answer(_: Delivery) -> Outcome:
        world.clock.advance(SLOW + 1)
        return DELIVERED

    assert world.work(Script(answer)) is Turn.TROUBLED
    assert world.states() == {}


def test_stopping_ends_after_the_message_at_hand_and_gives_the_rest_back(world: World) -> None:
    ids = fill(world, 5)

    def answer(delivery: Delivery) -> Outcome:
        if delivery.queue_id == ids[1]:
            world.lanes.stop()
        return DELIVERED

    assert world.work(Script(answer)) is Turn.QUIET
    assert attempts(world) == dict.fromkeys(ids[2:], 0)
    assert set(world.states().values()) == {"ready"}


class Liar:
    """Breaks a transport's promise in one way."""

    def __init__(self, how: str) -> None:
        self.how = how

    def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
        for delivery in deliveries:
            if self.how == "too few outcomes":
                yield Attempt(delivery, ())
            if self.how == "no outcome":
                yield Attempt(delivery, ("delivered",))  # type: ignore[arg-type]
            if self.how == "no reply":
                yield Attempt(delivery, (Deferred("later"),))  # type: ignore[arg-type]
            if self.how == "no remote":
                yield Attempt(delivery, (Delivered(DELIVERED.reply, None),))  # type: ignore[arg-type]
            if self.how == "no text":
                yield Attempt(delivery, (Deferred(Reply(451, "4.3.0", None)),))  # type: ignore[arg-type]
            if self.how == "twice":
                yield Attempt(delivery, (DELIVERED,))
                yield Attempt(delivery, (DELIVERED,))
            if self.how == "raises":
                raise ZeroDivisionError("a plugin's mistake")
            if self.how == "cannot read":
                raise StoreUnavailable("spool/Q00000: Input/output error")

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize(
    ("how", "error"),
    [
        ("too few outcomes", PluginError),
        ("no outcome", PluginError),
        ("no reply", PluginError),
        ("no remote", PluginError),
        ("no text", PluginError),
        ("twice", PluginError),
        ("silent", PluginError),
        ("cannot read", PluginError),
        ("raises", ZeroDivisionError),
    ],
)
def test_a_transport_that_breaks_its_promise_is_told_from_one_that_works(
    world: World, how: str, error: type[Exception]
) -> None:
    fill(world, 2)
    with pytest.raises(error):
        world.work(Liar(how))


class Failing:
    """The store, but for the calls that `fail` names: the n-th of each raises."""

    def __init__(self, store: Store, **fail: int) -> None:
        self.store = store
        self.fail = fail
        self.waited: list[bool] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.store, name)
        if name not in self.fail:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.waited.append(kwargs.get("wait", True))
            self.fail[name] -= 1
            if not self.fail[name]:
                raise StorageFull("no room")
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("number", [1, 2, 3])
def test_lesson_4_a_store_that_fails_to_settle_ends_the_batch_and_loses_nothing(world: World, number: int) -> None:
    ids = fill(world, 4)
    transport = Script()
    with pytest.raises(StoreError):
        world.work(transport, store=Failing(world.store, settle=number))  # type: ignore[arg-type]
    assert transport.seen == ids[:number]
    assert list(world.states()) == ids[number - 1 :]


def test_a_claim_that_fails_ends_the_batch_after_what_was_claimed_before(world: World) -> None:
    fill(world, CLAIM_ROWS + 3)
    transport = Script()
    with pytest.raises(StoreError):
        world.work(transport, store=Failing(world.store, claim=2))  # type: ignore[arg-type]
    assert len(transport.seen) == CLAIM_ROWS
    assert set(world.states().values()) == {"ready"}


def test_every_so_often_a_settlement_is_waited_for_so_that_a_sick_store_is_noticed(world: World) -> None:
    fill(world, SYNC_EACH * 2)
    store = Failing(world.store, settle=10_000)
    world.work(Script(), store=store)  # type: ignore[arg-type]
    assert [number for number, waited in enumerate(store.waited, 1) if waited] == [SYNC_EACH, SYNC_EACH * 2]


def test_an_iterator_without_close_is_a_transport_too(world: World) -> None:
    class Plain:
        def deliver(self, deliveries: Iterable[Delivery]) -> Iterator[Attempt]:
            return iter([Attempt(delivery, (DELIVERED,)) for delivery in deliveries])

        def close(self) -> None:
            """Nothing to close."""

    fill(world, 3)
    assert world.work(Plain()) is Turn.GOOD
    assert world.states() == {}


@pytest.mark.parametrize(
    ("reply", "speaks"),
    [
        (Reply(421, "4.7.0", "busy"), True),
        (Reply(451, "4.4.1", "no answer"), True),
        (Reply(451, "4.4.3", "no DNS"), True),
        (Reply(451, "4.4.2", "lost"), False),
        (Reply(450, "4.2.0", "mailbox busy"), False),
    ],
)
def test_only_some_failures_speak_for_the_whole_host(reply: Reply, speaks: bool) -> None:
    assert speaks_for_host(reply) is speaks
