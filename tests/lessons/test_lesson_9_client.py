"""Lesson 9: the client's side, from a submission to a remote host that misbehaves, and what the queue makes of it."""

from __future__ import annotations

import ssl

import pytest
from trusting import Trust

from mailserv.settings import Routed
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import DROP, Held, Raw, ScriptedMX

ALICE = "alice@example.org"
LOGIN = (ALICE, "secret")
CONTENT = b"From: alice@example.org\r\nSubject: lesson 9\r\n\r\nHello.\r\n"


def route(mx: ScriptedMX) -> str:
    return f"smtp:[{mx.host}]:{mx.port}"


def next_try(server: MailServer, clock: FakeClock) -> None:
    """After a deferral."""
    server.wait_for_log("delivery", outcome="deferred")
    server.trace("nothing")  # what was settled is committed
    clock.advance(3600)
    server.wake_queue()
    server.wait_for_empty_queue()


def test_lesson_9_a_lost_reply_to_the_dot_means_send_again() -> None:
    clock = FakeClock()
    with ScriptedMX({"DOT": [DROP]}) as mx, mail_server(clock=clock, routes={"*": route(mx)}) as server:
        server.send(ALICE, ["bob@a.example"], CONTENT, login=LOGIN)
        next_try(server, clock)
        assert [message.rcpts for message in mx.messages] == [("<bob@a.example>",)]
        assert server.mailbox(ALICE) == []  # and no bounce


def test_lesson_9_a_lost_reply_to_quit_means_nothing() -> None:
    with ScriptedMX({"QUIT": DROP}) as mx, mail_server(routes={"*": route(mx)}) as server:
        server.send(ALICE, ["bob@a.example"], CONTENT, login=LOGIN)
        server.wait_for_empty_queue()
        assert len(mx.messages) == 1
    assert len(mx.messages) == 1


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA", "DOT"])
def test_lesson_9_421_in_the_middle_keeps_everything_queued(moment: str) -> None:
    clock = FakeClock()
    script = {moment: [Raw(b"421 4.3.2 Going down\r\n", close=True)]}
    with ScriptedMX(script) as mx, mail_server(clock=clock, routes={"*": route(mx)}) as server:
        server.send(ALICE, ["bob@a.example", "carol@a.example"], CONTENT, login=LOGIN)
        next_try(server, clock)
        assert sorted(path for message in mx.messages for path in message.rcpts) == [
            "<bob@a.example>",
            "<carol@a.example>",
        ]
        assert server.mailbox(ALICE) == []


def test_lesson_9_552_to_rcpt_is_taken_for_452() -> None:
    clock = FakeClock()
    script = {"RCPT TO:<carol@": ["552 5.5.3 Too many recipients"]}
    with ScriptedMX(script) as mx, mail_server(clock=clock, routes={"*": route(mx)}) as server:
        server.send(ALICE, ["carol@a.example"], CONTENT, login=LOGIN)
        next_try(server, clock)
        assert [message.rcpts for message in mx.messages] == [("<carol@a.example>",)]
        assert server.mailbox(ALICE) == []


def test_lesson_9_whoever_was_too_many_is_the_next_message() -> None:
    names = [f"user{n}@a.example" for n in range(8)]
    ok, many = "250 2.1.5 Ok", "452 too many recipients"
    script = {"RCPT": [*[ok] * 3, *[many] * 5, *[ok] * 3, *[many] * 2]}
    with ScriptedMX(script) as mx, mail_server(routes={"*": route(mx)}) as server:
        server.send(ALICE, names, CONTENT, login=LOGIN)
        server.wait_for_empty_queue()
        assert [len(message.rcpts) for message in mx.messages] == [3, 3, 2]
        assert {rcpt for message in mx.messages for rcpt in message.rcpts} == {f"<{name}>" for name in names}
        assert server.mailbox(ALICE) == []


