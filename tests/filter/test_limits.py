"""Counters against floods, on a clock that the test owns."""

from __future__ import annotations

import threading

import pytest

from mailserv.filter import limits
from mailserv.filter.limits import ConnectionRate, LoginThrottle, SlidingCounter, client_key, network_key
from mailserv.testing.clock import FakeClock


@pytest.mark.parametrize(
    ("ip", "client", "network"),
    [
        ("192.0.2.200", "192.0.2.200/32", "192.0.2.0/24"),
        ("::ffff:192.0.2.200", "192.0.2.200/32", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("2001:DB8:1:2:FFFF::1", "2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("fe80::1%eth0", "fe80::/64", "fe80::/48"),
        ("no address", "no address/32", "no address/24"),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_64(ip: str, client: str, network: str) -> None:
    assert client_key(ip) == client
    assert network_key(ip) == network


def allowed(rate: ConnectionRate, ip: str, tries: int) -> int:
    return sum(rate.allows(ip) for _ in range(tries))


def test_so_many_connections_a_minute_and_no_more() -> None:
    clock = FakeClock()
    rate = ConnectionRate(120, clock)
    assert allowed(rate, "192.0.2.1", 500) == 120
    assert allowed(rate, "192.0.2.2", 500) == 120
    clock.advance(120)
    assert allowed(rate, "192.0.2.1", 500) == 120


def test_a_refused_connection_is_not_counted() -> None:
    clock = FakeClock()
    rate = ConnectionRate(60, clock)
    passed = 0
    for _ in range(600):
        passed += rate.allows("192.0.2.1")
        passed += rate.allows("192.0.2.1")
        clock.advance(1)
    assert 540 <= passed <= 600  # someone who hammers all the time still gets his 60 a minute


@pytest.mark.parametrize("offset", [0.0, 7.3, 19.9, 20.1, 31.0, 59.5])
def test_no_60_seconds_hold_more_than_the_limit(offset: float) -> None:
    clock = FakeClock()
    clock.advance(offset)
    rate = ConnectionRate(100, clock)
    times: list[float] = []
    for _ in range(1800):
        while rate.allows("192.0.2.1"):
            times.append(clock.monotonic())
        clock.advance(0.1)
    most = max(sum(start <= at < start + 60 for at in times) for start in times)
    assert 90 <= most <= 100


def test_one_ipv6_64_is_one_client_and_its_neighbour_another() -> None:
    rate = ConnectionRate(5, FakeClock())
    assert sum(rate.allows(f"2001:db8::{number:x}") for number in range(100)) == 5
    assert rate.allows("2001:db8:0:1::1")


def test_zero_is_no_limit() -> None:
    clock = FakeClock()
    assert allowed(ConnectionRate(0, clock), "192.0.2.1", 1000) == 1000
    throttle = LoginThrottle(0, 0, clock)
    for _ in range(1000):
        throttle.failed("192.0.2.1")
    assert throttle.allows("192.0.2.1")
    assert throttle.describe("192.0.2.1") == {"client": "192.0.2.1/32", "network": "192.0.2.0/24"}


def test_the_rate_says_what_it_counted() -> None:
    rate = ConnectionRate(5, FakeClock())
    allowed(rate, "192.0.2.1", 9)
    assert rate.describe("192.0.2.1") == {"client": "192.0.2.1/32", "connections_per_minute": 5, "limit": 5}


def failures_until_closed(throttle: LoginThrottle, ip: str, bound: int = 1000) -> int:
    for count in range(bound):
        if not throttle.allows(ip):
            return count
        throttle.failed(ip)
    return bound


def test_ten_failed_logins_a_minute_close_the_door_for_that_client() -> None:
    clock = FakeClock()
    throttle = LoginThrottle(10, 0, clock)
    assert failures_until_closed(throttle, "192.0.2.1") == 10
    assert throttle.allows("192.0.2.2")
    clock.advance(120)
    assert throttle.allows("192.0.2.1")


def test_fifty_failed_logins_a_day_close_it_for_the_day() -> None:
    clock = FakeClock()
    throttle = LoginThrottle(10, 50, clock)
    total = 0
    for _ in range(60):
        total += failures_until_closed(throttle, "192.0.2.1")
        clock.advance(600)
    assert total == 50
    clock.advance(2 * 86_400)
    assert throttle.allows("192.0.2.1")


@pytest.mark.parametrize("pattern", ["192.0.2.{}", "2001:db8:7:{:x}::1"])
def test_a_network_may_fail_three_times_as_often_as_one_client(pattern: str) -> None:
    throttle = LoginThrottle(10, 50, FakeClock())
    failures = 0
    for number in range(1, 101):
        ip = pattern.format(number)
        if throttle.allows(ip):
            throttle.failed(ip)
            failures += 1
    assert failures == 30
    assert throttle.allows("198.51.100.1")
    assert throttle.allows("2001:db8:8::1")


def test_a_login_that_succeeds_costs_nothing() -> None:
    throttle = LoginThrottle(1, 1, FakeClock())
    assert all(throttle.allows("192.0.2.1") for _ in range(100))


def test_the_throttle_says_what_it_counted() -> None:
    throttle = LoginThrottle(10, 50, FakeClock())
    throttle.failed("192.0.2.1")
    throttle.failed("192.0.2.1")
    throttle.failed("192.0.2.2")
    assert throttle.describe("192.0.2.1") == {
        "client": "192.0.2.1/32",
        "network": "192.0.2.0/24",
        "client_minute": 2,
        "network_minute": 3,
        "limit_minute": 10,
        "client_day": 2,
        "network_day": 3,
        "limit_day": 50,
    }


def test_memory_is_bounded_and_who_was_quiet_longest_is_forgotten() -> None:
    counter = SlidingCounter(60, capacity=100)
    for number in range(10_000):
        counter.add("busy", 1.0)
        counter.add(str(number), 1.0)
    assert len(counter) == 100
    assert counter.count("busy", 1.0) == 10_000
    assert counter.count("0", 1.0) == 0


def test_an_attacker_with_many_networks_fills_no_memory() -> None:
    rate = ConnectionRate(5, FakeClock())
    for number in range(limits.CAPACITY + 1000):
        rate.allows(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1")
    assert len(rate.counter) == limits.CAPACITY


def test_asking_remembers_nobody() -> None:
    counter = SlidingCounter(60)
    assert counter.count("192.0.2.1", 5.0) == 0
    assert len(counter) == 0


def test_many_threads_at_once_get_the_limit_between_them() -> None:
    rate = ConnectionRate(100, FakeClock())
    passed: list[int] = []
    threads = [threading.Thread(target=lambda: passed.append(allowed(rate, "192.0.2.1", 100))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 100
