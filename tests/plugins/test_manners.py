"""mailserv_manners: what a stranger says of itself, and bounces to many; nobody who is known is refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from policing import envelope, make_plugins
from policing import peer as make_peer
from smtp_talk import SmtpTalk

from mailserv.testing.server import MailServer, mail_server

ALICE, BOB = "alice@example.org", "bob@example.org"
OURS, BARE, NONE, SHORT = (
    "550 5.7.1 That is our",
    "501 5.5.4 An address",
    "501 5.5.4 That is no",
    "550 5.7.1 That is no",
)


@pytest.fixture
def server() -> Iterator[MailServer]:
    with mail_server(plugins=["manners"], accounts={ALICE: "secret", BOB: "secret"}) as running:
        yield running


@pytest.fixture
def talk(server: MailServer) -> Iterator[SmtpTalk]:
    with SmtpTalk(server.connect()) as client:
        yield client


@pytest.mark.parametrize(
    ("helo", "settings", "reply"),
    [
        ("mail.example.org", {}, OURS),
        ("MAIL.Example.Org.", {}, OURS),
        ("mail.example.org", {"our_name": False}, "250"),
        ("192.0.2.1", {}, BARE),
        ("192.0.2.1.", {}, BARE),
        ("2001:db8::1", {}, BARE),
        ("IPv6:2001:db8::1", {}, BARE),
        ("[192.0.2.1]", {"no_dot": True}, "250"),
        ("[IPv6:2001:db8::1]", {"no_dot": True}, "250"),
        ("999.1.2.3", {"bare_address": False}, "250"),
        ("my_pc!", {}, NONE),
        ("[192.0.2]", {}, NONE),
        ("-dash.example", {}, NONE),
        ("-dash.example", {"no_domain": False}, "250"),
        ("localhost", {}, "250"),
        ("localhost", {"no_dot": True}, SHORT),
        ("localhost.", {"no_dot": True}, SHORT),
        ("client.example.net.", {"no_dot": True}, "250"),
        ("xn--bcher-kva.example", {}, "250"),
        ("192.0.2.1", {"networks": ["127.0.0.0/8"]}, "250"),
    ],
)
@pytest.mark.parametrize("verb", ["EHLO", "HELO"])
def test_hook_smtp_helo_a_stranger_is_refused_for_what_it_says_of_itself(
    verb: str, helo: str, settings: dict[str, Any], reply: str
) -> None:
    with (
        mail_server(plugins=["manners"], plugin={"manners": settings}) as server,
        SmtpTalk(server.connect()) as client,
    ):
        assert client.say(f"{verb} {helo}").startswith(reply)


def test_after_a_refusal_another_name_will_do(server: MailServer, talk: SmtpTalk) -> None:
    assert talk.say("EHLO 192.0.2.1").startswith("501")
    assert talk.say(f"MAIL FROM:<{BOB}>").startswith("503")
    assert talk.say("EHLO client.example.net").startswith("250")
    assert talk.message("x@example.net", ALICE).startswith("250")
    (line,) = server.wait_for_log("bad_manners")
    assert (line["helo"], line["why"]) == ("192.0.2.1", "a bare address")


def test_hook_smtp_data_a_bounce_goes_to_one(server: MailServer, talk: SmtpTalk) -> None:
    talk.say("EHLO client.example.net")
    assert talk.message("", ALICE).startswith("250")
    assert talk.message("", ALICE, BOB) == "550 5.5.3 A message without a sender goes to one recipient"
    talk.say("RSET")
    assert talk.message("x@example.net", ALICE, BOB).startswith("250")
    assert server.wait_for_log("refused", why="manners: 2 recipients of a message without a sender")


@pytest.mark.parametrize(("most", "is_refused"), [(0, False), (1, True), (2, False)])
def test_how_many_a_bounce_may_go_to_is_a_setting(most: int, is_refused: bool) -> None:
    runner = make_plugins("manners", {"bounce_recipients": most}).runner
    verdict = runner.decide("smtp_data", peer=make_peer("192.0.2.1"), envelope=envelope("", ALICE, BOB))
    assert (verdict is not None) is is_refused


@pytest.mark.parametrize("known", [{"login": ALICE}, {"relay": True}, {"service": "submission"}])
def test_who_is_known_may_do_as_it_likes(known: dict[str, Any]) -> None:
    runner = make_plugins("manners", {"no_dot": True}).runner
    peer = make_peer("192.0.2.1", **known)  # its helo is "client"
    assert runner.decide("smtp_helo", peer=peer) is None
    assert runner.decide("smtp_data", peer=peer, envelope=envelope("", ALICE, BOB)) is None
    assert runner.decide("smtp_helo", peer=make_peer("192.0.2.1")) is not None
