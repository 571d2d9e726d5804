"""Unique-ids outlive everything: a restart, a backup and its restore (RFC 1939 §7), and none is ever given out again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from store_kit import ALICE, LARGE, behind, to_mailbox

from mailserv.mail.message import BytesContent
from mailserv.store.interface import Store
from mailserv.store.listing import MaildropMessage
from mailserv.store.sqlite import DATABASE, open_store
from mailserv.testing.clock import FakeClock


def fill(store: Store) -> list[MaildropMessage]:
    for number in range(5):
        store.accept(to_mailbox(f"Q{number}", content=BytesContent(b"x" * (LARGE if number == 3 else 20))))
    return store.maildrop(ALICE)


def copied(data_dir: Path, backup: Path) -> None:
    """While the server stands still: the folder."""
    shutil.copytree(data_dir, backup, ignore=shutil.ignore_patterns("nudge"))


def backed_up(data_dir: Path, backup: Path) -> None:
    """While it runs: SQLite's own backup, then the spool."""
    backup.mkdir()
    with behind(data_dir) as source, closing(sqlite3.connect(backup / DATABASE)) as target:
        source.backup(target)
    shutil.copytree(data_dir / "spool", backup / "spool")


def vacuumed(data_dir: Path, backup: Path) -> None:
    """The same by SQL, as `sqlite3 mailserv.db ".backup"` or VACUUM INTO do it: rows are written anew."""
    backup.mkdir()
    with behind(data_dir) as source:
        source.execute("VACUUM INTO ?", (str(backup / DATABASE),))
    shutil.copytree(data_dir / "spool", backup / "spool")


def test_a_restart_changes_no_unique_id(store: Store, data_dir: Path, clock: FakeClock) -> None:
    before = fill(store)
    store.close()
    store = open_store(data_dir, clock)
    assert store.maildrop(ALICE) == before
    store.close()


@pytest.mark.parametrize("back_up", [copied, backed_up, vacuumed])
def test_a_restored_backup_has_the_same_unique_ids_and_gives_none_out_again(
    store: Store, data_dir: Path, clock: FakeClock, tmp_path: Path, back_up: Callable[[Path, Path], None]
) -> None:
    before = fill(store)
    back_up(data_dir, tmp_path / "backup")
    store.accept(to_mailbox("Later"))  # a client has seen this one; the restored server never had it
    seen = {message.unique_id for message in store.maildrop(ALICE)}
    store.close()
    shutil.rmtree(data_dir)
    (tmp_path / "backup").rename(data_dir)
    store = open_store(data_dir, clock)
    assert store.maildrop(ALICE) == before
    assert list(store.mailboxes.verify()) == []
    assert all(store.read(message) is not None for message in before)
    store.accept(to_mailbox("New"))
    assert {message.unique_id for message in store.maildrop(ALICE)[5:]} & seen == set()
    store.close()
