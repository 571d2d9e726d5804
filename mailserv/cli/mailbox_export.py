"""`mailserv mailbox export`: a mailbox as an mbox file or a Maildir."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import click

from mailserv.cli import maildirs, mbox
from mailserv.cli.common import config_option, count, opened_store, progress, refuse
from mailserv.cli.config import read
from mailserv.cli.users import parse_account
from mailserv.errors import StoreError
from mailserv.mail.message import Content
from mailserv.store.interface import MailboxEntry, Store


@click.command("export")
@click.argument("address")
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(["mboxrd", "maildir"]), default="mboxrd", show_default=True)
@config_option
def export(address: str, target: Path, form: Literal["mboxrd", "maildir"], config: Path | None) -> None:
    """Write every message of the account ADDRESS to the file or folder TARGET.

    mboxrd is one file (RFC 4155), written beside TARGET and put there when it is whole. A Maildir may be there already:
    messages that are in it are not written again, so a second run goes on where the first ended.

    \b
    Examples:
      mailserv mailbox export alice@example.org alice.mbox
      mailserv mailbox export alice@example.org /home/alice/Maildir --format maildir
    """
    settings = read(config)
    key = parse_account(address)
    if form == "mboxrd" and target.exists():
        raise refuse(f"{target} is there already")
    with opened_store(settings, stay_root=True) as store:
        if not store.has_account(key):
            raise refuse(f"there is no account {key}")
        entries = store.mailboxes.entries(key)
        if form == "maildir":
            written = _to_maildir(store, entries, target, settings.hostname)
        else:
            written = _to_mbox(store, entries, target)
    before = len(entries) - written
    click.echo(f"exported {count(written, 'message')}" + (f"; {before} were there or are gone" if before else ""))


def _to_mbox(store: Store, entries: list[MailboxEntry], target: Path) -> int:
    unfinished = target.with_name(f"{target.name}.part")
    written = 0
    try:
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            with progress("exporting", sum(entry.message.size for entry in entries)) as step:
                for entry in entries:
                    content = _content(store, entry)
                    if content is not None:
                        file.writelines(mbox.written(content.blocks(), entry.reverse_path, entry.received_at))
                        written += 1
                    step(entry.message.size)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(target)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return written


def _to_maildir(store: Store, entries: list[MailboxEntry], target: Path, hostname: str) -> int:
    maildirs.make(target)
    there = maildirs.names(target)  # once: a look at the folder for each message would take hours where there are many
    written = 0
    with progress("exporting", sum(entry.message.size for entry in entries)) as step:
        for entry in entries:
            name = _file_name(entry, hostname)
            content = _content(store, entry) if name not in there else None
            if content is not None:
                maildirs.write(target, name, content.blocks(), entry.received_at)
                written += 1
            step(entry.message.size)
    return written


def _file_name(entry: MailboxEntry, hostname: str) -> str:
    """The same in each run. Readers put messages of one second in the order of M, as if these were microseconds."""
    message = entry.message
    return f"{int(entry.received_at)}.M{message.row_id % 1_000_000:06}Q{message.unique_id}.{hostname}"


def _content(store: Store, entry: MailboxEntry) -> Content | None:
    """None for what was deleted meanwhile. Raises ClickException for what is damaged: an export with a gap looks whole."""
    try:
        return store.read(entry.message)
    except StoreError as error:
        raise refuse(f"{error}; mailserv mailbox verify tells more") from error
