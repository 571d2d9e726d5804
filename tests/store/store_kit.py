"""What the store's tests share: values to store, a disk whose calls fail when told, a look behind the interface."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailserv.mail.address import Address
from mailserv.mail.message import Acceptance, BytesContent, Content, MailboxDelivery, QueuedRecipient
from mailserv.mail.route import Route
from mailserv.mail.trace import TraceEntry
from mailserv.store.disk import Disk
from mailserv.store.sqlite import DATABASE

ALICE = "alice@example.org"
BOB = Address("bob", "example.net")
CAROL = Address("carol", "example.com")
HOP = Route("smtp", "example.com")
PREFIX = b"Return-Path: <bob@example.net>\r\n"
BODY = b"Subject: hello\r\n\r\nHello.\r\n"
LARGE = 300 * 1024  # octets: above the spool's threshold


def text_of(content: Content) -> bytes:
    return b"".join(content.blocks())


def to_mailbox(queue_id: str, *accounts: str, content: Content | None = None, at: float = 100.0) -> Acceptance:
    return Acceptance(
        queue_id=queue_id,
        reverse_path=BOB,
        content=content or BytesContent(BODY),
        received_at=at,
        mailboxes=tuple(MailboxDelivery(account, account, PREFIX) for account in accounts or (ALICE,)),
        trace=(TraceEntry(at, "accepted", detail={"size": len(BODY)}),),
    )


def to_queue(
    queue_id: str,
    *recipients: Address,
    route: Route = HOP,
    content: Content | None = None,
    at: float = 100.0,
    parameters: dict[str, str] | None = None,
) -> Acceptance:
    return Acceptance(
        queue_id=queue_id,
        reverse_path=BOB,
        content=content or BytesContent(BODY),
        received_at=at,
        login=ALICE,
        parameters=parameters or {},
        queued=tuple(QueuedRecipient(each, each, route) for each in recipients or (CAROL,)),
        trace=(TraceEntry(at, "accepted"),),
    )


@contextmanager
def behind(data_dir: Path) -> Iterator[sqlite3.Connection]:
    """The database as another program sees it."""
    with closing(sqlite3.connect(data_dir / DATABASE, isolation_level=None, timeout=10)) as connection:
        yield connection


def count(data_dir: Path, table: str) -> int:
    with behind(data_dir) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def spooled(data_dir: Path) -> list[str]:
    return sorted(path.name for path in (data_dir / "spool").iterdir())


def sqlite_error(code: int, text: str = "made to fail") -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


@dataclass(slots=True)
class Failing:
    """A disk whose n-th matching call fails, once or (`for_good`) from then on; `heal` ends it.

    `what`: "fsync", "write", "unlink", "connect", or the beginning of an SQL statement ("COMMIT").
    """

    what: str = ""
    nth: int = 1
    for_good: bool = False
    code: int = sqlite3.SQLITE_IOERR
    number: int = errno.ENOSPC
    seen: int = 0
    failed: int = 0

    def heal(self) -> None:
        self.what = ""

    def fail(self, what: str, nth: int = 1, *, for_good: bool = False, code: int = sqlite3.SQLITE_IOERR) -> None:
        self.what, self.nth, self.for_good, self.code, self.seen = what, nth, for_good, code, 0

    def is_hit(self, what: str) -> bool:
        if not self.what or not what.startswith(self.what):
            return False
        self.seen += 1
        if self.seen == self.nth or (self.for_good and self.seen > self.nth):
            self.failed += 1
            return True
        return False

    def call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*args: Any) -> Any:
            if self.is_hit(name):
                raise OSError(self.number, os.strerror(self.number))
            return real(*args)

        return called

    def connect(self, *args: Any, **kwargs: Any) -> sqlite3.Connection:
        if self.is_hit("connect"):
            raise sqlite_error(self.code)
        failing = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if failing.is_hit(sql.strip()):
                    raise sqlite_error(failing.code)
                return super().execute(sql, *parameters)

            def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if failing.is_hit(sql.strip()):
                    raise sqlite_error(failing.code)
                return super().executemany(sql, *parameters)

        return sqlite3.connect(*args, factory=Connection, **kwargs)

    @property
    def disk(self) -> Disk:
        return Disk(
            connect=self.connect,
            write=self.call("write", os.write),
            fsync=self.call("fsync", os.fsync),
            unlink=self.call("unlink", os.unlink),
        )
