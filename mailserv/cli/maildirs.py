"""Maildirs (https://cr.yp.to/proto/maildir.html) as `mailserv mailbox` reads and writes them: LF line ends."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailserv.mail.line_ends import with_lf
from mailserv.mail.message import BLOCK

FOLDERS = ("cur", "new", "tmp")
_SECONDS = re.compile(r"(\d{1,12})\.")


@dataclass(frozen=True, slots=True)
class File:
    """One message: `date` is when it was delivered, epoch seconds."""

    path: Path
    size: int
    date: float

    def blocks(self) -> Iterator[bytes]:
        """As they are in the file. Raises OSError."""
        with self.path.open("rb") as file:
            while block := file.read(BLOCK):
                yield block


def is_maildir(folder: Path) -> bool:
    """Whether there is anything of one."""
    return (folder / "cur").is_dir() or (folder / "new").is_dir()


def messages(folder: Path) -> list[File]:
    """What is in new and cur, in the order of delivery; what is in tmp was not delivered. Raises OSError.

    In this order: a reader moves a message from the first to the second and nothing is missed. What is in both is one.
    """
    found = {}
    for name in ("new", "cur"):
        if not (folder / name).is_dir():
            continue
        for path in (folder / name).iterdir():
            if not path.name.startswith(".") and path.is_file():
                status = path.stat()
                found[path.name.partition(":")[0]] = File(path, status.st_size, status.st_mtime)
    return sorted(found.values(), key=lambda file: (_delivered(file), file.path.name))


def _delivered(file: File) -> float:
    """The time in the name, which orders better than the file's: a copy may have lost that."""
    match = _SECONDS.match(file.path.name)
    return float(match.group(1)) if match else file.date


def other_folders(folder: Path) -> list[str]:
    """Folders beside the inbox (Maildir++: ".Sent"), which are Maildirs of their own."""
    return sorted(path.name for path in folder.iterdir() if path.name not in FOLDERS and is_maildir(path))


def make(folder: Path) -> None:
    """Private. Raises OSError."""
    for name in FOLDERS:
        (folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)


def names(folder: Path) -> frozenset[str]:
    """Of the messages that are there, without their flags. In the order of `messages`. Raises OSError."""
    return frozenset(entry.partition(":")[0] for part in ("new", "cur") for entry in os.listdir(folder / part))


def write(
    folder: Path, name: str, blocks: Iterable[bytes], date: float, sync: Callable[[int], None] = os.fsync
) -> None:
    """Deliver a message under a name of its own, which is all of its identity.

    Written and synced in tmp, and moved to new when it is whole: a power failure would leave an empty file there, which the
    next run takes for the message. Raises OSError.
    """
    unfinished = folder / "tmp" / name
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.writelines(with_lf(blocks))
        file.flush()
        sync(file.fileno())
    os.utime(unfinished, (date, date))
    unfinished.rename(folder / "new" / name)
