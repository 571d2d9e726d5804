"""The SMTP core: the order of commands in every phase, and what answers do to it."""

from __future__ import annotations

from itertools import product

import pytest
from smtp_cases import CONTENT, HELLO, core_in, fresh, make_view, say

from mailserv.errors import ProtocolError
from mailserv.mail import reply
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.extension import SessionView
from mailserv.mail.reply import Reply
from mailserv.protocol.commands import (
    AuthLine,
    Chunk,
    ChunkEnd,
    ContentBlock,
    ContentEnd,
    ContentRefused,
    Data,
    Ehlo,
    Event,
    ExtensionCommand,
    Helo,
    Mail,
    Noop,
    Quit,
    Rcpt,
    Rejected,
    Rset,
)
from mailserv.protocol.extensions import ExtensionTable
from mailserv.protocol.lines import DISCARD_LIMIT
from mailserv.protocol.smtp_phases import AFTER_REFUSAL, MOVES_ANYWAY, OUT_OF_ORDER
from mailserv.protocol.smtp_reader import read_in
from mailserv.protocol.smtp_server import NEXT_PHASE, Phase, SmtpServer, WireLimits

COMMAND_PHASES = (Phase.CONNECTED, Phase.GREETED, Phase.HAS_SENDER, Phase.HAS_RECIPIENT)
LINES: dict[type[Event], bytes] = {
    Helo: b"HELO client.example.net",
    Ehlo: b"EHLO client.example.net",
    Mail: b"MAIL FROM:<jones@example.net>",
    Rcpt: b"RCPT TO:<bob@example.org>",
    Data: b"DATA",
    Rset: b"RSET",
    Noop: b"NOOP",
    Quit: b"QUIT",
    ExtensionCommand: b"XANY argument",
}
POSITIVE = {Helo: HELLO, Ehlo: HELLO, Data: CONTENT, Quit: reply.CLOSING}
TWO_PHASES = [(phase, kind) for phase, kind in product(COMMAND_PHASES, LINES)]


def no_view() -> SessionView:
    raise AssertionError("no extension is concerned")


@pytest.mark.parametrize(("phase", "kind"), TWO_PHASES, ids=lambda case: getattr(case, "name", None) or case.__name__)
def test_a_positive_answer_moves_each_command_in_each_phase_as_the_table_says(phase: Phase, kind: type[Event]) -> None:
    core = core_in(phase)
    event = say(core, LINES[kind])
    if (phase, kind) in NEXT_PHASE:
        assert type(event) is kind
        core.answer(POSITIVE.get(kind, reply.OK))
        assert core.phase is NEXT_PHASE[phase, kind]
    else:
        assert isinstance(event, Rejected)
        assert event.reply == OUT_OF_ORDER[phase, kind]
        assert (event.reply.code, event.command, event.close) == (503, LINES[kind][:4].decode(), False)
        core.answer(event.reply)
        assert core.phase is phase


@pytest.mark.parametrize("code", [451, 550])
@pytest.mark.parametrize(("phase", "kind"), [pair for pair in TWO_PHASES if pair in NEXT_PHASE], ids=str)
def test_a_negative_answer_moves_nothing_but_what_ends_anyway(phase: Phase, kind: type[Event], code: int) -> None:
    core = core_in(phase)
    say(core, LINES[kind])
    core.answer(Reply(code, "", "no"))
    assert core.phase is (Phase.CLOSED if kind is Quit else phase)


@pytest.mark.parametrize(("phase", "kind"), TWO_PHASES, ids=lambda case: getattr(case, "name", None) or case.__name__)
def test_a_421_closes_in_every_phase(phase: Phase, kind: type[Event]) -> None:
    core = core_in(phase)
    say(core, LINES[kind])
    core.answer(reply.TOO_MANY_ERRORS)
    assert core.phase is Phase.CLOSED
    core.receive(b"NOOP\r\n")
    assert core.next_event(no_view) is None
    assert not core.has_input


