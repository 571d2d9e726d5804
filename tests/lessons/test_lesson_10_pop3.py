"""Lesson 10: POP3 on the running server; what is odd harms nobody, and only QUIT deletes."""

from __future__ import annotations

import pytest
from talking import Talk

from mailserv.settings import Limits
from mailserv.testing.server import MailServer, mail_server

ALICE = "alice@example.org"
CONTENT = b"Subject: lesson 10\r\n\r\nHello.\r\n"


def logged_in(server: MailServer) -> Talk:
    talk = Talk.to(server.address("pop3"))
    talk.line()
    for command in (f"USER {ALICE}", "PASS secret"):
        answer = talk.say(command)
        assert answer.startswith("+OK"), answer
    return talk


NUMBERS = ["4294967297", "18446744073709551617", "+1", "-1", "0", "1.0", "0x1", "１", "1 1", "2", "one"]


@pytest.mark.parametrize("verb", ["RETR", "DELE", "LIST", "UIDL", "TOP"])
def test_lesson_10_a_number_is_what_it_says(server: MailServer, verb: str) -> None:
    server.send("x@example.net", [ALICE], CONTENT)
    for number in NUMBERS:
        with logged_in(server) as talk:
            answer = talk.say(f"{verb} {number}" + " 1" * (verb == "TOP"))
            assert answer.startswith("-ERR"), (number, answer)
            assert talk.say("STAT").startswith("+OK 1 "), number
            assert talk.say("QUIT").startswith("+OK")
    assert len(server.mailbox(ALICE)) == 1


@pytest.mark.parametrize(
    "junk", [b"", b":", b"\0", b"\xff\xfe", b"USER", b"USER \0", b"PASS", b" ", b"\t", b"CAPA \xff"]
)
def test_lesson_10_odd_lines_and_names_harm_nobody(server: MailServer, junk: bytes) -> None:
    with Talk.to(server.address("pop3")) as talk:
        talk.line()
        assert talk.say(junk).startswith("-ERR")
        talk.say(b"USER " + (junk or b"x"))
        talk.say(b"PASS " + (junk or b"x"))
        with logged_in(server) as other:
            assert other.say("STAT") == "+OK 0 0"
    assert not server.log.matching("session_failed")


@pytest.mark.parametrize("end", ["reset", "close"])
def test_lesson_10_a_lost_connection_deletes_nothing(server: MailServer, end: str) -> None:
    server.send("x@example.net", [ALICE], CONTENT)
    talk = logged_in(server)
    assert talk.say("DELE 1").startswith("+OK")
    getattr(talk, end)()
    server.wait_for_log("pop3_session")
    assert len(server.mailbox(ALICE)) == 1
    with logged_in(server) as again:  # nor does it keep the maildrop locked
        assert again.say("STAT").startswith("+OK 1 ")


def test_lesson_10_an_end_of_the_server_deletes_nothing() -> None:
    with mail_server() as server:
        server.send("x@example.net", [ALICE], CONTENT)
        with logged_in(server) as talk:
            assert talk.say("DELE 1").startswith("+OK")
            server.server.stop()
            assert talk.line().startswith("-ERR [SYS/TEMP]")
        line = server.wait_for_log("pop3_session")[0]
        assert (line["reason"], line["deleted"]) == ("dismissed", 0)


def test_lesson_10_unique_ids_are_never_used_again(server: MailServer) -> None:
    seen: list[str] = []
    for _ in range(5):
        server.send("x@example.net", [ALICE], CONTENT)
        with logged_in(server) as talk:
            seen.append(talk.say("UIDL 1").split()[2])
            talk.say("DELE 1")
            assert talk.say("QUIT").startswith("+OK")
    assert len(set(seen)) == 5


def test_lesson_10_one_maildrop_one_session(server: MailServer) -> None:
    with logged_in(server) as first, Talk.to(server.address("pop3")) as second:
        second.line()
        second.say(f"USER {ALICE}")
        assert second.say("PASS secret").startswith("-ERR [IN-USE]")
        assert first.say("QUIT").startswith("+OK")
        second.say(f"USER {ALICE}")
        assert second.say("PASS secret").startswith("+OK")


def test_lesson_10_who_says_quit_may_come_back_at_once() -> None:
    with mail_server(limits=Limits(pop3_sessions=1, sessions_per_ip=1, connections_per_minute=0)) as server:
        for _ in range(50):
            with Talk.to(server.address("pop3")) as talk:
                assert talk.line().startswith("+OK")
                assert talk.say("QUIT").startswith("+OK")
