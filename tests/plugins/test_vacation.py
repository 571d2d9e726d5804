"""mailserv_vacation: who gets an answer, what it says, and who never gets one (RFC 3834)."""

from __future__ import annotations

import time
from email import message_from_bytes, policy
from typing import Any

import pytest
from delivering import make_delivery, outcomes
from hypothesis import given
from hypothesis import strategies as st
from submitting import Submitted

from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.hooks.host import load_plugins
from mailserv.logging import get_logger
from mailserv.mail.address import parse_mailbox
from mailserv.mail.outcome import Delivered
from mailserv.mail.plugin import MemoryTable, Services, SubmitError
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server
from mailserv_vacation import Plugin
from mailserv_vacation.answering import answer, why_not

ALICE, CAROL = "alice@example.org", "carol@far.example"
MESSAGE = (
    b"From: Carol <carol@far.example>\r\nTo: Alice <Alice@Example.org>\r\nSubject: hello\r\n"
    b"Message-ID: <2@far.example>\r\nReferences: <1@far.example>\r\n\r\nHello.\r\n"
)
DAY = 86400.0


def make(submitted: Submitted, clock: FakeClock | None = None, **away: Any) -> Plugin:
    values = {"users": {ALICE: {"text": "I am away.\nGrüße", **away}}}
    clock = clock or FakeClock()
    log, table = get_logger("plugin.vacation"), MemoryTable(clock.now)
    services = Services("vacation", "mail.example.org", clock.now, log, table=table, submit=submitted)
    return Plugin(read_section(Plugin.Settings, values, "vacation"), services)


def receive(plugin: Plugin, content: bytes = MESSAGE, reverse_path: str = CAROL, to: str = ALICE) -> str:
    """What was done about a message."""
    ((_, transport),) = plugin.register_transports()
    delivery = make_delivery(f"vacation:{ALICE}", to, content=content, reverse_path=reverse_path)
    (outcome,) = outcomes(transport, delivery)
    assert isinstance(outcome, Delivered)
    return outcome.reply.text


def test_an_answer_goes_to_the_reverse_path_from_the_null_one() -> None:
    submitted = Submitted()
    assert receive(make(submitted)) == "Answered as Q1"
    ((reverse_path, paths, content),) = submitted.messages
    assert (reverse_path, paths) == ("", [CAROL])
    assert content.isascii()
    assert b"\n" not in content.replace(b"\r\n", b"")
    sent = message_from_bytes(content, policy=policy.default)
    assert sent["Auto-Submitted"] == "auto-replied"
    assert sent["From"] == ALICE
    assert sent["To"] == CAROL
    assert sent["Subject"] == "Auto: hello"
    assert sent["In-Reply-To"] == "<2@far.example>"
    assert sent["References"] == "<1@far.example> <2@far.example>"
    assert sent.get_content().splitlines() == ["I am away.", "Grüße"]


def test_an_address_with_another_tag_is_no_other_sender() -> None:
    submitted = Submitted()
    plugin = make(submitted)
    receive(plugin, reverse_path="carol+1@far.example")
    assert "has had one" in receive(plugin, reverse_path="carol+2@far.example")
    assert "has had one" in receive(plugin)
    receive(plugin, reverse_path="+1@far.example")
    assert [paths for _, paths, _ in submitted.messages] == [["carol+1@far.example"], ["+1@far.example"]]


def test_a_sender_gets_one_answer_in_a_while_and_each_sender_gets_one() -> None:
    clock, submitted = FakeClock(), Submitted()
    plugin = make(submitted, clock)
    receive(plugin)
    assert "has had one" in receive(plugin, reverse_path="Carol@far.example")
    receive(plugin, reverse_path="dave@far.example")
    clock.advance(7 * DAY + 1)
    receive(plugin)
    assert [paths for _, paths, _ in submitted.messages] == [[CAROL], ["dave@far.example"], [CAROL]]


