"""Postmaster is never refused (RFC 5321 §4.5.1)."""

from __future__ import annotations

from typing import Any

import pytest
from routing import reached, router

from mailserv.mail import reply
from mailserv.mail.address import Address, parse_path
from mailserv.route.router import Router
from mailserv.settings import Settings

POSTMASTERS = [
    "postmaster",
    "Postmaster",
    "postmaster@example.org",
    "POSTMASTER@second.example",
    "postmaster@mx.example.org",
    "mailer-daemon@mx.example.org",
    "MAILER-DAEMON@example.org",
    "postmaster@[192.0.2.1]",
]


@pytest.mark.parametrize("text", POSTMASTERS)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"postmaster": "gone@example.org"},
        {"postmaster": "postmaster@example.org"},
        {"postmaster": "loop@example.org", "aliases": {"loop@example.org": ("loop@example.org",)}},
        {"aliases": {"postmaster@example.org": ("gone@example.org",)}},
        {"aliases": {"postmaster@example.org": ("postmaster@second.example",)}},
        {"catch_all": {"example.org": "gone@example.org", "second.example": "postmaster@second.example"}},
    ],
    ids=str,
)
def test_postmaster_is_never_refused(text: str, settings: dict[str, Any]) -> None:
    resolution = router(local_ips=("192.0.2.1",), **settings).resolve(parse_path(f"<{text}>")[0])
    assert resolution.refusal is None
    assert resolution.is_local
    assert resolution.mailboxes


@pytest.mark.parametrize(
    ("settings", "accounts", "text", "expected"),
    [
        ({}, (), "postmaster", "alice@example.org"),
        ({}, (), "postmaster@second.example", "carol@second.example"),
        ({}, (), "postmaster@mx.example.org", "alice@example.org"),
        ({}, ("zoe@elsewhere.example",), "postmaster@example.org", "zoe@elsewhere.example"),
        ({}, ("bob@example.org", "postmaster@example.org"), "postmaster", "postmaster@example.org"),
        ({}, ("a@second.example", "postmaster@example.org"), "postmaster@second.example", "postmaster@example.org"),
        ({}, ("bob@example.org", "postmaster@example.org"), "mailer-daemon@mx.example.org", "postmaster@example.org"),
        ({"postmaster": "bob@example.org"}, (), "postmaster@second.example", "bob@example.org"),
        ({"catch_all": {"example.org": "bob@example.org"}}, (), "postmaster@example.org", "bob@example.org"),
        (
            {"postmaster": "carol@second.example", "catch_all": {"example.org": "bob@example.org"}},
            (),
            "postmaster@example.org",
            "carol@second.example",
        ),
        (
            {"postmaster": "bob@example.org", "aliases": {"postmaster@example.org": ("alice@example.org",)}},
            (),
            "postmaster@example.org",
            "alice@example.org",
        ),
        ({"postmaster": "boss@example.net"}, (), "postmaster@example.org", "boss@example.net"),
    ],
)
def test_postmaster_goes_to_the_first_who_is_there(
    settings: dict[str, Any], accounts: tuple[str, ...], text: str, expected: str
) -> None:
    assert reached(router(*accounts, **settings), text) == [expected]


def test_a_server_without_any_account_asks_postmaster_mail_to_come_again() -> None:
    made = Router.from_settings(
        Settings(hostname="mx.example.org", local_domains=("example.org",)), has_account=lambda _: False
    )
    for text in ("postmaster", "postmaster@example.org"):
        resolution = made.resolve(parse_path(f"<{text}>")[0])
        assert resolution.refusal == reply.NO_POSTMASTER
        assert resolution.refusal.code == 450


def test_a_relay_without_local_domains_has_a_postmaster_too() -> None:
    made = router("root@nowhere.example", local_domains=(), local_ips=("192.0.2.1",))
    for text in ("postmaster", "postmaster@mx.example.org", "postmaster@[192.0.2.1]"):
        assert reached(made, text) == ["root@nowhere.example"]
    assert reached(made, "alice@[192.0.2.1]") == ["5.1.1"]


def test_the_hostname_has_no_users_but_is_no_stranger_to_its_postmaster() -> None:
    made = router()
    assert reached(made, "alice@mx.example.org") == ["alice@mx.example.org"]
    assert not made.resolve(Address("alice", "mx.example.org")).is_local
    assert made.resolve(Address("postmaster", "mx.example.org")).is_local


def test_a_hostname_that_is_routed_elsewhere_has_its_postmaster_there() -> None:
    made = router(routes={"mx.example.org": "smtp:[192.0.2.9]:25"})
    assert not made.resolve(Address("postmaster", "mx.example.org")).is_local
