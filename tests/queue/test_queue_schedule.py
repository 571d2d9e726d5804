"""When to try again, when to give up, when to tell."""

from __future__ import annotations

import random

import pytest

from mailserv.queue.schedule import delay_notice_due, give_up_after, next_attempt, not_past_notice
from mailserv.settings import Queue

HOUR = 3600.0
RETRY = Queue().retry
GIVE_UP = Queue().give_up


class Middle(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(0, 5), (1, 15), (2, 30), (3, 60), (4, 120), (5, 240), (6, 240), (500, 240)]
)
def test_waits_grow_along_the_ladder_and_the_last_repeats(attempts: int, minutes: int) -> None:
    assert next_attempt(0, attempts, 1000, RETRY, GIVE_UP, Middle()) == 1000 + minutes * 60


def test_jitter_stays_within_a_tenth_and_is_not_always_the_same() -> None:
    rng = random.Random(7)
    waits = [next_attempt(0, 0, 0, RETRY, GIVE_UP, rng) for _ in range(300)]
    assert all(wait is not None and 270 <= wait <= 330 for wait in waits)
    assert len(set(waits)) > 290


def test_the_same_seed_gives_the_same_times() -> None:
    first, second = (next_attempt(0, 3, 9, RETRY, GIVE_UP, random.Random(5)) for _ in range(2))
    assert first == second


def test_the_last_attempt_is_made_when_the_time_to_give_up_has_come() -> None:
    almost = GIVE_UP - 60
    assert next_attempt(0, 30, almost, RETRY, GIVE_UP, Middle()) == GIVE_UP


@pytest.mark.parametrize("late", [0, 1, 1_000_000])
def test_after_the_time_to_give_up_there_is_no_next_attempt(late: float) -> None:
    assert next_attempt(50, 2, 50 + GIVE_UP + late, RETRY, GIVE_UP, Middle()) is None


def test_bounces_are_given_up_sooner() -> None:
    settings = Queue()
    assert give_up_after(settings, is_bounce=True) == settings.bounce_give_up < settings.give_up
    assert give_up_after(settings, is_bounce=False) == settings.give_up


@pytest.mark.parametrize(
    ("now", "notice", "due"), [(4 * HOUR, 4 * HOUR, True), (4 * HOUR - 1, 4 * HOUR, False), (9 * HOUR, 0, False)]
)
def test_a_delay_notice_is_due_after_its_time_and_never_when_switched_off(now: float, notice: float, due: bool) -> None:
    assert delay_notice_due(0, now, notice) is due


@pytest.mark.parametrize(
    ("at", "now", "notice", "expected"),
    [
        (7 * HOUR, 3 * HOUR, 4 * HOUR, 4 * HOUR),
        (3.5 * HOUR, 3 * HOUR, 4 * HOUR, 3.5 * HOUR),
        (7 * HOUR, 4 * HOUR, 4 * HOUR, 7 * HOUR),
        (7 * HOUR, 3 * HOUR, 0, 7 * HOUR),
    ],
)
def test_an_attempt_is_made_when_the_notice_falls_due_so_that_it_tells_fresh_news(
    at: float, now: float, notice: float, expected: float
) -> None:
    assert not_past_notice(at, 0, now, notice) == expected
