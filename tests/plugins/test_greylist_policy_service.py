"""mailserv_greylist as a policy service: what a Postfix asks, and what it is told. The interop tests have the real one."""

from __future__ import annotations

import pytest

from mailserv.settings import Listen
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv_greylist.policy_service import LONGEST

REQUEST = {
    "request": "smtpd_access_policy",
    "protocol_state": "RCPT",
    "helo_name": "client.example.net",
    "client_address": "192.0.2.1",
    "sender": "carol@far.example",
    "recipient": "alice@example.org",
    "sasl_username": "",
}
WAIT = "action=DEFER_IF_PERMIT 4.7.1 Greylisted: try again in 300 seconds"


def request(**changes: str) -> bytes:
    return "".join(f"{name}={value}\n" for name, value in {**REQUEST, **changes}.items()).encode() + b"\n"


def ask(server: MailServer, *requests: bytes) -> list[str]:
    with server.connect("greylist") as sock:  # type: ignore[arg-type]
        sock.sendall(b"".join(requests))
        reader = sock.makefile("rb")
        answers = [(reader.readline().decode().rstrip("\n"), reader.readline()) for _ in requests]
    assert {empty for _, empty in answers} == {b"\n"}
    return [answer for answer, _ in answers]


def served(clock: FakeClock) -> object:
    return mail_server(clock=clock, plugins=["greylist"], listen=(Listen(service="greylist", address="127.0.0.1:0"),))


def test_a_stranger_waits_and_is_let_pass_when_it_comes_back() -> None:
    clock = FakeClock()
    with served(clock) as server:  # type: ignore[attr-defined]
        assert ask(server, request(), request(sender="")) == [WAIT, WAIT]
        clock.advance(300)
        assert ask(server, request(), request(recipient="bob@example.org")) == ["action=DUNNO", WAIT]


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol_state": "DATA"},
        {"sasl_username": "alice"},
        {"client_address": "unknown"},
        {"sender": "no address"},
        {"recipient": ""},
    ],
)
def test_about_others_it_says_nothing(changes: dict[str, str]) -> None:
    with served(FakeClock()) as server:  # type: ignore[attr-defined]
        assert ask(server, request(**changes)) == ["action=DUNNO"]


def test_a_request_without_end_is_cut_off() -> None:
    with served(FakeClock()) as server, server.connect("greylist") as sock:  # type: ignore[attr-defined]
        sock.sendall(b"x" * (LONGEST + 1))
        assert sock.recv(100) == b""
