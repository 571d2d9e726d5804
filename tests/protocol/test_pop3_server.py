"""The POP3 core: syntax, the order of commands in every phase, and answers that are never in memory whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from mailserv.errors import ProtocolError
from mailserv.protocol import pop3_commands as pop3
from mailserv.protocol.pop3_commands import (
    COMMANDS,
    Auth,
    AuthLine,
    Capa,
    Dele,
    Event,
    ExtensionCommand,
    ExtensionLogin,
    List,
    Noop,
    Pass,
    Quit,
    Rejected,
    Retr,
    Rset,
    Stat,
    Stls,
    Top,
    Uidl,
    User,
)
from mailserv.protocol.pop3_server import AUTH_LINE, COMMAND_LINE, NEXT_PHASE, SEND_SIZE, Phase, Pop3Server

LINES: dict[type[Event], bytes] = {
    User: b"USER alice@example.org",
    Pass: b"PASS secret",
    Auth: b"AUTH PLAIN",
    Stls: b"STLS",
    Capa: b"CAPA",
    Stat: b"STAT",
    List: b"LIST",
    Uidl: b"UIDL",
    Retr: b"RETR 1",
    Dele: b"DELE 1",
    Top: b"TOP 1 0",
    Noop: b"NOOP",
    Rset: b"RSET",
    Quit: b"QUIT",
}
COMMAND_PHASES = (Phase.AUTHORIZATION, Phase.HAS_USER, Phase.TRANSACTION)
PAIRS = list(product(COMMAND_PHASES, LINES))


def say(core: Pop3Server, line: bytes) -> Event | None:
    core.receive(line + b"\r\n")
    return core.next_event()


def core_in(phase: Phase) -> Pop3Server:
    core = Pop3Server()
    if phase in (Phase.HAS_USER, Phase.TRANSACTION):
        say(core, b"USER alice@example.org")
        core.answer(True, "")
    if phase is Phase.TRANSACTION:
        say(core, b"PASS secret")
        core.answer(True, "")
    if phase is Phase.AUTH:
        say(core, b"AUTH PLAIN")
        core.answer_auth(b"")
    if phase is Phase.CLOSED:
        core.close("bye")
    core.output()
    assert core.phase is phase
    return core


@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize(("phase", "kind"), PAIRS, ids=str)
def test_each_command_in_each_phase_goes_where_the_table_says(phase: Phase, kind: type[Event], ok: bool) -> None:
    core = core_in(phase)
    event = say(core, LINES[kind])
    if (phase, kind) in NEXT_PHASE:
        assert type(event) is kind
        core.answer(ok, "text")
        assert core.phase is NEXT_PHASE[phase, kind][0 if ok else 1]
        assert core.output() == (b"+OK text\r\n" if ok else b"-ERR text\r\n")
    else:
        assert event == Rejected(
            f"{LINES[kind].split()[0].decode()} is not for this state", LINES[kind].split()[0].decode()
        )
        core.answer(False, event.text)
        assert core.phase is phase


def test_the_table_knows_every_phase_and_every_event() -> None:
    assert {phase for phase, _ in NEXT_PHASE} == set(Phase) - {Phase.CLOSED}
    assert {kind for _, kind in NEXT_PHASE} == {*LINES, AuthLine, Rejected, ExtensionCommand, ExtensionLogin}
    assert set(COMMANDS.values()) == set(LINES)


def test_only_a_login_opens_the_maildrop() -> None:
    opening = {kind for (phase, kind), (ok, err) in NEXT_PHASE.items() if ok is Phase.TRANSACTION is not phase}
    assert opening == {Pass, Auth, AuthLine, ExtensionLogin}
    assert not [pair for pair, (_, err) in NEXT_PHASE.items() if err is Phase.TRANSACTION is not pair[0]]


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (b"stat", Stat()),
        (b"STAT ", Stat()),
        (b"LIST", List(None)),
        (b"LIST 7", List(7)),
        (b"LIST  007 ", List(7)),
        (b"uidl 2147483647", Uidl(2147483647)),
        (b"RETR 1", Retr(1)),
        (b"DELE 10", Dele(10)),
        (b"TOP 1 0", Top(1, 0)),
        (b"TOP 1 99999999999999999999", Top(1, pop3.MAX_NUMBER + 1)),
        (b"QUIT", Quit(updates=True)),
    ],
)
def test_commands_of_a_transaction_are_read(line: bytes, event: Event) -> None:
    assert say(core_in(Phase.TRANSACTION), line) == event


def test_commands_before_the_login_are_read() -> None:
    assert say(core_in(Phase.AUTHORIZATION), b"user Alice@Example.ORG ") == User("Alice@Example.ORG")
    assert say(core_in(Phase.AUTHORIZATION), "USER müller".encode()) == User("müller")
    assert say(core_in(Phase.AUTHORIZATION), b"auth plain AGEAYg==") == Auth("PLAIN", "AGEAYg==")
    assert say(core_in(Phase.AUTHORIZATION), b"QUIT") == Quit(updates=False)
    assert say(core_in(Phase.HAS_USER), b"QUIT") == Quit(updates=False)


@pytest.mark.parametrize("password", [" two  words ", "sécret", " ", "tab\there"])
def test_pass_takes_the_rest_of_the_line(password: str) -> None:
    assert say(core_in(Phase.HAS_USER), b"PASS " + password.encode()) == Pass(password)


@pytest.mark.parametrize("line", [b"PASS", b"PASS ", b"PASS a\0b", b"PASS \xff", b"PASS a\nb", b"PASS a\rb"])
def test_what_is_no_password_is_refused(line: bytes) -> None:
    assert isinstance(say(core_in(Phase.HAS_USER), line), Rejected)


@pytest.mark.parametrize(
    "number", [b"0", b"00", b"-1", b"+1", b"1.0", b"1_0", b"0x1", b"4294967297", b"18446744073709551617", b"9" * 200]
)
@pytest.mark.parametrize("verb", [b"RETR", b"DELE", b"LIST", b"UIDL", b"TOP"])
def test_lesson_10_a_number_is_what_it_says(verb: bytes, number: bytes) -> None:
    line = verb + b" " + number + (b" 0" if verb == b"TOP" else b"")
    event = say(core_in(Phase.TRANSACTION), line)
    assert isinstance(event, Rejected)
    assert (event.command, event.close) == (verb.decode(), False)


@pytest.mark.parametrize("digit", "١१１²")
def test_digits_of_other_scripts_are_no_numbers(digit: str) -> None:
    assert say(core_in(Phase.TRANSACTION), f"RETR {digit}".encode()) == Rejected(pop3.SYNTAX, "RETR")


@pytest.mark.parametrize(
    "line",
    [
        b"RETR",
        b"RETR 1 2",
        b"TOP 1",
        b"TOP 1 2 3",
        b"TOP",
        b"TOP x 1",
        b"TOP 1 -1",
        b"LIST 1 2",
        b"STAT 1",
        b"NOOP x",
        b"RSET x",
        b"CAPA x",
        b"QUIT x",
        b"DELE",
    ],
)
def test_too_few_and_too_many_arguments_are_refused(line: bytes) -> None:
    event = say(core_in(Phase.TRANSACTION), line)
    assert event == Rejected(pop3.SYNTAX, line.split()[0].decode())


@pytest.mark.parametrize("line", [b"USER", b"USER a b", b"USER a\0b", b"AUTH", b"AUTH PLAIN x y", b"STLS x"])
def test_the_same_before_the_login(line: bytes) -> None:
    assert say(core_in(Phase.AUTHORIZATION), line) == Rejected(pop3.SYNTAX, line.split()[0].decode())


@pytest.mark.parametrize("phase", COMMAND_PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("line", [b"", b":", b"\0", b"\xff", b"XYZZY", b"USER\0x", b"NOOP\nNOOP", b"\r", b"x" * 254])
def test_nothing_odd_does_harm(phase: Phase, line: bytes) -> None:
    core = core_in(phase)
    event = say(core, line)
    assert isinstance(event, Rejected)
    assert not event.close
    core.answer(False, event.text)
    assert core.phase is phase
    assert isinstance(say(core, b"CAPA"), Capa)


def test_a_command_has_255_octets() -> None:
    core = core_in(Phase.AUTHORIZATION)
    name = "x" * (COMMAND_LINE - 7)
    assert say(core, b"USER " + name.encode()) == User(name)
    core.answer(True, "")
    assert say(core, b"USER x" + name.encode()) == Rejected("Line too long")
    core.answer(False, "Line too long")
    assert core.phase is Phase.HAS_USER


def test_a_line_without_an_end_closes_the_session() -> None:
    core = core_in(Phase.AUTHORIZATION)
    core.receive(b"x" * 70_000)
    event = core.next_event()
    assert event == Rejected("Line too long", close=True)
    core.answer(False, "Line too long")
    assert core.phase is Phase.CLOSED
    core.receive(b"CAPA\r\n")
    assert core.next_event() is None


def test_lesson_11_a_browser_ends_the_session() -> None:
    core = core_in(Phase.AUTHORIZATION)
    event = say(core, b"POST / HTTP/1.1")
    assert isinstance(event, Rejected)
    assert event.close
    core.answer(False, event.text)
    assert core.phase is Phase.CLOSED


def test_an_auth_exchange_goes_to_and_fro() -> None:
    core = core_in(Phase.AUTH)
    assert say(core, b"QUIT") == AuthLine(b"QUIT")
    core.answer_auth(b"more")
    assert core.output() == b"+ bW9yZQ==\r\n"
    assert say(core, b"*") == AuthLine(None)
    core.answer(False, "cancelled")
    assert core.phase is Phase.AUTHORIZATION


def test_an_overlong_auth_line_ends_the_exchange() -> None:
    core = core_in(Phase.AUTH)
    assert say(core, b"x" * (AUTH_LINE - 2)) == AuthLine(b"x" * (AUTH_LINE - 2))
    core.answer_auth(b"")
    assert say(core, b"x" * (AUTH_LINE - 1)) == Rejected("Line too long")
    core.answer(False, "Line too long")
    assert core.phase is Phase.AUTHORIZATION


def test_invariant_6_bytes_before_the_handshake_are_an_error() -> None:
    core = core_in(Phase.HAS_USER)
    say(core, b"STLS\r\nUSER injected")
    core.answer(True, "begin")
    assert core.has_input
    with pytest.raises(ProtocolError, match="before the handshake"):
        core.started_tls()


def test_after_the_handshake_the_user_is_forgotten() -> None:
    core = core_in(Phase.HAS_USER)
    say(core, b"STLS")
    core.answer(True, "begin")
    core.started_tls()
    assert core.phase is Phase.AUTHORIZATION
    assert isinstance(say(core, b"PASS secret"), Rejected)


def test_short_lists_go_to_the_output_with_what_was_there() -> None:
    core = core_in(Phase.TRANSACTION)
    say(core, b"NOOP")
    core.answer(True, "")
    say(core, b"LIST")
    core.answer_list("2 messages", ["1 120", ".odd"])
    say(core, b"UIDL")
    core.answer_list("none", [])
    assert core.output() == b"+OK\r\n+OK 2 messages\r\n1 120\r\n..odd\r\n.\r\n+OK none\r\n.\r\n"


def test_a_small_message_is_one_block_with_what_was_to_be_sent_before() -> None:
    core = core_in(Phase.TRANSACTION)
    say(core, b"NOOP")
    core.answer(True, "")
    say(core, b"RETR 1")
    assert list(core.answer_lines("9 octets", [b"Hi\r\n", b".\r\nend"])) == [
        b"+OK\r\n+OK 9 octets\r\nHi\r\n..\r\nend\r\n.\r\n"
    ]
    assert isinstance(say(core, b"NOOP"), Noop)


def test_answers_to_a_burst_are_much_from_64_kib_on() -> None:
    core = core_in(Phase.TRANSACTION)
    for _ in range(16):
        assert not core.has_much
        say(core, b"RETR 1")
        core.answer_message("4096 octets", b"x" * 4094 + b"\r\n")
    assert core.has_much
    assert len(core.output()) > SEND_SIZE
    assert not core.has_much


def test_a_message_in_memory_is_answered_as_one_in_blocks_is() -> None:
    for content in (b"", b"Hi\r\n", b".\r\nend", b"a\r\n.\r\n.", b"\r\n"):
        whole, blocks = core_in(Phase.TRANSACTION), core_in(Phase.TRANSACTION)
        say(whole, b"RETR 1")
        whole.answer_message("octets", content)
        say(blocks, b"RETR 1")
        assert whole.output() == b"".join(blocks.answer_lines("octets", [content[:1], content[1:]]))
        assert isinstance(say(whole, b"NOOP"), Noop)


def test_a_large_message_is_never_in_memory_whole() -> None:
    core = core_in(Phase.TRANSACTION)
    say(core, b"RETR 1")
    taken = 0

    def blocks() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 16382 + b"\r\n"

    stream = core.answer_lines("many octets", blocks())
    assert len(next(stream)) <= SEND_SIZE + 16384
    assert taken <= 5
    with pytest.raises(RuntimeError, match="Retr has not been answered"):
        core.next_event()
    assert sum(map(len, stream)) > 90 * 16384
    assert core.next_event() is None


def test_an_answer_is_one_line_of_at_most_512_octets() -> None:
    core = core_in(Phase.AUTHORIZATION)
    core.greet("POP3 ready")
    say(core, b"CAPA")
    core.answer(False, "a\r\nb\tü " + "x" * 600)
    greeting, answer, rest = core.output().split(b"\r\n")
    assert greeting == b"+OK POP3 ready"
    assert answer.startswith(b"-ERR a b ? xxx")
    assert (len(answer), rest) == (510, b"")


def test_the_session_can_end_it_at_any_time() -> None:
    core = core_in(Phase.TRANSACTION)
    say(core, b"NOOP")
    core.close("[SYS/TEMP] shutting down")
    assert core.output() == b"-ERR [SYS/TEMP] shutting down\r\n"
    assert core.phase is Phase.CLOSED
    assert core.next_event() is None


def test_each_event_is_answered_exactly_once() -> None:
    core = core_in(Phase.TRANSACTION)
    with pytest.raises(RuntimeError, match="no event"):
        core.answer(True, "")
    say(core, b"NOOP")
    with pytest.raises(RuntimeError, match="Noop has not been answered"):
        core.next_event()
    with pytest.raises(RuntimeError, match="no AUTH exchange"):
        core.answer_auth(b"")


def test_secrets_are_not_in_a_repr() -> None:
    assert "s3cret" not in repr(Pass("s3cret")) + repr(Auth("PLAIN", "s3cret")) + repr(AuthLine(b"s3cret"))
