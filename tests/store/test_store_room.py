"""Room on the disk is asked for at every MAIL, and looked up once a second."""

from __future__ import annotations

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from mailserv.errors import StoreUnavailable
from mailserv.store.disk import Disk
from mailserv.store.interface import Store
from mailserv.store.room import RESERVE, Room
from mailserv.testing.clock import FakeClock


class Volume:
    def __init__(self, free: int, inodes: int = 1_000_000, files: int = 2_000_000) -> None:
        self.free, self.inodes, self.files = free, inodes, files
        self.asked = 0
        self.broken = False

    def statvfs(self, path: Path) -> SimpleNamespace:
        self.asked += 1
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        return SimpleNamespace(f_bavail=self.free // 512, f_frsize=512, f_files=self.files, f_favail=self.inodes)


def room_on(volume: Volume, clock: FakeClock) -> Room:
    return Room(Path("/data"), clock, Disk(statvfs=volume.statvfs))


def test_a_reserve_stays_free(clock: FakeClock) -> None:
    room = room_on(Volume(RESERVE + 1024), clock)
    assert room.has(1024)
    assert not room.has(1025)


def test_the_disk_is_asked_once_a_second(clock: FakeClock) -> None:
    volume = Volume(RESERVE * 2)
    room = room_on(volume, clock)
    assert [room.has(1) for _ in range(5)] == [True] * 5
    volume.free = 0
    clock.advance(0.9)
    assert room.has(1)
    assert volume.asked == 1
    clock.advance(0.2)
    assert not room.has(1)
    assert volume.asked == 2


def test_without_inodes_there_is_no_room(clock: FakeClock) -> None:
    assert not room_on(Volume(RESERVE * 2, inodes=3), clock).has(1)
    assert room_on(Volume(RESERVE * 2, inodes=0, files=0), clock).has(1)  # a file system that counts none


def test_a_disk_that_does_not_answer_is_an_error_that_passes(clock: FakeClock) -> None:
    volume = Volume(RESERVE * 2)
    room = room_on(volume, clock)
    volume.broken = True
    with pytest.raises(StoreUnavailable, match="/data"):
        room.has(1)
    volume.broken = False
    assert room.has(1)


def test_the_store_asks_its_own_disk(store: Store) -> None:
    assert store.has_room(1)
    assert not store.has_room(1 << 62)
