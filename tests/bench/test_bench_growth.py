"""W6's rows, what is put into the store for them, and the sizes it tells."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from bench.errors import Failed
from bench.filling import ROUTE, Kind, fill_with
from bench.server import DATA, MAILBOX
from bench.w6 import cells, sizes, tasks
from bench.workload import Options
from mailserv.clock import SystemClock
from mailserv.store.sqlite import open_store


def test_the_rows_are_depths_up_to_the_wanted_one_and_one_whose_queue_is_at_work() -> None:
    assert cells(Options()) == ["0", "10,000", "100,000", "300,000", "1,000,000", "1,100,000, 100,000 being tried"]
    assert cells(Options(messages=30_000)) == ["0", "10,000", "30,000", "33,000, 3,000 being tried"]
    assert len(tasks(Options())) == 1


def test_what_is_put_in_through_the_store_is_what_the_queue_holds_after_a_try(tmp_path: Path) -> None:
    (tmp_path / DATA).mkdir()
    fill_with(Kind.WAITING, 250, tmp_path)
    fill_with(Kind.DUE, 1, tmp_path)
    with closing(open_store(tmp_path / DATA, SystemClock(), exclusive=False)) as store:
        rows = store.queue_list()
        now = SystemClock().now()
        assert (len(rows), len({row.queue_id for row in rows}), len({row.forward_path for row in rows})) == (
            251,
            251,
            250,
        )
        assert {(row.state, row.attempts, row.not_before > now) for row in rows[:250]} == {("ready", 1, True)}
        assert (rows[-1].attempts, rows[-1].not_before <= now) == (0, True)
        assert {row.route for row in rows} == {ROUTE}
        assert min(row.size for row in rows) > 4000
        assert [entry.event for entry in store.trace(rows[0].queue_id)] == ["accepted", "routed", "deferred"]


def test_what_is_put_into_a_mailbox_can_be_fetched(tmp_path: Path) -> None:
    (tmp_path / DATA).mkdir()
    with closing(open_store(tmp_path / DATA, SystemClock(), exclusive=False)) as store:
        store.add_account(MAILBOX, "hash", 0.0)
    fill_with(Kind.KEPT, 3, tmp_path)
    with closing(open_store(tmp_path / DATA, SystemClock(), exclusive=False)) as store:
        assert store.mailboxes.usage(MAILBOX).messages == len(store.maildrop(MAILBOX)) == 3


def test_only_a_store_can_be_filled(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="only mailserv"):
        fill_with(Kind.DUE, 1, tmp_path)


def test_the_write_ahead_log_is_told_by_itself(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mail.db").write_bytes(b"x" * 100)
    (tmp_path / "data" / "mail.db-wal").write_bytes(b"x" * 30)
    assert sizes(tmp_path) == (130, 30)
