"""mailserv_dnsbl: which answers count, what they add up to, and that a list in trouble stops no mail."""

from __future__ import annotations

import smtplib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from policing import CLIENT, envelope, make_plugins, peer, send_as_client

from mailserv.errors import ConfigError
from mailserv.hooks.rooms import Rooms
from mailserv.mail.address import parse_mailbox
from mailserv.mail.peer import Peer
from mailserv.mail.plugin import MxAnswer, Names
from mailserv.resolver import Resolver
from mailserv.settings import PluginPolicy, Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.dns import FakeZone, Trouble
from mailserv.testing.server import MailServer, mail_server

ALICE, CAROL = "alice@example.org", "carol@far.example"
NIBBLES = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
RECORDS: Mapping[str, Sequence[str]] = {
    "1.2.0.192.bad.test": ["A 127.0.0.2"],
    "1.2.0.192.worse.test": ["A 127.0.0.4", "A 127.0.0.10"],
    "2.2.0.192.bad.test": ["A 127.0.0.2"],
    "2.2.0.192.good.test": ["A 127.0.5.1"],
    "3.2.0.192.bad.test": ["A 192.0.2.80"],
    "4.2.0.192.bad.test": ["A 127.255.255.254"],
    f"{NIBBLES}.bad.test": ["A 127.0.0.2"],
    "5.0.0.127.bad.test": ["A 127.0.0.2"],
}
BAD, WORSE, GOOD = {"zone": "bad.test"}, {"zone": "worse.test"}, {"zone": "good.test"}


@pytest.fixture
def lists() -> Iterator[FakeZone]:
    with FakeZone(RECORDS) as made:
        yield made


class Client:
    """Asks the plugin about a recipient: "" or the reply."""

    def __init__(self, dns: FakeZone | Names, clock: FakeClock | None = None, **settings: Any) -> None:
        names = Resolver([dns.nameserver]) if isinstance(dns, FakeZone) else dns
        self._runner = make_plugins("dnsbl", settings, clock=clock, rooms=Rooms(dns=names)).runner

    def rcpt(self, who: str | Peer, forward_path: str = ALICE) -> str:
        client = peer(who) if isinstance(who, str) else who
        verdict = self._runner.decide(
            "smtp_rcpt", peer=client, envelope=envelope(CAROL), forward_path=parse_mailbox(forward_path)
        )
        return str(verdict.reply) if verdict else ""


def listed(ip: str, zones: str) -> str:
    return f"550 5.7.1 Client [{ip}] is listed by {zones}"


@pytest.mark.parametrize(
    ("settings", "ip", "zones"),
    [
        ({"zones": [BAD]}, "192.0.2.1", "bad.test"),
        ({"zones": [{"zone": "Bad.Test."}]}, "192.0.2.1", "Bad.Test."),
        ({"zones": [BAD]}, "::ffff:192.0.2.1", "bad.test"),
        ({"zones": [BAD]}, "192.0.2.9", ""),
        ({"zones": [BAD]}, "2001:db8::1", "bad.test"),
        ({"zones": [BAD]}, "2001:db8::2", ""),
        ({"zones": [BAD]}, "192.0.2.3", ""),
        ({"zones": [BAD]}, "192.0.2.4", ""),
        ({"zones": [BAD, WORSE]}, "192.0.2.1", "bad.test, worse.test"),
        ({"zones": [BAD, WORSE], "threshold": 3}, "192.0.2.1", ""),
        ({"zones": [BAD, {**WORSE, "weight": 2}], "threshold": 3}, "192.0.2.1", "bad.test, worse.test"),
        ({"zones": [{**WORSE, "answers": ["127.0.0.2/31"]}]}, "192.0.2.1", ""),
        ({"zones": [{**WORSE, "answers": ["127.0.0.2", "127.0.0.4/30"]}]}, "192.0.2.1", "worse.test"),
        ({"zones": [{**WORSE, "answers": ["127.0.0.10"]}]}, "192.0.2.1", "worse.test"),
        (
            {"zones": [{**WORSE, "answers": ["127.0.0.4"]}, {**WORSE, "answers": ["127.0.0.10"]}], "threshold": 2},
            "192.0.2.1",
            "worse.test",
        ),
        ({"zones": [BAD], "allow_zones": [GOOD]}, "192.0.2.2", ""),
        ({"zones": [BAD], "allow_zones": [{**GOOD, "answers": ["127.0.4.0/24"]}]}, "192.0.2.2", "bad.test"),
        ({"zones": [BAD], "networks": ["192.0.2.0/24"]}, "192.0.2.1", ""),
        ({"allow_zones": [GOOD]}, "192.0.2.1", ""),
        ({}, "192.0.2.1", ""),
    ],
)
def test_lists_add_up_and_the_reply_names_them(lists: FakeZone, settings: dict[str, Any], ip: str, zones: str) -> None:
    assert Client(lists, **settings).rcpt(ip) == (listed(ip, zones) if zones else "")


