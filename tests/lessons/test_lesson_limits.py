"""The limits of design §8 on the running server, and what its log says of whom they stop (for fail2ban)."""

from __future__ import annotations

import pytest
from talking import Talk, auth_plain, greeted
from trusting import Trust

from mailserv.settings import TLS, Limits, Service
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"
CONTENT = b"Subject: limits\r\n\r\nHello.\r\n"
NOBODY = "nobody@example.org"


def test_lesson_7_ten_protocol_errors_close_a_session(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        replies = [talk.say("NONSENSE") for _ in range(10)]
        assert all(reply.startswith("500") for reply in replies)
        assert talk.hear().startswith("421 4.7.0")
        assert talk.ended()
    assert server.wait_for_log("session")[0]["reason"] == "errors"


def test_lesson_7_ten_unknown_recipients_close_a_session_also_over_several_messages(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        for number in range(10):
            talk.say("RSET")
            talk.say("MAIL FROM:<x@example.net>")
            assert talk.say(f"RCPT TO:<guess{number}@example.org>").startswith("550 5.1.1")
        assert talk.hear().startswith("421 4.7.0")
        assert talk.ended()
    assert server.wait_for_log("session")[0]["reason"] == "unknown recipients"
    refused = server.log.matching("refused", command="rcpt")
    assert [line["forward_path"] for line in refused] == [f"guess{number}@example.org" for number in range(10)]
    assert all(line["ip"] == "127.0.0.1" for line in refused)


def test_lesson_7_ten_refused_relays_close_a_session_that_looks_for_an_open_relay(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        for number in range(10):
            talk.say("RSET")
            talk.say(f"MAIL FROM:<prober{number}@example.net>")
            assert talk.say("RCPT TO:<carol@far.example>") == "550 5.7.1 Relaying denied"
        assert talk.hear().startswith("421 4.7.0")
        assert talk.ended()
    session = server.wait_for_log("session")[0]
    assert (session["reason"], session["errors"]) == ("relaying", 10)


def test_lesson_7_refused_relays_and_unknown_recipients_count_together(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        talk.say("MAIL FROM:<x@example.net>")
        for number in range(5):
            assert talk.say("RCPT TO:<carol@far.example>").startswith("550 5.7.1")
            assert talk.say(f"RCPT TO:<guess{number}@example.org>").startswith("550 5.1.1")
        assert talk.hear().startswith("421 4.7.0")
        assert talk.ended()


def test_lesson_7_a_refused_relay_in_a_list_of_recipients_ends_nothing(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        talk.say("MAIL FROM:<x@example.net>")
        replies = [talk.say(f"RCPT TO:<{path}>") for path in ("carol@far.example", NOBODY, ALICE)]
        assert [reply[:9] for reply in replies] == ["550 5.7.1", "550 5.1.1", "250 2.1.5"]
        talk.say("DATA")
        talk.send(CONTENT)
        assert talk.say(".").startswith("250")
        assert talk.say("NOOP").startswith("250")
    assert len(server.mailbox(ALICE)) == 1


def test_lesson_7_three_failed_logins_close_a_session(server: MailServer) -> None:
    with greeted(server.address("submission")) as talk:
        for name in (ALICE, ALICE, NOBODY):  # there is no telling who exists
            assert talk.say(auth_plain(name, "wrong")) == "535 5.7.8 Authentication credentials invalid"
        assert talk.hear().startswith("421 4.7.0")
        assert talk.ended()
    with Talk.to(server.address("pop3")) as talk:
        talk.line()
        for _ in range(3):
            talk.say(f"USER {ALICE}")
            assert talk.say("PASS wrong").startswith("-ERR [AUTH]")
        assert talk.line().startswith("-ERR")
        assert talk.ended()
    lines = server.wait_for_log("auth_failed", count=6)
    assert {(line["ip"], line["level"]) for line in lines} == {("127.0.0.1", "warning")}


def test_lesson_7_failed_logins_of_an_address_are_throttled_on_every_service_for_a_minute_and_a_day() -> None:
    clock = FakeClock()
    limits = Limits(sessions_per_ip=0, connections_per_minute=0, failed_logins=100)
    with mail_server(limits=limits, clock=clock) as server:
        with greeted(server.address("submission")) as talk:
            for _ in range(10):
                assert talk.say(auth_plain(ALICE, "wrong")).startswith("535")
            assert talk.say(auth_plain(ALICE, "secret")).startswith("421 4.7.0")
        with Talk.to(server.address("pop3")) as talk:
            talk.line()
            talk.say(f"USER {ALICE}")
            assert talk.say("PASS secret").startswith("-ERR [SYS/TEMP]")
        clock.advance(70)
        with greeted(server.address("submission")) as talk:
            assert talk.say(auth_plain(ALICE, "secret")).startswith("235")
        for _ in range(4):
            with greeted(server.address("submission")) as talk:
                for _ in range(10):
                    talk.say(auth_plain(ALICE, "wrong"))
            clock.advance(70)
        with greeted(server.address("submission")) as talk:  # fifty today
            assert talk.say(auth_plain(ALICE, "secret")).startswith("421")
        clock.advance(100_000)
        with greeted(server.address("submission")) as talk:
            assert talk.say(auth_plain(ALICE, "secret")).startswith("235")


def received(count: int) -> bytes:
    return b"Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\r\n" * count


def test_lesson_7_a_hundred_hops_are_a_loop(server: MailServer) -> None:
    with greeted(server.address("smtp")) as talk:
        assert talk.send_mail("x@example.net", [ALICE], received(100) + CONTENT).startswith("554 5.4.6")
        assert talk.send_mail("x@example.net", [ALICE], received(99) + CONTENT).startswith("250")
        assert talk.send_mail("x@example.net", [ALICE], CONTENT + received(200)).startswith("250")  # in the body
    assert len(server.mailbox(ALICE)) == 2


def test_lesson_7_a_mailbox_that_the_message_has_been_in_twice_is_a_loop(server: MailServer) -> None:
    been = f"Delivered-To: {ALICE.upper()}\r\n".encode()
    other = b"Delivered-To: somebody@example.net\r\n"
    with greeted(server.address("smtp")) as talk:
        assert talk.send_mail("x@example.net", [ALICE], been * 2 + CONTENT).startswith("554 5.4.6")
        assert talk.send_mail("x@example.net", [ALICE], been + other * 5 + CONTENT).startswith("250")
    assert len(server.mailbox(ALICE)) == 1


def test_lesson_7_too_many_recipients_are_452_and_the_others_get_it() -> None:
    accounts = {f"u{number}@example.org": "secret" for number in range(101)}
    with mail_server(accounts=accounts) as server, greeted(server.address("smtp")) as talk:
        talk.say("MAIL FROM:<x@example.net>")
        replies = [talk.say(f"RCPT TO:<{account}>") for account in accounts]
        assert [reply[:3] for reply in replies] == ["250"] * 100 + ["452"]
        talk.say("DATA")
        talk.send(CONTENT)
        assert talk.say(".").startswith("250")
        assert sum(len(server.mailbox(account)) for account in accounts) == 100


@pytest.mark.parametrize("service", ["smtp", "submission"])
def test_invariant_10_auth_is_not_offered_where_somebody_may_listen(trust: Trust, service: Service) -> None:
    tls = TLS(certificate=trust.tls.certificate, key=trust.tls.key, plaintext_auth="never")
    with mail_server(tls=tls) as server, Talk.to(server.address(service)) as talk:
        talk.hear()
        assert "AUTH" not in talk.say("EHLO x")
        answer = talk.say(auth_plain(ALICE, "secret"))
        assert answer.startswith("538 5.7.11" if service == "submission" else "50")
        answer = talk.say("MAIL FROM:<alice@example.org>")
        assert answer.startswith("530 5.7.0 Must issue a STARTTLS" if service == "submission" else "250")
        assert talk.say("RSET").startswith("250")
        assert talk.say("STARTTLS").startswith("220")
        talk.start_tls(trust.context())
        offered = talk.say("EHLO x")
        assert ("AUTH PLAIN LOGIN" in offered) == (service == "submission")
        assert talk.say(auth_plain(ALICE, "secret")).startswith("235" if service == "submission" else "50")
        assert not server.log.matching("auth_failed")


def test_invariant_10_pop3_takes_no_password_where_somebody_may_listen(trust: Trust) -> None:
    tls = TLS(certificate=trust.tls.certificate, key=trust.tls.key, plaintext_auth="never")
    with mail_server(tls=tls) as server, Talk.to(server.address("pop3")) as talk:
        talk.line()
        assert talk.say(f"USER {ALICE}").startswith("-ERR [AUTH]")
        assert talk.say("PASS secret").startswith("-ERR")
        assert talk.say(auth_plain(ALICE, "secret")).startswith("-ERR")
        assert talk.say("STLS").startswith("+OK")
        talk.start_tls(trust.context())
        assert talk.say(f"USER {ALICE}").startswith("+OK")
        assert talk.say("PASS secret").startswith("+OK")
