"""What plugins without an opinion cost: messages a second with some of them, and with none.

    .venv/bin/python bench/plugins.py --help

The server is the real one, with its fsync; clients are a process of their own. Rounds take turns and the best one of each
counts: what else runs on the machine only ever makes one worse. The server's CPU time for each message is the quieter
measure. They are compared with the same server without a plugin; docs/decisions/0015 has the reasons.
"""

# ruff: noqa: ARG002 - a hook is called with what its specification says, used or not
from __future__ import annotations

import argparse
import multiprocessing
import socket
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection

from mailserv import hookimpl
from mailserv.mail.address import Address
from mailserv.mail.envelope import Envelope
from mailserv.mail.message import Content
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import Services
from mailserv.testing.server import mail_server

ALLOWED_LOSS = 0.10
CONTENT = b"Subject: hello\r\n\r\n" + b"A line of text that says nothing in particular.\r\n" * 40 + b".\r\n"


class Quiet:
    """Listens to everything that a session says and has no opinion."""

    def __init__(self, settings: None, services: Services) -> None:
        self._name = services.name

    @hookimpl
    def smtp_connect(self, peer: Peer) -> None:
        return None

    @hookimpl
    def smtp_helo(self, peer: Peer) -> None:
        return None

    @hookimpl
    def smtp_mail(self, peer: Peer, envelope: Envelope) -> None:
        return None

    @hookimpl
    def smtp_rcpt(self, peer: Peer, envelope: Envelope, forward_path: Address) -> None:
        return None

    @hookimpl
    def smtp_data(self, peer: Peer, envelope: Envelope) -> None:
        return None

    @hookimpl
    def message_check(self, peer: Peer, envelope: Envelope, content: Content) -> None:
        return None

    @hookimpl
    def message_accepted(self, queue_id: str, peer: Peer, envelope: Envelope) -> None:
        return None


def quiet(count: int, *, inline: bool) -> list[type]:
    """So many plugins, each with a name of its own."""
    return [type(f"Quiet{number}", (Quiet,), {"inline": inline}) for number in range(count)]


def send(address: tuple[str, int], messages: int) -> None:
    """One session, each command after the reply to the one before, as most clients do."""
    with socket.create_connection(address) as client, client.makefile("rb") as replies:

        def expect(digit: bytes) -> None:
            line = replies.readline()
            while line[3:4] == b"-":
                line = replies.readline()
            if line[:1] != digit:
                raise SystemExit(f"the server said {line!r}")

        expect(b"2")
        for command in [b"EHLO client.example.net", *[b""] * messages]:
            if command:
                client.sendall(command + b"\r\n")
                expect(b"2")
                continue
            for line, digit in (
                (b"MAIL FROM:<a@example.net>\r\n", b"2"),
                (b"RCPT TO:<alice@example.org>\r\n", b"2"),
                (b"DATA\r\n", b"3"),
                (CONTENT, b"2"),
            ):
                client.sendall(line)
                expect(digit)
        client.sendall(b"QUIT\r\n")
        expect(b"2")


def clients(orders: Connection, sessions: int, messages: int) -> None:
    """The process of the clients: for each address that comes in, the seconds that all sessions together took."""
    while (address := orders.recv()) is not None:
        threads = [threading.Thread(target=send, args=(address, messages)) for _ in range(sessions)]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        orders.send(time.perf_counter() - started)


def measure(orders: Connection, plugins: Sequence[type], messages: int) -> tuple[float, float]:
    """Seconds and the server's CPU seconds for each message."""
    with mail_server(services=("smtp",), plugins=plugins) as server:
        used = time.process_time()
        orders.send(server.address("smtp"))
        taken: float = orders.recv()
        return taken / messages, (time.process_time() - used) / messages


def main() -> None:
    parser = argparse.ArgumentParser(description="Throughput with plugins that have no opinion, against none.")
    parser.add_argument("--plugins", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=8, help="at once")
    parser.add_argument("--messages", type=int, default=150, help="in each session")
    parser.add_argument("--rounds", type=int, default=9)
    wanted = parser.parse_args()
    servers: dict[str, list[type]] = {
        "no plugin": [],
        f"{wanted.plugins} inline": quiet(wanted.plugins, inline=True),
        f"{wanted.plugins} on helper threads": quiet(wanted.plugins, inline=False),
    }
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=clients, args=(theirs, wanted.sessions, wanted.messages), daemon=True
    )
    process.start()
    total = wanted.sessions * wanted.messages
    measure(ours, [], total)  # the first one warms up
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    for _ in range(wanted.rounds):
        for name, plugins in servers.items():
            found[name].append(measure(ours, plugins, total))
    ours.send(None)
    process.join()
    show({name: (min(wall for wall, _ in each), min(cpu for _, cpu in each)) for name, each in found.items()})


def show(best: dict[str, tuple[float, float]]) -> None:
    """A line for each server; the first is what the others are compared with."""
    bare, bare_cpu = next(iter(best.values()))
    print(f"{'':22} {'messages/s':>10} {'ratio':>6} {'CPU µs':>7} {'ratio':>6}")
    for name, (wall, cpu) in best.items():
        verdict = "ok" if bare / wall > 1 - ALLOWED_LOSS else "more than 10 % lost"
        print(f"{name:22} {1 / wall:10.0f} {bare / wall:6.3f} {cpu * 1e6:7.0f} {bare_cpu / cpu:6.3f}  {verdict}")


if __name__ == "__main__":
    main()
