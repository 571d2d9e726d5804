"""ETRN (RFC 1985): what waits for a node is tried at once, for the client that may ask for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from smtp_talk import SmtpTalk

from mailserv.errors import ConfigError
from mailserv.hooks.host import load_plugins
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

CLIENTS = {
    "etrn": {"clients": [{"networks": ["127.0.0.0/8"], "domains": ["far.example", "@sub.example", "München.example"]}]}
}


@pytest.fixture
def mx() -> Iterator[ScriptedMX]:
    with ScriptedMX({"MAIL": ["451 4.3.0 Later"] * 3}) as sink:
        yield sink


@pytest.fixture
def server(mx: ScriptedMX) -> Iterator[MailServer]:
    routes = {"*": f"smtp:[{mx.host}]:{mx.port}"}
    with mail_server(plugins=Plugins(enabled=("etrn",)), plugin=CLIENTS, routes=routes) as running:
        yield running


@pytest.fixture
def talk(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect()) as client:
        client.ask("EHLO client.example.net")
        yield client


def leave_waiting(server: MailServer, *rcpts: str) -> None:
    for rcpt in rcpts:
        server.send("alice@example.org", [rcpt], b"Hi.\r\n", login=("alice@example.org", "secret"))
        server.wait_for_log("delivery", outcome="deferred", recipient=rcpt)
    server.queue()  # what was settled is committed


def test_what_waits_for_a_node_is_sent_at_once(server: MailServer, mx: ScriptedMX, talk: SmtpTalk) -> None:
    leave_waiting(server, "carol@far.example", "dave@far.example", "erin@other.example")
    assert talk.say("ETRN Far.Example") == "253 2.0.0 2 pending messages for node Far.Example started"
    taken = mx.wait_for_messages(2)
    assert {message.rcpts[0] for message in taken} == {"<carol@far.example>", "<dave@far.example>"}


def test_a_node_that_was_dead_a_moment_ago_is_tried_at_once(server: MailServer, mx: ScriptedMX, talk: SmtpTalk) -> None:
    mx.answer("GREETING", ["421 4.3.2 Not yet"])
    leave_waiting(server, "carol@far.example")
    assert talk.say("ETRN far.example").startswith("253 2.0.0 1 pending")
    mx.answer("MAIL", [])
    mx.wait_for_messages(1)


def test_at_asks_for_the_subdomains_too(server: MailServer, mx: ScriptedMX, talk: SmtpTalk) -> None:
    leave_waiting(server, "carol@a.sub.example", "dave@sub.example", "erin@othersub.example")
    assert talk.say("ETRN @sub.example").startswith("253 2.0.0 2 pending")
    mx.wait_for_messages(2)
    assert talk.say("ETRN sub.example").startswith(("251", "253"))


def test_a_domain_is_a_clients_however_it_is_written(talk: SmtpTalk) -> None:
    assert talk.say("ETRN XN--mnchen-3ya.example").startswith("251 ")


def test_what_is_no_domain_stops_the_start() -> None:
    values = {"clients": [{"networks": ["192.0.2.1"], "domains": ["@far.example", "far example"]}]}
    with pytest.raises(ConfigError, match=r"plugin\.etrn\.clients\.domains"):
        load_plugins(("etrn",), (), None, {"etrn": values}, hostname="mail.example.org", clock=FakeClock())


def test_when_nothing_waits_it_is_said(talk: SmtpTalk) -> None:
    assert talk.say("ETRN far.example") == "251 2.0.0 No messages waiting for node far.example"


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("other.example", "459 4.7.1"),
        ("@far.example", "459 4.7.1"),
        ("x.far.example", "459 4.7.1"),
        ("a.sub.example", "251 2.0.0"),
        ("@a.sub.example", "251 2.0.0"),
        ("notsub.example", "459 4.7.1"),
        ("#queue", "501 5.5.4"),
        ("", "501 5.5.4"),
        ("two words", "501 5.5.4"),
        ("@", "501 5.5.4"),
    ],
)
def test_a_client_asks_for_its_own_domains_only(talk: SmtpTalk, argument: str, code: str) -> None:
    assert talk.say(f"ETRN {argument}").startswith(code)


def test_etrn_comes_after_ehlo_and_not_inside_a_transaction(server: MailServer, talk: SmtpTalk) -> None:
    with SmtpTalk(server.connect()) as fresh:
        assert fresh.say("ETRN far.example").startswith("503")
    talk.say("MAIL FROM:<smith@example.net>")
    assert talk.say("ETRN far.example").startswith("503")


def test_it_is_advertised_to_its_clients_only_and_off_by_default() -> None:
    with mail_server(plugins=Plugins(enabled=("etrn",))) as server, SmtpTalk(server.connect()) as stranger:
        assert "ETRN" not in stranger.ask("EHLO client.example.net")
        assert stranger.say("ETRN far.example").startswith("459")
    with mail_server() as server, SmtpTalk(server.connect()) as client:
        client.ask("EHLO client.example.net")
        assert client.say("ETRN far.example").startswith("502")


def test_a_client_of_the_settings_sees_the_keyword(talk: SmtpTalk) -> None:
    assert "ETRN" in talk.ask("EHLO client.example.net")
