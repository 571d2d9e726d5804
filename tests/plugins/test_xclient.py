"""XCLIENT: a trusted proxy speaks for another client, and nobody else does."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from smtp_talk import SmtpTalk

from mailserv.errors import ConfigError
from mailserv.hooks.host import load_plugins
from mailserv.settings import Plugins, Relay
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

TRUSTED = {
    "xclient": {"networks": ["127.0.0.0/8"]},
    "access": {"rules": [{"action": "deny", "networks": ["203.0.113.0/24"]}]},
}


@pytest.fixture
def server() -> Iterator[MailServer]:
    plugins = Plugins(enabled=("xclient", "access"))
    relay = Relay(networks=(ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("2001:db8::/32")))
    with mail_server(plugins=plugins, plugin=TRUSTED, relay=relay) as running:
        yield running


@pytest.fixture
def proxy(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect()) as talk:
        talk.ask("EHLO proxy.example.net")
        yield talk


def test_a_trusted_proxy_is_told_what_it_may_say(proxy: SmtpTalk) -> None:
    offered = proxy.ask("EHLO proxy.example.net")
    assert "XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT" in offered


def test_the_session_begins_anew_as_the_client_that_was_named(server: MailServer, proxy: SmtpTalk) -> None:
    answer = proxy.say("XCLIENT NAME=spike.example.net ADDR=192.0.2.7 PORT=4711 HELO=spike+2Eexample.net PROTO=ESMTP")
    assert answer.startswith("220 mail.example.org ESMTP")
    assert proxy.say("MAIL FROM:<smith@example.net>").startswith("503")
    assert "XCLIENT" not in proxy.ask("EHLO spike.example.net")
    assert proxy.message("smith@example.net", "alice@example.org").startswith("250")
    [message] = server.mailbox("alice@example.org")
    assert b"from spike.example.net ([192.0.2.7])" in message
    [line] = server.wait_for_log("xclient")
    assert (line["ip"], line["client"], line["helo"]) == ("127.0.0.1", "192.0.2.7", "spike.example.net")


def test_invariant_4_what_a_client_may_relay_is_its_own_and_not_the_proxys(proxy: SmtpTalk) -> None:
    proxy.say("XCLIENT ADDR=192.0.2.7")
    proxy.ask("EHLO spike.example.net")
    proxy.say("MAIL FROM:<smith@example.net>")
    assert proxy.say("RCPT TO:<carol@far.example>").startswith("550 5.7.1")


def test_a_client_of_the_relay_networks_may_relay_through_a_proxy(proxy: SmtpTalk) -> None:
    assert proxy.say("XCLIENT ADDR=IPV6:2001:db8::7").startswith("220")
    proxy.ask("EHLO spike.example.net")
    proxy.say("MAIL FROM:<smith@example.net>")
    assert proxy.say("RCPT TO:<carol@far.example>").startswith("250")


def test_a_login_that_the_proxy_has_checked_counts(proxy: SmtpTalk) -> None:
    proxy.say("XCLIENT ADDR=192.0.2.7 LOGIN=alice@example.org")
    proxy.ask("EHLO spike.example.net")
    assert proxy.say("MAIL FROM:<bob@example.org>").startswith("553 5.7.1")
    proxy.say("MAIL FROM:<alice@example.org>")
    assert proxy.say("RCPT TO:<carol@far.example>").startswith("250")


def test_what_is_unavailable_is_not_known(proxy: SmtpTalk) -> None:
    assert proxy.say("XCLIENT NAME=[UNAVAILABLE] ADDR=[TEMPUNAVAIL] LOGIN=[UNAVAILABLE]").startswith("220")


@pytest.mark.parametrize("unknown", ["[UNAVAILABLE]", "[TEMPUNAVAIL]"])
def test_invariant_4_a_client_whose_address_is_not_known_is_not_the_proxy(proxy: SmtpTalk, unknown: str) -> None:
    assert proxy.say(f"XCLIENT ADDR={unknown}").startswith("220")
    assert "XCLIENT" not in proxy.ask("EHLO spike.example.net")
    proxy.say("MAIL FROM:<smith@example.net>")
    assert proxy.say("RCPT TO:<carol@far.example>").startswith("550 5.7.1")


def test_the_hooks_for_a_new_client_are_asked(server: MailServer, proxy: SmtpTalk) -> None:
    assert proxy.say("XCLIENT ADDR=203.0.113.7").startswith("554")
    assert proxy.is_closed()
    server.wait_for_log("session", reason="refused", ip="203.0.113.7")


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "ADDR",
        "ADDR=mx",
        "ADDR=1.2.3.4 ADDR=1.2.3.5",
        "HELO=a+0D+0Ab",
        "HELO=a+20b",
        "PORT=x",
        "SHOE=42",
        "NAME=a+2",
    ],
)
def test_what_is_no_attribute_changes_nothing(proxy: SmtpTalk, argument: str) -> None:
    assert proxy.say(f"XCLIENT {argument}").startswith("501")
    assert proxy.say("MAIL FROM:<smith@example.net>").startswith("250")
    assert proxy.say("XCLIENT ADDR=192.0.2.7").startswith("503")


@pytest.mark.parametrize("networks", [["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"]])
def test_invariant_4_not_everybody_is_believed(networks: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"plugin\.xclient\.networks: .*open relay"):
        load_plugins(("xclient",), (), None, {"xclient": {"networks": networks}}, hostname="a.test", clock=FakeClock())


def test_a_zone_is_no_part_of_a_client_s_address(server: MailServer, proxy: SmtpTalk) -> None:
    assert proxy.say("XCLIENT ADDR=IPV6:fe80::7%a+0D+0ASubject:+20forged HELO=spike").startswith("220")
    proxy.ask("EHLO spike.example.net")
    assert proxy.message("smith@example.net", "alice@example.org").startswith("250")
    [message] = server.mailbox("alice@example.org")
    assert b"from spike.example.net ([IPv6:fe80::7])" in message
    assert b"forged" not in message


def test_nobody_is_believed_who_is_not_named() -> None:
    with mail_server(plugins=Plugins(enabled=("xclient",))) as server, SmtpTalk(server.connect()) as talk:
        assert "XCLIENT" not in talk.ask("EHLO client.example.net")
        assert talk.say("XCLIENT ADDR=192.0.2.7").startswith("550 5.7.1")
