"""The store checked against itself: whatever is damaged by hand is found and named, and what is sound is not."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from store_kit import ALICE, LARGE, PREFIX, behind, to_mailbox, to_queue

from mailserv.mail.message import BytesContent
from mailserv.store.interface import Store, Usage
from mailserv.store.verify import CHECKS, YOUNG
from mailserv.testing.clock import FakeClock


@pytest.fixture
def filled(store: Store) -> Store:
    """Small and large, in a mailbox, in the queue, and in both; some claimed."""
    store.accept(to_mailbox("Q1"))
    store.accept(to_mailbox("Q2", content=BytesContent(b"x" * LARGE)))
    store.accept(to_queue("Q3"))
    store.accept(to_queue("Q4", parameters={"RET": "HDRS"}))
    (destination, _), *_ = store.destinations()
    store.claim(destination, "node#1", 200.0, 900.0, 1)
    return store


def found(store: Store) -> list[str]:
    return [f"{each.where}: {each.what}" for each in store.mailboxes.verify()]


def test_a_sound_store_is_found_sound(filled: Store) -> None:
    steps: list[str] = []
    assert list(filled.mailboxes.verify(steps.append)) == []
    assert steps == list(CHECKS)


DAMAGE = {
    "UPDATE message SET content = x'00' WHERE queue_id = 'Q1'": [
        "message Q1: 1 octets of content where 26 were stored"
    ],
    "UPDATE message SET file = 'Q9' WHERE queue_id = 'Q2'": [
        "message Q2: spool file Q9 cannot be read: No such file or directory",
        "spool file Q2: belongs to no message; the next start of the server removes it",
    ],
    "UPDATE message SET size = size + 1 WHERE queue_id = 'Q2'": [
        f"message Q2: spool file Q2 has {LARGE} octets where {LARGE + 1} were stored",
        f"mailbox message Q2.0: is told to have {LARGE + len(PREFIX)} octets and has {LARGE + len(PREFIX) + 1}",
    ],
    "DELETE FROM message WHERE queue_id = 'Q1'": ["mailbox row 1: refers to a row of message that is not there"],
    "DELETE FROM mailbox WHERE unique_id = 'Q1.0'": ["message Q1: is in no mailbox and in no queue"],
    "UPDATE mailbox SET unique_id = 'same'": ["mailbox message same: 2 messages of one mailbox have this unique-id"],
    "UPDATE account SET octets = octets + 5": [
        f"account {ALICE}: totals say 2 messages, {LARGE + 2 * len(PREFIX) + 31} octets; there are 2, "
        f"{LARGE + 2 * len(PREFIX) + 26} (--repair counts anew)"
    ],
    "UPDATE queue SET state = 'lost' WHERE id = 2": ["queue row 2 of Q4: has a state that there is none of: 'lost'"],
    "UPDATE queue SET owner = '' WHERE id = 1": ["queue row 1 of Q3: is claimed, leased by 'nobody'"],
    "UPDATE queue SET owner = 'node' WHERE id = 2": ["queue row 2 of Q4: is ready, leased by 'node'"],
    "UPDATE message SET parameters = '{' WHERE queue_id = 'Q3'": [
        "message Q3: its parameters cannot be read: Input data was truncated"
    ],
    "UPDATE trace SET entries = '[' WHERE queue_id = 'Q4'": [
        "message Q4: its trace cannot be read: Input data was truncated"
    ],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_was_damaged_is_named(filled: Store, data_dir: Path, clock: FakeClock, damage: str) -> None:
    make_old(data_dir, clock)
    with behind(data_dir) as connection:
        connection.execute(damage)
    assert found(filled) == DAMAGE[damage]


def make_old(data_dir: Path, clock: FakeClock) -> None:
    """Spool files have the machine's time."""
    for path in (data_dir / "spool").iterdir():
        os.utime(path, (clock.now() - YOUNG - 1,) * 2)


def test_a_young_file_may_belong_to_a_message_that_is_coming_in(
    filled: Store, data_dir: Path, clock: FakeClock
) -> None:
    writer = filled.spool("Q5")
    writer.write(b"x" * LARGE)
    os.utime(data_dir / "spool" / "Q5", (clock.now() - 10,) * 2)
    assert found(filled) == []
    make_old(data_dir, clock)
    assert found(filled) == ["spool file Q5: belongs to no message; the next start of the server removes it"]
    assert (data_dir / "spool" / "Q5").exists()
    writer.discard()


def test_a_broken_page_is_named_and_the_rest_is_looked_at(filled: Store, data_dir: Path) -> None:
    with behind(data_dir) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'trace_by_time'").fetchone()
        connection.execute("UPDATE account SET messages = 9")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (data_dir / "mailserv.db").open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    lines = found(filled)
    assert any(line.startswith("database: ") for line in lines)
    assert any(line.startswith(f"account {ALICE}: totals say 9 messages") for line in lines)


def test_repair_counts_anew_and_changes_nothing_else(filled: Store, data_dir: Path) -> None:
    true = filled.mailboxes.usage(ALICE)
    filled.add_account("bob@example.org", "hash", 1.0)
    with behind(data_dir) as connection:
        connection.execute("UPDATE account SET messages = 7, octets = 7")
        before = dump(connection)
    assert filled.mailboxes.repair_totals() == 2
    assert filled.mailboxes.usages() == {ALICE: true, "bob@example.org": Usage(0, 0)}
    assert found(filled) == []
    assert filled.mailboxes.repair_totals() == 0
    with behind(data_dir) as connection:
        assert [line for line in dump(connection) if line not in before] == [
            line for line in dump(connection) if 'INSERT INTO "account"' in line
        ]


def dump(connection: sqlite3.Connection) -> list[str]:
    return list(connection.iterdump())


def test_it_moves_while_it_is_looked_at(filled: Store) -> None:
    """Mail comes and goes between two checks: that is no finding."""
    number = 0

    def move(_: str) -> None:
        nonlocal number
        number += 1
        filled.accept(to_mailbox(f"M{number}", content=BytesContent(b"x" * LARGE)))
        filled.delete(filled.maildrop(ALICE)[:1])

    assert list(filled.mailboxes.verify(move)) == []
