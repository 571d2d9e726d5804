"""Every command in every state, with too few and too many arguments, and numbers that are none, over a live socket."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dialogue_core import shipped_pop3
from pop3_kit import ALICE, PASSWORD, WAIT, Pop3, Wire

MESSAGES = 3  # of which the second is marked as deleted
NUMBERS = ("0", "-1", "+1", "00", "1.0", "1e0", "0x1", "1_0", "x", "3 ", "4", "2", "4294967297", str(2**64), "9" * 200)
GOOD_NUMBERS = ("1", "3 ", "01")  # the third message, and the first
BY_NUMBER = ("RETR", "DELE", "LIST", "UIDL")
PLAIN = base64.b64encode(f"\0{ALICE}\0{PASSWORD}".encode()).decode()

AUTHORIZATION = {"CAPA", "QUIT", f"USER {ALICE}", f"AUTH PLAIN {PLAIN}", "UTF8", "LANG", "LANG *"}
TRANSACTION = {
    *(
        "STAT",
        "LIST",
        "UIDL",
        "NOOP",
        "RSET",
        "CAPA",
        "QUIT",
        "LANG",
        "LANG *",
        "TOP 1 0",
        "TOP 3 99",
        f"TOP 1 {2**64}",
    ),
    *(f"{verb} {number}" for verb in BY_NUMBER for number in GOOD_NUMBERS),
}
NEVER = {
    *("USER", "USER a b", "PASS", "PASS ", "AUTH", "AUTH X", "AUTH PLAIN a b", "STLS", "STLS x", "CAPA x", "STAT 1"),
    *(
        "LIST 1 2",
        "UIDL 1 2",
        "RETR",
        "RETR 1 2",
        "DELE",
        "DELE 1 2",
        "TOP",
        "TOP 1",
        "TOP 1 2 3",
        "TOP 1 -1",
        "TOP 1 x",
    ),
    *("NOOP x", "RSET x", "QUIT x", "UTF8 x", "LANG x y", "APOP a b", "HELP", "", " ", "STAT\0", "RETR \u0661"),
    *(f"{verb} {number}" for verb in BY_NUMBER for number in set(NUMBERS) - set(GOOD_NUMBERS)),
    *(f"TOP {number} 0" for number in set(NUMBERS) - set(GOOD_NUMBERS)),
}
STATES = {
    "AUTHORIZATION": AUTHORIZATION,
    "after USER": AUTHORIZATION | {f"PASS {PASSWORD}"},
    "TRANSACTION": TRANSACTION,
}
EVERY = sorted(NEVER | AUTHORIZATION | TRANSACTION | {f"PASS {PASSWORD}"})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pop3]:
    made = Pop3(Path(tmp_path_factory.mktemp("pop3")), extensions=shipped_pop3(), failed_logins_per_minute=0)
    for number in range(MESSAGES):
        made.deliver(f"Q{number}", b"Subject: %d\r\n\r\nbody\r\n" % number)
    yield made
    made.close()


def enter(wire: Wire, state: str) -> None:
    """Bring a fresh session there."""
    if state == "after USER":
        assert wire.ask(f"USER {ALICE}".encode()).startswith(b"+OK")
    elif state == "TRANSACTION":
        wire.log_in()
        assert wire.ask(b"DELE 2").startswith(b"+OK")


def is_alive(wire: Wire) -> bool:
    """And in step: the next command gets its own answer."""
    return wire.ask(b"LANG en") == b"+OK en Language changed\r\n"


def has_lines(command: str) -> bool:
    word, *arguments = command.split()
    return word in ("CAPA", "RETR", "TOP") or (word in ("LIST", "UIDL", "LANG") and not arguments)


@pytest.mark.parametrize("state", STATES)
def test_every_command_does_what_its_state_allows_and_nothing_else(
    server: Pop3, state: str, connect: Callable[[Pop3], Wire]
) -> None:
    for command in EVERY:
        wire = connect(server)
        enter(wire, state)
        answer = wire.ask(command.encode())
        assert answer.startswith(b"+OK" if command in STATES[state] else b"-ERR"), (state, command, answer)
        if answer.startswith(b"+OK") and has_lines(command):
            wire.lines()
        if command == "QUIT":
            assert wire.rest() == b""
            if state == "TRANSACTION":
                server.deliver(
                    "Q1", b"Subject: 1\r\n\r\nbody\r\n"
                )  # again: the second of three, as it was, is the third
        else:
            assert is_alive(wire), (state, command)
        wire.close()
        assert server.sessions_over.acquire(timeout=WAIT)  # or the next one would find the maildrop in use
