"""Whether the disk has room: asked at every MAIL, so a yes is kept for a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mailserv.clock import Clock
from mailserv.store.disk import Disk, store_error

RESERVE = (
    4 * 1024 * 1024
)  # octets that stay free, a whole write-ahead log: the queue must still settle what it delivers
_KEPT = 1.0  # seconds
_INODES = 64  # fewer than this and no spool file can be counted on


class Room:
    """Any thread."""

    def __init__(self, path: Path, clock: Clock, disk: Disk, reusable: Callable[[], int] = lambda: 0) -> None:
        """`reusable`: octets inside the database file that deletions have left free; asked only when the disk has no room."""
        self._reusable = reusable
        self._path = path
        self._clock = clock
        self._disk = disk
        self._seen: tuple[float, int] | None = None  # (monotonic seconds, octets): one value, replaced whole

    def has(self, octets: int) -> bool:
        """Whether `octets` and the reserve are free. Raises StoreError when the file system does not say."""
        wanted = octets + RESERVE
        seen, now = self._seen, self._clock.monotonic()
        if (
            seen is None or not 0 <= now - seen[0] < _KEPT or seen[1] < wanted
        ):  # a "no" is not kept: somebody may have cleared up
            seen = self._seen = (now, self._free())
        return seen[1] >= wanted or seen[1] + self._reusable() >= wanted

    def _free(self) -> int:
        try:
            status = self._disk.statvfs(self._path)
        except OSError as error:
            raise store_error(self._path, error) from error
        if status.f_files and status.f_favail < _INODES:  # some file systems count no inodes at all
            return 0
        free: int = status.f_bavail * status.f_frsize
        return free
