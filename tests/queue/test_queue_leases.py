"""Leases are renewed while a batch lives, and swept when it is gone."""

from __future__ import annotations

from queue_kit import NET, World

from mailserv.queue.leases import LEASE, RENEW, Leases


def claim(world: World, owner: str) -> int:
    found, _ = world.store.claim(NET, owner, world.clock.now(), world.leases.until(), 10)
    return len(found)


def test_a_living_batch_keeps_its_rows_however_long_it_takes(world: World) -> None:
    world.queue("Q1")
    owner = world.leases.open()
    assert claim(world, owner) == 1
    for _ in range(10):
        at = world.leases.next_at()
        assert at == world.clock.now() + RENEW
        world.clock.advance(RENEW)
        world.leases.work(world.clock.now())
        world.store.reclaim("", world.clock.now())
    assert world.states() == {"Q1": "claimed"}


def test_rows_that_a_batch_left_behind_are_ready_again_after_its_lease_although_others_work(world: World) -> None:
    world.queue("Q1")
    lost, busy = world.leases.open(), world.leases.open()
    assert claim(world, lost) == 1
    world.leases.close(lost)
    back = 0
    for _ in range(4):
        world.clock.advance(RENEW)
        back += world.leases.work(world.clock.now())
    assert back == 1
    assert world.states() == {"Q1": "ready"}
    world.leases.close(busy)


def test_a_batch_that_ended_between_two_sweeps_is_swept_too(world: World) -> None:
    world.queue("Q1")
    first = world.leases.open()
    world.leases.close(first)
    world.clock.advance(LEASE / 2)
    second = world.leases.open()
    claim(world, second)
    world.leases.close(second)
    world.clock.advance(LEASE / 2 + 1)
    assert world.leases.work(world.clock.now()) == 0
    again = world.leases.next_at()
    assert again is not None
    world.clock.set_now(again)
    assert world.leases.work(again) == 1
    assert world.leases.next_at() is None


def test_an_idle_queue_has_nothing_to_renew_or_sweep(world: World) -> None:
    assert world.leases.next_at() is None
    assert world.leases.work(world.clock.now()) == 0


def test_owners_differ_and_the_dispatcher_is_told_of_the_first_renewal(world: World) -> None:
    kicks: list[float] = []
    leases = Leases(world.store, world.clock, "node", kicks.append)
    owners = [leases.open(), leases.open()]
    assert owners == ["node#1", "node#2"]
    assert kicks == [world.clock.now() + RENEW] * 2


def test_a_new_life_takes_back_what_any_batch_of_the_former_one_had_claimed(world: World) -> None:
    world.queue("Q1")
    claim(world, world.leases.open())
    world.queue("Q2")
    world.store.claim(NET, "node2#1", world.clock.now(), world.leases.until(), 10)
    assert world.store.reclaim("node", world.clock.now()) == 1
    assert world.states() == {"Q1": "ready", "Q2": "claimed"}  # the other is another node's
