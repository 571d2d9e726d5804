"""`mailserv mailbox import`: messages from an mbox file or a Maildir into a mailbox, each once however often it is run."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from mailserv.cli import maildirs, mbox
from mailserv.cli.common import config_option, count, opened_store, progress, refuse
from mailserv.cli.config import read
from mailserv.cli.users import parse_account
from mailserv.clock import SystemClock
from mailserv.derived import chance
from mailserv.errors import AddressSyntaxError
from mailserv.mail.address import NULL_REVERSE_PATH, Address, parse_mailbox
from mailserv.mail.line_ends import ended, with_crlf
from mailserv.mail.message import Acceptance, MailboxDelivery
from mailserv.mail.queue_id import QueueIds
from mailserv.store.interface import Imported, Store

BATCH = 50  # messages in one transaction
YEAR_10000 = 253_402_300_800  # epoch seconds; neither Python's dates nor the lines of an mbox have a fifth digit
BATCH_OCTETS = 1024 * 1024  # of them: some milliseconds of writing, for which the server's mail waits


@dataclass(frozen=True, slots=True)
class Item:
    """A message as it is found: `date` None where nothing tells it; `position`: octets of the source up to it."""

    blocks: Iterable[bytes]
    date: float | None
    reverse_path: Address
    position: int


@click.command("import")
@click.argument("address")
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--format",
    "form",
    type=click.Choice(["mboxrd", "mboxo", "maildir"]),
    help="Default: maildir for a folder, mboxrd for a file.",
)
@click.option("--again", is_flag=True, help="Import also what was imported to this account before.")
@config_option
def import_(address: str, source: Path, form: str | None, again: bool, config: Path | None) -> None:
    """Bring the messages of the mbox file or Maildir SOURCE into the mailbox of the account ADDRESS.

    Each message comes once, known by its content: after an interruption run the same again. Quotas do not count here.
    mboxo is for files whose writer quoted "From " and nothing else: its ">From " stays as it is, since it may be the
    message's own.

    \b
    Examples:
      mailserv mailbox import alice@example.org /var/mail/alice
      mailserv mailbox import alice@example.org /home/alice/Maildir
    """
    settings = read(config)
    key = parse_account(address)
    form = form or ("maildir" if source.is_dir() else "mboxrd")
    with opened_store(settings, stay_root=True) as store:
        if not store.has_account(key):
            raise refuse(f"there is no account {key}")
        taker = _Taker(store, key, again=again)
        total, items = (
            _maildir(source) if form == "maildir" else _mbox(source, "mboxo" if form == "mboxo" else "mboxrd")
        )
        with progress("importing", total) as step:
            done = 0
            for item in items:
                taker.take(item)
                step(item.position - done)
                done = item.position
            taker.commit()
            step(total - done)
    known = f"; {taker.known} were imported before (--again imports them, too)" if taker.known else ""
    click.echo(f"imported {count(taker.new, 'message')}{known}")


class _Taker:
    """Gathers messages and commits them in groups."""

    def __init__(self, store: Store, account: str, *, again: bool) -> None:
        self._store = store
        self._account = account
        self._again = again
        self._clock = SystemClock()
        self._queue_ids = QueueIds(chance())
        self._seen: Counter[bytes] = Counter()
        self._waiting: list[Imported] = []
        self.new = self.known = 0

    def take(self, item: Item) -> None:
        """Read it to its end. Raises StoreError, OSError."""
        now = self._clock.now()
        queue_id = self._queue_ids.make(now)
        spool, digest = self._store.spool(queue_id), hashlib.sha256()
        try:
            for block in ended(with_crlf(item.blocks)):
                digest.update(block)
                spool.write(block)
            key = self._key(digest.digest())
            if not self._again and self._store.mailboxes.is_imported(self._account, key):
                self.known += 1
                spool.discard()
                return
            content = spool.finish()
        except BaseException:
            spool.discard()
            raise
        acceptance = Acceptance(
            queue_id=queue_id,
            reverse_path=item.reverse_path,
            content=content,
            received_at=now if item.date is None or not 0 <= item.date < YEAR_10000 else item.date,
            mailboxes=(MailboxDelivery(self._account, self._account, b""),),
        )
        self._waiting.append(Imported(key, acceptance, now))
        octets = sum(each.acceptance.content.size for each in self._waiting)
        if len(self._waiting) >= BATCH or octets >= BATCH_OCTETS:
            self.commit()

    def commit(self) -> None:
        """What was gathered is in the mailbox from here on. Raises StoreError."""
        waiting, self._waiting = self._waiting, []
        new = self._store.mailboxes.import_messages(self._account, waiting, again=self._again) if waiting else 0
        self.new += new
        self.known += len(waiting) - new

    def _key(self, digest: bytes) -> bytes:
        """The content, and how many like it came before in this source: twins are two messages, in each run the same."""
        self._seen[digest] += 1
        return digest + self._seen[digest].to_bytes(4, "big")


def _mbox(source: Path, form: mbox.Form) -> tuple[int, Iterator[Item]]:
    def items() -> Iterator[Item]:
        with source.open("rb") as file:
            reader = mbox.MboxReader(file, form)
            try:
                for separator, blocks in reader.messages():
                    yield Item(blocks, separator.date, _reverse_path(separator.address), reader.octets)
            except mbox.NoMbox as error:
                raise refuse(f"{source}: {error}") from error

    if not source.is_file():
        raise refuse(f"{source} is no file")
    return source.stat().st_size, items()


def _maildir(source: Path) -> tuple[int, Iterator[Item]]:
    if not maildirs.is_maildir(source):
        raise refuse(f"{source} is no Maildir: it has neither cur nor new")
    files = maildirs.messages(source)
    if others := maildirs.other_folders(source):
        click.echo(f"only the inbox is imported, not its folders: {', '.join(others)}", err=True)

    def items() -> Iterator[Item]:
        position = 0
        for file in files:
            position += file.size
            yield Item(file.blocks(), file.date, NULL_REVERSE_PATH, position)

    return sum(file.size for file in files), items()


def _reverse_path(text: str) -> Address:
    try:
        return parse_mailbox(text)
    except AddressSyntaxError:
        return NULL_REVERSE_PATH
