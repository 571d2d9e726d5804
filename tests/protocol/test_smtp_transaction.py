"""One transaction of the client, group by group: the test is the server."""

from __future__ import annotations

import pytest

from mailserv.errors import ProtocolError
from mailserv.mail.address import NULL_REVERSE_PATH, Address
from mailserv.mail.reply import Reply
from mailserv.mail.smtp_reply import ServerReply
from mailserv.protocol.smtp_client import Capabilities, Step
from mailserv.protocol.smtp_transaction import Transaction, mail_command, rcpt_command

MAIL, RCPTS = b"MAIL FROM:<a@x>\r\n", [b"RCPT TO:<b@y>\r\n", b"RCPT TO:<c@y>\r\n"]
GROUP = MAIL + b"".join(RCPTS) + b"DATA\r\n"


def said(text: str) -> ServerReply:
    return ServerReply(int(text[:3]), (text[4:],))


def started(pipelining: bool = True, **options) -> Transaction:
    return Transaction(MAIL, RCPTS, pipelining=pipelining, **options)


def take(transaction: Transaction, *texts: str) -> Transaction:
    for text in texts:
        transaction.take(said(text))
    return transaction


def codes(transaction: Transaction) -> list[int]:
    return [reply.code for reply in transaction.replies]


def test_with_pipelining_the_whole_group_goes_at_once():
    transaction = started()
    assert transaction.commands() == GROUP
    assert transaction.commands() == b""
    take(transaction, "250 ok", "250 ok", "250 ok", "354 go")
    assert transaction.wants_content
    assert not transaction.wants_lone_dot
    transaction.content_sent()
    assert not transaction.is_over
    take(transaction, "250 2.0.0 taken")
    assert transaction.is_over
    assert transaction.replies == [Reply(250, "2.0.0", "taken")] * 2


def test_lesson_9_without_pipelining_each_command_waits_for_its_reply():
    transaction = started(pipelining=False, reset_first=True)
    for command, answer in [(b"RSET\r\n", "250 ok"), (MAIL, "250 ok"), (RCPTS[0], "250 ok"), (RCPTS[1], "550 no")]:
        assert transaction.commands() == command
        assert transaction.commands() == b""
        take(transaction, answer)
    assert transaction.commands() == b"DATA\r\n"
    take(transaction, "354 go")
    transaction.content_sent()
    take(transaction, "250 taken")
    assert codes(transaction) == [250, 550]


@pytest.mark.parametrize(
    ("answers", "outcome", "needs_reset"),
    [
        (["550 no"], [550, 550], False),
        (["250 ok", "550 no", "450 later"], [550, 450], True),
        (["250 ok", "250 ok", "550 no", "451 later"], [451, 550], True),
    ],
)
def test_without_pipelining_a_refusal_ends_the_transaction_at_once(answers, outcome, needs_reset):
    transaction = started(pipelining=False)
    for answer in answers:
        assert transaction.commands()
        take(transaction, answer)
    assert transaction.is_over
    assert codes(transaction) == outcome
    assert transaction.needs_reset is needs_reset


@pytest.mark.parametrize(
    ("answers", "outcome", "needs_reset"),
    [
        (["450 later", "503 no", "503 no", "503 no"], [450, 450], False),
        (["250 ok", "550 no", "450 later", "554 nobody"], [550, 450], True),
        (["250 ok", "550 no", "250 ok", "452 full"], [550, 452], True),
    ],
)
def test_with_pipelining_every_reply_of_the_group_is_taken(answers, outcome, needs_reset):
    transaction = started()
    transaction.commands()
    take(transaction, *answers[:-1])
    assert not transaction.is_over
    take(transaction, answers[-1])
    assert transaction.is_over
    assert codes(transaction) == outcome
    assert transaction.needs_reset is needs_reset


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [(["250 ok", "550 no", "551 no"], [550, 551]), (["550 no", "250 ok", "250 ok"], [550, 550])],
)
def test_lesson_9_a_354_with_nobody_left_is_answered_with_a_lone_dot(answers, outcome):
    transaction = started()
    transaction.commands()
    take(transaction, *answers, "354 go")
    assert transaction.wants_lone_dot
    assert not transaction.wants_content
    transaction.content_sent()
    take(transaction, "250 what?")
    assert transaction.is_over
    assert codes(transaction) == outcome, "an answer to nothing changes nothing"
    assert not transaction.needs_reset


def test_lesson_9_552_to_rcpt_means_452():
    transaction = started()
    transaction.commands()
    take(transaction, "250 ok", "552 5.5.3 too many", "250 ok", "354 go")
    assert transaction.replies[0] == Reply(452, "4.5.3", "too many")


