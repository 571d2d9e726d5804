"""mailserv_greylist: who waits, for how long, who is known then, and that it is kept and bounded."""

from __future__ import annotations

import itertools
import smtplib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from policing import envelope, make_plugins, peer

from mailserv.errors import ConfigError
from mailserv.mail.address import parse_mailbox
from mailserv.mail.peer import Peer
from mailserv.mail.verdict import Verdict
from mailserv.settings import PluginPolicy, Plugins
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

DAY = 86_400.0
CAROL, BOB, ALICE = "carol@far.example", "bob@far.example", "alice@example.org"
Rcpt = Callable[..., str]


def rcpt(clock: FakeClock, **settings: Any) -> Rcpt:
    """Asks the plugin: "" or the reply."""
    runner = make_plugins("greylist", settings, clock=clock).runner

    def ask(client: str | Peer = "192.0.2.1", reverse_path: str = CAROL, forward_path: str = ALICE) -> str:
        who = peer(client) if isinstance(client, str) else client
        verdict: Verdict | None = runner.decide(
            "smtp_rcpt", peer=who, envelope=envelope(reverse_path), forward_path=parse_mailbox(forward_path)
        )
        return str(verdict.reply) if verdict else ""

    return ask


def told(seconds: int) -> str:
    return f"451 4.7.1 Greylisted: try again in {seconds} seconds"


def test_a_stranger_waits_and_is_told_the_seconds_that_are_left() -> None:
    clock = FakeClock()
    ask = rcpt(clock, delay="5m")
    assert ask() == told(300)
    clock.advance(100.4)
    assert ask() == told(200)
    clock.advance(199.6)
    assert ask() == ""
    assert ask() == ""


def test_who_comes_back_after_the_window_is_a_stranger_again() -> None:
    clock = FakeClock()
    ask = rcpt(clock, delay="5m", window="1d")
    ask()
    clock.advance(DAY)
    assert ask() == told(300)


def test_who_passed_is_known_for_a_lifetime_from_the_last_message_on() -> None:
    clock = FakeClock()
    ask = rcpt(clock, delay="5m", lifetime="10d")
    ask()
    clock.advance(300)
    ask()
    clock.advance(9 * DAY)
    assert ask() == ""
    clock.advance(9 * DAY)
    assert ask() == ""
    clock.advance(10 * DAY)
    assert ask() == told(300)


@pytest.mark.parametrize(
    ("client", "reverse_path", "forward_path", "is_same"),
    [
        ("192.0.2.200", CAROL, ALICE, True),
        ("192.0.2.1", "Carol@far.example", "ALICE@example.org", True),
        ("192.0.3.1", CAROL, ALICE, False),
        ("192.0.2.1", BOB, ALICE, False),
        ("192.0.2.1", "", ALICE, False),
        ("192.0.2.1", CAROL, "dave@example.org", False),
    ],
)
def test_a_triplet_is_a_network_and_two_addresses(
    client: str, reverse_path: str, forward_path: str, is_same: bool
) -> None:
    clock = FakeClock()
    ask = rcpt(clock)
    ask()
    clock.advance(300)
    assert (ask(client, reverse_path, forward_path) == "") == is_same


def test_a_network_of_ipv6_is_a_64() -> None:
    clock = FakeClock()
    ask = rcpt(clock)
    ask("2001:db8:1:2::1")
    clock.advance(300)
    assert ask("2001:db8:1:2:ffff::9") == ""
    assert ask("2001:db8:1:3::1") == told(300)


@pytest.mark.parametrize(
    "client",
    [
        peer("192.0.2.1", service="submission", login=ALICE),
        peer("192.0.2.1", relay=True),
        peer("203.0.113.9"),
    ],
)
def test_who_logged_in_who_may_relay_and_partners_never_wait(client: Peer) -> None:
    assert rcpt(FakeClock(), networks=["203.0.113.0/24"])(client) == ""


def test_a_network_is_known_when_enough_of_its_triplets_have_come_back() -> None:
    clock = FakeClock()
    ask = rcpt(clock, auto_whitelist=3)
    senders = [f"s{number}@far.example" for number in range(3)]
    for sender in senders:
        ask(reverse_path=sender)
    clock.advance(300)
    assert [ask(reverse_path=sender) for sender in senders[:2]] == ["", ""]
    assert ask(reverse_path="new@far.example") == told(300)
    assert ask(reverse_path=senders[2]) == ""
    assert ask(reverse_path="newer@far.example") == ""
    assert ask("192.0.3.1") == told(300)


def test_a_network_is_never_known_when_the_setting_says_so() -> None:
    clock = FakeClock()
    ask = rcpt(clock, auto_whitelist=0)
    ask()
    clock.advance(300)
    assert ask() == ""
    assert ask(reverse_path=BOB) == told(300)


def test_one_network_can_not_fill_the_table_for_others() -> None:
    clock = FakeClock()
    ask = rcpt(clock, waiting=4, waiting_per_network=2)
    for number in range(20):
        assert ask(reverse_path=f"s{number}@far.example") == told(300)
    assert ask("198.51.100.1") == told(300)
    clock.advance(300)
    assert [ask(reverse_path=f"s{number}@far.example") for number in range(2)] == [""] * 2
    assert ask("198.51.100.1") == ""


