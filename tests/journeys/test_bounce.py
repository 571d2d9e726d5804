"""docs/journeys/bounce.md: what cannot be delivered comes back as a DSN, once, and what only waits is told of once."""

from __future__ import annotations

import email
import random
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest
from flufl.bounce import all_failures

from mailserv.testing.clock import FakeClock
from mailserv.testing.server import MailServer, mail_server
from mailserv.testing.sink import ScriptedMX

HOUR = 3600.0
DAY = 24 * HOUR
GIVE_UP = 5 * DAY
NOTICE = 4 * HOUR
JITTER = 0.1
LONGEST_WAIT = 4 * HOUR * (1 + JITTER)
ALICE = "alice@example.org"
CAROL = "carol@far.example"
LOGIN = (ALICE, "secret")
CONTENT = (
    b"From: alice@example.org\r\nTo: carol@far.example\r\nMessage-ID: <1@example.org>\r\n"
    b"Subject: are you there\r\n\r\nHello?\r\n"
)


def to(mx: ScriptedMX) -> dict[str, str]:
    return {"far.example": f"smtp:[{mx.host}]:{mx.port}"}


def status_of(dsn: Message) -> dict[str, str]:
    """The fields of the one recipient (RFC 3464 §2.3)."""
    (part,) = (part for part in dsn.walk() if part.get_content_type() == "message/delivery-status")
    _, recipient = part.get_payload()
    return dict(recipient.items())


def test_bounce_of_a_recipient_that_the_remote_refuses_is_a_dsn_in_the_senders_mailbox() -> None:
    with ScriptedMX({"RCPT": "550 5.1.1 No such user here"}) as mx, mail_server(routes=to(mx)) as server:
        server.send(ALICE, [CAROL], CONTENT, login=LOGIN)
        (raw,) = server.wait_for_mail(ALICE)
        server.wait_for_empty_queue()
        queue_id = server.log.matching("accepted")[0]["queue_id"]
        assert [entry.event for entry in server.trace(queue_id)] == ["accepted", "routed", "failed", "bounced"]
    assert raw.startswith(b"Return-Path: <>\r\n"), "a bounce of a bounce would never end"
    dsn = email.message_from_bytes(raw)
    assert dsn["Auto-Submitted"] == "auto-replied"
    assert dsn["In-Reply-To"] == "<1@example.org>"
    assert all_failures(dsn) == (set(), {CAROL.encode()})
    fields = status_of(dsn)
    assert (fields["Action"], fields["Status"]) == ("failed", "5.1.1")
    assert "No such user here" in fields["Diagnostic-Code"]
    assert b"Subject: are you there" in raw
    assert b"Hello?" not in raw, "the header section is enough"


def test_bounce_of_a_message_from_the_null_reverse_path_is_none_and_the_postmaster_hears_once() -> None:
    with (
        ScriptedMX({"RCPT": "550 5.1.1 No such user here"}) as mx,
        mail_server(routes=to(mx), aliases={"away@example.org": (CAROL,)}) as server,
    ):
        server.send("", ["away@example.org"], CONTENT)
        (raw,) = server.wait_for_mail(ALICE)
        server.wait_for_empty_queue()
        assert len(server.mailbox(ALICE)) == 1
    assert b"\r\nTo: <postmaster@mail.example.org>\r\n" in raw
    assert b"the message came from <>, which is never answered" in b" ".join(raw.split())


def test_bounce_after_five_days_and_one_delay_notice_after_four_hours() -> None:
    clock = FakeClock()
    with (
        ScriptedMX({"MAIL": "451 4.3.0 Out of order"}) as mx,
        mail_server(routes=to(mx), clock=clock, rng=random.Random(7)) as server,
    ):
        server.send(ALICE, [CAROL], CONTENT, login=LOGIN)
        began = clock.now()
        attempts = wait_until_given_up(server, clock)
        notice, bounce = map(email.message_from_bytes, server.mailbox(ALICE))
        queue_id = server.log.matching("accepted")[0]["queue_id"]
        told = server.trace(queue_id)
        assert server.queue() == []
    assert [entry.event for entry in told if entry.event not in {"accepted", "routed", "deferred"}] == [
        "delay_notice",
        "failed",
        "bounced",
    ]
    at = {entry.event: entry.at - began for entry in told}
    assert at["delay_notice"] == pytest.approx(NOTICE, abs=1)
    assert at["bounced"] == pytest.approx(GIVE_UP, abs=1)
    assert attempts == sum(entry.event in {"deferred", "failed"} for entry in told)
    assert (status_of(notice)["Action"], status_of(bounce)["Action"]) == ("delayed", "failed")
    assert all_failures(notice) == ({CAROL.encode()}, set())
    assert all_failures(bounce) == (set(), {CAROL.encode()})


def test_bounce_by_an_operator_beside_the_running_server(tmp_path: Path) -> None:
    config = tmp_path / "mailserv.toml"
    with ScriptedMX({"RCPT": "451 4.2.0 Not now"}) as mx, mail_server(routes=to(mx)) as server:
        data_dir = server.server.settings.data_dir
        config.write_text(
            f'hostname = "mail.example.org"\ndata_dir = "{data_dir}"\nlocal_domains = ["example.org"]\n'
            'listen = [{ service = "smtp", address = "127.0.0.1:0" }]\n'
        )
        server.send(ALICE, [CAROL], CONTENT, login=LOGIN)
        server.wait_for_log("delivery")
        command = ["queue", "bounce", "--all", "--reason", "far.example is gone", "--config", str(config)]
        done = subprocess.run(
            [sys.executable, "-m", "mailserv", *command], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.stderr == ""
        (raw,) = server.wait_for_mail(ALICE)
        assert server.queue() == []
        queue_id = server.log.matching("accepted")[0]["queue_id"]
        told = [entry.event for entry in server.trace(queue_id)]
    assert done.stdout == "1 row bounced\n"
    assert told == ["accepted", "routed", "deferred", "failed", "bounced"]
    assert raw.startswith(b"Return-Path: <>\r\n")
    fields = status_of(email.message_from_bytes(raw))
    assert (fields["Action"], fields["Status"]) == ("failed", "5.0.0")
    assert fields["Diagnostic-Code"] == "x-mailserv; 554 5.0.0 far.example is gone"


def wait_until_given_up(server: MailServer, clock: FakeClock) -> int:
    """Go from attempt to attempt until the message is given up; how many there were."""
    for attempts in range(1, 100):
        line = server.wait_for_log("delivery", attempts)[-1]
        if line["outcome"] == "failed":
            server.wait_for_empty_queue()
            return attempts
        wait = line["next_attempt"] - clock.now()
        assert 0 < wait <= LONGEST_WAIT
        clock.advance(wait + 0.01)
        server.wake_queue()
    raise AssertionError("it was never given up")