def test_the_table_knows_every_phase_and_every_event() -> None:
    assert {phase for phase, _ in NEXT_PHASE} == set(Phase) - {Phase.CLOSED}
    others = {ContentBlock, ContentEnd, ContentRefused, Chunk, ChunkEnd, AuthLine, Rejected}
    assert {kind for _, kind in NEXT_PHASE} == {*LINES, *others}
    assert AFTER_REFUSAL.keys() <= NEXT_PHASE.keys()
    assert not OUT_OF_ORDER.keys() & NEXT_PHASE.keys()
    assert set(MOVES_ANYWAY) <= {kind for _, kind in NEXT_PHASE}


@pytest.mark.parametrize("phase", COMMAND_PHASES, ids=lambda phase: phase.name)
@pytest.mark.parametrize("line", [b"", b"XYZZY", b"\x00", b"TURN", b"NOOP\x01", b"NOOP a\nb", b"RSET x", b"x" * 600])
def test_a_rejected_line_changes_no_phase(phase: Phase, line: bytes) -> None:
    core = core_in(phase)
    event = say(core, line)
    assert isinstance(event, Rejected)
    assert 500 <= event.reply.code <= 502
    core.answer(event.reply)
    assert core.phase is phase


def test_parsed_commands_carry_addresses_and_parameters() -> None:
    core = core_in(Phase.GREETED)
    assert say(core, b"MAIL FROM:<> SIZE=5 SMTPUTF8") == Mail(NULL_REVERSE_PATH, {"SIZE": "5", "SMTPUTF8": ""})
    core.answer(reply.SENDER_OK)
    assert say(core, b"RCPT TO:<Bob@EXAMPLE.org> notify=Never") == Rcpt(
        Address("Bob", "example.org"), {"NOTIFY": "Never"}
    )


def test_the_view_is_made_only_for_an_extension() -> None:
    core = fresh()
    core.receive(
        b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nHello\r\n.\r\nRSET\r\nNOOP\r\nXX\r\nQUIT\r\n"
    )
    answers = [
        HELLO,
        reply.SENDER_OK,
        reply.RECIPIENT_OK,
        CONTENT,
        None,
        *[reply.OK] * 3,
        reply.UNRECOGNIZED,
        reply.CLOSING,
    ]
    for answer in answers:
        assert core.next_event(no_view) is not None
        if answer is not None:
            core.answer(answer)
    assert core.phase is Phase.CLOSED


def test_after_helo_there_are_no_parameters_and_after_ehlo_there_are_again() -> None:
    core = core_in(Phase.GREETED)
    say(core, b"HELO client.example.net")
    core.answer(HELLO)
    assert say(core, b"MAIL FROM:<a@b.example> SIZE=1") == Rejected(reply.UNKNOWN_PARAMETER, "MAIL")
    core.answer(reply.UNKNOWN_PARAMETER)
    assert isinstance(say(core, b"MAIL FROM:<a@b.example>"), Mail)
    core.answer(reply.SENDER_OK)
    assert say(core, b"RCPT TO:<a@b.example> NOTIFY=NEVER") == Rejected(reply.UNKNOWN_PARAMETER, "RCPT")
    core.answer(reply.UNKNOWN_PARAMETER)
    say(core, b"EHLO client.example.net")
    core.answer(HELLO)
    assert isinstance(say(core, b"MAIL FROM:<a@b.example> SIZE=1"), Mail)


def test_smtputf8_holds_for_one_transaction() -> None:
    core = core_in(Phase.GREETED)
    name = "ü@b.example".encode()
    assert isinstance(say(core, b"MAIL FROM:<" + name + b"> SMTPUTF8"), Mail)
    core.answer(reply.SENDER_OK)
    assert isinstance(say(core, b"RCPT TO:<" + name + b">"), Rcpt)
    core.answer(reply.RECIPIENT_OK)
    core.reset_transaction()
    assert core.phase is Phase.GREETED
    say(core, b"MAIL FROM:<a@b.example>")
    core.answer(reply.SENDER_OK)
    assert say(core, b"RCPT TO:<" + name + b">") == Rejected(reply.NEED_SMTPUTF8, "RCPT")


