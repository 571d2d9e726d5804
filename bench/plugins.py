"""What plugins without an opinion cost: messages a second with some of them, and with none.

    .venv/bin/python bench/plugins.py --help

The server is the real one, with its fsync; clients are a process of their own. Rounds take turns, so that a machine that
slows down slows down all of them; the median counts. They are compared with the same server without a plugin.
"""

# ruff: noqa: ARG002 - a hook is called with what its specification says, used or not
from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
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


def seconds(orders: Connection, plugins: Sequence[type]) -> float:
    with mail_server(services=("smtp",), plugins=plugins) as server:
        orders.send(server.address("smtp"))
        taken: float = orders.recv()
        return taken


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
    found: dict[str, list[float]] = {name: [] for name in servers}
    seconds(ours, [])  # the first one warms up
    for _ in range(wanted.rounds):
        for name, plugins in servers.items():
            found[name].append(wanted.sessions * wanted.messages / seconds(ours, plugins))
    ours.send(None)
    process.join()
    bare = statistics.median(found["no plugin"])
    for name, rates in found.items():
        rate = statistics.median(rates)
        verdict = "" if name == "no plugin" else "  ok" if rate / bare > 1 - ALLOWED_LOSS else "  MORE THAN 10 % LOST"
        print(f"{name:24} {rate:8.0f} messages/s   ratio {rate / bare:5.3f}{verdict}")


if __name__ == "__main__":
    main()
