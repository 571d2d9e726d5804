"""SCRAM-SHA-256 over SMTP and POP3; the client's side of the library is not what we run, so it is the oracle."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scramp import ScramClient
from smtp_talk import SmtpTalk

from mailserv.mail.peer import Peer
from mailserv.mail.sasl import Exchange, Known, Proof, SaslView
from mailserv.settings import TLS, Limits
from mailserv.store.passwords import hash_password
from mailserv.testing.server import MailServer, mail_server
from mailserv_scram import NAME, Scram

ALICE = "alice@example.org"
PASSWORD = "sécret pass"
ITERATIONS = 4096
PLUGIN = {"plugin": {"scram": {"iterations": ITERATIONS}}}
SCRAM = Scram(ITERATIONS, lambda: b"a secret of the server's own")
Ask = Callable[[str], str]
"""Sends a line, returns the answer's first line."""


def serve(**settings: Any) -> Any:
    return mail_server(
        plugins=["scram"], config=PLUGIN, accounts={}, services=("submission", "pop3"), **{"limits": LIMITS} | settings
    )


LIMITS = Limits(sessions_per_ip=0, connections_per_minute=0, failed_logins_per_minute=0)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with serve() as running:
        add(running, verifiers=True)
        yield running


def add(server: MailServer, *, verifiers: bool) -> None:
    verifier = SCRAM.mechanism().make_verifier
    assert verifier is not None
    made = {NAME: verifier(PASSWORD) or ""} if verifiers else {}
    server.server.store.add_account(ALICE, hash_password(PASSWORD), 0.0, made)


@pytest.fixture(params=["pop3", "submission"])
def ask(request: pytest.FixtureRequest, server: MailServer) -> Iterator[Ask]:
    """A session of either service."""
    with SmtpTalk(server.connect(request.param)) as talk:
        if request.param == "submission":
            talk.ask("EHLO client.example.net")
        yield talk.say


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def challenge(answer: str) -> str:
    """What `334 …` or `+ …` holds."""
    mark, _, text = answer.partition(" ")
    assert mark in ("334", "+"), answer
    return base64.b64decode(text).decode()


class Gs2Header(str):
    """One that the library's client would not send."""

    def make_cbind_input(self, _: object) -> bytes:
        return self.encode()


def log_in(ask: Ask, name: str, password: str, *, initial: bool = True, header: str = "n,,") -> str:
    """The last answer. The client's side checks the server's signature, too."""
    client = ScramClient([NAME], name, password)
    client.gs2_header = Gs2Header(header)
    if initial:
        answer = ask(f"AUTH {NAME} {b64(client.get_client_first())}")
    else:
        assert challenge(ask(f"AUTH {NAME}")) == ""
        answer = ask(b64(client.get_client_first()))
    client.set_server_first(challenge(answer))
    answer = ask(b64(client.get_client_final()))
    if not answer.startswith(("334", "+ ")):
        return answer
    client.set_server_final(challenge(answer))
    return ask("")


def is_good(answer: str) -> bool:
    return answer.startswith(("235 2.7.0", "+OK"))


def is_refused(answer: str) -> bool:
    return answer.startswith(("535 5.7.8", "-ERR [AUTH]"))


@pytest.mark.parametrize("initial", [True, False], ids=["initial response", "no initial response"])
@pytest.mark.parametrize("name", [ALICE, "Alice@EXAMPLE.org"])
def test_hook_register_sasl_mechanisms_a_login_with_and_without_an_initial_response(
    server: MailServer, ask: Ask, name: str, initial: bool
) -> None:
    assert is_good(log_in(ask, name, PASSWORD, initial=initial))
    assert server.wait_for_log("auth_ok", login=ALICE)


@pytest.mark.parametrize("name", [ALICE, "Alice@EXAMPLE.org"])
def test_a_client_may_name_itself_twice(ask: Ask, name: str) -> None:
    assert is_good(log_in(ask, ALICE, PASSWORD, header=f"n,a={name},"))


def test_a_wrong_password_is_one_failed_login(server: MailServer, ask: Ask) -> None:
    assert is_refused(log_in(ask, ALICE, "wrong"))
    assert server.wait_for_log("auth_failed", login=ALICE, reason="credentials")
    assert is_good(log_in(ask, ALICE, PASSWORD))


