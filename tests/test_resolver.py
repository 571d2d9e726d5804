"""The resolver against a real name server on a real socket."""

from __future__ import annotations

import dns.resolver
import pytest

from mailserv.errors import ResolverError
from mailserv.resolver import MxAnswer, MxHost, Resolver, _server
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone, Trouble


@pytest.fixture(scope="module")
def zone():
    records = {
        "example.net": ["MX 20 b.example.net.", "MX 10 MX.Example.NET.", 'TXT "v=spf1 " "-all"', 'TXT "other"'],
        "mx.example.net": ["A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1"],
        "null.example": ["MX 0 ."],
        "bare.example": ["A 192.0.2.9"],
        "alias.example": ["CNAME example.net."],
        "dangling.example": ["CNAME nowhere.example."],
        "1.2.0.192.in-addr.arpa": ["PTR mx.example.net."],
    }
    with FakeZone(records) as zone:
        yield zone


@pytest.fixture
def resolver(zone):
    return Resolver([zone.nameserver], timeout=5)


def test_mx_records_come_in_the_order_of_preference_with_bare_lower_case_names(resolver):
    assert resolver.mx("Example.NET.") == MxAnswer((MxHost(10, "mx.example.net"), MxHost(20, "b.example.net")))


@pytest.mark.parametrize(
    ("domain", "answer", "null"),
    [
        ("null.example", MxAnswer((MxHost(0, "."),)), True),
        ("bare.example", MxAnswer(()), False),
        ("nowhere.example", MxAnswer((), exists=False), False),
        ("dangling.example", MxAnswer((), exists=False), False),
        ("alias.example", MxAnswer((MxHost(10, "mx.example.net"), MxHost(20, "b.example.net"))), False),
        ("a..b", MxAnswer((), exists=False), False),
        ("x" * 64 + ".example", MxAnswer((), exists=False), False),
    ],
)
def test_a_fact_is_a_value(resolver, domain, answer, null):
    assert resolver.mx(domain) == answer
    assert resolver.mx(domain).is_null is null


def test_addresses_hold_ipv6_then_ipv4(resolver):
    assert resolver.addresses("mx.example.net") == ("2001:db8::1", "192.0.2.1", "192.0.2.2")
    assert resolver.addresses("example.net") == ()
    assert resolver.addresses("nowhere.example") == ()


def test_an_address_leads_back_to_its_name(resolver):
    assert resolver.ptr("192.0.2.1") == ("mx.example.net",)
    assert resolver.ptr("2001:db8::7") == ()
    assert resolver.ptr("not an address") == ()


def test_an_answer_that_makes_no_sense_is_temporary_trouble():
    class Confused(Resolver):
        def _resolver(self):
            raise dns.resolver.YXDOMAIN

    with pytest.raises(ResolverError, match="YXDOMAIN"):
        Confused().mx("example.net")


def test_the_parts_of_a_txt_record_are_joined(resolver):
    assert sorted(resolver.txt("example.net")) == ["other", "v=spf1 -all"]


@pytest.mark.parametrize("how", [Trouble.SERVFAIL, Trouble.REFUSED])
def test_a_failing_server_is_temporary_trouble(zone, resolver, how):
    zone.fail("trouble.example", how)
    with pytest.raises(ResolverError, match="SERVFAIL"):
        resolver.mx("trouble.example")
    zone.mend("trouble.example")
    assert not resolver.mx("trouble.example").exists, "trouble is not cached"


def test_a_silent_server_is_temporary_trouble(zone):
    zone.fail("silent.example", Trouble.SILENCE)
    with pytest.raises(ResolverError, match="in time"):
        Resolver([zone.nameserver], timeout=0.05).addresses("silent.example")


def test_a_refusing_server_hands_over_to_the_next(zone):
    with FakeZone() as grumpy:
        grumpy.fail("bare.example", Trouble.REFUSED)
        assert Resolver([grumpy.nameserver, zone.nameserver]).addresses("bare.example") == ("192.0.2.9",)


def test_without_any_name_server_there_is_temporary_trouble(tmp_path):
    with pytest.raises(ResolverError, match="no name server"):
        Resolver(resolv_conf=str(tmp_path / "missing")).mx("example.net")


