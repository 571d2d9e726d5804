"""mailserv_iprev: what is said of a client by its names and where they lead (RFC 8601 §3)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from policing import envelope, make_plugins, peer

from mailserv.errors import ConfigError, ResolverError
from mailserv.hooks.kinds import LONG_BUDGET
from mailserv.hooks.rooms import Rooms
from mailserv.mail.auth_result import AuthResult
from mailserv.mail.message import BytesContent
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import MxAnswer
from mailserv.resolver import Resolver
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import mail_server

PTR = "1.2.0.192.in-addr.arpa"


def results(zone: FakeZone, client: Peer, **settings: Any) -> list[AuthResult]:
    rooms = Rooms(dns=Resolver([zone.nameserver], timeout=5))
    runner = make_plugins("iprev", settings, rooms=rooms).runner
    found = runner.gather(
        "message_authenticate", peer=client, envelope=envelope("a@example.net"), content=BytesContent(b"\r\n")
    )
    return [result for _, each in found for result in each]


@pytest.mark.parametrize(
    ("records", "result", "words"),
    [
        ({PTR: ["PTR mx.example.net."], "mx.example.net": ["A 192.0.2.1"]}, "pass", "mx.example.net"),
        (
            {PTR: ["PTR a.example.net.", "PTR b.example.net."], "b.example.net": ["A 192.0.2.9", "A 192.0.2.1"]},
            "pass",
            "b.example.net",
        ),
        (
            {PTR: ["PTR mx.example.net."], "mx.example.net": ["A 192.0.2.2"]},
            "fail",
            "mx.example.net does not lead back",
        ),
        ({PTR: ["PTR mx.example.net."]}, "fail", "mx.example.net does not lead back"),
        ({}, "permerror", "the address has no name"),
    ],
)
def test_a_name_counts_when_it_leads_back(records: dict[str, list[str]], result: str, words: str) -> None:
    with FakeZone(records) as zone:
        (found,) = results(zone, peer("192.0.2.1"))
    assert (found.method, found.result, found.comment or found.reason) == ("iprev", result, words)
    assert found.properties == (("policy.iprev", "192.0.2.1"),)


@pytest.mark.parametrize("broken", [PTR, "mx.example.net"])
def test_trouble_in_dns_is_no_answer(broken: str) -> None:
    with FakeZone({PTR: ["PTR mx.example.net."], "mx.example.net": ["A 192.0.2.1"]}) as zone:
        zone.fail(broken)
        (found,) = results(zone, peer("192.0.2.1"))
    assert found.result == "temperror"
    assert broken in found.reason


def test_ipv6_is_looked_up_by_nibbles() -> None:
    name = "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"
    with FakeZone({name: ["PTR mx.example.net."], "mx.example.net": ["AAAA 2001:db8:0::1"]}) as zone:
        (found,) = results(zone, peer("2001:db8::1"))
    assert found.result == "pass"


def test_no_more_names_are_looked_up_than_may_be() -> None:
    records = {PTR: [f"PTR n{number}.example.net." for number in range(20)]}
    with FakeZone(records) as zone:
        (found,) = results(zone, peer("192.0.2.1"), names=3)
        assert len({name for name, rdtype in zone.queries if rdtype == "A"}) == 3
    assert found.result == "fail"


class SlowNames:
    """Ten names for every address, and a name server that lets each question about them wait until it is given up."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.asked: list[str] = []

    def ptr(self, ip: str) -> tuple[str, ...]:
        return tuple(f"n{number}.of.{ip}.example" for number in range(10))

    def addresses(self, host: str) -> tuple[str, ...]:
        self.asked.append(host)
        self._clock.advance(20)  # both families
        raise ResolverError(f"A of {host}: no answer in time")

    def mx(self, domain: str) -> MxAnswer:
        raise AssertionError("not asked")

    def txt(self, name: str) -> tuple[str, ...]:
        raise AssertionError("not asked")


def test_many_names_in_a_dead_zone_do_not_use_up_the_budget_of_the_hook() -> None:
    clock = FakeClock()
    names = SlowNames(clock)
    runner = make_plugins("iprev", {}, clock=clock, rooms=Rooms(dns=names)).runner
    found = runner.gather(
        "message_authenticate",
        peer=peer("192.0.2.1"),
        envelope=envelope("a@example.net"),
        content=BytesContent(b"\r\n"),
    )
    ((_, (result,)),) = found
    assert (result.result, result.reason) == ("temperror", f"A of {names.asked[-1]}: no answer in time")
    assert len(names.asked) == 2
    assert clock.now() < FakeClock().now() + LONG_BUDGET


@pytest.mark.parametrize("client", [peer("192.0.2.1", login="a@example.org"), peer("192.0.2.1", relay=True)])
def test_nothing_is_said_of_who_may_relay(client: Peer) -> None:
    with FakeZone() as zone:
        assert results(zone, client) == []
        assert zone.queries == []


def test_a_number_of_names_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.iprev\.names"):
        make_plugins("iprev", {"names": 0})


def test_the_field_says_it(tmp_path: Path) -> None:
    zone = FakeZone({"1.0.0.127.in-addr.arpa": ["PTR localhost.example."], "localhost.example": ["A 127.0.0.1"]})
    with zone, mail_server(plugins=["iprev"], config={"dns": {"nameservers": [zone.nameserver]}}) as server:
        server.send("carol@far.example", ["alice@example.org"], b"Subject: x\r\n\r\nHi.\r\n")
        (mail,) = server.wait_for_mail("alice@example.org")
        field = b"\tiprev=pass\r\n\t (localhost.example)\r\n\t policy.iprev=127.0.0.1\r\nSubject:"
        assert b"\r\nAuthentication-Results: mail.example.org;\r\n" + field in mail
