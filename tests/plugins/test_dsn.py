"""DSN (RFC 3461) through the whole server: what is asked for at RCPT is told, or handed on to who will tell it."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.message import EmailMessage

import pytest
from smtp_talk import SmtpTalk

from mailserv.settings import Plugins
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

DSN_CAPABILITIES = ("PIPELINING", "SIZE 50000000", "8BITMIME", "DSN")


def submit(server: MailServer, *rcpts: str, sender: str = "alice@example.org", mail: str = "") -> str:
    """Alice sends; the reply to the dot."""
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.log_in("alice@example.org", "secret").startswith("235")
        assert talk.say(f"MAIL FROM:<{sender}> {mail}".rstrip()).startswith("250")
        for rcpt in rcpts:
            assert talk.say(f"RCPT TO:{rcpt}").startswith("250")
        assert talk.say("DATA").startswith("354")
        return talk.say("Subject: Lunch?\r\n\r\nAre you hungry?\r\n.")


def read_report(raw: bytes) -> tuple[EmailMessage, list[dict[str, str]]]:
    """A DSN, and the fields of its delivery report, block by block."""
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message["Return-Path"] == "<>"
    _, status, _ = message.iter_parts()
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    return message, [dict(block.items()) for block in blocks]


def the_report(server: MailServer) -> list[dict[str, str]]:
    [raw] = server.wait_for_mail("alice@example.org")
    return read_report(raw)[1]


@pytest.fixture
def mx() -> Iterator[ScriptedMX]:
    with ScriptedMX() as sink:
        yield sink


@pytest.fixture
def server(mx: ScriptedMX) -> Iterator[MailServer]:
    accounts = {"alice@example.org": "secret", "bob@example.org": "secret"}
    aliases = {"team@example.org": ("bob@example.org", "carol@far.example"), "robert@example.org": ("bob@example.org",)}
    routes = {"far.example": f"smtp:[{mx.host}]:{mx.port}"}
    with mail_server(accounts=accounts, aliases=aliases, routes=routes) as running:
        yield running


def test_delivery_into_a_mailbox_is_told_to_who_asked_and_committed_with_the_message(server: MailServer) -> None:
    submit(
        server,
        "<bob@example.org> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;Bob+2Bhome@example.org",
        mail="RET=FULL ENVID=QQ314159",
    )
    [raw] = server.mailbox("alice@example.org")  # it is there when the 250 is
    message, [about, bob] = read_report(raw)
    assert message["Subject"] == "Your message has arrived"
    assert about["Original-Envelope-Id"] == "QQ314159"
    assert bob["Action"] == "delivered"
    assert bob["Status"] == "2.1.5"
    assert bob["Final-Recipient"] == "rfc822; bob@example.org"
    assert bob["Original-Recipient"] == "rfc822; Bob+home@example.org"
    assert "Diagnostic-Code" not in bob
    assert b"Are you hungry?" not in raw  # RFC 3461 §4.3: RET is about failures


@pytest.mark.parametrize("notify", ["", " NOTIFY=NEVER", " NOTIFY=FAILURE,DELAY"])
def test_a_success_that_nobody_asked_for_is_not_told(server: MailServer, notify: str) -> None:
    submit(server, f"<bob@example.org>{notify}")
    assert len(server.mailbox("bob@example.org")) == 1
    assert server.mailbox("alice@example.org") == []


def test_invariant_3_a_success_is_not_told_to_the_null_reverse_path(server: MailServer) -> None:
    submit(server, "<bob@example.org> NOTIFY=SUCCESS", sender="")
    assert len(server.mailbox("bob@example.org")) == 1
    assert server.queue() == []


def test_a_success_is_not_told_to_a_reverse_path_that_is_refused_here(server: MailServer) -> None:
    with SmtpTalk(server.connect()) as talk:
        talk.ask("EHLO client.example.net")
        talk.say("MAIL FROM:<nobody@example.org>")
        talk.say("RCPT TO:<bob@example.org> NOTIFY=SUCCESS")
        talk.say("DATA")
        assert talk.say("Hi.\r\n.").startswith("250")
    assert server.queue() == []


def test_relaying_to_a_server_without_dsn_is_told_as_relayed(server: MailServer, mx: ScriptedMX) -> None:
    submit(server, "<carol@far.example> NOTIFY=SUCCESS", "<dave@far.example>", mail="ENVID=QQ314159")
    [_, carol] = the_report(server)
    assert carol["Action"] == "relayed"
    assert carol["Status"].startswith("2.")
    assert carol["Final-Recipient"] == "rfc822; carol@far.example"
    assert carol["Remote-MTA"] == "dns; 127.0.0.1"
    assert not any("ENVID" in line for line in mx.commands)


def test_a_server_with_dsn_gets_the_parameters_and_tells_of_the_success_itself() -> None:
    with (
        ScriptedMX(capabilities=DSN_CAPABILITIES) as mx,
        mail_server(routes={"far.example": f"smtp:[{mx.host}]:{mx.port}"}) as server,
    ):
        submit(server, "<carol@far.example> NOTIFY=SUCCESS ORCPT=rfc822;carol@far.example", mail="RET=HDRS ENVID=QQ1")
        mx.wait_for_messages(1)
        server.wait_for_empty_queue()
        assert "RCPT TO:<carol@far.example> NOTIFY=SUCCESS ORCPT=rfc822;carol@far.example" in mx.commands
        assert any(line.endswith(" RET=HDRS ENVID=QQ1") for line in mx.commands if line.startswith("MAIL"))
        assert server.mailbox("alice@example.org") == []


def test_an_alias_of_several_is_told_as_expanded_and_its_members_are_not_told(
    server: MailServer, mx: ScriptedMX
) -> None:
    submit(server, "<team@example.org> NOTIFY=SUCCESS")
    mx.wait_for_messages(1)
    server.wait_for_empty_queue()
    [_, team] = the_report(server)
    assert team["Action"] == "expanded"
    assert team["Final-Recipient"] == "rfc822; team@example.org"


def test_an_alias_of_one_is_told_as_what_it_stands_for(server: MailServer) -> None:
    submit(server, "<robert@example.org> NOTIFY=SUCCESS")
    [_, robert] = the_report(server)
    assert robert["Action"] == "delivered"
    assert robert["Original-Recipient"] == "rfc822; robert@example.org"


def test_a_failure_is_told_with_all_that_the_sender_asked_for(server: MailServer, mx: ScriptedMX) -> None:
    mx.answer("RCPT TO:<carol@", "550 5.1.1 No such user")
    submit(server, "<carol@far.example> NOTIFY=FAILURE ORCPT=rfc822;c@x.example", mail="RET=FULL ENVID=QQ314159")
    [raw] = server.wait_for_mail("alice@example.org")
    _, [about, carol] = read_report(raw)
    assert about["Original-Envelope-Id"] == "QQ314159"
    assert carol["Action"] == "failed"
    assert carol["Original-Recipient"] == "rfc822; c@x.example"
    assert b"Are you hungry?" in raw


@pytest.mark.parametrize("orcpt", [r"utf-8;\x{FC}ber@x.example", "rfc822;+C3+BCber@x.example", "RFC822;ber@x.example"])
def test_an_original_recipient_in_utf8_is_told_in_seven_bits(server: MailServer, orcpt: str) -> None:
    submit(server, f"<bob@example.org> NOTIFY=SUCCESS ORCPT={orcpt}")
    [_, bob] = the_report(server)
    told = {"RFC822;ber@x.example": "RFC822; ber@x.example"}.get(orcpt, r"utf-8; \x{FC}ber@x.example")
    assert bob["Original-Recipient"] == told


def test_a_failure_is_not_told_to_who_said_never(server: MailServer, mx: ScriptedMX) -> None:
    mx.answer("RCPT TO:<carol@", "550 5.1.1 No such user")
    submit(server, "<carol@far.example> NOTIFY=NEVER")
    server.wait_for_empty_queue()
    assert server.mailbox("alice@example.org") == []


def test_dsn_can_be_switched_off_by_its_name() -> None:
    with mail_server(plugins=Plugins(disabled=("dsn",))) as server, SmtpTalk(server.connect()) as talk:
        assert "DSN" not in talk.ask("EHLO client.example.net")
        assert talk.say("MAIL FROM:<> RET=FULL").startswith("555")
