"""Growth: what new mail costs when there is much already, and how long it waits while much of it is deleted."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence

from bench.errors import Failed
from bench.figures import percentile
from bench.filling import Kind, fill_with
from bench.load import LOAD_SECONDS, Load, Probed, probes, smtp_source
from bench.meter import Meter, metered
from bench.pop3_client import POP3Client
from bench.server import MAILBOX, PATH, Peer, Server, Wanted, folder_of, started
from bench.waiting import wait_until
from bench.workload import OTHERS, Column, Options, Values, Workload

OTHER_BOX = f"2{MAILBOX}"
MESSAGES = 100_000
DOMAINS = 10_000
LOAD = Load(4000, 25, reuse=True)  # one probe


def cells(options: Options) -> Sequence[str]:
    count = options.messages or MESSAGES
    return [
        "empty",
        f"{DOMAINS:,} domains",
        f"a mailbox of {count:,}",
        f"while {count:,} are deleted by POP3",
        f"a queue of {count:,}",
        f"while {count:,} are dropped from the queue",
    ]


def tasks(_: Options) -> Sequence[str]:
    return ("domains", "messages")


def measure(peer: Peer, task: str, options: Options) -> Iterable[tuple[str, Values]]:
    empty, domains, mailbox, deleted, queue, dropped = cells(options)
    count = options.messages or MESSAGES
    load = Load(min(count, LOAD.messages), LOAD.sessions, reuse=True)
    wanted = Wanted(maildrops={MAILBOX: 0, OTHER_BOX: 0}, domains=DOMAINS if task == "domains" else 0)
    with folder_of(peer) as folder:
        with started(peer, folder, wanted) as server:
            yield domains if task == "domains" else empty, _new_mail(server, load)
        if task == "domains":
            return
        fill_with(Kind.KEPT, count, folder)
        with started(peer, folder, wanted) as server:
            yield mailbox, _new_mail(server, load)
            yield deleted, _while(server, lambda: _delete(server, count))
        fill_with(Kind.WAITING, count, folder)
        with started(peer, folder, wanted) as server:
            if (found := server.queued()) != count:
                raise Failed(f"{found} messages are in the queue instead of {count}")
            yield queue, _new_mail(server, load)
            yield dropped, _while(server, lambda: _drop(server))
            wait_until(lambda: server.queued() == 0, LOAD_SECONDS, "the queue is empty")


def _new_mail(server: Server, load: Load) -> Values:
    """A load into the other mailbox, after a small one."""
    smtp_source(server.smtp, OTHER_BOX, load.warm_up())
    with metered(server.tree) as meter, probes(server.smtp, OTHER_BOX, load) as probed:
        took = smtp_source(server.smtp, OTHER_BOX, load)
    count = load.messages + len(probed.seconds)
    return {"rate": count / took, "cpu": 1e3 * meter.server / count, **_values(meter, probed)}


def _while(server: Server, work: Callable[[], None]) -> Values:
    """Only the probe sends while the work is done."""
    started = time.monotonic()
    with metered(server.tree) as meter, probes(server.smtp, OTHER_BOX, LOAD) as probed:
        work()
        took = time.monotonic() - started
    return {"took": took, **_values(meter, probed)}


def _values(meter: Meter, probed: Probed) -> dict[str, float]:
    return {
        "p99": percentile(probed.seconds, 99) * 1e3,
        "worst": percentile(probed.seconds, 100) * 1e3,
        "memory": meter.peak / 2**20,
        "others": meter.others,
    }


def _delete(server: Server, count: int) -> None:
    client = POP3Client(server.pop3, MAILBOX)
    client.login()
    if (found := client.stat()[0]) != count:
        raise Failed(f"{found} messages are in the mailbox instead of {count}")
    client.delete(count)
    client.quit()
    wait_until(lambda: server.kept() == 0, LOAD_SECONDS, "what was deleted is gone (docs/decisions/0019)")


def _drop(server: Server) -> None:
    config = str(server.folder / "mailserv.toml")
    command = [sys.executable, "-m", "mailserv", "queue", "drop", "--all", "--config", config]
    subprocess.run(command, env={"PATH": PATH}, check=True, capture_output=True, timeout=LOAD_SECONDS)


GROWTH = Workload(
    name="growth",
    title="new mail when there is much already",
    peers=("mailserv",),
    columns=(
        Column("rate", "accepted/s"),
        Column("cpu", "CPU ms each", 2),
        Column("p99", "p99 ms", 1),
        Column("worst", "worst ms", 1),
        Column("took", "work took s", 1),
        Column("memory", "MiB"),
        OTHERS,
    ),
    cells=cells,
    tasks=tasks,
    measure=measure,
    plots=("cpu", "worst"),
    notes=(
        "4 KiB messages from 25 sessions at once into a mailbox of its own; while something is deleted, from one session "
        "until the last of it is gone from the database. What is there already, or deleted, was put in through the store "
        "(`bench/filling.py`) before the server was started, not by SMTP. "
        "p99 and worst are from MAIL to the 250 of that session's messages."
    ),
)
