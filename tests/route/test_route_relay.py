"""Who may relay (invariant 4): no trick with the address helps."""

from __future__ import annotations

import pytest
from routing import router

from mailserv.mail import reply
from mailserv.mail.address import Address, parse_path
from mailserv.mail.peer import Peer
from mailserv.mail.reply import Reply
from mailserv.mail.resolution import Resolution
from mailserv.route.router import may_relay

STRANGER = Peer("198.51.100.7", 40000, "smtp", "s1", helo="x.example", esmtp=True)
TRICKS = [
    "user%example.net@example.org",
    "user%example.net%example.com@example.org",
    "example.net!user@example.org",
    '"user@example.net"@example.org',
    '"example.net!user"@example.org',
    '"@example.net:user"@example.org',
    '"user%example.net"@mx.example.org',
    "alice%example.net@[192.0.2.1]",
    '"alice@example.org"@example.net',
    "user@example.net",
    "user@example.org.example.net",
    "user@exampleXorg",
    "alice@[192.0.2.2]",
    "@example.org:user@example.net",
    "@example.org,@mx.example.org:user@example.net",
    "user%example.net@mx.example.org",
    '"postmaster@example.net"@example.org',
    "postmaster@example.net",
    "postmaster%example.net@example.org",
]


@pytest.mark.parametrize("text", TRICKS)
def test_invariant_4_no_trick_relays_for_a_stranger(text: str) -> None:
    resolution = router(local_ips=("192.0.2.1",), routes={"*": "smtp:smart.example"}).resolve(
        parse_path(f"<{text}>")[0]
    )
    refusal = resolution.refusal or may_relay(STRANGER, resolution)
    assert refusal in {reply.UNKNOWN_USER, reply.RELAY_DENIED}


@pytest.mark.parametrize(
    ("peer", "resolution", "refusal"),
    [
        (STRANGER, Resolution(is_local=False), reply.RELAY_DENIED),
        (STRANGER, Resolution(is_local=True), None),
        (Peer("192.0.2.5", 1, "submission", "s", login="alice@example.org"), Resolution(is_local=False), None),
        (Peer("127.0.0.1", 1, "smtp", "s", relay=True), Resolution(is_local=False), None),
    ],
)
def test_invariant_4_relaying_takes_a_login_a_network_or_a_local_route(
    peer: Peer, resolution: Resolution, refusal: Reply | None
) -> None:
    assert may_relay(peer, resolution) == refusal


def test_invariant_4_an_alias_of_ours_to_elsewhere_is_no_relaying() -> None:
    made = router(aliases={"info@example.org": ("dave@example.net",)})
    assert may_relay(STRANGER, made.resolve(Address("info", "example.org"))) is None
    assert may_relay(STRANGER, made.resolve(Address("dave", "example.net"))) == reply.RELAY_DENIED
