"""Results as a table of Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bench.figures import Figure, percentile, ratio
from bench.workload import Column, Results, Workload

OURS = "mailserv"
BAR = 50
"""Characters of the longest bar of a plot."""


def table(workload: Workload, results: Results, cells: Sequence[str], peers: Sequence[str]) -> list[str]:
    """A row for each cell and peer that has figures."""
    rows = [["cell", "server", *(column.title for column in workload.columns)]]
    for cell in cells:
        for peer in peers:
            if (cell, peer) in results.rounds:
                rows.append([cell, peer, *_row(workload.columns, results, cell, peer)])
    return _markdown(rows)


def plot(column: Column, results: Results, cells: Sequence[str], peers: Sequence[str]) -> list[str]:
    """A bar for each cell and peer, the longest for the largest value of this column."""
    found = [(f"{cell}, {peer}", figure(results, cell, peer, column.key)) for cell in cells for peer in peers]
    values = {name: value.median for name, value in found if value}
    width = max(map(len, values), default=0)
    longest = max(values.values(), default=0) or 1
    return [
        column.title,
        *(
            f"{name.ljust(width)} {'█' * round(BAR * value / longest)} {value:,.{column.digits}f}"
            for name, value in values.items()
        ),
    ]


def _row(columns: Sequence[Column], results: Results, cell: str, peer: str) -> Iterator[str]:
    for column in columns:
        theirs = figure(results, cell, peer, column.key)
        ours = figure(results, cell, OURS, column.key)
        if theirs is None:
            yield ""
        elif column.better and ours and peer != OURS:
            yield f"{_written(theirs, column)} · {_times(ratio(ours.median, theirs.median, column.better))}"
        else:
            yield _written(theirs, column)


def paired(column: Column, results: Results, cells: Sequence[str], peers: Sequence[str]) -> Iterator[str]:
    """What each peer reached of ours in the same round: the median, and the middle half. Nothing where a round is missing."""
    for cell in cells:
        ours = [one.get(column.key, math.nan) for one in results.rounds.get((cell, OURS), [])]
        for peer in (each for each in peers if each != OURS):
            theirs = [one.get(column.key, math.nan) for one in results.rounds.get((cell, peer), [])]
            if ours and len(ours) == len(theirs):
                parts = [their / our for their, our in zip(theirs, ours, strict=True)]
                low, middle, high = (percentile(parts, percent) for percent in (25, 50, 75))
                yield (
                    f"Round by round, {column.title} of {peer} at {cell}: {middle:.3f} of mailserv's in the same round "
                    f"(the middle half of the rounds: {low:.3f}–{high:.3f})."
                )


def figure(results: Results, cell: str, peer: str, key: str) -> Figure | None:
    """The measure over all rounds; None when there is none."""
    values = [one[key] for one in results.rounds.get((cell, peer), []) if key in one and not math.isnan(one[key])]
    return Figure.of(values) if values else None


def _written(value: Figure, column: Column) -> str:
    middle = f"{value.median:,.{column.digits}f}"
    if value.least == value.most:
        return middle
    return f"{middle} ({value.least:,.{column.digits}f}–{value.most:,.{column.digits}f})"


def _times(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}×" if value < 10 else f"{value:.0f}×"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first row is the heading; the columns stand under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
