"""The client's dialogue before the first message: the test is the server."""

from __future__ import annotations

import base64

import pytest

from mailserv.mail.reply import Reply
from mailserv.mail.smtp_reply import ServerReply
from mailserv.protocol.smtp_client import (
    Capabilities,
    Handshake,
    Login,
    Opened,
    Refused,
    Step,
    TLSWish,
    open_session,
    read_capabilities,
)

LOGIN = Login("alice", "geheim")
PLAIN = "AUTH PLAIN " + base64.b64encode(b"\0alice\0geheim").decode()


def server_says(text: str) -> ServerReply:
    return ServerReply(int(text[:3]), tuple(text[4:].split("\n")))


def play(lines: list[tuple[str, str]], tls: TLSWish = TLSWish.IF_OFFERED, login: Login | None = None):
    """Run the dialogue against (what the client must say, what the server answers) pairs; "<TLS>" is the handshake."""
    dialogue = open_session("me.example", tls, login)
    action = next(dialogue)
    for number, (said, answer) in enumerate(lines, 1):
        if said == "<TLS>":
            assert action == Handshake()
        else:
            assert action.data.decode() == (f"{said}\r\n" if said else "")
        try:
            action = dialogue.send(None if said == "<TLS>" else server_says(answer))
        except StopIteration as stop:
            assert number == len(lines), f"it ended after {said!r}"
            return stop.value
    raise AssertionError(f"it goes on with {action}")


def test_a_session_opens_with_ehlo():
    end = play([("", "220 hi"), ("EHLO me.example", "250 mx\nPIPELINING\nSIZE 100")])
    assert end == Opened(Capabilities({"PIPELINING": "", "SIZE": "100"}))


def test_lesson_9_a_refused_ehlo_becomes_helo_without_any_capability():
    for refusal in ("500 What?", "502 5.5.1 No", "550 No"):
        assert play([("", "220 hi"), ("EHLO me.example", refusal), ("HELO me.example", "250 mx")]) == Opened(
            Capabilities()
        )


@pytest.mark.parametrize(
    ("lines", "reply", "step"),
    [
        ([("", "554 No service")], Reply(554, "5.0.0", "No service"), Step.GREETING),
        ([("", "421 4.3.2 Busy")], Reply(421, "4.3.2", "Busy"), Step.GREETING),
        ([("", "220 hi"), ("EHLO me.example", "421 Bye")], Reply(421, "4.0.0", "Bye"), Step.EHLO),
        ([("", "220 hi"), ("EHLO me.example", "451 Later")], Reply(451, "4.0.0", "Later"), Step.EHLO),
        (
            [("", "220 hi"), ("EHLO me.example", "550 No"), ("HELO me.example", "550 No, I say")],
            Reply(550, "5.0.0", "No, I say"),
            Step.EHLO,
        ),
    ],
)
def test_a_host_that_refuses_the_session_says_why(lines, reply, step):
    assert play(lines) == Refused(reply, step)


def test_after_starttls_everything_is_asked_anew():
    end = play(
        [
            ("", "220 hi"),
            ("EHLO me.example", "250 mx\nSTARTTLS\nSIZE 5\nPIPELINING"),
            ("STARTTLS", "220 go"),
            ("<TLS>", ""),
            ("EHLO me.example", "250 mx\nSIZE 7"),
        ]
    )
    assert end == Opened(Capabilities({"SIZE": "7"}))


def test_an_ehlo_refused_after_the_handshake_refuses_the_session():
    end = play(
        [
            ("", "220 hi"),
            ("EHLO me.example", "250 mx\nSTARTTLS"),
            ("STARTTLS", "220 go"),
            ("<TLS>", ""),
            ("EHLO me.example", "451 4.3.0 Later"),
        ]
    )
    assert end == Refused(Reply(451, "4.3.0", "Later"), Step.EHLO)


