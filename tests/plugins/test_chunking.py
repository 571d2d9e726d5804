"""CHUNKING and BINARYMIME (RFC 3030) through the whole server."""

from __future__ import annotations

import poplib
import tracemalloc
from collections.abc import Iterator

import pytest
from smtp_talk import SmtpTalk

from mailserv.settings import Plugins
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

HEAD = b"Subject: Lunch?\r\n\r\n"


@pytest.fixture
def mx() -> Iterator[ScriptedMX]:
    with ScriptedMX() as sink:
        yield sink


@pytest.fixture
def server(mx: ScriptedMX) -> Iterator[MailServer]:
    with mail_server(routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as running:
        yield running


def begin(talk: SmtpTalk, rcpt: str, mail: str = "") -> None:
    talk.ask("EHLO client.example.net")
    talk.log_in("alice@example.org", "secret")
    assert talk.say(f"MAIL FROM:<alice@example.org>{mail}").startswith("250")
    assert talk.say(f"RCPT TO:<{rcpt}>").startswith("250")


def chunk(talk: SmtpTalk, data: bytes, last: str = "") -> str:
    talk.send(b"BDAT %d%b\r\n%b" % (len(data), last.encode(), data))
    return talk.reply()


def test_chunks_arrive_as_one_message_with_its_trace_fields(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org")
        assert chunk(talk, HEAD[:7]).startswith("250 2.0.0 7 octets")
        assert chunk(talk, HEAD[7:] + b".\r\n") == "250 2.0.0 15 octets received"
        assert chunk(talk, b"..\r\nno line end", " LAST").startswith("250 2.0.0 queued as ")
    [message] = server.mailbox("alice@example.org")
    assert message.endswith(b"\r\n\r\n.\r\n..\r\nno line end\r\n")  # as RETR sends it, so that LIST can count it
    assert message.count(b"\nReceived: ") == 1
    assert b"Message-ID: " in message  # completed, as any submission is


@pytest.mark.parametrize("body", ["", " BODY=BINARYMIME"])
@pytest.mark.parametrize("content", [HEAD + b"end", HEAD + b"end\r\n", HEAD.strip(), b".", b""])
def test_a_message_in_chunks_has_as_many_octets_as_retr_sends(server: MailServer, content: bytes, body: str) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org", body)
        assert chunk(talk, content, " LAST").startswith("250 2.0.0 queued as ")
    client = poplib.POP3(*server.address("pop3"))
    client.user("alice@example.org")
    client.pass_("secret")
    _, lines, _ = client.retr(1)
    assert sum(len(line) + 2 for line in lines) == client.stat()[1]
    client.quit()


def test_what_came_in_chunks_leaves_by_data_with_its_dots(server: MailServer, mx: ScriptedMX) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "carol@far.example", " BODY=BINARYMIME")
        assert chunk(talk, HEAD + b".\r\n\xe4\r\nend", " LAST").startswith("250")
    [taken] = mx.wait_for_messages(1)
    assert taken.content.endswith(b"\r\n\r\n.\r\n\xe4\r\nend\r\n")
    assert any("BODY=8BITMIME" in line for line in mx.commands)


@pytest.mark.parametrize("body", [b"a\nb\r\n", b"nul\0\r\n", b"x" * 999 + b"\r\n"], ids=["newline", "nul", "long line"])
def test_binary_content_that_data_would_change_is_returned(server: MailServer, mx: ScriptedMX, body: bytes) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "carol@far.example", " BODY=BINARYMIME")
        assert chunk(talk, HEAD + body, " LAST").startswith("250")
    [notice] = server.wait_for_mail("alice@example.org")
    assert b"Status: 5.6.3" in notice
    assert mx.messages == []


def test_content_that_is_no_lines_gets_into_no_mailbox(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org", " BODY=BINARYMIME")
        assert chunk(talk, HEAD + b"a\n.\nb", " LAST").startswith("554 5.6.3")
    assert server.mailbox("alice@example.org") == []


def test_a_lost_connection_in_the_middle_of_a_chunk_is_no_message(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org")
        talk.send(b"BDAT 1000 LAST\r\n" + HEAD)
    server.wait_for_log("session", reason="lost")
    assert server.mailbox("alice@example.org") == []


def test_a_header_section_in_chunks_that_grows_too_large_is_refused_at_once(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org")
        assert chunk(talk, b"X" * 1_000_002).startswith("552 5.3.4")
        assert chunk(talk, b"", " LAST").startswith("503")
        assert talk.say("RSET").startswith("250")
        assert talk.say("MAIL FROM:<alice@example.org>").startswith("250")


def test_lesson_8_a_message_in_chunks_of_two_octets_takes_no_more_memory_than_whole(server: MailServer) -> None:
    pairs = 20_000
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org")
        chunk(talk, HEAD)
        tracemalloc.start()
        for _ in range(pairs // 500):
            talk.send(b"BDAT 2\r\nxy" * 500)
            for _ in range(500):
                talk.reply()
        now, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert now < 10 * 2 * pairs
        assert chunk(talk, b"\r\n", " LAST").startswith("250")
    [message] = server.mailbox("alice@example.org")
    assert message.endswith(b"xy" * pairs + b"\r\n")


def test_a_client_that_pipelines_many_chunks_behind_a_refused_one_keeps_its_session(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        begin(talk, "alice@example.org")
        talk.send(b"BDAT 1\r\n\n" + b"BDAT 1\r\nx" * 30 + b"RSET\r\n")
        assert talk.reply().startswith("550 5.5.2")
        assert all(talk.reply().startswith("503") for _ in range(30))
        assert talk.reply().startswith("250")


def test_without_chunking_there_is_no_binarymime_either() -> None:
    with mail_server(plugins=Plugins(disabled=("chunking",))) as server, SmtpTalk(server.connect()) as talk:
        offered = talk.ask("EHLO client.example.net")
        assert "CHUNKING" not in offered
        assert "BINARYMIME" not in offered
        assert talk.say("BDAT 1 LAST").startswith("502")
        assert talk.say("MAIL FROM:<> BODY=BINARYMIME").startswith("501")
        assert talk.say("MAIL FROM:<> BODY=8BITMIME").startswith("250")
