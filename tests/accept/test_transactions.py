"""From MAIL to the reply to the dot: what is refused, when, and that nothing of it stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from smtp_talk import SmtpTalk

from mailserv.settings import Limits, Size
from mailserv.testing.server import MailServer, mail_server

LIMITS = Limits(
    message_size=Size(600_000),
    header_size=Size(2_000),
    sessions_per_ip=0,
    connections_per_minute=0,
    hops=5,
    recipients=100,
    unknown_recipients=3,
    errors=3,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailServer]:
    with mail_server(
        accounts={"alice@example.org": "secret", "bob@example.org": "secret"},
        limits=LIMITS,
        catch_all={"example.com": "alice@example.org"},
        local_domains=("example.org", "example.com"),
        aliases={"all@example.org": ("alice@example.org", "bob@example.org")},
        data_dir=tmp_path_factory.mktemp("data"),
        services=("smtp",),
    ) as running:
        yield running


@pytest.fixture
def talk(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect("smtp")) as session:
        session.say("EHLO client.example.net")
        yield session


def spooled(server: MailServer) -> list[Path]:
    return [path for path in (server.server.settings.data_dir / "spool").rglob("*") if path.is_file()]


def test_a_local_message_is_in_the_mailbox_when_its_250_comes(server: MailServer, talk: SmtpTalk) -> None:
    before = len(server.mailbox("alice@example.org"))
    assert talk.message("x@example.net", "alice@example.org").startswith("250 2.0.0 queued as ")
    assert len(server.mailbox("alice@example.org")) == before + 1


@pytest.mark.parametrize(
    "path", ["whoever@example.com", "alice+tag@example.org", "ALICE@EXAMPLE.ORG", "all@example.org"]
)
def test_ways_to_a_mailbox(server: MailServer, talk: SmtpTalk, path: str) -> None:
    before = len(server.mailbox("alice@example.org"))
    assert talk.message("x@example.net", path).startswith("250")
    assert len(server.mailbox("alice@example.org")) == before + 1


def test_two_recipients_that_are_one_mailbox_get_one_copy(server: MailServer, talk: SmtpTalk) -> None:
    before = len(server.mailbox("alice@example.org"))
    assert talk.message("x@example.net", "all@example.org", "alice@example.org").startswith("250")
    assert len(server.mailbox("alice@example.org")) == before + 1


@pytest.mark.parametrize("domain", ["", "@example.org", "@EXAMPLE.COM", "@[127.0.0.1]"])
def test_postmaster_is_always_there(talk: SmtpTalk, domain: str) -> None:
    talk.say("MAIL FROM:<x@example.net>")
    assert talk.say(f"RCPT TO:<postmaster{domain}>").startswith("250")


def test_an_unknown_user_is_refused_at_rcpt_and_the_transaction_goes_on(talk: SmtpTalk) -> None:
    talk.say("MAIL FROM:<x@example.net>")
    assert talk.say("RCPT TO:<nobody@example.org>").startswith("550 5.1.1")
    assert talk.say("DATA").startswith("503")
    assert talk.say("RCPT TO:<alice@example.org>").startswith("250")


def test_too_many_unknown_users_close_the_session(talk: SmtpTalk) -> None:
    talk.say("MAIL FROM:<x@example.net>")
    for number in range(2):
        talk.say(f"RCPT TO:<nobody{number}@example.org>")
    assert talk.say("RCPT TO:<nobody@example.org>").startswith("550 5.1.1")
    assert talk.reply().startswith("421 4.7.0")
    assert talk.is_closed()


def test_too_many_errors_close_the_session(talk: SmtpTalk) -> None:
    assert [talk.say("FOO")[:3] for _ in range(3)] == ["500"] * 3
    assert talk.reply().startswith("421 4.7.0")
    assert talk.is_closed()


def test_a_message_over_the_limit_is_refused_and_leaves_nothing(server: MailServer, talk: SmtpTalk) -> None:
    content = b"Subject: x\r\n\r\n" + b"x" * 70 + b"\r\n"
    assert (
        talk.message("x@example.net", "alice@example.org", content=content + b"y" * 600_000 + b"\r\n")[:9]
        == "552 5.3.4"
    )
    assert spooled(server) == []
    assert talk.message("x@example.net", "alice@example.org").startswith("250")


def test_a_large_message_is_a_file_while_it_lives(server: MailServer, talk: SmtpTalk) -> None:
    content = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 5_000
    assert talk.message("x@example.net", "bob@example.org", content=content).startswith("250")
    assert len(spooled(server)) == 1
    assert content in server.mailbox("bob@example.org")[-1]
    store = server.server.store
    store.delete(store.maildrop("bob@example.org"))
    assert spooled(server) == []


def test_a_reset_in_the_middle_of_nothing_leaves_nothing(server: MailServer, talk: SmtpTalk) -> None:
    talk.say("MAIL FROM:<x@example.net>")
    talk.say("RCPT TO:<alice@example.org>")
    assert talk.say("RSET").startswith("250")
    assert talk.say("DATA").startswith("503")


def test_a_lost_connection_in_the_content_leaves_nothing(server: MailServer) -> None:
    before = len(server.mailbox("alice@example.org"))
    with SmtpTalk(server.connect("smtp")) as talk:
        for line in ("EHLO lost.example.net", "MAIL FROM:<x@example.net>", "RCPT TO:<alice@example.org>", "DATA"):
            talk.say(line)
        talk.send(b"Subject: lost\r\n\r\n" + b"x" * 400_000)
    server.wait_for_log("session", helo="lost.example.net")
    assert spooled(server) == []
    assert len(server.mailbox("alice@example.org")) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Received: x\r\n" * 5 + b"\r\nx\r\n", "554 5.4.6"),
        (b"Received: x\r\n" * 4 + b"\r\nx\r\n", "250 2.0.0"),
        (b"Delivered-To: alice@example.org\r\n" * 2 + b"\r\nx\r\n", "554 5.4.6"),
        (b"Delivered-To: alice@example.org\r\n\r\nx\r\n", "250 2.0.0"),
        (b"X: " + b"x" * 900 + b"\r\n" + b"Y: " + b"y" * 900 + b"\r\nZ: " + b"z" * 900 + b"\r\n\r\nx\r\n", "552 5.3.4"),
        (b"", "250 2.0.0"),
        (b"\r\nonly a body\r\n", "250 2.0.0"),
        (b"no header field\r\n\r\nbody\r\n", "250 2.0.0"),
        (b"Subject: only a header section\r\n", "250 2.0.0"),
    ],
)
def test_header_sections(talk: SmtpTalk, content: bytes, said: str) -> None:
    assert talk.message("x@example.net", "alice@example.org", content=content)[:9] == said


@pytest.mark.parametrize(("octets", "said"), [(2_000, "250 2.0.0"), (2_001, "552 5.3.4")])
@pytest.mark.parametrize("early", [0, 1, 2])
def test_a_header_section_at_the_limit_may_be_cut_anywhere(talk: SmtpTalk, octets: int, said: str, early: int) -> None:
    """`early`: how much of the empty line behind it comes in the chunk before."""
    section = b"X:" + b"x" * 996 + b"\r\nY:" + b"y" * (octets - 1_004) + b"\r\n"
    assert len(section) == octets
    content, cut = section + b"\r\nbody\r\n", octets + early
    talk.say("MAIL FROM:<x@example.net>")
    talk.say("RCPT TO:<alice@example.org>")
    talk.send(b"BDAT %d\r\n%b" % (cut, content[:cut]))
    first = talk.reply()
    talk.send(b"BDAT %d LAST\r\n%b" % (len(content) - cut, content[cut:]))
    last = talk.reply()
    assert (last if first.startswith("250") else first).startswith(said)


def test_a_body_without_header_section_stays_a_body(server: MailServer, talk: SmtpTalk) -> None:
    talk.message("x@example.net", "alice@example.org", content=b"no header field\r\nsecond\r\n")
    message = server.mailbox("alice@example.org")[-1]
    assert message.endswith(b"\r\n\r\nno header field\r\nsecond\r\n")


def test_the_recipients_of_one_transaction_are_limited(talk: SmtpTalk) -> None:
    talk.say("MAIL FROM:<x@example.net>")
    answers = [talk.say(f"RCPT TO:<alice+{number}@example.org>")[:9] for number in range(101)]
    assert answers == ["250 2.1.5"] * 100 + ["452 4.5.3"]


def test_the_trace_tells_who_and_where(server: MailServer, talk: SmtpTalk) -> None:
    queue_id = talk.message("x@example.net", "all@example.org").rpartition(" ")[2]
    accepted, routed = server.trace(queue_id)
    assert accepted.event == "accepted"
    assert accepted.detail["ip"] == "127.0.0.1"
    assert accepted.detail["helo"] == "client.example.net"
    assert routed.recipient == "all@example.org"
    assert routed.detail["to"] == "mailbox:alice@example.org, mailbox:bob@example.org"
