"""`mailserv greylist list|forget`: who waits and who is known, and to have it forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import click

from mailserv.mail.address import parse_mailbox
from mailserv.mail.ip import network_of
from mailserv.mail.plugin import Services, Table
from mailserv_greylist.triplets import (
    NETWORK,
    PASSED,
    SINCE,
    SUCCESSES,
    Triplet,
    Windows,
    digest,
    time_of,
    triplet_of,
)

Fits = Callable[[str, Triplet | None], bool]
"""Whether a row is meant: its network, and its triplet where it is about one."""


def make_commands(services: Services, delay: float, window: float, bits: tuple[int, int]) -> list[click.Command]:
    """`bits`: the size of a network in IPv4 and IPv6."""
    table = services.table

    @click.command("list")
    @click.argument("address", required=False)
    def list_(address: str | None) -> None:
        """Show who waits and who is known: all, or one client, network, sender or recipient.

        \b
        Example:
          mailserv greylist list 192.0.2.1
        """
        for kind, who, what, at in _found(table, _fits(address, bits)):
            when = f"may come back at {_shown(at + delay)}" if kind == SINCE else f"is known until {_shown(at)}"
            click.echo(f"{who:<20}  {what:<24}  {when}")

    @click.command("forget")
    @click.argument("address")
    def forget(address: str) -> None:
        """Make strangers again of a client, its network, a sender or a recipient. What waits begins to wait anew.

        \b
        Examples:
          mailserv greylist forget 192.0.2.1
          mailserv greylist forget carol@example.net
        """
        fits = _fits(address, bits)
        count = sum(_forget(table, key, value, Windows(window)) for key, value in _rows(table, fits))
        if not count:
            raise click.ClickException(f"nothing is known of {address}")
        click.echo(f"forgotten: {count}")

    return [list_, forget]


def _fits(address: str | None, bits: tuple[int, int]) -> Fits:
    if address is None:
        return lambda _network, _triplet: True
    if "@" in address:
        return _fits_address(address)
    try:
        wanted = str(network_of(address.partition("/")[0], *bits))
    except ValueError as error:
        raise click.UsageError(f"{address!r} is neither an IP address nor a mail address") from error
    return lambda network, _triplet: network == wanted


def _fits_address(address: str) -> Fits:
    try:
        wanted = digest(parse_mailbox(address))
    except ValueError as error:
        raise click.UsageError(f"{address!r} is no mail address: {error}") from error
    return lambda _network, triplet: triplet is not None and wanted in (triplet.reverse_path, triplet.forward_path)


def _rows(table: Table, fits: Fits) -> Iterator[tuple[str, str]]:
    for kind in (NETWORK, PASSED, SINCE):
        for key, value in table.items(kind):
            triplet = triplet_of(value)
            if fits(triplet.network if triplet else key.removeprefix(NETWORK), triplet):
                yield key, value


def _found(table: Table, fits: Fits) -> Iterator[tuple[str, str, str, float]]:
    """The kind of row, of whom it is, what of it, and its time."""
    for key, value in _rows(table, fits):
        kind = key.partition(" ")[0] + " "
        match triplet_of(value):
            case None:
                who, what = key.removeprefix(NETWORK), "all of it"
            case triplet if triplet.is_client:
                who, what = triplet.reverse_path, "all of it"
            case triplet:
                who, what = triplet.network, "a sender and a recipient"
        yield kind, who, what, time_of(value)


def _forget(table: Table, key: str, value: str, windows: Windows) -> int:
    """Take one row out, with what counts it. 1."""
    table.delete(key)
    triplet = triplet_of(value)
    if triplet is None:
        table.delete(f"{SUCCESSES}{key.removeprefix(NETWORK)}")
    elif key.startswith(SINCE):
        since = time_of(value)
        for network in [""] if triplet.is_client else ["", triplet.network]:
            table.increment(windows.key(since, network), -1, windows.end(since))
    return 1


def _shown(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"