@pytest.mark.parametrize(
    "fields",
    [
        b"Auto-Submitted: auto-replied",
        b"Auto-Submitted: auto-generated; owner-email=x",
        b"Precedence: bulk",
        b"precedence: List",
        b"List-Id: <dev.example.org>",
        b"List-Unsubscribe: <mailto:x@y>",
        b"X-Auto-Response-Suppress: DR, OOF",
    ],
)
def test_mail_of_programs_and_lists_is_never_answered(fields: bytes) -> None:
    submitted = Submitted()
    assert receive(make(submitted), fields + b"\r\n" + MESSAGE).startswith("No answer: ")
    assert submitted.messages == []


def test_a_person_may_say_that_it_is_one() -> None:
    submitted = Submitted()
    assert receive(make(submitted), b"Auto-Submitted: no\r\n" + MESSAGE) == "Answered as Q1"


@pytest.mark.parametrize(
    "reverse_path",
    [
        "",
        "MAILER-DAEMON@far.example",
        "owner-dev@far.example",
        "dev-request@far.example",
        "dev-bounces+alice=example.org@far.example",
        "no-reply@far.example",
        "noreply-news@far.example",
        "SRS0=abcd=AA=far.example=carol@forwarder.example",
    ],
)
def test_addresses_behind_which_nobody_sits_are_never_answered(reverse_path: str) -> None:
    submitted = Submitted()
    assert receive(make(submitted), reverse_path=reverse_path).startswith("No answer: ")
    assert submitted.messages == []


def test_what_does_not_name_the_user_is_not_answered() -> None:
    to_all = MESSAGE.replace(b"Alice@Example.org", b"everybody@example.org")
    assert "not addressed" in receive(make(Submitted()), to_all)
    assert receive(make(Submitted(), addresses=["everybody@example.org"]), to_all) == "Answered as Q1"
    tagged = MESSAGE.replace(b"Alice@Example.org", b"alice+x@example.org")
    assert receive(make(Submitted()), tagged, to="alice+x@example.org") == "Answered as Q1"


def test_an_answer_that_cannot_be_sent_is_not_missed() -> None:
    failing = Submitted(lambda _: SubmitError("no such user", retry_later=False))
    assert receive(make(failing)) == "No answer: it could not be sent"


def test_a_user_who_is_back_has_no_answer() -> None:
    plugin = make(Submitted())
    ((_, transport),) = plugin.register_transports()
    (outcome,) = outcomes(transport, make_delivery("vacation:bob@example.org"))
    assert "is back" in outcome.reply.text


@pytest.mark.parametrize(
    "sender", ["grüße@far.example", '"a b"@far.example', "x@[192.0.2.1]", "x@xn--mnchen-3ya.example"]
)
def test_any_address_can_be_answered(sender: str) -> None:
    submitted = Submitted()
    assert receive(make(submitted), reverse_path=sender) == "Answered as Q1"
    ((_, paths, content),) = submitted.messages
    assert paths == [sender]
    assert f"To: {sender}\r\n".encode() in content


