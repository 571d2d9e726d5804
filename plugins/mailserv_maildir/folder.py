"""One Maildir on the disk: tmp, new, cur (https://cr.yp.to/proto/maildir.html), every step synced before the next."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailserv.mail.address import Address

PARTS = ("tmp", "new", "cur")


class NoMaildir(Exception):
    """There is none, and none is to be made."""


class NoBase(Exception):
    """The folder that holds all Maildirs is not there: perhaps a disk that is not mounted."""


@dataclass(frozen=True, slots=True)
class Maildir:
    """`base` is the part of `path` that is never made here. `mode` is the folders'; files have it without the x bits."""

    path: Path
    base: Path
    mode: int

    def prepare(self, *, create: bool) -> None:
        """Make what is missing. Raises NoBase, NoMaildir (only without `create`) and OSError."""
        if not self.base.is_dir():
            raise NoBase
        if not create and not self.path.is_dir():
            raise NoMaildir
        missing = [part for part in PARTS if not (self.path / part).is_dir()]
        if missing:
            for folder in reversed([self.path, *self.path.parents]):
                self._make(folder)
            for part in missing:
                self._make(self.path / part)

    def has(self, name: str) -> bool:
        """Whether the message is in new, or in cur where readers move it and add their flags. Reads all of both."""
        for part in ("new", "cur"):
            with os.scandir(self.path / part) as entries:
                if any(entry.name.startswith(name) for entry in entries):
                    sync_folder(self.path / part)
                    return True
        return False

    def add(self, name: str, blocks: Iterable[bytes], received_at: float) -> None:
        """Write and sync it in tmp, move it to new, sync that. Raises OSError and leaves nothing then."""
        # Unique even if two threads try at once to deliver the same message: neither writes into the other's file.
        written = self.path / "tmp" / f"{name}.{os.getpid()}-{threading.get_ident()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(written, flags, self.mode & 0o666)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                os.fchmod(descriptor, self.mode & 0o666)  # whatever the umask is
                for block in blocks:
                    _write_all(descriptor, block)
                os.utime(descriptor, (received_at, received_at))  # IMAP servers tell it as the internal date
                os.fsync(file)
            os.rename(written, self.path / "new" / name)
        except BaseException:
            with suppress(OSError):
                written.unlink()
            raise
        sync_folder(self.path / "new")

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        with suppress(FileExistsError):  # another thread was faster
            folder.mkdir()
            folder.chmod(self.mode | (folder.stat().st_mode & stat.S_ISGID))  # which hands the group of `base` down
        sync_folder(folder.parent)


def unique_name(received_at: float, queue_id: str, recipient: Address, hostname: str) -> str:
    """The same for every try to deliver one message to one recipient, and never given to another."""
    digest = hashlib.sha256(recipient.key.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    host = hostname.replace("/", "\\057").replace(":", "\\072")
    return f"{int(received_at)}.Q{queue_id}R{digest}.{host}"


def sync_folder(folder: Path) -> None:
    """Make its names durable: a rename that is not synced is gone after a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
