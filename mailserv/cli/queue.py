"""`mailserv queue`: what waits for delivery, and an operator's orders about it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import click

from mailserv.cli.common import (
    QueueId,
    config_option,
    json_option,
    opened_store,
    print_fields,
    print_json,
    print_json_list,
    print_table,
    refuse,
    utc_time,
)
from mailserv.cli.config import read
from mailserv.cli.queue_orders import ORDERS, pages
from mailserv.clock import SystemClock
from mailserv.mail.trace import TraceEntry
from mailserv.queue.schedule import give_up_after, next_attempt
from mailserv.settings import Queue
from mailserv.store.interface import QueueEntry


@click.group("queue")
def queue() -> None:
    """Look at the queue, and tell it what to do.

    A row is one recipient of one message; the rows of a message share its queue id. Orders count at once, also while
    the server runs; rows that are being delivered this moment are left alone.
    """


@queue.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List every row of the queue, the oldest message first.

    \b
    Example: what waits for gmail.com?
      mailserv queue list --json | jq '.[] | select(.next_hop == "gmail.com")'
    """
    with opened_store(read(config)) as store:
        if as_json:
            print_json_list(map(_as_json, pages(store)))
            return
        now = SystemClock().now()
        head = ("QUEUE ID", "STATE", "AGE", "NEXT", "TRIES", "FROM", "TO", "LAST REPLY")
        print_table(head, (_row(entry, now) for entry in pages(store)))


@queue.command("show")
@click.argument("queue_id", type=QueueId())
@json_option
@config_option
def show(queue_id: str, as_json: bool, config: Path | None) -> None:
    """Show one message: its rows in the queue and everything that was decided about it.

    Works for messages that have left the queue too, as long as their trace is kept ([queue] trace_days).
    """
    with opened_store(read(config)) as store:
        entries = store.queue_list([queue_id])
        trace = store.trace(queue_id)
    if not entries and not trace:
        raise refuse(f"nothing is known of {queue_id}")
    if as_json:
        print_json(
            {"rows": [_as_json(entry) for entry in entries], "trace": [_trace_as_json(entry) for entry in trace]}
        )
        return
    for entry in entries:
        print_fields(_as_json(entry))
        click.echo()
    if not entries:
        click.echo(f"{queue_id} has left the queue.\n")
    print_table(("TIME", "EVENT", "RECIPIENT", "DETAIL"), [_trace_row(entry) for entry in trace])


for each in ORDERS:
    queue.add_command(each)


@queue.command("simulate")
@click.argument("queue_id", type=QueueId())
@json_option
@config_option
def simulate(queue_id: str, as_json: bool, config: Path | None) -> None:
    """Show when each row of a message would be tried, if every attempt failed, until it bounces.

    Changes nothing. Every wait varies by ±10 %.
    """
    settings = read(config)
    with opened_store(settings) as store:
        entries = store.queue_list([queue_id])
    if not entries:
        raise refuse(f"{queue_id} is not in the queue")
    plan = [(entry.forward_path, at, what) for entry in entries for at, what in _plan(entry, settings.queue)]
    if as_json:
        print_json([{"recipient": to, "at": utc_time(at), "event": what} for to, at, what in plan])
    else:
        print_table(("RECIPIENT", "AT", "EVENT"), [(to, utc_time(at), what) for to, at, what in plan])


def _plan(entry: QueueEntry, settings: Queue) -> Iterator[tuple[float, str]]:
    """The attempts to come, and the bounce at the end of them. A row that an operator keeps back has none."""
    if entry.state in ("held", "quarantined"):
        return
    give_up = give_up_after(settings, is_bounce=not entry.reverse_path)
    attempts, at = entry.attempts, max(entry.not_before, entry.received_at)
    rng = random.Random(0)  # the same answer each time it is asked
    while True:
        yield at, f"attempt {attempts + 1}"
        following = next_attempt(entry.received_at, attempts, at, settings.retry, give_up, rng)
        if following is None:
            yield at, "give up" if not entry.reverse_path else "give up and bounce"
            return
        attempts, at = attempts + 1, following


def _row(entry: QueueEntry, now: float) -> tuple[object, ...]:
    waits = entry.state == "ready"
    return (
        entry.queue_id,
        entry.state,
        _span(now - entry.received_at),
        _span(entry.not_before - now) if waits else "-",
        entry.attempts,
        f"<{entry.reverse_path}>",
        entry.forward_path,
        entry.last_reply,
    )


def _as_json(entry: QueueEntry) -> dict[str, object]:
    return {
        "queue_id": entry.queue_id,
        "state": entry.state,
        "reverse_path": entry.reverse_path,
        "forward_path": entry.forward_path,
        "transport": entry.route.transport,
        "next_hop": entry.route.next_hop,
        "size": entry.size,
        "received_at": utc_time(entry.received_at),
        "not_before": utc_time(entry.not_before),
        "attempts": entry.attempts,
        "last_reply": entry.last_reply,
        "login": entry.login,
    }


def _trace_as_json(entry: TraceEntry) -> dict[str, object]:
    return {"at": utc_time(entry.at), "event": entry.event, "recipient": entry.recipient, **_detail(entry)}


def _trace_row(entry: TraceEntry) -> tuple[object, ...]:
    detail = " ".join(f"{key}={value}" for key, value in _detail(entry).items())
    return utc_time(entry.at), entry.event, entry.recipient or "-", detail


def _detail(entry: TraceEntry) -> dict[str, object]:
    """Times as everywhere here."""
    return {
        key: utc_time(value) if key == "next_attempt" and isinstance(value, int | float) else value
        for key, value in entry.detail.items()
    }


def _span(seconds: float) -> str:
    """A time span in its two largest units; "now" for what is due."""
    rest = int(seconds)
    if rest <= 0:
        return "now"
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if rest >= length:
            parts.append(f"{rest // length}{unit}")
            rest %= length
    return " ".join(parts[:2])