@pytest.mark.parametrize(
    "client", [peer("192.0.2.1", service="submission", login=ALICE), peer("192.0.2.1", relay=True)]
)
def test_nobody_is_asked_about_who_logged_in_or_may_relay(lists: FakeZone, client: Peer) -> None:
    assert Client(lists, zones=[BAD]).rcpt(client) == ""
    assert lists.queries == []


def test_postmaster_is_always_reached(lists: FakeZone) -> None:
    assert Client(lists, zones=[BAD]).rcpt("192.0.2.1", "PostMaster@example.org") == ""


def test_a_client_can_be_told_to_come_again(lists: FakeZone) -> None:
    said = Client(lists, zones=[BAD], action="tempfail").rcpt("192.0.2.1")
    assert said == "451 4.7.1 Client [192.0.2.1] is listed by bad.test"


def test_answers_are_cached_for_the_recipients_that_follow(lists: FakeZone) -> None:
    client = Client(lists, zones=[BAD])
    client.rcpt("192.0.2.1")
    before = len(lists.queries)
    assert client.rcpt("192.0.2.1", "dave@example.org") == listed("192.0.2.1", "bad.test")
    assert len(lists.queries) == before


@pytest.mark.parametrize("how", [Trouble.SERVFAIL, Trouble.REFUSED])
def test_a_dead_list_does_not_count_and_the_others_do(lists: FakeZone, how: Trouble) -> None:
    lists.fail("1.2.0.192.bad.test", how)
    assert Client(lists, zones=[BAD]).rcpt("192.0.2.1") == ""
    assert Client(lists, zones=[BAD, WORSE]).rcpt("192.0.2.1") == listed("192.0.2.1", "worse.test")


def test_a_dead_allow_list_does_not_permit_and_refuses_nobody_for_good(lists: FakeZone) -> None:
    lists.fail("2.2.0.192.good.test")
    clock = FakeClock()
    client = Client(lists, clock, zones=[BAD], allow_zones=[GOOD])
    later = "451 4.7.1 Client [192.0.2.2] is listed by bad.test"
    assert [client.rcpt("192.0.2.2") for _ in range(2)] == [later, later]
    lists.mend("2.2.0.192.good.test")
    clock.advance(60)
    assert client.rcpt("192.0.2.2") == ""


def test_a_dead_allow_list_is_nothing_to_who_is_not_refused(lists: FakeZone) -> None:
    lists.fail("1.2.0.192.good.test")
    assert Client(lists, zones=[BAD], allow_zones=[GOOD], threshold=2).rcpt("192.0.2.1") == ""


@pytest.mark.parametrize(
    ("ip", "nobody"),
    [
        ("192.0.2.1", "1.0.0.127"),
        ("2001:db8::1", "1.0.0.0.0.0.f.7.f.f.f.f" + ".0" * 20),
    ],
)
def test_a_list_that_has_everybody_counts_for_nothing(lists: FakeZone, ip: str, nobody: str) -> None:
    client = Client(lists, zones=[BAD])
    assert client.rcpt(ip) == listed(ip, "bad.test")
    lists.add(f"{nobody}.bad.test", "A 127.0.0.2")
    assert Client(lists, zones=[BAD]).rcpt(ip) == ""


def test_an_allow_list_that_has_everybody_permits_nobody(lists: FakeZone) -> None:
    lists.add("1.0.0.127.good.test", "A 127.0.0.2")
    said = Client(lists, zones=[BAD], allow_zones=[GOOD]).rcpt("192.0.2.2")
    assert said == "451 4.7.1 Client [192.0.2.2] is listed by bad.test"


def test_a_list_in_trouble_is_asked_again_after_a_pause(lists: FakeZone) -> None:
    clock = FakeClock()
    lists.fail("1.2.0.192.bad.test")
    client = Client(lists, clock, zones=[BAD], pause="60s")
    client.rcpt("192.0.2.1")
    lists.mend("1.2.0.192.bad.test")
    clock.advance(59)
    assert client.rcpt("192.0.2.1") == ""
    clock.advance(1)
    assert client.rcpt("192.0.2.1") == listed("192.0.2.1", "bad.test")


class HangingNames:
    """A name server that answers about one zone only when the test says so."""

    def __init__(self) -> None:
        self.release = threading.Event()

    def addresses(self, host: str) -> tuple[str, ...]:
        if host.endswith("slow.test"):
            self.release.wait()
        return () if host.startswith("1.0.0.127.") else ("127.0.0.2",)

    def mx(self, domain: str) -> MxAnswer:
        raise AssertionError("not asked")

    def ptr(self, ip: str) -> tuple[str, ...]:
        raise AssertionError("not asked")

    def txt(self, name: str) -> tuple[str, ...]:
        raise AssertionError("not asked")


