"""The zone of the test kit, asked by dnspython."""

from __future__ import annotations

import socket

import dns.flags
import dns.message
import dns.query
import dns.rcode
import pytest

from mailserv.testing.dns import FakeZone, Trouble


@pytest.fixture
def zone():
    with FakeZone({"example.net": ["MX 10 mx.example.net.", "A 192.0.2.1"], "loop.test": ["CNAME loop.test."]}) as zone:
        yield zone


def ask(zone: FakeZone, name: str, rdtype: str, over=dns.query.udp, timeout: float = 5.0):
    address, _, port = zone.nameserver.partition(":")
    return over(dns.message.make_query(name, rdtype), address, port=int(port), timeout=timeout)


@pytest.mark.parametrize("text", ["MX mx.example.net.", "NONSENSE 5", "A"])
def test_what_is_no_record_is_told(zone, text):
    with pytest.raises(ValueError, match=f"'far.example', '{text}' is no record"):
        zone.add("far.example", text)


@pytest.mark.parametrize("over", [dns.query.udp, dns.query.tcp])
def test_a_zone_answers_over_udp_and_tcp(zone, over):
    assert ask(zone, "EXAMPLE.net", "MX", over).answer[0].to_text() == "example.net. 300 IN MX 10 mx.example.net."


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode"),
    [
        ("example.net", "TXT", dns.rcode.NOERROR),
        ("missing.test", "A", dns.rcode.NXDOMAIN),
        ("net", "A", dns.rcode.NOERROR),
        ("loop.test", "A", dns.rcode.NOERROR),
    ],
)
def test_what_is_not_there_is_told_as_dns_tells_it(zone, name, rdtype, rcode):
    answer = ask(zone, name, rdtype)
    assert answer.rcode() == rcode
    assert not [rrset for rrset in answer.answer if rrset.rdtype.name == rdtype]
    assert answer.authority, "a negative answer has the SOA that says for how long"


def test_names_come_and_go(zone):
    zone.add("new.test", "A 192.0.2.7", ttl=5)
    zone.add("empty.test")
    assert ask(zone, "new.test", "A").answer[0].ttl == 5
    assert ask(zone, "empty.test", "A").rcode() == dns.rcode.NOERROR
    zone.remove("new.test")
    assert ask(zone, "new.test", "A").rcode() == dns.rcode.NXDOMAIN


def test_a_name_can_fail_and_be_mended(zone):
    for how, rcode in [(Trouble.SERVFAIL, dns.rcode.SERVFAIL), (Trouble.REFUSED, dns.rcode.REFUSED)]:
        zone.fail("example.net", how)
        assert ask(zone, "example.net", "A").rcode() == rcode
    zone.mend("example.net")
    assert ask(zone, "example.net", "A").answer


@pytest.mark.parametrize("over", [dns.query.udp, dns.query.tcp])
def test_a_name_can_be_met_with_silence(zone, over):
    zone.fail("example.net", Trouble.SILENCE)
    with pytest.raises((dns.exception.Timeout, EOFError)):
        ask(zone, "example.net", "A", over, timeout=0.05)


def test_an_answer_can_be_too_large_for_udp(zone):
    zone.truncate("example.net")
    assert ask(zone, "example.net", "A").flags & dns.flags.TC
    assert ask(zone, "example.net", "A", dns.query.tcp).answer
    assert zone.tcp_queries == [("example.net", "A")]
    assert zone.queries == [("example.net", "A")] * 2


def test_a_closed_zone_gives_its_port_back():
    zone = FakeZone()
    address, _, port = zone.nameserver.partition(":")
    zone.close()
    with socket.create_server((address, int(port))):
        assert port
