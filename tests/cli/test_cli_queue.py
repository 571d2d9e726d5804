"""`mailserv queue`."""

from __future__ import annotations

import email
import json
from collections.abc import Callable
from contextlib import closing

import pytest
from cli_kit import Command

from mailserv.cli.queue_orders import PAGE
from mailserv.clock import SystemClock
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.sqlite import open_store

MUST = '[plugins.policy.mute]\non_error = "tempfail"\n'
MUTE = """
from mailserv import hookimpl

class Plugin:
    def __init__(self, settings, services):
        pass

    @hookimpl
    def dsn_policy(self, notice, row, outcome):
        raise RuntimeError("on purpose")
"""
Put = Callable[..., str]


def states(mailserv: Command) -> dict[str, str]:
    return {row["forward_path"]: row["state"] for row in json.loads(mailserv("queue", "list", "--json").out)}


def test_the_queue_is_a_table_for_people(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", at=1000.0)
    lines = mailserv("queue", "list").out.splitlines()
    assert lines[0].split()[:2] == ["QUEUE", "ID"]
    assert lines[1].startswith("06AAAAAAAAAAAAAA  ready  ")
    assert "  now   0      <alice@example.org>  bob@example.net" in lines[1]


def test_the_queue_is_json_for_programs(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", "carol@example.com", at=1767225600.0)
    rows = json.loads(mailserv("queue", "list", "--json").out)
    assert rows[0] == {
        "queue_id": "06AAAAAAAAAAAAAA",
        "state": "ready",
        "reverse_path": "alice@example.org",
        "forward_path": "bob@example.net",
        "transport": "smtp",
        "next_hop": "example.net",
        "size": 17,
        "received_at": "2026-01-01T00:00:00Z",
        "not_before": "2026-01-01T00:00:00Z",
        "attempts": 0,
        "last_reply": "",
        "login": "",
    }
    assert len(rows) == 2


def test_an_empty_queue_is_an_empty_table(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    assert mailserv("queue", "drop", "--all").out == "1 row dropped\n"
    assert json.loads(mailserv("queue", "list", "--json").out) == []
    assert len(mailserv("queue", "list").out.splitlines()) == 1


def test_a_queue_of_several_pages_is_listed_whole(mailserv: Command, queued: Put) -> None:
    recipients = [f"user{number}@example.net" for number in range(PAGE + 1)]
    queued("06AAAAAAAAAAAAAA", *recipients, at=1767225600.0)
    queued("06BBBBBBBBBBBBBB", "the.last.with.a.long.name@example.net", at=1767225600.0)
    rows = json.loads(mailserv("queue", "list", "--json").out)
    assert [row["forward_path"] for row in rows] == [*recipients, "the.last.with.a.long.name@example.net"]
    lines = mailserv("queue", "list").out.splitlines()
    assert len(lines) == 1 + len(rows)
    assert "the.last.with.a.long.name@example.net" in lines[-1]


def test_one_message_is_shown_with_its_trace(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", at=1767225600.0)
    out = mailserv("queue", "show", "06AAAAAAAAAAAAAA").out
    assert "next_hop      example.net" in out
    assert "2026-01-01T00:00:00Z  accepted  -          ip=192.0.2.1 size=17" in out
    shown = json.loads(mailserv("queue", "show", "06AAAAAAAAAAAAAA", "--json").out)
    assert shown["rows"][0]["forward_path"] == "bob@example.net"
    assert shown["trace"][0] == {
        "at": "2026-01-01T00:00:00Z",
        "event": "accepted",
        "recipient": "",
        "ip": "192.0.2.1",
        "size": 17,
    }


def test_the_next_attempt_is_a_time_that_people_can_read(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", at=1767225600.0)
    entry = TraceEntry(1767225600.0, "deferred", "bob@example.net", {"next_attempt": 1767225900.5})
    with closing(open_store(mailserv.data_dir, SystemClock(), exclusive=False)) as store:
        store.settle("nobody", [], trace=[("06AAAAAAAAAAAAAA", entry)])
    assert "next_attempt=2026-01-01T00:05:00Z" in mailserv("queue", "show", "06AAAAAAAAAAAAAA").out
    shown = json.loads(mailserv("queue", "show", "06AAAAAAAAAAAAAA", "--json").out)
    assert shown["trace"][1]["next_attempt"] == "2026-01-01T00:05:00Z"


def test_a_message_that_has_left_the_queue_still_has_its_trace(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    mailserv("queue", "drop", "06AAAAAAAAAAAAAA")
    out = mailserv("queue", "show", "06AAAAAAAAAAAAAA").out
    assert out.startswith("06AAAAAAAAAAAAAA has left the queue.\n\n")
    assert "dropped" in out


@pytest.mark.parametrize("command", ["show", "simulate", "retry", "reroute", "hold", "release", "drop", "bounce"])
def test_an_unknown_queue_id_is_told(mailserv: Command, queued: Put, command: str) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    ran = mailserv("queue", command, "06NONE")
    assert ran.code == 1
    assert "06NONE" in ran.err
    assert states(mailserv) == {"bob@example.net": "ready"}


def test_rows_are_held_and_released_by_their_queue_id(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    queued("06BBBBBBBBBBBBBB", "carol@example.com", "dave@example.com")
    ran = mailserv("queue", "hold", "06BBBBBBBBBBBBBB", "06NONE")
    assert (ran.code, ran.out, ran.err) == (1, "2 rows held\n", "Error: not in the queue: 06NONE\n")
    assert states(mailserv) == {"bob@example.net": "ready", "carol@example.com": "held", "dave@example.com": "held"}
    assert mailserv("queue", "release", "--all").out == "2 rows released\n"
    assert set(states(mailserv).values()) == {"ready"}


def test_rows_that_an_order_does_not_reach_are_told_with_their_state(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", "carol@example.com")
    with closing(open_store(mailserv.folder / "data", SystemClock(), exclusive=False)) as store:
        now = SystemClock().now()
        assert store.claim(Route("smtp", "example.net"), "somebody", now, now + 3600, 1)[0]
    assert mailserv("queue", "drop", "06AAAAAAAAAAAAAA").out == "1 row dropped; left alone: 1 claimed\n"
    assert mailserv("queue", "hold", "06AAAAAAAAAAAAAA").out == "0 rows held; left alone: 1 claimed\n"
    queued("06BBBBBBBBBBBBBB", "bob@example.net")
    mailserv("queue", "hold", "06BBBBBBBBBBBBBB")
    assert mailserv("queue", "retry", "06BBBBBBBBBBBBBB").out == "0 rows due now; left alone: 1 held\n"


def test_retry_makes_rows_due(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", at=4102444800.0)  # the year 2100
    assert mailserv("queue", "retry", "06AAAAAAAAAAAAAA").out == "1 row due now\n"
    (row,) = json.loads(mailserv("queue", "list", "--json").out)
    assert row["not_before"] < "2100"


def ways(mailserv: Command) -> dict[str, str]:
    return {row["forward_path"]: row["next_hop"] for row in json.loads(mailserv("queue", "list", "--json").out)}


def test_what_waits_takes_the_way_that_the_settings_have_for_it_now(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", "carol@example.com")
    queued("06BBBBBBBBBBBBBB", "dave@example.net")
    queued("06CCCCCCCCCCCCCC", "erin@example.net")
    mailserv("queue", "hold", "06CCCCCCCCCCCCCC")
    with closing(open_store(mailserv.data_dir, SystemClock(), exclusive=False)) as store:
        now = SystemClock().now()
        assert store.claim(Route("smtp", "example.com"), "somebody", now, now + 3600, 1)[0]
    mailserv.config.write_text(mailserv.config.read_text() + '[routes]\n"*" = "smtp:[192.0.2.1]:587"\n')
    ran = mailserv("queue", "reroute", "06AAAAAAAAAAAAAA")
    assert ran.out == "1 row rerouted; left alone: 1 claimed\n"
    assert mailserv("queue", "reroute", "--all").out == "2 rows rerouted\n"
    assert ways(mailserv) == {
        "bob@example.net": "[192.0.2.1]:587",
        "carol@example.com": "example.com",
        "dave@example.net": "[192.0.2.1]:587",
        "erin@example.net": "[192.0.2.1]:587",
    }
    assert states(mailserv)["erin@example.net"] == "held"
    assert mailserv("queue", "reroute", "--all").out == "0 rows rerouted\n"


def test_what_would_be_ours_now_keeps_its_way(mailserv: Command, queued: Put) -> None:
    """Its domain moved here. It is still sent there, where it may come back from, as ours."""
    queued("06AAAAAAAAAAAAAA", "alice@example.org", "nobody@example.org")
    with closing(open_store(mailserv.data_dir, SystemClock(), exclusive=False)) as store:
        store.add_account("alice@example.org", "x", 0.0)
    assert mailserv("queue", "reroute", "--all").out == "0 rows rerouted\n"
    assert set(ways(mailserv).values()) == {"example.org"}


def test_a_plugin_says_where_what_waits_goes_now(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", reverse_path="alice@example.org")
    queued("06BBBBBBBBBBBBBB", "bob@example.net", reverse_path="")
    rule = '[plugin.senderroute.domains]\n"example.org" = "smtp:[192.0.2.9]:25"\n'
    mailserv.config.write_text(mailserv.config.read_text() + f'plugins = {{ enabled = ["senderroute"] }}\n{rule}')
    assert mailserv("queue", "reroute", "--all").out == "1 row rerouted\n"


@pytest.mark.parametrize("order", ["retry", "reroute", "hold", "release", "drop", "bounce"])
def test_an_order_without_a_queue_id_is_wrong_usage_not_all(mailserv: Command, queued: Put, order: str) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    assert mailserv("queue", order).code == 2
    assert mailserv("queue", order, "06AAAAAAAAAAAAAA", "--all").code == 2
    assert states(mailserv) == {"bob@example.net": "ready"}


@pytest.mark.parametrize("order", ["retry", "reroute", "hold", "release", "drop", "bounce"])
def test_an_order_is_answered_in_json_for_programs(mailserv: Command, queued: Put, order: str) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    if order == "release":
        mailserv("queue", "hold", "--all")
    if order == "reroute":
        mailserv.config.write_text(mailserv.config.read_text() + '[routes]\n"*" = "smtp:[192.0.2.1]:587"\n')
    ran = mailserv("queue", order, "06AAAAAAAAAAAAAA", "06NONE", "--json")
    assert (ran.code, json.loads(ran.out)) == (1, {"rows": 1, "unknown": ["06NONE"]})


SENDERS = [  # reverse-path, who is told of it in which mailbox
    ("alice@example.org", "Your message could not be delivered"),
    ("", None),
    ("nobody@example.org", "A message could not be delivered, nor its sender told"),
]


@pytest.mark.parametrize(("reverse_path", "subject"), SENDERS)
def test_a_bounce_tells_the_sender_the_reason_and_never_the_null_reverse_path(
    mailserv: Command, queued: Put, reverse_path: str, subject: str | None
) -> None:
    assert mailserv("user", "add", "alice@example.org", "--password-stdin", stdin="secret\n").code == 0
    queued("06AAAAAAAAAAAAAA", "bob@example.net", "carol@example.com", reverse_path=reverse_path)
    mailserv("queue", "hold", "06AAAAAAAAAAAAAA")
    queued("06BBBBBBBBBBBBBB", "dave@example.com")
    ran = mailserv("queue", "bounce", "06AAAAAAAAAAAAAA", "--reason", "example.net has closed")
    assert (ran.code, ran.out) == (0, "2 rows bounced\n")
    assert states(mailserv) == {"dave@example.com": "ready"}
    with closing(open_store(mailserv.data_dir, SystemClock(), exclusive=False)) as store:
        told = [store.read(message) for message in store.maildrop("alice@example.org")]
        assert "failed" in [entry.event for entry in store.trace("06AAAAAAAAAAAAAA")]
    texts = [b"".join(content.blocks()) for content in told if content is not None]
    if subject is None:
        assert texts == []
        return
    (text,) = texts
    dsn = email.message_from_bytes(text)
    assert dsn["Subject"] == subject
    (report,) = (part for part in dsn.walk() if part.get_content_type() == "message/delivery-status")
    _, *recipients = report.get_payload()
    assert [fields["Final-Recipient"] for fields in recipients] == [
        "rfc822; bob@example.net",
        "rfc822; carol@example.com",
    ]
    assert {fields["Status"] for fields in recipients} == {"5.0.0"}
    assert {fields["Diagnostic-Code"] for fields in recipients} == {"x-mailserv; 554 5.0.0 example.net has closed"}


def test_all_of_a_queue_is_bounced_and_a_sender_elsewhere_is_told_through_it(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", reverse_path="eve@example.com")
    queued("06BBBBBBBBBBBBBB", "carol@example.net", reverse_path="")
    assert mailserv("queue", "bounce", "--all").out == "2 rows bounced\n"
    (row,) = json.loads(mailserv("queue", "list", "--json").out)
    assert (row["reverse_path"], row["forward_path"]) == ("", "eve@example.com")


@pytest.mark.parametrize("reason", ["", "two\nlines", "x" * 401, "\x1b[2J"])
def test_a_reason_is_one_line_for_people(mailserv: Command, queued: Put, reason: str) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net")
    assert mailserv("queue", "bounce", "--all", "--reason", reason).code == 2
    assert states(mailserv) == {"bob@example.net": "ready"}


def test_a_plugin_that_must_be_asked_and_fails_keeps_the_message(mailserv: Command, queued: Put) -> None:
    folder = mailserv.folder / "plugins"
    folder.mkdir()
    (folder / "mute.py").write_text(MUTE)
    mailserv.config.write_text(
        mailserv.config.read_text() + f'[plugins]\npath = "{folder}"\nenabled = ["mute"]\n{MUST}'
    )
    queued("06AAAAAAAAAAAAAA", "bob@example.net", reverse_path="eve@example.com")
    ran = mailserv("queue", "bounce", "06AAAAAAAAAAAAAA")
    assert ran.code == 1
    assert "the message stays in the queue" in ran.err
    assert states(mailserv) == {"bob@example.net": "ready"}


def test_simulate_shows_every_attempt_until_the_bounce(mailserv: Command, queued: Put) -> None:
    mailserv.config.write_text(mailserv.config.read_text() + '[queue]\nretry = ["1h", "4h"]\ngive_up = "12h"\n')
    queued("06AAAAAAAAAAAAAA", "bob@example.net", at=1767225600.0)
    plan = json.loads(mailserv("queue", "simulate", "06AAAAAAAAAAAAAA", "--json").out)
    assert [step["event"] for step in plan] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
        "attempt 4",
        "attempt 5",
        "give up and bounce",
    ]
    assert plan[0]["at"] == "2026-01-01T00:00:00Z"
    assert "2026-01-01T00:5" < plan[1]["at"] < "2026-01-01T01:07"
    assert plan[-1]["at"] == "2026-01-01T12:00:00Z"
    assert "give up and bounce" in mailserv("queue", "simulate", "06AAAAAAAAAAAAAA").out


def test_simulate_knows_bounces_and_held_rows(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", reverse_path="", at=1767225600.0)
    plan = json.loads(mailserv("queue", "simulate", "06AAAAAAAAAAAAAA", "--json").out)
    assert plan[-1] == {"recipient": "bob@example.net", "at": "2026-01-03T00:00:00Z", "event": "give up"}
    mailserv("queue", "hold", "06AAAAAAAAAAAAAA")
    assert json.loads(mailserv("queue", "simulate", "06AAAAAAAAAAAAAA", "--json").out) == []


@pytest.mark.parametrize("text", ["", "a\nb", "\x1b[31m", "\udcff"])
@pytest.mark.parametrize("command", ["show", "simulate", "retry", "bounce"])
def test_what_can_be_no_queue_id_is_wrong_usage(mailserv: Command, command: str, text: str) -> None:
    ran = mailserv("queue", command, text)
    assert (ran.code, ran.out) == (2, "")
    assert f"{text!r} is no queue id" in ran.err


def test_a_span_of_time_is_shown_in_two_units(mailserv: Command, queued: Put) -> None:
    queued("06AAAAAAAAAAAAAA", "bob@example.net", at=4102444800.0)
    next_column = mailserv("queue", "list").out.splitlines()[1].split("  ")[3]
    assert next_column.split()[0].endswith("d")
