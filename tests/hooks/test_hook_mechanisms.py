"""A SASL mechanism that raises or lies costs one login; two plugins cannot claim one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from smtp_talk import SmtpTalk

from mailserv import hookimpl
from mailserv.errors import ConfigError
from mailserv.mail.sasl import Exchange, Proof, SaslMechanism, SaslView
from mailserv.testing.server import MailServer, mail_server


def raises(*_: Any) -> Any:
    raise ZeroDivisionError


def raises_later(_: SaslView) -> Exchange:
    answer = yield b"number?"
    return Proof(f"{1 // len(answer)}", is_good=True)


def lies(_: SaslView) -> Any:
    yield b""
    return "alice@example.org"


def trusts(view: SaslView) -> Exchange:
    """EXTERNAL's shape: what the client says is taken for true."""
    name = yield b""
    return Proof(name.decode(), is_good=view.peer.service == "pop3")


class Bad:
    def __init__(self, settings: None, services: object) -> None:
        pass

    @hookimpl
    def register_sasl_mechanisms(self) -> Iterable[SaslMechanism]:
        yield SaslMechanism("XRAISES", raises, make_verifier=raises)
        yield SaslMechanism("XLATER", raises_later)
        yield SaslMechanism("XLIES", lies)
        yield SaslMechanism("XTRUSTS", trusts)
        yield SaslMechanism("XPOP", trusts, frozenset({"pop3"}))


class Plain:
    def __init__(self, settings: None, services: object) -> None:
        pass

    @hookimpl
    def register_sasl_mechanisms(self) -> Iterable[SaslMechanism]:
        return [SaslMechanism("PLAIN", lies)]


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server(plugins=[Bad], services=("submission", "pop3")) as running:
        yield running


@pytest.fixture(params=["pop3", "submission"])
def ask(request: pytest.FixtureRequest, server: MailServer) -> Iterator[Callable[[str], str]]:
    with SmtpTalk(server.connect(request.param)) as talk:
        if request.param == "submission":
            talk.ask("EHLO client.example.net")
        yield talk.say


@pytest.mark.parametrize(
    ("lines", "event"),
    [
        (["AUTH XRAISES"], "plugin_failed"),
        (["AUTH XLATER", ""], "plugin_failed"),
        (["AUTH XLIES ="], "plugin_lied"),
    ],
)
def test_hook_register_sasl_mechanisms_one_that_fails_is_a_temporary_failure(
    server: MailServer, ask: Callable[[str], str], lines: list[str], event: str
) -> None:
    answers = [ask(line) for line in lines]
    assert answers[-1].startswith(("454 4.7.0", "-ERR [SYS/TEMP]"))
    assert server.wait_for_log(event, plugin="bad", hook="register_sasl_mechanisms")
    assert not server.log.matching("auth_failed")
    assert ask("NOOP").startswith(("250", "-ERR"))


def test_a_verifier_that_cannot_be_made_does_not_spoil_a_good_login(server: MailServer) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        talk.say("USER alice@example.org")
        assert talk.say("PASS secret").startswith("+OK")
    assert server.wait_for_log("plugin_failed", stage="XRAISES verifier")


def test_what_a_mechanism_has_found_out_is_a_login(server: MailServer) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say("AUTH XTRUSTS YWxpY2VAZXhhbXBsZS5vcmc=").startswith("+OK")
    with SmtpTalk(server.connect("submission")) as talk:
        talk.ask("EHLO client.example.net")
        assert talk.say("AUTH XTRUSTS YWxpY2VAZXhhbXBsZS5vcmc=").startswith("535 5.7.8")


def test_a_proof_of_what_is_no_account_is_no_login(server: MailServer) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say("AUTH XTRUSTS bm9ib2R5QGV4YW1wbGUub3Jn").startswith("-ERR [AUTH]")
    assert server.wait_for_log("auth_failed", login="nobody@example.org", reason="credentials")


def test_a_mechanism_is_offered_where_it_says(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        assert "AUTH PLAIN LOGIN XRAISES XLATER XLIES XTRUSTS\r\n" in talk.ask("EHLO client.example.net") + "\r\n"
        assert talk.say("AUTH XPOP").startswith("504 5.5.4")


def test_two_claims_of_one_mechanism_stop_the_start_and_name_both() -> None:
    with (
        pytest.raises(ConfigError, match="plain brings SASL mechanism PLAIN, which mailserv has itself"),
        mail_server(plugins=[Plain]),
    ):
        pass
