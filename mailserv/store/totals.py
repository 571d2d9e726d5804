"""What each mailbox holds, kept by triggers beside its rows (`schema.py`), and whether one more message fits."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from mailserv.mail.message import MailboxDelivery
from mailserv.mail.value import Value
from mailserv.store.interface import NEARLY_FULL, Usage
from mailserv.store.writer import Work

USAGE = "SELECT messages, octets, warned FROM account WHERE address = ? AND gone = 0"
USAGES = "SELECT address, messages, octets, warned FROM account WHERE gone = 0 ORDER BY address"
WARNED = "UPDATE account SET warned = ? WHERE address = ? AND gone = 0 AND warned = 0"
REPAIR = """
    UPDATE account SET (messages, octets) = (true_messages, true_octets) FROM (
        SELECT account.id AS true_id, count(mailbox.id) AS true_messages, coalesce(sum(mailbox.size), 0) AS true_octets
        FROM account LEFT JOIN mailbox ON account_id = account.id GROUP BY account.id)
    WHERE id = true_id AND (messages, octets) <> (true_messages, true_octets)"""

ROOM_AGAIN = 0.8  # of a quota: below it, the next crossing is told again


class Quota(Value, frozen=True):
    """What one message brings to one account, and what may be there with it. `is_alone`: it is for nobody else."""

    account: str
    octets: int
    limit: int
    is_alone: bool


class Fit(Value, frozen=True):
    """Whether a message fits: the account that has no room ("" when all have), and those that it makes nearly full."""

    full: str = ""
    never_fits: bool = False
    nearly_full: tuple[str, ...] = ()


FITS = Fit()


def quotas(deliveries: Sequence[MailboxDelivery], size: int, *, is_queued: bool) -> tuple[Quota, ...]:
    """One for each account that has a quota, however many recipients it is. `is_queued`: the message goes elsewhere, too."""
    limits: dict[str, int] = {}
    octets: dict[str, int] = {}
    for each in deliveries:
        if each.quota:
            limits[each.account] = each.quota
            octets[each.account] = octets.get(each.account, 0) + len(each.prefix) + size
    is_alone = not is_queued and len({each.account for each in deliveries}) == 1
    return tuple(Quota(account, octets[account], limit, is_alone) for account, limit in limits.items())


def fit(work: Work, wanted: Sequence[Quota]) -> Fit:
    """Look before the rows are written: one statement for each account with a quota, none for others.

    Who has room for something gets more than fits when others are to have the same: refused here it would be refused for
    them, too, and at each try again, since nobody knew its size at RCPT.
    """
    nearly_full = []
    for each in wanted:
        found = usage(work.connection, each.account)
        if found.octets + each.octets > each.limit and (each.is_alone or found.octets >= each.limit):
            return Fit(each.account, never_fits=each.octets > each.limit)
        if found.octets + each.octets >= each.limit * NEARLY_FULL and not found.is_warned:
            nearly_full.append(each.account)
    return Fit(nearly_full=tuple(nearly_full)) if nearly_full else FITS


def usage(connection: sqlite3.Connection, account: str) -> Usage:
    """Nothing at all for an account that is gone."""
    row = connection.execute(USAGE, (account,)).fetchone()
    return Usage(row[0], row[1], bool(row[2])) if row else Usage(0, 0)


def usages(connection: sqlite3.Connection) -> dict[str, Usage]:
    return {
        address: Usage(messages, octets, bool(warned))
        for address, messages, octets, warned in connection.execute(USAGES)
    }


def mark_warned(work: Work, account: str, limit: int) -> bool:
    """Note that the owner is told. False when that is not, or no longer, to be done."""
    if usage(work.connection, account).octets < limit * NEARLY_FULL:
        return False
    return work.connection.execute(WARNED, (int(limit * ROOM_AGAIN), account)).rowcount > 0


def repair(work: Work) -> int:
    """Count anew. How many were wrong. Reads every mailbox row: for `mailserv mailbox verify --repair`."""
    return work.connection.execute(REPAIR).rowcount