def test_three_of_them_end_the_session(server: MailServer, ask: Ask) -> None:
    answers = [log_in(ask, ALICE, "wrong", initial=number != 1) for number in range(3)]
    assert all(map(is_refused, answers))
    assert server.log.wait(
        lambda: server.log.matching("session", reason="logins") or server.log.matching("pop3_session", reason="logins")
    )


def test_failed_logins_share_the_throttle() -> None:
    with serve(limits=Limits(sessions_per_ip=0, connections_per_minute=0, failed_logins_per_minute=1)) as server:
        add(server, verifiers=True)
        with SmtpTalk(server.connect("pop3")) as talk:
            talk.say("USER alice@example.org")
            assert is_refused(talk.say("PASS wrong"))
        with SmtpTalk(server.connect("submission")) as talk:
            talk.ask("EHLO client.example.net")
            assert log_in(talk.say, ALICE, PASSWORD).startswith("421 4.7.0")


def test_a_cancelled_exchange_changes_nothing(server: MailServer, ask: Ask) -> None:
    client = ScramClient([NAME], ALICE, PASSWORD)
    challenge(ask(f"AUTH {NAME} {b64(client.get_client_first())}"))
    assert ask("*").startswith(("501 5.7.0", "-ERR Authentication cancelled"))
    assert not server.log.matching("auth_failed")
    assert is_good(log_in(ask, ALICE, PASSWORD))


@pytest.mark.parametrize(
    "first",
    [
        "",
        "n,,",
        "n,,n=alice",
        "x,,n=alice,r=abc",
        "p=tls-unique,,n=alice,r=abc",
        "n,a=bob@example.org,n=alice@example.org,r=abc",
        "n,n=alice@example.org,n=alice@example.org,r=abc",
        "n,a=,n=,r=abc",
        "n,,m=ext,n=alice,r=abc",
        "n,,n=al=ice,r=abc",
        "n,,r=abc,n=alice",
        "n,,n=\x07,r=abc",
    ],
)
def test_what_is_no_first_message_is_malformed(ask: Ask, first: str) -> None:
    assert ask(f"AUTH {NAME} {b64(first) or '='}").startswith(("501 5.5.2", "-ERR Malformed"))
    assert is_good(log_in(ask, ALICE, PASSWORD))


@pytest.mark.parametrize(
    "final", ["", "c=biws", "c=biws,r=other,p=AAAA", "c=AAAA,r={nonce},p=AAAA", "c=biws,r={nonce}"]
)
def test_what_is_no_final_message_is_malformed(ask: Ask, final: str) -> None:
    answer = challenge(ask(f"AUTH {NAME} {b64('n,,n=alice@example.org,r=abc')}"))
    nonce = answer.split(",")[0].removeprefix("r=")
    assert ask(b64(final.format(nonce=nonce))).startswith(("501 5.5.2", "-ERR Malformed"))


def test_octets_that_are_no_utf8_are_malformed(ask: Ask) -> None:
    assert ask(f"AUTH {NAME} {base64.b64encode(bytes([255, 254])).decode()}").startswith(
        ("501 5.5.2", "-ERR Malformed")
    )


# who is there


def salt(ask: Ask, name: str) -> str:
    """And the iteration count: all that the server tells before it knows whether the password is right."""
    answer = challenge(ask(f"AUTH {NAME} {b64(f'n,,n={name},r=abc')}"))
    ask("*")
    assert answer.startswith("r=abc")
    return answer.partition(",")[2]


def test_who_is_not_there_has_a_salt_that_stays_and_fails_as_a_wrong_password_does(ask: Ask) -> None:
    names = ("nobody@example.org", "Nobody@Example.ORG", "noone@example.org", "no address")
    salts = [salt(ask, name) for name in names]
    assert salts == [salt(ask, name) for name in names]
    assert salts[0] == salts[1]  # as it is for an account, however its name is written
    assert len(set(salts)) == 3
    real = salt(ask, ALICE)
    assert [len(each) for each in salts] == [len(real)] * len(salts)
    assert {each.partition("i=")[2] for each in (*salts, real)} == {str(ITERATIONS)}
    assert is_refused(log_in(ask, "nobody@example.org", PASSWORD))


def test_the_false_salts_survive_a_restart(tmp_path: Path) -> None:
    seen = set()
    for _ in range(2):
        with serve(data_dir=tmp_path) as server, SmtpTalk(server.connect("pop3")) as talk:
            seen.add(salt(talk.say, "nobody@example.org"))
    assert len(seen) == 1


