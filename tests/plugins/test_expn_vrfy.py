"""VRFY and EXPN (RFC 5321 §3.5) on the whole server: what they tell, and to whom."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from smtp_talk import SmtpTalk

from mailserv.mail.address import Address
from mailserv.mail.asked_address import read_asked
from mailserv.settings import Plugins
from mailserv.testing.server import MailServer, mail_server

ACCOUNTS = {"alice@example.org": "secret", "bob@example.org": "secret"}
ALIASES = {
    "team@example.org": ("bob@example.org", "carol@far.example"),
    "robert@example.org": ("bob@example.org",),
    "books@example.org": ("bücher@far.example",),
}


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server(accounts=ACCOUNTS, aliases=ALIASES) as running:
        yield running


@pytest.fixture
def alice(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.log_in("alice@example.org", "secret").startswith("235")
        yield talk


def test_expn_names_each_member_on_a_line(alice: SmtpTalk) -> None:
    assert alice.ask("EXPN team") == "250-2.1.5 <bob@example.org>\r\n250 2.1.5 <carol@far.example>"
    assert alice.ask("EXPN <team@example.org>").endswith("<carol@far.example>")


def test_vrfy_tells_whose_mailbox_an_alias_is_and_not_who_is_behind_several(alice: SmtpTalk) -> None:
    assert alice.say("VRFY robert") == "250 2.1.5 <bob@example.org>"
    assert alice.say("VRFY team") == "250 2.1.5 <team@example.org>"


def test_a_reply_in_utf8_goes_to_who_asked_for_utf8_only(alice: SmtpTalk) -> None:
    assert alice.say("EXPN books").startswith("252 2.6.8 ")
    assert alice.say("EXPN books SMTPUTF8") == "250 2.1.5 <bücher@far.example>"


def test_expn_is_advertised_to_who_may_use_it_only(server: MailServer, alice: SmtpTalk) -> None:
    assert "EXPN" in alice.ask("EHLO client.example.net")
    with SmtpTalk(server.connect()) as stranger:
        assert "EXPN" not in stranger.ask("EHLO client.example.net")
        assert stranger.say("EXPN team").startswith("550 5.7.1")
        assert stranger.say("VRFY team").startswith("252 2.5.1")


def test_the_settings_name_other_networks_that_may_ask() -> None:
    settings = {"expn": {"networks": ["127.0.0.0/8"]}}
    with mail_server(aliases=ALIASES, plugin=settings) as server, SmtpTalk(server.connect()) as talk:
        assert "EXPN" in talk.ask("EHLO client.example.net")
        assert talk.say("EXPN robert").startswith("550 5.1.1")


@pytest.mark.parametrize("name", ["vrfy", "expn"])
def test_each_can_be_switched_off(name: str) -> None:
    with mail_server(plugins=Plugins(disabled=(name,))) as server, SmtpTalk(server.connect()) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.say(f"{name.upper()} alice").startswith("502 5.5.1")


@pytest.mark.parametrize("argument", ["", "<>", "two words", "@example.org", "a@b@c", "SMTPUTF8 x"])
def test_what_is_no_address_is_none(argument: str) -> None:
    assert read_asked(argument) is None


@pytest.mark.parametrize("argument", ["alice", "<alice>", " alice  SMTPUTF8"])
def test_a_name_without_a_domain_is_one_of_ours(argument: str) -> None:
    asked = read_asked(argument)
    assert asked is not None
    assert asked.address == Address("alice", "")
