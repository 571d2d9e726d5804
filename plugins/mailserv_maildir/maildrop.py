"""A Maildir as POP3 opens it (RFC 1939): a snapshot of new and cur, whatever other readers do to them meanwhile."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from mailserv.mail.line_ends import ended, with_crlf
from mailserv.mail.maildrop import Message
from mailserv.mail.message import BLOCK, Content
from mailserv_maildir.folder import sync_folder

PARTS = ("new", "cur")  # in this order: a reader moves from the first to the second, and nothing is missed
TRIES = 3  # a reader may rename files while they are removed, but not all the time
_WIRE_SIZE = re.compile(r",W=(\d{1,15})(?=,|$)")  # octets with CRLF, as Dovecot writes it
_SIZES = re.compile(r"(?:,[SW]=\d+)+$")  # not part of what names a message: another reader may add them
_TIME = re.compile(r"\d{1,15}")  # every name begins with when it was delivered
_UNIQUE_ID = re.compile("[!-~]{1,70}")  # RFC 1939 §7


@dataclass(frozen=True, slots=True)
class MaildirMessage:
    """`base`: the file's name without the flags behind it, which readers change."""

    unique_id: str
    size: int
    base: str
    is_utf8: bool = False


class MaildirDrop:
    """One session's. Other programs may rename and remove files all the while; nothing is moved or flagged here."""

    def __init__(self, path: Path, sizes: dict[str, int] | None = None) -> None:
        """`sizes`: by name, as they were counted before; what is gone is taken out. Raises OSError.

        A file is read only if its name does not tell the size (W=) and `sizes` does not either.
        """
        self._path = path
        self._sizes = sizes if sizes is not None else {}
        self._files = _scan(path)
        by_id = {unique_id(base): base for base in sorted(self._files, key=_age)}
        self.messages: Sequence[MaildirMessage] = [
            MaildirMessage(unique, size, base)
            for unique, base in by_id.items()
            if (size := self._size(base)) is not None
        ]
        for gone in self._sizes.keys() - self._files.keys():
            del self._sizes[gone]

    def read(self, message: Message) -> Content | None:
        assert isinstance(message, MaildirMessage)
        with suppress(FileNotFoundError):
            self._opened(message.base).close()
            return _FileContent(self, message.base, message.size)
        return None

    def delete(self, messages: Sequence[Message]) -> None:
        """One by one: a crash between two of them leaves the rest, which QUIT has not answered for. Raises OSError."""
        left = [message.base for message in messages if isinstance(message, MaildirMessage)]
        try:
            for _ in range(TRIES):
                left = [base for base in left if not self._remove(base)]
                if not left:
                    break
                self._files = _scan(self._path)
        finally:
            for part in PARTS:
                with suppress(FileNotFoundError):
                    sync_folder(self._path / part)

    def close(self) -> None:
        """Nothing is open."""

    def blocks(self, base: str) -> Iterator[bytes]:
        """The file's content with CRLF. Raises OSError."""
        with self._opened(base) as file:
            yield from ended(with_crlf(iter(lambda: file.read(BLOCK), b"")))

    def _size(self, base: str) -> int | None:
        """None: it is gone by now."""
        if told := _WIRE_SIZE.search(base):
            return int(told[1])
        size = self._sizes.get(base)
        if size is None:
            try:
                size = self._sizes[base] = sum(map(len, self.blocks(base)))
            except FileNotFoundError:
                return None
        return size

    def _opened(self, base: str) -> FileIO:
        """Raises FileNotFoundError when it is gone, other OSErrors."""
        try:
            return self._open(base)
        except FileNotFoundError:
            if base not in self._files:
                raise
            self._files = _scan(self._path)  # a reader has given it other flags, or moved it from new to cur
            return self._open(base)

    def _open(self, base: str) -> FileIO:
        name = self._files.get(base)
        if name is None:  # a name that one scan has not seen does not come again
            raise FileNotFoundError(base)
        return FileIO(os.open(self._path / name, os.O_RDONLY | os.O_NOFOLLOW))

    def _remove(self, base: str) -> bool:
        """Whether it is gone now; False when it has been moved since the last scan."""
        name = self._files.get(base)
        if name is not None:
            try:
                (self._path / name).unlink()
            except FileNotFoundError:
                return False
        return True


@dataclass(frozen=True, slots=True)
class _FileContent:
    drop: MaildirDrop
    base: str
    size: int

    def blocks(self) -> Iterator[bytes]:
        return self.drop.blocks(self.base)


def unique_id(base: str) -> str:
    """The message's own, for as long as its file is there: its name, or a digest of one that POP3 cannot say."""
    name = _SIZES.sub("", base)
    if _UNIQUE_ID.fullmatch(name):
        return name
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()


def _scan(path: Path) -> dict[str, str]:
    """Every message: the base of its file's name → part and name. What is in both is the one in cur. Raises OSError."""
    found = {}
    for part in PARTS:
        with suppress(FileNotFoundError), os.scandir(path / part) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and entry.is_file(follow_symlinks=False):
                    found[entry.name.partition(":")[0]] = f"{part}/{entry.name}"
    return found


def _age(base: str) -> tuple[int, str]:
    """Oldest first."""
    time = _TIME.match(base)
    return (int(time[0]) if time else 0, base)
