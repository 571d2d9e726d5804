"""POP3 extensions by plugins: capabilities, verbs with one line and with many, and what a failure costs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from smtp_talk import SmtpTalk

from mailserv import hookimpl
from mailserv.errors import ConfigError
from mailserv.mail.pop3_extension import (
    LogIn,
    Pop3Answer,
    Pop3Extension,
    Pop3State,
    Pop3Verb,
    Pop3View,
    UseUTF8,
    VerbAnswer,
)
from mailserv.mail.sasl import Credentials, Proof
from mailserv.settings import TLS
from mailserv.testing.server import MailServer, mail_server

IN_AUTHORIZATION = frozenset({Pop3State.AUTHORIZATION})
IN_TRANSACTION = frozenset({Pop3State.TRANSACTION})
HARMLESS = Pop3Extension("", lambda _: "")


def raises(*_: Any) -> Any:
    raise ZeroDivisionError


def echo(view: Pop3View, argument: str) -> VerbAnswer:
    return Pop3Answer(True, f"{view.state.value} {view.messages} {view.octets} {argument!r}")


def archive(view: Pop3View, argument: str) -> VerbAnswer:
    return Pop3Answer(True, "Folders follow", ["inbox", ".hidden", "ünï"])


class Archive:
    """As XTND was: commands of a site's own (RFC 1939 knows none, RFC 2449 tells how they are announced)."""

    def __init__(self, settings: None, services: object) -> None:
        pass

    @hookimpl
    def register_pop3_extensions(self) -> Iterable[Pop3Extension]:
        yield Pop3Extension(
            "XTND",
            lambda view: "ARCHIVE" if view.state is Pop3State.TRANSACTION else None,
            verbs=(
                Pop3Verb("XTND", archive, IN_TRANSACTION),
                Pop3Verb("XECHO", echo),
                Pop3Verb("XSWITCH", lambda _, argument: UseUTF8("so be it"), IN_AUTHORIZATION),
            ),
        )
        yield Pop3Extension("X-MAIL-ONLY", lambda _: "", services=frozenset({"pop3s"}), verbs=(Pop3Verb("XTLS", echo),))


class Bad:
    def __init__(self, settings: None, services: object) -> None:
        pass

    @hookimpl
    def register_pop3_extensions(self) -> Iterable[Pop3Extension]:
        answers: dict[str, Any] = {
            "XLIES": 42,
            "XLINES": Pop3Answer(True, "lines", ["one\r\ntwo"]),
            "XITERATES": Pop3Answer(True, "lines", iter(["one"])),  # type: ignore[arg-type]
            "XENTERS": LogIn(Proof("alice@example.org", is_good=True)),
        }
        verbs = [Pop3Verb(name, lambda _, argument, name=name: answers[name]) for name in answers]
        yield Pop3Extension("XRAISES", raises, verbs=(Pop3Verb("XRAISES", raises), *verbs))
        yield Pop3Extension("XLIES", lambda _: 42)  # type: ignore[arg-type,return-value]
        yield Pop3Extension(
            "XLOGIN",
            lambda _: "",
            verbs=(
                Pop3Verb("XOPEN", lambda _, argument: Pop3Answer(True, "come in"), logs_in=True),
                Pop3Verb("XTRUST", lambda _, argument: LogIn(Proof(argument, is_good=True)), logs_in=True),
                Pop3Verb("XGUESS", lambda _, argument: LogIn(Credentials(argument, "", "guess")), logs_in=True),
                Pop3Verb("XNEVER", lambda _, argument: Pop3Answer(False, "not today"), logs_in=True),
            ),
        )


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server(plugins=[Archive, Bad], services=("pop3",)) as running:
        yield running


@pytest.fixture
def talk(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect("pop3")) as client:
        yield client


def log_in(talk: SmtpTalk) -> None:
    talk.say("USER alice@example.org")
    assert talk.say("PASS secret").startswith("+OK")


def lines(talk: SmtpTalk, command: str) -> list[str]:
    assert talk.say(command).startswith("+OK")
    return list(iter(talk.reply, "."))


def test_hook_register_pop3_extensions_a_capability_with_its_verbs(talk: SmtpTalk) -> None:
    assert "XTND ARCHIVE" not in lines(talk, "CAPA")
    assert talk.say("XTND").startswith("-ERR XTND is not for this state")
    log_in(talk)
    assert "XTND ARCHIVE" in lines(talk, "CAPA")
    assert lines(talk, "xtnd archive") == ["inbox", "..hidden", "ünï"]


