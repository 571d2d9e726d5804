"""mailserv_forward: who gets it, under which reverse-path, and how a bounce finds its way back."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Callable
from typing import Any

import pytest
import srslib
from delivering import CONTENT, make_delivery, outcomes
from submitting import Submitted

from mailserv.config import read_section
from mailserv.errors import ConfigError
from mailserv.hooks.host import load_plugins
from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.outcome import Deferred, Delivered, Failed, Outcome
from mailserv.mail.plugin import Services, SubmitError
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX
from mailserv_forward import Plugin
from mailserv_forward.rewriting import Rewriting

ALICE, CAROL, FAR = "alice@example.org", "carol@sender.example", "alice@far.example"
USERS = {ALICE: {"to": [FAR]}, "info@example.org": {"to": [FAR, "bob@near.example"], "keep": True}}


def make(submitted: Submitted | None = None, **settings: Any) -> Plugin:
    values = {"secret": "a long random text", "users": USERS, **settings}
    services = Services("forward", "mail.example.org", FakeClock().now, None, submit=submitted or Submitted())
    return Plugin(read_section(Plugin.Settings, values, "forward"), services)


def deliver(plugin: Plugin, route: str = f"forward:{ALICE}", **delivery: Any) -> Outcome:
    ((_, transport),) = plugin.register_transports()
    (outcome,) = outcomes(
        transport, make_delivery(route, ALICE, reverse_path=delivery.pop("reverse_path", CAROL), **delivery)
    )
    return outcome


def test_a_message_is_accepted_anew_for_the_targets_under_our_own_reverse_path() -> None:
    submitted = Submitted()
    outcome = deliver(make(submitted), "forward:info@example.org")
    assert isinstance(outcome, Delivered)
    assert outcome.reply.text == "Forwarded as Q1"
    ((reverse_path, targets, content),) = submitted.messages
    assert reverse_path.startswith("SRS0=")
    assert reverse_path.endswith("=sender.example=carol@example.org")
    assert targets == [FAR, "bob@near.example"]
    assert content == b"Delivered-To: info@example.org\r\n" + CONTENT


@pytest.mark.parametrize("parameters", [{}, {"SMTPUTF8": ""}])
def test_an_internationalised_message_stays_one(parameters: dict[str, str]) -> None:
    submitted = Submitted()
    deliver(make(submitted), parameters=parameters)
    assert submitted.smtputf8 == [bool(parameters)]


def test_a_bounce_goes_out_under_the_null_reverse_path() -> None:
    submitted = Submitted()
    deliver(make(submitted), reverse_path="")
    assert submitted.messages[0][0] == ""


@pytest.mark.parametrize(
    "fields", [b"Delivered-To: alice@example.org\r\n", b"X: y\r\ndelivered-to: Alice@Example.org\r\n"]
)
def test_what_has_been_forwarded_from_here_before_is_a_loop(fields: bytes) -> None:
    submitted = Submitted()
    outcome = deliver(make(submitted), content=fields + CONTENT)
    assert isinstance(outcome, Failed)
    assert outcome.reply.enhanced == "5.4.6"
    assert submitted.messages == []


def test_a_mark_of_somebody_else_or_in_the_body_is_no_loop() -> None:
    submitted = Submitted()
    deliver(make(submitted), content=b"Delivered-To: malice@example.org\r\n\r\nDelivered-To: alice@example.org\r\n")
    assert len(submitted.messages) == 1


@pytest.mark.parametrize(("retry_later", "kind"), [(True, Deferred), (False, Failed)])
def test_a_target_that_is_refused_is_the_outcome(retry_later: bool, kind: type[Outcome]) -> None:
    outcome = deliver(make(Submitted(lambda _: SubmitError("no\r\nsuch user", retry_later=retry_later))))
    assert isinstance(outcome, kind)
    assert outcome.reply.text.endswith("no such user")


def test_a_user_who_is_not_in_the_settings_any_more_makes_mail_wait() -> None:
    assert isinstance(deliver(make(), "forward:gone@example.org"), Deferred)


# Who is forwarded.


def test_hook_resolve_recipient_answers_for_the_users_and_their_tags_only() -> None:
    plugin = make()
    answer = plugin.resolve_recipient(parse_mailbox("Alice+x@example.org"))
    assert answer is not None
    assert [str(route) for _, route in answer.remotes] == [f"forward:{ALICE}"]
    assert answer.mailboxes == ()
    kept = plugin.resolve_recipient(parse_mailbox("info@example.org"))
    assert kept is not None
    assert [account for account, _ in kept.mailboxes] == ["info@example.org"]
    assert plugin.resolve_recipient(parse_mailbox("bob@example.org")) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"users": {ALICE: {"to": ["Alice@example.org"]}}},
        {"users": {ALICE: {"to": []}}},
        {"users": {ALICE: {"to": ["nonsense"]}}},
        {"users": {"nonsense": {"to": [FAR]}}},
        {"srs_domain": "not a domain"},
        {"secret": 1},
        {"secret": ""},
        {"secret": "short"},
    ],
)
def test_settings_that_cannot_be_meant_stop_the_start(settings: dict[str, Any]) -> None:
    values = {"secret": "a long random text", "users": USERS, **settings}
    with pytest.raises(ConfigError, match=r"plugin\.forward\."):
        load_plugins(("forward",), (), None, {"forward": values}, hostname="mail.example.org", clock=FakeClock())


# SRS.


def rewriting(domain: str = "", secret: str = "a long random text") -> Rewriting:
    return Rewriting(secret, domain, frozenset({domain or "example.org"}))


def test_a_rewritten_path_leads_back() -> None:
    rewritten = rewriting("srs.example").forward(parse_mailbox(CAROL), "example.org")
    assert rewritten.domain == "srs.example"
    assert rewriting("srs.example").reverse(rewritten) == parse_mailbox(CAROL)


def test_two_forwarders_in_a_row_lead_back_over_the_first() -> None:
    first = rewriting("one.example", "one").forward(parse_mailbox(CAROL), "")
    second = rewriting("two.example", "two").forward(first, "")
    assert second.local_part.startswith("SRS1=")
    assert rewriting("two.example", "two").reverse(second) == first


def test_a_forged_path_leads_nowhere() -> None:
    rewritten = rewriting().forward(parse_mailbox(CAROL), "example.org")
    assert rewriting(secret="another").reverse(rewritten) is None
    assert rewriting().reverse(Address(rewritten.local_part.replace("carol", "victim"), "example.org")) is None
    assert rewriting().reverse(Address("SRS0=x", "example.org")) is None
    assert rewriting().reverse(Address(rewritten.local_part, "elsewhere.example")) is None
    assert rewriting().reverse(Address("srs", "example.org")) is None


@pytest.mark.parametrize("rest", ["JP=victim.example=bob", "victim.example==AAAA=AA=x.example=bob"])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
def test_a_part_of_the_hash_is_no_hash(rest: str, length: int) -> None:
    """Who could say one character of it would have guessed it after some forty tries, and relay to anybody."""
    tag = "SRS1" if "==" in rest else "SRS0"
    signer = srslib.SRS("a long random text")
    rest = rest.replace("JP", signer.generate_ts())
    signed = rest.replace("=", "", 1) if tag == "SRS1" else rest.replace("=", "")
    whole, part = (signer.generate_hash(signed, b"a long random text", size) for size in (4, length))
    assert rewriting().reverse(Address(f"{tag}={whole}={rest}", "example.org")) is not None
    assert rewriting().reverse(Address(f"{tag}={part}={rest}", "example.org")) is None


def test_a_path_is_good_for_three_weeks() -> None:
    signer = srslib.SRS("a long random text")
    for days, is_good in ((0, True), (20, True), (21, False), (500, False), (-1, False)):
        stamp = signer.generate_ts(time.time() - days * 86_400)
        mark = signer.generate_hash(f"{stamp}sender.examplecarol", b"a long random text", 4)
        found = rewriting().reverse(Address(f"SRS0={mark}={stamp}=sender.example=carol", "example.org"))
        assert (found == parse_mailbox(CAROL)) is is_good


@pytest.mark.parametrize("changed", [str.lower, str.upper])
def test_a_path_survives_hosts_that_change_its_case(changed: Callable[[str], str]) -> None:
    rewritten = rewriting().forward(parse_mailbox(CAROL), "example.org")
    found = rewriting().reverse(Address(changed(rewritten.local_part), "example.org"))
    assert found is not None
    assert found.key == CAROL


@pytest.mark.parametrize(
    "reverse_path",
    ["bob@example.org", '"a b"@sender.example', "grüße@sender.example", "x@[192.0.2.1]", f"{'x' * 60}@sender.example"],
)
def test_what_srs_cannot_hold_or_what_is_ours_stays_as_it_is(reverse_path: str) -> None:
    address = parse_mailbox(reverse_path)
    assert rewriting().forward(address, "example.org") == address


def test_the_null_path_stays_null() -> None:
    assert rewriting().forward(NULL_REVERSE_PATH, "example.org") == NULL_REVERSE_PATH


# In the server.


def test_what_came_with_smtputf8_goes_on_with_it() -> None:
    settings = {"secret": "a long random text", "users": {ALICE: {"to": [FAR]}}}
    with ScriptedMX() as far:
        routes = {"far.example": f"smtp:[{far.host}]:{far.port}"}
        with mail_server(plugins=Plugins(enabled=("forward",)), plugin={"forward": settings}, routes=routes) as ours:
            host, port = ours.address("smtp")
            with smtplib.SMTP(host, port) as client:
                for options in ([], ["SMTPUTF8", "BODY=8BITMIME"]):
                    client.sendmail(CAROL, [ALICE], "Subject: Grüße\r\n\r\nHi.\r\n".encode(), options)
            ours.wait_for_empty_queue()
        mails = [command for command in far.commands if command.startswith("MAIL")]
        assert sorted("SMTPUTF8" in mail for mail in mails) == [False, True]  # RFC 6531 §3.6


def test_hook_expand_recipient_brings_a_bounce_back_through_two_servers() -> None:
    """Carol's server sends to alice, who is forwarded to a server that refuses: carol hears of it, over our rewritten path."""
    settings = {"secret": "a long random text", "users": {ALICE: {"to": [FAR], "keep": True}}}
    with (
        ScriptedMX({"RCPT TO:<alice@far.example>": "550 5.1.1 No such user"}) as far,
        mail_server(
            local_domains=("sender.example",), hostname="mail.sender.example", accounts={CAROL: "secret"}
        ) as hers,
    ):
        host, port = hers.address("smtp")
        with mail_server(
            plugins=Plugins(enabled=("forward",)),
            plugin={"forward": settings},
            routes={"far.example": f"smtp:[{far.host}]:{far.port}", "sender.example": f"smtp:[{host}]:{port}"},
        ) as ours:
            ours.send(CAROL, [ALICE], b"Subject: hello\r\n\r\nHello.\r\n")
            (bounce,) = hers.wait_for_mail(CAROL)
            assert b"No such user" in bounce
            assert bounce.startswith(b"Return-Path: <>\r\n")
            ours.wait_for_empty_queue()
            (kept,) = ours.mailbox(ALICE)
            assert kept.endswith(b"Subject: hello\r\n\r\nHello.\r\n")
        assert any(command.startswith("MAIL FROM:<SRS0=") for command in far.commands)


def test_a_rewritten_path_opens_no_relaying() -> None:
    settings = {"secret": "a long random text", "users": {ALICE: {"to": [FAR]}}}
    with mail_server(plugins=Plugins(enabled=("forward",)), plugin={"forward": settings}) as ours:
        for forged in (
            "SRS0=AAAA=AA=victim.example=bob@example.org",
            "SRS1=AAAA=victim.example==AAAA=AA=x=y@example.org",
        ):
            with pytest.raises(smtplib.SMTPRecipientsRefused, match=r"5\.1\.1"):
                ours.send("spam@sender.example", [forged], b"Hi.\r\n")
