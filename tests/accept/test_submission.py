"""Submission (RFC 6409): who may send as whom, and what is completed on the way."""

from __future__ import annotations

import email
from collections.abc import Iterator

import pytest
from smtp_talk import SmtpTalk

from mailserv.testing.server import MailServer, mail_server

LOGIN = ("alice@example.org", "secret")


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with mail_server(
        accounts={"alice@example.org": "secret", "bob@example.org": "builder"},
        aliases={
            "info@example.org": ("alice@example.org", "bob@example.org"),
            "sales@example.org": ("info@example.org",),
        },
    ) as running:
        yield running


@pytest.fixture
def talk(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect("submission")) as session:
        session.say("EHLO client.example.net")
        yield session


@pytest.mark.parametrize(
    "path",
    ["alice@example.org", "ALICE@example.org", "alice+shop@example.org", "info@example.org", "sales@example.org", ""],
)
def test_a_login_sends_as_what_reaches_it(talk: SmtpTalk, path: str) -> None:
    assert talk.log_in(*LOGIN).startswith("235 2.7.0")
    assert talk.say(f"MAIL FROM:<{path}>").startswith("250")


@pytest.mark.parametrize("path", ["bob@example.org", "nobody@example.org", "alice@example.net", "alice%x@example.org"])
def test_a_login_sends_as_nobody_else(talk: SmtpTalk, path: str) -> None:
    talk.log_in(*LOGIN)
    assert talk.say(f"MAIL FROM:<{path}>").startswith("553 5.7.1")


def test_without_a_login_nothing_is_taken(talk: SmtpTalk) -> None:
    assert talk.say("MAIL FROM:<alice@example.org>").startswith("530 5.7.0")


def test_a_wrong_password_leaves_the_session_as_it_was(talk: SmtpTalk) -> None:
    assert talk.log_in("alice@example.org", "wrong").startswith("535 5.7.8")
    assert talk.log_in(*LOGIN).startswith("235")


def test_nobody_acts_for_somebody_else(talk: SmtpTalk) -> None:
    # "bob\0alice\0secret": alice's password, to act for bob
    answer = talk.say("AUTH PLAIN Ym9iQGV4YW1wbGUub3JnAGFsaWNlQGV4YW1wbGUub3JnAHNlY3JldA==")
    assert answer.startswith("535")


def test_a_second_login_is_out_of_order(talk: SmtpTalk) -> None:
    talk.log_in(*LOGIN)
    assert talk.log_in(*LOGIN).startswith("503")


def test_the_mail_parameter_auth_is_taken_after_the_login(talk: SmtpTalk) -> None:
    talk.log_in(*LOGIN)
    assert talk.say("MAIL FROM:<alice@example.org> AUTH=<>").startswith("250")


def test_a_submission_is_completed(server: MailServer) -> None:
    content = (
        b"From: alice@example.org\r\nBcc: bob@example.org,\r\n carol@example.net\r\nSubject: x\r\n\r\nBcc: stays\r\n"
    )
    server.send("alice@example.org", ["bob@example.org"], content, login=LOGIN)
    message = email.message_from_bytes(server.mailbox("bob@example.org")[-1])
    assert message["Bcc"] is None
    assert message["Date"]
    assert message["Message-ID"].endswith("@mail.example.org>")
    assert message["Received"].startswith("from client.example.net ([127.0.0.1])")
    assert "with ESMTPA id" in message["Received"]
    assert message.get_payload() == "Bcc: stays\r\n"


def test_what_comes_from_outside_is_not_completed(server: MailServer) -> None:
    server.send("x@example.net", ["bob@example.org"], b"From: x@example.net\r\nBcc: y@example.net\r\n\r\nx\r\n")
    message = email.message_from_bytes(server.mailbox("bob@example.org")[-1])
    assert message["Date"] is None
    assert message["Bcc"] == "y@example.net"


def test_port_25_has_no_auth(server: MailServer) -> None:
    with SmtpTalk(server.connect("smtp")) as session:
        assert "AUTH" not in session.ask("EHLO client.example.net")
        assert session.log_in(*LOGIN).startswith("502")


def test_an_auth_that_is_no_login_is_an_error_as_others_are(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as session:
        session.ask("EHLO client.example.net")
        said = [session.say(line) for line in ("AUTH PLAIN", "*", *["AUTH NONE", "AUTH PLAIN ="] * 4, "AUTH NONE")]
        assert [line[:3] for line in said] == ["334", "501", *["504", "501"] * 4, "504"]
        assert session.reply().startswith("421 4.7.0")  # that was the tenth ([limits] errors)
        assert session.is_closed()


def test_who_has_lost_the_account_sends_nothing_more_in_a_session_that_is_open(server: MailServer) -> None:
    server.add_account("dave@example.org", "gone soon")
    with SmtpTalk(server.connect("submission")) as talk:
        talk.say("EHLO client.example.net")
        talk.log_in("dave@example.org", "gone soon")
        assert talk.say("MAIL FROM:<dave@example.org>").startswith("250")
        assert talk.say("RSET").startswith("250")
        assert server.server.store.remove_account("dave@example.org")
        assert talk.say("MAIL FROM:<dave@example.org>").startswith("421 4.7.0")
    server.wait_for_log("session", reason="removed")
