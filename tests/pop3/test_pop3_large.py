"""A maildrop of 100,000 messages opens without reading a body, and its lock ends with its session's deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pop3_kit import ALICE, PASSWORD, WAIT, Pop3, Wire

from mailserv.mail.address import Address
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.settings import Duration

COUNT = 100_000
CONTENT = b"Subject: one of many\r\n\r\nbody\r\n"


def never(*_: Any) -> Any:
    raise AssertionError("a body was read")


def test_a_hundred_thousand_messages_are_listed_without_reading_one(
    server: Pop3, connect: Callable[[Pop3], Wire]
) -> None:
    copies = tuple(MailboxDelivery(ALICE, f"{number}@example.org", b"") for number in range(COUNT))
    everything = Acceptance("Q1", Address("bob", "example.net"), BytesContent(CONTENT), 0.0, mailboxes=copies)
    server.real_store.accept(everything)
    server.store.replaced["read"] = never
    statements: list[str] = []
    with server.real_store._readers.connection() as reader:  # type: ignore[attr-defined]
        reader.set_trace_callback(statements.append)
    wire = connect(server).log_in()
    assert wire.ask(b"STAT") == b"+OK %d %d\r\n" % (COUNT, COUNT * len(CONTENT))
    assert wire.ask(b"UIDL").startswith(b"+OK")
    assert len({line.split()[1] for line in wire.lines()}) == COUNT
    assert wire.ask(b"LIST").startswith(b"+OK")
    assert len(wire.lines()) == COUNT
    assert wire.ask(b"LIST 100000") == b"+OK 100000 %d\r\n" % len(CONTENT)
    read = [statement for statement in statements if "mailbox" in statement]
    assert read
    assert not [statement for statement in statements if "FROM message" in statement or "content" in statement]


def test_a_stale_session_frees_its_maildrop_at_its_deadline_and_deletes_nothing(
    serve: Callable[..., Pop3], connect: Callable[[Pop3], Wire]
) -> None:
    server = serve(pop3_timeout=Duration(1))
    server.deliver("Q1", CONTENT)
    stale = connect(server).log_in()
    assert stale.ask(b"DELE 1").startswith(b"+OK")
    second = connect(server)
    second.ask(f"USER {ALICE}".encode())
    assert second.ask(f"PASS {PASSWORD}".encode()).startswith(b"-ERR [IN-USE]")
    second.close()
    for _ in range(2):
        assert server.sessions_over.acquire(timeout=WAIT)
    assert b"[SYS/TEMP] Timeout" in stale.rest()
    assert connect(server).log_in().ask(b"STAT").startswith(b"+OK 1 ")
