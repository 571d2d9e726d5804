"""APOP: only with a secret that is shared, over a timestamp that never comes twice; poplib is the oracle."""

from __future__ import annotations

import hashlib
import poplib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from smtp_talk import SmtpTalk

from mailserv.errors import ConfigError
from mailserv.mail.peer import Peer
from mailserv.mail.pop3_extension import LogIn, Pop3State, Pop3View
from mailserv.mail.sasl import Proof
from mailserv.mail.values import Secret
from mailserv.settings import Limits
from mailserv.testing.server import WAIT_SECONDS, MailServer, mail_server
from mailserv_apop import Apop

ALICE = "alice@example.org"
TIMESTAMP = re.compile(r"<[!-~]+@mail\.example\.org>$")


def serve(**secrets: str) -> Any:
    return mail_server(
        plugins=["apop"],
        services=("pop3",),
        config={"plugin": {"apop": {"secrets": secrets}}},
        limits=Limits(sessions_per_ip=0, connections_per_minute=0),
    )


@pytest.fixture
def server() -> Iterator[MailServer]:
    with serve(**{ALICE: "tanstaaf", "nobody@example.org": "x"}) as running:
        yield running


def digest(greeting: str, secret: str) -> str:
    timestamp = TIMESTAMP.search(greeting)
    assert timestamp
    return hashlib.md5((timestamp[0] + secret).encode(), usedforsecurity=False).hexdigest()


def test_poplib_logs_in(server: MailServer) -> None:
    client = poplib.POP3(*server.address("pop3"), timeout=WAIT_SECONDS)
    assert client.apop("Alice@Example.org", "tanstaaf").startswith(b"+OK 0 messages")
    client.quit()
    assert server.wait_for_log("auth_ok", login=ALICE)


def test_the_example_of_rfc_1939() -> None:
    view = Pop3View(
        peer=Peer("192.0.2.1", 4000, "pop3", "s1"),
        hostname="dbc.mtview.ca.us",
        state=Pop3State.AUTHORIZATION,
        timestamp="<1896.697170952@dbc.mtview.ca.us>",
        can_start_tls=False,
        can_authenticate=True,
        mechanisms=(),
        is_utf8=False,
        messages=0,
        octets=0,
    )
    apop = Apop({"mrose@mtview.ca.us": Secret("tanstaaf")})
    answer = apop.log_in(view, "mrose@mtview.ca.us c4c9334bac560ecc979e58001b3e22fb")
    assert answer == LogIn(Proof("mrose@mtview.ca.us", is_good=True))
    wrong = apop.log_in(view, "mrose@mtview.ca.us c4c9334bac560ecc979e58001b3e22fc")
    assert wrong == LogIn(Proof("mrose@mtview.ca.us", is_good=False))


def test_no_timestamp_comes_twice_and_none_without_the_plugin(server: MailServer) -> None:
    greetings = []
    for _ in range(3):
        with SmtpTalk(server.connect("pop3")) as talk:
            greetings.append(talk.greeting)
    assert len({match[0] for match in map(TIMESTAMP.search, greetings) if match}) == 3
    with mail_server(services=("pop3",)) as plain, SmtpTalk(plain.connect("pop3")) as talk:
        assert "<" not in talk.greeting
        assert talk.say(f"APOP {ALICE} {'0' * 32}").startswith("-ERR Unknown command")


@pytest.mark.parametrize("name", [ALICE, "bob@example.org", "nobody", "nobody@example.org"])
def test_a_wrong_secret_and_no_account_are_told_alike_and_count(server: MailServer, name: str) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say(f"APOP {name} {digest(talk.greeting, 'wrong')}") == "-ERR [AUTH] Wrong name or password"
    assert server.wait_for_log("auth_failed", login=name, reason="credentials")


def test_the_secret_of_an_account_that_was_removed_is_told_like_a_wrong_one(server: MailServer) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say(f"APOP {ALICE} {digest(talk.greeting, 'tanstaaf')}").startswith("+OK")
        talk.say("QUIT")
    server.server.store.remove_account(ALICE)
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say(f"APOP {ALICE} {digest(talk.greeting, 'tanstaaf')}") == "-ERR [AUTH] Wrong name or password"
    assert server.wait_for_log("auth_failed", login=ALICE, reason="credentials")


def test_an_old_digest_is_no_login(server: MailServer) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        old = digest(talk.greeting, "tanstaaf")
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say(f"APOP {ALICE} {old}").startswith("-ERR [AUTH]")


@pytest.mark.parametrize("argument", ["", "alice@example.org", f"alice@example.org {'0' * 31}", f"a b {'0' * 32}"])
def test_what_is_no_digest_is_no_login(server: MailServer, argument: str) -> None:
    with SmtpTalk(server.connect("pop3")) as talk:
        assert talk.say(f"APOP {argument}").startswith("-ERR Syntax error")
    assert not server.log.matching("auth_failed")


def test_a_secret_of_no_address_stops_the_start() -> None:
    with pytest.raises(ConfigError, match=r'plugin.apop.secrets."nobody"'), serve(nobody="x"):
        pass


@pytest.mark.parametrize("secrets", [{"a@example.org": "one", "A@Example.org": "two"}, {"a@example.org": ""}])
def test_two_secrets_of_one_account_and_an_empty_one_stop_the_start(secrets: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"plugin.apop.secrets"), serve(**secrets):
        pass
