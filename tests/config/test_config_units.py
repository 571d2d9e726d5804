"""Durations and sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailserv.config.units import parse_duration, parse_size, show_duration, show_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("4h", 14400), ("5d", 432000), ("0s", 0), ("1.5h", 5400), ("0.25s", 0.25), ("5 m", 300)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("value", ["", "5", "m", "-5m", "5M", "5 minutes", "1h30m", "٥m", 5, 2.5, True, None, ["5m"]])
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration|unit of time"):
        parse_duration(value)


@pytest.mark.parametrize("value", [-5, float("inf"), float("nan")])
def test_what_is_advised_can_be_written(value: float) -> None:
    with pytest.raises(ValueError, match="expected a duration like"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "octets"),
    [("50MB", 50_000_000), ("64KiB", 65536), ("1GiB", 2**30), ("1.5kb", 1500), ("10B", 10), (4096, 4096), (0, 0)],
)
def test_a_size_is_read_in_octets(value: object, octets: int) -> None:
    assert parse_size(value) == octets


@pytest.mark.parametrize("value", ["", "50", "MB", "-1MB", "5XB", "5 megabytes", -1, 1.5, False, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@given(st.integers(0, 10**7))
def test_a_shown_duration_reads_back_as_the_same(seconds: int) -> None:
    assert parse_duration(show_duration(seconds)) == seconds


@given(st.integers(0, 10**11))
def test_a_shown_size_reads_back_as_the_same(octets: int) -> None:
    assert parse_size(show_size(octets)) == octets


@pytest.mark.parametrize(("seconds", "text"), [(14400, "4h"), (432000, "5d"), (90, "90s"), (600, "10m"), (0, "0s")])
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds: float, text: str) -> None:
    assert show_duration(seconds) == text


@pytest.mark.parametrize(("octets", "text"), [(50_000_000, "50MB"), (65536, "64KiB"), (1, "1B"), (2**30, "1GiB")])
def test_a_size_is_shown_in_its_largest_whole_unit(octets: int, text: str) -> None:
    assert show_size(octets) == text
