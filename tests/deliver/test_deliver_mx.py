"""Where a next hop leads: a table against a real name server."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from mailserv.deliver.mx import (
    LOOPS_BACK,
    NO_ADDRESS,
    NO_MX_ADDRESS,
    NO_SUCH_DOMAIN,
    NULL_MX,
    Ourselves,
    Target,
    find_targets,
    is_this_machine,
)
from mailserv.errors import ResolverError
from mailserv.mail.outcome import Deferred, Failed
from mailserv.resolver import MxAnswer, MxHost, Resolver
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone, Trouble

RECORDS = {
    "a.test": ["A 192.0.2.1"],
    "b.test": ["A 192.0.2.2"],
    "c.test": ["A 192.0.2.3"],
    "six.test": ["AAAA 2001:db8::1", "AAAA 2001:db8::2", "AAAA 2001:db8::3", "A 192.0.2.6", "A 192.0.2.7"],
    "only6.test": [f"AAAA 2001:db8::{n}" for n in range(1, 8)],
    "nothing.test": ['TXT "x"'],
    "me.test": ["A 192.0.2.99"],
    "local.test": ["A 127.0.0.1"],
    "ordered.test": ["MX 20 b.test.", "MX 10 a.test.", "MX 30 c.test."],
    "equal.test": ["MX 10 a.test.", "MX 10 b.test.", "MX 20 c.test."],
    "double.test": ["MX 10 a.test.", "MX 20 a.test."],
    "mixed.test": ["MX 10 six.test."],
    "all6.test": ["MX 10 only6.test.", "MX 20 a.test."],
    "null.test": ["MX 0 ."],
    "almostnull.test": ["MX 0 .", "MX 10 a.test."],
    "pointless.test": ["MX 10 nothing.test.", "MX 20 missing.test."],
    "partly.test": ["MX 10 missing.test.", "MX 20 b.test."],
    "literalmx.test": ["MX 10 192.0.2.77."],
    "first.test": ["MX 10 me.test.", "MX 20 a.test."],
    "second.test": ["MX 10 a.test.", "MX 20 me.test.", "MX 20 b.test.", "MX 30 c.test."],
    "address.test": ["MX 10 a.test.", "MX 20 other.test."],
    "other.test": ["A 192.0.2.99"],
    "dressed.test": ["AAAA ::ffff:c000:233"],
    "undressed.test": ["AAAA ::ffff:0:0"],
    "inward.test": ["MX 10 local.test."],
    "crowd.test": [*[f"MX {n} missing{n}.test." for n in range(10, 40)], "MX 50 a.test."],
    "many.test": [f"MX {n} h{n}.test." for n in range(10, 20)],
    **{f"h{n}.test": [f"A 198.51.100.{n}"] for n in range(10, 20)},
    "halfbroken.test": ["MX 10 servfail.test.", "MX 20 b.test."],
    "broken.test": ["MX 10 servfail.test."],
    "brokenmine.test": ["MX 10 servfail.test.", "MX 20 me.test."],
    "www.test": ["CNAME ordered.test."],
}
OURSELVES = Ourselves(
    "me.test",
    {("192.0.2.99", 25), ("0.0.0.0", 25), ("192.0.2.50", 2525), ("127.0.0.1", 2527), ("::1", 2527)},
    is_local={"192.0.2.51", "2001:db8::51"}.__contains__,
)


@pytest.fixture(scope="module")
def resolver():
    with FakeZone(RECORDS) as zone:
        for name in ("servfail.test", "mxfail.test"):
            zone.fail(name, Trouble.SERVFAIL)
        yield Resolver([zone.nameserver], timeout=5)


def find(resolver, next_hop, seed=1, **options):
    return find_targets(next_hop, resolver, ourselves=OURSELVES, rng=random.Random(seed), **options)


def test_hosts_come_in_the_order_of_preference(resolver):
    assert find(resolver, "ordered.test") == [
        Target("a.test", "192.0.2.1", 25),
        Target("b.test", "192.0.2.2", 25),
        Target("c.test", "192.0.2.3", 25),
    ]


@pytest.mark.parametrize(
    ("next_hop", "ips"),
    [
        ("a.test", ["192.0.2.1"]),
        ("www.test", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("double.test", ["192.0.2.1"]),
        ("mixed.test", ["2001:db8::1", "192.0.2.6", "2001:db8::2", "192.0.2.7", "2001:db8::3"]),
        ("all6.test", [f"2001:db8::{n}" for n in range(1, 6)]),
        ("almostnull.test", ["192.0.2.1"]),
        ("partly.test", ["192.0.2.2"]),
        ("literalmx.test", ["192.0.2.77"]),
        ("second.test", ["192.0.2.1"]),
        ("address.test", ["192.0.2.1"]),
        ("many.test", [f"198.51.100.{n}" for n in range(10, 15)]),
        ("halfbroken.test", ["192.0.2.2"]),
        ("[192.0.2.8]", ["192.0.2.8"]),
        ("[IPv6:2001:db8::8]", ["2001:db8::8"]),
        ("[2001:db8::8]:2525", ["2001:db8::8"]),
        ("[ordered.test]:25", []),
        ("[a.test]:587", ["192.0.2.1"]),
    ],
)
def test_the_addresses_to_try(resolver, next_hop, ips):
    found = find(resolver, next_hop)
    assert ([] if isinstance(found, Failed) else [target.ip for target in found]) == ips


def test_a_next_hop_in_brackets_has_its_own_port_and_no_mx_lookup(resolver):
    assert find(resolver, "[a.test]:587") == [Target("a.test", "192.0.2.1", 587)]
    assert find(resolver, "[192.0.2.8]", port=2526) == [Target("192.0.2.8", "192.0.2.8", 2526)]
    assert find(resolver, "[ordered.test]:25").reply.enhanced == "5.4.4"


def test_equal_preferences_are_shuffled_and_stay_before_the_others(resolver):
    orders = Counter(tuple(t.host for t in find(resolver, "equal.test", seed)) for seed in range(40))
    assert set(orders) == {("a.test", "b.test", "c.test"), ("b.test", "a.test", "c.test")}
    assert min(orders.values()) > 8


@pytest.mark.parametrize(
    ("next_hop", "reply"),
    [
        ("null.test", NULL_MX),
        ("missing.test", NO_SUCH_DOMAIN),
        ("nothing.test", NO_ADDRESS),
        ("pointless.test", NO_MX_ADDRESS),
        ("crowd.test", NO_MX_ADDRESS),
        ("first.test", LOOPS_BACK),
        ("inward.test", LOOPS_BACK),
        ("me.test", LOOPS_BACK),
        ("local.test", LOOPS_BACK),
        ("other.test", LOOPS_BACK),
        ("[192.0.2.50]:2525", LOOPS_BACK),
        ("[192.0.2.51]:25", LOOPS_BACK),
        ("[2001:db8::51]:25", LOOPS_BACK),
        ("[0.0.0.0]:25", LOOPS_BACK),
        ("[0.0.0.0]:2527", LOOPS_BACK),
        ("[::]:2527", LOOPS_BACK),
        ("[::ffff:192.0.2.50]:2525", LOOPS_BACK),
        ("dressed.test", LOOPS_BACK),
        ("undressed.test", LOOPS_BACK),
    ],
)
def test_a_domain_that_can_take_no_mail_fails(resolver, next_hop, reply):
    assert find(resolver, next_hop) == Failed(reply)


def test_the_replies_are_those_of_the_rfcs():
    assert [(r.code, r.enhanced) for r in (NULL_MX, NO_SUCH_DOMAIN, NO_ADDRESS, NO_MX_ADDRESS, LOOPS_BACK)] == [
        (556, "5.1.10"),  # RFC 7505 §4
        (550, "5.1.2"),
        (550, "5.1.2"),
        (550, "5.4.4"),
        (554, "5.4.6"),
    ]


@pytest.mark.parametrize(
    "next_hop", ["mxfail.test", "servfail.test", "broken.test", "brokenmine.test", "[servfail.test]:25"]
)
def test_dns_trouble_is_temporary(resolver, next_hop):
    found = find(resolver, next_hop)
    assert isinstance(found, Deferred)
    assert (found.reply.code, found.reply.enhanced) == (451, "4.4.3")


def test_an_implicit_mx_with_dns_trouble_is_temporary():
    class MxOnly:
        def mx(self, domain):
            return Resolver([zone.nameserver]).mx(domain)

        def addresses(self, host):
            return broken.addresses(host)

    with FakeZone({"x.test": ['TXT "x"'], "y.test": []}) as zone, FakeZone() as failing:
        failing.fail("x.test")
        broken = Resolver([failing.nameserver])
        assert isinstance(find(MxOnly(), "x.test"), Deferred)


@pytest.mark.parametrize("dead", [range(20), range(1, 20)], ids=["all", "all but the first"])
def test_hosts_in_a_dead_zone_keep_a_worker_for_half_a_minute_and_no_longer(dead):
    clock, asked = FakeClock(), []

    class Slow:
        def mx(self, domain):
            return MxAnswer(tuple(MxHost(number, f"{number}.dead.test") for number in range(20)))

        def addresses(self, host):
            asked.append(host)
            if int(host.split(".")[0]) not in dead:
                return ("192.0.2.1",)
            clock.advance(20)
            raise ResolverError("no answer in time")

    found = find(Slow(), "dead.test", monotonic=clock.monotonic)
    assert len(asked) - len(set(range(20)) - set(dead)) == 2, "no more are asked when the time is over"
    if 0 in dead:
        assert isinstance(found, Deferred)
    else:
        assert found == [Target("0.dead.test", "192.0.2.1", 25)]


def test_the_same_host_on_another_port_is_not_ourselves(resolver):
    assert find(resolver, "[192.0.2.51]:26") == [Target("192.0.2.51", "192.0.2.51", 26)]
    assert find(resolver, "[192.0.2.50]:26") == [Target("192.0.2.50", "192.0.2.50", 26)]
    assert find(resolver, "local.test", port=2526) == [Target("local.test", "127.0.0.1", 2526)]


@pytest.mark.parametrize(
    ("ip", "is_ours"), [("127.0.0.1", True), ("::1", True), ("192.0.2.1", False), ("2001:db8::1", False)]
)
def test_the_kernel_knows_the_addresses_of_this_machine(ip, is_ours):
    assert is_this_machine(ip) is is_ours


def test_a_target_reads_as_host_address_and_port():
    assert str(Target("mx.example.net", "192.0.2.1", 25)) == "mx.example.net [192.0.2.1]:25"
