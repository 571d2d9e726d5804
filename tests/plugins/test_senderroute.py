"""mailserv_senderroute: which way out a sender's mail takes, with the login that belongs to it."""

from __future__ import annotations

import smtplib
from typing import Any

import pytest
from policing import make_plugins

from mailserv.errors import ConfigError
from mailserv.mail.address import NULL_REVERSE_PATH, parse_mailbox
from mailserv.mail.route import Route
from mailserv.settings import Routed
from mailserv.testing.server import mail_server
from mailserv.testing.sink import ScriptedMX

SETTINGS = {
    "addresses": {"Boss@shop.example": "smtp:[192.0.2.1]:587", "boss+ads@shop.example": "smtp:[192.0.2.3]:587"},
    "domains": {"shop.example": "smtp:[192.0.2.2]:587", ".shop.example": "smtp:relay.example"},
    "keep": [".inside.example"],
}
USUAL = Route("smtp", "far.example")
TEXT = b"Subject: x\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    ("reverse_path", "forward_path", "route"),
    [
        ("boss@shop.example", "x@far.example", "smtp:[192.0.2.1]:587"),
        ("Boss+tag@shop.example", "x@far.example", "smtp:[192.0.2.1]:587"),
        ("boss+ads@shop.example", "x@far.example", "smtp:[192.0.2.3]:587"),
        ("clerk@shop.example", "x@far.example", "smtp:[192.0.2.2]:587"),
        ("clerk+tag@shop.example", "x@far.example", "smtp:[192.0.2.2]:587"),
        ("clerk@web.shop.example", "x@far.example", "smtp:relay.example"),
        ("clerk@shop.example", "x@pc.inside.example", None),
        ("clerk@myshop.example", "x@far.example", None),
        ("", "x@far.example", None),
    ],
)
def test_the_reverse_path_says_which_way(reverse_path: str, forward_path: str, route: str | None) -> None:
    runner = make_plugins("senderroute", SETTINGS).runner
    sender = parse_mailbox(reverse_path) if reverse_path else NULL_REVERSE_PATH
    answer = runner.provide("route_delivery", address=parse_mailbox(forward_path), route=USUAL, reverse_path=sender)
    assert (answer and str(answer)) == route


@pytest.mark.parametrize(
    "section",
    [
        {"addresses": {"boss": "smtp:relay.example"}},
        {"addresses": {"boss@shop.example": "relay.example"}},
        {"addresses": {"boss@shop.example": "smtp:a.example", "Boss@shop.example": "smtp:b.example"}},
        {"domains": {"shop.example": "smtp:relay.example:587"}},
        {"domains": {"exa mple": "smtp:relay.example"}},
        {"keep": ["exa mple"]},
    ],
)
def test_a_mistake_stops_the_start_and_names_its_place(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"^plugin\.senderroute\.{next(iter(section))}"):
        make_plugins("senderroute", section)


def test_hook_route_delivery_each_sender_takes_its_own_way_with_its_login() -> None:
    with (
        ScriptedMX() as usual,
        ScriptedMX(capabilities=("AUTH PLAIN",)) as provider,
        mail_server(
            plugins=["senderroute"],
            plugin={"senderroute": {"domains": {"shop.example": f"smtp:[{provider.host}]:{provider.port}"}}},
            config={"relay": {"networks": ["127.0.0.0/8"]}},
            routes={
                "far.example": f"smtp:[{usual.host}]:{usual.port}",
                "provider.invalid": Routed(
                    to=f"smtp:[{provider.host}]:{provider.port}", user="shop", password="key", tls="none"
                ),
            },
        ) as server,
    ):
        server.send("clerk@shop.example", ["x@far.example"], TEXT)
        server.send("alice@example.org", ["x@far.example", "alice@example.org"], TEXT)
        assert [taken.mail.split(">")[0] for taken in provider.wait_for_messages(1)] == ["<clerk@shop.example"]
        assert [taken.mail.split(">")[0] for taken in usual.wait_for_messages(1)] == ["<alice@example.org"]
        assert len(server.wait_for_mail("alice@example.org")) == 1
        assert provider.logins == [("shop", "key")]
        server.wait_for_empty_queue()


def test_invariant_4_a_senders_way_is_no_permission_to_relay() -> None:
    routes = {"senderroute": {"domains": {"shop.example": "smtp:relay.example"}}}
    with (
        mail_server(plugins=["senderroute"], plugin=routes) as server,
        pytest.raises(smtplib.SMTPRecipientsRefused) as refused,
    ):
        server.send("clerk@shop.example", ["x@far.example"], TEXT)
    assert refused.value.recipients["x@far.example"][0] == 550
