"""What a workload is to the rest of the benchmark."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from bench.server import Peer


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says; None or empty is the workload's own choice."""

    sessions: tuple[int, ...] = ()
    modes: tuple[str, ...] = ()
    messages: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """A measure: what it is called, how it is written, and whether more of it is better."""

    key: str
    title: str
    digits: int = 0
    better: Literal["more", "less", ""] = ""
    """With "more" or "less" the table has mailserv's ratio to each peer."""


OTHERS = Column("others", "CPU of others %")
"""How quiet the machine was: `meter.Meter.others`."""
Values = Mapping[str, float]
"""Measures by `Column.key`."""


@dataclass(frozen=True, slots=True)
class Workload:
    name: str
    title: str
    peers: tuple[str, ...]
    columns: Sequence[Column]
    cells: Callable[[Options], Sequence[str]]
    """The rows of its table, in order."""
    measure: Callable[[Peer, str, Options], Iterable[tuple[str, Values]]]
    """Measure a peer in one cell: rows and their measures, mostly this one. Failed when it cannot be done."""
    notes: str = ""
    """What one has to know to read its table."""
    plots: Sequence[str] = ()
    """The columns that are drawn, too."""
    pairs: Sequence[str] = ()
    """The columns whose difference is small beside what the machine does: it is told round by round, too."""
    tasks: Callable[[Options], Sequence[str]] | None = None
    """What `measure` is called with, where that is not each of the cells."""


@dataclass(slots=True)
class Results:
    """All that was measured: (cell, peer) → measures of each round; and what went wrong."""

    rounds: dict[tuple[str, str], list[Values]] = field(default_factory=dict)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    """Cell, peer, what happened."""

    def add(self, cell: str, peer: str, values: Values) -> None:
        self.rounds.setdefault((cell, peer), []).append(values)
