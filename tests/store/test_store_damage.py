"""What is damaged goes to quarantine: never deleted, never in the way of the rest (docs/lessons.md 5)."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_kit import ALICE, BOB, CAROL, HOP, LARGE, behind, text_of, to_mailbox, to_queue

from mailserv.errors import StoreUnavailable
from mailserv.mail.address import Address
from mailserv.mail.message import BytesContent
from mailserv.store.interface import Store
from mailserv.store.sqlite import open_store
from mailserv.testing.clock import FakeClock

GOOD = ["G1", "G2"]
DAMAGES = {
    "a content of another length": "UPDATE message SET content = x'00' WHERE queue_id = 'BAD'",
    "no content": "UPDATE message SET content = NULL WHERE queue_id = 'BAD'",
    "parameters of the message that are no JSON": "UPDATE message SET parameters = '{' WHERE queue_id = 'BAD'",
    "parameters of the recipient that are no JSON": "UPDATE queue SET parameters = '[1' WHERE forward_path LIKE 'bad%'",
    "a reverse-path that is no UTF-8": "UPDATE message SET reverse_path = CAST(x'ff' AS TEXT) WHERE queue_id = 'BAD'",
    "a forward-path that is no UTF-8": "UPDATE queue SET forward_path = CAST(x'ff' AS TEXT) WHERE forward_path LIKE 'bad%'",
    "a message row that is missing": "DELETE FROM message WHERE queue_id = 'BAD'",
    "a file that never was": "UPDATE message SET file = 'nowhere' WHERE queue_id = 'BAD'",
}


def fill(store: Store) -> None:
    store.accept(to_queue(GOOD[0]))
    store.accept(to_queue("BAD", Address("bad", "example.com")))
    store.accept(to_queue(GOOD[1]))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_message_is_set_aside_and_the_others_go_on(
    store: Store, data_dir: Path, damage: str, capfd: pytest.CaptureFixture[str]
) -> None:
    fill(store)
    with behind(data_dir) as connection:
        assert connection.execute(DAMAGES[damage]).rowcount == 1
    deliveries, _ = store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert [each.queue_id for each in deliveries] == GOOD
    assert store.queue_counts() == {"ready": 0, "claimed": 2, "held": 0, "quarantined": 1}
    assert store.reclaim("", 9999.0) == 2  # the damaged one is out of the leases' way
    line = capfd.readouterr().err
    assert "store_quarantined" in line
    assert "level=error" in line


def test_the_trace_tells_of_the_quarantine(store: Store, data_dir: Path) -> None:
    store.accept(to_queue("BAD", CAROL, BOB))
    with behind(data_dir) as connection:
        connection.execute("UPDATE message SET content = x'00'")
    assert store.claim(HOP, "node", 1000.0, 2000.0, 10) == ([], None)
    (entry,) = [each for each in store.trace("BAD") if each.event == "quarantined"]
    assert entry.detail["rows"] == 2
    assert "octets" in str(entry.detail["reason"])


@pytest.mark.parametrize("harm", ["missing", "cut short"])
def test_a_damaged_spool_file_is_found_at_the_claim(store: Store, data_dir: Path, harm: str) -> None:
    store.accept(to_queue("BAD", content=BytesContent(b"x" * LARGE)))
    store.accept(to_queue("G1"))
    path = data_dir / "spool" / "BAD"
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(b"x" * (LARGE - 1))
    deliveries, _ = store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert [each.queue_id for each in deliveries] == ["G1"]
    path.write_bytes(b"x" * LARGE)  # an operator brings it back from a backup
    assert store.queue_release(["BAD"], 1000.0) == 1
    (delivery,), _ = store.claim(HOP, "node", 1000.0, 2000.0, 10)
    assert text_of(delivery.content) == b"x" * LARGE


def test_a_file_that_is_cut_short_while_it_is_read_is_an_error_not_a_short_message(
    store: Store, data_dir: Path
) -> None:
    store.accept(to_queue("Q1", content=BytesContent(b"x" * LARGE)))
    (delivery,), _ = store.claim(HOP, "node", 1000.0, 2000.0, 10)
    (data_dir / "spool" / "Q1").write_bytes(b"x")
    with pytest.raises(StoreUnavailable, match="octets"):
        text_of(delivery.content)


def test_a_damaged_message_in_a_mailbox_is_told_and_kept(
    store: Store, data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store.accept(to_mailbox("BAD"))
    store.accept(to_mailbox("G1"))
    with behind(data_dir) as connection:
        connection.execute("UPDATE message SET content = x'00' WHERE queue_id = 'BAD'")
    bad, good = store.maildrop(ALICE)
    with pytest.raises(StoreUnavailable, match="BAD"):
        store.read(bad)
    assert store.read(good) is not None
    assert len(store.maildrop(ALICE)) == 2
    assert "store_message_damaged" in capfd.readouterr().err


def test_a_broken_page_under_one_message_harms_that_message_only(store: Store, data_dir: Path) -> None:
    bodies = {name: name.encode() * 50_000 for name in ("AA", "BB", "CC")}
    for name, body in bodies.items():
        store.accept(to_queue(name, content=BytesContent(body)))
    with behind(data_dir) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database = Path(connection.execute("PRAGMA database_list").fetchone()[2])
    data = database.read_bytes()
    page = data.index(b"BB" * 2000) // 4096 * 4096  # 4,000 octets in a row lie in one overflow page
    with database.open("r+b") as file:
        file.seek(page)
        file.write(b"\xff\xff\xff\xff")  # the number of the next page
    store.close()
    again = open_store(data_dir, FakeClock(1000.0))
    try:
        deliveries, _ = again.claim(HOP, "node", 1000.0, 2000.0, 10)
        assert [each.queue_id for each in deliveries] == ["AA", "CC"]
        assert again.queue_counts()["quarantined"] == 1
    finally:
        again.close()


def test_an_unreadable_row_of_trace_is_left_out(
    store: Store, data_dir: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store.accept(to_queue("Q1"))
    with behind(data_dir) as connection:
        connection.execute("INSERT INTO trace (queue_id, at, entries) VALUES ('Q1', 1, 'nonsense')")
    assert [entry.event for entry in store.trace("Q1")] == ["accepted"]
    assert "store_trace_damaged" in capfd.readouterr().err