def test_552_to_mail_is_what_it_says():
    transaction = started()
    transaction.commands()
    take(transaction, "552 5.3.4 too big", "503 no", "503 no", "503 no")
    assert codes(transaction) == [552, 552]


@pytest.mark.parametrize(
    ("before", "step", "outcome"),
    [
        ([], Step.MAIL, [421, 421]),
        (["250 ok"], Step.RCPT, [421, 421]),
        (["250 ok", "550 no"], Step.RCPT, [550, 421]),
        (["250 ok", "550 no", "250 ok"], Step.DATA, [550, 421]),
    ],
)
def test_lesson_9_421_ends_it_at_any_step(before, step, outcome):
    transaction = started()
    transaction.commands()
    take(transaction, *before, "421 4.3.2 bye")
    assert transaction.is_over
    assert transaction.closing == Reply(421, "4.3.2", "bye")
    assert transaction.closed_at is step
    assert codes(transaction) == outcome
    assert not transaction.dot_sent


@pytest.mark.parametrize(
    ("before", "wrong"),
    [
        ([], "354 go"),
        (["250 ok"], "354 go"),
        (["250 ok", "250 ok", "250 ok"], "250 ok"),
    ],
)
def test_a_reply_of_the_wrong_kind_means_that_we_are_out_of_step(before, wrong):
    transaction = started()
    transaction.commands()
    take(transaction, *before)
    with pytest.raises(ProtocolError, match="no answer to"):
        take(transaction, wrong)


def test_a_reply_that_nobody_asked_for_is_an_error():
    with pytest.raises(ProtocolError, match="nobody asked"):
        take(started(), "250 ok")


def test_a_refused_rset_ends_the_session_because_recipients_may_be_left_over():
    transaction = started(reset_first=True)
    assert transaction.commands() == b"RSET\r\n" + GROUP
    with pytest.raises(ProtocolError, match="RSET"):
        take(transaction, "500 what?")


def test_a_recipient_accepted_after_a_refused_mail_is_reset_before_the_next_message():
    transaction = started()
    transaction.commands()
    take(transaction, "450 later", "250 ok", "250 ok", "451 no")
    assert codes(transaction) == [450, 450]
    assert transaction.needs_reset


EVERYTHING = Capabilities({"SIZE": "100", "8BITMIME": "", "SMTPUTF8": "", "DSN": ""})
PARAMETERS = {"BODY": "8BITMIME", "SMTPUTF8": "", "RET": "HDRS", "ENVID": "x+2By", "SIZE": "1", "AUTH": "<>"}


@pytest.mark.parametrize(
    ("parameters", "known", "is_8bit", "utf8", "line"),
    [
        ({}, Capabilities(), False, False, "MAIL FROM:<a@x.example>"),
        (PARAMETERS, Capabilities(), True, False, "MAIL FROM:<a@x.example>"),
        (
            PARAMETERS,
            EVERYTHING,
            False,
            True,
            "MAIL FROM:<a@x.example> SIZE=7 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By",
        ),
        ({}, EVERYTHING, True, False, "MAIL FROM:<a@x.example> SIZE=7 BODY=8BITMIME"),
        ({"ENVID": "a b", "RET": "x\r\ny"}, EVERYTHING, False, False, "MAIL FROM:<a@x.example> SIZE=7"),
    ],
)
def test_lesson_9_mail_has_a_parameter_only_if_it_was_offered(parameters, known, is_8bit, utf8, line):
    command = mail_command(Address("a", "x.example"), parameters, known, size=7, is_8bit=is_8bit, utf8=utf8)
    assert command == line.encode() + b"\r\n"


def test_addresses_are_written_as_they_must_be():
    nothing = Capabilities()
    assert mail_command(NULL_REVERSE_PATH, {}, nothing, size=1, is_8bit=False, utf8=False) == b"MAIL FROM:<>\r\n"
    assert rcpt_command(Address("a b", "x.example"), {}, nothing) == b'RCPT TO:<"a b"@x.example>\r\n'
    assert rcpt_command(Address("ä", "x.example"), {}, EVERYTHING) == "RCPT TO:<ä@x.example>\r\n".encode()


def test_lesson_9_rcpt_has_a_parameter_only_if_it_was_offered():
    parameters = {"NOTIFY": "SUCCESS,FAILURE", "ORCPT": "rfc822;b@y.example", "X": "1"}
    address = Address("b", "y.example")
    assert rcpt_command(address, parameters, Capabilities()) == b"RCPT TO:<b@y.example>\r\n"
    assert rcpt_command(address, parameters, EVERYTHING) == (
        b"RCPT TO:<b@y.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b@y.example\r\n"
    )
