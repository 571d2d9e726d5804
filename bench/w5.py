"""W5: POP3, beside Dovecot: a large maildrop in one session, and many small ones at once."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from bench.errors import Failed
from bench.meter import metered
from bench.pop3_client import POP3Client, retrieve
from bench.server import MAILBOX, Peer, Server, Wanted, running
from bench.workload import OTHERS, Column, Options, Values, Workload

CELLS = ("1 × 10000", "1 × 100000", "50 × 200")
LISTS = 5  # how often login, STAT and UIDL are done; their median counts


def cells(options: Options) -> Sequence[str]:
    if not options.sessions and not options.messages:
        return CELLS
    return [f"{count} × {options.messages or 200}" for count in options.sessions or (1,)]


def maildrops(cell: str) -> Mapping[str, int]:
    """User → number of messages. They are named as smtp-source -r names recipients."""
    users, messages = map(int, cell.split(" × "))
    return {MAILBOX if number == 1 else f"{number}{MAILBOX}": messages for number in range(1, users + 1)}


def measure(peer: Peer, cell: str, _: Options) -> Iterable[tuple[str, Values]]:
    wanted = maildrops(cell)
    with running(peer, Wanted(maildrops=wanted)) as server, metered(server.tree) as meter:
        if len(wanted) == 1:
            values = _one(server, wanted)
        else:
            values = _all(server, wanted)
    retrieved = 2 * sum(wanted.values())
    yield (
        cell,
        {
            **values,
            "cpu": meter.server / retrieved * 1e3,
            "clients": meter.clients / retrieved * 1e3,
            "memory": meter.peak / 2**20,
            "others": meter.others,
        },
    )


def _one(server: Server, wanted: Mapping[str, int]) -> dict[str, float]:
    ((_, messages),) = wanted.items()
    first, *more = [_listed(server, messages) for _ in range(1 + LISTS)]
    return {
        "first": sum(first) * 1e3,
        "list": median(map(sum, more)) * 1e3,
        "uidl": median(uidl for _, uidl in more) * 1e3,
        **_all(server, wanted),
    }


def _listed(server: Server, messages: int) -> tuple[float, float]:
    """Seconds from connecting to the end of the login, and from there to the end of UIDL."""
    started = time.monotonic()
    client = POP3Client(server.pop3, MAILBOX)
    client.login()
    entered = time.monotonic()
    found, listed = client.stat()[0], client.uidl()
    ended = time.monotonic()
    client.quit()
    if (found, listed) != (messages, messages):
        raise Failed(f"STAT tells {found} messages, UIDL {listed}, and there are {messages}")
    return entered - started, ended - entered


def _all(server: Server, wanted: Mapping[str, int]) -> dict[str, float]:
    """Messages a second by RETR, all users at once, without and with pipelining; and what a login takes."""
    alone, logins = _retrieved(server, wanted, pipelined=False)
    pipelined, _ = _retrieved(server, wanted, pipelined=True)
    return {"login": logins * 1e3, "retr": alone, "pipelined": pipelined}


def _retrieved(server: Server, wanted: Mapping[str, int], *, pipelined: bool) -> tuple[float, float]:
    """Messages a second, and the seconds of a login, one after the other."""
    clients = [POP3Client(server.pop3, user) for user in wanted]
    started = time.monotonic()
    for client in clients:
        client.login()
    logins = time.monotonic() - started
    octets = sum(client.stat()[1] for client in clients)
    took, got = retrieve(list(zip(clients, wanted.values(), strict=True)), pipelined=pipelined)
    for client in clients:
        client.quit()
    if got != octets:
        raise Failed(f"STAT tells {octets} octets, RETR brought {got}")
    return sum(wanted.values()) / took, logins / len(wanted)


W5 = Workload(
    name="W5",
    title="POP3 of 4 KiB messages",
    peers=("dovecot", "mailserv"),
    columns=(
        Column("first", "first login+STAT+UIDL ms", 1),
        Column("list", "login+STAT+UIDL ms", 1, "less"),
        Column("uidl", "STAT+UIDL ms", 1, "less"),
        Column("login", "login ms", 1, "less"),
        Column("retr", "RETR/s", better="more"),
        Column("pipelined", "RETR pipelined/s", better="more"),
        Column("cpu", "CPU ms each", 2, "less"),
        Column("clients", "client's CPU ms", 2),
        Column("memory", "MiB"),
        OTHERS,
    ),
    cells=cells,
    measure=measure,
    notes=(
        "A cell is clients × messages in the maildrop of each, the same octets for both servers, put there before they "
        "start: as Dovecot's delivery agent names its files, and as `mailserv mailbox import` does. The first "
        "listing after the start of the server makes Dovecot's index; the other is the median of five more. STAT's "
        "octets are compared with what RETR brings. "
        "RETR is timed without the logins: Dovecot's passwords are plain text here, mailserv's are argon2id, which each "
        "account's first login pays and those of the next hour do not (docs/decisions/0029-a-right-password-is-known-again.md)."
    ),
)
