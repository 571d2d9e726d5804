"""Durations and sizes as people write them: "90s" "5m" "4h" "5d", "50MB" "64KiB"."""

from __future__ import annotations

import re

from mailserv.mail.values import Duration, Size

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_OCTETS = {
    "GiB": 2**30,
    "GB": 10**9,
    "MiB": 2**20,
    "MB": 10**6,
    "KiB": 2**10,
    "KB": 10**3,
    "B": 1,
}
_NUMBER_AND_UNIT = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]+)", re.ASCII)

MAX_DURATION = 36500 * 86400  # seconds; the waits of the system end at 2⁶³ nanoseconds, which is 292 years
MAX_SIZE = 10**18  # octets; whole numbers of the database end at 2⁶³

DURATION_FORM = 'a duration like "90s", "5m", "4h" or "5d"'
SIZE_FORM = 'a size like "50MB" (10⁶ octets) or "64KiB" (2¹⁰)'


def parse_duration(value: object) -> Duration:
    """Read a duration. Raises ValueError, whose message says what to write."""
    if isinstance(value, int | float) and _NUMBER_AND_UNIT.fullmatch(f"{value}s"):
        raise ValueError(f'a duration has a unit; write "{value}s" for seconds')
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {DURATION_FORM}")
    number, unit = match.groups()
    if unit not in _SECONDS:
        raise ValueError(f"{unit!r} is no unit of time: s, m, h or d")
    if (seconds := float(number) * _SECONDS[unit]) > MAX_DURATION:
        raise ValueError(f'a duration is at most 100 years, "{show_duration(MAX_DURATION)}"')
    return Duration(seconds)


def parse_size(value: object) -> Size:
    """Read a size; a plain whole number is octets. Raises ValueError, whose message says what to write."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return _bounded(value)
    match = _NUMBER_AND_UNIT.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"expected {SIZE_FORM}")
    number, unit = match.groups()
    octets = next((octets for name, octets in _OCTETS.items() if name.lower() == unit.lower()), None)
    if octets is None:
        raise ValueError(f"{unit!r} is no unit of size: B, KB, MB, GB, KiB, MiB or GiB")
    return _bounded(int(float(number) * octets))


def _bounded(octets: int) -> Size:
    if octets > MAX_SIZE:
        raise ValueError(f'a size is at most "{show_size(MAX_SIZE)}"')
    return Size(octets)


def show_duration(seconds: float) -> str:
    """The shortest form that `parse_duration` reads back as the same: 14400 → "4h"."""
    for unit, length in _SECONDS.items():
        if seconds >= length and seconds % length == 0:
            return f"{int(seconds // length)}{unit}"
    return f"{seconds:g}s"


def show_size(octets: int) -> str:
    """The shortest form that `parse_size` reads back as the same: 50000000 → "50MB"."""
    for unit, length in _OCTETS.items():
        if octets >= length and octets % length == 0:
            return f"{octets // length}{unit}"
    return f"{octets}B"
