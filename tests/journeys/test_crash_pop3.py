"""docs/journeys/crash-pop3.md: kill -9 in the middle of RETR, DELE and QUIT; only a QUIT that was said deletes."""

from __future__ import annotations

import contextlib
import poplib
import random
import re
import select
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from reborn import Reborn

from mailserv.clock import SystemClock
from mailserv.mail.address import Address
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.store.passwords import hash_password
from mailserv.store.sqlite import open_store

KILLS = 50
ALICE = "alice@example.org"
PREFIX = b"Return-Path: <bob@example.net>\r\n"
CONFIG = """hostname = "mail.example.org"
data_dir = "data"
local_domains = ["example.org"]
postmaster = "alice@example.org"
limits = { sessions_per_ip = 0, connections_per_minute = 0 }
log = { level = "warning" }
[[listen]]
service = "pop3"
address = "127.0.0.1:0"
"""
HUGE = 8_000_000  # octets: more than kernels take from the server while the client does not read
PATIENCE = 20.0  # seconds
QUIT_TIME = 0.01  # seconds: what a QUIT that deletes takes at most, on a machine that has nothing else to do


def contents() -> list[bytes]:
    """The first is huge; of the others one in ten is larger than what the database keeps in its rows."""
    sizes = [HUGE, *(300_000 if number % 10 == 7 else 100 for number in range(1, 120))]
    line = b"all of it must be there, and nothing else\r\n"
    return [
        b"Subject: %d\r\n\r\n" % number + line * (size // len(line)) + b".\r\n" for number, size in enumerate(sizes)
    ]


def fill(data_dir: Path, mail: list[bytes]) -> None:
    store = open_store(data_dir, SystemClock())
    store.add_account(ALICE, hash_password("secret"), 0.0)
    for number, content in enumerate(mail):
        to_alice = MailboxDelivery(ALICE, ALICE, PREFIX)
        bob = Address("bob", "example.net")
        store.accept(Acceptance(f"Q{number:04}", bob, BytesContent(content), float(number), mailboxes=(to_alice,)))
    store.close()


def logged_in(server: Reborn) -> poplib.POP3:
    """In a new life: that the old one had the maildrop open is forgotten, so nobody hears [IN-USE]."""
    found = re.search(r"pop3=(\S+):(\d+)", server.begin())
    assert found
    client = poplib.POP3(found[1], int(found[2]), timeout=PATIENCE)
    client.user(ALICE)
    client.pass_("secret")
    return client


def unique_ids(client: poplib.POP3) -> list[str]:
    return [line.split()[1].decode() for line in client.uidl()[1]]


def mark_some(client: poplib.POP3, known: list[str], rng: random.Random) -> frozenset[str]:
    """Mark up to three messages; their unique-ids. Never the first, which is huge."""
    numbers = rng.sample(range(2, len(known) + 1), rng.randrange(1, 4))
    for number in numbers:
        client.dele(number)
    return frozenset(known[number - 1] for number in numbers)


@dataclass(frozen=True, slots=True)
class Struck:
    """What the client knows after the kill. `may_be_gone`: marked, and QUIT was sent; `is_gone`: it was answered, too."""

    moment: str
    may_be_gone: frozenset[str] = frozenset()
    is_gone: bool = False


Strike = Callable[[poplib.POP3, Reborn, list[str], random.Random], Struck]


def within_retr(client: poplib.POP3, server: Reborn, known: list[str], rng: random.Random) -> Struck:
    """After some octets of a message, while others are marked."""
    mark_some(client, known, rng)
    client.sock.sendall(b"RETR 1\r\n")
    client.file.read(rng.randrange(200_000))
    server.kill()
    assert not rest(client).endswith(b"\r\n.\r\n"), "all of the message was on its way already"
    return Struck("RETR")


def within_dele(client: poplib.POP3, server: Reborn, known: list[str], rng: random.Random) -> Struck:
    """After some of the answers to commands that were sent at once."""
    numbers = rng.sample(range(1, len(known) + 1), 20)
    client.sock.sendall(b"".join(b"DELE %d\r\n" % number for number in numbers))
    for _ in range(rng.randrange(len(numbers))):
        assert client.file.readline().startswith(b"+OK")
    server.kill()
    return Struck("DELE")


def within_quit(client: poplib.POP3, server: Reborn, known: list[str], rng: random.Random) -> Struck:
    """At a random moment of the time that the commit takes, or a little after it."""
    marked = mark_some(client, known, rng)
    client.sock.sendall(b"QUIT\r\n")
    select.select([client.sock], [], [], rng.random() * QUIT_TIME)
    server.kill()
    return Struck("QUIT", marked, is_gone=rest(client).startswith(b"+OK"))


def rest(client: poplib.POP3) -> bytes:
    """What had left the server when it died."""
    data = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.file.read1():
            data.append(part)
    return b"".join(data)


@contextmanager
def maildrop(folder: Path, mail: list[bytes]) -> Iterator[Reborn]:
    fill(folder / "data", mail)
    config = folder / "mailserv.toml"
    config.write_text(CONFIG)
    with Reborn(config) as server:
        yield server
        assert "level=error" not in "".join(server.printed)


@pytest.mark.crash
def test_crash_pop3_only_a_quit_that_was_said_deletes_and_all_or_nothing_of_what_was_marked(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    began = time.monotonic()
    rng = random.Random(1939)
    strikes: list[Strike] = [within_retr, within_dele, within_quit]
    seen: Counter[str] = Counter()
    mail = contents()
    with maildrop(tmp_path, mail) as server:
        client = logged_in(server)
        known = unique_ids(client)
        message_of = dict(zip(known, mail, strict=True))
        for kill in range(KILLS):
            struck = strikes[kill % len(strikes)](client, server, known, rng)
            client.close()
            client = logged_in(server)
            found = unique_ids(client)
            without = [unique_id for unique_id in known if unique_id not in struck.may_be_gone]
            assert found == without if struck.is_gone else found in (without, known), struck
            seen[f"{struck.moment}{' answered' * struck.is_gone}{', deleted' * (found != known)}"] += 1
            known = found
        for number, unique_id in enumerate(known, 1):
            assert b"\r\n".join([*client.retr(number)[1], b""]) == PREFIX + message_of[unique_id]
        client.quit()
        server.end()
    record_property("figures", f"POP3 crash test: {KILLS} kills, {dict(seen)}, {time.monotonic() - began:.1f} s")
