"""W3: large messages into a mailbox: 10 MiB each, four at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from bench.errors import Failed
from bench.load import LOAD_SECONDS, Load, smtp_source
from bench.meter import metered
from bench.server import MAILBOX, Peer, Wanted, running
from bench.waiting import wait_until
from bench.workload import OTHERS, Column, Options, Values, Workload

OCTETS = 10 * 2**20
MESSAGES = 50
SESSIONS = (4,)


def cells(options: Options) -> Sequence[str]:
    return [str(sessions) for sessions in options.sessions or SESSIONS]


def measure(peer: Peer, cell: str, options: Options) -> Iterable[tuple[str, Values]]:
    load = Load(options.messages or MESSAGES, int(cell), reuse=True, octets=OCTETS)
    small = Load(2 * load.sessions, load.sessions, reuse=True)
    with running(peer, Wanted()) as server:
        smtp_source(server.smtp, MAILBOX, small)
        wait_until(lambda: server.delivered() == small.messages, LOAD_SECONDS, "the warm-up is in the mailbox")
        idle = server.tree.memory()
        with metered(server.tree) as meter:
            started = time.monotonic()
            accepted = smtp_source(server.smtp, MAILBOX, load)
            total = small.messages + load.messages
            wait_until(lambda: server.delivered() >= total, LOAD_SECONDS, f"all {load.messages} delivered")
            delivered = time.monotonic() - started
        if server.delivered() != total:
            raise Failed(f"{server.delivered()} messages are in the mailbox instead of {total}")
    megabytes = load.messages * OCTETS / 1e6
    yield (
        cell,
        {
            "accepted": megabytes / accepted,
            "delivered": megabytes / delivered,
            "above": (meter.peak - idle) / 2**20,
            "cpu": meter.server / load.messages * 1e3,
            "others": meter.others,
        },
    )


W3 = Workload(
    name="W3",
    title="10 MiB messages into a mailbox",
    peers=("postfix", "postfix-tuned", "haraka", "opensmtpd", "exim", "mailserv"),
    columns=(
        Column("accepted", "accepted MB/s", better="more"),
        Column("delivered", "in the mailbox MB/s", better="more"),
        Column("above", "MiB above idle", better="less"),
        Column("cpu", "CPU ms each", better="less"),
        OTHERS,
    ),
    cells=cells,
    measure=measure,
    notes="A cell is the number of sessions at once. Idle is after a few small messages.",
)
