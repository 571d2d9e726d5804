"""The scripted server of the test kit, used by smtplib: nothing of mailserv's own client is in the way."""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading

import pytest
import trustme

from mailserv.testing.sink import DROP, SILENCE, Held, Raw, ScriptedMX

MESSAGE = "Subject: x\r\n\r\n.dot\r\nend\r\n"


@pytest.fixture
def dialogue():
    """A server, and a client that is connected and has said EHLO."""
    opened = []

    def make(script=None, **options) -> tuple[ScriptedMX, smtplib.SMTP]:
        mx = ScriptedMX(script, **options)
        client = smtplib.SMTP(mx.host, mx.port, local_hostname="client.test", timeout=5)
        client.ehlo()
        opened.extend([client, mx])
        return mx, client

    yield make
    for thing in opened:
        thing.close()


def test_a_message_is_taken_and_recorded(dialogue):
    mx, client = dialogue()
    client.sendmail("a@x.test", ["b@y.test", "c@y.test"], MESSAGE)
    client.quit()
    [message] = mx.wait_for_messages()
    assert message.content == MESSAGE.encode()
    assert message.rcpts == ("<b@y.test>", "<c@y.test>")
    assert (message.helo, message.is_tls, message.login) == ("client.test", False, "")
    assert message.mail.startswith("<a@x.test> size=")
    assert mx.connections == 1
    mx.wait_for_command("QUIT")
    assert mx.commands[0] == "ehlo client.test"
    assert b"".join(mx.reads).startswith(b"ehlo client.test\r\n")


def test_the_longest_beginning_wins_and_a_list_is_used_up(dialogue):
    mx, client = dialogue({"RCPT": "550 5.1.1 No", "rcpt to:<b@": ["450 4.2.1 Later", "451 4.3.0 Later"]})
    client.mail("a@x.test")
    assert [client.rcpt("b@y.test")[0] for _ in range(3)] == [450, 451, 250]
    assert client.rcpt("c@y.test")[0] == 550
    mx.answer("RCPT", "250 2.1.5 Ok")
    assert client.rcpt("c@y.test")[0] == 250


def test_the_order_of_commands_is_kept(dialogue):
    _, client = dialogue()
    assert client.rcpt("b@y.test")[0] == 503
    assert client.docmd("DATA")[0] == 554
    client.mail("a@x.test")
    assert client.mail("a@x.test")[0] == 503
    assert client.rset()[0] == 250
    assert client.mail("a@x.test")[0] == 250
    assert client.docmd("VRFY", "x")[0] == 500
    assert client.helo()[0] == 250
    assert client.docmd("STARTTLS")[0] == 502


def test_a_refused_message_is_not_recorded(dialogue):
    mx, client = dialogue({"DOT": ["550 5.7.1 Spam"]})
    with pytest.raises(smtplib.SMTPDataError):
        client.sendmail("a@x.test", ["b@y.test"], MESSAGE)
    assert mx.messages == []


def test_the_connection_can_break_off(dialogue):
    _, client = dialogue({"MAIL": DROP})
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.mail("a@x.test")
    _, client = dialogue({"MAIL": Raw(b"250-par", close=True)})
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.mail("a@x.test")


def test_the_server_can_hang_up_and_be_called_again(dialogue):
    mx, client = dialogue()
    mx.hang_up()
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.docmd("NOOP")
    with smtplib.SMTP(mx.host, mx.port) as again:
        assert again.ehlo()[0] == 250
    assert mx.connections == 2


def test_an_answer_waits_until_the_test_lets_it_go(dialogue):
    held = Held("250 2.0.0 At last")
    _, client = dialogue({"NOOP": held})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.noop()))
    thread.start()
    assert held.reached.wait(5)
    assert answers == []
    held.release.set()
    thread.join()
    assert answers[0][0] == 250


def test_closing_lets_go_what_waits(dialogue):
    held = Held(SILENCE)
    mx, client = dialogue({"NOOP": [held]})
    client.putcmd("NOOP")
    assert held.reached.wait(5)
    mx.close()
    mx.close()
    assert held.release.is_set()


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def test_starttls_and_auth(dialogue, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    mx, client = dialogue(tls=context, capabilities=("AUTH PLAIN LOGIN",))
    assert client.has_extn("starttls")
    client.starttls(context=trusting)
    client.ehlo()
    assert not client.has_extn("starttls")
    client.user, client.password = "alice", "geheim"
    for mechanism in ("PLAIN", "LOGIN"):
        client.auth(
            mechanism.lower(), getattr(client, f"auth_{mechanism.lower()}"), initial_response_ok=mechanism == "PLAIN"
        )
    assert client.docmd("AUTH", "CRAM-MD5")[0] == 504
    client.sendmail("a@x.test", ["b@y.test"], MESSAGE)
    assert mx.logins == [("alice", "geheim")] * 2
    assert (mx.messages[0].is_tls, mx.messages[0].login) == (True, "alice")


def test_content_may_come_in_any_cut(dialogue):
    mx, client = dialogue()
    client.mail("a@x.test")
    client.rcpt("b@y.test")
    client.docmd("DATA")
    for piece in (b"a\r", b"\n..", b"b\r\n.", b"\r\nNOOP\r\n"):
        client.sock.sendall(piece)
    assert client.getreply()[0] == 250
    assert client.getreply()[0] == 500
    assert mx.messages[0].content == b"a\r\n.b\r\n"


def test_a_server_may_listen_on_ipv6():
    with ScriptedMX(host="::1") as mx, socket.create_connection((mx.host, mx.port)) as client:
        assert client.recv(3) == b"220"


def test_who_waits_in_vain_is_told_what_came_instead(dialogue):
    mx, _ = dialogue()
    with pytest.raises(TimeoutError, match="ehlo client"):
        mx.wait_for_messages(timeout=0.01)
    with pytest.raises(TimeoutError, match="QUIT did not come"):
        mx.wait_for_command("QUIT", timeout=0.01)


def test_a_message_for_nobody_is_not_taken(dialogue):
    mx, client = dialogue({"DATA": "354 Go ahead"})
    client.docmd("DATA")
    client.sock.sendall(b".\r\n")
    assert client.getreply()[0] == 554
    assert mx.messages == []
