"""What is never sent, and what a message needs of the server (lesson 9)."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from sending import CONTENT, delivery, hop, outcomes, row

from mailserv.errors import StoreUnavailable
from mailserv.mail.address import Address
from mailserv.mail.outcome import Deferred, Delivered, Failed
from mailserv.mail.reply import LOCAL_ERROR
from mailserv.mail.value import replace
from mailserv.testing.sink import ScriptedMX

UTF8_CONTENT = "Subject: Grüße\r\n\r\nHallo\r\n".encode()


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"nul\0\r\n", b"x\r\n\r\n.\n.\r\n"])
def test_lesson_9_no_bare_line_end_and_no_nul_is_ever_sent(serve, transport, content):
    mx = serve()
    bad, good = transport().deliver([delivery(hop(mx), content=content), delivery(hop(mx))])
    assert isinstance(bad.outcomes[0], Failed)
    assert bad.outcomes[0].reply.enhanced == "5.6.0"
    assert isinstance(good.outcomes[0], Delivered)
    assert [m.content for m in mx.messages] == [CONTENT]


def test_a_batch_that_can_not_be_sent_opens_no_connection(transport):
    with ScriptedMX() as gone:
        next_hop = hop(gone)
    assert outcomes(transport().deliver([delivery(next_hop, content=b"\0")])) == [("Q1", "Failed", 554)]


def test_lesson_9_no_line_over_998_octets_is_ever_sent(serve, transport):
    mx = serve()
    [attempt] = transport().deliver([delivery(hop(mx), content=b"Subject: x\r\n\r\n" + b"." * 2500 + b"\r\n")])
    assert isinstance(attempt.outcomes[0], Delivered)
    content = mx.messages[0].content
    assert max(map(len, content.split(b"\r\n"))) == 998
    assert content.replace(b"\r\n ", b"") == b"Subject: x\r\n\r\n" + b"." * 2500 + b"\r\n"


@pytest.mark.parametrize("text", ["bob\r\nDATA", "nul\0", "esc\x1b"])
def test_no_address_carries_a_control_character_onto_the_wire(serve, transport, text):
    mx = serve()
    evil, good = Address(text, "example.net"), Address("bob", "example.net")
    bad_recipient = replace(delivery(hop(mx)), rows=(row(evil), row(good)))
    bad_sender = replace(delivery(hop(mx)), reverse_path=evil)
    attempts = list(transport().deliver([bad_recipient, bad_sender]))
    assert [[type(o) for o in a.outcomes] for a in attempts] == [[Failed, Delivered], [Failed]]
    assert attempts[0].outcomes[0].reply.enhanced == "5.1.3"
    assert [m.rcpts for m in mx.messages] == [("<bob@example.net>",)]


@pytest.mark.parametrize(
    ("recipients", "options", "kinds"),
    [
        (["bob@x.test"], {}, [Delivered]),
        (["bob@x.test"], {"parameters": {"SMTPUTF8": ""}}, [Delivered]),
        (["bob@x.test"], {"parameters": {"SMTPUTF8": ""}, "content": UTF8_CONTENT}, [Failed]),
        (["bob@x.test"], {"content": UTF8_CONTENT}, [Delivered]),
        (["böb@x.test", "bob@x.test"], {}, [Failed, Delivered]),
        (["bob@x.test"], {"reverse_path": "älice@example.org"}, [Failed]),
    ],
)
def test_lesson_9_what_needs_smtputf8_fails_where_it_is_not_offered(serve, transport, recipients, options, kinds):
    mx = serve(capabilities=("PIPELINING", "8BITMIME"))
    [attempt] = transport().deliver([delivery(hop(mx), *recipients, **options)])
    assert [type(o) for o in attempt.outcomes] == kinds
    assert {o.reply.enhanced for o in attempt.outcomes if isinstance(o, Failed)} <= {"5.6.7"}
    assert not any("SMTPUTF8" in line for line in mx.commands)


@pytest.mark.parametrize(
    ("recipient", "options"),
    [
        ("bob@x.test", {"parameters": {"SMTPUTF8": ""}}),
        ("böb@x.test", {}),
        ("bob@x.test", {"reverse_path": "älice@example.org"}),
    ],
)
def test_smtputf8_is_asked_for_where_it_is_offered_and_needed(serve, transport, recipient, options):
    mx = serve()
    [attempt] = transport().deliver([delivery(hop(mx), recipient, **options)])
    assert isinstance(attempt.outcomes[0], Delivered)
    assert mx.messages[0].mail.endswith(" SMTPUTF8")
    assert mx.messages[0].rcpts == (f"<{recipient}>",)


def test_8_bit_content_goes_to_a_server_without_8bitmime_as_it_is(serve, transport):
    mx = serve(capabilities=("PIPELINING",))
    [attempt] = transport().deliver([delivery(hop(mx), content=UTF8_CONTENT, parameters={"BODY": "8BITMIME"})])
    assert isinstance(attempt.outcomes[0], Delivered)
    assert mx.messages[0].content == UTF8_CONTENT
    assert mx.messages[0].mail == "<alice@example.org>"


def test_8bitmime_is_declared_where_it_is_offered(serve, transport):
    mx = serve(capabilities=("8BITMIME",))
    list(transport().deliver([delivery(hop(mx), content=UTF8_CONTENT)]))
    assert mx.messages[0].mail == "<alice@example.org> BODY=8BITMIME"


@pytest.mark.parametrize(("limit", "kind"), [(len(CONTENT) - 1, Failed), (len(CONTENT), Delivered), (0, Delivered)])
def test_a_message_larger_than_the_server_takes_is_not_offered(serve, transport, limit, kind):
    mx = serve(capabilities=(f"SIZE {limit}",))
    [attempt] = transport().deliver([delivery(hop(mx))])
    assert isinstance(attempt.outcomes[0], kind)
    assert len(mx.messages) == (kind is Delivered)
    if kind is Failed:
        assert attempt.outcomes[0].reply.enhanced == "5.3.4"


def test_lesson_9_after_helo_no_parameter_is_sent(serve, transport):
    mx = serve({"EHLO": "500 What?"})
    message = delivery(hop(mx), parameters={"BODY": "8BITMIME", "RET": "HDRS"}, rcpt_parameters={"NOTIFY": "NEVER"})
    [attempt] = transport().deliver([message])
    assert isinstance(attempt.outcomes[0], Delivered)
    assert mx.commands[:2] == ["EHLO me.example.org", "HELO me.example.org"]
    assert (mx.messages[0].mail, mx.messages[0].rcpts) == ("<alice@example.org>", ("<bob@example.net>",))


def test_dsn_parameters_reach_a_server_that_offers_dsn(serve, transport):
    mx = serve(capabilities=("DSN",))
    message = delivery(hop(mx), parameters={"RET": "HDRS", "ENVID": "Q1"}, rcpt_parameters={"NOTIFY": "NEVER"})
    list(transport().deliver([message]))
    assert mx.messages[0].mail == "<alice@example.org> RET=HDRS ENVID=Q1"
    assert mx.messages[0].rcpts == ("<bob@example.net> NOTIFY=NEVER",)


def test_the_null_reverse_path_is_written_as_such(serve, transport):
    mx = serve(capabilities=())
    list(transport().deliver([delivery(hop(mx), reverse_path="")]))
    assert mx.messages[0].mail == "<>"


@dataclass
class Failing:
    """Content whose n-th reading breaks in the middle."""

    error: Exception
    good_readings: int
    size: int = 300_010

    def blocks(self):
        yield b"Subject: x\r\n\r\n"
        yield b"x" * 80 + b"\r\n"
        self.good_readings -= 1
        if self.good_readings < 0:
            raise self.error
        yield b"rest\r\n"


@pytest.mark.parametrize("good_readings", [0, 1])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), StoreUnavailable("the spool is gone")])
def test_content_that_can_not_be_read_is_deferred_and_never_sent_in_half(serve, transport, error, good_readings):
    mx = serve()
    smtp = transport()
    broken = delivery(hop(mx), content=Failing(error, good_readings))
    attempts = list(smtp.deliver([broken, delivery(hop(mx), queue_id="Q2")]))
    assert isinstance(attempts[0].outcomes[0], Deferred)
    assert all(m.content == CONTENT for m in mx.messages)
    if isinstance(error, StoreUnavailable):
        assert attempts[0].outcomes[0].reply == LOCAL_ERROR
        assert isinstance(attempts[1].outcomes[0], Delivered)


def test_lesson_6_the_text_of_a_reply_is_clean_when_it_becomes_an_outcome(serve, transport):
    mx = serve({"RCPT": "550 5.1.1 evil\x1b[2J \x00 ä " + "x" * 600 + "\n5.1.1 second line"})
    [attempt] = transport().deliver([delivery(hop(mx))])
    text = attempt.outcomes[0].reply.text
    assert text.startswith("evil?[2J ? ?? xxx")
    assert len(text) == 512
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(("told", "most"), [("RCPTMAX=2", 2), ("MAILMAX=9 RCPTMAX=1", 1), ("rcptmax=02", 5), ("X", 5)])
def test_a_transaction_has_no_more_recipients_than_the_server_says(serve, transport, told, most):
    mx = serve(capabilities=("PIPELINING", f"LIMITS {told}"))
    names = [f"r{number}@example.net" for number in range(5)]
    [attempt] = transport().deliver([delivery(hop(mx), *names)])
    assert all(isinstance(outcome, Delivered) for outcome in attempt.outcomes)
    assert [len(message.rcpts) for message in mx.messages] == [most] * (5 // most) + [5 % most] * bool(5 % most)
    assert mx.connections == 1


def test_a_session_has_no_more_transactions_than_the_server_says(serve, transport):
    mx = serve(capabilities=("PIPELINING", "LIMITS MAILMAX=2"))
    attempts = list(transport().deliver([delivery(hop(mx)) for _ in range(5)]))
    assert all(isinstance(attempt.outcomes[0], Delivered) for attempt in attempts)
    assert (len(mx.messages), mx.connections) == (5, 3)


BINARY = b"Subject: x\r\n\r\na\nb\0c\r.\r\n" + b"x" * 2000
BINARY_OFFERS = ("PIPELINING", "CHUNKING", "BINARYMIME")


def binary(next_hop: str, *recipients: str, **more):
    return delivery(next_hop, *recipients, content=BINARY, parameters={"BODY": "BINARYMIME"}, **more)


@pytest.mark.parametrize("offers", [BINARY_OFFERS, BINARY_OFFERS[1:]], ids=["pipelining", "one by one"])
def test_binary_content_goes_by_bdat_as_it_is(serve, transport, offers):
    mx = serve({"RCPT TO:<r1@": "550 5.1.1 No"}, capabilities=offers)
    attempts = list(transport().deliver([binary(hop(mx), "r0@example.net", "r1@example.net"), delivery(hop(mx))]))
    assert [type(outcome) for attempt in attempts for outcome in attempt.outcomes] == [Delivered, Failed, Delivered]
    assert [message.content for message in mx.messages] == [BINARY, CONTENT]
    assert mx.messages[0].mail.endswith(" BODY=BINARYMIME")
    assert f"BDAT {len(BINARY)} LAST" in mx.commands
    assert (mx.commands.count("DATA"), mx.connections) == (1, 1)


@pytest.mark.parametrize("offers", [("PIPELINING", "CHUNKING"), ("BINARYMIME",), ()])
def test_binary_content_fails_where_it_is_not_taken(serve, transport, offers):
    mx = serve(capabilities=offers)
    [attempt] = transport().deliver([binary(hop(mx))])
    assert isinstance(attempt.outcomes[0], Failed)
    assert attempt.outcomes[0].reply.enhanced == "5.6.3"
    assert mx.messages == []


def test_after_a_refused_chunk_rset_is_said_before_the_next_message(serve, transport):
    mx = serve({"DOT": ["550 5.7.1 No"]}, capabilities=BINARY_OFFERS)
    attempts = list(transport().deliver([binary(hop(mx)), binary(hop(mx))]))
    assert [type(attempt.outcomes[0]) for attempt in attempts] == [Failed, Delivered]
    bdat = f"BDAT {len(BINARY)} LAST"
    assert [line for line in mx.commands if line in {bdat, "RSET"}] == [bdat, "RSET", bdat]


def test_a_binary_message_for_nobody_is_not_sent(serve, transport):
    mx = serve({"RCPT": ["550 5.1.1 No"]}, capabilities=BINARY_OFFERS)
    attempts = list(transport().deliver([binary(hop(mx)), delivery(hop(mx))]))
    assert [type(attempt.outcomes[0]) for attempt in attempts] == [Failed, Delivered]
    assert not any(line.startswith("BDAT") for line in mx.commands)
