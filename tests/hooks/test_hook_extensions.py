"""An SMTP extension that raises or lies: the client hears 451, the log names the plugin, the session goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from smtp_talk import SmtpTalk

from mailserv import hookimpl
from mailserv.errors import ConfigError
from mailserv.mail.address import Address
from mailserv.mail.extension import LookUp, Parameter, SMTPExtension, StartQueue, Verb
from mailserv.mail.reply import Reply
from mailserv.testing.server import MailServer, mail_server


def raises(*_: Any) -> Any:
    raise ZeroDivisionError


def lies(*_: Any) -> Any:
    return 42


def leaves(*_: Any) -> Any:
    raise asyncio.CancelledError  # like SystemExit, it is no Exception


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


def passes(*_: Any) -> None:
    return None


def bringing(*extensions: SMTPExtension) -> type:
    class Brings:
        def __init__(self, settings: None, services: object) -> None:
            """Nothing is kept."""

        @hookimpl
        def register_smtp_extensions(self) -> Iterable[SMTPExtension]:
            return extensions

    return Brings


@pytest.mark.parametrize(
    "said",
    [
        Reply(42, "", "no code"),
        Reply("250", "2.0.0", "no number"),  # type: ignore[arg-type]
        Reply(250, "2.0.0\r\n250", "no status"),
        Reply(250, "2.0.0", "no\rline"),
        Reply(250, "2.0.0", b"no text"),  # type: ignore[arg-type]
    ],
)
def test_a_reply_that_would_be_none_on_the_wire_is_not_said(said: Reply) -> None:
    verb = Verb("XSAYS", lambda view, argument: said)
    parameter = Parameter("XSAYS", lambda view, value: said)
    extension = SMTPExtension("XSAYS", "", verbs=(verb,), mail_params=(parameter,))
    with mail_server(plugins=[bringing(extension)]) as server, SmtpTalk(server.connect()) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.say("XSAYS").startswith("451 4.3.0")
        assert talk.say("MAIL FROM:<smith@example.net> XSAYS").startswith("451 4.3.0")
        lied = server.wait_for_log("plugin_lied", plugin="brings", count=2)
    assert [line["stage"] for line in lied] == ["verb XSAYS", "MAIL parameter XSAYS"]
    assert all(line["why"] for line in lied)


def test_a_parameter_that_passes_says_nothing() -> None:
    """With a 250 of the plugin's own there would be no transaction behind it."""
    parameter = Parameter("XYES", lambda view, value: Reply(250, "2.1.0", "fine"))
    extension = SMTPExtension("XYES", "", mail_params=(parameter,))
    with mail_server(plugins=[bringing(extension)]) as server, SmtpTalk(server.connect()) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.say("MAIL FROM:<smith@example.net> XYES").startswith("451 4.3.0")


WRONG_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"keyword": "X TWO"}, "'X TWO' with '' is no keyword with its text"),
    ({"keyword": "X_TWO"}, "'X_TWO' with '' is no keyword with its text"),
    ({"keyword": "X\nTWO"}, r"'X\nTWO' with '' is no keyword with its text"),
    ({"advertise": "one\r\n250 XMORE"}, r"'XTWO' with 'one\r\n250 XMORE' is no keyword with its text"),
    ({"advertise": "\0"}, r"'XTWO' with '\x00' is no keyword with its text"),
    ({"advertise": "ü"}, "'XTWO' with 'ü' is no keyword with its text"),
    ({"advertise": None}, "'XTWO' with None is no keyword with its text"),
    ({"verbs": (Verb("X TWO", lies),)}, "'X TWO' is no name for a Verb"),
    ({"verbs": Verb("XTWO", lies)}, "'XTWO': verbs is no tuple of Verb"),
    ({"mail_params": (Verb("XTWO", lies),)}, "'XTWO': mail_params is no tuple of Parameter"),
    ({"rcpt_params": (Parameter("", passes),)}, "'' is no name for a Parameter"),
    ({"rcpt_params": (Parameter("XTWO", passes, growth=-1),)}, "'XTWO': growth -1 is no number of octets"),
    ({"services": frozenset({"smtp", "smpt"})}, "'XTWO': there is no service 'smpt'"),
    ({"verbs": (Verb("quit", lies),)}, "brings verb QUIT, which mailserv has itself"),
]


@pytest.mark.parametrize(("parts", "told"), WRONG_PARTS, ids=[told for _, told in WRONG_PARTS])
def test_what_no_client_could_use_stops_the_start(parts: dict[str, Any], told: str) -> None:
    extension = SMTPExtension(**{"keyword": "XTWO", "advertise": "", **parts})
    with pytest.raises(ConfigError) as caught, mail_server(plugins=[bringing(extension)]):
        pass
    (problem,) = caught.value.problems
    assert problem.startswith("plugin brings")
    assert problem.endswith(told)
