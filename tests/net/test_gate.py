"""Who gets a session: limits in all, for each address, and room for the new when strangers only sit there."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest

from mailserv import metrics
from mailserv.mail import reply
from mailserv.mail.reply import Reply
from mailserv.net.census import Census
from mailserv.net.connection import Connection
from mailserv.net.gate import SHED_AFTER, STALLED_AFTER, Gate, GateLimits, Place
from mailserv.testing.clock import FakeClock

FAREWELL = reply.SHUTTING_DOWN


class Clients:
    """Connections as the gate knows them; the other ends stay open."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._pairs: list[tuple[socket.socket, socket.socket]] = []

    def connection(self) -> Connection:
        self._pairs.append(socket.socketpair())
        return Connection(self._pairs[-1][0], self._clock)

    def close(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def clients(clock: FakeClock) -> Iterator[Clients]:
    made = Clients(clock)
    yield made
    made.close()


def enter(gate: Gate, clients: Clients, ip: str = "192.0.2.1", service: str = "smtp") -> Place:
    place = gate.enter(ip, clients.connection(), service)
    assert isinstance(place, Place)
    return place


def test_one_more_than_the_limit_is_refused(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(2, 0), clock)
    first = enter(gate, clients)
    enter(gate, clients)
    assert gate.enter("192.0.2.9", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    gate.leave(first)
    enter(gate, clients)


def test_leaving_twice_counts_once(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(1, 0), clock)
    place = enter(gate, clients)
    gate.leave(place)
    gate.leave(place)
    enter(gate, clients)
    assert isinstance(gate.enter("192.0.2.1", clients.connection(), "smtp"), Reply)


def test_a_place_is_free_before_the_last_reply(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(1, 1), clock)
    place = enter(gate, clients)
    place.vacate()
    enter(gate, clients)
    gate.leave(place)
    assert isinstance(gate.enter("192.0.2.1", clients.connection(), "smtp"), Reply)


def test_one_address_cannot_take_all_places(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(100, 2), clock)
    enter(gate, clients, "192.0.2.1")
    place = enter(gate, clients, "192.0.2.1")
    assert gate.enter("192.0.2.1", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    enter(gate, clients, "192.0.2.2")
    gate.leave(place)
    enter(gate, clients, "192.0.2.1")


def test_one_v6_network_counts_as_one_address(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(100, 1), clock)
    enter(gate, clients, "2001:db8::1")
    assert gate.enter("2001:db8::2", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    enter(gate, clients, "2001:db8:0:1::1")


def test_an_address_over_its_rate_is_refused(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(100, 0), clock, lambda ip: ip == "192.0.2.1")
    assert gate.enter("192.0.2.1", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    enter(gate, clients, "192.0.2.2")


def test_the_oldest_idle_stranger_makes_room(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(3, 0), clock)
    engaged, idle, younger = (enter(gate, clients) for _ in range(3))
    assert engaged.begin() is None
    clock.advance(SHED_AFTER)
    enter(gate, clients, "192.0.2.7")
    assert idle.leave_with == reply.TOO_MANY_SESSIONS
    assert idle.connection.receive(5) == b""
    assert younger.leave_with is None
    assert engaged.leave_with is None


def test_nobody_is_shed_who_has_just_come(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(1, 0), clock)
    place = enter(gate, clients)
    clock.advance(SHED_AFTER - 0.1)
    assert gate.enter("192.0.2.7", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    assert place.leave_with is None


def test_nobody_is_shed_who_has_logged_in(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(1, 0), clock)
    place = enter(gate, clients)
    place.known = True
    assert place.begin() is None
    clock.advance(3600)
    assert gate.enter("192.0.2.7", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS


def test_nobody_is_shed_whose_content_is_coming(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(1, 0), clock)
    place = enter(gate, clients)
    assert place.begin() is None
    place.in_content = True
    clock.advance(3600)
    assert gate.enter("192.0.2.7", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS


def test_who_has_begun_mail_and_does_not_go_on_makes_room(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(2, 0), clock)
    logged_in, stalled = enter(gate, clients), enter(gate, clients)
    logged_in.known = True
    assert stalled.begin() is None
    clock.advance(STALLED_AFTER - 0.1)
    assert gate.enter("192.0.2.7", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    clock.advance(0.1)
    enter(gate, clients, "192.0.2.7")
    assert stalled.leave_with == reply.TOO_MANY_SESSIONS
    assert stalled.connection.receive(5) == b""  # in the middle of its transaction
    assert logged_in.leave_with is None


def test_an_idle_stranger_makes_room_before_one_who_has_begun_mail(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(2, 0), clock)
    stalled, idle = enter(gate, clients), enter(gate, clients)
    assert stalled.begin() is None
    clock.advance(3600)
    enter(gate, clients, "192.0.2.7")
    assert idle.leave_with is not None
    assert stalled.leave_with is None


@pytest.mark.parametrize("end", [Place.end, Place.content_ended], ids=["message", "chunk"])
def test_who_has_sent_a_content_lately_is_not_stalled(
    end: Callable[[Place], None], clock: FakeClock, clients: Clients
) -> None:
    gate = Gate(GateLimits(1, 0), clock)
    place = enter(gate, clients)
    for _ in range(5):
        place.begin()
        place.in_content = True
        end(place)
        clock.advance(STALLED_AFTER - 1)
        assert gate.enter("192.0.2.7", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    clock.advance(STALLED_AFTER)
    enter(gate, clients, "192.0.2.7")
    assert place.leave_with == reply.TOO_MANY_SESSIONS


def test_a_transaction_without_content_is_not_lately_sent_mail(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(1, 0), clock)
    place = enter(gate, clients)
    for _ in range(5):  # MAIL and RSET, again and again
        place.begin()
        place.end()
        clock.advance(STALLED_AFTER / 5)
    enter(gate, clients, "192.0.2.7")
    assert place.leave_with == reply.TOO_MANY_SESSIONS


def test_draining_wakes_the_idle_and_spares_the_busy(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(9, 0), clock)
    idle, busy = enter(gate, clients), enter(gate, clients)
    busy.begin()
    gate.drain(FAREWELL)
    assert idle.connection.receive(5) == b""
    with pytest.raises(TimeoutError):
        busy.connection.receive(0.01)
    busy.end()
    assert busy.leave_with == FAREWELL
    assert gate.enter("192.0.2.9", clients.connection(), "smtp") == FAREWELL


def test_a_transaction_cannot_begin_once_asked_to_leave(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(9, 0), clock)
    place = enter(gate, clients)
    gate.drain(FAREWELL)
    assert place.begin() == FAREWELL
    assert not place.busy


def test_stress_begins_when_most_places_are_taken(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(5, 0), clock)
    for _ in range(3):
        enter(gate, clients)
    assert not gate.is_stressed
    enter(gate, clients)
    assert gate.is_stressed


def test_abort_breaks_every_connection(clock: FakeClock, clients: Clients) -> None:
    gate = Gate(GateLimits(5, 0), clock)
    place = enter(gate, clients)
    gate.abort()
    assert place.connection.receive(5) == b""
    with pytest.raises(OSError, match="Broken pipe"):
        place.connection.send(b"x", 5)


def test_processes_share_the_limit(clock: FakeClock, clients: Clients) -> None:
    census = Census(2)
    one, other = (Gate(GateLimits(3, 0), clock, seat=census.of(index)) for index in range(2))
    enter(one, clients)
    place = enter(other, clients)
    enter(one, clients)
    assert one.enter("192.0.2.9", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    assert other.enter("192.0.2.9", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    other.leave(place)
    enter(one, clients)
    assert one.is_stressed
    assert other.is_stressed


def test_processes_share_the_limit_of_an_address(clock: FakeClock, clients: Clients) -> None:
    census = Census(2)
    one, other = (Gate(GateLimits(100, 2), clock, seat=census.of(index)) for index in range(2))
    place = enter(one, clients)
    enter(other, clients)
    assert other.enter("192.0.2.1", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    one.leave(place)
    enter(other, clients)
    enter(one, clients, "192.0.2.2")


def test_the_sessions_of_a_process_end_with_it(clock: FakeClock, clients: Clients) -> None:
    census = Census(2)
    one, killed = (Gate(GateLimits(2, 1), clock, seat=census.of(index)) for index in range(2))
    enter(killed, clients, "192.0.2.1")
    enter(killed, clients, "192.0.2.2")
    assert one.enter("192.0.2.3", clients.connection(), "smtp") == reply.TOO_MANY_SESSIONS
    census.clear(1)
    enter(one, clients, "192.0.2.1")
    enter(one, clients, "192.0.2.2")


def test_prometheus_hears_how_many_sessions_each_service_has(clock: FakeClock, clients: Clients) -> None:
    gates = [Gate(GateLimits(9, 0), clock) for _ in range(2)]  # of two servers in one process
    gates[0].services |= {"gate-a", "gate-b", "gate-c"}
    places = [enter(gate, clients, service=service) for gate in gates for service in ("gate-a", "gate-b")]
    places[0].vacate()
    [family] = metrics.SESSIONS.collect()
    found = {sample.labels["service"]: sample.value for sample in family.samples}
    assert {name: value for name, value in found.items() if name.startswith("gate-")} == {
        "gate-a": 1,
        "gate-b": 2,
        "gate-c": 0,
    }
