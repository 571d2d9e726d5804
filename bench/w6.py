"""W6: a queue that only grows: the next hop refuses every connection."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from bench.load import Load, smtp_source
from bench.meter import metered
from bench.server import ELSEWHERE, Peer, Server, Wanted, running
from bench.waiting import START_SECONDS, wait_until
from bench.workload import OTHERS, Column, Options, Values, Workload

MESSAGES = 1_000_000
FIRST = 1000
STANDARD = 10_000  # the decade up to here is what the others are compared with: the one before is over too soon
BATCH = 10_000
SESSIONS = 50
MIB = 2**20


def decades(messages: int) -> list[int]:
    """0, 1000, 10,000, … and the last one."""
    powers = [FIRST * 10**power for power in range(10)]
    return [0, *(power for power in powers if power < messages), messages]


def cells(options: Options) -> Sequence[str]:
    return [f"to {bound:,}" for bound in decades(options.messages or MESSAGES)[1:]]


def tasks(options: Options) -> Sequence[str]:
    """One server grows through all the cells."""
    return cells(options)[-1:]


def measure(peer: Peer, _: str, options: Options) -> Iterable[tuple[str, Values]]:
    sessions = (options.sessions or (SESSIONS,))[0]
    standard = math.nan
    with running(peer, Wanted(sessions=sessions + 50)) as server:
        for below, bound in pairwise(decades(options.messages or MESSAGES)):
            with metered(server.tree) as meter:
                batches = list(_batches(server, below, bound, sessions))
            rate = (bound - below) / sum(seconds for _, seconds in batches)
            standard = rate if bound <= STANDARD else standard
            rates = [count / seconds for count, seconds in batches]
            octets, wal = sizes(server.folder)
            yield (
                f"to {bound:,}",
                {
                    "rate": rate,
                    "relative": 100 * rate / standard,
                    "slowest": min(rates),
                    "cpu": 1e3 * meter.server / (bound - below),
                    "memory": meter.peak / MIB,
                    "files": octets / MIB,
                    "wal": wal / MIB,
                    "others": meter.others,
                },
            )
        wait_until(lambda: server.queued() == bound, START_SECONDS, f"exactly {bound} messages in the queue")


def _batches(server: Server, below: int, bound: int, sessions: int) -> Iterator[tuple[int, float]]:
    """Send in batches: how many, and the seconds each took."""
    for start in range(below, bound, BATCH):
        count = min(BATCH, bound - start)
        started = time.monotonic()
        smtp_source(server.smtp, ELSEWHERE, Load(count, sessions, reuse=True))
        yield count, time.monotonic() - started


def sizes(folder: Path) -> tuple[int, int]:
    """Octets of all its files, and those of SQLite's write-ahead log among them."""
    files = [(path.name, path.stat().st_size) for path in folder.rglob("*") if path.is_file()]
    return sum(size for _, size in files), sum(size for name, size in files if name.endswith("-wal"))


W6 = Workload(
    name="W6",
    title="4 KiB messages into a queue that grows",
    peers=("mailserv",),
    columns=(
        Column("rate", "accepted/s", better="more"),
        Column("relative", "of the rate to 10,000 %"),
        Column("slowest", f"slowest {BATCH:,}: /s"),
        Column("cpu", "CPU ms each", 2, "less"),
        Column("memory", "MiB"),
        Column("files", "files MiB"),
        Column("wal", "WAL MiB", 1),
        OTHERS,
    ),
    cells=cells,
    tasks=tasks,
    plot="rate",
    measure=measure,
    notes=(
        "One server, whose next hop refuses every connection, gets ever more messages from 50 sessions at once; a row is what "
        "came since the row above. At the end the queue is counted. Files are all that the server has written, its log too."
    ),
)
