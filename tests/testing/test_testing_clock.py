"""The clock of the test kit."""

from __future__ import annotations

import pytest

from mailserv.clock import Clock
from mailserv.testing.clock import FakeClock


def test_a_fake_clock_moves_only_when_told():
    clock: Clock = FakeClock(now=100.0)
    assert (clock.now(), clock.now()) == (100.0, 100.0)
    before = clock.monotonic()
    clock.advance(2.5)
    assert clock.now() == 102.5
    assert clock.monotonic() - before == 2.5


def test_monotonic_time_does_not_follow_a_corrected_date():
    clock = FakeClock(now=100.0)
    before = clock.monotonic()
    clock.set_now(50.0)
    assert clock.now() == 50.0
    assert clock.monotonic() == before


def test_time_does_not_go_back():
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)
