"""The keeper: what has had its time goes, whatever else happens; POP3 clients hear how long that is."""

from __future__ import annotations

import poplib
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import msgspec
import pytest

from mailserv.mail.queue_id import QueueIds
from mailserv.mail.values import Duration, Size
from mailserv.mailboxes.keeper import Keeper
from mailserv.mailboxes.rules import Rules
from mailserv.settings import Mailboxes
from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server

ALICE, BOB = "alice@example.org", "bob@example.org"
DAY = 86_400.0


@contextmanager
def server_with(clock: FakeClock, mailboxes: dict[str, object]) -> Iterator[MailServer]:
    accounts = {ALICE: "secret", BOB: "secret"}
    with mail_server(accounts=accounts, clock=clock, config={"mailboxes": mailboxes}) as server:
        yield server


def send(server: MailServer, count: int, to: str = ALICE) -> None:
    for number in range(count):
        server.send("dave@example.net", [to], b"Subject: %d\r\n\r\nHello.\r\n" % number)


def pass_days(server: MailServer, clock: FakeClock, days: float) -> None:
    clock.advance(days * DAY)
    server.wake_queue()


def poplib_client(server: MailServer) -> poplib.POP3:
    client = poplib.POP3(*server.address("pop3"), timeout=20)
    client.user(ALICE)
    client.pass_("secret")
    return client


def test_what_is_old_goes_and_what_is_younger_stays() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"expire": "30d", "accounts": {BOB: {"expire": "0s"}}}) as server:
        send(server, 120)
        send(server, 1, BOB)
        pass_days(server, clock, 29)
        send(server, 2)
        pass_days(server, clock, 1.1)
        assert server.wait_for_log("mailbox_expired")[0]["old"] == 120
        assert len(server.mailbox(ALICE)) == 2
        assert len(server.mailbox(BOB)) == 1
        pass_days(server, clock, 30)
        assert server.wait_for_log("mailbox_expired", 2)[1]["old"] == 2


def test_a_date_that_is_wrong_for_a_while_empties_no_mailbox() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"expire": "30d"}) as server:
        send(server, 1)
        right = clock.now()
        clock.set_now(right + 3650 * DAY)
        server.wake_queue()
        assert server.wait_for_log("mailbox_expiry_waits")[0]["days"] == 3650
        pass_days(server, clock, 0.1)
        clock.set_now(right + 0.1 * DAY)
        pass_days(server, clock, 1)
        send(server, 1)
        assert len(server.mailbox(ALICE)) == 2
        pass_days(server, clock, 29)
        assert server.wait_for_log("mailbox_expired")[0]["old"] == 1


def test_a_date_that_stays_ahead_is_taken_for_the_right_one_after_a_day() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"expire": "30d"}) as server:
        send(server, 1)
        clock.set_now(clock.now() + 40 * DAY)
        server.wake_queue()
        server.wait_for_log("mailbox_expiry_waits")
        assert len(server.mailbox(ALICE)) == 1
        pass_days(server, clock, 1.1)
        assert server.wait_for_log("mailbox_expired")[0]["old"] == 1


def test_what_a_client_has_goes_so_long_after_it() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"leave_on_server_max": "7d"}) as server:
        send(server, 3)
        client = poplib_client(server)
        client.retr(1)
        client.retr(2)
        client.quit()
        pass_days(server, clock, 6)
        client = poplib_client(server)
        client.retr(2)  # the first time is the one that counts
        client.quit()
        pass_days(server, clock, 1.1)
        assert server.wait_for_log("mailbox_expired")[0]["retrieved"] == 2
        (left,) = server.mailbox(ALICE)
        assert b"Subject: 2" in left


def test_what_a_broken_connection_retrieved_does_not_count() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"leave_on_server_max": "7d"}) as server:
        send(server, 2)
        client = poplib_client(server)
        client.retr(1)
        client.close()
        server.wait_for_log("pop3_session", reason="lost")
        client = poplib_client(server)
        client.retr(2)
        client.quit()
        pass_days(server, clock, 7.1)
        assert server.wait_for_log("mailbox_expired")[0]["retrieved"] == 1
        (left,) = server.mailbox(ALICE)
        assert b"Subject: 0" in left


def test_an_open_maildrop_is_left_alone_until_it_is_closed() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"expire": "1d"}) as server:
        send(server, 1)
        send(server, 1, BOB)
        client = poplib_client(server)
        pass_days(server, clock, 1.1)
        server.wait_for_log("mailbox_expired", account=BOB)
        assert client.stat()[0] == 1
        assert client.retr(1)[1]
        client.quit()
        pass_days(server, clock, 0.1)
        server.wait_for_log("mailbox_expired", account=ALICE)
        assert server.mailbox(ALICE) == []


def test_a_large_mailbox_is_told_of_while_it_becomes_smaller() -> None:
    clock = FakeClock(1_000_000.0)

    def takes_long(account: str) -> bool:
        """Asked before each step."""
        clock.advance(40)
        return False

    with server_with(clock, {}) as server:
        send(server, 120)
        clock.advance(2 * DAY)
        rules = Rules.from_settings(Mailboxes(expire=Duration(DAY)))
        keeper = Keeper(server.server.store, clock, rules, "mail.example.org", QueueIds(Random(1)), takes_long)
        keeper.start()
        keeper.reload(rules)  # at once
        told = server.wait_for_log("mailbox_expired", 3)
        keeper.stop()
        assert [line["old"] for line in told] == [50, 50, 20]
        assert server.mailbox(ALICE) == []


def test_capa_tells_how_long() -> None:
    mailboxes = {"expire": "30d", "accounts": {ALICE: {"expire": "60d", "leave_on_server_max": "14d"}}}
    with server_with(FakeClock(1_000_000.0), mailboxes) as server:
        client = poplib.POP3(*server.address("pop3"), timeout=20)
        assert client.capa()["EXPIRE"] == ["14", "USER"]
        client.user(ALICE)
        client.pass_("secret")
        assert client.capa()["EXPIRE"] == ["14"]
        client.quit()


def test_a_reload_counts_at_once() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {}) as server:
        send(server, 2)
        clock.advance(2 * DAY)
        limits = Mailboxes(expire=Duration(DAY), quota=Size(10))
        server.server.reload(msgspec.structs.replace(server.server.settings, mailboxes=limits))
        assert server.wait_for_log("mailbox_expired")[0]["old"] == 2
        client = poplib_client(server)
        assert client.capa()["EXPIRE"] == ["1"]
        client.quit()
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(server, 1)


def test_settings_for_an_account_that_is_not_there_are_told() -> None:
    clock = FakeClock(1_000_000.0)
    with server_with(clock, {"accounts": {"alcie@example.org": {"expire": "1d"}}}) as server:
        pass_days(server, clock, 1)
        (line,) = server.wait_for_log("mailbox_unknown")
        assert line["account"] == "alcie@example.org"
        assert line["hint"] == f'did you mean "{ALICE}"?'


def test_after_the_date_was_set_back_mailboxes_are_looked_after() -> None:
    now = 1_000_000.0
    clock = FakeClock(now + 365 * DAY)
    with server_with(clock, {"expire": "30d", "accounts": {BOB: {"expire": "1d"}}}) as server:
        send(server, 1, BOB)
        pass_days(server, clock, 2)
        server.wait_for_log("mailbox_expired", account=BOB)
        clock.set_now(now)
        send(server, 1)
        pass_days(server, clock, 31)
        server.wait_for_log("mailbox_expired", account=ALICE)
