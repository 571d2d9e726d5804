"""The table, its page, and the store that must follow it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from queue_kit import NET, World

from mailserv.mail.route import Route
from mailserv.queue import state
from mailserv.queue.state import FINAL, LEFT_BEHIND, MEANING, NEXT_STATE, Event, State, after
from mailserv.store.interface import Settlement

PAGE = Path(__file__).parents[2] / "docs" / "queue-states.md"


def test_the_page_is_printed_from_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == state.page()


def test_every_state_says_what_it_means_and_what_a_crash_leaves() -> None:
    assert set(MEANING) == set(LEFT_BEHIND) == set(State)
    assert set(state.CAUSE) == set(Event)


def test_a_row_leaves_every_state_but_the_final_ones() -> None:
    leaving = {source for source, _ in NEXT_STATE}
    assert leaving == set(State) - FINAL


def test_every_state_can_be_reached_from_ready() -> None:
    reached, fresh = {State.READY}, {State.READY}
    while fresh:
        fresh = {to for (source, _), to in NEXT_STATE.items() if source in fresh} - reached
        reached |= fresh
    assert reached == set(State)


def test_only_a_claimed_row_is_ever_done_and_only_an_operator_fails_another() -> None:
    ends = {(source, event) for (source, event), to in NEXT_STATE.items() if to in {State.DONE, State.FAILED}}
    assert {source for source, event in ends if event is not Event.BOUNCE} == {State.CLAIMED}
    assert State.CLAIMED not in {source for source, event in ends if event is Event.BOUNCE}


def test_what_does_not_happen_is_an_error() -> None:
    with pytest.raises(KeyError):
        after(State.DONE, Event.CLAIM)


def _claim(world: World) -> None:
    world.store.claim(NET, "node#1", world.clock.now(), world.clock.now() + 600, 10)


def _settle(to: State) -> Callable[[World], None]:
    def settle(world: World) -> None:
        found = world.store.claim(NET, "node#1", world.clock.now(), world.clock.now() + 600, 10)[0]
        rows = found[0].rows
        world.store.settle("node#1", [Settlement(row, to, not_before=world.clock.now()) for row in rows])

    return settle


def _reclaim(world: World) -> None:
    world.store.reclaim("node", world.clock.now())


def _retry(world: World) -> None:
    world.store.queue_retry(["Q1"], world.clock.now())


def _hold(world: World) -> None:
    world.store.queue_hold(["Q1"])


def _release(world: World) -> None:
    world.store.queue_release(["Q1"], world.clock.now())


def _reroute(world: World) -> None:
    (entry,) = world.store.queue_list(["Q1"])
    world.store.queue_reroute([(entry, Route("smtp", "elsewhere.example"))], world.clock.now())


def _drop(world: World) -> None:
    world.store.queue_drop(["Q1"], world.clock.now())


def _bounce(world: World) -> None:
    delivery = world.store.queue_open("Q1")
    if delivery is not None:
        world.store.queue_give_up(delivery.rows, (), ())


DOINGS: list[tuple[State, Event, list[Callable[[World], None]]]] = [
    (State.READY, Event.CLAIM, [_claim]),
    (State.READY, Event.RETRY, [_retry]),
    (State.READY, Event.HOLD, [_hold]),
    (State.READY, Event.REROUTE, [_reroute]),
    (State.READY, Event.DROP, [_drop]),
    (State.READY, Event.BOUNCE, [_bounce]),
    (State.CLAIMED, Event.DELIVER, [_settle(State.DONE)]),
    (State.CLAIMED, Event.FAIL, [_settle(State.FAILED)]),
    (State.CLAIMED, Event.DEFER, [_settle(State.READY)]),
    (State.CLAIMED, Event.EXPIRE, [_claim, _reclaim]),
    (State.CLAIMED, Event.RETRY, [_claim, _retry]),
    (State.CLAIMED, Event.HOLD, [_claim, _hold]),
    (State.CLAIMED, Event.RELEASE, [_claim, _release]),
    (State.CLAIMED, Event.REROUTE, [_claim, _reroute]),
    (State.CLAIMED, Event.DROP, [_claim, _drop]),
    (State.CLAIMED, Event.BOUNCE, [_claim, _bounce]),
    (State.HELD, Event.CLAIM, [_hold, _claim]),
    (State.HELD, Event.RETRY, [_hold, _retry]),
    (State.HELD, Event.RELEASE, [_hold, _release]),
    (State.HELD, Event.REROUTE, [_hold, _reroute]),
    (State.HELD, Event.DROP, [_hold, _drop]),
    (State.HELD, Event.BOUNCE, [_hold, _bounce]),
]


@pytest.mark.parametrize(("source", "event", "doings"), DOINGS, ids=lambda value: str(value)[:12])
def test_invariant_2_the_store_follows_the_table(
    world: World, source: State, event: Event, doings: list[Callable[[World], None]]
) -> None:
    world.queue("Q1")
    for doing in doings:
        doing(world)
    expected = NEXT_STATE.get((source, event), source)
    found = world.states().get("Q1")
    assert found == (None if expected in FINAL else expected)
