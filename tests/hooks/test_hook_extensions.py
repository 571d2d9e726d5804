"""An SMTP extension that raises or lies: the client hears 451, the log names the plugin, the session goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from smtp_talk import SmtpTalk

from mailserv import hookimpl
from mailserv.errors import ConfigError
from mailserv.mail.address import Address
from mailserv.mail.extension import LookUp, Parameter, SMTPExtension, StartQueue, Verb
from mailserv.testing.server import MailServer, mail_server


def raises(*_: Any) -> Any:
    raise ZeroDivisionError


def lies(*_: Any) -> Any:
    return 42


def leaves(*_: Any) -> Any:
    raise SystemExit(3)


class Bad:
    def __init__(self, settings: None, services: object) -> None:
        pass

    @hookimpl
    def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
        alice = Address("alice", "example.org")
        yield SMTPExtension("XRAISES", raises, verbs=(Verb("XRAISES", raises), Verb("XLIES", lies)))
        yield SMTPExtension("XLIES", lies)
        yield SMTPExtension("XLEAVES", leaves, verbs=(Verb("XLEAVES", leaves),))
        yield SMTPExtension("XTWO", lambda view: "one\r\nXMORE")
        yield SMTPExtension(
            "XGOOD",
            lambda view: "",
            verbs=(
                Verb("XLOOK", lambda view, argument: LookUp(alice, raises)),
                Verb("XQUEUE", lambda view, argument: StartQueue("example.org", False, lies)),
                Verb("XBRING", lies, payload=raises),
            ),
            mail_params=(Parameter("XRAISES", raises), Parameter("XLIES", lies)),
            rcpt_params=(Parameter("XRAISES", raises), Parameter("XLIES", lies)),
        )


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server(plugins=[Bad]) as running:
        yield running


@pytest.fixture
def talk(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect()) as client:
        client.ask("EHLO client.example.net")
        yield client


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("XRAISES", "plugin_failed"),
        ("XLIES", "plugin_lied"),
        ("XLEAVES", "plugin_failed"),
        ("XLOOK", "plugin_failed"),
        ("XQUEUE", "plugin_lied"),
        ("MAIL FROM:<smith@example.net> XRAISES=1", "plugin_failed"),
        ("MAIL FROM:<smith@example.net> XLIES", "plugin_lied"),
    ],
)
def test_hook_register_smtp_extensions_a_command_that_fails_costs_451_and_no_more(
    server: MailServer, talk: SmtpTalk, line: str, event: str
) -> None:
    assert talk.say(line).startswith("451 4.3.0")
    assert server.wait_for_log(event, plugin="bad")
    assert talk.message("smith@example.net", "alice@example.org").startswith("250")


@pytest.mark.parametrize("parameter", ["XRAISES", "XLIES=1"])
def test_a_recipient_whose_parameter_cannot_be_checked_is_not_taken(talk: SmtpTalk, parameter: str) -> None:
    talk.say("MAIL FROM:<smith@example.net>")
    assert talk.say(f"RCPT TO:<alice@example.org> {parameter}").startswith("451 4.3.0")
    assert talk.say("DATA").startswith("503")


def test_a_keyword_that_cannot_be_told_is_not_advertised(talk: SmtpTalk) -> None:
    offered = talk.ask("EHLO client.example.net").splitlines()
    assert [line[4:] for line in offered if line[4:].startswith("X")] == ["XGOOD"]


def test_a_payload_of_unknown_length_ends_the_session(talk: SmtpTalk) -> None:
    assert talk.say("XBRING 4").startswith("501")
    assert talk.is_closed()


@pytest.mark.parametrize(("keyword", "text"), [("XTWO", "one\r\n250 XMORE"), ("X\nTWO", ""), ("XTWO", "\0")])
def test_a_keyword_that_is_more_than_a_line_stops_the_start(keyword: str, text: str) -> None:
    class Two:
        def __init__(self, settings: None, services: object) -> None:
            """Nothing is kept."""

        @hookimpl
        def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
            yield SMTPExtension(keyword, text)

    with pytest.raises(ConfigError, match=r"^plugin two: .* is no keyword with its text"), mail_server(plugins=[Two]):
        pass
