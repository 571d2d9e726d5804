"""Lesson 8: state machines break at the edges; on the running server."""

from __future__ import annotations

import ssl

import pytest
from talking import Talk, auth_plain, greeted
from trusting import Trust

from mailserv.settings import Limits, Service
from mailserv.testing.server import UNLIMITED, MailServer, mail_server

ALICE = "alice@example.org"
CONTENT = b"Subject: edge\r\n\r\nHello.\r\n"


def to_tls(server: MailServer, service: Service) -> Talk:
    """A connection where the next thing is the handshake."""
    talk = Talk.to(server.address(service))
    if service in ("pop3", "smtp", "submission"):
        talk.line()
        talk.say_all(*(["STLS"] if service == "pop3" else ["HELO x", "STARTTLS"]))
    return talk


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_lesson_8_a_tls_session_is_worth_nothing_on_another_service(trust: Trust, version: ssl.TLSVersion) -> None:
    services: tuple[Service, ...] = ("smtp", "submission", "submissions", "pop3", "pop3s")
    context = trust.context(version)
    with mail_server(tls=trust.tls, services=services) as server:
        for first in services:
            with to_tls(server, first) as talk:
                opened = talk.start_tls(context)
                assert not opened.session_reused
                talk.say("NOOP")  # a ticket would come before the answer
                session = opened.session
                assert session is None or not session.has_ticket
                for other in services:
                    if other != first:
                        with to_tls(server, other) as second:
                            assert not second.start_tls(context, session).session_reused, (first, other)


def test_lesson_8_a_second_ehlo_ends_the_transaction(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        talk.say_all("MAIL FROM:<x@example.net>", f"RCPT TO:<{ALICE}>")
        assert talk.say("EHLO again.example.net").startswith("250")
        assert talk.say("DATA").startswith("503")
        assert talk.say(f"RCPT TO:<{ALICE}>").startswith("503")
        assert talk.send_mail("y@example.net", [ALICE], CONTENT).startswith("250")
    (mail,) = server.mailbox(ALICE)
    assert mail.startswith(b"Return-Path: <y@example.net>")
    assert b"again.example.net" in mail


def test_lesson_8_a_second_ehlo_within_tls_keeps_the_login(trust: Trust) -> None:
    with mail_server(tls=trust.tls) as server, to_tls(server, "submission") as talk:
        talk.start_tls(trust.context())
        talk.say("EHLO x")
        assert talk.say(auth_plain(ALICE, "secret")).startswith("235")
        again = talk.say("EHLO x")
        assert "AUTH" not in again
        assert "STARTTLS" not in again
        assert talk.say(auth_plain(ALICE, "secret")).startswith("503")
        assert talk.send_mail(ALICE, [ALICE], CONTENT).startswith("250")


def test_lesson_8_starttls_forgets_everything(trust: Trust) -> None:
    with mail_server(tls=trust.tls) as server, greeted(server.address("submission"), "before.example.net") as talk:
        assert talk.say(auth_plain(ALICE, "secret")).startswith("235")  # loopback may, without TLS
        assert talk.say("STARTTLS").startswith("220")
        talk.start_tls(trust.context())
        assert talk.say("MAIL FROM:<alice@example.org>").startswith("503")  # RFC 3207 §4.2: no greeting any more
        assert "AUTH PLAIN" in talk.say(
            "EHLO after.example.net"
        )  # whoever logged in before may have been somebody else
        assert talk.say("MAIL FROM:<alice@example.org>").startswith("530")


@pytest.mark.parametrize("name", ["älice", "älice@example.org", "日本語@example.org", "\udcff\udcfe"])
def test_lesson_8_vrfy_with_utf8_inside_a_transaction_harms_nothing(server: MailServer, name: str) -> None:
    with greeted(server.address("smtp")) as talk:
        talk.say_all("MAIL FROM:<x@example.net> SMTPUTF8", f"RCPT TO:<{ALICE}>")
        assert talk.say(f"VRFY {name}")[:3] in {"252", "501", "550", "553", "500"}
        assert talk.say("VRFY alice SMTPUTF8")[:1] in "25"
        assert talk.say("DATA").startswith("354")
        talk.send(CONTENT)
        assert talk.say(".").startswith("250")
    assert len(server.mailbox(ALICE)) == 1


def test_lesson_8_nothing_of_a_refused_message_stays_for_the_next() -> None:
    limits = Limits(sessions_per_ip=0, connections_per_minute=0, message_size=UNLIMITED.header_size)
    with mail_server(limits=limits) as server, greeted(server.address("smtp")) as talk:
        answer = talk.send_mail("x@example.net", [ALICE], b"Subject: big\r\n\r\n" + b"x" * 70 * 1024 * 16 + b"\r\n")
        assert answer.startswith("552")
        assert talk.say("DATA").startswith("503")
        assert talk.say(f"RCPT TO:<{ALICE}>").startswith("503")
        assert talk.send_mail("y@example.net", [ALICE], CONTENT).startswith("250")
        (mail,) = server.mailbox(ALICE)
        assert mail.startswith(b"Return-Path: <y@example.net>")


@pytest.mark.parametrize("service", ["smtp", "pop3"])
def test_lesson_8_an_endless_command_ends_the_session(server: MailServer, service: Service) -> None:
    with Talk.to(server.address(service)) as talk:
        talk.line()
        sent = 0
        with pytest.raises(OSError):  # noqa: PT012  # reset, or broken pipe, whichever comes
            while sent < 64 * 1024 * 1024:
                talk.send(b"A" * 65536)
                sent += 65536
        assert sent < 16 * 1024 * 1024
    server.wait_for_log("pop3_session" if service == "pop3" else "session")


def test_lesson_8_bytes_before_the_handshake_are_no_input_after_it(trust: Trust) -> None:
    with mail_server(tls=trust.tls) as server, greeted(server.address("submission")) as talk:
        talk.send(b"STARTTLS\r\nEHLO injected.example.net\r\n")
        assert talk.hear().startswith("554 5.5.1")
        assert talk.ended()
        assert server.wait_for_log("session")[0]["reason"] == "refused"
    assert not server.log.matching("session", helo="injected.example.net")