def test_a_list_that_hangs_is_not_waited_for() -> None:
    names = HangingNames()
    try:
        client = Client(names, zones=[{"zone": "slow.test"}, BAD], time_limit="0.2s")
        assert client.rcpt("192.0.2.1") == listed("192.0.2.1", "bad.test")
        assert client.rcpt("192.0.2.1") == listed("192.0.2.1", "bad.test")
    finally:
        names.release.set()


@pytest.mark.parametrize("zone", ["", ".", "two words.test", "bücher.test", "a\r\nb", "a..test", "a" * 64 + ".test"])
def test_a_zone_that_is_no_domain_is_refused_at_start(lists: FakeZone, zone: str) -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.dnsbl\.zones: "):
        Client(lists, zones=[{"zone": zone}])


def server(lists: FakeZone, policy: Mapping[str, PluginPolicy] | None = None, **settings: Any) -> Any:
    plugins = Plugins(enabled=("dnsbl",), policy=dict(policy or {}))
    resolver = Resolver([lists.nameserver])
    return mail_server(plugins=plugins, resolver=resolver, plugin={"dnsbl": {"zones": [BAD], **settings}})


def sent(running: MailServer, *paths: str, login: bool = False) -> dict[str, str]:
    try:
        if login:
            running.send(ALICE, paths or [ALICE], b"Hi.\r\n", login=(ALICE, "secret"))
        else:
            send_as_client(running, ALICE, paths or [ALICE], b"Hi.\r\n")
    except smtplib.SMTPRecipientsRefused as refused:
        return {path: f"{code} {text.decode()}" for path, (code, text) in refused.recipients.items()}
    return {}


def test_the_client_and_the_log_hear_why(lists: FakeZone) -> None:
    with server(lists) as running:
        assert sent(running) == {ALICE: listed(CLIENT, "bad.test")}
        (line,) = running.wait_for_log("dnsbl_listed")
        assert (line["ip"], line["zones"], line["score"], line["refused"]) == (CLIENT, "bad.test", 1, True)
        (line,) = running.wait_for_log("refused", command="rcpt")
        assert line["why"] == "dnsbl: score 1 of 1: bad.test"
        assert sent(running, login=True) == {}


@pytest.mark.parametrize("dies", [False, True])
def test_invariant_10_a_key_in_a_zone_is_told_nobody(dies: bool) -> None:
    zone = {"zone": "0SecretKey0.bad.test", "name": "bad.test"}
    with FakeZone({"5.0.0.127.0secretkey0.bad.test": ["A 127.0.0.2"]}) as lists:
        if dies:
            lists.fail("5.0.0.127.0secretkey0.bad.test")
        with server(lists, zones=[zone]) as running:
            assert sent(running) == ({} if dies else {ALICE: listed(CLIENT, "bad.test")})
            (line,) = running.wait_for_log("dnsbl_unavailable" if dies else "dnsbl_listed")
            assert line["zone" if dies else "zones"] == "bad.test"
            told = str([line, running.log.matching("refused"), running.log.matching("plugin_failed")])
            assert "secretkey" not in told.lower()


@pytest.mark.parametrize("name", ["two\r\nlines", "b\u00fccher"])
def test_a_name_that_would_break_the_reply_is_refused_at_start(lists: FakeZone, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.dnsbl\.zones: "):
        Client(lists, zones=[{**BAD, "name": name}])


def test_when_every_list_is_dead_mail_comes_in_and_the_log_tells_once(lists: FakeZone) -> None:
    lists.fail("5.0.0.127.bad.test")
    with server(lists) as running:
        assert [sent(running) for _ in range(3)] == [{}] * 3
        running.wait_for_mail(ALICE, 3)
        (line,) = running.wait_for_log("dnsbl_unavailable")
        assert line["zone"] == "bad.test"
        assert "5.0.0.127.bad.test" in line["error"]


def test_no_thread_is_left_behind(lists: FakeZone) -> None:
    before = set(threading.enumerate())
    with server(lists) as running:
        sent(running)
        asking = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("dnsbl")]
        assert asking
    for thread in asking:
        thread.join(10)
    assert not any(thread.is_alive() for thread in asking)


def test_on_trial_it_only_says_what_it_would_do(lists: FakeZone) -> None:
    with server(lists, {"dnsbl": PluginPolicy(mode="observe")}) as running:
        assert sent(running) == {}
        (line,) = running.wait_for_log("plugin_observed")
        assert line["why"] == "dnsbl: score 1 of 1: bad.test"