def test_an_extensions_verb_is_handed_on_where_it_may_come() -> None:
    core = core_in(Phase.CONNECTED)
    assert say(core, b"AUTH PLAIN") == Rejected(reply.NEED_HELO, "AUTH")
    core = core_in(Phase.HAS_SENDER)
    assert say(core, b"AUTH PLAIN") == Rejected(reply.BAD_SEQUENCE, "AUTH")
    core = core_in(Phase.GREETED)
    event = say(core, b"xany  Some Argument ")
    assert isinstance(event, ExtensionCommand)
    assert (event.verb.name, event.argument) == ("XANY", " Some Argument")
    core.answer(reply.OK)
    assert say(core, b"XSUB") == Rejected(reply.NOT_IMPLEMENTED, "XSUB")
    core.answer(reply.NOT_IMPLEMENTED)
    assert isinstance(say(core, b"XSUB", make_view(service="submission")), ExtensionCommand)


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        (b"XANY \x01", reply.SYNTAX),
        (b"XANY a\nb", reply.BARE_NEWLINE_IN_COMMAND),
        (b"XANY \xff", reply.INVALID_UTF8),
        (b"XANY \xc3\xbc", reply.NEED_SMTPUTF8),
    ],
)
def test_an_extensions_argument_is_as_clean_as_any(line: bytes, refusal: Reply) -> None:
    assert say(core_in(Phase.GREETED), line) == Rejected(refusal, "XANY")


def test_an_extensions_argument_may_be_utf8_when_it_says_so_after_ehlo() -> None:
    line = b"XANY \xc3\xbc smtputf8"
    assert isinstance(say(core_in(Phase.GREETED), line), ExtensionCommand)
    assert say(core_in(Phase.CONNECTED), line) == Rejected(reply.NEED_SMTPUTF8, "XANY")


def test_an_unknown_verb_is_not_told_to_anybody_who_writes_logs() -> None:
    """It may be a password that a client sent although AUTH was refused (invariant 10)."""
    assert say(core_in(Phase.GREETED), b"c2VjcmV0") == Rejected(reply.UNRECOGNIZED, "")


def test_the_command_line_has_512_octets_and_the_growth_of_the_extensions() -> None:
    limit = 512 + 26 + 10
    core = core_in(Phase.GREETED)
    assert say(core, b"NOOP " + b"x" * (limit - 7)) == Noop()
    core.answer(reply.OK)
    assert say(core, b"NOOP " + b"x" * (limit - 6)) == Rejected(reply.LINE_TOO_LONG)
    core.answer(reply.LINE_TOO_LONG)
    assert say(core, b"NOOP") == Noop()


