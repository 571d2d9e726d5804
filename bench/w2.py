"""W2: messages of 4 KiB through the queue to the next hop, which is postfix's smtp-sink."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from bench.load import LOAD_SECONDS, smtp_source
from bench.meter import metered
from bench.server import ELSEWHERE, Peer, Wanted, running
from bench.sink import smtp_sink
from bench.w1 import MESSAGES, load_of
from bench.waiting import wait_until
from bench.workload import OTHERS, Column, Options, Values, Workload

CELLS = ("20 one", "20 many")


def cells(options: Options) -> Sequence[str]:
    if not options.sessions and not options.modes:
        return CELLS
    return [f"{count} {mode}" for mode in options.modes or ("one", "many") for count in options.sessions or (20,)]


def measure(peer: Peer, cell: str, options: Options) -> Iterable[tuple[str, Values]]:
    load = load_of(cell, options.messages or MESSAGES)
    with smtp_sink() as sink, running(peer, Wanted(next_hop=sink.port, sessions=load.sessions + 50)) as server:
        first = load.warm_up()
        smtp_source(server.smtp, ELSEWHERE, first)
        wait_until(lambda: sink.messages == first.messages, LOAD_SECONDS, "the warm-up is at the next hop")
        with metered(server.tree, sink.tree) as meter:
            started = time.monotonic()
            accepted = smtp_source(server.smtp, ELSEWHERE, load)
            total = first.messages + load.messages
            wait_until(lambda: sink.messages >= total, LOAD_SECONDS, f"all {load.messages} at the next hop")
            relayed = time.monotonic() - started
        sink.must_have(total)
    yield (
        cell,
        {
            "relayed": load.messages / relayed,
            "accepted": load.messages / accepted,
            "cpu": meter.server / load.messages * 1e3,
            "memory": meter.peak / 2**20,
            "clients": meter.clients / load.messages * 1e3,
            "others": meter.others,
        },
    )


W2 = Workload(
    name="W2",
    title="4 KiB messages through the queue to the next hop",
    peers=("postfix", "postfix-tuned", "haraka", "mailserv"),
    columns=(
        Column("relayed", "at the next hop/s", better="more"),
        Column("accepted", "accepted/s"),
        Column("cpu", "CPU ms each", 2, "less"),
        Column("memory", "MiB"),
        Column("clients", "clients' and sink's CPU ms", 2),
        OTHERS,
    ),
    cells=cells,
    measure=measure,
    notes=(
        "A cell is the number of sessions at once, with one message each or many; the next hop is smtp-sink, which counts. "
        "The time goes from the first connection until the last message is there. Haraka's queue is not synced."
    ),
)