def test_lesson_9_ehlo_refused_is_helo() -> None:
    with ScriptedMX({"EHLO": "502 5.5.1 What?"}) as mx, mail_server(routes={"*": route(mx)}) as server:
        server.send(ALICE, ["bob@a.example"], CONTENT, login=LOGIN)
        server.wait_for_empty_queue()
        assert len(mx.messages) == 1
        assert "HELO mail.example.org" in mx.commands
        assert "MAIL FROM:<alice@example.org>" in mx.commands  # no parameter: none was offered


@pytest.mark.parametrize(
    "greeting",
    [Raw(b"220-" + b"x" * 100_000), Raw(b"220-more\r\n" * 10_000), Raw(b"\x00\xff\xfe\r\n"), Raw(b"999 what\r\n"), Raw(b"22")],
    ids=["a line without end", "lines without end", "no text", "no code", "half a reply"],
)  # fmt: skip
def test_lesson_9_a_reply_that_is_none_defers_and_costs_nobody_else_anything(greeting: Raw) -> None:
    with (
        ScriptedMX({"GREETING": Raw(greeting.data, close=True)}) as mad,
        ScriptedMX() as good,
        mail_server(routes={"mad.example": route(mad), "*": route(good)}) as server,
    ):
        server.send(ALICE, ["bob@mad.example", "bob@good.example"], CONTENT, login=LOGIN)
        server.wait_for_log("delivery", outcome="deferred", recipient="bob@mad.example")
        assert good.wait_for_messages(1)
        server.wait_for_log("delivery", outcome="delivered")
        (entry,) = server.queue()
        assert entry.forward_path == "bob@mad.example"
        assert len(entry.last_reply) < 1000
        assert entry.last_reply.isprintable()


def test_lesson_9_a_host_that_is_slow_blocks_nobody() -> None:
    held = Held("220 at last")
    with (
        ScriptedMX({"GREETING": held}) as slow,
        ScriptedMX() as good,
        mail_server(routes={"slow.example": route(slow), "*": route(good)}) as server,
    ):
        for number in range(30):
            server.send(ALICE, [f"bob{number}@slow.example"], CONTENT, login=LOGIN)
        assert held.reached.wait(20)
        server.send(ALICE, ["bob@good.example"], CONTENT, login=LOGIN)
        good.wait_for_messages(1)
        held.release.set()
        slow.wait_for_messages(30)


def test_lesson_9_replies_that_came_before_the_handshake_are_dropped(trust: Trust) -> None:
    """RFC 3207: what somebody put behind the 220 in the clear must not be taken for an answer under TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert trust.tls.certificate is not None
    context.load_cert_chain(trust.tls.certificate, trust.tls.key)
    script = {"STARTTLS": Raw(b"220 2.0.0 Go\r\n250-mx.injected.example\r\n250 AUTH PLAIN\r\n235 2.7.0 Welcome\r\n")}
    with ScriptedMX(script, tls=context) as mx:
        hop = Routed(to=route(mx), tls="require", user="alice", password="hunter2")
        with mail_server(routes={"*": hop}) as server:
            server.send(ALICE, ["bob@a.example"], CONTENT, login=LOGIN)
            server.wait_for_log("delivery", outcome="deferred")
            assert mx.messages == []
            assert mx.logins == []
            assert not any("hunter2" in command or "AUTH" in command for command in mx.commands)


def test_lesson_9_no_bare_line_end_no_nul_and_no_endless_line_is_ever_sent() -> None:
    content = b"From: alice@example.org\r\nSubject: x\r\n\r\n" + b"y" * 5_000 + b"\r\n.\r\n..\r\n" + b"\x00z\r\n"
    with ScriptedMX() as mx, mail_server(routes={"*": route(mx)}) as server:
        server.send(ALICE, ["bob@a.example"], content, login=LOGIN)
        server.wait_for_empty_queue()
        sent = b"".join(mx.reads)
        assert b"\0" not in sent
        assert sent.count(b"\n") == sent.count(b"\r") == sent.count(b"\r\n")
        assert max(map(len, sent.split(b"\r\n"))) <= 998