@pytest.mark.parametrize(
    ("spammer", "neighbour", "other"),
    [("192.0.2.66", "192.0.2.1", "192.0.2.2"), ("2001:db8::66", "2001:db8::1", "2001:db8:0:1::1")],
)
def test_who_shares_a_network_with_a_flood_gets_through_when_it_comes_back(
    spammer: str, neighbour: str, other: str
) -> None:
    clock = FakeClock()
    ask = rcpt(clock, waiting_per_network=2)

    def flood() -> None:
        for _ in range(5):
            ask(spammer, f"s{next(numbers)}@far.example")

    numbers = itertools.count()
    flood()
    assert ask(neighbour) == told(300)
    clock.advance(150)
    flood()
    assert ask(neighbour) == told(150)
    clock.advance(150)
    assert [ask(neighbour), ask(neighbour, BOB)] == ["", ""]
    assert ask(other) == told(300)


def test_when_the_table_is_full_mail_goes_on_and_there_is_room_again_later() -> None:
    clock = FakeClock()
    ask = rcpt(clock, waiting=2, window="1d")
    assert [ask(f"192.0.{number}.1") for number in range(4)] == [told(300), told(300), "", ""]
    clock.advance(300)
    assert ask("192.0.0.1") == ""
    assert ask("192.0.9.1") == told(300)
    clock.advance(DAY)
    assert ask("192.0.10.1") == told(300)


def test_a_clock_that_was_put_back_makes_nobody_wait_longer_than_the_delay() -> None:
    clock = FakeClock()
    ask = rcpt(clock)
    ask()
    clock.set_now(clock.now() - 10 * DAY)
    assert ask() == told(300)
    clock.advance(300)
    assert ask() == ""


def test_a_clock_that_was_ahead_leaves_no_count_behind() -> None:
    clock = FakeClock()
    ask = rcpt(clock, waiting_per_network=2)
    clock.set_now(clock.now() + 365 * DAY)
    for number in range(3):
        assert ask(reverse_path=f"s{number}@far.example") == told(300)
    clock.set_now(clock.now() - 365 * DAY)
    assert ask() == told(300)
    clock.advance(300)
    assert ask() == ""


def test_who_comes_back_in_the_next_window_makes_no_more_room_than_there_is() -> None:
    clock = FakeClock()
    ask = rcpt(clock, waiting=2, window="1d", auto_whitelist=0)
    clock.advance(DAY - 60)
    assert [ask(f"192.0.{number}.1") for number in range(2)] == [told(300)] * 2
    clock.advance(300)
    assert [ask(f"192.0.{number}.1") for number in range(2)] == [""] * 2
    assert [ask(f"192.0.{number}.1") for number in range(10, 13)] == [told(300), told(300), ""]


@pytest.mark.parametrize("settings", [{"delay": "2h", "window": "1h"}, {"lifetime": "1h"}])
def test_settings_that_make_no_sense_are_refused_at_start(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"^plugin\.greylist\.(window|lifetime): "):
        make_plugins("greylist", settings)


def server(clock: FakeClock, data_dir: Path, **policy: PluginPolicy) -> Any:
    return mail_server(clock=clock, data_dir=data_dir, plugins=Plugins(enabled=("greylist",), policy=policy))


def sent(running: MailServer) -> str:
    try:
        running.send(CAROL, [ALICE], b"Hi.\r\n")
    except smtplib.SMTPRecipientsRefused as refused:
        code, text = refused.recipients[ALICE]
        return f"{code} {text.decode()}"
    return ""


def test_a_triplet_waits_over_a_restart_and_is_known_after_another(tmp_path: Path) -> None:
    clock = FakeClock()
    with server(clock, tmp_path) as running:
        assert sent(running) == told(300)
        (line,) = running.wait_for_log("greylisted")
        assert (line["forward_path"], line["seconds"]) == (ALICE, 300)
        (line,) = running.wait_for_log("refused", command="rcpt")
        assert line["reply"] == told(300)
        assert line["why"] == "greylist: 127.0.0.0/24 is new with this sender and recipient: 300 s"
    clock.advance(300)
    with server(clock, tmp_path) as running:
        assert sent(running) == ""
        running.wait_for_mail(ALICE)
    clock.advance(DAY)
    with server(clock, tmp_path) as running:
        assert sent(running) == ""
        assert not running.log.matching("greylisted")


def test_who_logs_in_is_not_asked_to_wait(tmp_path: Path) -> None:
    with server(FakeClock(), tmp_path) as running:
        running.send(ALICE, [ALICE], b"Hi.\r\n", login=(ALICE, "secret"))


def test_on_trial_it_only_says_what_it_would_do(tmp_path: Path) -> None:
    with server(FakeClock(), tmp_path, greylist=PluginPolicy(mode="observe")) as running:
        assert sent(running) == ""
        (line,) = running.wait_for_log("plugin_observed")
        assert line["why"] == "greylist: 127.0.0.0/24 is new with this sender and recipient: 300 s"