def test_a_verb_sees_the_session_and_its_own_argument(talk: SmtpTalk) -> None:
    assert talk.say("XECHO  two words ") == "+OK authorization 0 0 'two words'"
    log_in(talk)
    assert talk.say("XECHO") == "+OK transaction 0 0 ''"
    assert talk.say("XECHO a\tb").startswith("-ERR Syntax error")
    assert talk.say("XSWITCH").startswith("-ERR")


def test_a_verb_between_user_and_pass_disturbs_nothing(talk: SmtpTalk) -> None:
    talk.say("USER alice@example.org")
    assert talk.say("XECHO").startswith("+OK")
    assert talk.say("PASS secret").startswith("+OK")


def test_an_extension_of_another_service_is_not_here(talk: SmtpTalk) -> None:
    assert "X-MAIL-ONLY" not in lines(talk, "CAPA")
    assert talk.say("XTLS").startswith("-ERR Unknown command")


@pytest.mark.parametrize(
    ("verb", "event"),
    [
        ("XRAISES", "plugin_failed"),
        ("XLIES", "plugin_lied"),
        ("XLINES", "plugin_lied"),
        ("XITERATES", "plugin_lied"),
        ("XENTERS", "plugin_lied"),
        ("XOPEN", "plugin_lied"),
    ],
)
def test_a_verb_that_fails_costs_one_command(server: MailServer, talk: SmtpTalk, verb: str, event: str) -> None:
    assert talk.say(verb).startswith("-ERR [SYS/TEMP]")
    assert server.wait_for_log(event, plugin="bad", hook="register_pop3_extensions")
    assert talk.say("STAT").startswith("-ERR")  # nobody was let in
    log_in(talk)


def test_a_capability_that_cannot_be_told_is_not_told(talk: SmtpTalk) -> None:
    told = lines(talk, "CAPA")
    assert "XLOGIN" in told
    assert not {"XRAISES", "XLIES"} & set(told)


def test_a_verb_may_say_who_it_is(server: MailServer, talk: SmtpTalk) -> None:
    assert talk.say("XNEVER") == "-ERR not today"
    assert talk.say("XGUESS alice@example.org").startswith("-ERR [AUTH]")
    assert server.wait_for_log("auth_failed", login="alice@example.org")
    assert talk.say("XTRUST alice@example.org") == "+OK 0 messages (0 octets)"
    assert talk.say("XTRUST alice@example.org").startswith("-ERR XTRUST is not for this state")
    assert server.wait_for_log("auth_ok", login="alice@example.org")


def test_a_login_by_a_verb_comes_only_where_a_password_may() -> None:
    with (
        mail_server(plugins=[Bad], services=("pop3",), tls=TLS(plaintext_auth="never")) as server,
        SmtpTalk(server.connect("pop3")) as talk,
    ):
        assert talk.say("XTRUST alice@example.org").startswith("-ERR [AUTH]")
        assert talk.say("STAT").startswith("-ERR")


def plugin(extension: Pop3Extension) -> type:
    class Claims:
        def __init__(self, settings: None, services: object) -> None:
            pass

        @hookimpl
        def register_pop3_extensions(self) -> Iterable[Pop3Extension]:
            return [extension]

    return Claims


@pytest.mark.parametrize(
    ("extension", "key"),
    [
        (Pop3Extension("xtnd", lambda _: ""), "archive and claims both bring POP3 capability XTND"),
        (
            Pop3Extension("", lambda _: "", verbs=(Pop3Verb("Xecho", echo),)),
            "archive and claims both bring POP3 verb XECHO",
        ),
        (Pop3Extension("EXPIRE", lambda _: "0"), "claims brings POP3 capability EXPIRE, which mailserv has itself"),
        (
            Pop3Extension("", lambda _: "", verbs=(Pop3Verb("RETR", echo),)),
            "claims brings POP3 verb RETR, which mailserv has itself",
        ),
        (Pop3Extension("X TWO", ""), "plugin claims: 'X TWO' with '' is no keyword with its text"),
        (Pop3Extension("", "", verbs=(Pop3Verb("X TWO", echo),)), "plugin claims: 'X TWO' is no name for a Pop3Verb"),
        (Pop3Extension("X", "", verbs=Pop3Verb("X", echo)), "plugin claims: 'X': verbs is no tuple of Pop3Verb"),
        (Pop3Extension("X", "", services=frozenset({"smtp"})), "plugin claims: 'X': there is no service 'smtp'"),
        (Pop3Extension("UTF8", lambda _: ""), "pop3utf8 and claims both bring POP3 capability UTF8"),
    ],
)
def test_what_no_client_could_use_or_two_claim_stops_the_start(extension: Pop3Extension, key: str) -> None:
    with pytest.raises(ConfigError, match=key), mail_server(plugins=[Archive, plugin(extension)]):
        pass
