"""A full disk can be emptied: the last room is kept for deletions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from mailserv.errors import StorageFull
from mailserv.mail.address import NULL_REVERSE_PATH
from mailserv.mail.message import Acceptance, BytesContent, MailboxDelivery
from mailserv.store.ballast import OCTETS, Ballast
from mailserv.store.connection import open_writer
from mailserv.store.disk import DISK, Disk
from mailserv.store.sqlite import open_store
from mailserv.store.writer import Work, Writer
from mailserv.testing.clock import FakeClock

ALICE = "alice@example.org"


def full(_: Work) -> None:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    raise error


def test_the_ballast_is_taken_in_once_and_thrown_out_once(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    ballast.take_in()
    ballast.take_in()
    assert (tmp_path / "ballast").stat().st_size == OCTETS
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= OCTETS
    assert ballast.throw_out()
    assert not (tmp_path / "ballast").exists()
    assert not ballast.throw_out()
    ballast.take_in()
    assert (tmp_path / "ballast").exists()


def test_a_ballast_that_cannot_be_made_harms_nobody(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "missing" / "ballast")
    ballast.take_in()
    assert not ballast.throw_out()


def test_another_process_may_have_taken_it_in(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    Ballast(tmp_path / "ballast").take_in()
    ballast.take_in()
    assert ballast.throw_out()


def test_what_another_process_threw_out_is_taken_in_again(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast")
    ballast.take_in()
    assert Ballast(tmp_path / "ballast").throw_out()
    ballast.look()
    ballast.take_in()
    assert (tmp_path / "ballast").exists()


def writer(folder: Path, tries: list[str]) -> Writer:
    sqlite3.connect(folder / "x.db").close()

    def make_room() -> bool:
        tries.append("room")
        return len(tries) == 1

    return Writer(
        folder / "x.db",
        lambda: open_writer(folder / "x.db", DISK),
        committed=lambda _: None,
        remove=lambda _: None,
        make_room=make_room,
    )


def test_only_what_frees_room_gets_the_last_there_is(tmp_path: Path) -> None:
    tries: list[str] = []
    made = writer(tmp_path, tries)
    with pytest.raises(StorageFull):
        made.run(full)
    assert tries == []
    with pytest.raises(StorageFull):
        made.run(full, frees=True)
    assert tries == ["room"]
    made.close()


def test_a_deletion_that_found_no_room_is_tried_again(tmp_path: Path) -> None:
    runs: list[int] = []

    def action(work: Work) -> int:
        runs.append(1)
        if len(runs) == 1:
            full(work)
        return 7

    made = writer(tmp_path, [])
    assert made.run(action, frees=True) == 7
    made.close()


@pytest.mark.parametrize("frees", [True, False])
def test_one_that_nobody_waits_for_is_tried_again_when_it_frees_room(tmp_path: Path, frees: bool) -> None:
    tries: list[str] = []
    done: list[int] = []

    def action(work: Work) -> None:
        if not tries:
            full(work)
        done.append(1)

    made = writer(tmp_path, tries)
    made.post(action, frees=frees)
    made.close()
    assert len(tries) == len(done) == int(frees)


def test_pages_that_deletions_left_free_count_as_room(tmp_path: Path) -> None:
    class NoRoom:
        f_bavail, f_frsize, f_files, f_favail = 1, 4096, 0, 0

    store = open_store(tmp_path / "data", FakeClock(), disk=Disk(statvfs=lambda _: NoRoom))
    store.add_account(ALICE, "x", 0.0)
    assert not store.has_room(1_000_000)
    for number in range(30):
        content = BytesContent(b"x" * 250_000)
        mailbox = MailboxDelivery(ALICE, ALICE, b"")
        store.accept(Acceptance(f"Q{number}", NULL_REVERSE_PATH, content, 0.0, mailboxes=(mailbox,)))
    assert not store.has_room(1_000_000)
    store.delete(store.maildrop(ALICE))
    assert store.has_room(1_000_000)
    store.close()
