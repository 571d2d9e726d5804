"""PLAIN and LOGIN, to the credentials and no further."""

from __future__ import annotations

import base64

import pytest

from mailserv.mail import reply
from mailserv.mail.peer import Peer
from mailserv.mail.sasl import Credentials, Exchange, Known, SaslFailed, SaslMechanism, SaslView
from mailserv.protocol.sasl import BUILT_IN, LOGIN, PLAIN, Challenge, SaslExchange, Step

ALICE = Credentials("alice@example.org", "", "sécret pass")


VIEW = SaslView(Peer("192.0.2.1", 40000, "pop3", "s1"), "mail.example.org", lambda name: Known(name, None))


def start(mechanism: SaslMechanism, initial: str | None) -> tuple[SaslExchange, Step]:
    exchange = SaslExchange()
    return exchange, exchange.start(mechanism, VIEW, initial)


def b64(text: str | bytes) -> str:
    raw = text.encode() if isinstance(text, str) else text
    return base64.b64encode(raw).decode()


def test_plain_takes_an_initial_response() -> None:
    assert start(PLAIN, b64("\0alice@example.org\0sécret pass"))[1] == ALICE


def test_plain_asks_with_an_empty_challenge() -> None:
    exchange, first = start(PLAIN, None)
    assert first == Challenge(b"")
    assert exchange.step(b64("\0alice@example.org\0sécret pass").encode()) == ALICE


def test_plain_may_ask_to_act_for_another() -> None:
    assert start(PLAIN, b64("bob\0alice\0secret"))[1] == Credentials("alice", "bob", "secret")


def test_login_asks_for_name_and_password() -> None:
    exchange, first = start(LOGIN, None)
    assert first == Challenge(b"Username:")
    assert exchange.step(b64("alice@example.org").encode()) == Challenge(b"Password:")
    assert exchange.step(b64("sécret pass").encode()) == ALICE


def test_login_takes_the_name_as_initial_response() -> None:
    exchange, first = start(LOGIN, b64("alice@example.org"))
    assert first == Challenge(b"Password:")
    assert exchange.step(b64("sécret pass").encode()) == ALICE


@pytest.mark.parametrize(
    "initial",
    [
        "=",  # an empty response (RFC 4954 §4)
        "",
        "!!!",
        "YWxpY2U",  # its padding is missing
        "YWxp Y2U=",
        "YWxpY2U=YWxpY2U=",
        "ü",
        b64("alice"),
        b64("\0alice"),
        b64("\0alice\0secret\0more"),
        b64("\0\0secret"),
        b64("\0alice\0"),
        b64(b"\0alice\0\xff"),
        b64(b"\0\xff\0secret"),
        b64(b"\xff\0alice\0secret"),
        b64("\0ali\nce\0secret"),
        b64("a\rb\0alice\0secret"),
        b64("\0alice\0" + "x" * 1025),
    ],
)
def test_what_is_no_plain_message_never_reaches_a_password_check(initial: str) -> None:
    assert start(PLAIN, initial)[1] == SaslFailed(reply.AUTH_BAD_RESPONSE)


@pytest.mark.parametrize(
    "answers", [["", "cw=="], ["YQ==", ""], ["/w==", "cw=="], ["YQ==", "/w=="], ["%"], ["YQ==", "%"]]
)
def test_what_is_no_login_answer_never_reaches_a_password_check(answers: list[str]) -> None:
    exchange, _ = start(LOGIN, None)
    steps = [exchange.step(answer.encode()) for answer in answers]
    assert steps[-1] == SaslFailed(reply.AUTH_BAD_RESPONSE)


@pytest.mark.parametrize("mechanism", BUILT_IN, ids=lambda mechanism: mechanism.name)
def test_a_client_may_cancel(mechanism: SaslMechanism) -> None:
    exchange, _ = start(mechanism, None)
    assert exchange.step(None) == SaslFailed(reply.AUTH_CANCELLED)


def test_a_mechanism_hears_that_its_exchange_has_ended() -> None:
    ended: list[str] = []

    def begin(_: SaslView) -> Exchange:
        try:
            yield b"one"
        finally:
            ended.append("closed")
        return SaslFailed(reply.AUTH_BAD_RESPONSE)

    exchange, first = start(SaslMechanism("X", begin), None)
    assert first == Challenge(b"one")
    exchange.step(None)
    assert ended == ["closed"]


def test_an_exchange_that_is_over_takes_no_more_lines() -> None:
    exchange = SaslExchange()
    with pytest.raises(RuntimeError, match="has not begun"):
        exchange.step(b"")
    exchange.start(PLAIN, VIEW, "=")
    with pytest.raises(RuntimeError, match="is over"):
        exchange.step(b"")


def test_invariant_10_a_password_is_not_in_a_repr() -> None:
    assert "secret" not in repr(Credentials("alice", "", "secret"))
