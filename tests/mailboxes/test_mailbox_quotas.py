"""Quotas over a live socket: at RCPT, at the commit, and the warning before it comes to that."""

from __future__ import annotations

import email
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailserv.mail.address import Address
from mailserv.mail.message import BytesContent
from mailserv.mail.plugin import Services, SubmitError
from mailserv.mailboxes.warning import compose
from mailserv.store.interface import Usage
from mailserv.testing.server import MailServer, mail_server

ALICE, BOB = "alice@example.org", "bob@example.org"
QUOTA = 20_000  # octets
BODY = b"Subject: hello\r\n\r\n" + b"x" * 76 + b"\r\n"


def sized(octets: int) -> bytes:
    return BODY + (b"y" * 76 + b"\r\n") * (octets // 78)


@contextmanager
def server_with(mailboxes: dict[str, object]) -> Iterator[MailServer]:
    accounts = {ALICE: "secret", BOB: "secret"}
    aliases = {"both@example.org": (ALICE, BOB)}
    with mail_server(accounts=accounts, aliases=aliases, config={"mailboxes": mailboxes}) as server:
        yield server


@pytest.fixture
def server() -> Iterator[MailServer]:
    with server_with({"accounts": {ALICE: {"quota": QUOTA}}}) as server:
        yield server


def rcpt(server: MailServer, recipient: str, size: int = 0) -> tuple[int, str]:
    host, port = server.address("smtp")
    with smtplib.SMTP(host, port, "client.example.net", timeout=20) as client:
        client.ehlo()
        client.mail("dave@example.net", [f"SIZE={size}"] if size else [])
        code, text = client.rcpt(recipient)
        return code, text.decode().split()[0]


def test_a_message_for_a_full_mailbox_is_refused_at_rcpt(server: MailServer) -> None:
    assert rcpt(server, ALICE) == (250, "2.1.5")
    server.send("dave@example.net", [ALICE], sized(15_000))
    assert rcpt(server, ALICE) == (250, "2.1.5")
    assert rcpt(server, ALICE, 10_000) == (452, "4.2.2")
    assert rcpt(server, ALICE, QUOTA + 1) == (552, "5.2.2")
    assert rcpt(server, BOB, QUOTA + 1) == (250, "2.1.5")
    server.send("dave@example.net", [ALICE], sized(3_000))
    assert rcpt(server, ALICE, 3_000) == (452, "4.2.2")
    server.server.store.delete(server.server.store.maildrop(ALICE))
    assert rcpt(server, ALICE, 10_000) == (250, "2.1.5")


def test_one_full_mailbox_of_several_refuses_them_all(server: MailServer) -> None:
    server.send("dave@example.net", [ALICE], sized(15_000))
    assert rcpt(server, "both@example.org", 10_000) == (452, "4.2.2")
    server.send("dave@example.net", ["both@example.org"], sized(100))
    assert len(server.mailbox(ALICE)) == 2
    assert len(server.mailbox(BOB)) == 1


@pytest.mark.parametrize(("octets", "reply"), [(10_000, (452, b"4.2.2")), (30_000, (552, b"5.2.2"))])
def test_what_turns_out_too_large_is_refused_at_its_end(
    server: MailServer, octets: int, reply: tuple[int, bytes]
) -> None:
    server.send("dave@example.net", [ALICE], sized(15_000))
    with without_size(server) as client:
        client.mail("dave@example.net")
        assert client.rcpt(ALICE)[0] == 250
        code, text = client.data(sized(octets))
        assert (code, text.split()[0]) == reply
    assert len(server.mailbox(ALICE)) == 1
    assert server.log.matching("store_failed") == []


def test_what_turns_out_too_large_for_one_is_not_kept_from_the_others(server: MailServer) -> None:
    """It would be refused for all, and at each try again; so it goes in, and then the mailbox is full."""
    server.send("dave@example.net", [ALICE], sized(15_000))
    with without_size(server) as client:
        client.mail("dave@example.net")
        assert client.rcpt(ALICE)[0] == client.rcpt(BOB)[0] == 250
        assert client.data(sized(10_000))[0] == 250
    *_, warning = server.wait_for_mail(ALICE, 3)
    assert len(server.mailbox(ALICE)) == 3
    assert warning.startswith(b"Return-Path: <>")
    assert len(server.mailbox(BOB)) == 1
    assert rcpt(server, ALICE) == (452, "4.2.2")


@contextmanager
def without_size(server: MailServer) -> Iterator[smtplib.SMTP]:
    """A client that does not tell the size of what it brings: nobody knows before its end."""
    with smtplib.SMTP(*server.address("smtp"), "client.example.net", timeout=20) as client:
        client.helo()
        yield client


class Keep:
    """A plugin that leaves its services where the test finds them."""

    services: Services

    def __init__(self, settings: None, services: Services) -> None:
        Keep.services = services


def test_a_plugin_s_message_for_a_full_mailbox_is_for_another_time() -> None:
    config = {"mailboxes": {"quota": QUOTA}}
    with mail_server(plugins=[Keep], config=config) as server:
        server.send("dave@example.net", [ALICE], sized(15_000))
        sent = [(10_000, True), (30_000, True)]
        for octets, later in sent:
            with pytest.raises(SubmitError) as caught:
                Keep.services.submit(
                    Address("list", "example.org"), [Address("alice", "example.org")], BytesContent(sized(octets))
                )
            assert caught.value.retry_later is later
        assert len(server.mailbox(ALICE)) == 1


def test_the_owner_is_told_at_90_percent_once_and_again_after_room(server: MailServer) -> None:
    store = server.server.store
    server.send("dave@example.net", [ALICE], sized(15_000))
    assert len(server.mailbox(ALICE)) == 1
    server.send("dave@example.net", [ALICE], sized(3_000))
    *_, told = server.wait_for_mail(ALICE, 3)
    warning = email.message_from_bytes(told)
    assert warning["Subject"] in {"Your mailbox is 91 % full", "Your mailbox is 92 % full", "Your mailbox is 93 % full"}
    assert warning["Return-Path"] == "<>"
    assert warning["Auto-Submitted"] == "auto-generated"
    assert warning["To"] == f"<{ALICE}>"
    server.send("dave@example.net", [ALICE], BODY)
    store.delete(store.maildrop(ALICE)[1:2])  # to some 80 %: not below
    assert len(server.wait_for_log("mailbox_nearly_full")) == 1
    store.delete(store.maildrop(ALICE)[:1])
    server.send("dave@example.net", [ALICE], sized(17_000))
    assert len(server.wait_for_log("mailbox_nearly_full", 2, account=ALICE)) == 2


def test_the_words_of_a_warning_are_short_lines_of_ascii() -> None:
    usage = Usage(1234, 12_345_678)
    acceptance = compose(ALICE, usage, 13_000_000, hostname="mail.example.org", queue_id="Q1", now=0.0)
    content = b"".join(acceptance.content.blocks())
    assert acceptance.reverse_path.is_null
    assert b"holds 1234 messages of 12MB together. It may hold 13MB; it is 94 % full." in b" ".join(content.split())
    assert all(len(line) <= 78 for line in content.split(b"\r\n"))
    assert content.isascii()


def test_a_warning_for_an_address_in_utf_8_says_so() -> None:
    usage = Usage(1, 95)
    acceptance = compose("jörg@example.org", usage, 100, hostname="mail.example.org", queue_id="Q1", now=0.0)
    assert "SMTPUTF8" in acceptance.parameters
    message = email.message_from_bytes(b"".join(acceptance.content.blocks()))
    assert message.get_content_charset() == "utf-8"
    assert "jörg@example.org" in message.get_payload(decode=True).decode()  # type: ignore[union-attr]
