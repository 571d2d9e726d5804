"""Who reads one message after the other gets them several at a time; what is said is the same in any order."""

from __future__ import annotations

import poplib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"
SIZES = [10, 4_000, 90_000, 40_000, 300_000, 0, 70_000, 70_000, *([2_000] * 40)]  # in rows and in files


def contents() -> list[bytes]:
    return [
        b"Subject: %d\r\n\r\n" % number + (b"x" * 78 + b"\r\n") * (size // 80) + b".\r\n"
        for number, size in enumerate(SIZES)
    ]


def fill(server: MailServer) -> list[bytes]:
    for content in contents():
        server.send("bob@example.net", [ALICE], content)
    return server.mailbox(ALICE)


@contextmanager
def logged_in(server: MailServer) -> Iterator[poplib.POP3]:
    client = poplib.POP3(*server.address("pop3"), timeout=20)
    try:
        client.user(ALICE)
        client.pass_("secret")
        yield client
        client.quit()
    finally:
        client.close()


def retrieved(client: poplib.POP3, number: int) -> bytes:
    return b"".join(line + b"\r\n" for line in client.retr(number)[1])


@pytest.mark.parametrize("order", ["up", "down", "steps", "chance", "twice"])
def test_each_message_is_itself_in_whatever_order_it_is_read(order: str) -> None:
    with mail_server() as server:
        stored = fill(server)
        up = list(range(1, len(SIZES) + 1))
        orders = {
            "up": up,
            "down": up[::-1],
            "steps": up[::2] + up[1::2],
            "chance": random.Random(7).sample(up, len(up)),
            "twice": [number for number in up for _ in range(2)],
        }
        with logged_in(server) as client:
            for number in orders[order]:
                assert retrieved(client, number) == stored[number - 1]


def test_a_message_that_goes_between_is_gone_though_the_next_were_read_ahead() -> None:
    with mail_server() as server:
        stored = fill(server)
        with logged_in(server) as client:
            assert [retrieved(client, number) for number in (9, 10)] == stored[8:10]
            store = server.server.store
            store.delete(store.maildrop(ALICE)[45:46])  # far behind what was read ahead
            assert retrieved(client, 11) == stored[10]
            with pytest.raises(poplib.error_proto, match="No such message"):
                client.retr(46)
