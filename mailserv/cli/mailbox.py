"""`mailserv mailbox`: who has how much mail here, what it is, and whether the store is sound."""

from __future__ import annotations

import sys
from email.errors import HeaderParseError
from email.header import decode_header
from email.parser import HeaderParser
from pathlib import Path

import click

from mailserv.cli.common import (
    config_option,
    count,
    json_option,
    opened_store,
    print_json,
    print_table,
    refuse,
    utc_time,
)
from mailserv.cli.config import read
from mailserv.cli.mailbox_export import export
from mailserv.cli.mailbox_import import import_
from mailserv.cli.users import parse_account
from mailserv.errors import StoreError
from mailserv.mail.fields import printable
from mailserv.mail.message import header_section
from mailserv.mailboxes.rules import Rules
from mailserv.store.interface import MailboxEntry, Store

SHOWN = 200  # characters of From and Subject
HEADER = 64 * 1024  # octets of a header section that are read for them


@click.group("mailbox")
def mailbox() -> None:
    """Look at mailboxes, take mail out and bring mail in.

    Every command works on the live database, also while the server runs.
    """


mailbox.add_command(export)
mailbox.add_command(import_)


@mailbox.command("list")
@json_option
@config_option
def list_(as_json: bool, config: Path | None) -> None:
    """List every account with the messages and octets of its mailbox, and its quota.

    \b
    Example: who has most?
      mailserv mailbox list --json | jq -r 'max_by(.octets).address'
    """
    settings = read(config)
    rules = Rules.from_settings(settings.mailboxes)
    with opened_store(settings) as store:
        usages = store.mailboxes.usages()
    rows = [(address, usage.messages, usage.octets, rules.of(address).quota) for address, usage in usages.items()]
    head = ("address", "messages", "octets", "quota")
    if as_json:
        print_json([{**dict(zip(head, row, strict=True)), "quota": row[3] or None} for row in rows])
    else:
        print_table([name.upper() for name in head], [(*row[:3], row[3] or "-") for row in rows])


@mailbox.command("show")
@click.argument("address")
@json_option
@config_option
def show(address: str, as_json: bool, config: Path | None) -> None:
    """Show the messages of the account ADDRESS, numbered as a POP3 client sees them."""
    key = parse_account(address)
    with opened_store(read(config)) as store:
        if not store.has_account(key):
            raise refuse(f"there is no account {key}")
        rows = [_row(store, number, entry) for number, entry in enumerate(store.mailboxes.entries(key), 1)]
    head = ("number", "unique_id", "date", "octets", "from", "subject")
    if as_json:
        print_json([dict(zip(head, row, strict=True)) for row in rows])
    else:
        print_table([name.upper().replace("_", "-") for name in head], rows)


def _row(store: Store, number: int, entry: MailboxEntry) -> tuple[int, str, str, int, str, str]:
    author, subject = _author_and_subject(store, entry)
    return number, entry.message.unique_id, utc_time(entry.received_at), entry.message.size, author, subject


def _author_and_subject(store: Store, entry: MailboxEntry) -> tuple[str, str]:
    """Both decoded, in one line, without anything that a terminal would obey."""
    try:
        content = store.read(entry.message)
    except StoreError:
        return "?", "(cannot be read: mailserv mailbox verify)"
    if content is None:
        return "", "(gone)"
    fields = HeaderParser().parsestr(header_section(content, HEADER).decode("utf-8", "replace"))
    return _decoded(fields.get("From", "")), _decoded(fields.get("Subject", ""))


def _decoded(text: str) -> str:
    """RFC 2047 undone where it can be."""
    try:
        # What is not encoded comes out of decode_header as str, or beside encoded words as escaped bytes.
        parts = [
            part if isinstance(part, str) else part.decode(charset or "raw-unicode-escape", "replace")
            for part, charset in decode_header(text)
        ]
    except (HeaderParseError, LookupError, ValueError):
        parts = [text]
    return printable("".join(parts), SHOWN, keep_utf8=True)


@mailbox.command("verify")
@click.option("--repair", is_flag=True, help="Count anew what each mailbox holds. Nothing else is ever changed.")
@config_option
def verify(repair: bool, config: Path | None) -> None:
    """Check the store against itself: the database, files, sizes, totals, states.

    Tells everything that is not as it must be, one line each, and ends with exit code 1 if there is any. Nothing is
    deleted. It reads the whole database: some seconds for a gigabyte.
    """
    with opened_store(read(config)) as store:
        if repair and (wrong := store.mailboxes.repair_totals()):
            click.echo(f"counted anew what {count(wrong, 'account')} had wrong")
        found = 0
        for finding in store.mailboxes.verify(_tell_step):
            click.echo(f"{printable(finding.where)}: {printable(finding.what)}")
            found += 1
    if found:
        raise refuse(
            f"{count(found, 'thing')} not as it must be" if found == 1 else f"{found} things not as they must be"
        )
    click.echo("nothing is wrong")


def _tell_step(what: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"checking {what} …", err=True)
