"""W4: thousands of sessions that say nothing, and a client that comes in the middle of them."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from statistics import median

from bench.errors import Failed
from bench.figures import percentile
from bench.meter import metered
from bench.server import Peer, Server, Wanted, running
from bench.waiting import START_SECONDS
from bench.workload import OTHERS, Column, Options, Values, Workload

SESSIONS = (5000,)
PATIENCE = 5.0  # seconds that a client waits for its greeting
NEW_CLIENTS = 50


def cells(options: Options) -> Sequence[str]:
    return [str(sessions) for sessions in options.sessions or SESSIONS]


def measure(peer: Peer, cell: str, _: Options) -> Iterable[tuple[str, Values]]:
    count = int(cell)
    _allow_files(count + 1000)
    with running(peer, Wanted(sessions=count + 100)) as server, ExitStack() as sessions:
        _greeting(server, sessions)
        before = server.tree.memory()
        with metered(server.tree) as meter:
            started = time.monotonic()
            held = _hold(server, count, sessions)
            opened = time.monotonic() - started
            taken = server.tree.memory() - before
            waits = _new_clients(server)
        alive = sum(map(_answers, held))
    yield (
        cell,
        {
            "held": alive,
            "each": taken / 2**10 / max(1, len(held)),
            "greeting": median(waits) * 1e3 if waits else float("nan"),
            "worst": percentile(waits, 100) * 1e3,
            "opened": len(held) / opened,
            "others": meter.others,
        },
    )


def _allow_files(count: int) -> None:
    """For this process and those that it starts."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < count:
        raise Failed(f"no process may have {count} files open here (ulimit -Hn: {most})")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _hold(server: Server, count: int, sessions: ExitStack) -> list[socket.socket]:
    """So many sessions that were greeted and have said HELO; fewer when one waits for longer than PATIENCE."""
    held = []
    for _ in range(count):
        client, greeted = _greeting(server, sessions)
        if not greeted:
            break
        client.sendall(b"HELO idle.example.net\r\n")
        if not _reply(client).startswith(b"250"):
            break
        held.append(client)
    return held


def _greeting(server: Server, sessions: ExitStack) -> tuple[socket.socket, float]:
    """A new session and the seconds until its greeting; 0.0 when none came."""
    started = time.perf_counter()
    client = sessions.enter_context(closing(socket.create_connection(("127.0.0.1", server.smtp), START_SECONDS)))
    client.settimeout(PATIENCE)
    return client, time.perf_counter() - started if _reply(client).startswith(b"220") else 0.0


def _new_clients(server: Server) -> list[float]:
    """How long new clients wait for their greetings, one after another."""
    waits = []
    for _ in range(NEW_CLIENTS):
        with ExitStack() as session:
            client, waited = _greeting(server, session)
            if not waited:
                break
            waits.append(waited)
            client.sendall(b"QUIT\r\n")
            _reply(client)
    return waits


def _answers(client: socket.socket) -> bool:
    """Whether the session is still there."""
    try:
        client.sendall(b"NOOP\r\n")
    except OSError:
        return False
    return _reply(client).startswith(b"250")


def _reply(client: socket.socket) -> bytes:
    """One line; nothing when it does not come or the server has closed."""
    line = b""
    try:
        while not line.endswith(b"\r\n"):
            block = client.recv(4096)
            if not block:
                return b""
            line += block
    except OSError:
        return b""
    return line


W4 = Workload(
    name="W4",
    title="idle sessions",
    peers=("postfix", "haraka", "mailserv"),
    columns=(
        Column("held", "sessions held"),
        Column("each", "KiB each", 1, "less"),
        Column("greeting", "new client greeted ms", 2, "less"),
        Column("worst", "worst ms", 1),
        Column("opened", "opened/s"),
        OTHERS,
    ),
    cells=cells,
    measure=measure,
    notes=(
        "A cell is the number of clients that want to be greeted, say HELO, and then nothing; held are those that are "
        f"answered at the end. When one waits {PATIENCE:.0f} s for its greeting in vain, no more come. mailserv's limit of "
        "sessions is raised to their number. Postfix has one process for each, 100 by default. The memory of sockets, which is "
        "the kernel's, is not counted."
    ),
)
