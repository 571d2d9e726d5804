"""`mailserv queue`'s orders: what an operator tells the queue to do with rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from mailserv.cli.bouncing import opened_bouncer, opened_router
from mailserv.cli.common import QueueId, config_option, count, json_option, opened_store, print_json, refuse
from mailserv.cli.config import read
from mailserv.clock import SystemClock
from mailserv.errors import AddressSyntaxError, PluginError
from mailserv.mail.address import NULL_REVERSE_PATH, parse_mailbox
from mailserv.mail.route import Route
from mailserv.queue.giving_up import give_up
from mailserv.queue.state import NEXT_STATE, Event, State
from mailserv.route.router import Router
from mailserv.settings import Settings
from mailserv.store.interface import QueueEntry, Store

F = TypeVar("F", bound=Callable[..., Any])
PAGE = 1000  # rows: some ms of reading
REASON = "Given up by the administrator of this server"
LONGEST_REASON = 400  # characters: with the reply's code it stays below what a DSN repeats


class Named(NamedTuple):
    """What an order is about: some messages, or everything."""

    queue_ids: tuple[str, ...]
    everything: bool


def _order(command: F) -> F:
    """What every order takes: queue ids, or --all."""
    ids = click.argument("queue_ids", nargs=-1, type=QueueId(), metavar="[QUEUE_ID]...")
    everything = click.option("--all", "everything", is_flag=True, help="Every row of the queue.")
    return ids(everything(json_option(config_option(command))))


@click.command("retry")
@_order
def retry(queue_ids: tuple[str, ...], everything: bool, as_json: bool, config: Path | None) -> None:
    """Try waiting rows now instead of at their time.

    \b
    Examples:
      mailserv queue retry 06B2K7XG1Q4S0M3F
      mailserv queue retry --all
    """
    _give(
        Named(queue_ids, everything),
        as_json,
        config,
        Event.RETRY,
        "due now",
        lambda store, ids: store.queue_retry(ids, SystemClock().now()),
    )


@click.command("hold")
@_order
def hold(queue_ids: tuple[str, ...], everything: bool, as_json: bool, config: Path | None) -> None:
    """Keep waiting rows back until they are released; they do not expire meanwhile."""
    _give(Named(queue_ids, everything), as_json, config, Event.HOLD, "held", lambda store, ids: store.queue_hold(ids))


@click.command("release")
@_order
def release(queue_ids: tuple[str, ...], everything: bool, as_json: bool, config: Path | None) -> None:
    """Let held and quarantined rows go on; they are due now."""
    _give(
        Named(queue_ids, everything),
        as_json,
        config,
        Event.RELEASE,
        "released",
        lambda store, ids: store.queue_release(ids, SystemClock().now()),
    )


@click.command("drop")
@_order
def drop(queue_ids: tuple[str, ...], everything: bool, as_json: bool, config: Path | None) -> None:
    """Delete rows for good. Nobody is told: there is no bounce."""
    _give(
        Named(queue_ids, everything),
        as_json,
        config,
        Event.DROP,
        "dropped",
        lambda store, ids: store.queue_drop(ids, SystemClock().now()),
    )


def _one_line(_: click.Context, __: click.Parameter, reason: str) -> str:
    """It becomes a reply in a DSN: words that a person can read."""
    if not reason.strip() or not reason.isprintable() or len(reason) > LONGEST_REASON:
        raise click.BadParameter(f"one line of at most {LONGEST_REASON} printable characters is wanted")
    return reason.strip()


@click.command("bounce")
@click.option(
    "--reason", metavar="TEXT", default=REASON, show_default=True, callback=_one_line, help="What the sender is told."
)
@_order
def bounce(queue_ids: tuple[str, ...], everything: bool, as_json: bool, config: Path | None, reason: str) -> None:
    """Give messages up now: their rows fail, and each sender gets a bounce that says why.

    Held and quarantined rows, too. A message from the null reverse-path is never answered (RFC 5321 section 4.5.5): its
    rows go and nobody is told.

    \b
    Example:
      mailserv queue bounce 06B2K7XG1Q4S0M3F --reason "example.net has closed; please write to example.com"
    """
    named = Named(queue_ids, everything)
    _give(named, as_json, config, Event.BOUNCE, "bounced", lambda store, ids: _bounce(store, read(config), ids, reason))


@click.command("reroute")
@_order
def reroute(queue_ids: tuple[str, ...], everything: bool, as_json: bool, config: Path | None) -> None:
    """Send waiting rows where the settings send such mail now.

    A row keeps the way that it got when its message was accepted: after a change of [routes], or of a plugin that says
    where mail goes, what waits still waits for the old smarthost. Rows whose way is another by now take it, and are
    due; the others stay as they are.

    \b
    Example: the smarthost is another one
      systemctl reload mailserv && mailserv queue reroute --all
    """
    named = Named(queue_ids, everything)
    _give(named, as_json, config, Event.REROUTE, "rerouted", lambda store, ids: _reroute(store, read(config), ids))


ORDERS: tuple[click.Command, ...] = (retry, reroute, hold, release, drop, bounce)


def _give(
    named: Named,
    as_json: bool,
    config: Path | None,
    event: Event,
    done: str,
    order: Callable[[Store, Sequence[str]], int],
) -> None:
    """Carry out one order, and say how many rows it changed. No id and no --all is a mistake, not "all"."""
    if bool(named.queue_ids) == named.everything:
        raise click.UsageError("name one or more queue ids, or say --all")
    with opened_store(read(config)) as store:
        rows = store.queue_list(named.queue_ids) if named.queue_ids else []
        known = {entry.queue_id for entry in rows}
        unknown = [queue_id for queue_id in named.queue_ids if queue_id not in known]
        changed = order(store, sorted(known)) if named.everything or known else 0
    if as_json:
        print_json({"rows": changed, "unknown": unknown})
    else:
        click.echo(f"{count(changed, 'row')} {done}{_left_alone(rows, event)}")
    if unknown:
        raise refuse(f"not in the queue: {', '.join(unknown)}")


def _left_alone(rows: Sequence[QueueEntry], event: Event) -> str:
    """The rows that were named, and whose state knows no such event: those that are being delivered are claimed."""
    states = Counter(row.state for row in rows if (State(row.state), event) not in NEXT_STATE)
    left = ", ".join(f"{number} {state}" for state, number in states.items())
    return f"; left alone: {left}" if left else ""


def _bounce(store: Store, settings: Settings, queue_ids: Sequence[str], reason: str) -> int:
    """How many rows. A message at a time: what was given up before an error stays so."""
    messages = queue_ids or _messages_until(store, SystemClock().now())
    try:
        with opened_bouncer(settings, store) as bouncer:
            return sum(give_up(store, bouncer, SystemClock(), queue_id, reason) for queue_id in messages)
    except PluginError as error:
        raise refuse(f"a plugin cannot tell whom to tell what; the message stays in the queue: {error}") from error


def _reroute(store: Store, settings: Settings, queue_ids: Sequence[str]) -> int:
    """How many rows. Those that were there when it was begun: what is changed is not looked at again."""
    changed = 0
    with opened_router(settings, store) as (router, _):
        for rows in [store.queue_list(queue_ids)] if queue_ids else _pages(store):
            moves = [(row, way) for row in rows if (way := _way(router, row)) is not None and way != row.route]
            changed += store.queue_reroute(moves, SystemClock().now())
    return changed


def _way(router: Router, row: QueueEntry) -> Route | None:
    """Where the server would send such a message now; None where it would not go on to this address alone."""
    try:
        address = parse_mailbox(row.forward_path)
        reverse_path = parse_mailbox(row.reverse_path) if row.reverse_path else NULL_REVERSE_PATH
    except AddressSyntaxError:
        return None
    found = router.resolve(address, reverse_path=reverse_path)
    ways = [route for reached, route in found.remotes if reached == address]
    return ways[0] if len(found.remotes) == len(ways) == 1 and not found.mailboxes else None


def _messages_until(store: Store, at: float) -> Iterator[str]:
    """Those that were there: the bounces that this command queues, for senders elsewhere, are not to be bounced, too."""
    for queue_id, rows in groupby(pages(store), lambda entry: entry.queue_id):
        if next(rows).received_at <= at:
            yield queue_id


def pages(store: Store) -> Iterator[QueueEntry]:
    """All of the queue, a page at a time: a million rows fit in no memory, and to read them in one go would keep the
    server's write-ahead log growing for as long as somebody's pager waits."""
    return chain.from_iterable(_pages(store))


def _pages(store: Store) -> Iterator[list[QueueEntry]]:
    page = store.queue_list(limit=PAGE)
    while page:
        yield page
        page = store.queue_list(after=page[-1].row_id, limit=PAGE)
