"""All policy plugins at once: honest mail comes in, and none of them opens what is closed without them (invariant 4)."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from typing import Any

import pytest
from policing import send_as_client

from mailserv.resolver import Resolver
from mailserv.settings import Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone
from mailserv.testing.server import MailServer, mail_server

ALICE, CAROL = "alice@example.org", "carol@far.example"
ALL = ("access", "ratelimit", "sender", "dnsbl", "greylist")
PERMISSIVE: dict[str, Any] = {
    "access": {"rules": [{"action": "allow"}]},
    "ratelimit": {"networks": ["127.0.0.0/8"]},
    "sender": {"networks": ["127.0.0.0/8"]},
    "dnsbl": {"zones": [{"zone": "bad.test"}], "allow_zones": [{"zone": "good.test"}]},
    "greylist": {"networks": ["127.0.0.0/8"]},
}


@pytest.fixture
def zone() -> Iterator[FakeZone]:
    records = {"far.example": ["MX 10 mx.far.example."], "mx.far.example": ["A 8.8.8.8"]}
    with FakeZone({**records, "5.0.0.127.good.test": ["A 127.0.0.2"]}) as made:
        yield made


def server(zone: FakeZone, clock: FakeClock, plugin: dict[str, Any]) -> Any:
    return mail_server(clock=clock, resolver=Resolver([zone.nameserver]), plugins=Plugins(enabled=ALL), plugin=plugin)


def code(running: MailServer, reverse_path: str, forward_path: str, **login: Any) -> int:
    try:
        if login:
            running.send(reverse_path, [forward_path], b"Hi.\r\n", **login)
        else:
            send_as_client(running, reverse_path, [forward_path], b"Hi.\r\n")
    except smtplib.SMTPRecipientsRefused as refused:
        return refused.recipients[forward_path][0]
    except smtplib.SMTPResponseException as refused:
        return refused.smtp_code
    return 250


def test_honest_mail_waits_once_and_comes_in(zone: FakeZone) -> None:
    clock = FakeClock()
    settings = {"dnsbl": PERMISSIVE["dnsbl"], "ratelimit": {"client": {"messages_per_hour": 100}}}
    with server(zone, clock, settings) as running:
        assert code(running, CAROL, ALICE) == 451
        clock.advance(300)
        assert code(running, CAROL, ALICE) == 250
        assert code(running, "", ALICE) == 451
        assert code(running, "carol@nowhere.example", ALICE) == 550
        assert code(running, ALICE, ALICE, login=(ALICE, "secret")) == 250
        assert len(running.wait_for_mail(ALICE, 2)) == 2


def test_the_strictest_of_two_refusals_is_said(zone: FakeZone) -> None:
    zone.add("5.0.0.127.bad.test", "A 127.0.0.2")
    with server(zone, FakeClock(), {"dnsbl": {"zones": [{"zone": "bad.test"}]}}) as running:
        assert code(running, CAROL, ALICE) == 550  # the DNS list's, though greylisting would say 451


def test_invariant_4_whatever_the_policies_allow_nothing_is_relayed_and_nobody_is_invented(zone: FakeZone) -> None:
    with server(zone, FakeClock(), PERMISSIVE) as running:
        assert code(running, CAROL, ALICE) == 250
        assert code(running, CAROL, "dave@elsewhere.example") == 550
        assert code(running, CAROL, "nobody@example.org") == 550
        assert code(running, CAROL, ALICE, login=(ALICE, "secret")) == 553  # a login sends as itself only


def test_a_dead_resolver_lets_nothing_be_refused_for_good() -> None:
    with FakeZone() as dead:
        nameserver = dead.nameserver
    clock = FakeClock()
    settings = {"dnsbl": {"zones": [{"zone": "bad.test"}], "time_limit": "1s"}, "sender": {"time_limit": "1s"}}
    resolver = Resolver([nameserver], timeout=0.5)
    with mail_server(clock=clock, resolver=resolver, plugins=Plugins(enabled=ALL), plugin=settings) as running:
        assert code(running, CAROL, ALICE) == 451
        (line,) = running.wait_for_log("sender_refused")
        assert line["reply"].startswith("451 4.4.3")
        assert code(running, "", ALICE) == 451  # greylisted
        clock.advance(300)
        assert code(running, "", ALICE) == 250
        running.wait_for_mail(ALICE)
