"""Which destination is next, and how many workers it may have."""

from __future__ import annotations

import threading

import pytest

from mailserv.mail.route import Route
from mailserv.queue.lanes import LONGEST_NAP, Lane, Lanes, Turn
from mailserv.testing.clock import FakeClock


def route(name: str) -> Route:
    return Route("smtp", name)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def lanes_of(clock: FakeClock, *, workers: int = 20, connections: int = 2) -> Lanes:
    return Lanes(clock, workers=workers, connections=connections)


def take(lanes: Lanes) -> Lane | None:
    """What a worker would get now, None if it would have to wait. The kit's own look under the lock."""
    with lanes._lock:
        return lanes._next()


def drain(lanes: Lanes) -> list[str]:
    names = []
    while (lane := take(lanes)) is not None:
        names.append(lane.route.next_hop)
    return names


def test_destinations_are_served_in_the_order_of_their_coming(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    for name in ("c", "a", "b", "a"):
        lanes.queued([route(name)])
    assert drain(lanes) == ["c", "a", "b"]


def test_a_destination_gets_more_workers_only_while_rows_are_due_and_only_up_to_its_limit(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    assert take(lanes) is None
    lanes.claimed(lane, lanes.news(lane), clock.now())  # the claim left due rows
    assert take(lanes) is lane
    lanes.claimed(lane, lanes.news(lane), clock.now())
    assert take(lanes) is None  # two are there
    lanes.release(lane, Turn.QUIET)
    assert take(lanes) is lane


def test_one_more_connection_after_each_full_batch_but_five_at_most(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    seen = []
    for _ in range(6):
        lanes.due_again(lane, clock.now())
        lanes.release(lane, Turn.FULL)
        assert take(lanes) is lane
        seen.append(lane.allowed)
    assert seen == [3, 4, 5, 5, 5, 5]


def test_who_wants_a_single_connection_never_gets_a_second_one(clock: FakeClock) -> None:
    lanes = lanes_of(clock, connections=1)
    lanes.queued([route("x")])
    lane = take(lanes)
    assert lane is not None
    lanes.release(lane, Turn.FULL)
    lanes.queued([route("x")])
    assert drain(lanes) == ["x"]
    lanes.queued([route("x")])
    assert drain(lanes) == []


def test_a_reload_changes_how_many_connections_there_may_be(clock: FakeClock) -> None:
    lanes = lanes_of(clock, connections=1)
    lanes.queued([route("x")])
    assert drain(lanes) == ["x"]
    lanes.queued([route("x")])
    assert drain(lanes) == []
    lanes.reload(3)
    lanes.queued([route("x"), route("y")])
    assert drain(lanes) == ["x", "y"], "a lane that is known gets more at once"
    lanes.queued([route("x")])
    assert drain(lanes) == ["x"]
    lanes.reload(1)
    lanes.queued([route("x"), route("z")])
    assert drain(lanes) == ["z"]


def test_trouble_brings_a_destination_down_to_one_connection_and_success_lets_it_grow_again(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    lanes.due_again(lane, clock.now())
    lanes.release(lane, Turn.TROUBLED)
    assert take(lanes) is lane
    assert (lane.allowed, lane.troubled) == (1, True)
    lanes.due_again(lane, clock.now())
    lanes.release(lane, Turn.GOOD)
    assert take(lanes) is lane
    assert (lane.allowed, lane.troubled) == (1, False)
    lanes.due_again(lane, clock.now())
    lanes.release(lane, Turn.FULL)
    assert lane.allowed == 2


def test_one_destination_never_gets_every_worker(clock: FakeClock) -> None:
    lanes = lanes_of(clock, workers=3, connections=5)
    lanes.queued([route("a")])
    taken = 0
    while (lane := take(lanes)) is not None:
        taken += 1
        lanes.claimed(lane, lanes.news(lane), clock.now())
    assert taken == 2


def test_a_single_worker_serves_everybody(clock: FakeClock) -> None:
    lanes = lanes_of(clock, workers=1)
    lanes.queued([route("a"), route("b")])
    assert len(drain(lanes)) == 2


def test_destinations_in_trouble_never_get_every_worker_together(clock: FakeClock) -> None:
    lanes = lanes_of(clock, workers=4)
    dead = [route(f"dead{number}") for number in range(6)]
    lanes.queued(dead)
    for _ in dead:
        lane = take(lanes)
        assert lane is not None
        lanes.due_again(lane, clock.now() + 60)
        lanes.release(lane, Turn.TROUBLED)
    clock.advance(61)
    lanes.sleep(clock.now())
    probing = [take(lanes) for _ in range(3)]
    assert None not in probing
    assert take(lanes) is None  # the fourth worker is kept
    lanes.queued([route("healthy")])
    healthy = take(lanes)
    assert healthy is not None
    assert healthy.route.next_hop == "healthy"
    first = probing[0]
    assert first is not None
    lanes.release(first, Turn.TROUBLED)
    assert take(lanes) is not None  # its place goes to the next one in trouble


def test_a_lane_that_recovers_while_others_work_on_it_frees_its_places(clock: FakeClock) -> None:
    lanes = lanes_of(clock, workers=4)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    lanes.claimed(lane, lanes.news(lane), clock.now())
    assert take(lanes) is lane
    lanes.release(lane, Turn.TROUBLED)
    assert lanes._troubled_running == 1
    lanes.claimed(lane, lanes.news(lane), None)
    lanes.release(lane, Turn.GOOD)
    assert lanes._troubled_running == 0


def test_what_is_not_due_waits_for_its_time(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.load([(route("later"), clock.now() + 300), (route("now"), clock.now())])
    assert drain(lanes) == ["now"]
    clock.advance(299)
    assert lanes.sleep(clock.now())
    assert drain(lanes) == []
    clock.advance(1)
    assert lanes.sleep(clock.now())
    assert drain(lanes) == ["later"]


def test_an_earlier_time_replaces_a_later_one(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.load([(route("a"), clock.now() + 300)])
    lanes.load([(route("a"), clock.now() + 100)])
    clock.advance(100)
    lanes.sleep(clock.now())
    assert drain(lanes) == ["a"]
    clock.advance(200)
    lanes.sleep(clock.now())
    assert drain(lanes) == []


def test_a_pause_holds_a_destination_back_whatever_is_due(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    lanes.pause(lane, clock.now() + 60)
    lanes.due_again(lane, clock.now() + 300)
    lanes.release(lane, Turn.TROUBLED)
    lanes.queued([route("a")])
    assert take(lanes) is None
    clock.advance(60)
    lanes.sleep(clock.now())
    assert take(lanes) is lane


def test_a_pause_that_comes_while_a_second_worker_is_called_sends_it_away(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    lanes.claimed(lane, lanes.news(lane), clock.now())  # now it waits for a second worker
    lanes.pause(lane, clock.now() + 60)
    assert take(lanes) is None
    assert not lane.waiting


def test_an_operator_ends_a_pause(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    lanes.pause(lane, clock.now() + 60)
    lanes.due_again(lane, clock.now())
    lanes.release(lane, Turn.TROUBLED)
    lanes.load([(route("a"), clock.now())])
    assert take(lanes) is None
    lanes.load([(route("a"), clock.now())], end_pauses=True)
    assert take(lanes) is lane


def test_news_that_comes_during_a_claim_is_not_lost(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    news = lanes.news(lane)
    lanes.queued([route("a")])  # committed after the claim looked, told before the claim returned
    lanes.claimed(lane, news, None)
    lanes.release(lane, Turn.GOOD)
    assert take(lanes) is lane


def test_a_deferral_by_one_worker_survives_an_older_claim_of_another(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    news = lanes.news(lane)
    lanes.due_again(lane, clock.now() + 300)
    lanes.claimed(lane, news, None)
    lanes.release(lane, Turn.GOOD)
    clock.advance(300)
    lanes.sleep(clock.now())
    assert take(lanes) is lane


def test_a_destination_without_rows_is_forgotten(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    lanes.claimed(lane, lanes.news(lane), None)
    assert lanes._lanes
    lanes.release(lane, Turn.GOOD)
    assert not lanes._lanes


def test_an_old_alarm_does_not_forget_the_new_lane_of_a_destination(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.load([(route("a"), clock.now() + 300)])
    lanes.queued([route("a")])
    old = take(lanes)
    assert old is not None
    lanes.claimed(old, lanes.news(old), None)
    lanes.release(old, Turn.GOOD)  # forgotten; its alarm is still set
    lanes.load([(route("a"), clock.now() + 400)])
    clock.advance(300)
    lanes.sleep(clock.now())
    assert lanes._lanes[route("a")] is not old
    clock.advance(100)
    lanes.sleep(clock.now())
    assert drain(lanes) == ["a"]


def test_a_worker_goes_on_with_its_destination_only_while_nobody_else_waits(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    lanes.queued([route("a")])
    lane = take(lanes)
    assert lane is not None
    assert lanes.may_go_on(lane)
    lanes.queued([route("b")])
    assert not lanes.may_go_on(lane)
    take(lanes)
    assert lanes.may_go_on(lane)
    lanes.pause(lane, clock.now() + 1)
    assert not lanes.may_go_on(lane)
    clock.advance(1)
    assert lanes.may_go_on(lane)
    lanes.stop()
    assert not lanes.may_go_on(lane)


def test_a_waiting_worker_is_woken_by_news_and_ended_by_stop(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    got: list[Lane | None] = []
    arrived = threading.Semaphore(0)

    def worker() -> None:
        for _ in range(2):
            got.append(lanes.take())
            arrived.release()

    thread = threading.Thread(target=worker)
    thread.start()
    lanes.queued([route("a")])
    assert arrived.acquire(timeout=10)
    lanes.stop()
    thread.join(10)
    assert [lane and lane.route.next_hop for lane in got] == ["a", None]


def test_sleep_ends_when_kicked_and_is_false_after_stop(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    answers: list[bool] = []
    done = threading.Semaphore(0)

    def dispatcher() -> None:
        while True:
            answers.append(lanes.sleep(None))
            done.release()
            if not answers[-1]:
                return

    thread = threading.Thread(target=dispatcher)
    thread.start()
    lanes.kick()
    assert done.acquire(timeout=10)
    lanes.kick(before=clock.now() + 5)
    assert done.acquire(timeout=10)
    lanes.stop()
    thread.join(10)
    assert answers[-1] is False
    assert lanes.is_stopping


def test_a_kick_for_later_than_the_alarm_changes_nothing(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    with lanes._lock:
        lanes._asleep_until = clock.now() + 10
    lanes.kick(before=clock.now() + 20)
    assert not lanes._kicked
    lanes.kick(before=clock.now() + 5)
    assert lanes._kicked


def test_with_something_scheduled_the_nap_is_bounded_because_the_date_may_be_set(clock: FakeClock) -> None:
    lanes = lanes_of(clock)
    waits: list[float | None] = []

    class Timer:
        def wait(self, timeout: float | None) -> bool:
            waits.append(timeout)
            return False

        def notify(self) -> None:
            waits.append(-1)

    lanes._timer = Timer()  # type: ignore[assignment]
    lanes.sleep(None)
    lanes.sleep(clock.now() + 5000)
    lanes.load([(route("a"), clock.now() + 5000)])
    lanes.sleep(None)
    assert waits == [None, 5000, -1, LONGEST_NAP]
