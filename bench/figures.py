"""Medians, ranges, percentiles, ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """What several rounds say about one measure."""

    median: float
    least: float
    most: float

    @staticmethod
    def of(rounds: Sequence[float]) -> Figure:
        return Figure(median(rounds), min(rounds), max(rounds))


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest rank: the least value such that so many percent are not above it. NaN of nothing."""
    if not values:
        return math.nan
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def ratio(ours: float, theirs: float, better: str) -> float:
    """How many times better ours is; below 1 it is worse. NaN when it cannot be said."""
    over, under = (ours, theirs) if better == "more" else (theirs, ours)
    return over / under if under else math.nan