def test_a_line_without_an_end_closes_the_session_in_bounded_memory() -> None:
    core = core_in(Phase.GREETED)
    for _ in range(DISCARD_LIMIT // 4096):
        core.receive(b"x" * 4096)
        assert core.next_event(no_view) is None
    core.receive(b"x")
    assert core.next_event(no_view) == Rejected(reply.LINE_ENDLESS, close=True)
    core.answer(reply.LINE_ENDLESS)
    assert core.phase is Phase.CLOSED


def test_content_comes_in_blocks_as_it_was_received_and_then_its_end() -> None:
    core = core_in(Phase.CONTENT)
    core.receive(b"Subject: x\r\n\r\n")
    core.receive(b"..dot\r\n")
    assert core.next_event(no_view) == ContentBlock(b"Subject: x\r\n\r\n")
    assert core.next_event(no_view) == ContentBlock(b".dot\r\n")
    assert core.next_event(no_view) is None
    core.receive(b".\r\nNOOP\r\n")
    assert core.next_event(no_view) == ContentEnd()
    core.receive(b"RSET\r\n")
    core.answer(reply.OK)
    assert core.next_event(no_view) == Noop()
    core.answer(reply.OK)
    assert core.next_event(no_view) == Rset()


def test_what_comes_behind_the_end_of_data_waits_even_before_the_end_is_noticed() -> None:
    core = core_in(Phase.CONTENT)
    core.receive(b"Hello\r\n.\r\nNO")
    core.receive(b"OP\r\n")
    assert core.next_event(no_view) == ContentBlock(b"Hello\r\n")
    assert core.next_event(no_view) == ContentEnd()
    core.answer(reply.OK)
    assert core.next_event(no_view) == Noop()


@pytest.mark.parametrize("answer", [reply.OK, reply.LOCAL_ERROR, reply.MESSAGE_TOO_BIG], ids=str)
def test_lesson_8_the_transaction_is_over_after_the_end_of_data_whatever_the_answer(answer: Reply) -> None:
    core = core_in(Phase.CONTENT)
    core.receive(b".\r\n")
    assert core.next_event(no_view) == ContentEnd()
    core.answer(answer)
    assert core.phase is Phase.GREETED
    assert say(core, b"RCPT TO:<alice@example.org>") == Rejected(reply.NEED_MAIL, "RCPT")


@pytest.mark.parametrize("end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r.\r\n", b"\n\r\n.\r"])
def test_invariant_5_a_bare_newline_is_refused_at_the_true_end_and_closes(end: bytes) -> None:
    core = core_in(Phase.CONTENT)
    core.receive(b"Hello" + end + b"MAIL FROM:<x@y.example>\r\n")
    while isinstance(event := core.next_event(no_view), ContentBlock):
        pass
    assert event is None
    core.receive(b"\r\n.\r\nNOOP\r\n")
    while isinstance(event := core.next_event(no_view), ContentBlock):
        pass
    assert event == ContentRefused(reply.BARE_NEWLINE)
    core.answer(reply.BARE_NEWLINE)
    assert core.phase is Phase.CLOSED
    assert core.next_event(no_view) is None


def test_a_client_that_ends_its_content_with_bare_newlines_hears_at_once() -> None:
    core = core_in(Phase.CONTENT)
    core.receive(b"Hello\n.\n")
    assert isinstance(core.next_event(no_view), ContentBlock)
    assert core.next_event(no_view) == ContentRefused(reply.BARE_NEWLINE)


def test_an_auth_exchange_goes_to_and_fro_and_ends_with_its_answer() -> None:
    core = core_in(Phase.AUTH)
    assert say(core, b"dXNlcg==") == AuthLine(b"dXNlcg==")
    core.answer_auth(b"Password:")
    assert core.output() == b"334 UGFzc3dvcmQ6\r\n"
    assert say(core, b"QUIT") == AuthLine(b"QUIT")
    core.answer(reply.AUTH_FAILED)
    assert core.phase is Phase.GREETED
    assert say(core, b"QUIT") == Quit()


def test_a_star_cancels_an_auth_exchange() -> None:
    core = core_in(Phase.AUTH)
    assert say(core, b"*") == AuthLine(None)
    core.answer(reply.AUTH_CANCELLED)
    assert core.phase is Phase.GREETED


def test_an_auth_line_has_a_limit_of_its_own_and_an_overlong_one_ends_the_exchange() -> None:
    core = core_in(Phase.AUTH)
    assert say(core, b"x" * 12286) == AuthLine(b"x" * 12286)
    core.answer_auth(b"")
    assert say(core, b"x" * 12287) == Rejected(reply.AUTH_LINE_TOO_LONG)
    core.answer(reply.AUTH_LINE_TOO_LONG)
    assert core.phase is Phase.GREETED


