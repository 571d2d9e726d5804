"""docs/journeys/remote-to-local.md: from a stranger's server to a mailbox, and out of it by POP3."""

from __future__ import annotations

import poplib
import smtplib

import pytest

from mailserv.testing.server import WAIT_SECONDS, MailServer, mail_server

CONTENT = (
    b"Received: from desk.far.example by mx.far.example; Thu, 1 Jan 2026 00:00:00 +0000\r\n"
    b"From: Carol <carol@far.example>\r\nTo: team@example.org\r\nSubject: hello\r\n\r\n"
    b"Hello all.\r\n.a line that begins with a dot\r\n"
)
ACCOUNTS = {"alice@example.org": "secret", "bob@example.org": "secret"}
ALIASES = {"team@example.org": ("everybody@example.org",), "everybody@example.org": tuple(ACCOUNTS)}


def deliver(server: MailServer, *forward_paths: str) -> str:
    """As another mail server does it; the queue id of the reply."""
    host, port = server.address("smtp")
    with smtplib.SMTP(host, port, "mx.far.example", timeout=WAIT_SECONDS) as client:
        client.ehlo()
        client.mail("carol@far.example", ["SIZE=200"])
        for forward_path in forward_paths:
            assert client.rcpt(forward_path)[0] == 250
        code, text = client.data(CONTENT)
    assert code == 250
    return text.decode().rpartition(" ")[2]


def fetch(server: MailServer, address: str) -> list[bytes]:
    """As a mail program does it by POP3: every message, which is then deleted."""
    client = poplib.POP3(*server.address("pop3"), timeout=WAIT_SECONDS)
    client.user(address)
    client.pass_("secret")
    count, octets = client.stat()
    found = [b"".join(line + b"\r\n" for line in client.retr(number)[1]) for number in range(1, count + 1)]
    assert sum(map(len, found)) == octets
    for number in range(1, count + 1):
        client.dele(number)
    client.quit()
    return found


def test_remote_to_local_by_alias_and_subaddress_is_in_the_mailbox_at_the_250_and_fetched_by_pop3() -> None:
    with mail_server(accounts=ACCOUNTS, aliases=ALIASES) as server:
        queue_id = deliver(server, "team@example.org", "alice+news@example.org")
        assert server.queue() == [], "a mailbox needs no queue"
        (bob,) = fetch(server, "bob@example.org")
        check_fields(bob, queue_id, "bob@example.org")
        by_alias, by_tag = fetch(server, "alice@example.org")
        check_fields(by_alias, queue_id, "alice@example.org")
        check_fields(by_tag, queue_id, "alice+news@example.org")
        assert fetch(server, "alice@example.org") == [], "QUIT has deleted what was fetched"
        told = server.trace(queue_id)
        assert [(entry.event, entry.recipient) for entry in told] == [
            ("accepted", ""),
            ("routed", "team@example.org"),
            ("routed", "alice+news@example.org"),
        ]
        assert "alias team@example.org: everybody@example.org" in str(told[1].detail["steps"])


def check_fields(message: bytes, queue_id: str, delivered_to: str) -> None:
    """RFC 5321 §4.4: Return-Path first, then our Received above the others; the content as it came."""
    lines = message.split(b"\r\n")
    assert lines[0] == b"Return-Path: <carol@far.example>"
    assert lines[1] == b"Delivered-To: " + delivered_to.encode()
    assert lines[2].startswith(b"Received: from mx.far.example ([127.0.0.1])")
    assert b"with ESMTP id " + queue_id.encode() in message
    assert b"for <" not in message.partition(b"\r\n\r\n")[0], "two recipients: neither is named to the other"
    assert message.endswith(CONTENT)


def test_remote_to_local_a_subaddress_alone_is_told_by_delivered_to() -> None:
    with mail_server() as server:
        deliver(server, "Alice+news@example.org")
        (message,) = fetch(server, "alice@example.org")
    assert b"\r\nDelivered-To: Alice+news@example.org\r\n" in message
    assert b"for <Alice+news@example.org>;" in message


@pytest.mark.parametrize(
    ("forward_path", "code", "status"),
    [("nobody@example.org", 550, b"5.1.1"), ("carol@other.example", 550, b"5.7.1")],
)
def test_remote_to_local_an_unknown_user_and_a_relay_are_refused_at_rcpt(
    forward_path: str, code: int, status: bytes
) -> None:
    with mail_server() as server, smtplib.SMTP(*server.address("smtp"), timeout=WAIT_SECONDS) as client:
        client.ehlo("mx.far.example")
        client.mail("carol@far.example")
        got, text = client.rcpt(forward_path)
        assert (got, text.split(b" ")[0]) == (code, status)
        code, text = client.docmd("DATA")
        assert (code, text.split(b" ")[0]) == (503, b"5.5.1"), "nobody is left to send to"