# accounts and their verifiers


def test_an_account_from_before_gets_its_verifier_by_its_first_good_password() -> None:
    with serve() as server:
        add(server, verifiers=False)
        with SmtpTalk(server.connect("pop3")) as talk:
            before = salt(talk.say, ALICE)
            assert is_refused(log_in(talk.say, ALICE, PASSWORD))
            talk.say(f"USER {ALICE}")
            assert is_refused(talk.say("PASS wrong"))
            assert server.server.store.verifier(ALICE, NAME) is None
            talk.say(f"USER {ALICE}")
            assert is_good(talk.say(f"PASS {PASSWORD}"))
            talk.say("QUIT")
        with SmtpTalk(server.connect("pop3")) as talk:
            assert salt(talk.say, ALICE) != before
            assert is_good(log_in(talk.say, ALICE, PASSWORD))


def test_the_old_password_is_no_way_in_once_there_is_a_new_one(server: MailServer, ask: Ask) -> None:
    server.server.store.set_password(ALICE, hash_password("new"))
    assert is_refused(log_in(ask, ALICE, PASSWORD))
    assert is_refused(log_in(ask, ALICE, "new"))  # until it has been given once, or set by `mailserv user passwd`


# where it is offered


def capabilities(talk: SmtpTalk) -> list[str]:
    assert talk.say("CAPA").startswith("+OK")
    return list(iter(talk.reply, "."))


def test_it_is_offered_where_a_login_is(server: MailServer) -> None:
    with SmtpTalk(server.connect("submission")) as talk:
        assert f"AUTH PLAIN LOGIN {NAME}" in talk.ask("EHLO client.example.net")
    with SmtpTalk(server.connect("pop3")) as talk:
        assert f"SASL PLAIN {NAME}" in capabilities(talk)


def test_without_tls_it_is_neither_offered_nor_taken() -> None:
    with serve(tls=TLS(plaintext_auth="never")) as server:
        add(server, verifiers=True)
        with SmtpTalk(server.connect("pop3")) as talk:
            assert not [line for line in capabilities(talk) if line.startswith("SASL")]
            assert talk.say(f"AUTH {NAME}").startswith("-ERR [AUTH]")


def test_a_password_that_saslprep_refuses_has_no_verifier() -> None:
    make = SCRAM.mechanism().make_verifier
    assert make is not None
    assert make("a\u0007b") is None
    assert "secret" not in (make("secret") or "secret")


def test_a_store_that_cannot_be_read_is_no_failed_login(server: MailServer, ask: Ask) -> None:
    server.server.store.close()
    assert ask(f"AUTH {NAME} {b64('n,,n=alice@example.org,r=abc')}").startswith(("454 4.7.0", "-ERR [SYS/TEMP]"))
    assert not server.log.matching("auth_failed")


def test_the_example_of_rfc_7677() -> None:
    """§3, with its nonces and its salt: byte for byte."""
    user = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    keys = SCRAM._scram.make_auth_info("pencil", 4096, base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="))
    client = ScramClient([NAME], "user", "pencil", c_nonce="rOprNGfwEbeRWgbNEkqO")
    assert client.get_client_first() == user
    client.set_server_first("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    final = client.get_client_final()
    assert final.endswith("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    client.set_server_final("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    assert base64.b64encode(keys[0]).decode() == "W22ZaJ0SNY7soEsUEjb6gQ=="


def test_the_last_answer_of_the_client_is_empty() -> None:
    verifier = SCRAM.mechanism().make_verifier
    assert verifier is not None
    known = Known(ALICE, verifier("pencil"))
    view = SaslView(Peer("192.0.2.1", 1, "pop3", "s1"), "mail.example.org", lambda _: known)

    def to_the_end(last: bytes) -> Proof:
        exchange: Exchange = SCRAM.mechanism().begin(view)
        client = ScramClient([NAME], ALICE, "pencil")
        next(exchange)
        client.set_server_first(exchange.send(client.get_client_first().encode()).decode())
        exchange.send(client.get_client_final().encode())
        with pytest.raises(StopIteration) as over:
            exchange.send(last)
        assert isinstance(over.value.value, Proof)
        return over.value.value

    assert to_the_end(b"") == Proof(ALICE, is_good=True)
    with pytest.raises(ValueError, match="nothing more"):
        to_the_end(b"more")
