"""W1: messages of 4 KiB into a mailbox."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from bench.errors import Failed
from bench.figures import percentile
from bench.load import LOAD_SECONDS, Load, probes, smtp_source
from bench.meter import metered
from bench.server import MAILBOX, Peer, Wanted, running
from bench.waiting import wait_until
from bench.workload import OTHERS, Column, Options, Values, Workload

CELLS = ("10 one", "50 one", "200 one", "10 many", "50 many")
MESSAGES = 4000


def cells(options: Options) -> Sequence[str]:
    if not options.sessions and not options.modes:
        return CELLS
    return [f"{count} {mode}" for mode in options.modes or ("one", "many") for count in options.sessions or (10, 50)]


def load_of(cell: str, messages: int) -> Load:
    sessions, mode = cell.split()
    return Load(messages, int(sessions), reuse=mode == "many")


def measure(peer: Peer, cell: str, options: Options) -> Iterable[tuple[str, Values]]:
    load = load_of(cell, options.messages or MESSAGES)
    with running(peer, Wanted(sessions=load.sessions + 50)) as server:
        first = load.warm_up()
        smtp_source(server.smtp, MAILBOX, first)
        wait_until(lambda: server.delivered() == first.messages, LOAD_SECONDS, "the warm-up is in the mailbox")
        with metered(server.tree) as meter:
            with probes(server.smtp, MAILBOX, load) as probed:
                started = time.monotonic()  # the probes run by now
                accepted = smtp_source(server.smtp, MAILBOX, load)
            total = load.messages + len(probed.seconds)
            wait_until(lambda: server.delivered() >= first.messages + total, LOAD_SECONDS, f"all {total} delivered")
            delivered = time.monotonic() - started
        if server.delivered() != first.messages + total:
            raise Failed(f"{server.delivered()} messages are in the mailbox instead of {first.messages + total}")
        yield (
            cell,
            {
                "accepted": total / accepted,
                "delivered": total / delivered,
                "p50": percentile(probed.seconds, 50) * 1e3,
                "p99": percentile(probed.seconds, 99) * 1e3,
                "cpu": meter.server / total * 1e3,
                "memory": meter.peak / 2**20,
                "clients": meter.clients / total * 1e3,
                "others": meter.others,
            },
        )


W1 = Workload(
    name="W1",
    title="4 KiB messages into a mailbox",
    peers=("postfix", "postfix-tuned", "haraka", "mailserv"),
    columns=(
        Column("accepted", "accepted/s", better="more"),
        Column("delivered", "in the mailbox/s", better="more"),
        Column("p50", "p50 ms", 1, "less"),
        Column("p99", "p99 ms", 1, "less"),
        Column("cpu", "CPU ms each", 2, "less"),
        Column("memory", "MiB"),
        Column("clients", "clients' CPU ms", 2),
        OTHERS,
    ),
    cells=cells,
    measure=measure,
    notes=(
        "A cell is the number of sessions at once, with one message each or many. The time to the mailbox goes on until "
        "the last message is there. p50 and p99, from MAIL to the 250 after the content, are those of a few sessions "
        "of our own beside smtp-source's, one for 25, which wait for each reply; all count as messages."
    ),
)