@pytest.mark.parametrize(
    ("wish", "offer", "answer", "end"),
    [
        (TLSWish.NEVER, "STARTTLS", None, Opened(Capabilities({"STARTTLS": ""}))),
        (TLSWish.IF_OFFERED, "8BITMIME", None, Opened(Capabilities({"8BITMIME": ""}))),
        (TLSWish.IF_OFFERED, "STARTTLS", "454 4.3.0 Not now", Opened(Capabilities({"STARTTLS": ""}))),
        (TLSWish.IF_OFFERED, "STARTTLS", "502 No", Opened(Capabilities({"STARTTLS": ""}))),
        (TLSWish.IF_OFFERED, "STARTTLS", "421 Bye", Refused(Reply(421, "4.0.0", "Bye"), Step.STARTTLS)),
        (TLSWish.ALWAYS, "STARTTLS", "454 4.3.0 Not now", Refused(Reply(454, "4.3.0", "Not now"), Step.STARTTLS)),
        (
            TLSWish.ALWAYS,
            "STARTTLS",
            "502 5.5.1 No",
            Refused(Reply(451, "4.7.0", "The server answered: 502 5.5.1 No"), Step.STARTTLS, is_ours=True),
        ),
        (
            TLSWish.ALWAYS,
            "8BITMIME",
            None,
            Refused(
                Reply(451, "4.7.4", "TLS is required here, but the server does not offer it"),
                Step.STARTTLS,
                is_ours=True,
            ),
        ),
    ],
)
def test_what_a_wish_for_tls_makes_of_the_servers_answer(wish, offer, answer, end):
    lines = [("", "220 hi"), ("EHLO me.example", f"250 mx\n{offer}")]
    assert play(lines + ([("STARTTLS", answer)] if answer else []), wish) == end


def in_tls(offers: str) -> list[tuple[str, str]]:
    return [
        ("", "220 hi"),
        ("EHLO me.example", "250 mx\nSTARTTLS"),
        ("STARTTLS", "220 go"),
        ("<TLS>", ""),
        ("EHLO me.example", f"250 mx\n{offers}"),
    ]


@pytest.mark.parametrize(
    "offers", ["AUTH PLAIN LOGIN", "AUTH LOGIN PLAIN", "AUTH=PLAIN", "auth plain", "AUTH X\nAUTH=PLAIN"]
)
def test_auth_plain_is_one_command(offers):
    assert isinstance(play([*in_tls(offers), (PLAIN, "235 Welcome")], TLSWish.ALWAYS, LOGIN), Opened)


def test_auth_login_answers_two_challenges():
    lines = [
        *in_tls("AUTH LOGIN CRAM-MD5"),
        ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        (base64.b64encode(b"alice").decode(), "334 UGFzc3dvcmQ6"),
        (base64.b64encode(b"geheim").decode(), "235 Welcome"),
    ]
    assert isinstance(play(lines, TLSWish.ALWAYS, LOGIN), Opened)


def test_auth_login_stops_where_the_server_does():
    lines = [*in_tls("AUTH LOGIN"), ("AUTH LOGIN", "334 VXNlcm5hbWU6"), (base64.b64encode(b"alice").decode(), "535 No")]
    assert play(lines, TLSWish.ALWAYS, LOGIN).reply == Reply(451, "4.7.0", "The server answered: 535 5.0.0 No")


def test_a_wrong_password_is_temporary_for_the_mail():
    end = play([*in_tls("AUTH PLAIN"), (PLAIN, "535 5.7.8 Bad credentials")], TLSWish.ALWAYS, LOGIN)
    assert end == Refused(
        Reply(451, "4.7.0", "The server answered: 535 5.7.8 Bad credentials"), Step.AUTH, is_ours=True
    )


def test_no_mechanism_of_ours_is_temporary_for_the_mail():
    end = play(in_tls("AUTH CRAM-MD5"), TLSWish.ALWAYS, LOGIN)
    assert (end.reply.enhanced, end.is_ours) == ("4.7.4", True)


def test_a_password_is_never_said_in_the_clear():
    end = play([("", "220 hi"), ("EHLO me.example", "250 mx\nAUTH PLAIN")], TLSWish.NEVER, LOGIN)
    assert end.reply.enhanced == "4.7.11"
    loopback = Login("alice", "geheim", needs_tls=False)
    lines = [("", "220 hi"), ("EHLO me.example", "250 mx\nAUTH PLAIN"), (PLAIN, "235 Welcome")]
    assert isinstance(play(lines, TLSWish.NEVER, loopback), Opened)


def test_invariant_10_a_login_does_not_show_its_password():
    assert "geheim" not in repr(LOGIN)


@pytest.mark.parametrize(
    ("line", "limit"),
    [
        ("SIZE 1000", 1000),
        ("SIZE", None),
        ("SIZE 0", None),
        ("SIZE big", None),
        ("size 5", 5),
        ("SIZE " + "9" * 30, None),
    ],
)
def test_a_size_limit_is_a_positive_number_or_none(line, limit):
    assert read_capabilities(ServerReply(250, ("mx", line))).size_limit == limit