def test_an_encoded_subject_is_answered_with_the_words_it_holds() -> None:
    submitted = Submitted()
    receive(make(submitted), MESSAGE.replace(b"Subject: hello", b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?="))
    assert message_from_bytes(submitted.messages[0][2], policy=policy.default)["Subject"] == "Auto: Grüße"


def test_a_subject_in_utf8_is_answered_with_the_words_it_holds() -> None:
    """RFC 6532 §3: header fields may have UTF-8 as it is."""
    submitted = Submitted()
    receive(make(submitted), MESSAGE.replace(b"Subject: hello", "Subject: Grüße aus Köln".encode()))
    content = submitted.messages[0][2]
    assert content.isascii()
    assert message_from_bytes(content, policy=policy.default)["Subject"] == "Auto: Grüße aus Köln"


@pytest.mark.parametrize(
    ("user", "written"),
    [
        ("grüße@example.org", "Grüße <Grüße@example.org>"),
        ("grüße@example.org", "gru\u0308ße@example.org"),
        ("alice@xn--mnchen-3ya.example", "alice@münchen.example"),
        ("alice@xn--mnchen-3ya.example", "Alice <alice@XN--mnchen-3ya.example>"),
    ],
)
def test_a_user_is_named_in_any_spelling_of_the_address(user: str, written: str) -> None:
    header = f"To: bob@far.example, {written}\r\n".encode()
    assert why_not(parse_mailbox(CAROL), header, {parse_mailbox(user).key}) == ""


def test_a_subject_of_its_own_may_be_given() -> None:
    submitted = Submitted()
    receive(make(submitted, subject="Im Urlaub bis März"))
    assert message_from_bytes(submitted.messages[0][2], policy=policy.default)["Subject"] == "Im Urlaub bis März"


@given(st.binary(max_size=300), st.text(st.characters(exclude_categories=("Cs",)), max_size=50))
def test_no_header_section_of_a_stranger_breaks_it(header: bytes, subject: str) -> None:
    alice, carol = parse_mailbox(ALICE), parse_mailbox(CAROL)
    whole = b"To: alice@example.org\r\nSubject: " + subject.encode() + b"\r\n" + header
    assert isinstance(why_not(carol, whole, {ALICE}), str)
    made = answer(alice, carol, whole, "Away.", "", 0.0, "Q1")
    assert made.isascii()
    assert made.count(b"\r\n\r\n") >= 1
    assert message_from_bytes(made, policy=policy.default)["To"] == CAROL


@pytest.mark.parametrize("to", ["(" * 4000 + ")" * 4000, "a:" * 4000, "all:" + "a," * 200_000])
def test_no_list_of_recipients_is_too_deep_or_too_long(to: str) -> None:
    assert receive(make(Submitted()), f"To: {to}\r\n\r\nHello.\r\n".encode()).startswith("No answer: ")


def test_content_type_is_not_looked_at() -> None:
    before = time.process_time()
    receive(make(Submitted()), b"Content-Type: multipart/mixed" + b"; a" * 330_000 + b"\r\n" + MESSAGE)
    assert time.process_time() - before < 2.0


def test_of_any_number_of_references_the_last_ones_are_answered() -> None:
    alice, carol = parse_mailbox(ALICE), parse_mailbox(CAROL)
    header = b"Message-ID: <now@x>\r\nReferences: " + b"<a@b>" * 200_000 + b" <last@x>\r\n"
    made = message_from_bytes(answer(alice, carol, header, "Away.", "", 0.0, "Q1"), policy=policy.default)
    assert made["References"].endswith("<a@b> <last@x> <now@x>")
    assert len(made["References"]) < 1200


# When.


def test_hook_resolve_recipient_answers_on_the_days_of_absence_only() -> None:
    clock = FakeClock()  # 2026-01-01
    plugin = make(Submitted(), clock, begins="2026-01-02", ends="2026-01-03")
    address = parse_mailbox("alice+x@example.org")
    seen = []
    for _ in range(4):
        seen.append(plugin.resolve_recipient(address) is not None)
        clock.advance(DAY)
    assert seen == [False, True, True, False]
    assert plugin.resolve_recipient(parse_mailbox("bob@example.org")) is None


@pytest.mark.parametrize(
    "away",
    [
        {"begins": "tomorrow"},
        {"begins": "2026-02-02", "ends": "2026-02-01"},
        {"addresses": ["x"]},
        {"text": ""},
        {"subject": "a\nb"},
    ],
)
def test_settings_that_cannot_be_meant_stop_the_start(away: dict[str, str]) -> None:
    values = {"users": {ALICE: {"text": "Away.", **away}}}
    with pytest.raises(ConfigError, match=r"plugin\.vacation\."):
        load_plugins(("vacation",), (), None, {"vacation": values}, hostname="mail.example.org", clock=FakeClock())


# In the server.


def test_a_message_is_in_the_mailbox_and_answered_once() -> None:
    settings = {"users": {ALICE: {"text": "I am away."}}}
    accounts = {ALICE: "secret", "bob@example.org": "secret"}
    with mail_server(
        accounts=accounts, plugins=Plugins(enabled=("vacation",)), plugin={"vacation": settings}
    ) as server:
        for number in range(2):
            content = b"To: alice@example.org\r\nSubject: question %d\r\n\r\n" % number
            server.send("bob@example.org", [ALICE], content)
        (mail,) = server.wait_for_mail("bob@example.org")
        assert mail.startswith(b"Return-Path: <>\r\n")
        assert b"Auto-Submitted: auto-replied\r\n" in mail
        server.wait_for_empty_queue()
        assert len(server.mailbox(ALICE)) == 2
        assert len(server.mailbox("bob@example.org")) == 1
