"""W6: a queue that only grows: the next hop refuses every connection."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.errors import Failed
from bench.filling import Kind, fill_with
from bench.load import Load, smtp_source
from bench.meter import metered
from bench.server import ELSEWHERE, Peer, Server, Wanted, folder_of, running, started
from bench.workload import OTHERS, Column, Options, Values, Workload

DEPTHS = (0, 10_000, 100_000, 300_000, 1_000_000)
PROBE = Load(400, 50, reuse=True)
TURNS = 8  # probes of either server: many short ones, since the machine drifts between seconds
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Depth:
    """So many rows are queued, of which the last `due` are still to be tried: the queue works through them."""

    rows: int
    due: int = 0

    @property
    def cell(self) -> str:
        return f"{self.rows:,}, {self.due:,} being tried" if self.due else f"{self.rows:,}"


@dataclass(frozen=True, slots=True)
class Probe:
    """PROBE's seconds, those of CPU, the most octets of memory, and the percentage of others."""

    seconds: float
    cpu: float
    memory: int
    others: float


def depths(options: Options) -> list[Depth]:
    deepest = options.messages or DEPTHS[-1]
    rows = [*(rows for rows in DEPTHS if rows < deepest), deepest]
    return [*map(Depth, rows), Depth(deepest + deepest // 10, deepest // 10)]


def cells(options: Options) -> Sequence[str]:
    return [depth.cell for depth in depths(options)]


def tasks(options: Options) -> Sequence[str]:
    """One queue grows through all the cells."""
    return cells(options)[-2:-1]


def measure(peer: Peer, _: str, options: Options) -> Iterable[tuple[str, Values]]:
    wanted = Wanted(sessions=PROBE.sessions + 50)
    rows = 0
    first = math.nan
    with folder_of(peer) as folder:
        for depth in depths(options):
            if missing := max(0, depth.rows - rows):
                fill_with(Kind.DUE if depth.due else Kind.WAITING, missing, folder)
            rows += missing
            values, sent = _at(rows, peer, folder, wanted)
            rows += sent
            first = values["rate"] if math.isnan(first) else first
            yield depth.cell, {**values, "first": 100 * values["rate"] / first}


def _at(rows: int, peer: Peer, folder: Path, wanted: Wanted) -> tuple[Values, int]:
    """Start it on this queue, with an empty one beside it. What was measured, and how many messages it got."""
    with running(peer, wanted) as empty:
        began = time.monotonic()
        with started(peer, folder, wanted) as server:
            ready = time.monotonic() - began
            values, sent = _compared(server, empty)
            _count(server, rows + sent)
            _count(empty, sent)
            octets, wal = sizes(folder)
    return {**values, "ready": ready, "files": octets / MIB, "wal": wal / MIB}, sent


def _compared(server: Server, empty: Server) -> tuple[dict[str, float], int]:
    """Probe both in turn, and each turn in the other order, so that what else happens on the machine meets both alike.
    What was measured, and how many messages each got."""
    for each in (server, empty):
        smtp_source(each.smtp, ELSEWHERE, PROBE.warm_up())
    probes: list[Probe] = []
    beside: list[Probe] = []
    for turn in range(TURNS):
        pair = [(server, probes), (empty, beside)]
        for each, found in pair if turn % 2 == 0 else reversed(pair):
            found.append(_probe(each))
    count = TURNS * PROBE.messages
    values = {
        "rate": count / sum(probe.seconds for probe in probes),
        "empty": count / sum(probe.seconds for probe in beside),
        "relative": 100 * median(theirs.seconds / ours.seconds for ours, theirs in zip(probes, beside, strict=True)),
        "cpu": 1e3 * sum(probe.cpu for probe in probes) / count,
        "empty_cpu": 1e3 * sum(probe.cpu for probe in beside) / count,
        "relative_cpu": 100 * median(ours.cpu / theirs.cpu for ours, theirs in zip(probes, beside, strict=True)),
        "memory": max(probe.memory for probe in probes) / MIB,
        "others": sum(probe.others for probe in (*probes, *beside)) / (2 * TURNS),
    }
    return values, count + PROBE.warm_up().messages


def _probe(server: Server) -> Probe:
    with metered(server.tree) as meter:
        seconds = smtp_source(server.smtp, ELSEWHERE, PROBE)
    return Probe(seconds, meter.server, meter.peak, meter.others)


def _count(server: Server, rows: int) -> None:
    """Nothing leaves this queue, so it is exactly these. Raises Failed."""
    found = server.queued()
    if found != rows:
        raise Failed(f"{found} messages are in the queue instead of {rows}")


def sizes(folder: Path) -> tuple[int, int]:
    """Octets of all its files, and those of SQLite's write-ahead log among them."""
    files = [(path.name, path.stat().st_size) for path in folder.rglob("*") if path.is_file()]
    return sum(size for _, size in files), sum(size for name, size in files if name.endswith("-wal"))


W6 = Workload(
    name="W6",
    title="4 KiB messages into a queue that grows",
    peers=("mailserv",),
    columns=(
        Column("rate", "accepted/s"),
        Column("empty", "empty server: /s"),
        Column("relative", "rate, % of the empty one's"),
        Column("first", "% of the first row's"),
        Column("cpu", "CPU ms each", 2),
        Column("empty_cpu", "empty server: ms", 2),
        Column("relative_cpu", "CPU, % of the empty one's"),
        Column("memory", "MiB"),
        Column("files", "files MiB"),
        Column("wal", "WAL MiB", 1),
        Column("ready", "ready after s", 1),
        OTHERS,
    ),
    cells=cells,
    tasks=tasks,
    plots=("relative", "relative_cpu"),
    measure=measure,
    notes=(
        f"The next hop refuses every connection. **Only {TURNS} × {PROBE.messages} messages of each row are sent by SMTP, from "
        f"{PROBE.sessions} sessions at once; the rows in between are put in through the store** (`bench/filling.py`) while no "
        "server runs: accepted, and deferred once, as the queue would have done it. The server is then started on that "
        "queue, beside a fresh one whose queue is empty, and both get the same messages in turn: the percentages are medians "
        "of those turns, since from one row to the next the machine may be twice as fast. In the last row many messages are "
        "due at the start, and are claimed and deferred by the queue meanwhile. After each row the queue is counted. "
        "Files are all that the server has written, its log too."
    ),
)
