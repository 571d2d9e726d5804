"""The arithmetic of the benchmark."""

from __future__ import annotations

import math

import pytest

from bench.figures import Figure, percentile, ratio


def test_a_figure_is_median_and_range() -> None:
    assert Figure.of([30.0, 10.0, 20.0]) == Figure(20.0, 10.0, 30.0)
    assert Figure.of([1.0, 2.0]).median == 1.5


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 99, 99),
        (range(1, 101), 100, 100),
        ([7.0], 99, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([3.0, 1.0, 2.0], 1, 1.0),
    ],
)
def test_a_percentile_is_a_value_that_was_measured(values: list[float], percent: float, expected: float) -> None:
    assert percentile(list(values), percent) == expected


def test_of_nothing_there_is_no_percentile() -> None:
    assert math.isnan(percentile([], 99))


def test_a_ratio_above_one_means_that_ours_is_better() -> None:
    assert ratio(200.0, 100.0, "more") == 2.0
    assert ratio(5.0, 20.0, "less") == 4.0
    assert math.isnan(ratio(5.0, 0.0, "more"))