def test_without_a_list_of_its_own_the_system_is_asked(zone, tmp_path):
    (tmp_path / "resolv.conf").write_text("search example.net\nnameserver 127.0.0.1\n")
    resolver = Resolver(resolv_conf=str(tmp_path / "resolv.conf"))
    stub = resolver._resolver()
    stub.port = int(zone.nameserver.rpartition(":")[2])
    assert resolver.addresses("bare.example") == ("192.0.2.9",)
    assert resolver.addresses("mx") == (), "search domains are never used"


def test_the_system_s_list_is_read_again_when_it_has_changed(tmp_path):
    """A machine that has moved to another network: its old name servers would never answer again."""
    path = tmp_path / "resolv.conf"
    path.write_text("nameserver 192.0.2.1\n")
    resolver = Resolver(resolv_conf=str(path))
    stub = resolver._resolver()
    assert resolver._resolver() is stub, "nothing is read while nothing changes"
    path.write_text("nameserver 192.0.2.22\n")
    assert resolver._resolver().nameservers == ["192.0.2.22"]
    path.write_text("# to be filled in\n")
    assert resolver._resolver().nameservers == ["192.0.2.22"]
    path.unlink()
    assert resolver._resolver().nameservers == ["192.0.2.22"], "it is being replaced, most likely"


def test_other_name_servers_are_asked_anew(zone):
    with FakeZone({"bare.example": ["A 192.0.2.77"]}) as other:
        resolver = Resolver([zone.nameserver], timeout=5)
        assert resolver.addresses("bare.example") == ("192.0.2.9",)
        resolver.use([other.nameserver], 5)
        assert resolver.addresses("bare.example") == ("192.0.2.77",)
        other.add("new.example", "A 192.0.2.78")
        assert resolver.addresses("new.example") == ("192.0.2.78",)
        other.add("new.example", "A 192.0.2.79")
        assert resolver.addresses("new.example") == ("192.0.2.78",)
        resolver.forget()
        assert set(resolver.addresses("new.example")) == {"192.0.2.78", "192.0.2.79"}


def test_trouble_in_one_address_family_is_forgiven():
    with FakeZone({"v4.example": ["A 192.0.2.5"]}) as zone:
        resolver = _OneFamilyFails([zone.nameserver])
        assert resolver.addresses("v4.example") == ("192.0.2.5",)
        with pytest.raises(ResolverError):
            resolver.addresses("nothing.example")


class _OneFamilyFails(Resolver):
    def _look_up(self, name, rdtype):
        if rdtype == "AAAA":
            raise ResolverError("no AAAA today")
        return super()._look_up(name, rdtype)


def test_a_truncated_answer_is_fetched_by_tcp(zone, resolver):
    zone.add("large.example", *[f"A 198.51.100.{n}" for n in range(1, 100)])
    zone.truncate("large.example")
    assert len(resolver.addresses("large.example")) == 99
    assert ("large.example", "A") in zone.tcp_queries


def test_an_answer_lives_as_long_as_its_ttl():
    clock = FakeClock()
    with FakeZone() as zone:
        zone.add("cached.example", "A 192.0.2.1", ttl=60)
        resolver = Resolver([zone.nameserver], clock=clock)
        for seconds, questions in [(0, 1), (59, 1), (2, 2)]:
            clock.advance(seconds)
            resolver.txt("cached.example")
            resolver.mx("cached.example")
            assert resolver.addresses("cached.example") == ("192.0.2.1",)
            assert zone.queries.count(("cached.example", "A")) == questions


def test_a_missing_name_is_cached_too_but_not_for_long():
    clock = FakeClock()
    with FakeZone() as zone:
        resolver = Resolver([zone.nameserver], clock=clock)
        for seconds, questions in [(0, 1), (50, 1), (11, 2)]:
            clock.advance(seconds)
            assert not resolver.mx("new.example").exists
            assert len(zone.queries) == questions


def test_the_cache_is_bounded():
    with FakeZone() as zone:
        resolver = Resolver([zone.nameserver], cache_size=3)
        for name in ("a.example", "b.example", "c.example", "a.example", "d.example", "a.example", "b.example"):
            resolver.mx(name)
        asked = [name for name, _ in zone.queries]
        assert asked == ["a.example", "b.example", "c.example", "d.example", "b.example"]


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
        ("[2001:db8::1]:5353", "2001:db8::1", 5353),
        ("[2001:db8::1]", "2001:db8::1", 53),
    ],
)
def test_a_name_server_is_an_address_with_or_without_a_port(text, address, port):
    server = _server(text)
    assert (server.address, server.port) == (address, port)
