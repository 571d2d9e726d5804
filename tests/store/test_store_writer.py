"""The writer: one transaction for all that waits, each waiter woken once, only the culprit gets the error."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from store_kit import Failing, sqlite_error

from mailserv.errors import StorageFull, StoreError, StoreUnavailable
from mailserv.mail.route import Route
from mailserv.store.connection import as_store_error, create_database, open_writer
from mailserv.store.writer import Work, Writer

WAIT = 10.0  # seconds; what is waited for comes at once


class Bench:
    """A writer on a table of its own, with a way to keep it busy while others queue up."""

    def __init__(self, path: Path) -> None:
        self.failing = Failing()
        self.path = path / "test.db"
        self.commits: list[frozenset[Route]] = []
        self.removed: list[str] = []
        create_database(self.path, self.failing.disk)
        self.writer = Writer(
            self.path,
            lambda: open_writer(self.path, self.failing.disk),
            committed=self.commits.append,
            remove=self.removed.extend,
            patience=0.0,
        )
        self.writer.run(lambda work: work.connection.execute("CREATE TABLE t (n INTEGER UNIQUE)") and None)
        self.commits.clear()

    def together(self, *actions: Callable[[Work], object]) -> list[object]:
        """Run actions so that they are taken in one group; what each came to, errors included."""
        results: list[object] = [None] * len(actions)
        started, go_on = threading.Event(), threading.Event()

        def block(work: Work) -> None:
            started.set()
            go_on.wait(WAIT)

        def run(index: int) -> None:
            try:
                results[index] = self.writer.run(actions[index])
            except Exception as error:  # noqa: BLE001  # handed to the test
                results[index] = error

        self.writer.post(block)
        started.wait(WAIT)
        threads = []
        for index in range(len(actions)):
            threads.append(threading.Thread(target=run, args=(index,)))
            threads[-1].start()
            while self.writer._tasks.qsize() <= index:
                pass
        go_on.set()
        for thread in threads:
            thread.join(WAIT)
        return results

    def rows(self) -> list[int]:
        return self.writer.run(lambda work: [n for (n,) in work.connection.execute("SELECT n FROM t ORDER BY n")])


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.writer.close()


def insert(number: int) -> Callable[[Work], int]:
    def action(work: Work) -> int:
        work.connection.execute("INSERT INTO t VALUES (?)", (number,))
        work.queued.add(Route("smtp", str(number)))
        return number

    return action


def broken(error: BaseException) -> Callable[[Work], None]:
    def action(work: Work) -> None:
        work.connection.execute("INSERT INTO t VALUES (-1)")
        raise error

    return action


def test_what_waits_together_is_committed_together_and_told_once(bench: Bench) -> None:
    assert bench.together(insert(1), insert(2), insert(3)) == [1, 2, 3]
    assert bench.commits == [frozenset(), frozenset({Route("smtp", str(number)) for number in (1, 2, 3)})]


def test_an_action_that_fails_in_company_fails_alone(bench: Bench) -> None:
    one, culprit, three = bench.together(insert(1), broken(StoreError("mine")), insert(3))
    assert (one, three) == (1, 3)
    assert isinstance(culprit, StoreError)
    assert bench.rows() == [1, 3]


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), ZeroDivisionError(), SystemExit(1), MemoryError()])
def test_the_writer_survives_whatever_an_action_raises(bench: Bench, error: BaseException) -> None:
    with pytest.raises(type(error)):
        bench.writer.run(broken(error))
    assert bench.writer.run(insert(1)) == 1
    assert bench.rows() == [1]


def test_sqlite_s_own_errors_come_as_store_errors(bench: Bench) -> None:
    bench.writer.run(insert(1))
    with pytest.raises(StoreError, match="UNIQUE") as caught:
        bench.writer.run(insert(1))
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)


def test_a_failing_commit_fails_everybody_only_if_it_goes_on_failing(bench: Bench) -> None:
    bench.failing.fail("COMMIT", 2)  # the first is the one that keeps the writer busy
    assert bench.together(insert(1), insert(2)) == [1, 2]
    assert bench.failing.failed == 1
    bench.failing.fail("COMMIT", 2, for_good=True)
    assert [type(each) for each in bench.together(insert(3), insert(4))] == [StoreUnavailable] * 2
    bench.failing.heal()
    assert bench.rows() == [1, 2]
    assert bench.writer.run(insert(3)) == 3


def test_a_transaction_that_cannot_begin_fails_its_group_at_once(bench: Bench) -> None:
    bench.failing.fail("BEGIN", 2, for_good=True, code=sqlite3.SQLITE_BUSY)
    errors = bench.together(insert(1), insert(2), insert(3))
    assert [type(each) for each in errors] == [StoreUnavailable] * 3
    assert bench.failing.failed == 1  # had each tried by itself, each would have waited for the lock in vain
    bench.failing.heal()
    assert bench.rows() == []


def test_what_nobody_waits_for_is_tried_again_when_another_process_lets_go(bench: Bench) -> None:
    """A settlement that was dropped would have its message delivered once more."""
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    bench.writer.post(insert(1))
    with pytest.raises(StoreUnavailable, match="locked"):
        bench.writer.run(insert(2))
    other.execute("ROLLBACK")
    bench.writer.run(insert(3))
    assert other.execute("SELECT n FROM t ORDER BY rowid").fetchall() == [(1,), (3,)]
    other.close()


@pytest.mark.parametrize("lets_go", [True, False])
def test_what_is_late_at_the_end_is_tried_once_more_or_logged(
    bench: Bench, capfd: pytest.CaptureFixture[str], lets_go: bool
) -> None:
    with contextlib.closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        bench.writer.post(insert(1))
        with pytest.raises(StoreUnavailable, match="locked"):
            bench.writer.run(insert(2))
        if lets_go:
            other.execute("ROLLBACK")
        bench.writer.close()
        assert other.execute("SELECT count(*) FROM t").fetchone() == (int(lets_go),)
    assert ("store_action_failed" in capfd.readouterr().err) is not lets_go


def test_a_rollback_that_fails_costs_the_connection_not_the_writer(bench: Bench) -> None:
    bench.failing.fail("ROLLBACK", 1)
    with pytest.raises(ValueError, match="x"):
        bench.writer.run(broken(ValueError("x")))
    assert bench.failing.failed == 1
    assert bench.writer.run(insert(1)) == 1
    assert bench.rows() == [1]


@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_CANTOPEN]
)
def test_a_connection_that_may_be_of_no_use_is_replaced(bench: Bench, code: int) -> None:
    before = bench.writer._connection
    bench.failing.fail("INSERT", 1, code=code)
    with pytest.raises(StoreUnavailable):
        bench.writer.run(insert(1))
    bench.failing.fail("connect", 1)
    with pytest.raises(StoreUnavailable):
        bench.writer.run(insert(1))
    assert bench.writer.run(insert(1)) == 1
    assert bench.writer._connection is not before


def test_files_are_removed_after_the_commit_by_who_asked(bench: Bench) -> None:
    def action(work: Work) -> list[str]:
        work.files.append("Q1")
        return list(bench.removed)

    assert bench.writer.run(action) == []
    assert bench.removed == ["Q1"]
    bench.writer.post(action)
    bench.rows()
    bench.rows()
    assert bench.removed == ["Q1", "Q1"]


def test_files_stay_when_the_commit_fails(bench: Bench) -> None:
    bench.failing.fail("COMMIT")
    with pytest.raises(StoreUnavailable):
        bench.writer.run(lambda work: work.files.append("Q1"))
    assert bench.removed == []


def test_what_was_handed_over_before_closing_is_committed(bench: Bench) -> None:
    for number in range(600):
        bench.writer.post(insert(number))
    bench.writer.close()
    with sqlite3.connect(bench.path) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (600,)
    connection.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        bench.writer.run(insert(1))


def test_large_content_bounds_a_group(bench: Bench) -> None:
    def heavy(number: int) -> Callable[[Work], int]:
        return lambda work: insert(number)(work)

    started, go_on = threading.Event(), threading.Event()
    bench.writer.post(lambda work: started.set() or go_on.wait(WAIT))
    started.wait(WAIT)
    threads = [threading.Thread(target=bench.writer.run, args=(heavy(number), 3 * 1024 * 1024)) for number in range(6)]
    for thread in threads:
        thread.start()
    while bench.writer._tasks.qsize() < 6:
        pass
    go_on.set()
    for thread in threads:
        thread.join(WAIT)
    assert [len(routes) for routes in bench.commits] == [0, 2, 2, 2]


def test_a_connection_that_does_not_close_is_logged(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    class Stubborn:
        def close(self) -> None:
            raise sqlite_error(sqlite3.SQLITE_IOERR)

    real, bench.writer._connection = bench.writer._connection, Stubborn()  # type: ignore[assignment]
    bench.writer._drop_connection()
    assert "store_close_failed" in capfd.readouterr().err
    assert real is not None
    real.close()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (sqlite3.SQLITE_FULL, StorageFull),
        (sqlite3.SQLITE_IOERR_SHMSIZE, StorageFull),
        (sqlite3.SQLITE_BUSY, StoreUnavailable),
        (sqlite3.SQLITE_LOCKED, StoreUnavailable),
        (sqlite3.SQLITE_READONLY, StoreUnavailable),
        (sqlite3.SQLITE_IOERR, StoreUnavailable),
        (sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.SQLITE_CORRUPT, StoreUnavailable),
        (sqlite3.SQLITE_NOTADB, StoreUnavailable),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, StoreError),
        (sqlite3.SQLITE_ERROR, StoreUnavailable),
    ],
)
def test_every_error_of_sqlite_has_its_kind_and_names_the_file(code: int, kind: type[StoreError]) -> None:
    error = as_store_error(Path("/data/mailserv.db"), sqlite_error(code))
    assert type(error) is kind
    assert "/data/mailserv.db" in str(error)
    assert type(as_store_error(Path("/x"), sqlite3.ProgrammingError("closed"))) is StoreUnavailable


def test_a_commit_is_synced_before_it_returns_invariant_1(bench: Bench) -> None:
    def pragmas(work: Work) -> list[object]:
        return [
            work.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert bench.writer.run(pragmas) == ["wal", 2, 1]  # 2: FULL
    bench.failing.fail("INSERT")
    with pytest.raises(StoreUnavailable):
        bench.writer.run(insert(1))
    assert bench.writer.run(pragmas) == ["wal", 2, 1]  # a connection made anew too
