"""The benchmark's POP3 client counts what comes, wherever the blocks are cut."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.errors import Failed
from bench.pop3_client import POP3Client, Retrieval

CONTENTS = [b"", b"one\r\n", b"\r\n\r\n", b"Subject: x\r\n\r\n+OK this is no reply\r\n"]
REPLIES = b"".join(b"+OK %d octets\r\n%s.\r\n" % (len(content), content) for content in CONTENTS)


@contextmanager
def connected() -> Iterator[tuple[POP3Client, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname()[:2])
        theirs, _ = listener.accept()
    with ours, theirs:
        client = POP3Client.__new__(POP3Client)
        client.socket = ours
        yield client, theirs


def in_pieces(octets: int) -> Retrieval:
    with connected() as (client, server):
        retrieval = Retrieval(client, len(CONTENTS), pipelined=True)
        retrieval.ask()
        for at in range(0, len(REPLIES), octets):
            server.sendall(REPLIES[at : at + octets])
            retrieval.take()
        return retrieval


@pytest.mark.parametrize("octets", [1, 2, 3, 7, 19, len(REPLIES)])
def test_messages_and_their_octets_are_counted(octets: int) -> None:
    retrieval = in_pieces(octets)
    assert retrieval.done
    assert retrieval.octets == sum(map(len, CONTENTS))


def test_an_error_among_the_replies_is_noticed() -> None:
    with connected() as (client, server):
        retrieval = Retrieval(client, 2, pipelined=True)
        server.sendall(b"+OK\r\n.\r\n-ERR no such message\r\n+OK\r\n.\r\n")
        with pytest.raises(Failed, match="not \\+OK"):
            retrieval.take()