def test_invariant_6_bytes_before_the_handshake_are_an_error() -> None:
    core = core_in(Phase.HAS_SENDER)
    say(core, b"XANY\r\nMAIL FROM:<injected@example.net>")
    core.answer(reply.START_TLS)
    assert core.has_input
    with pytest.raises(ProtocolError, match="before the handshake"):
        core.started_tls()


def test_after_the_handshake_all_is_forgotten() -> None:
    core = core_in(Phase.GREETED)
    say(core, b"XANY")
    core.answer(reply.START_TLS)
    assert not core.has_input
    core.started_tls()
    assert core.phase is Phase.CONNECTED
    say(core, b"HELO client.example.net")
    core.answer(HELLO)
    assert say(core, b"MAIL FROM:<a@b.example> SIZE=1") == Rejected(reply.UNKNOWN_PARAMETER, "MAIL")


def test_a_group_is_answered_in_one_write() -> None:
    core = fresh()
    core.greet(Reply(220, "", "mail.example.org ESMTP"))
    assert core.output() == b"220 mail.example.org ESMTP\r\n"
    assert core.output() == b""
    core.receive(b"NOOP\r\nNOOP\r\nRS")
    while core.next_event(no_view) is not None:
        core.answer(reply.OK)
    assert core.output() == b"250 2.0.0 Ok\r\n250 2.0.0 Ok\r\n"


def test_the_session_can_end_it_at_any_time() -> None:
    for pending in (False, True):
        core = core_in(Phase.GREETED)
        if pending:
            say(core, b"NOOP")
        core.close(reply.SHUTTING_DOWN)
        assert core.output() == b"421 4.3.2 Server is shutting down; try again later\r\n"
        assert core.phase is Phase.CLOSED
        assert core.next_event(no_view) is None


def test_reset_transaction_leaves_other_phases_alone() -> None:
    for phase in (Phase.CONNECTED, Phase.GREETED, Phase.CONTENT, Phase.AUTH, Phase.CLOSED):
        core = core_in(phase)
        core.reset_transaction()
        assert core.phase is phase


def test_each_event_is_answered_exactly_once() -> None:
    core = core_in(Phase.GREETED)
    with pytest.raises(RuntimeError, match="no event"):
        core.answer(reply.OK)
    say(core, b"NOOP")
    with pytest.raises(RuntimeError, match="Noop has not been answered"):
        core.next_event(make_view)
    with pytest.raises(RuntimeError, match="AUTH comes"):
        core.answer_auth(b"")


def test_replies_are_ascii_on_the_wire() -> None:
    named = [value for value in vars(reply).values() if isinstance(value, Reply)]
    assert len(named) > 40
    for answer in named:
        assert answer.encode().isascii(), answer


def test_an_empty_table_is_a_server_of_the_core_alone() -> None:
    core = SmtpServer(extensions=ExtensionTable([]), limits=WireLimits())
    assert say(core, b"HELP") == Rejected(reply.NOT_IMPLEMENTED, "HELP")


def test_only_lines_of_the_core_s_commands_are_kept() -> None:
    """They may hold anything else, a password too (invariant 10)."""
    core = core_in(Phase.GREETED)
    before = read_in.cache_info().currsize
    for line in (b"AUTH PLAIN AGZvbwBiYXI=", b"AGZvbwBiYXI=", b"XANY secret", b"EHL0 secret", b"secret"):
        say(core, line)
        core.answer(reply.OK)
    assert read_in.cache_info().currsize == before


def test_a_verb_that_begins_as_one_of_the_core_s_is_another_one() -> None:
    core = fresh()
    for line in (b"MAILX FROM:<a@example.net>", b"QUITE", b"DATA\tx", b"EHLO2 x"):
        event = say(core, line)
        assert isinstance(event, Rejected)
        assert event.reply.code == 500
        core.answer(event.reply)
