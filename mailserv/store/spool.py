"""Content on its way in: in memory while it is small, in a synced file when it is large.

A file is there before the commit that names it and goes after the commit that removed its last reference; what a crash
leaves in between is collected at the next start. So no row is ever without its file, and no file stays without a row.
"""

from __future__ import annotations

import fcntl
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mailserv.errors import StoreUnavailable
from mailserv.logging import get_logger
from mailserv.mail.message import BLOCK, BytesContent, Content
from mailserv.store.disk import Disk, create_private, make_private_directory, store_error, sync_directory

THRESHOLD = 256 * 1024  # octets: more goes to a file. Below, one commit's fsync serves many; above, the WAL doubles it
_QUEUE_ID = re.compile(r"[0-9A-Za-z_-]{1,60}")  # a file's name and a unique-id's beginning (RFC 1939 §7: 70 in all)

log = get_logger("store")


def check_queue_id(queue_id: str) -> None:
    """Raises ValueError for what could not be a file's name."""
    if not _QUEUE_ID.fullmatch(queue_id):
        raise ValueError(f"not a queue id: {queue_id!r}")


@dataclass(frozen=True, slots=True)
class FileContent:
    """Content in a spool file. Any thread; each `blocks` opens the file anew."""

    path: Path
    size: int

    def blocks(self) -> Iterator[bytes]:
        """Raises StoreUnavailable when the file is gone, unreadable or not as long as it was."""
        seen = 0
        try:
            with self.path.open("rb", buffering=0) as file:
                while block := file.read(BLOCK):
                    seen += len(block)
                    yield block
        except OSError as error:
            raise store_error(self.path, error) from error
        if seen != self.size:
            raise StoreUnavailable(f"{self.path}: {seen} octets where {self.size} were stored")


class Spool:
    """The folder of large contents. Any thread."""

    def __init__(self, path: Path, disk: Disk) -> None:
        """Makes the folder. Raises StoreError."""
        self.path = path
        self._disk = disk
        self._lock = threading.Lock()
        self._unclaimed: set[str] = set()  # files of ours that no committed row names yet
        try:
            make_private_directory(path, disk)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise store_error(path, error) from error
        # Every open store shares this lock; `collect` needs it alone, so that it never takes a file still being written.
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def writer(self, queue_id: str) -> ContentWriter:
        """A writer for one message. Raises ValueError for a queue id that could not be a file's name."""
        check_queue_id(queue_id)
        return ContentWriter(self, queue_id, self._disk)

    def create(self, queue_id: str) -> tuple[str, int]:
        """Make a new file for a message: its name and a descriptor. Raises OSError."""
        for number in range(1000):  # a name is taken only when content of the same message is stored once more
            name = f"{queue_id}.{number}" if number else queue_id
            try:
                descriptor = create_private(self.path / name, os.O_WRONLY)
            except FileExistsError:
                continue
            with self._lock:
                self._unclaimed.add(name)
            return name, descriptor
        raise FileExistsError(f"{queue_id}: no free name")

    def name_of(self, content: Content) -> str | None:
        """The name of the file of ours that this content is in, None for other content."""
        if isinstance(content, FileContent) and content.path.parent == self.path:
            return content.path.name
        return None

    def file(self, name: str, size: int) -> FileContent:
        """The content in a file that a row names."""
        return FileContent(self.path / name, size)

    def is_whole(self, name: str, size: int) -> bool:
        """Whether a file is there with as many octets as its row says."""
        try:
            return (self.path / name).stat().st_size == size
        except OSError:
            return False

    def claimed(self, name: str) -> None:
        """A committed row names this file now: `discard` leaves it alone from here on."""
        with self._lock:
            self._unclaimed.discard(name)

    def discard(self, name: str) -> None:
        """Remove a file unless a committed row names it. Logs what goes wrong."""
        with self._lock:
            if name not in self._unclaimed:
                return
            self._unclaimed.remove(name)
        self.remove([name])

    def remove(self, names: Iterable[str]) -> None:
        """Remove files that no row names any more. Logs what goes wrong: the next start collects what is left."""
        for name in names:
            try:
                self._disk.unlink(self.path / name)
            except FileNotFoundError:
                pass
            except OSError as error:
                log.warning("store_file_left", file=str(self.path / name), error=str(error))

    def sync(self) -> None:
        """Make the names of new files durable. Raises OSError."""
        sync_directory(self.path, self._disk)

    def collect(self, is_named: Callable[[str], bool]) -> int:
        """Remove every file that `is_named` does not know, unless another process has the store open. How many."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return 0
        orphans = [name for name in os.listdir(self.path) if not is_named(name)]
        self.remove(orphans)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)
        if orphans:
            log.info("store_orphans_removed", files=len(orphans))
        return len(orphans)

    def close(self) -> None:
        """Give the lock back."""
        os.close(self._descriptor)


class ContentWriter:
    """One content on its way in (`interface.SpoolWriter`). One thread."""

    def __init__(self, spool: Spool, queue_id: str, disk: Disk) -> None:
        self._spool = spool
        self._queue_id = queue_id
        self._disk = disk
        self._blocks: list[bytes] = []
        self._size = 0
        self._name = ""
        self._descriptor = -1

    @property
    def size(self) -> int:
        return self._size

    def write(self, block: bytes) -> None:
        """Append. Raises StoreError, after which the writer is good for `discard` only."""
        self._size += len(block)
        if self._descriptor < 0:
            self._blocks.append(block)
            if self._size > THRESHOLD:
                self._move_to_file()
        else:
            self._append(block)

    def finish(self) -> Content:
        """The content. A file is synced, and its name too. Raises StoreError; the file is then gone."""
        if self._descriptor < 0:
            return BytesContent(b"".join(self._blocks))
        try:
            self._disk.fsync(self._descriptor)
            self._close()
            self._spool.sync()
        except OSError as error:
            self.discard()
            raise store_error(self._spool.path / self._name, error) from error
        return self._spool.file(self._name, self._size)

    def discard(self) -> None:
        """Forget it. A file goes, unless it was accepted."""
        self._blocks = []
        self._close()
        if self._name:
            self._spool.discard(self._name)

    def _move_to_file(self) -> None:
        blocks, self._blocks = self._blocks, []
        try:
            self._name, self._descriptor = self._spool.create(self._queue_id)
        except OSError as error:
            raise store_error(self._spool.path, error) from error
        self._append(b"".join(blocks))

    def _append(self, block: bytes) -> None:
        rest = memoryview(block)
        try:
            while rest:
                rest = rest[self._disk.write(self._descriptor, rest) :]
        except OSError as error:
            self.discard()
            raise store_error(self._spool.path / self._name, error) from error

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
